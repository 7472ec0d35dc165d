"""Images as uint8 tensors, data sets by name, and batched augmentation.

A data set is two tensors in memory; a subset of it is an index tensor. Nothing is downloaded unless a data set that has
to be (cifar10, cifar100) is asked for by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    load: Callable[..., Dataset]


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

    size: pixels a side. classes: keep the first so many. per_class: keep so many training images of each class, drawn
    with `seed`; for generated data `seed` draws the data itself. root: where data sets lie on disk. Images decoded from
    files are kept in one cache file (folder $FALW_CACHE, else the user's cache folder) unless `cache` is False.
    Raises ValueError or FileNotFoundError, naming the value and the way out.
    """
    kind, _, path = name.partition(":")
    if kind not in DATASETS or bool(path) != (kind == "folder"):
        known = ", ".join("folder:PATH" if row == "folder" else row for row in DATASETS)
        raise ValueError(f"unknown data set '{name}'; choose one of: {known}")
    for option, value in {"size": size, "classes": classes, "per_class": per_class}.items():
        if value is not None and value < 1:
            raise ValueError(f"{option} {value} is too small: give a whole number from 1 up, or leave it out")
    root = Path(root) if root is not None else Path()
    ask = Ask(path, root, size, classes, per_class, seed, cache, progress)
    return DATASETS[kind].load(ask)._replace(name=name).to(device)


class Ask(NamedTuple):
    """What was asked of `load_dataset`, for the loaders."""

    path: str
    root: Path
    size: int | None
    classes: int | None
    per_class: int | None
    seed: int
    cache: bool
    progress: bool


# Augmentation


def augment(x: Tensor, dy: Tensor, dx: Tensor, flip: Tensor, pad: int) -> Tensor:
    """Crop and mirror each image of a batch in its own way: uint8 (b, c, h, w) -> uint8 (b, c, h, w).

    Each image gets a border of `pad` zeros, is cut back to h x w at row dy and column dx (b,) in 0..2*pad, and is
    mirrored left to right where flip (b,) holds.
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

    A class is a field of its superclass plus one of its own; an image adds one of the class's modes, mixes in up to
    `style` of a sister class, is shifted around its edges, mirrored, changed in contrast and colour, and laid over a
    background and pixel noise. Noise, class_amplitude and per_class set how hard it is to generalise.
    """
    rng = np.random.default_rng(seed)
    n_classes = superclasses * classes_each
    shared = np.repeat(_fields(superclasses, size, 2, rng), classes_each, axis=0)
    own = shared + class_amplitude * _fields(n_classes, size, 3, rng)
    each = own[:, None] + mode_amplitude * _fields(n_classes * modes, size, 3, rng).reshape(n_classes, modes, 3, size, size)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.repeat(np.arange(n_classes), n)
        sister = y // classes_each * classes_each + (y + rng.integers(1, max(classes_each, 2), len(y))) % classes_each
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
    n = 30 if ask.classes is None else ask.classes
    if n > 30:
        raise ValueError(f"classes {n} is more than the 30 of textures: give at most 30")
    train, test = textures(ask.seed, size=ask.size or 16, per_class=ask.per_class or 125)
    names = tuple(f"{'ABCDEF'[c // 5]}{c % 5 + 1}" for c in range(n))
    train, test = (Images(x[y < n], y[y < n]) for x, y in (train, test))
    return Dataset("textures", train, test, names, *_moments(train.x), val=0.2)


def _moments(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel in [0, 1], from counts of its 256 values: exact, and one pass."""
    counts = torch.stack([torch.bincount(channel.reshape(-1), minlength=256) for channel in x.unbind(1)]).double()
    share, values = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.double) / 255
    mean = share @ values
    std = (share @ values**2 - mean**2).clamp(min=1e-6).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


# Data sets that come as arrays


def _reduce(data: Dataset, ask: Ask) -> Dataset:
    """The first `classes`, `per_class` random training images of each, resized to `size`."""
    n = len(data.classes) if ask.classes is None else ask.classes
    if n > len(data.classes):
        raise ValueError(f"classes {n} is more than the {len(data.classes)} of this data set: give at most that")
    train, test = (Images(x[y < n], y[y < n]) for x, y in (data.train, data.test))
    keep = _draw_per_class(train.y.tolist(), n, ask)
    train = Images(train.x[keep], train.y[keep])
    if ask.size is not None:
        train, test = (Images(_resize(x, ask.size), y) for x, y in (train, test))
    return data._replace(train=train, test=test, classes=data.classes[:n])


def _draw_per_class(labels: Sequence[int], n: int, ask: Ask) -> list[int]:
    """Positions of the images that `per_class` keeps, ascending; all of them if it is None."""
    if ask.per_class is None:
        return list(range(len(labels)))
    places: list[list[int]] = [[] for _ in range(n)]
    for place, label in enumerate(labels):
        places[label].append(place)
    least = min(map(len, places))
    if ask.per_class > least:
        raise ValueError(f"per_class {ask.per_class} is more than the {least} images of a class: give at most {least}")
    g = torch.Generator().manual_seed(ask.seed)
    return sorted(p[i] for p in places for i in torch.randperm(len(p), generator=g)[: ask.per_class].tolist())


def _resize(x: Tensor, size: int) -> Tensor:
    parts = [
        F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
        for part in x.split(4096)
    ]
    return torch.cat(parts).round().clamp(0, 255).to(torch.uint8)


def _load_digits(ask: Ask) -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    pixels = [torch.from_numpy(np.round(p.reshape(-1, 1, 8, 8) * 255 / 16).astype(np.uint8)) for p in parts[:2]]
    train, test = (Images(p.expand(-1, 3, 8, 8).contiguous(), torch.from_numpy(t).long()) for p, t in zip(pixels, parts[2:], strict=True))
    moments = _moments(train.x)
    return _reduce(Dataset("digits", train, test, tuple("0123456789"), *moments), ask)


def _load_cifar(name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[Ask], Dataset]:
    def load(ask: Ask) -> Dataset:
        import torchvision

        try:
            parts = [getattr(torchvision.datasets, name)(ask.root, train=t, download=True) for t in (True, False)]
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise FileNotFoundError(
                f"{name} is not in '{ask.root}' and could not be downloaded ({reason}); give --root of a folder that "
                "has it, or folder:PATH"
            ) from None
        images = [Images(torch.from_numpy(p.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(p.targets)) for p in parts]
        return _reduce(Dataset(name, *images, tuple(parts[0].classes), mean, std), ask)

    return load


# Data sets that come as files


class Listing(NamedTuple):
    """Which files make a data set, before any is opened."""

    classes: tuple[str, ...]
    train: list[tuple[str, int]]  # file, relative to the folder of the data set, and label
    test: list[tuple[str, int]]


def _load_folder(ask: Ask) -> Dataset:
    base = ask.root / ask.path
    if not base.is_dir():
        raise FileNotFoundError(f"there is no folder '{base}'; it should hold train/<class>/* and test/<class>/*")
    files = {part: _class_files(base, part) for part in ("train", "test")}
    different = sorted(set(files["train"]) ^ set(files["test"]))
    if different:
        raise ValueError(f"classes of train and test differ in '{base}': {', '.join(different[:5])}; give both the same")
    names = tuple(sorted(files["train"]))
    pairs = {part: [(f, c) for c, name in enumerate(names) for f in found[name]] for part, found in files.items()}
    return _decode(base, Listing(names, pairs["train"], pairs["test"]), ask, None)


def _class_files(base: Path, part: str) -> dict[str, list[str]]:
    if not (base / part).is_dir():
        raise FileNotFoundError(f"there is no folder '{base / part}'; it should hold one folder of images a class")
    names = [d.name for d in os.scandir(base / part) if d.is_dir() and not d.name.startswith(".")]
    found = {name: _visible_files(base, f"{part}/{name}") for name in names}
    if not found:
        raise ValueError(f"'{base / part}' has no class folders; it should hold one folder of images a class")
    for name, files in found.items():
        if not files:
            raise ValueError(f"class '{name}' in '{base / part}' has no images; add some or remove the folder")
    return found


def _visible_files(base: Path, folder: str) -> list[str]:
    names = sorted(e.name for e in os.scandir(base / folder) if e.is_file() and not e.name.startswith("."))
    return [f"{folder}/{name}" for name in names if name.lower() not in ("thumbs.db", "desktop.ini")]


def _load_tiny_imagenet(ask: Ask) -> Dataset:
    base = next((b for b in (ask.root / "tiny-imagenet-200", ask.root) if (b / "wnids.txt").is_file()), None)
    if base is None:
        raise FileNotFoundError(f"no tiny-imagenet-200 with a wnids.txt in '{ask.root}'; give --root of the folder it is in")
    wnids = base.joinpath("wnids.txt").read_text().split()
    words = dict(line.split("\t", 1) for line in base.joinpath("words.txt").read_text().splitlines() if "\t" in line)
    label = {wnid: c for c, wnid in enumerate(wnids)}
    train = [(f, c) for wnid, c in label.items() for f in _visible_files(base, f"train/{wnid}/images")]
    rows = (line.split("\t") for line in base.joinpath("val/val_annotations.txt").read_text().splitlines())
    test = [(f"val/images/{row[0]}", label[row[1]]) for row in rows]
    names = tuple(words.get(wnid, wnid).split(",")[0] for wnid in wnids)
    return _decode(base, Listing(names, train, test), ask, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def _decode(base: Path, listing: Listing, ask: Ask, moments: Any) -> Dataset:
    """The images of a listing, reduced as asked, from the cache if it has just these files."""
    n = len(listing.classes) if ask.classes is None else ask.classes
    if n > len(listing.classes):
        raise ValueError(f"classes {n} is more than the {len(listing.classes)} in '{base}': give at most that")
    train, test = ([(f, c) for f, c in part if c < n] for part in (listing.train, listing.test))
    train = [train[i] for i in _draw_per_class([c for _, c in train], n, ask)]
    files = [f for f, _ in train + test]
    x = _cached(files, base, ask)
    y = torch.tensor([c for _, c in train + test])
    k = len(train)
    images = Images(x[:k], y[:k]), Images(x[k:], y[k:])
    return Dataset(base.name, *images, listing.classes[:n], *(moments or _moments(x[:k])))


def _cached(files: list[str], base: Path, ask: Ask) -> Tensor:
    """Decoded files as one uint8 tensor, kept under a key of their names, sizes and times of change."""
    if not ask.cache:
        return _read_images(base, files, ask)
    stats = [(f, (s := os.stat(f"{base}/{f}")).st_size, s.st_mtime_ns) for f in files]
    key = hashlib.sha256(json.dumps([ask.size, stats]).encode()).hexdigest()[:24]
    path = cache_folder() / f"{key}.pt"
    if path.exists():
        try:
            return torch.load(path, weights_only=True)["x"]
        except Exception as error:  # whatever is wrong with it, it can be made again
            warnings.warn(f"cache file {path.name} cannot be read ({type(error).__name__}); decoding again", stacklevel=2)
    x = _read_images(base, files, ask)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        torch.save({"x": x}, part)
        os.replace(part, path)
    except OSError as error:
        warnings.warn(f"decoded images are not cached: {error}; set FALW_CACHE to a folder to write to", stacklevel=2)
    return x


def cache_folder() -> Path:
    """$FALW_CACHE, else falw in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(os.environ.get("FALW_CACHE") or Path(home) / "falw")


def _read_images(base: Path, files: list[str], ask: Ask) -> Tensor:
    from tqdm.auto import tqdm

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside Python's lock
        decoded = pool.map(lambda f: _read_image(base / f, ask.size), files)
        arrays = list(tqdm(decoded, total=len(files), desc="decoding", unit="image", disable=not ask.progress))
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        raise ValueError(f"the images in '{base}' have {len(shapes)} different sizes; give size to bring them to one")
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def _read_image(path: Path, size: int | None) -> np.ndarray:
    """An image of any kind as RGB (h, w, 3) uint8: first frame, upright, transparent parts over black."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I") or image.mode == "F":  # 16 or 32 bits a pixel
                wide = np.asarray(image).astype(np.float64)
                scale = 255 / 65535 if wide.max() > 255 else 1
                image = Image.fromarray(np.round(wide * scale).clip(0, 255).astype(np.uint8))
            if "A" in image.getbands() or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
            image = image.convert("RGB")
            return np.asarray(image if size is None else image.resize((size, size), Image.Resampling.BOX))
    except Exception as error:  # Pillow raises many kinds; the reader needs the file
        raise ValueError(f"'{path}' cannot be read as an image ({error}); repair or remove it") from None


DATASETS: dict[str, Source] = {
    "textures": Source("generated, 30 classes in 6 superclasses, 16x16, 125 + 50 images a class", _load_textures),
    "digits": Source("scikit-learn's handwritten digits, 10 classes, 8x8", _load_digits),
    "cifar10": Source(
        "10 classes, 32x32; downloaded", _load_cifar("CIFAR10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    ),
    "cifar100": Source(
        "100 classes, 32x32; downloaded", _load_cifar("CIFAR100", (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))
    ),
    "tiny-imagenet": Source("200 classes, 64x64, from the official folder under --root", _load_tiny_imagenet),
    "folder": Source("folder:PATH, your own images in train/<class>/* and test/<class>/*", _load_folder),
}
