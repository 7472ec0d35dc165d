"""The headlines that a script makes from the JSON files alone are those of the package."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from falw.lab.curves import at_equal_fa, at_shared_rates
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
    frames = {CIFAR: records(ROOT / "results" / CIFAR), GPU: at_shared_rates(records(ROOT / "results" / GPU))}
    rows = {name: at_equal_fa(frame) for name, frame in frames.items()}
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


def test_on_the_gpu_only_rates_of_all_seeds_count(headlines, read_off):
    cells = headlines["read"](GPU, 1.0, True)
    assert len(cells) == 4 and all(len(runs) == len({*runs[:, 0]}) or m == "retrain" for m, runs in cells[0].items())
    found = read_off[GPU].set_index(["seed", "method"])[["ra", "ta"]]
    off = [headlines["read_off"](cell, method) for cell in cells for method in ("rl", "rl-fixed", "falw-every10")]
    expected = found.loc[[(seed, m) for seed in range(4) for m in ("rl", "rl-fixed", "falw-every10")]].to_numpy()
    assert np.sort(off, axis=0) == pytest.approx(np.sort(expected, axis=0), abs=1e-9)


def test_the_script_stands_alone_and_says_its_three_things(headlines, capsys):
    source = ROOT / "benchmarks" / "headlines.py"
    runpy.run_path(str(source))
    lines = capsys.readouterr().out.splitlines()
    assert [sum(begin in line for line in lines) for begin in ("less rl,", "less rl-fixed,", "nvidia")] == [6, 6, 4]
    assert "falw" not in " ".join(line for line in source.read_text().splitlines() if "import" in line)
    assert sum(bool(line) for line in source.read_text().splitlines()) <= 40
