"""The command line: what it prints and stores, and that whatever is asked in vain is answered in one line."""

import csv
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from falw.__main__ import main
from falw.config import Config
from falw.data import DATASETS
from falw.lab import cells as lab_cells
from falw.lab import gate, grids, tables
from falw.lab import records as lab_records
from falw.lab import run as runs
from falw.lab import search as lab_search
from falw.lab.cells import TUNED
from falw.lab.records import read_records
from falw.lab.tables import COLUMNS
from falw.methods import ALIASES, METHODS, VARIANTS
from falw.metrics import Scores, gap

SMALL = ["--classes", "4", "--per-class", "12", "--size", "8", "--jobs", "1", "--device", "cpu"]
QUICK = [*SMALL, "--original-epochs", "1", "--epochs", "1", "--methods", "ft,rl"]
ROWS = ["retrain", "noise floor", "original", "ft", "rl"]


def in_a_process(*args):
    command = [sys.executable, "-m", "falw", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"})


@pytest.fixture
def falw(capsys):
    """A command in this process: exit status, stdout, stderr."""

    def command(*args):
        try:
            status = main([*map(str, args)])
        except SystemExit as stop:
            status = stop.code
        return (status, *capsys.readouterr())

    return command


def seen(stderr):
    """The lines of stderr as a terminal shows them: what a carriage return goes back over is gone."""
    lines = [line.rsplit("\r", 1)[-1].strip() for line in stderr.split("\n")]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder filled by a real process, which no test may change, and that process."""
    folder = tmp_path_factory.mktemp("cli") / "made" / "on the way"
    done = in_a_process("run", *QUICK, "--seeds", 2, "--out", folder)
    before = sorted(folder.iterdir())
    yield folder, done
    assert sorted(folder.iterdir()) == before


@pytest.fixture
def nothing_is_computed(monkeypatch):
    def refuse(*args):
        pytest.fail("something is computed")

    for name in ("unlearn", "train_original", "predict"):
        monkeypatch.setattr(runs, name, refuse)


@pytest.fixture
def settings(monkeypatch, finished):
    """The settings that `run` is asked for, instead of running them."""
    asked = []

    def run(settings, *args, **how):
        asked.extend(settings)
        return read_records(finished[0])

    monkeypatch.setattr(runs, "run", run)
    return asked


# Running, and tables of what was run


def cells_of(line):
    """The texts of a line of a table in Markdown."""
    return [text.strip() for text in line.strip("|").split("|")]


def test_run_prints_a_table_and_stores_its_records(finished):
    folder, done = finished
    assert done.returncode == 0 and "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    assert (
        lines[0]
        == "**textures, tiny, classes 4, gamma 0.5, original epochs 1, per class 12, ratio 0.3, size 8** (2 seeds)"
    )
    assert cells_of(lines[2]) == ["method", *COLUMNS.values(), "lr"]
    assert [cells_of(line)[0] for line in lines[4:]] == ROWS
    keys = {path.stem for path in folder.glob("*.json")} - {"distances"}
    arrays = {path.stem for path in folder.glob("*.npz") if not path.stem.startswith("ensemble-")}
    assert len(keys) == 2 * len(ROWS) and arrays == keys


def test_a_second_run_computes_nothing_and_prints_the_same(finished, falw, nothing_is_computed):
    status, out, _ = falw("run", *QUICK, "--seeds", 2, "--out", finished[0])
    assert (status, out) == (0, finished[1].stdout)


def test_a_table_of_the_folder_is_the_same(finished, falw, nothing_is_computed):
    assert falw("table", finished[0]) == (0, finished[1].stdout, "")
    assert falw("table", finished[0], "--format", "md") == (0, finished[1].stdout, "")


def test_json_holds_the_means_of_the_records(finished, falw):
    status, out, _ = falw("table", finished[0], "--format", "json")
    rows = json.loads(out)
    assert status == 0 and [row["method"] for row in rows] == ROWS
    records = read_records(finished[0])
    retrain = {r["setting"]["seed"]: r for r in records if r["method"] == "retrain" and r["config"]["seed"] < 1000}
    for row in rows[3:]:
        own = [r for r in records if r["method"] == row["method"]]
        for k in Scores._fields:
            values = [r["scores"][k] for r in own]
            assert row[f"{k}_mean"] == pytest.approx(statistics.fmean(values))
            assert row[f"{k}_sd"] == pytest.approx(statistics.stdev(values))
        gaps = [gap(*(Scores(**x["scores"]) for x in (r, retrain[r["setting"]["seed"]]))) for r in own]
        spread = statistics.fmean(gaps), statistics.stdev(gaps)
        assert (row["gap_mean"], row["gap_sd"]) == pytest.approx(spread)
        assert row["seconds_mean"] == pytest.approx(statistics.fmean(r["seconds"] for r in own))


def test_csv_and_markdown_print_the_numbers_of_json(finished, falw):
    rows = json.loads(falw("table", finished[0], "--format", "json")[1])
    flat = list(csv.reader(io.StringIO(falw("table", finished[0], "--format", "csv")[1])))
    assert flat[0][0] == "method" and [cells[0] for cells in flat[1:]] == ROWS
    texts = [cells_of(line) for line in finished[1].stdout.splitlines()[4:]]
    for row, cells, text in zip(rows, flat[1:], texts, strict=True):
        named = dict(zip(flat[0], cells, strict=True))
        assert list(named) == list(row) and [named[k] == "" for k in row] == [row[k] is None for k in row]
        for column, shown in zip(COLUMNS, text[1:-1], strict=True):
            parts = [k for k in row if k.startswith(f"{column}_") and row[k] is not None]
            assert [float(named[k]) for k in parts] == pytest.approx([row[k] for k in parts])
            assert float(shown.split()[0]) == pytest.approx(row[f"{column}_mean"], abs=0.05)


def test_run_takes_the_format_too(finished, falw, nothing_is_computed):
    printed = falw("run", *QUICK, "--seeds", 2, "--out", finished[0], "--format", "csv")[1]
    assert printed == falw("table", finished[0], "--format", "csv")[1]


def test_methods_and_data_sets_are_listed(falw):
    status, out, err = falw("methods")
    assert (status, err) == (0, "")
    first = [line.split()[0] for line in out.splitlines() if line and not line.startswith("variants")]
    assert first == [*METHODS, *VARIANTS] and all(alias in out for alias in ALIASES)
    status, out, err = falw("datasets")
    assert (status, err) == (0, "") and [line.split()[0] for line in out.splitlines()][: len(DATASETS)] == [*DATASETS]


def test_every_command_has_help(falw):
    for command in ([], ["run"], ["table"], ["tune"], ["methods"], ["datasets"]):
        status, out, err = falw(*command, "--help")
        assert (status, err) == (0, "") and out.startswith(" ".join(["usage: python -m falw", *command]))


# Seeds


def test_seeds_are_how_many_or_which(settings, falw):
    for given, seeds in (("3", [0, 1, 2]), ("1", [0]), ("4,5,6", [4, 5, 6]), ("7,", [7])):
        settings.clear()
        assert falw("run", "--seeds", given, "--out", "unused")[0] == 0
        assert [s.seed for s in settings] == seeds and {s.data_seed for s in settings} == {0}


def test_the_seed_of_the_data_is_one_or_that_of_each_run(settings, falw):
    for given, expected in (("same", [4, 5]), ("7", [7, 7]), ("0", [0, 0])):
        settings.clear()
        assert falw("run", "--seeds", "4,5", "--data-seed", given, "--out", "unused")[0] == 0
        assert [s.data_seed for s in settings] == expected


def test_options_reach_the_setting(settings, falw):
    options = {"ratio": 0.2, "gamma": 1.5, "cap": "water-filling", "size": 8, "classes": 7, "per_class": 9}
    given = [text for name, value in options.items() for text in ("--" + name.replace("_", "-"), value)]
    falw("run", *given, "--dataset", "digits", "--model", "vgg16", "--split-mismatch", "--out", "unused")
    expected = lab_cells.Setting(dataset="digits", model="vgg16", split_mismatch=True, **options)
    assert settings == [expected]


# Curves


def test_a_curve_runs_and_prints_its_table(falw, tmp_path):
    asked = ["curve", *QUICK, "--seeds", 2, "--retrains", 3, "--rates", 3, "--lr", "0.02,0.08", "--out", tmp_path]
    status, out, _ = falw(*asked)
    ran = [(r["setting"]["seed"], r["method"], r["config"]["lr"]) for r in read_records(tmp_path)]
    assert status == 0 and sum(method == "retrain" for _, method, _ in ran) == 2 * 3
    for seed, name in ((0, "ft"), (1, "rl")):
        rates = {lr for s, method, lr in ran if (s, method) == (seed, name)}
        assert {0.02, 0.08} <= rates and len(rates) in (2, 3)  # the third may be one of them
    rows = [cells_of(line) for line in out.splitlines() if line.startswith("|")]
    assert [row[0].rstrip("*") for row in rows] == ["method", rows[1][0], "ft", "rl", "one Retrain, sd"]
    assert "RA: higher is better" in out


@pytest.mark.fault("rates that are none", "refused in one line; no folder is made")
@pytest.mark.parametrize("given, words", {"fast": "'fast' are no list like 0.01,0.04", "0,1": "above 0"}.items())
def test_rates_that_are_none_are_refused(falw, tmp_path, given, words):
    refused(falw("curve", *QUICK, "--lr", given, "--out", tmp_path / "out"), words)
    assert not (tmp_path / "out").exists()


# Tuning


@pytest.fixture
def small_grid(monkeypatch):
    monkeypatch.setitem(METHODS, "ft", replace(METHODS["ft"], search=({"lr": 0.01}, {"lr": 0.05}, {"lr": 0.2})))


def test_tune_stores_its_search_and_changes_nothing_unless_asked(small_grid, falw, tmp_path, monkeypatch):
    monkeypatch.delenv("FALW_TUNED")
    status, out, _ = falw("tune", "--methods", "ft", *SMALL, "--out", tmp_path / "tune")
    search = json.loads((tmp_path / "tune" / "search.json").read_text())
    assert status == 0 and [t["changes"]["lr"] for t in search["trials"]][:3] == [0.01, 0.05, 0.2]
    assert out == lab_search.choices_to_markdown(search) + "\n" and [p.name for p in tmp_path.iterdir()] == ["tune"]
    assert (search["setting"]["seed"], search["setting"]["data_seed"]) == (100, 100)

    before = TUNED.read_bytes()
    status, out, _ = falw("tune", "--methods", "ft", *SMALL, "--out", tmp_path / "tune", "--adopt")
    chosen = json.loads((tmp_path / "falw-tuned.json").read_text())["chosen"]
    assert status == 0 and chosen == {"textures/tiny": {"ft": search["chosen"]["ft"]}}
    assert TUNED.read_bytes() == before

    asked = []
    monkeypatch.setattr(runs, "run_cells", lambda cells, out, **how: asked.extend(cells) or [])
    monkeypatch.setattr(grids, "report", lambda *args: "")
    monkeypatch.setattr(lab_records, "frame", lambda records, *beside: records)
    monkeypatch.setattr(tables, "table", lambda records, *asked: records)
    monkeypatch.setattr(tables, "FORMATS", {"md": str})
    monkeypatch.setattr(gate, "below_gate", lambda records: [])
    for command in (["run", "--methods", "ft"], ["bench", "table4"]):
        asked.clear()
        assert falw(*command, "--out", tmp_path / "records")[0] == 0
        assert {cell.config.lr for cell in asked if cell.method == "ft"} == {search["chosen"]["ft"]["lr"]}


def test_tune_takes_several_seeds(falw, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(lab_search, "tune", lambda *args, seeds, **how: asked.append(seeds) or {"trials": []})
    for given in ([], ["--seed", 7], ["--seeds", 3], ["--seeds", 2, "--seed", 7], ["--seeds", "4,9"]):
        assert falw("tune", "--methods", "ft", *given, "--out", tmp_path)[0] == 0
    assert asked == [[100], [7], [100, 101, 102], [7, 8], [4, 9]]
    both = falw("tune", "--methods", "ft", "--seeds", "4,9", "--seed", 7, "--out", tmp_path)
    refused(both, "seed 7 and seeds '4,9' both say on what to tune: give one of them")


def test_a_table_leaves_the_search_beside_the_records_alone(small_grid, falw, tmp_path):
    falw("tune", "--methods", "ft", *SMALL, "--out", tmp_path)
    status, _, err = falw("table", tmp_path)
    assert (status, err) == (0, "") and (tmp_path / "search.json").exists()


# What cannot be done: one line that names the value, what is allowed and the way out


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Folders of images, one of them with a file that is none; a folder of nothing, and a file."""
    monkeypatch.setenv("FALW_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("ape", "bee"):
            (tmp_path / "fine" / part / name).mkdir(parents=True)
            for k in range(10):
                picture = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
                picture.save(tmp_path / "fine" / part / name / f"{k}.png")
    shutil.copytree(tmp_path / "fine", tmp_path / "corrupt")
    (tmp_path / "corrupt/train/bee/3.png").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    return tmp_path


def refused(answer, *words):
    """An answer of one line on stderr with all the words in it, exit status 2 and nothing on stdout."""
    status, out, err = answer
    assert (status, out) == (2, "") and len(seen(err)) == 1 and err.endswith("\n"), (status, out, err)
    assert err.rsplit("\r")[-1].startswith("falw: ") and all(str(word) in err for word in words), err


# Of what the modules refuse a few go through the command line; the others are theirs to test.
BAD = {
    "run --dataset nosuch": ("'nosuch'", "choose one of: textures, digits, mnist, cifar10", "folder:PATH"),
    "tune --dataset nosuch": ("'nosuch'", "choose one of: textures"),
    "run --methods ft,nosuch": ("'nosuch'", "choose one of: retrain, ft, rl", *METHODS, *VARIANTS),
    "run --ratio some": ("--ratio", "'some'", "--help"),
    "run --ratio 0.01": ("ratio 0.01 of 40 images", "forgets nothing: raise ratio"),
    "run --classes 1": ("1 class", "at least 2 classes"),
    "run --model vgg16": ("8x8", "too small for vgg16", "larger size"),
    "run --size 1": ("size 1", "from 2 up"),
    "run --nosuch 1": ("--nosuch", "--help"),
    "run --format nosuch": ("'nosuch'", "choose one of: md, csv, json"),
    **{f"run --seeds {given}": (f"seeds '{given}'", "a list like 4,5,6") for given in ("0", "-1", "x", "1,-2", ",")},
    **{f"run --data-seed {given}": (f"data seed '{given}'", "nor `same`") for given in ("x", "-1", "1,2")},
}


@pytest.mark.fault(
    "an option of the command line that does not exist or fit",
    "one line with the value, the choice and the way out, status 2; no folder is made",
)
def test_a_bad_option_is_refused_before_there_is_a_folder(falw, tmp_path):
    for command, words in BAD.items():
        name, *options = command.split()
        refused(falw(name, *SMALL, *options, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.fault(
    "a folder of images that is not as it should be, from the command line",
    "one line, status 2; no folder is made",
)
def test_a_bad_folder_of_images_is_refused_before_there_is_a_folder(falw, images, monkeypatch):
    options = ["--jobs", "1", "--device", "cpu", "--out", images / "out"]
    words = (f"'{images / 'corrupt'}/train/bee/3.png' cannot be read as an image", "repair or remove it")
    refused(falw("run", "--dataset", f"folder:{images / 'corrupt'}", *options), *words)
    monkeypatch.chdir(images)
    refused(
        falw("tune", "--dataset", "folder:missing", "--root", images, *options), f"no folder '{images}/missing/train'"
    )
    assert not (images / "out").exists()


def test_a_good_folder_of_images_is_run(falw, images):
    options = ["--original-epochs", 1, "--epochs", 1, "--jobs", 1, "--device", "cpu", "--methods", "ft"]
    status, out, _ = falw("run", "--dataset", f"folder:{images / 'fine'}", *options, "--out", images / "out")
    assert status == 0 and "| ft  " in out


@pytest.mark.fault("no folder for the records is named, or it is a file", "one line, status 2; the file is left alone")
def test_records_need_a_folder_that_is_named(falw, images):
    refused(falw("tune", *SMALL), "required: --out", "python -m falw tune --help")
    words = (f"'{images / 'file'}' is a file", "give another --out")
    refused(falw("run", *SMALL, "--methods", "ft", "--out", images / "file"), *words)
    assert (images / "file").read_bytes() == b""


@pytest.mark.fault(
    "a table of a folder without records",
    "one line that says how to make some, status 2",
)
def test_a_table_of_nothing_is_refused(falw, images):
    for where in ("missing", "empty", "file"):
        words = (f"no records in '{images / where}'", "make some: python -m falw run --out")
        refused(falw("table", images / where), *words)


@pytest.mark.fault(
    "an option of the command line that does not exist or fit",
    "one line with the value, the choice and the way out, status 2; no folder is made",
)
def test_a_table_in_an_unknown_format_is_refused(falw, finished):
    refused(falw("table", finished[0], "--format", "nosuch"), "'nosuch'", "choose one of: md, csv, json")


@pytest.mark.fault(
    "an option of the command line that does not exist or fit",
    "one line with the value, the choice and the way out, status 2; no folder is made",
)
def test_no_command_or_an_unknown_one_is_refused(falw):
    for given, words in (([], ["COMMAND"]), (["nosuch"], ["'nosuch'", "run", "table", "tune"])):
        refused(falw(*given), *words, "python -m falw --help")


@pytest.mark.fault(
    "an option of the command line that does not exist or fit",
    "one line with the value, the choice and the way out, status 2; no folder is made",
)
def test_a_refusal_in_a_process_of_its_own(tmp_path):
    done = in_a_process("run", "--dataset", "nosuch", "--out", tmp_path / "out")
    refused((done.returncode, done.stdout, done.stderr), "'nosuch'", "choose one of: textures")
    assert not (tmp_path / "out").exists()


# What ends on the way


@pytest.mark.fault("a method diverges in a run", "the table counts it and gives no mean of it")
def test_what_diverges_is_counted_in_the_table(falw, tmp_path):
    status, out, err = falw("run", *QUICK[:-1], "ft", "--lr", "1e30", "--out", tmp_path)
    assert status == 0 and ["ft (1 diverged)", *["–"] * 7] in [cells_of(line)[:-2] for line in out.splitlines()]
    line, about_the_set = said(err)
    assert "original epochs 1, per class 12, size 8: RA" in about_the_set
    assert re.fullmatch(r"falw: ft, gamma 0.5, seed 0: .* it has diverged; lower the learning rate", line)


def said(err):
    """What stderr says beside the bar."""
    return [line for line in seen(err) if "gone," not in line]


@pytest.mark.fault(
    "Ctrl-C",
    "one line, status 130; the same command goes on",
)
def test_an_interrupt_is_one_line_and_the_same_command_goes_on(falw, tmp_path, monkeypatch):
    def stop(*args, **how):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(runs, "unlearn", stop)
        status, out, err = falw("run", *QUICK, "--out", tmp_path)
    assert (status, out, said(err)) == (130, "", ["falw: stopped; the same command goes on from here"])
    assert len(read_records(tmp_path)) == 1
    status, out, _ = falw("run", *QUICK, "--out", tmp_path)
    assert status == 0 and len(read_records(tmp_path)) == len(ROWS)


@pytest.mark.fault(
    "a write fails for any other reason",
    "one line, status 1",
)
def test_what_fails_on_the_way_is_one_line_and_status_1(falw, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(runs, "write_atomic", fail)
    status, out, err = falw("run", *QUICK, "--out", tmp_path)
    assert (status, out, said(err)) == (1, "", ["falw: disk full"])


@pytest.mark.fault("the Original of a search diverges", "one line that says so, status 1")
def test_a_search_that_has_no_retrain_says_what_diverged(small_grid, falw, tmp_path, monkeypatch):
    monkeypatch.setitem(lab_cells.RECIPES, "tiny", Config(epochs=2, lr=1e30))
    status, out, err = falw("tune", *SMALL, "--methods", "ft", "--out", tmp_path)
    *warned, line = said(err)
    assert (status, out) == (1, "") and line.startswith("falw: original: ") and "lower the learning rate" in line
    assert [w.split(",")[0] for w in warned] == ["falw: original", "falw: retrain"]  # each text once


# bench and report


def test_a_dry_run_says_what_would_run_and_writes_nothing(falw, tmp_path):
    status, out, _ = falw("bench", "table3", "--seeds", 2, "--out", tmp_path / "b", "--dry-run", "--device", "cpu")
    lines = out.splitlines()
    assert status == 0 and lines[0] == "20 cells, 0 of them done"  # 2 settings, 2 seeds: 3 references, 2 methods
    assert lines[1:5] == ["    4 original", "    8 retrain", "    4 falw-tau0", "    4 falw"]
    assert re.fullmatch(r"[\d.e+]+ images in training, about [\d.e+]+ minutes on cpu", lines[5])
    assert not (tmp_path / "b").exists()


def test_bench_runs_a_grid_and_report_prints_the_same_from_its_folder(falw, tmp_path, monkeypatch):
    small = grids.Grid("digits", "tiny", ((0.3, 0.5),), ("ft", "rl"), 2)
    monkeypatch.setattr(grids, "find_grid", lambda name, scale="full": (small,))
    monkeypatch.setattr(lab_cells, "RECIPES", {"tiny": replace(lab_cells.RECIPES["tiny"], epochs=1)})
    monkeypatch.setattr(lab_cells, "UNLEARN", {"tiny": replace(lab_cells.UNLEARN["tiny"], epochs=1)})
    status, out, _ = falw("bench", "table2", "--seeds", 2, "--out", tmp_path / "b", "--device", "cpu", "--jobs", 1)
    assert status == 0 and "the paper's Table 2" in out and "| ft  " in out
    status, again, _ = falw("report", tmp_path / "b", "--grid", "table2")
    assert status == 0 and again.split("\n\n", 1)[1].strip() == out.strip()
    status, dry, _ = falw("bench", "table2", "--seeds", 2, "--out", tmp_path / "b", "--dry-run", "--device", "cpu")
    assert dry.splitlines()[0] == "10 cells, 10 of them done"


@pytest.mark.fault("a table of the paper that does not exist, or of which records are missing", "one line, status 2")
def test_what_bench_and_report_cannot_do_is_one_line(falw, tmp_path, finished):
    folder, _ = finished
    asked = [
        (("bench", "table9", "--out", tmp_path), "unknown grid 'table9'; choose one of: table1, table2"),
        (("bench", "table2", "--scale", "half", "--out", tmp_path), "unknown scale 'half'"),
        (("report", folder), "has no complete table or figure; name one: --grid table2"),
        (("report", folder, "--grid", "table4"), "no records of table4 at scale quick"),
    ]
    for command, message in asked:
        status, out, err = falw(*command)
        assert status == 2 and out == "" and message in err and len(err.splitlines()) == 1


# Options that change nothing of what is asked for, and values that nothing can have

IN_VAIN = {
    "run --methods retrain --epochs 0": "epochs 0 changes nothing of retrain: leave it out",
    "run --methods retrain --lr -1": "lr -1.0 changes nothing of retrain",
    "run --methods iu,retrain --epochs 3": "epochs 3 changes nothing of iu, retrain",
    "run --original-epochs 0": "original epochs 0 is too small",
    "run --seeds 4,5,4": "seeds '4,5,4' name 4 more than once",
    "run --seeds 99999999999999999999": "seeds '99999999999999999999' are too many: give at most 1000",
    "run --seeds 99999999999999999999,": "seed 99999999999999999999 is too large",
    "run --data-seed 99999999999999999999": "data seed 99999999999999999999 is too large",
    "run --dataset digits --data-seed 3": "data seed 3 changes nothing: all images of 'digits' are taken",
    "run --root .": "root '.' changes nothing: textures lies in no folder",
    "run --gamma nan": "gamma nan is not a number from 0 up",
    "tune --seed -1": "seed -1 is too small",
    "tune --methods ft,falw-tau0": "nothing to tune in 'falw-tau0'",
    "bench table2 --dry-run --jobs 0": "jobs 0 is too small",
    "bench table2 --dry-run --gpus-per-cell 1": "add --engine ray",
    "bench table2 --dry-run --engine nosuch": "unknown engine 'nosuch'",
}


def test_what_is_asked_in_vain_is_refused(falw, tmp_path, nothing_is_computed):
    for command, words in IN_VAIN.items():
        refused(falw(*command.split(), "--out", tmp_path / "out", "--device", "cpu"), words)
    assert not (tmp_path / "out").exists()


def test_a_scale_is_of_a_grid(falw, tmp_path):
    refused(falw("report", tmp_path, "--scale", "full"), "scale 'full' is of one table or figure: name it with --grid")
