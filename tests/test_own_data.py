"""Folders as people have them: nothing of them is misread, mixed up or left out without a word."""

import json
import os
import shutil
import struct
import unicodedata
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from falw import folders
from falw.__main__ import main
from falw.config import Config
from falw.data import load_dataset
from falw.lab import run as runs
from falw.lab.cells import Cell, Setting, cells_of
from falw.lab.records import frame, identity_of, read_records
from falw.lab.requests import read_list
from falw.lab.run import load_setting, run
from falw.lab.tables import FORMATS, group_gaps, table
from falw.sources import copies


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("FALW_CACHE", str(folder))
    return folder


def picture(path, seed, size=4):
    """A small image that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    Image.fromarray(pixels).save(path)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def fill(base, *folders_, each=5, start=0):
    for k, folder in enumerate(folders_):
        for i in range(each):
            picture(base / folder / f"{i}.png", start + 100 * k + i)
    return base


@pytest.fixture
def pets(tmp_path):
    return fill(tmp_path / "pets", "train/cat", "train/dog", "test/cat", "test/dog")


def load(folder, **options):
    return load_dataset(f"folder:{folder}", **options)


def said(folder, **options):
    """What is loaded, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load(folder, **options)
    lines = [str(w.message) for w in caught]
    assert not any("\n" in line or "\r" in line for line in lines)
    return data, lines


def same(a, b):
    return torch.equal(a.x, b.x) and torch.equal(a.y, b.y)


# How folders are laid out


def test_a_plain_folder_says_nothing(pets):
    assert said(pets)[1] == []


def test_folders_inside_a_class_belong_to_it_in_the_order_of_their_paths(pets):
    before = load(pets)
    for name in ("b/deep/er/x.png", "a/y.png", "zz.png"):
        picture(pets / "train/cat" / name, sum(name.encode()))
    data, lines = said(pets)
    assert lines == [] and data.train.y.tolist() == [0] * 8 + [1] * 5 and same(data.test, before.test)
    expected = [f"train/cat/{name}" for name in ("0.png", "1.png", "2.png", "3.png", "4.png", "a/y.png")]
    assert list(data.files[:8]) == [*expected, "train/cat/b/deep/er/x.png", "train/cat/zz.png"]
    assert all(torch.equal(x, read(pets / file)) for x, file in zip(data.train.x, data.files, strict=True))


def read(path):
    return torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_val_is_the_test_set_where_there_is_no_test(pets, name):
    before = load(pets)
    os.rename(pets / "test", pets / name)
    data, (line,) = said(pets)
    assert f"{name}/ is taken to test on" in line and same(data.train, before.train) and same(data.test, before.test)
    shutil.copytree(pets / name, pets / "test")
    data, lines = said(pets)
    assert same(data.test, before.test) and any(f"left alone in '{pets}'" in line and name in line for line in lines)


def test_without_a_test_set_a_fifth_of_every_class_is_drawn_with_the_seed(tmp_path):
    base = fill(tmp_path / "pets", "cat", "dog", each=10)
    (one, (line,)), (again, _), (other, _) = (said(base, seed=s) for s in (0, 0, 1))
    assert "4 images, 20% of every class, are drawn with seed 0 to test on" in line
    assert one.classes == ("cat", "dog") and one.test.y.tolist() == [0, 0, 1, 1] and len(one.train.y) == 16
    assert same(one.test, again.test) and not torch.equal(one.test.x, other.test.x)
    assert not len(copies(one.test.x, one.train.x)) and one.files[0].startswith("cat/")
    train_only = tmp_path / "moved"
    train_only.mkdir()
    os.rename(base, train_only / "train")
    assert same(load(train_only).test, one.test)


def test_a_class_may_be_called_train(tmp_path):
    base = fill(tmp_path / "traffic", "bus", "train", each=5)
    assert load(base).classes == ("bus", "train")


def test_one_folder_in_a_folder_is_no_data_set(pets, tmp_path):
    outer = tmp_path / "outer"
    outer.mkdir()
    os.rename(pets, outer / "pets")
    with pytest.raises(
        ValueError, match="'.*outer' holds one folder, 'pets': give two classes or more, or that folder"
    ):
        load(outer)


def test_a_path_is_a_folder_and_its_home_is_expanded(pets, monkeypatch):
    monkeypatch.setenv("HOME", str(pets.parent))
    data = load(pets)
    for name, root in ((pets, None), (Path("~/pets"), None), (Path("pets"), "~"), ("folder:pets", Path("~"))):
        assert same(load_dataset(name, root).train, data.train)
    assert load_dataset(pets).name == f"folder:{pets}"


def test_the_cache_lies_in_the_home_it_names(pets, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in (("FALW_CACHE", "~/a"), ("XDG_CACHE_HOME", "~/b")):
        monkeypatch.delenv("FALW_CACHE", raising=False)
        monkeypatch.setenv(name, value)
        load(pets)
    assert len(list((tmp_path / "home/a").glob("*.pt"))) == len(list((tmp_path / "home/b/falw").glob("*.pt"))) == 1


@pytest.mark.parametrize(("train", "test"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_a_class_is_one_however_its_letters_are_composed(tmp_path, train, test):
    name = "Bär"
    for part, form in (("train", train), ("test", test)):
        fill(tmp_path / "zoo" / part, unicodedata.normalize(form, name), "Ziege", start=len(part) * 1000)
    data = load(tmp_path / "zoo")
    assert data.classes == (unicodedata.normalize("NFC", name), "Ziege") and data.train.y.bincount().tolist() == [5, 5]


# What is left alone, and what is not

LEFT = ["Icon\r", "Thumbs.db", ".DS_Store", "._0.png", "desktop.ini", "0.png:Zone.Identifier", "README", "notes.txt"]
LEFT += ["labels.csv", "meta.json", "list.xml", "0.png~", "@eaDir/0.png", "__MACOSX/0.png", "$RECYCLE.BIN/0.png"]


@pytest.mark.fault("files that systems and people leave among the images", "left alone, and one line says so")
@pytest.mark.parametrize("where", ["", "train", "train/cat"])
def test_what_is_no_image_is_left_alone_with_a_line(pets, where):
    before = load(pets)
    for name in LEFT:
        path = pets / where / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith(".png") or name.endswith("~"):
            shutil.copy(pets / "train/cat/0.png", path)
        else:
            path.write_text("0,1\n" if "." in name else "")
    data, lines = said(pets)
    assert same(data.train, before.train) and same(data.test, before.test) and data.files == before.files
    if where:
        (line,) = lines
        assert f"left alone in '{pets}'" in line and f"and {len(LEFT) - 3} more" in line


def test_an_image_without_an_images_name_is_one(pets):
    os.rename(pets / "train/cat/4.png", pets / "train/cat/4")
    data, lines = said(pets)
    assert lines == [] and data.files[4] == "train/cat/4"


FOREIGN = {
    "a.heic": (b"", "HEIC"),
    "a.HEIF": (b"", "HEIC"),
    "a.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
    "a": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
    "a.png": (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    "a.avif": (b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF"),
    "a.nef": (b"x", "raw camera"),
}


@pytest.mark.fault("HEIC, AVIF and other images that Pillow does not read", "named, with the way out")
def test_images_of_other_programs_are_named(pets):
    for name, (content, kind) in FOREIGN.items():
        path = pets / "train/cat" / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}' cannot be .*it is {kind}, which Pillow.*; convert it to PNG or"):
            load(pets)
        path.unlink()


# Copies


@pytest.mark.fault("test images are training images, too", "a warning with how many and the first pair")
def test_test_images_that_are_training_images_are_named(pets):
    shutil.copy(pets / "train/dog/3.png", pets / "test/cat/1.png")
    data, (line,) = said(pets)
    assert line.startswith("1 of 10 test images are training images, too: 'test/cat/1.png' is 'train/dog/3.png'")
    assert copies(data.test.x, data.train.x).tolist() == [1] and copies(data.train.x, data.test.x).tolist() == [8]


def test_copies_see_a_single_pixel_and_a_change_in_place():
    x = torch.randint(0, 255, (6, 3, 5, 5), generator=torch.Generator().manual_seed(0)).byte()
    y = x.clone()
    y[2, 1, 3, 4] += 1
    assert copies(x, y).tolist() == [0, 1, 3, 4, 5] and copies(x[:0], y).tolist() == []
    y[2] = x[2]
    assert copies(x, y).tolist() == list(range(6))
    assert copies(x.contiguous(memory_format=torch.channels_last), y).tolist() == list(range(6))


@pytest.mark.fault("an image changes, and its size and its time of writing do not", "it is read again")
def test_an_image_of_the_same_size_and_time_is_read_again(tmp_path):
    base = fill(tmp_path / "pets", "train/cat", "train/dog", "test/cat", "test/dog")
    path = base / "train/cat/0.png"
    paths = [path.with_suffix(".bmp"), base / "train/dog/0.bmp"]
    for p in paths:
        Image.new("RGB", (4, 4), "red").save(p)
    before, stat = load(base), paths[0].stat()
    Image.new("RGB", (4, 4), "blue").save(paths[0])
    os.utime(paths[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert paths[0].stat().st_size == stat.st_size and not torch.equal(load(base).train.x, before.train.x)


# Integers of more than 8 bits


def png(path, pixels, said_bits=None):
    """A PNG of 16 bits a channel, (h, w) or (h, w, c), written by hand: Pillow writes no sBIT and no such colours."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    said_ = chunk(b"sBIT", bytes([said_bits] * channels)) if said_bits else b""
    parts = chunk(b"IHDR", head), said_, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def tiff(path, pixels, dtype=np.uint16, **tags):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[int(tag[1:])] = value
    Image.fromarray(pixels.astype(dtype)).save(path, tiffinfo=info)


def packed_12_bits(path, pixels):
    """A TIFF that says 12 bits a sample, two pixels in three bytes, written by hand."""
    a, b = pixels.astype(np.uint32).reshape(-1, 2).T
    body = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], 1).astype(np.uint8).tobytes()
    entries = [(256, 4), (257, 4), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 4), (279, len(body))]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in entries)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + directory + bytes(4))


RAMP = np.arange(16).reshape(4, 4)  # of a picture from black to white
GREY = np.round(RAMP * 255 / 15)


def ramp(white, low=0):
    return low + RAMP * (white - low) // 15


def deep(folder, write):
    """The training images of a folder of which one file was written by `write`, all of them of one size."""
    base = fill(folder / "deep", "train/cat", "train/dog", "test/cat", "test/dog")
    write(base / "train/cat")
    data, lines = said(base)
    return {Path(file).name: x for file, x in zip(data.files, data.train.x)}, lines


SAID = {
    "12 bits in a 16-bit PNG that says so": lambda f: png(f / "a.png", ramp(4095), 12),
    "10 bits in a 16-bit PNG that says so": lambda f: png(f / "a.png", ramp(1023), 10),
    "12 bits, scaled up, in a PNG that says so": lambda f: png(f / "a.png", ramp(65535), 12),
    "a TIFF of 12 bits": lambda f: packed_12_bits(f / "a.tif", ramp(4095)),
    "a 16-bit TIFF that says what white is": lambda f: tiff(f / "a.tif", ramp(4095), t281=4095),
    "16 bits in a PNG": lambda f: png(f / "a.png", ramp(65535)),
    "16 bits in a TIFF": lambda f: tiff(f / "a.tif", ramp(65535)),
    "a PGM of 10 bits": lambda f: (f / "a.pgm").write_bytes(b"P5 4 4 1023\n" + ramp(1023).astype(">u2").tobytes()),
    "12 bits of colour that say so": lambda f: png(f / "a.png", np.stack([ramp(4095)] * 3, 2), 12),
}
GUESSED = {
    "12 bits in a 16-bit PNG": (lambda f: png(f / "a.png", ramp(4095)), 0, 4095),
    "10 bits in a 16-bit TIFF": (lambda f: tiff(f / "a.tif", ramp(1023)), 0, 1023),
    "a label in a 16-bit PNG": (lambda f: png(f / "a.png", ramp(15)), 0, 15),
    "20 bits in a 32-bit TIFF": (lambda f: tiff(f / "a.tif", ramp(2**20 - 1), np.int32), 0, 2**20 - 1),
    "numbers below 0": (lambda f: tiff(f / "a.tif", ramp(3000, -1000), np.int32), -1000, 3000),
    "12 bits of colour in a 16-bit PNG": (lambda f: png(f / "a.png", np.stack([ramp(4095)] * 3, 2)), 0, 4095),
}


@pytest.mark.parametrize("kind", SAID)
def test_deep_images_are_scaled_by_what_the_file_says(tmp_path, kind):
    images, lines = deep(tmp_path, SAID[kind])
    (image,) = (x for name, x in images.items() if name.startswith("a"))
    assert lines == [] and np.abs(image.numpy() - GREY).max() <= 1


@pytest.mark.fault("an image of 10 or 12 bits in a file of 16", "scaled by its range, with a warning that says how")
@pytest.mark.parametrize("kind", GUESSED)
def test_deep_images_that_say_nothing_are_scaled_by_their_range_with_a_warning(tmp_path, kind):
    write, low, high = GUESSED[kind]
    images, (line,) = deep(tmp_path, write)
    (image,) = (x for name, x in images.items() if name.startswith("a"))
    assert np.abs(image.numpy() - GREY).max() <= 1
    assert f"by their range, {low} to {high}, {low} is read as black and {high} as white" in line


def test_a_dark_image_stays_dark_beside_a_bright_one(tmp_path):
    def write(folder):
        png(folder / "a.png", ramp(4095))
        png(folder / "b.png", ramp(4095) // 8)

    images, lines = deep(tmp_path, write)
    assert len(lines) == 1 and np.abs(images["b.png"].numpy() - GREY / 8).max() <= 1


def test_alpha_of_a_deep_image_is_no_colour(tmp_path):
    for k, opaque in enumerate((4095, 65535)):
        colour = np.stack([ramp(4095)] * 3 + [np.full((4, 4), opaque)], 2)
        grey = colour[..., 2:]
        images, _ = deep(tmp_path / str(k), lambda f, c=colour, g=grey: (png(f / "a.png", c), png(f / "b.png", g)))
        assert all(np.abs(images[name].numpy() - GREY).max() <= 1 for name in ("a.png", "b.png"))


def test_a_folder_of_black_images_says_so(tmp_path):
    for folder in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (tmp_path / "dark" / folder).mkdir(parents=True)
        for k in range(2):
            Image.new("L", (4, 4), len(folder) + k).save(tmp_path / "dark" / folder / f"{k}.png")
    lines = said(tmp_path / "dark")[1]
    assert any("has a pixel brighter than 10 of 255" in line for line in lines)


# What lies behind transparent parts


def test_transparent_parts_are_black_or_white_as_asked(pets):
    Image.new("RGBA", (4, 4), (200, 100, 50, 0)).save(pets / "train/cat/a.png")
    for options, value in (({}, 0), ({"background": "black"}, 0), ({"background": "white"}, 255)):
        assert load(pets, **options).train.x[5].unique().tolist() == [value]
    with pytest.raises(ValueError, match="unknown background 'grey'; choose one of: black, white"):
        load(pets, background="grey")


def test_an_option_of_decoding_reaches_every_thread(pets, monkeypatch):
    seen = []
    read_ = folders._read_image
    monkeypatch.setattr(
        folders,
        "_read_image",
        lambda path, options, *rest: seen.append(options.background) or read_(path, options, *rest),
    )
    load(pets, background="white")
    assert set(seen) == {"white"}


# Records of images that have changed

SHORT = {"original_epochs": 1, "device": "cpu", "jobs": 1}


def test_a_record_and_the_original_say_of_which_images_they_are(pets, tmp_path):
    (original, *rest) = run(Setting(pets), [], tmp_path / "out", **SHORT)
    made_of = original["data"]
    assert all(record["data"] == made_of for record in rest)
    assert (made_of["classes"], made_of["training images"], made_of["shape of an image"]) == (2, 10, [3, 4, 4])
    (path,) = (tmp_path / "out").glob("original-*.pt")
    assert runs.load_tensors(path)["data"] == made_of


def repaint(pets):
    picture(pets / "train/dog/4.png", 4321)


def repaint_a_test_image(pets):
    picture(pets / "test/dog/4.png", 4321)


def swap_labels(pets):
    os.rename(pets / "train/dog/4.png", pets / "moved.png")
    os.rename(pets / "train/cat/4.png", pets / "train/dog/4.png")
    os.rename(pets / "moved.png", pets / "train/cat/4.png")


def add_a_class(pets):
    fill(pets, "train/eel", "test/eel", start=7000)


def take_one_away(pets):
    (pets / "train/cat/2.png").unlink()


CHANGES = {
    repaint: r"\(pixels of training images\)",
    repaint_a_test_image: r"\(pixels of test images\)",
    swap_labels: r"\(pixels of training images\)",
    add_a_class: "classes 2, now 3; training images 10, now 15; test images 10, now 15",
    take_one_away: "training images 10, now 9",
}


@pytest.mark.fault("the images or classes of a data set change after records were stored", "one line says what changed")
@pytest.mark.parametrize(("change", "kept"), [*((c, "records") for c in CHANGES), (repaint, "Original")])
def test_nothing_of_changed_images_is_mixed_with_what_is_stored(pets, tmp_path, change, kept):
    out = tmp_path / "out"
    run(Setting(pets), [], out, **SHORT)
    if kept == "Original":
        for path in (*out.glob("*.json"), *out.glob("*.npz")):
            path.unlink()
    change(pets)
    before = sorted(out.iterdir())
    for setting in (Setting(pets), Setting(pets, gamma=1.0)):
        with pytest.raises(ValueError, match=f"^folder:.*pets has changed since .*{CHANGES[change]}.*another --out"):
            run(setting, "ft", out, **SHORT, epochs=1)
    assert sorted(out.iterdir()) == before
    assert len(run(Setting(pets), [], tmp_path / "other", **SHORT)) == 3


@pytest.mark.fault("images change after seed 0 was run, and seed 1 is run", "refused: a table would average over both")
def test_seeds_of_different_images_do_not_share_a_folder(pets, tmp_path):
    run(Setting(pets), [], tmp_path / "out", **SHORT)
    repaint(pets)
    with pytest.raises(ValueError, match="has changed since records were stored"):
        run(Setting(pets, seed=1), [], tmp_path / "out", **SHORT)
    run(Setting(pets, seed=1), [], tmp_path / "other", **SHORT)
    for path in (tmp_path / "other").glob("*.json"):
        shutil.copy(path, tmp_path / "out")
    with pytest.raises(ValueError, match=r"\(pixels of training images\); give another --out"):
        read_records(tmp_path / "out")


def test_images_that_change_within_a_process_are_loaded_again(pets):
    before = load_setting(Setting(pets))[0]
    assert load_setting(Setting(pets))[0] is before
    repaint(pets)
    assert not torch.equal(load_setting(Setting(pets))[0].train.x, before.train.x)


def test_a_checkpoint_of_other_images_is_not_used(pets, tmp_path):
    def of():
        with runs._checkpoint(tmp_path / "x.json", torch.device("cpu"), identity_of(load(pets))) as checkpoint:
            return checkpoint.of

    before = of()
    assert of() == before
    repaint(pets)
    assert of() != before


def test_records_without_a_digest_are_read_and_said_to_be(pets, tmp_path):
    run(Setting(pets), [], tmp_path, **SHORT)
    for path in tmp_path.glob("*.json"):
        record = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("data", "checksum")}
        path.write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="3 of 3 records that were in .* do not say of which images they are"):
        records = run(Setting(pets), [], tmp_path, **SHORT)
    assert [record["data"] for record in records] == [None] * 3 and len(table(frame(records))) == 3


# Images or classes that somebody asks to have forgotten


def test_keys_of_stored_records_are_what_they_were():
    """Fields that came later are no part of a key unless they are set."""
    paths = sorted((Path(__file__).parents[1] / "results").rglob("*.json"))
    records = [record for path in paths if "key" in (record := json.loads(path.read_text()))]
    stored = [record for record in records if "row" not in record][::25]  # a study's own row is known where it is made
    for record in stored:
        cell = Cell(
            Setting(**record["setting"]), record["method"], Config(**record["config"]), Config(**record["recipe"])
        )
        assert cell.key == record["key"] and json.loads(json.dumps(cell.setting.description)) == record["setting"]
    assert len(stored) > 20


LISTS = {
    "indices": "1\n7\n",
    "files": "train/cat/1.png\ntrain/dog/2.png",
    "files without the part": "cat/1.png\r\ndog/2.png\r\n",
    "in another order, with empty lines and a mark": "\ufeffdog/2.png\n\n  ./train/cat/1.png  \n",
    "files from where we are": "pets/train/cat/1.png\npets/train/dog/2.png\n",
    "files of both kinds": "1\ntrain/dog/2.png\n",
}


@pytest.mark.parametrize("kind", [*LISTS, "whole paths"])
def test_a_list_of_images_is_the_forget_set(pets, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "list.txt"
    path.write_text(LISTS.get(kind, f"{pets}/train/cat/1.png\n{pets}/train/dog/2.png\n"), encoding="utf-8")
    split = load_setting(Setting(pets, forget=read_list(path, f"folder:{pets}"), val=0.2))[1]
    assert split.forget.tolist() == [1, 7] and split.forget_counts.tolist() == [1, 1]
    assert len(split.val) == 2 and len(split.retain) == 6


@pytest.mark.fault(
    "a list of images to forget that is none, or names what is not there", "one line, and nothing is run"
)
def test_what_is_no_list_of_images_is_refused(pets, tmp_path):
    path = tmp_path / "list.txt"
    for text, words in (
        ("", "list.txt' names no images"),
        ("\n\n", "list.txt' names no images"),
        ("train/cat/99.png", "'train/cat/99.png' is none of the 10 training images .*called like 'train/cat/0.png'"),
        ("test/cat/1.png", "'test/cat/1.png' is none of the 10 training images .is it a test image"),
        ("10", r"indices \[10\] of forget are outside 0..9"),
        ("-1", r"indices \[-1\] of forget are outside 0..9"),
        ("1\ncat/1.png", r"indices \[1\] of forget occur twice"),
        (b"\xff\xfe\0", "list.txt' is no text"),
    ):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValueError, match=words):
            load_setting(Setting(pets, forget=read_list(path, f"folder:{pets}")))
    for name, words in (("none.txt", "no file '.*none.txt'"), (".", "is no text")):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            read_list(tmp_path / name, "textures")


def test_one_request_is_one_cell_in_whatever_order_it_comes():
    one, other = (Setting(forget=forget) for forget in ([3, 1, "b/x", "a"], (torch.tensor(1), Path("a"), "b/x", 3)))
    assert one == other and one.forget == (1, 3, "a", "b/x")
    assert Setting(forget_classes="B1").forget_classes == ("B1",)
    assert Setting(forget_classes=[unicodedata.normalize("NFD", "Bär")]).forget_classes == ("Bär",)


def test_the_original_is_shared_by_requests_for_classes_and_not_by_lists():
    plain, classes, listed = (
        cells_of(Setting(**asked), [])[0] for asked in ({}, {"forget_classes": "B1"}, {"forget": [1]})
    )
    assert plain.parent == classes.parent != listed.parent


def test_a_setting_after_a_histogram_splits_by_it_and_says_so():
    small = {"classes": 3, "per_class": 20, "size": 8}
    setting = Setting(ratio=0.25, histogram=np.array([1, 0, 5]), **small)
    split = load_setting(setting)[1]
    assert split.forget_counts.tolist() == [2, 0, 10] and split.rank.tolist() == [1, 2, 0]  # a quarter of 48 as 1 : 5
    assert setting.description["histogram"] == (1, 0, 5) and "gamma" not in setting.description
    drawn = load_setting(Setting(**small))[1]
    assert torch.equal(split.val, drawn.val)  # so that the Original is the same


def test_a_class_is_forgotten_but_for_the_images_that_were_held_out():
    small = {"classes": 3, "per_class": 20, "size": 8}
    data, split = load_setting(Setting(forget_classes=("A2", "A3"), **small))
    drawn = load_setting(Setting(**small))[1]
    assert torch.equal(split.val, drawn.val) and split.forget_counts.tolist() == [0, 16, 16]
    assert data.train.y[split.retain].unique().tolist() == [0]


@pytest.mark.fault("two ways to say what to forget", "refused in one line")
def test_a_request_is_said_in_one_way():
    for asked, words in (
        ({"forget": [1], "forget_classes": ["A1"]}, "two requests"),
        ({"forget": [1], "ratio": 0.2}, "ratio 0.2 changes nothing: the images to forget are listed"),
        ({"forget_classes": ["A1"], "gamma": 1.0}, "gamma 1.0 changes nothing: the classes to forget are listed"),
        ({"histogram": [2, 1], "gamma": 1.0}, "gamma 1.0 changes nothing: the histogram says how the counts fall"),
        ({"histogram": [2, 1], "forget": [1]}, "^forget and histogram are two requests: give one of them$"),
        ({"forget": []}, "forget lists nothing"),
        ({"forget_classes": ()}, "forget_classes lists nothing"),
    ):
        with pytest.raises(ValueError, match=words):
            Setting(**asked)
    with pytest.raises(ValueError, match="unknown class 'A9' of textures; choose from: A1, A2"):
        load_setting(Setting(forget_classes=["A9"]))


def command(capsys, *args):
    status = main([*map(str, args)])
    out, err = capsys.readouterr()
    return status, out, [line for line in (part.rsplit("\r", 1)[-1].strip() for part in err.split("\n")) if line]


REQUESTED = (["--forget=~/list.txt"], ["--forget-classes", "dog"], ["--histogram", "0,1"])


def test_requests_go_from_the_command_line_to_the_table(pets, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "list.txt").write_text("1\n7\n")
    how = ["--device", "cpu", "--jobs", 1, "--original-epochs", 1, "--methods", "ft", "--epochs", 1, "--out=~/out"]
    base = ["run", "--dataset", "folder:pets", "--root=~", *how]
    tables = [command(capsys, *base, *asked)[:2] for asked in REQUESTED]
    assert [status for status, _ in tables] == [0, 0, 0] and all("| ft " in text for _, text in tables)
    assert "tiny, forget 2 listed images (" in tables[0][1] and "tiny, forget classes dog, " in tables[1][1]
    assert ", tiny, histogram 0:1, " in tables[2][1] and "ratio" not in tables[0][1] and not Path("~").exists()
    records = read_records("~/out")
    assert len(records) == 12 and {tuple(r["forget_counts"]) for r in records} == {(1, 1), (0, 5), (0, 3)}
    for form in FORMATS.values():
        assert form(table(frame(records)))
    assert group_gaps(frame(records)).empty
    assert command(capsys, "table", "~/out")[0] == 0


def test_what_the_command_line_cannot_do_is_one_line(pets, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("1\n")
    base = ["run", "--device", "cpu", "--jobs", 1, "--methods", "ft", "--out", tmp_path / "out"]
    asked = ["--forget", tmp_path / "list.txt"]
    for options, words in (
        ([*asked, "--ratio", 0.3], "--forget and --ratio both say what to forget: give one of them"),
        ([*asked, "--gamma", 0.5], "--forget and --gamma both"),
        ([*asked, "--forget-classes", "A1"], "--forget and --forget-classes both"),
        ([*asked, "--histogram", "2,1"], "--forget and --histogram both"),
        (["--histogram", "2,1", "--gamma", 0.5], "--histogram and --gamma both say how the counts fall"),
        (["--histogram", "2,x"], "histogram '2,x' is no list of counts like 565,358,275"),
        (["--histogram", "2,-1"], "histogram [2, -1]: give counts from 0 up, one a class"),
        (["--forget-classes", ","], "forget_classes lists nothing"),
        (["--forget-classes", "A1,nosuch"], "unknown class 'nosuch'"),
        (["--forget", tmp_path / "nosuch"], "no file"),
        (["--coefficient", 2], "coefficient 2.0 changes nothing of ft"),
        (["--background", "white"], "background 'white' changes nothing of textures"),
        (["--dataset", f"folder:{pets}", "--background", "grey"], "unknown background 'grey'"),
        (["--dataset", f"folder:{pets}", "--data-seed", 1], "data seed 1 changes nothing"),
    ):
        status, out, lines = command(capsys, *base, *options)
        assert (status, out, len(lines)) == (2, "", 1) and words in lines[0], lines
    assert not (tmp_path / "out").exists()


def cells_that_would_run(monkeypatch):
    ran = []

    def stop(cells, *args, **how):
        ran.extend(cells)
        raise ValueError("enough")

    monkeypatch.setattr(runs, "run_cells", stop)
    return ran


def test_the_coefficient_reaches_the_methods_that_have_one(tmp_path, monkeypatch, capsys):
    ran = cells_that_would_run(monkeypatch)
    command(capsys, "run", "--methods", "l1-sparse,ft", "--coefficient", 0.25, "--out", tmp_path)
    assert [cell.config.coefficient for cell in ran[3:]] == [0.25, 0.25]


def test_a_data_seed_draws_the_test_set_of_a_folder_without_one(tmp_path, monkeypatch, capsys):
    base, ran = fill(tmp_path / "pets", "cat", "dog"), cells_that_would_run(monkeypatch)
    assert command(capsys, "run", "--dataset", f"folder:{base}", "--data-seed", 3, "--methods", "ft", "--out", tmp_path)
    assert ran[0].setting.data_seed == 3


@pytest.mark.fault("a copy of a forgotten image is retained", "a warning that names both files")
def test_a_copy_of_a_forgotten_image_among_the_retained_is_named(pets):
    shutil.copy(pets / "train/cat/1.png", pets / "train/dog/3.png")
    with pytest.warns(
        UserWarning, match="1 of 2 images to forget stay .* as copies .train/cat/1.png is train/dog/3.png"
    ):
        load_setting(Setting(pets, forget=[1, 2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_setting(Setting(pets, forget=[1, 8]))  # both


def test_what_is_odd_about_a_folder_is_said_once_in_a_run(pets, tmp_path, capsys):
    (pets / "train/cat/README").write_text("cats")
    for name in ("cat/c.png", "dog/c.png"):  # one of them may be held out
        shutil.copy(pets / "train/cat/1.png", pets / "train" / name)
    (tmp_path / "list.txt").write_text("cat/1.png")
    args = ["--original-epochs", 1, "--device", "cpu", "--jobs", 1, "--methods", "ft", "--epochs", 1]
    args += ["--forget", tmp_path / "list.txt", "--out", tmp_path / "out"]
    lines = command(capsys, "run", "--dataset", f"folder:{pets}", *args)[2]
    assert [sum(word in line for line in lines) for word in ("left alone", "as copies")] == [1, 1]
