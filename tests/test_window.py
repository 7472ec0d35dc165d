"""The plan for a lent GPU, rehearsed at toy size on the CPU: it measures, trains, packs, stops and goes on."""

import argparse
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from falw.config import Config
from falw.files import load_tensors
from falw.lab import run as runs
from falw.lab.cells import Cell, Setting
from falw.lab.records import read_records

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"train": 30, "test": 10}  # images a class


@pytest.fixture(scope="module")
def window():
    """The module benchmarks/window.py."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("window")
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with both archives, three classes of random pixels each."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name in ("tin100-32", "cifar10-jpeg"):
        with tarfile.open(folder / f"{name}.tar.xz", "w:xz") as tar:
            for part, c, k in [(part, c, k) for part, n in SIZES.items() for c in "abc" for k in range(n)]:
                file = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
                entry = tarfile.TarInfo(f"{name}/{part}/{c}/{k:02d}.png")
                entry.size = file.tell()
                file.seek(0)
                tar.addfile(entry, file)
    return folder


@pytest.fixture
def rehearse(window, images, tmp_path, monkeypatch):
    """Run main with so many arguments more, in an empty folder, on a study of two methods; gives the log."""
    monkeypatch.setenv("FALW_CACHE", str(tmp_path / "cache"))
    study = replace(window.STUDIES["E5"], seeds=(0,), methods=("rl", "ft"))
    monkeypatch.setitem(window.STUDIES, "E5", study)

    def run(name, *more, only="E5"):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        given = ["--data", str(images), "--out", "out", "--seconds", "1000000", "--only", only, "--rehearse", *more]
        window.main(given)
        return log()

    return run


def log(folder="out"):
    return json.loads(Path(folder, "log.json").read_text())


def packed(folder="out"):
    """The names of the records that leave the machine."""
    with tarfile.open(Path(folder, "records.tar.gz")) as tar:
        return {name.removesuffix(".json") for name in tar.getnames()} - {"distances"}


@pytest.fixture
def trained(window, monkeypatch):
    """The keys of the cells that are trained."""
    keys, train = [], window.Window.train

    def watched(self, cell, *rest):
        keys.append(cell.key)
        train(self, cell, *rest)

    monkeypatch.setattr(window.Window, "train", watched)
    return keys


# The whole


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    """The folder in which the command ran, as it will be typed."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, str(ROOT / "benchmarks" / "window.py"), "--data", str(images), "--out", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FALW_CACHE": str(folder / "cache")}
    run = subprocess.run([*command, "--rehearse"], cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    with tarfile.open(folder / "out" / "records.tar.gz") as tar:
        tar.extractall(folder / "records", filter="data")
    return folder


def test_every_piece_runs_and_nothing_raises(whole, window):
    lines = log(whole / "out")
    done = [line["piece"] for line in lines if line["what"] == "done"]
    assert {*window.PIECES, "profile tiny", "smoke sfron+falw", "test_gpu"} <= set(done)
    assert [line for line in lines if line["what"] in ("raised", "skipped", "no reference")] == []
    assert [line["code"] for line in lines if line["what"] == "tests"] == [0]
    measured = {key: value for line in lines if line["what"] == "measured" for key, value in line.items()}
    assert measured["images/s"] > 0 and measured["images/s, bare, graph"] > 0 and measured["idle"] < 1


def test_what_leaves_the_machine_is_few_small_files(whole):
    files = list((whole / "out").iterdir())
    assert {path.name for path in files} == {"records.tar.gz", "arrays-0.npz", "log.json"}
    assert all(path.stat().st_size < 16 * 2**20 for path in files)


def test_arrays_and_records_say_the_same(whole):
    records, arrays = read_records(whole / "records"), np.load(whole / "out" / "arrays-0.npz")
    assert {record["key"] for record in records} == set(arrays)
    for record in records:
        p_true, correct, entropy = arrays[record["key"]].astype(float)
        ends = np.cumsum(list(record["sizes"].values()))
        forget, retain, _, test, nothing = np.split(correct, ends)
        accuracies = [100 * part.mean() for part in (forget, retain, test)]
        assert accuracies == pytest.approx([record["scores"][name] for name in ("fa", "ra", "ta")])
        assert len(nothing) == 0 and arrays[record["key"]].dtype == np.float16
        assert (correct[p_true > 0.501] == 1).all() and (entropy >= 0).all() and (entropy <= np.log(3) + 0.01).all()


def test_every_cell_has_its_distances_to_the_retrains_and_a_retrain_to_the_others(whole):
    records, arrays = read_records(whole / "records"), np.load(whole / "out" / "arrays-0.npz")
    distances = json.loads((whole / "records" / "distances.json").read_text())
    forget = {r["key"]: arrays[r["key"]][0, : r["sizes"]["forget"]].astype(float) for r in records if r["scores"]}
    study = [r for r in records if r["setting"]["dataset"] == "folder:tin100-32" and r["recipe"]["epochs"] == 2]
    assert len(study) > 10  # the shorter recipe missed the gate before there were three
    for record in study:
        found = distances[record["key"]]
        assert len(found["to"]) == (2 if record["method"] == "retrain" else 3) and record["key"] not in found["to"]
        theirs = np.mean([forget[key].mean() for key in found["to"]])
        assert found["all"]["deviation"] == pytest.approx(forget[record["key"]].mean() - theirs, abs=1e-3)
        assert {"all", "head", "mid", "tail"} == {*found} - {"to"} and found["all"]["kl"] > 0


def test_a_record_is_one_that_a_run_skips(whole, monkeypatch):
    monkeypatch.setattr(runs, "_compute", None)  # to compute would raise
    for record in read_records(whole / "records"):
        setting, configs = Setting(**record["setting"]), [Config(**record[name]) for name in ("config", "recipe")]
        assert runs.run_cell(Cell(setting, record["method"], *configs), whole / "records") == record


def test_a_record_and_an_original_say_of_which_images_they_are(whole):
    said, records = {}, read_records(whole / "records")
    for record in records:
        data = record["data"]
        assert (data["classes"], data["shape of an image"]) == (3, [3, 8, 8])
        assert [data[f"{part} images"] for part in ("training", "test")] == [3 * n for n in SIZES.values()]
        said.setdefault(record["setting"]["dataset"], set()).add(data["pixels of training images"])
    assert len(said) == 2 and all(len(pixels) == 1 for pixels in said.values())
    assert set.isdisjoint(*said.values())  # the archives hold other pixels
    originals = [load_tensors(path)["data"] for path in (whole / "runs" / "window").glob("original-*.pt")]
    assert len(originals) > 1 and all(data in [record["data"] for record in records] for data in originals)


def test_each_method_has_two_coarse_rates_and_two_that_lie_closer_to_the_retrains(whole):
    cells = [r for r in read_records(whole / "records") if r["setting"]["dataset"] == "folder:tin100-32"]
    cells = [r for r in cells if (r["setting"]["seed"], r["setting"]["gamma"]) == (1, 1.0)]
    retrains = [r["config"]["seed"] for r in cells if r["method"] == "retrain"]
    assert sorted(retrains) == [1, 1001, 2001]
    rates = {r["config"]["lr"] for r in cells if r["method"] == "rl"}
    assert {0.005, 0.04} <= rates and 3 <= len(rates) <= 4  # the fourth may be the third again


def test_images_that_are_not_known_by_heart_are_trained_for_longer_and_it_is_said(whole):
    said = [line["cell"] for line in log(whole / "out") if line["what"] == "below the gate"]
    epochs = [cell.split(": original ")[1].split()[0] for cell in said if "tin100" in cell and "original" in cell]
    assert epochs[:3] == ["1", "2", "2"]  # seed 0 tries both lengths, seed 1 begins with the longer


# Stopped, resumed, skipped


def test_a_stopped_window_packs_what_is_done_and_the_next_goes_on(rehearse, window, trained, monkeypatch):
    say, before = window.Window.say, signal.getsignal(signal.SIGTERM)

    def stopped(self, what, **more):
        say(self, what, **more)
        if what == "cell" and sum(line["what"] == "cell" for line in self.log) == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(window.Window, "say", stopped)
    with pytest.raises(SystemExit) as ended:
        rehearse("first")
    assert ended.value.code == 128 + signal.SIGTERM and signal.getsignal(signal.SIGTERM) == before
    first = packed()
    announced = {line["key"] for line in log() if line["what"] == "cell"}
    assert len(announced) >= 6 and announced == first == set(np.load("out/arrays-0.npz"))

    monkeypatch.setattr(window.Window, "say", say)
    trained.clear()
    rehearse("second", "--resume", "../first/out")
    assert len(trained) > 0 and len(set(trained)) == len(trained) and not first & set(trained)
    assert packed() == first | set(trained)

    trained.clear()
    second = packed()
    rehearse("third", "--resume", "../second/out")
    assert trained == [] and packed() == second


def test_a_second_call_on_the_machine_goes_on_with_its_retrains_and_paces(rehearse, window, trained, monkeypatch):
    study = replace(window.STUDIES["E5"], rates=1)
    monkeypatch.setitem(window.STUDIES, "E5", study)
    rehearse("here", "--seeds", "3")
    first = packed()
    assert {record["setting"]["seed"] for record in read_records("runs/window")} == {3}

    known, took = {}, window.Window.took

    def noted(self, cell, n, seconds):
        known[cell.key] = seconds
        took(self, cell, n, seconds)

    monkeypatch.setattr(window.Window, "took", noted)
    before = {record["key"]: record["seconds"] for record in read_records("runs/window")}
    monkeypatch.setitem(window.STUDIES, "E5", replace(study, rates=2))
    trained.clear()
    rehearse("here", "--seeds", "3")
    assert packed() == first | set(trained) and len(trained) == 2
    assert set(json.loads(Path("runs/window/distances.json").read_text())) >= set(trained)
    assert before.items() <= known.items()


def without_rl(window, monkeypatch, error):
    """Unlearning by `rl` raises the error; other methods run."""
    unlearn = window.unlearn

    def fails(method, *rest):
        if method == "rl":
            raise error
        return unlearn(method, *rest)

    monkeypatch.setattr(window, "unlearn", fails)


@pytest.mark.fault("a piece of a lent GPU's time raises", "it is written down and the next piece runs")
def test_a_piece_that_raises_is_written_down_and_the_next_goes_on(rehearse, window, monkeypatch):
    without_rl(window, monkeypatch, RuntimeError("out of something"))
    lines = rehearse("broken", only="E5,begin")
    raised = [line for line in lines if line["what"] == "raised"]
    assert len(raised) == 2  # the coarse rates; no others can be drawn from them
    assert all(": rl lr 0.0" in line["piece"] and "out of something" in line["error"] for line in raised)
    assert sum(": ft lr" in line.get("name", "") for line in lines) >= 2 and lines[-1]["piece"] == "begin"


def test_a_run_that_diverges_is_a_record(rehearse, window, monkeypatch):
    without_rl(window, monkeypatch, FloatingPointError("the loss is nan"))
    rehearse("diverged")
    failed = [r for r in read_records("runs/window") if r["scores"] is None]
    assert {(r["method"], r["failed"]) for r in failed} == {("rl", "the loss is nan")}
    rates = sorted(r["config"]["lr"] for r in failed)
    assert rates[-2:] == [0.005, 0.04] and rates[:2] == pytest.approx([0.005 / 16, 0.005 / 4], rel=1e-3)  # lower ones


def test_no_time_is_no_piece(rehearse, trained, window):
    every = list(window.PIECES)
    lines = rehearse("late", "--seconds", "0", only=",".join(every))
    assert [(line["what"], line["piece"]) for line in lines] == [("skipped", name) for name in every]
    assert trained == [] and packed() == set()


def test_an_archive_that_did_not_come_along_ends_its_study_only(rehearse, tmp_path):
    (tmp_path / "empty").mkdir()
    lines = rehearse("bare", "--data", str(tmp_path / "empty"), only="E5,begin")
    assert [line["piece"] for line in lines if line["what"] == "raised"] == ["load folder:tin100-32"]
    assert lines[-1]["what"] == "done" and lines[-1]["piece"] == "begin"


# The parts


def of(window, **options):
    """A Window of 100 seconds, whose clock is a list of one number."""
    now = [0.0]
    usual = {"data": ".", "out": ".", "rehearse": True, "seconds": 100 + window.RESERVE, "seeds": None}
    return window.Window(argparse.Namespace(**{**usual, **options}), lambda: now[0]), now


def test_a_piece_runs_if_it_fits(window):
    lent, now = of(window)
    assert lent.piece("first", 99, lambda: "ran") == "ran"
    now[0] = 50.0
    assert lent.piece("long", 51, lambda: "ran") is None
    assert lent.piece("short", 49, lambda: "ran") == "ran"
    assert [line["what"] for line in lent.log] == ["done", "skipped", "done"]


def test_a_cell_is_estimated_by_what_was_measured(window, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lent, _ = of(window)
    cell = Cell(Setting(), "rl", Config(epochs=10), Config(epochs=20))
    assert lent.estimate(cell, 60_000) == pytest.approx(1.1 * 30)  # its Original, too, at 60,000 images a second
    lent.pace["tiny", "original"] = 1e-3
    assert lent.estimate(cell, 1000) == pytest.approx(1.1 * 30)
    lent.pace["tiny", "rl"] = 2e-3
    assert lent.estimate(cell, 1000) == pytest.approx(1.1 * 40)
    lent.originals[cell.parent] = None
    assert lent.estimate(cell, 1000) == pytest.approx(1.1 * 20)


def test_arrays_are_cut_into_files_of_at_most_so_much(window, tmp_path):
    paths = []
    for name, size in zip("abcde", (40, 60, 1, 99, 150)):
        paths.append(tmp_path / name)
        paths[-1].write_bytes(bytes(size))
    cut = [[path.name for path in volume] for volume in window.volumes(paths, 100)]
    assert cut == [["a", "b"], ["c", "d"], ["e"]]


def test_a_rehearsal_has_the_shape_of_the_plan(window):
    for study in window.STUDIES.values():
        toy = window.at_toy_size(study)
        assert (toy.dataset, toy.ratio, toy.seeds, toy.rates, toy.retrains) == (
            *(study.dataset, study.ratio, study.seeds, study.rates, study.retrains),
        )
        assert len(toy.lengths) == len(study.lengths) and toy.recipe.schedule == study.recipe.schedule


def test_the_plan_is_the_one_that_was_agreed(window):
    """shared/spec, E5: what decides, written down before any run."""
    e5 = window.STUDIES["E5"]
    assert (e5.dataset, e5.model, e5.ratio, e5.gammas) == ("folder:tin100-32", "resnet18", 0.3, (1.0,))
    assert e5.lengths == (40, 60) and e5.seeds == (0, 1) and e5.retrains >= 2 and e5.rates == 4
    assert e5.recipe.schedule == "one-cycle" and 0.1 <= e5.recipe.lr <= 0.2 and e5.unlearning.epochs == 10
    assert (e5.unlearning.schedule, e5.unlearning.milestones) == ("step", ())  # a constant rate
    for config in (e5.recipe, e5.unlearning):
        assert (config.batch_size, config.crop, config.flip, config.weight_decay) == (512, 4, True, 5e-4)


@pytest.mark.parametrize(
    "given, said",
    [
        (["--only", "E6"], "unknown piece 'E6'; choose from: begin, speed, E5"),
        (["--resume", "nowhere"], "no records.tar.gz in 'nowhere': give the --out of an earlier window"),
    ],
)
def test_what_is_asked_in_vain_is_refused(window, given, said, capsys):
    with pytest.raises(SystemExit):
        window.main(["--data", ".", "--out", ".", "--rehearse", *given])
    assert said in capsys.readouterr().err


def test_make_takes_the_data_and_the_python_that_is_there(tmp_path):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "OUT"}
    command = ["make", "--just-print", "gpu-window", f"DATA={tmp_path}", "PYTHON=python3.12"]
    said = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=True).stdout
    wanted = f"PYTHONPATH=. python3.12 benchmarks/window.py --data {tmp_path} --out runs/gpu-window --seconds 560"
    assert said.strip() == wanted
