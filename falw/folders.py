"""Images in folders on disk: class folders, Tiny-ImageNet, decoding (8 and 16 bits), the cache of decoded images."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from falw.files import first_line, load_tensors, save_tensors
from falw.images import Dataset, Images
from falw.sources import LoadOptions, cache_folder, count_classes, moments, pick

Listing = list[tuple[str, int]]  # files, relative to the folder of the data set, and their labels


SYSTEM_FILES = ("thumbs.db", "desktop.ini")


def load_folder(options: LoadOptions) -> Dataset:
    """Class folders. Links are followed wherever they lead, since data sets are often linked; nothing is written."""
    base = (options.root or Path()) / os.path.expanduser(options.path)
    train, test = (_visible(base / part, folders=True) for part in ("train", "test"))
    different = ", ".join(sorted(set(train) ^ set(test))[:5])
    if different:
        raise ValueError(f"train and test of '{base}' differ in classes: {different}; give both the same")
    return _decode(base, train, _list(base, "train/{}", train), _list(base, "test/{}", train), options)


def _list(base: Path, folder: str, classes: list[str]) -> Listing:
    names = [folder.format(name) for name in classes]
    return [(f"{name}/{f}", c) for c, name in enumerate(names) for f in _visible(base / name)]


def _visible(folder: Path, folders: bool = False) -> list[str]:
    """Sorted names in a folder of only files, or only folders, without hidden ones."""
    try:
        with os.scandir(folder) as everything:
            entries = [e for e in everything if not (e.name.startswith(".") or e.name.lower() in SYSTEM_FILES)]
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


def load_tiny_imagenet(options: LoadOptions) -> Dataset:
    """The official folder. What its text files name has to lie in the folder itself.

    Departure: the test set is all 10,000 labelled val images. SalUn's public loader keeps 4,999 of them (half, less one
    by a slip). That the paper used it is inferred: its TA values are multiples of 1/4,999.
    """
    root = options.root or Path()
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
    return _decode(base, names, _list(base, "train/{}/images", wnids), test, options, IMAGENET)


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
    options: LoadOptions,
    published: Any = None,
) -> Dataset:
    """The listed images, reduced as asked before any is opened; from the cache if it has just these files."""
    n = count_classes(len(names), options)
    labels = [torch.tensor([c for _, c in part], dtype=torch.int64) for part in (train, test)]
    for part, y in zip(("train", "test"), labels):
        for c in (torch.bincount(y, minlength=n)[:n] == 0).nonzero()[:, 0].tolist():
            raise ValueError(f"class '{names[c]}' has no {part} images in '{base}'; add some or remove it")
    keep = pick(labels[0], n, options), (labels[1] < n).nonzero()[:, 0]
    files = [part[i][0] for part, k in zip((train, test), keep) for i in k.tolist()]
    parts = _cached(files, base, options).split([len(k) for k in keep])
    images, held_out = (Images(x, y[k]) for x, y, k in zip(parts, labels, keep))
    return Dataset(base.name, images, held_out, tuple(names[:n]), *(published or moments(images.x)))


def _read_images(base: Path, files: list[str], options: LoadOptions) -> Tensor:
    """Decode files of one size, with all cores, into one tensor: uint8 (n, 3, h, w).

    In threads, as Pillow decodes outside Python's lock; in chunks, as handing over one image costs as much.
    """
    from tqdm.auto import tqdm

    first = _read_image(base / files[0], options.size).shape
    x = np.empty((len(files), *first), np.uint8)

    def read(chunk: range) -> int:
        for i in chunk:
            image = _read_image(base / files[i], options.size)
            if image.shape != first:
                sizes = "{2}x{1}, not {5}x{4} as".format(*image.shape, *first)
                raise ValueError(f"{str(base / files[i])!r} is {sizes} '{files[0]}'; give size to make all alike")
            x[i] = image
        return len(chunk)

    chunks = [range(len(files))[i : i + 128] for i in range(0, len(files), 128)]
    bar = tqdm(total=len(files), desc="decoding", unit="image", disable=not options.progress, leave=False)
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
        reason = first_line(error)
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


# The cache of decoded images


def _cached(files: list[str], base: Path, options: LoadOptions) -> Tensor:
    """Decoded files as one tensor, kept under a key of their names, sizes and times of change.

    A cache that cannot be read or written is a warning. Its folder may be deleted at any time.
    """
    if not options.cache:
        return _read_images(base, files, options)
    path = cache_folder() / f"{_key(files, base, options)}.pt"
    with _warned(path):
        x = load_tensors(path)
        if x is not None:
            return x
    x = _read_images(base, files, options)
    with _warned(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(x, path)
    return x


def _key(files: list[str], base: Path, options: LoadOptions) -> str:
    try:
        stats = [(f, (s := os.stat(f"{base}/{f}")).st_size, s.st_mtime_ns) for f in files]
    except OSError as error:  # a dangling link, or a file that only an index names
        raise _unreadable(error) from None
    version = 3  # to be raised when decoding changes
    return hashlib.sha256(json.dumps([version, options.size, stats]).encode()).hexdigest()[:24]


@contextlib.contextmanager
def _warned(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"{os.strerror(error.errno or 0)}: '{path}'"
        warnings.warn(f"images are not cached: {reason}; set FALW_CACHE to a writable folder", stacklevel=2)


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
