"""Images in folders on disk: class folders, Tiny-ImageNet, decoding (8 and 16 bits), the cache of decoded images."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
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
from PIL import Image, ImageOps, UnidentifiedImageError
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
    """Class folders, read through links; nothing is written.

    Images lie in train/<class> and test/<class> (val/<class> where there is no test), or in <class> alone: a fifth of
    every class, drawn with the seed, is then the test set. Folders inside a class belong to it. One warning each says
    what was drawn, what was left alone since it is no image, and which test images are training images.
    """
    base, aside = folder_of(options.path, options.root), list[str]()
    part, held_out = _parts(base, aside)
    classes, train = _list(base, part, aside)
    if held_out is None:
        train, test = _draw(train, options.seed)
        drawn = f"{len(test)} images, {TEST_SHARE:.0%} of every class, are drawn with seed {options.seed} to test on"
        odd = f"no test/ and no val/: {drawn}"
    else:
        classes_of_test, test = _list(base, held_out, aside)
        if different := ", ".join(sorted({*classes} ^ {*classes_of_test})[:5]):
            raise ValueError(f"{part} and {held_out} of '{base}' differ in classes: {different}; give both the same")
        odd = "" if held_out.lower() in TEST[:2] else f"no test/: {held_out}/ is taken to test on"
    data = _decode(base, classes, train, test, options)
    if odd:
        warnings.warn(f"'{base}' has {odd}", stacklevel=2)
    _say_left_alone(base, aside)
    return data


def folder_of(path: str, root: Path | None) -> Path:
    """Where the data set folder:PATH lies."""
    return (root or Path()) / os.path.expanduser(path)


def draws_test_set(dataset: str, root: Path | None) -> bool:
    """Whether folder:PATH does not say what to test on, so that the seed of the data decides."""
    kind, _, path = dataset.partition(":")
    return kind == "folder" and _parts(folder_of(path, root), [])[1] is None


def files_state(dataset: str, root: Path | None) -> int:
    """A number that changes when a file of folder:PATH does, while this process lives; 0 for any other data set."""
    kind, _, path = dataset.partition(":")
    if kind != "folder":
        return 0
    files, known = set(), set[str]()
    for folder, inner, names in os.walk(folder_of(path, root), followlinks=True):
        if (real := os.path.realpath(folder)) in known:  # links may lead in a circle
            inner.clear()
            continue
        known.add(real)
        for file in (f"{folder}/{name}" for name in names):
            with contextlib.suppress(OSError):  # what cannot be read is for the loader to name
                files.add((file, *_stat(file)))
    return hash(frozenset(files))


def _stat(path: str) -> tuple[int, int, int]:
    """What changes with a file; its last change cannot be set back, as its last writing is by copying or unpacking."""
    s = os.stat(path)
    return s.st_size, s.st_mtime_ns, s.st_ctime_ns


def _parts(base: Path, aside: list[str]) -> tuple[str, str | None]:
    """The folders of training and of test images; "" and None if classes lie in `base` side by side."""
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


def _list(base: Path, part: str, aside: list[str]) -> tuple[list[str], Listing]:
    """Classes, sorted, and their images; a class has one name, however a system composes its letters."""
    folders, images = _scan(base / part, aside, "class folder")
    for name in images:
        raise ValueError(f"{str(base / part / name)!r} is not a class folder; move or remove it")
    if not folders:
        raise ValueError(f"'{base / part}' is empty; it should hold one folder of images a class")
    class_of = {folder: unicodedata.normalize("NFC", folder) for folder in folders}
    classes = sorted({*class_of.values()})
    if not part and len(classes) < 2:
        raise ValueError(f"'{base}' holds one folder, {classes[0]!r}: give two classes or more, or that folder")
    files = {folder: sorted(_images(base, os.path.join(part, folder), aside)) for folder in folders}
    rows = [(file, classes.index(class_of[folder])) for folder in folders for file in files[folder]]
    return classes, sorted(rows, key=lambda row: row[1])


def _images(base: Path, folder: str, aside: list[str], above: tuple[str, ...] = ()) -> list[str]:
    """Images in a folder and in the folders inside it, relative to `base`; raises ValueError for a link in a circle."""
    real = os.path.realpath(base / folder)
    if real in above:
        raise ValueError(f"{str(base / folder)!r} is a link back to a folder that holds it; move or remove it")
    folders, images = _scan(base / folder, aside)
    inner = [name for f in folders for name in _images(base, f"{folder}/{f}", aside, (*above, real))]
    return [f"{folder}/{name}" for name in images] + inner


def _scan(folder: Path, aside: list[str] | None = None, of: str = "file") -> tuple[list[str], list[str]]:
    """Names of the folders and of the images in a folder, each sorted; what is neither goes to `aside`.

    Without `aside` images are not looked for. With it a dangling link and a pipe are refused, which are no `of`.
    """
    folders, images = list[str](), list[str]()
    try:
        with os.scandir(folder) as entries:
            for e in sorted(entries, key=lambda e: e.name):
                ours = not e.name.startswith(".") and e.name.lower() not in SYSTEM
                if ours and e.is_dir():
                    folders.append(e.name)
                elif aside is None:
                    continue
                elif ours and not e.is_file():
                    raise ValueError(f"{e.path!r} is not a {of}; move or remove it")
                elif ours and _is_image(Path(e.path)):
                    images.append(e.name)
                else:
                    aside.append(e.path)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(folder) from None
    except OSError as error:  # closed to us, or a link in a circle
        raise _unreadable(error) from None
    return folders, images


def _missing(folder: Path) -> FileNotFoundError:
    return FileNotFoundError(f"no folder '{folder}'; images lie in train/<class>/* and test/<class>/*, or in <class>/*")


def _unreadable(error: OSError) -> FileNotFoundError:
    return FileNotFoundError(f"{error.filename!r} cannot be read ({error.strerror}); repair or remove it")


def _draw(listing: Listing, seed: int) -> tuple[Listing, Listing]:
    """Training and test images of a folder without a test set: `TEST_SHARE` of every class, one at least."""
    generator, drawn = torch.Generator().manual_seed(seed), set[tuple[str, int]]()
    for _, rows in itertools.groupby(listing, key=lambda row: row[1]):
        of_class = list(rows)
        order = torch.randperm(len(of_class), generator=generator).tolist()
        drawn |= {of_class[i] for i in order[: max(1, round(TEST_SHARE * len(of_class)))]}
    return [row for row in listing if row not in drawn], [row for row in listing if row in drawn]


def _say_left_alone(base: Path, aside: list[str]) -> None:
    if aside:
        named = ", ".join(repr(os.path.relpath(path, base)) for path in sorted(aside)[:3])
        more = f" and {len(aside) - 3} more" if len(aside) > 3 else ""
        warnings.warn(f"left alone in '{base}', as no images of a class: {named}{more}", stacklevel=3)


def _is_image(path: Path) -> bool:
    """Whether a file is meant as an image: by its name or, where that says nothing, by its content."""
    suffix = path.suffix.lower()
    kind = Image.registered_extensions().get(suffix)
    if suffix in FOREIGN or (kind in Image.OPEN and kind not in STUBS):
        return True
    try:
        with Image.open(path):
            return not path.name.endswith("~")  # a copy that an editor has left
    except UnidentifiedImageError:
        return bool(_foreign(path))
    except Exception:  # closed to us, or too large: reading it will say so
        return True


STUBS = {"BUFR", "GRIB", "HDF5", "MPEG"}  # known to Pillow, and not read by it

# Images that other programs read, by their names, and how some of them begin.
FOREIGN = {".heic": "HEIC", ".heif": "HEIC", ".hif": "HEIC", ".avif": "AVIF", ".jxl": "JPEG XL", ".svg": "SVG"}
FOREIGN |= dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"), "raw camera")
BRANDS = dict.fromkeys((b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1"), "HEIC")
BRANDS |= {b"avif": "AVIF", b"avis": "AVIF", b"JXL ": "JPEG XL"}


def _foreign(path: Path) -> str:
    """The kind of an image that Pillow does not read; "" if it is none that we know."""
    with open(path, "rb") as f:
        head = f.read(12)
    by_content = BRANDS.get(head[8:] if head[4:8] == b"ftyp" else head[4:8], "")
    return by_content or FOREIGN.get(path.suffix.lower(), "")


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
    listed, aside = _names(listing, [file for file, _ in rows]), list[str]()
    on_disk = {os.path.basename(name) for name in _images(base, "val/images", aside)}
    for other, differ in (("wnids.txt", {wnid for _, wnid in rows} - {*wnids}), ("val/images", on_disk - {*listed})):
        if differ:
            named = ", ".join(map(repr, sorted(differ)[:5]))
            raise ValueError(f"'{base}': val_annotations.txt and {other} disagree: {named}; restore both")
    test = [(f"val/images/{file}", wnids.index(wnid)) for file, wnid in rows]
    names = [words.get(wnid, wnid).split(",")[0] for wnid in wnids]
    folders = [f"train/{wnid}/images" for wnid in wnids]
    train = [(file, c) for c, folder in enumerate(folders) for file in sorted(_images(base, folder, aside))]
    data = _decode(base, names, train, test, options, IMAGENET)
    _say_left_alone(base, aside)
    return data


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise FileNotFoundError(f"there is no '{path}'; give --root of the official tiny-imagenet-200 folder") from None
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
    base: Path, names: list[str], train: Listing, test: Listing, options: LoadOptions, published: Any = None
) -> Dataset:
    """The listed images, reduced as asked before any is opened; from the cache if it has just these files."""
    n = count_classes(len(names), options)
    for part, rows in (("train", train), ("test", test)):
        for c in sorted(set(range(n)) - {c for _, c in rows}):
            raise ValueError(f"class '{names[c]}' has no {part} images in '{base}'; add some or remove it")
    train = [train[i] for i in pick(torch.tensor([c for _, c in train]), n, options).tolist()]
    test = [row for row in test if row[1] < n]
    files = [file for file, _ in train + test]
    parts = _cached(files, base, options).split([len(train), len(test)])
    images, held_out = (Images(x, torch.tensor([c for _, c in rows])) for x, rows in zip(parts, (train, test)))
    _say_if_seen(base, files, images.x, held_out.x)
    if (brightest := int(images.x.max())) <= 16:
        what = f"no training image of '{base}' has a pixel brighter than {brightest} of 255"
        warnings.warn(f"{what}: if they are not meant to be black, scale the files to 8 bits", stacklevel=3)
    mean, std = published or moments(images.x)
    return Dataset(base.name, images, held_out, tuple(names[:n]), mean, std, files=tuple(files[: len(train)]))


def _say_if_seen(base: Path, files: list[str], train: Tensor, test: Tensor) -> None:
    """A warning if test images are training images, too: what a model learnt by heart is then no test."""
    seen = copies(test, train)
    if len(seen):
        first, same = files[len(train) + int(seen[0])], files[int(copies(train, test[seen[:1]])[0])]
        count = f"{len(seen)} of {len(test)} test images are training images, too: {first!r} is {same!r}"
        warnings.warn(f"{count}; take them out of '{base}', or accuracies on test images are too high", stacklevel=4)


# Decoding


def _read_images(base: Path, files: list[str], options: LoadOptions) -> Tensor:
    """Files of one size as one tensor: uint8 (n, 3, h, w).

    In threads, as Pillow decodes outside Python's lock; in chunks, as handing over one image costs as much. What has
    more than 8 bits is read twice, since its white depends on all of them.
    """
    from tqdm.auto import tqdm

    first = _read_image(base / files[0], options)[0].shape
    x, deep = np.empty((len(files), *first), np.uint8), dict[int, Deep]()

    def read(chunk: range) -> int:
        for i in chunk:
            image, of_deep = _read_image(base / files[i], options)
            if image.shape != first:
                sizes = "{2}x{1}, not {5}x{4} as".format(*image.shape, *first)
                raise ValueError(f"{str(base / files[i])!r} is {sizes} '{files[0]}'; give size to make all alike")
            x[i] = image
            if of_deep:
                deep[i] = of_deep
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
        black, white = scales[bits] = (0, 2**used - 1) if low >= 0 else (low, max(high, low + 1))
        if bits is None and (low < 0 or used != 16):
            what = f"{len(same)} images of 16 or 32 bits do not say how many are used, the first {files[min(same)]!r}"
            range_ = f"by their range, {low} to {high}, {black} is read as black and {white} as white"
            warnings.warn(f"'{base}': {what}; {range_}", stacklevel=2)
    return scales


MAX_PIXELS = 2**26  # of one image; Pillow itself warns at 89 million and refuses twice that


def _read_image(path: Path, options: LoadOptions, scales: Scales | None = None) -> tuple[np.ndarray, Deep | None]:
    """Any image as RGB, uint8 (3, h, w): first frame, upright, see-through parts over the background.

    Of an image with more than 8 bits also what `_scales` needs; its pixels are right when given those.
    """
    try:
        with Image.open(path) as image:
            if image.format == "EPS":
                raise ValueError("EPS is a program, which would be run by Ghostscript")
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels is more than {MAX_PIXELS}")
            shallow, deep = _to_8_bits(image, path, scales or {})
            rgb = _to_rgb(ImageOps.exif_transpose(shallow), options.background)
            if options.size is not None:
                rgb = rgb.resize((options.size, options.size), Image.Resampling.BILINEAR)
            return np.asarray(rgb).transpose(2, 0, 1), deep
    except Exception as error:  # Pillow raises many kinds; the reader needs the file
        kind = _foreign(path) if not isinstance(error, OSError) or error.errno is None else ""
        reason = f"it is {kind}, which Pillow does not read" if kind else first_line(error)
        remedy = "convert it to PNG or JPEG" if kind else "repair or remove it"
        raise ValueError(f"{str(path)!r} cannot be read as an image ({reason}); {remedy}") from None


def _to_rgb(image: Image.Image, background: str) -> Image.Image:
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    return image.convert("RGB")


def _to_8_bits(image: Any, path: Path, scales: Scales) -> tuple[Any, Deep | None]:
    """An image as it is or, where a channel has more than 8 bits, scaled, and what it said of these."""
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers of unknown range")
    wide = _wide_pixels(image, path)
    if wide is None:
        return image, None
    bits, channels = _bits_said(image, path), wide.shape[2]
    alpha = channels % 2 == 0
    colours = wide[..., : channels - alpha]
    black, white = (np.full(channels, value) for value in scales.get(bits, (0, 65535)))
    if alpha:
        black[-1], white[-1] = 0, white[-1] if wide[..., -1].max() <= white[-1] else 65535
    scaled = ((wide.clip(black, white) - black) * 255 + (white - black) // 2) // (white - black)
    shallow = Image.fromarray((scaled if channels > 1 else scaled[..., 0]).astype(np.uint8))
    shallow.getexif()[0x0112] = image.getexif().get(0x0112, 1)  # not before the pixels: Pillow may turn them, too
    return shallow, Deep(bits, int(colours.min()), int(colours.max()))


OTHER_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def _wide_pixels(image: Any, path: Path) -> np.ndarray | None:
    """Pixels of an image with more than 8 bits a channel, int64 (h, w, c); None of any other.

    Of colours Pillow only gives the upper byte. The lower one comes when it is told that the bytes lie the other way.
    """
    if image.mode.startswith("I"):
        pixels = np.atleast_3d(np.asarray(image)).astype(np.int64)
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
    image: Any
    with Image.open(path) as image:
        for i, tile in enumerate(image.tile):
            how = raw if isinstance(tile[3], str) else (raw, *tile[3][1:])
            image.tile[i] = getattr(tile, "_make", tuple)((*tile[:3], how))  # a plain tuple before Pillow 11
        return np.asarray(image).astype(np.int64)


def _bits_said(image: Any, path: Path) -> int | None:
    """How many bits of a channel the file says are used; None where 16 or 32 may only be the room that there is."""
    if image.format in ("JPEG2000", "PPM"):  # which say it, and Pillow has scaled them
        return 16
    if image.format == "PNG" and (said := _chunk(path, b"sBIT")):
        return max(said[: 3 if len(said) > 2 else 1])  # without alpha
    if image.format == "TIFF":
        room, most = (image.tag_v2.get(tag) for tag in (258, 281))  # BitsPerSample, MaxSampleValue
        if most:
            return int(np.max(most)).bit_length()
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


# The cache of decoded images

CACHE_VERSION = 4  # to be raised when decoding changes


def _cached(files: list[str], base: Path, options: LoadOptions) -> Tensor:
    """Decoded files as one tensor, kept under their names, sizes, times of change; an unusable cache is a warning."""
    if not options.cache:
        return _read_images(base, files, options)
    try:
        stats = [(file, *_stat(f"{base}/{file}")) for file in files]
    except OSError as error:  # a dangling link, or a file that only an index names
        raise _unreadable(error) from None
    asked = json.dumps([CACHE_VERSION, options.size, options.background, stats])
    path = cache_folder() / f"{hashlib.sha256(asked.encode()).hexdigest()[:24]}.pt"
    with _warned(path):
        x = load_tensors(path)
        if x is not None:
            return x
    x = _read_images(base, files, options)
    with _warned(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(x, path)
    return x


@contextlib.contextmanager
def _warned(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"{os.strerror(error.errno or 0)}: '{path}'"
        warnings.warn(f"images are not cached: {reason}; set FALW_CACHE to a writable folder", stacklevel=2)
