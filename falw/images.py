"""Images as uint8 tensors, `Dataset`, and augmentation of a whole batch.

A data set is two tensors in memory; a subset of it is an index tensor.
"""

from __future__ import annotations

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
    files: tuple[str, ...] = ()  # of the training images, where each is one

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    def to(self, device: str | torch.device) -> Dataset:
        """The same data on another device."""
        train, test = (Images(x.to(device), y.to(device)) for x, y in (self.train, self.test))
        return self._replace(train=train, test=test)


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
