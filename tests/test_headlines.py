"""The headlines that a script makes from the JSON files alone are those of the package."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from falw.lab.curves import at_equal_fa
from falw.lab.records import records
from falw.lab.tables import interval

ROOT = Path(__file__).resolve().parent.parent
CIFAR, GPU = "memorising/cifar10", "gpu/nvidia-h200"


@pytest.fixture(scope="module")
def headlines():
    """What the script defines; it has run."""
    return runpy.run_path(str(ROOT / "benchmarks" / "headlines.py"))


@pytest.fixture(scope="module")
def read_off():
    """By folder: the package's RA and TA at equal FA, NaN where a method's rates do not go so far."""
    rows = {name: at_equal_fa(records(ROOT / "results" / name)) for name in (CIFAR, GPU)}
    return {name: found.assign(**found[["ra", "ta"]].where(found.reached)) for name, found in rows.items()}


@pytest.mark.parametrize("method, base", [("rl-fixed", "rl"), ("rl+falw-epoch", "rl-fixed")])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("k, score", [(0, "ra"), (1, "ta")])
def test_a_contrast_is_the_one_of_the_package(method, base, gamma, k, score, headlines, read_off):
    found = read_off[CIFAR].query("gamma == @gamma").pivot(index="seed", columns="method", values=score)
    expected = interval((found[method] - found[base]).dropna().tolist())
    mean, low, high, seeds, _ = headlines["contrast"](headlines["read"](CIFAR, gamma), method, base, k)
    assert (mean, low, high) == pytest.approx((expected["mean"], expected["low"], expected["high"]), abs=1e-9)
    assert seeds == expected["seeds"]


def test_the_floor_is_how_far_two_retrains_are_apart(headlines):
    rows = [[0.1, fa, ra, ta] for fa, ra, ta in ((49, 100, 50), (50, 99, 54), (51, 100, 51))]
    cell = {"retrain": np.array(rows), "a": np.array([[0.01, 60, 90, 40], [0.04, 40, 80, 20]])}
    cells = [cell | {"b": cell["a"] + [0, 0, step, 0]} for step in (1, 2)]
    *_, seeds, floor = headlines["contrast"](cells, "a", "b", 1)
    assert (seeds, floor) == (2, pytest.approx((4 + 1 + 3) / 3))


def test_of_two_crossings_the_closer_pair_counts_and_of_none_nothing(headlines):
    runs = np.array([[0.01, 70, 90, 40], [0.02, 30, 80, 30], [0.04, 51, 60, 20], [0.08, 49, 50, 10]])
    cell = {"retrain": np.array([[0.1, 50, 100, 50]] * 2), "twice": runs, "never": runs[2:3]}
    assert headlines["read_off"](cell, "twice") == pytest.approx([55 - 100, 15 - 50])
    assert np.isnan(headlines["read_off"](cell, "never")).all()


def test_every_method_of_the_gpu_is_where_the_package_puts_it(headlines, read_off):
    (cell,) = headlines["read"](GPU, 1.0)
    found = read_off[GPU].set_index("method")[["ra", "ta"]]
    for method, expected in zip(found.index, found.to_numpy(), strict=True):
        assert headlines["read_off"](cell, method) == pytest.approx(expected, abs=1e-9)
    assert len(found) == 7


def test_the_script_stands_alone_and_says_its_three_things(headlines, capsys):
    source = ROOT / "benchmarks" / "headlines.py"
    runpy.run_path(str(source))
    lines = capsys.readouterr().out.splitlines()
    assert [sum(begin in line for line in lines) for begin in ("less rl,", "less rl-fixed,", "ResNet-18")] == [4, 4, 7]
    assert "falw" not in " ".join(line for line in source.read_text().splitlines() if "import" in line)
    assert len(source.read_text().splitlines()) <= 40
