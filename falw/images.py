"""Images as uint8 tensors: a data set, fewer or smaller images of it, augmentation of a whole batch.

A data set is two tensors in memory; a subset of it is an index tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Images(NamedTuple):
    """Images and labels of equal length on one device."""

    x: Tensor  # uint8 (n, c, h, w)
    y: Tensor  # int64 (n,)


class Dataset(NamedTuple):
    """A data set in memory. mean and std are per channel, of pixels in [0, 1]."""

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    val: float = 0.1  # share of each class that `long_tailed_split` holds out by default

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    def to(self, device: str | torch.device) -> Dataset:
        """The same data on another device."""
        train, test = (Images(x.to(device), y.to(device)) for x, y in (self.train, self.test))
        return self._replace(train=train, test=test)


class Source(NamedTuple):
    """A row of `DATASETS`: where a data set comes from."""

    summary: str
    load: Callable[[LoadOptions], Dataset]
    generated: bool = False  # `seed` draws the images themselves, and not only which of them are kept
    under_root: bool = True  # it lies in a folder, which `root` names


class LoadOptions(NamedTuple):
    """What was asked of `load_dataset`, for the loaders."""

    path: str
    root: Path | None
    size: int | None
    classes: int | None
    per_class: int | None
    seed: int
    cache: bool
    progress: bool


LEAST = {"size": 2, "classes": 1, "per_class": 1, "seed": 0}


# Augmentation


def augment(x: Tensor, dy: Tensor, dx: Tensor, flip: Tensor, pad: int) -> Tensor:
    """Crop and mirror each image of a batch in its own way: uint8 (b, c, h, w) -> uint8 (b, c, h, w).

    Each image gets a border of `pad` zeros, is cut to h x w at row dy, column dx (b,) in 0..2*pad, and is
    mirrored where flip (b,) holds. One gather does all three.
    """
    if pad == 0:
        return torch.where(flip[:, None, None, None], x.flip(3), x)
    b, c, h, w = x.shape
    rows = dy[:, None] + torch.arange(h, device=x.device)
    columns = torch.arange(w, device=x.device).expand(b, w)
    columns = torch.where(flip[:, None], w - 1 - columns, columns) + dx[:, None]
    padded = F.pad(x, (pad,) * 4).flatten(2)
    index = (rows[:, :, None] * (w + 2 * pad) + columns[:, None, :]).view(b, 1, h * w).expand(b, c, h * w)
    return padded.gather(2, index).view(b, c, h, w)


# Parts of the loaders


def moments(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, from counts of its 256 values: exact, and one pass."""
    counts = torch.stack([torch.bincount(c.reshape(-1), minlength=256) for c in x.unbind(1)]).double()
    share, values = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.double) / 255
    mean = share @ values
    std = (share @ values**2 - mean**2).clamp(min=1e-6).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def count_classes(available: int, options: LoadOptions) -> int:
    """How many classes to keep; raises ValueError where there are not as many."""
    n = available if options.classes is None else options.classes
    if n > available:
        raise ValueError(f"classes {n} is more than there are: give at most {available}")
    return n


def pick(y: Tensor, n: int, options: LoadOptions) -> Tensor:
    """Indices, ascending, of the training images kept: of the first n classes, `per_class` each."""
    if options.per_class is None:
        return (y < n).nonzero()[:, 0]
    members = [(y == c).nonzero()[:, 0] for c in range(n)]
    least = min(map(len, members))
    if options.per_class > least:
        raise ValueError(f"per_class {options.per_class} is more than some class has: give at most {least}")
    g = torch.Generator().manual_seed(options.seed)
    return torch.cat([m[torch.randperm(len(m), generator=g)[: options.per_class]] for m in members]).sort().values


# Data sets that come as arrays


def reduce_to(data: Dataset, options: LoadOptions) -> Dataset:
    """The first `classes`, `per_class` random training images of each, resized to `size`."""
    n = count_classes(len(data.classes), options)
    keep = pick(data.train.y, n, options), data.test.y < n
    train, test = (Images(_resize(x[k], options.size), y[k]) for (x, y), k in zip((data.train, data.test), keep))
    return data._replace(train=train, test=test, classes=data.classes[:n])


def _resize(x: Tensor, size: int | None) -> Tensor:
    """The same filter as Pillow's, so that arrays and files of one image agree."""
    if size is None:
        return x
    shrink = partial(F.interpolate, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return torch.cat([shrink(part.float()).round().clamp(0, 255).byte() for part in x.split(4096)])
