"""Images as uint8 tensors, data sets by name, and batched augmentation.

A data set is two tensors in memory; a subset of it is an index tensor. Nothing is downloaded unless cifar10
or cifar100 is asked for by name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
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
    load: Callable[[Ask], Dataset]
    generated: bool = False  # `seed` draws the images themselves, and not only which of them are kept
    under_root: bool = True  # it lies in a folder, which `root` names


class Ask(NamedTuple):
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
    ask = Ask(path, None if root is None else Path(root), size, classes, per_class, seed, cache, progress)
    for option, least in LEAST.items():
        value = getattr(ask, option)
        if value is not None and value < least:
            raise ValueError(f"{option} {value} is too small: give a whole number from {least} up")
    return source.load(ask)._replace(name=name).to(device)


def find_source(name: str) -> Source:
    """The row of `DATASETS` of a data set's name; raises ValueError naming the choice."""
    kind, _, path = name.partition(":")
    if kind not in DATASETS or bool(path) != (kind == "folder"):
        known = ", ".join("folder:PATH" if row == "folder" else row for row in DATASETS)
        raise ValueError(f"unknown data set '{name}'; choose one of: {known}")
    return DATASETS[kind]


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


def _load_textures(ask: Ask) -> Dataset:
    n = _count_classes(30, ask)
    parts = textures(ask.seed, size=ask.size or 16, per_class=ask.per_class or 125)
    train, test = (Images(x[y < n], y[y < n]) for x, y in parts)
    names = tuple(f"{superclass}{k}" for superclass in "ABCDEF" for k in range(1, 6))
    return Dataset("textures", train, test, names[:n], *_moments(train.x), val=0.2)


# Parts of the loaders


def _moments(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, from counts of its 256 values: exact, and one pass."""
    counts = torch.stack([torch.bincount(c.reshape(-1), minlength=256) for c in x.unbind(1)]).double()
    share, values = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.double) / 255
    mean = share @ values
    std = (share @ values**2 - mean**2).clamp(min=1e-6).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def _count_classes(available: int, ask: Ask) -> int:
    n = available if ask.classes is None else ask.classes
    if n > available:
        raise ValueError(f"classes {n} is more than there are: give at most {available}")
    return n


def _pick(y: Tensor, n: int, ask: Ask) -> Tensor:
    """Positions, ascending, of the training images kept: of the first n classes, `per_class` each."""
    if ask.per_class is None:
        return (y < n).nonzero()[:, 0]
    places = [(y == c).nonzero()[:, 0] for c in range(n)]
    least = min(map(len, places))
    if ask.per_class > least:
        raise ValueError(f"per_class {ask.per_class} is more than some class has: give at most {least}")
    g = torch.Generator().manual_seed(ask.seed)
    return torch.cat([p[torch.randperm(len(p), generator=g)[: ask.per_class]] for p in places]).sort().values


# Data sets that come as arrays


def _reduce(data: Dataset, ask: Ask) -> Dataset:
    """The first `classes`, `per_class` random training images of each, resized to `size`."""
    n = _count_classes(len(data.classes), ask)
    keep = _pick(data.train.y, n, ask), data.test.y < n
    train, test = (Images(_resize(x[k], ask.size), y[k]) for (x, y), k in zip((data.train, data.test), keep))
    return data._replace(train=train, test=test, classes=data.classes[:n])


def _resize(x: Tensor, size: int | None) -> Tensor:
    """The same filter as Pillow's, so that arrays and files of one image agree."""
    if size is None:
        return x
    shrink = partial(F.interpolate, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return torch.cat([shrink(part.float()).round().clamp(0, 255).byte() for part in x.split(4096)])


def _load_digits(ask: Ask) -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = torch.from_numpy(np.round(x.reshape(-1, 1, 8, 8) * 255 / 16).astype(np.uint8)).repeat(1, 3, 1, 1)
    y = torch.from_numpy(y).long()
    # One split for every seed: a test set must stay the same, and unseen, whatever is drawn from the rest.
    parts = train_test_split(np.arange(len(y)), test_size=0.25, stratify=y, random_state=0)
    train, test = (Images(x[k], y[k]) for k in parts)
    return _reduce(Dataset("digits", train, test, tuple("0123456789"), *_moments(train.x)), ask)


def _load_cifar(name: str, mean: tuple[float, ...], std: tuple[float, ...], ask: Ask) -> Dataset:
    """torchvision's copy under root, else the cache folder; downloaded and verified if it is not there."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ValueError(f"{name} needs torchvision ({error}); install it, or use folder:PATH") from None
    root, source = ask.root or cache_folder(), getattr(datasets, name)
    try:
        parts = [source(root, train=train, download=True) for train in (True, False)]
    except Exception as error:  # of the network, the disk or a checksum; what matters is the way out
        reason = _discard_archive(root / source.filename, source.tgz_md5) or _first_line(error)
        remedy = "give --root of a folder that has it, or use folder:PATH"
        raise FileNotFoundError(f"no {name} in '{root}', and no download ({reason}); {remedy}") from None
    pixels = [torch.from_numpy(p.data).permute(0, 3, 1, 2).contiguous() for p in parts]
    train, test = (Images(x, torch.tensor(p.targets)) for x, p in zip(pixels, parts))
    return _reduce(Dataset(name, train, test, tuple(parts[0].classes), mean, std), ask)


def _discard_archive(path: Path, md5: str) -> str:
    """Delete a download that is not what it should be, and say so; otherwise ""."""
    if not path.is_file() or hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == md5:
        return ""
    path.unlink()
    return f"{path.name} had a wrong checksum and was deleted"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


# Data sets that come as files

Listing = list[tuple[str, int]]  # files, relative to the folder of the data set, and their labels
SYSTEM_FILES = ("thumbs.db", "desktop.ini")


def _load_folder(ask: Ask) -> Dataset:
    """Class folders. Links are followed wherever they lead, since data sets are often linked; nothing is written."""
    base = (ask.root or Path()) / os.path.expanduser(ask.path)
    train, test = (_visible(base / part, folders=True) for part in ("train", "test"))
    different = ", ".join(sorted(set(train) ^ set(test))[:5])
    if different:
        raise ValueError(f"train and test of '{base}' differ in classes: {different}; give both the same")
    return _decode(base, train, _list(base, "train/{}", train), _list(base, "test/{}", train), ask)


def _list(base: Path, folder: str, classes: list[str]) -> Listing:
    names = [folder.format(name) for name in classes]
    return [(f"{name}/{f}", c) for c, name in enumerate(names) for f in _visible(base / name)]


def _visible(folder: Path, folders: bool = False) -> list[str]:
    """Sorted names in a folder of only files, or only folders, without hidden ones."""
    try:
        with os.scandir(folder) as found:
            entries = [e for e in found if not (e.name.startswith(".") or e.name.lower() in SYSTEM_FILES)]
        strange = [e for e in entries if not (e.is_dir() if folders else e.is_file())]  # a dangling link, a pipe
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"no folder '{folder}'; images lie in train/<class>/* and test/<class>/*") from None
    except OSError as error:  # closed to us, or a link in a circle
        raise _unreadable(error) from None
    for e in strange:
        raise ValueError(f"{e.path!r} is not a {'class folder' if folders else 'file'}; move or remove it")
    if folders and not entries:
        raise ValueError(f"'{folder}' is empty; it should hold one folder of images a class")
    return sorted(e.name for e in entries)


def _unreadable(error: OSError) -> FileNotFoundError:
    return FileNotFoundError(f"{error.filename!r} cannot be read ({error.strerror}); repair or remove it")


def _load_tiny_imagenet(ask: Ask) -> Dataset:
    """The official folder. What its text files name has to lie in the folder itself.

    Departure: the test set is all 10,000 labelled val images. SalUn's public loader keeps 4,999 of them (half, less one
    by a slip). That the paper used it is inferred: its TA values are multiples of 1/4,999.
    """
    root = ask.root or Path()
    base = root / "tiny-imagenet-200" if (root / "tiny-imagenet-200").is_dir() else root
    wnids = _names(base / "wnids.txt", _lines(base / "wnids.txt"))
    words = dict(line.split("\t", 1) for line in _lines(base / "words.txt") if "\t" in line)
    listing = base / "val/val_annotations.txt"
    rows = [f"{line}\t".split("\t")[:2] for line in _lines(listing)]
    files = _names(listing, [file for file, _ in rows])
    for other, differ in (
        ("wnids.txt", {wnid for _, wnid in rows} - set(wnids)),
        ("val/images", set(_visible(base / "val/images")) - set(files)),
    ):
        if differ:
            named = ", ".join(map(repr, sorted(differ)[:5]))
            raise ValueError(f"'{base}': val_annotations.txt and {other} disagree: {named}; restore both")
    label = {wnid: c for c, wnid in enumerate(wnids)}
    test = [(f"val/images/{file}", label[wnid]) for file, wnid in rows]
    names = [words.get(wnid, wnid).split(",")[0] for wnid in wnids]
    return _decode(base, names, _list(base, "train/{}/images", wnids), test, ask, IMAGENET)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        remedy = "give --root of the official tiny-imagenet-200 folder"
        raise FileNotFoundError(f"there is no '{path}'; {remedy}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not UTF-8 text ({error.reason} at byte {error.start}); restore it") from None
    except OSError as error:
        raise _unreadable(error) from None


def _names(path: Path, names: list[str]) -> list[str]:
    """The names that the file at `path` lists; raises ValueError for none, one twice, one that leads elsewhere."""
    if not names:
        raise ValueError(f"'{path}' is empty; restore it")
    for name in names:
        if name in (".", "..", "") or "/" in name or "\0" in name:
            raise ValueError(f"'{path}' names {name!r}, which is no name in its folder; restore it")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"'{path}' names {twice!r} more than once; restore it")
    return names


def _decode(
    base: Path,
    names: list[str],
    train: Listing,
    test: Listing,
    ask: Ask,
    moments: Any = None,
) -> Dataset:
    """The listed images, reduced as asked before any is opened; from the cache if it has just these files."""
    n = _count_classes(len(names), ask)
    labels = [torch.tensor([c for _, c in part], dtype=torch.int64) for part in (train, test)]
    for part, y in zip(("train", "test"), labels):
        for c in (torch.bincount(y, minlength=n)[:n] == 0).nonzero()[:, 0].tolist():
            raise ValueError(f"class '{names[c]}' has no {part} images in '{base}'; add some or remove it")
    keep = _pick(labels[0], n, ask), (labels[1] < n).nonzero()[:, 0]
    files = [part[i][0] for part, k in zip((train, test), keep) for i in k.tolist()]
    parts = _cached(files, base, ask).split([len(k) for k in keep])
    images, held_out = (Images(x, y[k]) for x, y, k in zip(parts, labels, keep))
    return Dataset(base.name, images, held_out, tuple(names[:n]), *(moments or _moments(images.x)))


def _read_images(base: Path, files: list[str], ask: Ask) -> Tensor:
    """Decode files of one size, with all cores, into one tensor: uint8 (n, 3, h, w).

    In threads, as Pillow decodes outside Python's lock; in chunks, as handing over one image costs as much.
    """
    from tqdm.auto import tqdm

    first = _read_image(base / files[0], ask.size).shape
    x = np.empty((len(files), *first), np.uint8)

    def read(chunk: range) -> int:
        for i in chunk:
            image = _read_image(base / files[i], ask.size)
            if image.shape != first:
                sizes = "{2}x{1}, not {5}x{4} as".format(*image.shape, *first)
                raise ValueError(f"{str(base / files[i])!r} is {sizes} '{files[0]}'; give size to make all alike")
            x[i] = image
        return len(chunk)

    chunks = [range(len(files))[i : i + 128] for i in range(0, len(files), 128)]
    bar = tqdm(total=len(files), desc="decoding", unit="image", disable=not ask.progress, leave=False)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(read, chunks):
            bar.update(done)
    return torch.from_numpy(x)


MAX_PIXELS = 2**26  # of one image; Pillow itself warns at 89 million and refuses twice that


def _read_image(path: Path, size: int | None) -> np.ndarray:
    """Any image as RGB, uint8 (3, h, w): first frame, upright, see-through parts over black, 16 bits to 8."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.format == "EPS":
                raise ValueError("EPS is a program, which would be run by Ghostscript")
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels is more than {MAX_PIXELS}")
            image = _to_rgb(ImageOps.exif_transpose(image))
            if size is not None:
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(image).transpose(2, 0, 1)
    except Exception as error:  # Pillow raises many kinds; the reader needs the file
        reason = _first_line(error)
        raise ValueError(f"{str(path)!r} cannot be read as an image ({reason}); repair or remove it") from None


def _to_rgb(image: Any) -> Any:
    from PIL import Image

    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip at 255
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("RGB")


# The cache of decoded images: files that may be deleted at any time


def cache_folder() -> Path:
    """$FALW_CACHE, else falw in the user's cache folder."""
    home = os.path.expanduser("~/.cache")
    if home.startswith("~"):  # no home: writing will fail, and the warning says what to do
        home = os.devnull
    return Path(os.environ.get("FALW_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or home, "falw"))


def _cached(files: list[str], base: Path, ask: Ask) -> Tensor:
    """Decoded files as one tensor, kept under a key of their names, sizes and times of change."""
    if not ask.cache:
        return _read_images(base, files, ask)
    path = cache_folder() / f"{_key(files, base, ask)}.pt"
    x = _restore(path)
    if x is None:
        x = _read_images(base, files, ask)
        _store(x, path)
    return x


def _key(files: list[str], base: Path, ask: Ask) -> str:
    try:
        stats = [(f, (s := os.stat(f"{base}/{f}")).st_size, s.st_mtime_ns) for f in files]
    except OSError as error:  # a dangling link, or a file that only an index names
        raise _unreadable(error) from None
    version = 2  # to be raised when decoding changes
    return hashlib.sha256(json.dumps([version, ask.size, stats]).encode()).hexdigest()[:24]


def _checksum(x: Tensor) -> str:
    return hashlib.sha256(x.numpy().data).hexdigest()


def _restore(path: Path) -> Tensor | None:
    """The images in a cache file, or None if there is none; a damaged one is set aside with a warning."""
    if not os.path.exists(path):
        return None
    try:
        kept = torch.load(path, weights_only=True)
        if _checksum(kept["x"]) == kept["checksum"]:  # torch.load does not notice altered bytes
            return kept["x"]
        reason = "wrong checksum"
    except Exception as error:  # whatever is wrong with it, it can be made again
        reason = _first_line(error)
    warnings.warn(f"cache file '{path}' is damaged ({reason}): set aside, decoding again", stacklevel=2)
    with contextlib.suppress(OSError):
        os.replace(path, path.with_suffix(".bad"))
    return None


def _store(x: Tensor, path: Path) -> None:
    """Write a cache file whole or not at all; where that fails there is a warning and no file."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"x": x, "checksum": _checksum(x)}, part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        reason = _first_line(error)
        warnings.warn(f"images are not cached: {reason}; set FALW_CACHE to a writable folder", stacklevel=2)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


# The published means and deviations
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CIFAR100 = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

DATASETS: dict[str, Source] = {
    "textures": Source("generated: 30 classes in 6 superclasses, 16x16, 125 + 50 a class", _load_textures, True, False),
    "digits": Source("scikit-learn's handwritten digits, 10 classes, 8x8", _load_digits, under_root=False),
    "cifar10": Source("10 classes, 32x32; downloaded", partial(_load_cifar, "CIFAR10", *CIFAR10)),
    "cifar100": Source("100 classes, 32x32; downloaded", partial(_load_cifar, "CIFAR100", *CIFAR100)),
    "tiny-imagenet": Source("200 classes, 64x64, from the official folder under --root", _load_tiny_imagenet),
    "folder": Source("folder:PATH, your own images in train/<class>/* and test/<class>/*", _load_folder),
}
