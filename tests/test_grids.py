"""The paper's tables as settings, against the printed rows; ours beside the paper's, on records made by hand."""

import math
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from falw.lab import engines, grids, paper
from falw.lab.cells import Setting, cells_of
from falw.lab.grids import (
    GRIDS,
    PRINTED_SCORES,
    beside_paper,
    cells,
    complete,
    estimate,
    find_grid,
    rank_correlation,
    settings_of,
)
from falw.lab.records import frame

TABLES = [(name, found) for name, grids_ in GRIDS.items() for found in grids_ if found.table is not None]


def test_a_grid_has_the_settings_and_methods_of_the_printed_table():
    for name, found in TABLES:
        printed = paper.rows(found.table, dataset=found.dataset)
        assert {row["model"] for row in printed} == {found.model}, name
        assert {(row["ratio"], row["gamma"]) for row in printed} == set(found.settings), name
        assert {row["method"] for row in printed} - {"retrain"} == set(found.methods), name


def test_every_printed_row_belongs_to_one_grid():
    covered = {(found.table, found.dataset) for _, found in TABLES}
    assert covered == {(row["table"], row["dataset"]) for row in paper.rows()}


def test_the_quick_scale_has_the_same_shape_on_generated_images():
    for name in GRIDS:
        for quick, full in zip(find_grid(name, "quick"), find_grid(name), strict=True):
            assert quick == replace(full, dataset="textures", model="tiny")


def test_the_local_scale_is_the_papers_on_files_of_the_same_size_and_shape():
    for name in GRIDS:
        for local, full in zip(find_grid(name, "local"), find_grid(name), strict=True):
            assert replace(local, dataset=full.dataset) == full
            assert grids.SIZES[local.dataset] == grids.SIZES[full.dataset]
            assert local.dataset in ("folder:cifar10-jpeg", "folder:tin100-32", "tiny-imagenet")


def test_the_tables_for_a_gpu_can_be_looked_at_without_one(tmp_path):
    given = [f"BIN={Path(sys.executable).parent}", "READY=", "DRY=1", f"DATA={tmp_path}"]
    root = Path(__file__).resolve().parent.parent
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}

    def made(*more):
        run = subprocess.run(["make", "gpu-tables", *given, *more], cwd=root, env=clean, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return run.stdout

    planned = re.search("for table in (.*?);", made("--just-print"))[1].split()
    assert sorted(planned) == sorted(name for name in GRIDS if name.startswith("table"))
    lines = made("TABLES=table6").splitlines()  # each is a process that imports PyTorch
    assert [line for line in lines if line in GRIDS] == ["table6"]
    assert sum(" cells, " in line for line in lines) == sum("images in training, about" in line for line in lines) == 1
    assert names_of(tmp_path) == []


def names_of(folder):
    return sorted(path.name for path in folder.iterdir())


def test_cells_share_originals_and_retrains_and_vary_the_images_with_the_seed():
    found = cells("table8", "quick", [0, 1])
    assert len({cell.key for cell in found}) == len(found)
    assert sum(cell.method == "falw" for cell in found) == 4  # two settings, two seeds
    assert len({cell.parent for cell in found}) == 2  # one Original a seed for both settings
    assert {(c.setting.seed, c.setting.data_seed) for c in found} == {(0, 0), (1, 1)}
    assert {s.data_seed for s in settings_of(GRIDS["table6"][0], [3])} == {0}


def test_what_is_not_there_is_named():
    for name, scale, message in (
        ("table9", "quick", "unknown grid 'table9'; choose one of: table1, table2"),
        ("table2", "half", "unknown scale 'half'; choose one of: quick, local, full"),
    ):
        with pytest.raises(ValueError, match=message):
            find_grid(name, scale)


def row(method, mean, sd=math.nan, **others):
    means = {f"{k}_mean": others.get(k, mean) for k in PRINTED_SCORES}
    return {"method": method, "seeds": 3, **means, **{f"{k}_sd": sd for k in PRINTED_SCORES}}


def printed(method, value, sd=None):
    return {"method": method, **dict.fromkeys(PRINTED_SCORES, value), "sd": sd}


def test_the_tolerance_is_two_combined_deviations_and_at_least_a_point():
    ours = [row("rl", 50.0, 2.0), row("ft", 50.0, 0.1), row("ga", 50.0), row("unprinted", 1.0)]
    theirs = [printed("rl", 54.1, sd=1.5), printed("ft", 50.9), printed("ga", 48.9)]
    found = beside_paper(pd.DataFrame(ours), theirs).set_index("method")
    assert list(found.index) == ["rl", "ft", "ga"]
    assert list(found.loc["rl", ["gap_mean", "gap_sd", "gap_paper", "gap_within"]]) == [50, 2, 54.1, True]  # <= 2 * 2.5
    assert not found.at["rl", "fa_within"]  # 4.1 > 2 * 2: the paper's deviation is that of Avg. Gap
    assert found.at["ft", "gap_within"] and not found.at["ga", "gap_within"]


def test_ranks_are_compared_without_retrain_and_not_for_two():
    order = [("retrain", 0.0, 0.0), ("rl", 1.0, 2.0), ("ft", 2.0, 1.0), ("ga", 3.0, 5.0)]
    rows = beside_paper(pd.DataFrame([row(n, a) for n, a, _ in order]), [printed(n, b) for n, _, b in order])
    assert rank_correlation(rows) == pytest.approx(1 / 3)  # one of three pairs is reversed
    assert rank_correlation(rows[:3]) is None


def record(cell, fa):
    shares = {g: {"mean": fa / 100, "counts": [4, 6]} for g in ("head", "mid", "tail")}
    return {
        **{"key": cell.key, **asdict(cell), "seconds": 1.0, "forget_probabilities": shares},
        **{"scores": {"fa": fa, "ra": 99.0, "ta": 60.0, "mia": 100 - fa}, "audit": {"confidence": 50.0}},
        "forget_groups": {"head": fa, "mid": fa - 2, "tail": fa - 4},
    }


def records_of(name, seeds=(0, 1), **fa):
    return [record(cell, fa.get(cell.method.replace("-", "_"), 50.0)) for cell in cells(name, "quick", list(seeds))]


def report(name, records):
    """A report at the quick scale; runs of spaces, which only line columns up, as one."""
    return re.sub(" +", " ", grids.report(name, "quick", frame(records)))


def test_a_report_shows_ours_the_papers_and_the_paired_difference():
    text = report("table2", records_of("table2", salun=53.0, falw=51.0))
    assert text.count("the paper's Table 2 (cifar100, resnet18)") == 7 and "Kendall" not in text
    first = next(line for line in text.splitlines() if line.startswith("| salun | 53.00 / "))
    assert first.startswith("| salun | 53.00 / 56.93 * |") and first.endswith("| 1.50 / 1.55 |")
    assert text.count("| falw − salun | -1.00 | -1.00 to -1.00 | closer |") == 7  # 0.5 of the four is 2 points twice
    assert "by group" not in text


def test_a_report_of_table_3_has_the_papers_lines_below_ours():
    text = report("table3", records_of("table3", falw=51.0, falw_tau0=48.0))
    assert "| falw-tau0 | 1.5 | -2.00 ± 0.00 | -2.00 ± 0.00 |" in text
    assert "| falw-tau0, Table 3 | 2 | +1.08 | +1.22 | -12.56 | -18.76 |" in text
    assert "| falw | 2 | +1.00 ± 0.00 |" in text and "Ours (" not in text


def test_only_what_belongs_to_a_grid_is_in_its_report():
    own = records_of("table3", seeds=[0])
    others = [
        record(cells_of(replace(s, **change), ["falw"])[-1], 1.0)
        for s in [Setting(gamma=2.0)]
        for change in ({"cap": "water-filling"}, {"ratio": 0.5}, {"dataset": "digits"}, {"split_mismatch": True})
    ]
    assert report("table3", own + others) == report("table3", own)
    with pytest.raises(ValueError, match="no records of table3 at scale quick: run python -m falw bench table3"):
        report("table3", others)


def test_complete_names_what_every_method_and_setting_is_there_for():
    own = records_of("table3", seeds=[0])
    assert complete(frame(own)) == [("table3", "quick")]
    assert complete(frame(own).query("method != 'falw' or gamma != 2")) == []
    same = [record(cell, 50.0) for cell in cells("table5", "full", [0])]  # Tiny-ImageNet is on disk in any case
    assert complete(frame(same)) == [("table5", "full")]


def test_an_estimate_counts_images_by_hand(monkeypatch):
    monkeypatch.setattr(grids, "_seconds_an_image", lambda *where: 0.5)
    setting = Setting(ratio=0.3, gamma=0.5)
    original, retrain, again, ga, rl, falw = cells_of(setting, ["ga", "rl", "rl+falw"])
    n = 3000
    expected = {
        "original": 20 * n,
        "retrain": 20 * n * 0.7,
        "ga": 10 * n * 0.3,
        "rl": 10 * n,
        "falw": 10 * n * (1 + (n / 9) / (3 * 64)),
    }
    found = estimate([original, retrain, ga, rl, falw], torch.device("cpu"))
    assert found["cells"] == 5 and math.isclose(found["images"], sum(expected.values()))
    assert math.isclose(found["seconds"], 0.5 * found["images"])
    assert estimate([original, original], torch.device("cpu"))["images"] == expected["original"]  # trained once
    assert estimate([again], torch.device("cpu"))["images"] == expected["retrain"]


def test_an_image_takes_the_fastest_of_three_steps_divided_by_the_batch(monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 13.2, 20.0, 24.0])  # steps of 5, 3.2 and 4 seconds
    monkeypatch.setattr(grids, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert grids._seconds_an_image("textures", "tiny", engines.find_device("cpu")) == pytest.approx(3.2 / 64)
