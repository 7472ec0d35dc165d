"""The measurements of speed still run, and measure what they say. No time is asserted: machines here are shared."""

import argparse
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from falw.config import Config
from falw.lab.cells import cells_of
from falw.lab.curves import knob
from falw.methods import find_method
from falw.models import create

ROOT = Path(__file__).resolve().parent.parent
TUNING = ROOT / "results" / "tuning"
CPU = torch.device("cpu")
CONFIG = Config(epochs=2, lr=0.01, batch_size=32, crop=2)


@pytest.fixture(scope="module")
def measurements():
    """The modules of benchmarks/ by name."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield {name: importlib.import_module(name) for name in ("common", "loop", "audit", "engines", "gpu", "textures")}
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture
def counted(monkeypatch):
    """How many optimiser steps are taken."""
    count = {"steps": 0}
    step = torch.optim.SGD.step

    def counted_step(*args, **kwargs):
        count["steps"] += 1
        return step(*args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", counted_step)
    return count


@pytest.mark.parametrize("name", ["ours", "usual", "bare"])
def test_each_side_takes_as_many_steps(name, measurements, counted):
    loop = measurements["loop"]
    data, split = loop.generated(8, CPU, classes=4, per_class=30)
    runs = {
        "ours": loop.our_loop(data, split, CONFIG),
        "usual": loop.usual_loop(data, split, CONFIG, 0, CPU),
        "bare": loop.bare_steps(data, split, CONFIG, CPU),
    }
    runs[name]()
    assert counted["steps"] == 2 * 3  # 96 of 120 images are not held out


def test_the_usual_loop_sees_the_images_that_ours_does(measurements):
    loop = measurements["loop"]
    data, split = loop.generated(8, CPU, classes=4, per_class=30)
    seen = torch.cat([split.forget, split.retain])
    pictures = loop.Pictures(data.train, seen, data, 0)
    pictures.transform.transforms = [t for t in pictures.transform.transforms if "Flip" not in type(t).__name__]
    network = create("tiny", 4, data.mean, data.std)
    for k in (0, 40, 95):
        x, y = pictures[k]
        assert torch.allclose(x, network.normalize(data.train.x[seen[k]][None])[0], atol=1e-5)
        assert y == data.train.y[seen[k]]


def test_ratios_are_medians_of_rounds(measurements):
    times = {"a": [1.0, 9.0, 2.0], "b": [2.0, 3.0, 1.0]}
    assert measurements["common"].ratio(times, "a", "b") == 2.0  # of 0.5, 3 and 2


def test_rounds_are_interleaved_after_a_warm_up(measurements):
    order = []
    runs = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = measurements["common"].interleaved(runs, 2, CPU)
    assert order == ["a", "b"] * 3 and {k: len(v) for k, v in times.items()} == {"a": 2, "b": 2}


def test_a_record_carries_its_conditions(measurements, tmp_path, monkeypatch, capsys):
    common = measurements["common"]
    monkeypatch.setattr(common, "RESULTS", tmp_path / "new")
    common.store("loop", [{"what": "a step", "seconds": 1.25}], CPU)
    record = json.loads((tmp_path / "new" / "loop-cpu.json").read_text())
    assert record["rows"] == [{"what": "a step", "seconds": 1.25}] and record["benchmark"] == "loop"
    assert {"device", "versions", "commit", "cores", "threads", "date"} <= set(record)
    assert capsys.readouterr().out == "what a step  seconds 1.25\n"


def test_both_paths_of_the_audit_are_timed(measurements):
    audit = measurements["audit"]
    parts = [audit.draw(60, 4, margin, 2, seed) for seed, margin in enumerate((1, 6, 0))]
    row = audit.compare(audit.Predictions(parts[0], parts[1], parts[0], parts[2]), "confidence", 1)
    assert row["exact / fast"] == pytest.approx(row["exact, s"] / row["fast, s"]) and abs(row["fast - exact"]) < 5


def test_sixteen_cells_are_equal_work(measurements):
    cells = measurements["engines"].sixteen(3)
    assert len({cell.key for cell in cells}) == len({cell.parent for cell in cells}) == 16
    assert {(c.method, c.config.epochs, c.recipe.epochs) for c in cells} == {("rl", 3, 3)}


@pytest.mark.parametrize("path", sorted((ROOT / "results" / "bench").glob("*.json")), ids=lambda path: path.stem)
def test_a_committed_record_is_of_a_clean_commit(path):
    record = json.loads(path.read_text())
    assert not record["commit"].endswith("+") and record["rows"]


def test_the_measurements_of_a_gpu_run_through(measurements, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measurements["common"], "RESULTS", tmp_path)
    seconds = measurements["common"].seconds
    for name in ("gpu", "loop"):  # each run once, without a warm-up
        monkeypatch.setattr(
            measurements[name], "interleaved", lambda runs, *how: {k: [seconds(run, CPU)] for k, run in runs.items()}
        )
    monkeypatch.setattr(measurements["gpu"], "CLASSES", 10)
    measurements["gpu"].main([("tiny", 8)], images=200, batch=64, product=64)
    (path,) = tmp_path.glob("gpu-*.json")
    product, step, *schedules = json.loads(path.read_text())["rows"]
    assert product["TFLOP/s"] > 0 and step["images/s"] > 0 and step["usual / ours"] > 0
    assert step["150 epochs of 45,000, s"] == pytest.approx(15 * step["10 epochs of 45,000, s"])
    assert len(schedules) >= 4 and all(list(row.values())[1] > 0 for row in schedules)


def test_operations_are_counted_as_by_hand(measurements):
    gpu = measurements["gpu"]
    # shared/spec: ResNet-18 at 32x32 with 100 classes takes 1.111 GFLOP forward, and without the first layer's gradient
    # for pixels 3.329 in all
    assert gpu.flops_an_image("resnet18", 32) == pytest.approx(3.329e9, rel=0.005)
    assert gpu.flops_an_image("vgg16", 64) == pytest.approx(7.506e9, rel=0.005)


def test_the_searches_of_textures_are_those_that_are_stored(measurements):
    """The same command goes on where it stopped: a rate written otherwise would be another cell."""
    textures = measurements["textures"]
    known = {record["key"]: record for record in map(json.loads, map(Path.read_text, TUNING.glob("?" * 16 + ".json")))}
    ran = {record["method"] for record in known.values()} - {"original", "retrain"}
    assert ran <= textures.SEARCHES.keys()
    asked = argparse.Namespace(methods=",".join(ran), gammas="0.5,2", tuning=TUNING)
    for job in textures.tuning(asked):
        ((method, rates),) = job.first.items()
        same = {} if job.coefficient is None else {"coefficient": job.coefficient}
        turned = [{**same, knob(find_method(method)): rate} for rate in rates]
        cells = [cells_of(setting, [method], **values)[-1] for setting in job.settings for values in turned]
        assert len({cell.key for cell in cells} & known.keys()) == 3 * len(rates), method
