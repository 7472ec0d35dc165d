"""Data sets by name, from files of every kind, and the augmentation against a loop over images."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from falw import data as data_module
from falw.data import DATASETS, augment, load_dataset, textures


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("FALW_CACHE", str(folder))
    return folder


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
}
EXPECTED = {
    "palette": (250, 10, 20),
    "grey": (77, 77, 77),
    "cmyk": (255, 255, 255),
    "16 bit": (255, 255, 255),
    "alpha": (0, 0, 0),
    "animated": (0, 0, 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_image_becomes_rgb(folder, kind):
    name, make, tolerance = KINDS[kind]
    more = {"save_all": True, "append_images": [Image.new("P", (6, 4), 1)]} if kind == "animated" else {}
    make().save(folder / "train" / "blue" / f"zz{name}", **more)
    pixel = load(folder).train.x[3, :, 0, 0].tolist()
    assert pixel == pytest.approx(EXPECTED[kind], abs=tolerance)


def test_orientation_is_applied(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    write(folder / "train" / "blue" / "zz.jpg", (9, 9, 9), size=(4, 6), exif=exif)
    assert load(folder).train.x.shape == (7, 3, 4, 6)


def test_hidden_files_are_no_images(folder):
    for name in (".DS_Store", "Thumbs.db"):
        (folder / "train" / "blue" / name).write_bytes(b"x")
    (folder / "train" / ".cache").mkdir()
    assert len(load(folder).train.y) == 6


def count_decodes(monkeypatch):
    calls = []
    read = data_module._read_image
    monkeypatch.setattr(data_module, "_read_image", lambda path, size: calls.append(path.name) or read(path, size))
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


def test_a_broken_cache_file_is_made_again(folder, own_cache, monkeypatch):
    first = load(folder)
    (path,) = own_cache.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match="is damaged .*: set aside, decoding again"):
        assert torch.equal(load(folder).train.x, first.train.x)
    calls = count_decodes(monkeypatch)
    load(folder)
    assert not calls and sorted(p.name for p in own_cache.iterdir()) == [f"{path.stem}.bad", path.name]


def test_altered_bytes_in_a_cache_file_are_noticed(folder, own_cache):
    first = load(folder)
    (path,) = own_cache.iterdir()
    kept = torch.load(path, weights_only=True)
    kept["x"][0] += 1
    torch.save(kept, path)
    with pytest.warns(UserWarning, match="wrong checksum"):
        assert torch.equal(load(folder).train.x, first.train.x)


def test_an_unwritable_cache_is_one_warning(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FALW_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="images are not cached: .*FALW_CACHE"):
        assert len(load(folder).train.y) == 6


def test_cache_folder_follows_the_users(monkeypatch):
    monkeypatch.delenv("FALW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(data_module.cache_folder()) == "/somewhere/falw"


def cut_short(path):
    path.write_bytes(path.read_bytes()[:40])


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def move_up(folder):
    for path in (folder / "train").iterdir():
        os.rename(path, folder / path.name)


SPOILED = {
    "empty file": (lambda f: (f / "train/red/0.png").write_bytes(b""), "red/0.png' cannot be read .*repair or remove"),
    "no image": (lambda f: (f / "train/red/notes.txt").write_text("x"), "notes.txt' cannot be read as an image"),
    "cut short": (lambda f: cut_short(f / "test/red/0.png"), "test/red/0.png' cannot be read as an image"),
    "class without images": (lambda f: empty(f / "test/red"), "class 'red' has no test images in '.*'; add some"),
    "class only here": (lambda f: (f / "train/green").mkdir(), "train and test of '.*' differ in classes: green"),
    "other size": (lambda f: write(f / "train/red/big.png", (1, 1, 1), (9, 9)), "big.png' is 9x9, not .*; give size"),
    "no test": (lambda f: os.rename(f / "test", f / "held"), "no folder '.*test'; images lie in"),
    "no classes": (move_up, "train' is empty; it should hold one folder of images a class"),
}


@pytest.mark.parametrize("spoil, words", SPOILED.values(), ids=SPOILED)
def test_folder_errors(folder, spoil, words):
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        load(folder)


# Tiny-ImageNet's layout


def test_tiny_imagenet_layout(tmp_path):
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
    for root in (tmp_path, base):
        got = load_dataset("tiny-imagenet", root)
        assert got.classes == ("newt", "goldfish", "n3") and got.train.x.shape == (12, 3, 8, 8)
        assert got.test.y.tolist() == [2, 0, 1, 2, 0] and got.test.x[:, 0, 0, 0].tolist() == [160, 0, 80, 160, 0]
    two = load_dataset("tiny-imagenet", tmp_path, classes=2, per_class=3, size=4)
    assert two.train.x.shape == (6, 3, 4, 4) and two.test.y.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("imagenet", {}, "unknown data set 'imagenet'; choose one of: textures, digits, cifar10, .*folder:PATH"),
        ("folder", {}, "unknown data set 'folder'"),
        ("textures:x", {}, "unknown data set 'textures:x'"),
        ("folder:nowhere", {}, "no folder 'nowhere.train'; images lie in train/<class>"),
        ("tiny-imagenet", {}, "there is no 'wnids.txt'; give --root of the official"),
        ("textures", {"classes": 31}, "classes 31 is more than there are: give at most 30"),
        ("textures", {"size": 0}, "size 0 is too small"),
        ("digits", {"classes": 11}, "classes 11 is more than there are: give at most 10"),
        ("digits", {"per_class": 9999}, "per_class 9999 is more than some class has: give at most 131"),
        ("digits", {"per_class": -1}, "per_class -1 is too small"),
    ],
)
def test_errors(name, options, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        load_dataset(name, **options)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_goes_through_torchvision(name, monkeypatch, tmp_path):
    import torchvision

    asked = []

    class Fake:
        def __init__(self, root, train, download):
            asked.append((root, train, download))
            self.data = np.full((4, 32, 32, 3), 7 if train else 9, np.uint8)
            self.targets, self.classes = [0, 1, 0, 1], ["a", "b"]

    monkeypatch.setattr(torchvision.datasets, name.upper(), Fake)
    got = load_dataset(name, tmp_path, size=16)
    assert asked == [(tmp_path, True, True), (tmp_path, False, True)]
    assert got.train.x.shape == (4, 3, 16, 16) and got.train.x.unique().tolist() == [7] and got.test.x[0, 0, 0, 0] == 9


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


def test_every_row_says_what_it_is():
    assert all(row.summary for row in DATASETS.values())
