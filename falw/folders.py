"""Images in folders on disk: class folders, Tiny-ImageNet, decoding (8 and 16 bits), the cache of decoded images."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from falw.files import first_line, load_tensors, save_tensors
from falw.images import Dataset, Images
from falw.sources import LoadOptions, cache_folder, copies, count_classes, moments, pick

Listing = list[tuple[str, int]]  # files, relative to the folder of the data set, and their labels


# What systems and programs leave in a folder; names that begin with a dot are theirs, too.
SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "__pycache__", "lost+found", "recycler"}
SYSTEM |= {"@eadir", "@recycle", "@recently-snapshot", "@__thumb", "@tmp", "#recycle", "#snapshot", "$recycle.bin"}
SYSTEM |= {"system volume information"}


TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")
TEST_SHARE = 0.2  # of every class, where no folder says what to test on


def load_folder(options: LoadOptions) -> Dataset:
    """Class folders. Links are followed wherever they lead, since data sets are often linked; nothing is written.

    Images lie in train/<class> and test/<class> (val/<class> where there is no test), or in <class> alone: a fifth of
    every class, drawn with the seed, is then the test set. Folders inside a class belong to it. One warning each says
    what was drawn, what was left alone since it is no image, and which test images are training images.
    """
    base, aside = folder_of(options.path, options.root), list[str]()
    part, held_out = _parts(base, aside)
    train = _classes(base, part, aside)
    if not part and len(train) < 2:
        raise ValueError(f"'{base}' holds one folder, {next(iter(train))!r}: give two classes or more, or that folder")
    test = train if held_out is None else _classes(base, held_out, aside)
    different = ", ".join(sorted(set(train) ^ set(test))[:5])
    if different:
        raise ValueError(f"{part} and {held_out} of '{base}' differ in classes: {different}; give both the same")
    listing = _list(base, train, aside)
    rest, drawn = (listing, _list(base, test, aside)) if held_out is not None else _draw(listing, options.seed)
    data = _decode(base, list(train), rest, drawn, options)
    _say_test_set(base, held_out, len(drawn), options.seed)
    _say_left_alone(base, aside)
    return data


def folder_of(path: str, root: Path | None) -> Path:
    """Where the data set folder:PATH lies."""
    return (root or Path()) / os.path.expanduser(path)


def files_state(dataset: str, root: Path | None) -> int:
    """A number that changes when a file of folder:PATH does, while this process lives; 0 for any other data set."""
    kind, _, path = dataset.partition(":")
    return _state(folder_of(path, root)) if kind == "folder" else 0


def _state(base: Path) -> int:
    files, known = [], set[str]()
    for folder, inner, names in os.walk(base, followlinks=True):
        real = {name: os.path.realpath(os.path.join(folder, name)) for name in inner}
        inner[:] = sorted(name for name in inner if real[name] not in known)  # links may lead in a circle
        known |= {real[name] for name in inner}
        for name in sorted(names):
            with contextlib.suppress(OSError):  # what cannot be read is for the loader to name
                s = os.stat(os.path.join(folder, name))
                files.append((folder, name, s.st_size, s.st_mtime_ns, s.st_ctime_ns))
    return hash(tuple(files))


def draws_test_set(dataset: str, root: Path | None) -> bool:
    """Whether folder:PATH does not say what to test on, so that the seed of the data decides."""
    kind, _, path = dataset.partition(":")
    return kind == "folder" and _parts(folder_of(path, root), [])[1] is None


def _parts(base: Path, aside: list[str]) -> tuple[str, str | None]:
    """The folders in `base` of training and test images, None where there is none for these.

    "" for training images says that the classes lie in `base` side by side.
    """
    folders = _scan(base)[0] if base.is_dir() else []
    names = {name.lower(): name for name in folders}
    train = next((names[name] for name in TRAIN if name in names), None)
    tests = [names[name] for name in TEST if name in names]
    test = next((name for name in tests if _scan(base / name)[0]), tests[0] if tests else None)
    if not folders or (train is None and test is not None):
        raise _missing(base / "train")
    if train is None or (test is None and not _scan(base / train)[0]):  # a class of trains has files, and no folders
        return "", None
    aside += [f"{base}/{name}" for name in folders if name not in (train, test)]
    return train, test


def _classes(base: Path, part: str, aside: list[str]) -> dict[str, list[str]]:
    """The folders of each class by its name, sorted; a name has one spelling, however a system composes its letters."""
    folder = base / part
    folders, files = _scan(folder, of="class folder", aside=aside)
    for name in files:
        if _is_image(folder / name):
            raise ValueError(f"{str(folder / name)!r} is not a class folder; move or remove it")
        aside.append(f"{folder}/{name}")
    if not folders:
        raise ValueError(f"'{folder}' is empty; it should hold one folder of images a class")
    classes: dict[str, list[str]] = {}
    for name in folders:
        classes.setdefault(unicodedata.normalize("NFC", name), []).append(os.path.join(part, name))
    return dict(sorted(classes.items()))


def _list(base: Path, classes: dict[str, list[str]], aside: list[str]) -> Listing:
    """The images of every class, sorted, those of folders inside a class among them."""
    folders = [(c, folder) for c, same in enumerate(classes.values()) for folder in same]
    return [(name, c) for c, folder in folders for name in sorted(_images(base, folder, aside))]


def _images(base: Path, folder: str, aside: list[str], above: tuple[str, ...] = ()) -> list[str]:
    """Images in a folder and in the folders inside it, relative to `base`; raises ValueError for a link in a circle."""
    above = (*above, os.path.realpath(base / folder))
    if above[-1] in above[:-1]:
        raise ValueError(f"{str(base / folder)!r} is a link back to a folder that holds it; move or remove it")
    folders, files = _scan(base / folder, aside=aside)
    images = []
    for name in files:
        if _is_image(base / folder / name):
            images.append(f"{folder}/{name}")
        else:
            aside.append(f"{base / folder}/{name}")
    return images + [name for inner in folders for name in _images(base, f"{folder}/{inner}", aside, above)]


def _scan(folder: Path, of: str = "file", aside: list[str] | None = None) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, each sorted; what systems leave goes to `aside`."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for e in sorted(entries, key=lambda e: e.name):
                if e.name.startswith(".") or e.name.lower() in SYSTEM:
                    (aside if aside is not None else []).append(e.path)
                elif e.is_dir():
                    folders.append(e.name)
                elif e.is_file():
                    files.append(e.name)
                elif aside is not None:  # a dangling link, a pipe
                    raise ValueError(f"{e.path!r} is not a {of}; move or remove it")
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(folder) from None
    except OSError as error:  # closed to us, or a link in a circle
        raise _unreadable(error) from None
    return folders, files


def _missing(folder: Path) -> FileNotFoundError:
    layout = "images lie in train/<class>/* and test/<class>/*, or in <class>/*"
    return FileNotFoundError(f"no folder '{folder}'; {layout}")


def _draw(listing: Listing, seed: int) -> tuple[Listing, Listing]:
    """Training and test images of a folder without a test set: `TEST_SHARE` of every class, one at least."""
    y, generator, drawn = torch.tensor([c for _, c in listing]), torch.Generator().manual_seed(seed), set()
    for c in y.unique().tolist():
        members = (y == c).nonzero()[:, 0]
        order = torch.randperm(len(members), generator=generator)
        drawn |= set(members[order[: max(1, round(TEST_SHARE * len(members)))]].tolist())
    rest, test = ([row for i, row in enumerate(listing) if (i in drawn) == chosen] for chosen in (False, True))
    return rest, test


def _say_test_set(base: Path, held_out: str | None, drawn: int, seed: int) -> None:
    if held_out is None:
        share = f"{drawn} images, {TEST_SHARE:.0%} of every class, are drawn with seed {seed} to test on"
        warnings.warn(f"'{base}' has no test/ and no val/: {share}", stacklevel=3)
    elif held_out.lower() not in TEST[:2]:
        warnings.warn(f"'{base}' has no test/: {held_out}/ is taken to test on", stacklevel=3)


def _say_left_alone(base: Path, aside: list[str]) -> None:
    if aside:
        named = ", ".join(repr(os.path.relpath(path, base)) for path in sorted(aside)[:3])
        more = f" and {len(aside) - 3} more" if len(aside) > 3 else ""
        warnings.warn(f"left alone in '{base}', as no images of a class: {named}{more}", stacklevel=3)


@functools.cache
def _suffixes() -> set[str]:
    """Ends of names by which a file says that it is an image; it is an error if such a file cannot be read."""
    from PIL import Image

    Image.init()
    stubs = {"BUFR", "GRIB", "HDF5", "MPEG"}  # known to Pillow, and not read by it
    return {suffix for suffix, kind in Image.EXTENSION.items() if kind in Image.OPEN and kind not in stubs} | {*FOREIGN}


def _is_image(path: Path) -> bool:
    """Whether a file is meant as an image: by its name or, where that says nothing, by its content."""
    from PIL import Image, UnidentifiedImageError

    if path.suffix.lower() in _suffixes():
        return True
    try:
        with Image.open(path):
            return not path.name.endswith("~")  # a copy that an editor has left
    except UnidentifiedImageError:
        return bool(_foreign(path))
    except Exception:  # closed to us, or too large: reading it will say so
        return True


# Images that other programs read, by their names, and how some of them begin.
FOREIGN = {".heic": "HEIC", ".heif": "HEIC", ".hif": "HEIC", ".avif": "AVIF", ".jxl": "JPEG XL", ".svg": "SVG"}
FOREIGN |= dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"), "raw camera")
BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"hevc": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC"}
BRANDS |= {b"avif": "AVIF", b"avis": "AVIF", b"JXL ": "JPEG XL"}


def _foreign(path: Path) -> str:
    """The kind of an image that Pillow does not read; "" if it is none that we know."""
    with open(path, "rb") as f:
        head = f.read(12)
    by_content = BRANDS.get(head[8:] if head[4:8] == b"ftyp" else head[4:8], "")
    return by_content or FOREIGN.get(path.suffix.lower(), "")


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
    aside: list[str] = []
    words = dict(line.split("\t", 1) for line in _lines(base / "words.txt") if "\t" in line)
    listing = base / "val/val_annotations.txt"
    rows = [f"{line}\t".split("\t")[:2] for line in _lines(listing)]
    files = _names(listing, [file for file, _ in rows])
    for other, differ in (
        ("wnids.txt", {wnid for _, wnid in rows} - set(wnids)),
        ("val/images", {os.path.basename(name) for name in _images(base, "val/images", aside)} - set(files)),
    ):
        if differ:
            named = ", ".join(map(repr, sorted(differ)[:5]))
            raise ValueError(f"'{base}': val_annotations.txt and {other} disagree: {named}; restore both")
    label = {wnid: c for c, wnid in enumerate(wnids)}
    test = [(f"val/images/{file}", label[wnid]) for file, wnid in rows]
    names = [words.get(wnid, wnid).split(",")[0] for wnid in wnids]
    train = _list(base, {wnid: [f"train/{wnid}/images"] for wnid in wnids}, aside)
    data = _decode(base, names, train, test, options, IMAGENET)
    _say_left_alone(base, aside)
    return data


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
    files = [[part[i][0] for i in k.tolist()] for part, k in zip((train, test), keep)]
    parts = _cached([*files[0], *files[1]], base, options).split([len(k) for k in keep])
    images, held_out = (Images(x, y[k]) for x, y, k in zip(parts, labels, keep))
    _say_if_seen(base, files, images.x, held_out.x)
    _say_if_dark(base, images.x)
    mean, std = published or moments(images.x)
    return Dataset(base.name, images, held_out, tuple(names[:n]), mean, std, files=tuple(files[0]))


def _say_if_seen(base: Path, files: list[list[str]], train: Tensor, test: Tensor) -> None:
    """A warning if test images are training images, too: what a model learnt by heart is then no test."""
    seen = copies(test, train)
    if len(seen):
        first = files[1][int(seen[0])]
        same = files[0][int(copies(train, test[seen[:1]])[0])]
        count = f"{len(seen)} of {len(test)} test images are training images, too: {first!r} is {same!r}"
        warnings.warn(f"{count}; take them out of '{base}', or accuracies on test images are too high", stacklevel=4)


def _say_if_dark(base: Path, x: Tensor) -> None:
    if (brightest := int(x.max())) <= 16:
        what = f"no training image of '{base}' has a pixel brighter than {brightest} of 255"
        warnings.warn(f"{what}: if they are not meant to be black, scale the files to 8 bits", stacklevel=4)


# Decoding


def _read_images(base: Path, files: list[str], options: LoadOptions) -> Tensor:
    """Decode files of one size, with all cores, into one tensor: uint8 (n, 3, h, w).

    In threads, as Pillow decodes outside Python's lock; in chunks, as handing over one image costs as much. What has
    more than 8 bits is read twice, since its white depends on all of them.
    """
    from tqdm.auto import tqdm

    first = _read_image(base / files[0], options)[0].shape
    x, deep = np.empty((len(files), *first), np.uint8), dict[int, Deep]()

    def read(chunk: range) -> int:
        for i in chunk:
            image, deep_ = _read_image(base / files[i], options)
            if image.shape != first:
                sizes = "{2}x{1}, not {5}x{4} as".format(*image.shape, *first)
                raise ValueError(f"{str(base / files[i])!r} is {sizes} '{files[0]}'; give size to make all alike")
            x[i] = image
            if deep_ is not None:
                deep[i] = deep_
        return len(chunk)

    chunks = [range(len(files))[i : i + 128] for i in range(0, len(files), 128)]
    bar = tqdm(total=len(files), desc="decoding", unit="image", disable=not options.progress, leave=False)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(read, chunks):
            bar.update(done)
        scales = _scales(base, files, deep)
        for i, image in zip(deep, pool.map(lambda i: _read_image(base / files[i], options, scales), deep)):
            x[i] = image[0]
    return torch.from_numpy(x)


class Deep(NamedTuple):
    """An image of more than 8 bits: how many of them the file says are used (None: it does not say), and its range."""

    bits: int | None
    low: int
    high: int


Scales = dict[int | None, tuple[int, int]]  # black and white of the images whose files say so many bits


def _scales(base: Path, files: list[str], deep: dict[int, Deep]) -> Scales:
    """Black and white for all deep images of a data set at once, so that a dark one among them stays dark.

    White is what the files say. If they say nothing, or less than is in them, it is the largest number of as many bits
    as the brightest image uses, and a warning says so unless these are 16.
    """
    scales: Scales = {}
    for bits in dict.fromkeys(d.bits for d in deep.values()):
        same = {i: d for i, d in deep.items() if d.bits == bits}
        low, high = min(d.low for d in same.values()), max(d.high for d in same.values())
        used = max(16, high.bit_length()) if bits is not None and high >= 2**bits else bits or high.bit_length()
        scales[bits] = (0, 2**used - 1) if low >= 0 else (low, max(high, low + 1))
        if bits is None and (low < 0 or used != 16):
            black, white = scales[bits]
            what = f"{len(same)} images of 16 or 32 bits do not say how many are used, the first {files[min(same)]!r}"
            range_ = f"by their range, {low} to {high}, {black} is read as black and {white} as white"
            warnings.warn(f"'{base}': {what}; {range_}", stacklevel=2)
    return scales


MAX_PIXELS = 2**26  # of one image; Pillow itself warns at 89 million and refuses twice that


def _read_image(path: Path, options: LoadOptions, scales: Scales | None = None) -> tuple[np.ndarray, Deep | None]:
    """Any image as RGB, uint8 (3, h, w): first frame, upright, see-through parts over the background.

    Of an image with more than 8 bits also what `_scales` needs; its pixels are right when given those.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.format == "EPS":
                raise ValueError("EPS is a program, which would be run by Ghostscript")
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels is more than {MAX_PIXELS}")
            image, deep = _to_8_bits(image, path, scales)
            image = _to_rgb(ImageOps.exif_transpose(image), options.background)
            if options.size is not None:
                image = image.resize((options.size, options.size), Image.Resampling.BILINEAR)
            return np.asarray(image).transpose(2, 0, 1), deep
    except Exception as error:  # Pillow raises many kinds; the reader needs the file
        kind = _foreign(path) if not isinstance(error, OSError) or error.errno is None else ""
        reason = f"it is {kind}, which Pillow does not read" if kind else first_line(error)
        remedy = "convert it to PNG or JPEG" if kind else "repair or remove it"
        raise ValueError(f"{str(path)!r} cannot be read as an image ({reason}); {remedy}") from None


def _to_8_bits(image: Any, path: Path, scales: Scales | None) -> tuple[Any, Deep | None]:
    """An image as it is or, where a channel has more than 8 bits, scaled, and what it said of these."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers of unknown range")
    wide = _wide_pixels(image, path)
    if wide is None:
        return image, None
    bits = _bits_said(image, path)
    colours = wide[..., : 3 if wide.shape[-1] > 2 else 1] if wide.ndim == 3 else wide  # without alpha
    black, white = (scales or {}).get(bits, (0, 65535))
    narrow = [_narrow(colours, black, white)]
    if wide.ndim == 3 and wide.shape[-1] in (2, 4):
        alpha = wide[..., -1:]
        narrow.append(_narrow(alpha, 0, white if alpha.max() <= white else 65535))
    orientation = image.getexif().get(0x0112)  # of which Pillow may have taken care by now
    shallow = Image.fromarray(np.concatenate(narrow, axis=-1) if wide.ndim == 3 else narrow[0])
    if orientation is not None:
        shallow.getexif()[0x0112] = orientation
    return shallow, Deep(bits, int(colours.min()), int(colours.max()))


def _narrow(wide: np.ndarray, black: int, white: int) -> np.ndarray:
    """Pixels from black to white as 0 to 255."""
    wide = (wide.clip(black, white) - black) * 255
    return ((wide + (white - black) // 2) // (white - black)).astype(np.uint8)


OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def _wide_pixels(image: Any, path: Path) -> np.ndarray | None:
    """Pixels of an image with more than 8 bits a channel, int64 (h, w) or (h, w, c); None of any other.

    Of colours Pillow only gives the upper byte. The lower one comes when it is told that the bytes lie the other way.
    """
    if image.mode.startswith("I"):
        pixels = np.asarray(image).astype(np.int64)
        unsigned = image.mode == "I" and image.format == "TIFF" and image.tag_v2.get(339, (1,))[0] == 1
        return pixels & 0xFFFFFFFF if unsigned else pixels
    raw = image.tile[0][3] if image.tile else ""
    raw = raw if isinstance(raw, str) else str(raw[0])
    if image.mode == "RGBA" and raw.startswith("LA;16"):  # four bytes a pixel, which may go by another name
        bytes_ = _read_as(path, "RGBA")
        return bytes_[..., 0::2] * 256 + bytes_[..., 1::2]
    if image.mode in ("RGB", "RGBA") and raw[:-1] == f"{image.mode};16":
        return _read_as(path, raw) * 256 + _read_as(path, raw[:-1] + OTHER_BYTE[raw[-1]])
    return None


def _read_as(path: Path, raw: str) -> np.ndarray:
    """Pixels of a file whose bytes are arranged as `raw` says, int64 (h, w, c)."""
    from PIL import Image

    with Image.open(path) as image:
        image.tile = [_arranged(tile, raw) for tile in image.tile]
        return np.asarray(image).astype(np.int64)


def _arranged(tile: Any, raw: str) -> Any:
    """A tile of Pillow's with its bytes arranged in another way."""
    how = raw if isinstance(tile[3], str) else (raw, *tile[3][1:])
    return type(tile)(*tile[:3], how) if hasattr(tile, "_fields") else (*tile[:3], how)


def _bits_said(image: Any, path: Path) -> int | None:
    """How many bits of a channel the file says are used; None where 16 or 32 may only be the room that there is."""
    if image.format in ("JPEG2000", "PPM"):  # which say it, and Pillow has scaled them
        return 16
    if image.format == "PNG" and (said := _chunk(path, b"sBIT")):
        return max(said[: 3 if len(said) > 2 else 1])  # without alpha
    if image.format == "TIFF":
        room, most = (image.tag_v2.get(tag) for tag in (258, 281))  # BitsPerSample, MaxSampleValue
        if most:
            return int(max(most) if isinstance(most, tuple) else most).bit_length()
        return room[0] if room and room[0] not in (8, 16, 32) else None
    return None


def _chunk(path: Path, name: bytes) -> bytes:
    """What a PNG file says under a name before its pixels."""
    with open(path, "rb") as f:
        f.seek(8)  # the signature
        while len(head := f.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == name:
                return f.read(length)
            f.seek(length + 4, os.SEEK_CUR)
    return b""


def _to_rgb(image: Any, background: str) -> Any:
    from PIL import Image

    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
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
        # The time of the last change cannot be set back, as that of the last writing is by copying or unpacking.
        stats = [(f, (s := os.stat(f"{base}/{f}")).st_size, s.st_mtime_ns, s.st_ctime_ns) for f in files]
    except OSError as error:  # a dangling link, or a file that only an index names
        raise _unreadable(error) from None
    version = 4  # to be raised when decoding changes
    return hashlib.sha256(json.dumps([version, options.size, options.background, stats]).encode()).hexdigest()[:24]


@contextlib.contextmanager
def _warned(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"{os.strerror(error.errno or 0)}: '{path}'"
        warnings.warn(f"images are not cached: {reason}; set FALW_CACHE to a writable folder", stacklevel=2)


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
