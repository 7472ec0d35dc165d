"""Data sets by name: generated textures, embedded digits, CIFAR (downloaded), or folders on disk (`folders`).

Nothing is downloaded unless cifar10 or cifar100 is asked for by name.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import torch

from falw.checks import check_data
from falw.folders import cache_folder, first_line, load_folder, load_tiny_imagenet
from falw.images import LEAST, Dataset, Images, LoadOptions, Source, count_classes, moments, reduce_to


def load_dataset(
    name: str,
    root: Path | None = None,
    device: str | torch.device = "cpu",
    *,
    size: int | None = None,
    classes: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
    cache: bool = True,
    progress: bool = False,
) -> Dataset:
    """A data set by name, as uint8 tensors on `device`; "folder:PATH" reads class folders of images.

    root: where data sets lie on disk; links there are followed; only a download writes. size: pixels a side; other
    shapes are squeezed to it. classes: keep the first so many. per_class: keep so many training images of each class,
    drawn with `seed`; for generated data `seed` draws the data itself. cache: keep decoded files as one file in
    `cache_folder()`. Raises ValueError or FileNotFoundError, naming the value and the way out.
    """
    source, path = find_source(name), name.partition(":")[2]
    options = LoadOptions(path, None if root is None else Path(root), size, classes, per_class, seed, cache, progress)
    for option, least in LEAST.items():
        value = getattr(options, option)
        if value is not None and value < least:
            raise ValueError(f"{option} {value} is too small: give a whole number from {least} up")
    return check_data(source.load(options)._replace(name=name)).to(device)


def find_source(name: str) -> Source:
    """The row of `DATASETS` of a data set's name; raises ValueError naming the choice."""
    kind, _, path = name.partition(":")
    if kind not in DATASETS or bool(path) != (kind == "folder"):
        known = ", ".join("folder:PATH" if row == "folder" else row for row in DATASETS)
        raise ValueError(f"unknown data set '{name}'; choose one of: {known}")
    return DATASETS[kind]


# Textures: generated images with superclasses, modes within a class, and enough noise to be memorised


def textures(
    seed: int = 0,
    superclasses: int = 6,
    classes_each: int = 5,
    per_class: int = 125,
    test_per_class: int = 50,
    size: int = 16,
    class_amplitude: float = 0.75,
    mode_amplitude: float = 0.6,
    modes: int = 3,
    style: float = 0.3,
    shift: int = 3,
    contrast: float = 0.3,
    gain: float = 0.3,
    background: float = 1.0,
    noise: float = 0.6,
) -> tuple[Images, Images]:
    """Training and test images of smooth random textures, classes in the order of their superclasses.

    A class is a field of its superclass plus one of its own; an image adds one of the class's modes, mixes
    in up to `style` of a sister class, is shifted around its edges, mirrored, changed in contrast and colour,
    and laid over a background and pixel noise. Noise, class_amplitude and per_class set how hard it is.
    """
    rng = np.random.default_rng(seed)
    n_classes = superclasses * classes_each
    shared = np.repeat(_fields(superclasses, size, 2, rng), classes_each, axis=0)
    own = shared + class_amplitude * _fields(n_classes, size, 3, rng)
    each = _fields(n_classes * modes, size, 3, rng).reshape(n_classes, modes, 3, size, size)
    each = own[:, None] + mode_amplitude * each

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.repeat(np.arange(n_classes), n)
        step = rng.integers(1, max(classes_each, 2), len(y))  # from a class to its sister
        sister = y // classes_each * classes_each + (y + step) % classes_each
        share = rng.uniform(0, style, len(y))[:, None, None, None]
        pick = rng.integers(0, modes, (2, len(y)))
        x = (1 - share) * each[y, pick[0]] + share * each[sister, pick[1]]
        x = _shift_and_mirror(x, shift, rng)
        x = x * np.exp(contrast * rng.standard_normal((len(y), 1, 1, 1)))
        x = x * (1 + gain * rng.standard_normal((len(y), 3, 1, 1)))
        return x + background * _fields(len(y), size, 3, rng) + noise * rng.standard_normal(x.shape), y

    (train, y_train), (test, y_test) = draw(per_class), draw(test_per_class)
    mean, std = train.mean(), train.std()

    def images(x: np.ndarray, y: np.ndarray) -> Images:
        scaled = np.clip((x - mean) / (6 * std) + 0.5, 0, 1)  # three standard deviations to either side
        return Images(torch.from_numpy(np.round(255 * scaled).astype(np.uint8)), torch.from_numpy(y).long())

    return images(train, y_train), images(test, y_test)


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


def _load_textures(options: LoadOptions) -> Dataset:
    n = count_classes(30, options)
    parts = textures(options.seed, size=options.size or 16, per_class=options.per_class or 125)
    train, test = (Images(x[y < n], y[y < n]) for x, y in parts)
    names = tuple(f"{superclass}{k}" for superclass in "ABCDEF" for k in range(1, 6))
    return Dataset("textures", train, test, names[:n], *moments(train.x), val=0.2)


def _load_digits(options: LoadOptions) -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = torch.from_numpy(np.round(x.reshape(-1, 1, 8, 8) * 255 / 16).astype(np.uint8)).repeat(1, 3, 1, 1)
    y = torch.from_numpy(y).long()
    # One split for every seed: a test set must stay the same, and unseen, whatever is drawn from the rest.
    parts = train_test_split(np.arange(len(y)), test_size=0.25, stratify=y, random_state=0)
    train, test = (Images(x[k], y[k]) for k in parts)
    return reduce_to(Dataset("digits", train, test, tuple("0123456789"), *moments(train.x)), options)


def _load_cifar(name: str, mean: tuple[float, ...], std: tuple[float, ...], options: LoadOptions) -> Dataset:
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


# The published means and deviations
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


CIFAR100 = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)


DATASETS: dict[str, Source] = {
    "textures": Source("generated: 30 classes in 6 superclasses, 16x16, 125 + 50 a class", _load_textures, True, False),
    "digits": Source("scikit-learn's handwritten digits, 10 classes, 8x8", _load_digits, under_root=False),
    "cifar10": Source("10 classes, 32x32; downloaded", partial(_load_cifar, "CIFAR10", *CIFAR10)),
    "cifar100": Source("100 classes, 32x32; downloaded", partial(_load_cifar, "CIFAR100", *CIFAR100)),
    "tiny-imagenet": Source("200 classes, 64x64, from the official folder under --root", load_tiny_imagenet),
    "folder": Source("folder:PATH, your own images in train/<class>/* and test/<class>/*", load_folder),
}
