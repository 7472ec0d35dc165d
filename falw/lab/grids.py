"""The paper's tables and figures as lists of settings: what runs, an estimate of the time, ours beside the paper's.

Every grid exists at three scales. "full" is the paper's: its data sets, networks, ratios and exponents. "local" is that
on images that lie on disk, with a stand-in of the same size and shape for CIFAR-100. "quick" is the same shape, the
same ratios, exponents and methods, on generated images and the small network, for a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from falw import methods
from falw.data import find_source
from falw.lab import paper
from falw.lab.cells import ORIGINAL, RETRAIN, Cell, Setting, cells_of
from falw.lab.records import FLOOR, GROUPS
from falw.lab.tables import group_gaps, markdown, mean_and_sd, paired_gap, scores_to_markdown, side_of, table
from falw.models import create

if TYPE_CHECKING:
    from pandas import DataFrame, Series

BASELINE_NAMES = tuple(row.name for row in methods.BASELINES)
BASELINES_AND_FALW = (*BASELINE_NAMES, "falw")
BASE_TO_FALW = {"ga": "ga+falw", "rl": "rl+falw", "sfron": "sfron+falw", "salun": "falw"}
TAUS = ("falw-tau0", "falw-tau0.1", "falw", "falw-tau0.2", "falw-tau0.5", "falw-tau1")
GAMMAS = (0.0, 1 / 4, 1 / 3, 1 / 2, 1.0, 3 / 2, 2.0)


@dataclass(frozen=True)
class Grid:
    """Settings of one data set and network, and the methods that run on each of them."""

    dataset: str
    model: str
    settings: tuple[tuple[float, float], ...]  # (ratio, gamma)
    methods: tuple[str, ...]
    table: int | None = None  # whose rows it stands beside; None for Table 3 and the figures


def _product(ratios: Sequence[float], gammas: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple((ratio, gamma) for ratio in ratios for gamma in gammas)


_cifar100, _cifar10, _tiny = ("cifar100", "resnet18"), ("cifar10", "vgg16"), ("tiny-imagenet", "vgg16")
_fifth = _product([0.2], [1 / 4])  # the setting of Tables 7 and 8 and of Figure 7
_plug = tuple(name for pair in BASE_TO_FALW.items() for name in pair)

GRIDS: dict[str, tuple[Grid, ...]] = {
    "table1": (
        Grid(*_tiny, _product([0.1], [1.0]), BASELINES_AND_FALW, 1),
        Grid(*_cifar10, _product([0.4], [1 / 2]), BASELINES_AND_FALW, 1),
    ),
    "table2": (Grid(*_cifar100, _product([0.3], GAMMAS), ("salun", "falw"), 2),),
    "table3": (Grid(*_cifar100, _product([0.3], [3 / 2, 2.0]), ("falw-tau0", "falw")),),
    "table4": (Grid(*_cifar100, _product([0.1, 0.2, 0.3, 0.4, 0.5], [1 / 4]), BASELINES_AND_FALW, 4),),
    "table5": (Grid(*_tiny, ((0.2, 0.0), (0.5, 0.0), (0.3, 1 / 3), (0.1, 1.0)), BASELINES_AND_FALW, 5),),
    "table6": (Grid(*_cifar10, _product([0.4], [1 / 2]), BASELINES_AND_FALW, 6),),
    "table7": (Grid(*_cifar100, _fifth, _plug, 7),),
    "table8": (
        Grid(*_cifar100, _fifth, ("falw", "falw-beta"), 8),
        Grid(*_tiny, _product([0.1], [1.0]), ("falw", "falw-beta"), 8),
    ),
    "figure2": (Grid(*_cifar100, _product([0.3], GAMMAS), ("salun", "falw")),),
    "figure5": (Grid(*_cifar100, _product([0.3], GAMMAS), ("rl", "salun", "rl-fixed", "salun-fixed")),),
    "figure7": (Grid(*_cifar100, _fifth, TAUS),),
}


# What stands for a data set that has to be downloaded: CIFAR-10 as image files; and the first 100 classes of
# Tiny-ImageNet at 32x32, which are not CIFAR-100 and are called by their own name wherever they are shown.
ON_DISK = {"cifar10": "folder:cifar10-jpeg", "cifar100": "folder:tin100-32"}
SCALES: dict[str, Callable[[Grid], Grid]] = {
    "quick": lambda g: replace(g, dataset="textures", model="tiny"),
    "local": lambda g: replace(g, dataset=ON_DISK.get(g.dataset, g.dataset)),
    "full": lambda g: g,
}


def find_grid(name: str, scale: str = "full") -> tuple[Grid, ...]:
    """The grids of a table or figure at a scale; raises ValueError naming the choice."""
    for given, known, what in ((name, GRIDS, "grid"), (scale, SCALES, "scale")):
        if given not in known:
            raise ValueError(f"unknown {what} '{given}'; choose one of: {', '.join(known)}")
    return tuple(map(SCALES[scale], GRIDS[name]))


def settings_of(found: Grid, seeds: Sequence[int]) -> list[Setting]:
    """A grid's settings, for every seed; generated images are drawn anew with the seed as well."""
    return [
        Setting(found.dataset, found.model, ratio, gamma, seed, data_seed=seed * find_source(found.dataset).generated)
        for ratio, gamma in found.settings
        for seed in seeds
    ]


def cells(name: str, scale: str, seeds: Sequence[int], out: Path | None = None, retrains: int = 2) -> list[Cell]:
    """Every cell of a table or figure, each once: Originals and Retrains are shared where settings are.

    `out` is the folder of records beside which tuned values of the reader's own may lie.
    """
    every = [
        cell
        for found in find_grid(name, scale)
        for setting in settings_of(found, seeds)
        for cell in cells_of(setting, found.methods, out=out, retrains=retrains)
    ]
    return list({cell.key: cell for cell in every}.values())


PRINTED_SCORES = ("fa", "ra", "ta", "mia", "gap")


def beside_paper(rows: DataFrame, printed: Sequence[dict[str, Any]]) -> DataFrame:
    """Our rows (`tables.table`, one setting) that the paper has too, with "fa_paper", ..., "gap_paper" beside them.

    "fa_within", ... is the tolerance stated before any run: |ours - paper| <= max(2 * combined deviation, 1 point),
    where the paper's deviation is 0 if it prints none.
    """
    import pandas as pd

    theirs = pd.DataFrame(printed).astype({"sd": float}).set_index("method")
    both = rows.merge(theirs[[*PRINTED_SCORES, "sd"]].add_suffix("_paper"), on="method")
    for k in PRINTED_SCORES:
        sd = both["sd_paper"].fillna(0) if k == "gap" else 0.0
        tolerance = (2 * np.hypot(both[f"{k}_sd"].fillna(0), sd)).clip(lower=1.0)
        both[f"{k}_within"] = (both[f"{k}_mean"] - both[f"{k}_paper"]).abs() <= tolerance
    return both


def rank_correlation(rows: DataFrame) -> float | None:
    """Kendall's tau between our order of the methods and the paper's, by Avg. Gap; None for fewer than three."""
    ranked = rows[(rows["method"] != RETRAIN) & rows["gap_mean"].notna()]
    return float(ranked["gap_mean"].corr(ranked["gap_paper"], "kendall")) if len(ranked) > 2 else None


def report(name: str, scale: str, records: DataFrame) -> str:
    """A table or figure of the paper from `records`, as Markdown: ours, the paper's beside it, and what can be told.

    Settings without records are left out. Raises ValueError if there are none at all.
    """
    parts = []
    for part in find_grid(name, scale):
        for setting in part.settings:
            ours = records[_belongs(records, part, [setting])]
            if len(ours):
                parts += [scores_to_markdown(table(ours)), *_comparison(part, *setting, ours), *_paired(ours)]
    if not parts:
        raise ValueError(f"no records of {name} at scale {scale}: run python -m falw bench {name} --scale {scale}")
    if any(part.table is None for part in find_grid(name, scale)):
        belongs = np.any([_belongs(records, part, part.settings) for part in find_grid(name, scale)], axis=0)
        parts.append(_groups(records[belongs]))
    return "\n\n".join(parts)


def _belongs(records: DataFrame, part: Grid, settings: Sequence[tuple[float, float]]) -> Series:
    """Which records are of these settings of a grid."""
    s = records
    near = [np.isclose(s["ratio"], r, 1e-9, 0) & np.isclose(s["gamma"], g, 1e-9, 0) for r, g in settings]
    same = (s["dataset"] == part.dataset) & (s["model"] == part.model) & (s["cap"] == "spill") & ~s["split_mismatch"]
    return same & np.any(near, axis=0) & s["method"].isin([ORIGINAL, RETRAIN, FLOOR, *part.methods])


def _comparison(part: Grid, ratio: float, gamma: float, ours: DataFrame) -> list[str]:
    """Ours beside the paper's rows of this setting, whatever its data set and network are."""
    if part.table is None:
        return []
    printed = [r for r in paper.rows(part.table) if r["ratio"] == ratio and math.isclose(r["gamma"], gamma)]
    rows = beside_paper(table(ours), printed)
    lines = [[row["method"], *(_pair(row, k) for k in PRINTED_SCORES)] for row in rows.to_dict("records")]
    theirs = "{dataset}, {model}".format(**printed[0])
    title = f"Ours ({part.dataset}, {part.model}) / the paper's Table {part.table} ({theirs}), * outside the tolerance:"
    tau = rank_correlation(rows)
    order = [] if tau is None else [f"Rank correlation of the methods by Avg. Gap (Kendall's tau): {tau:+.2f}"]
    return [title, markdown(["method", "FA", "RA", "TA", "MIA", "Avg. Gap"], lines), *order]


def _pair(row: dict[str, Any], k: str) -> str:
    mean = "–" if math.isnan(row[f"{k}_mean"]) else f"{row[f'{k}_mean']:.2f}"
    return f"{mean} / {row[f'{k}_paper']:.2f}" + ("" if row[f"{k}_within"] else " *")


def _paired(ours: DataFrame) -> list[str]:
    """Whether FaLW is closer to Retrain than its base, seed by seed, for every pair that ran with two seeds or more."""
    seeds = ours.groupby("method")["seed"].nunique()
    lines = []
    for base, plugged in BASE_TO_FALW.items():
        if base in seeds and seeds.get(plugged, 0) > 1:
            pair = paired_gap(ours, plugged, base)
            interval = f"{pair['low']:+.2f} to {pair['high']:+.2f}"
            lines.append([f"{plugged} − {base}", f"{pair['mean']:+.2f}", interval, side_of(pair)])
    return [markdown(["Avg. Gap", "difference", "95 % interval", "FaLW is"], lines)] if lines else []


def _groups(ours: DataFrame) -> str:
    """Signed FA gaps by group, as in Table 3 and Figures 2 and 5, with the lines that the paper prints."""
    printed = {("falw" if r["balance_factor"] else "falw-tau0", r["gamma"]): r for r in paper.ablation()}
    lines = []
    for (method, gamma), rows in group_gaps(ours).groupby(["method", "gamma"], sort=False):
        texts = {r["group"]: mean_and_sd(r["fa_mean"], r["fa_sd"], sign="+") for r in rows.to_dict("records")}
        lines.append([method, f"{gamma:.3g}", *(texts.get(g, "–") for g in GROUPS)])
        if theirs := printed.get((method, gamma)):
            lines.append([f"{method}, Table 3", f"{gamma:.3g}", *(f"{theirs[g]:+.2f}" for g in GROUPS)])
    return "FA minus Retrain's, by group:\n\n" + markdown(["method", "γ", *GROUPS], lines)


def complete(records: DataFrame) -> list[tuple[str, str]]:
    """(name, scale) of every table and figure of which these records have each method on each setting."""
    done = []
    for name in GRIDS:
        for scale in {find_grid(name, scale): scale for scale in SCALES}.values():  # two scales may be the same
            wanted = [(part, setting) for part in find_grid(name, scale) for setting in part.settings]
            if all(set(g.methods) <= set(records.loc[_belongs(records, g, [s]), "method"]) for g, s in wanted):
                done.append((name, scale))
    return done


# What a run will take

# training images after validation is held out, classes, pixels a side
SIZES = {
    "textures": (3_000, 30, 16),
    "cifar10": (45_000, 10, 32),
    "cifar100": (45_000, 100, 32),
    "tiny-imagenet": (90_000, 200, 64),
}
SIZES |= {there: SIZES[name] for name, there in ON_DISK.items()}


def estimate(todo: Sequence[Cell], device: torch.device) -> dict[str, float]:
    """{"cells", "images", "seconds"} of cells on one process: images that pass through a network in training.

    Seconds come from a few steps of each network, timed now.
    """
    images, seconds = 0.0, 0.0
    rates: dict[tuple[str, str], float] = {}
    originals = {cell.parent: cell for cell in todo if cell.method == ORIGINAL}
    for cell in [*originals.values(), *(c for c in todo if c.method != ORIGINAL)]:
        place = cell.setting.dataset, cell.setting.model
        if place not in rates:
            rates[place] = _seconds_an_image(*place, device)
        n = SIZES[cell.setting.dataset][0]
        own = n * cell.passes(n, cell.setting.ratio)
        images, seconds = images + own, seconds + own * rates[place]
    return {"cells": len(todo), "images": images, "seconds": seconds}


def _seconds_an_image(dataset: str, model: str, device: torch.device) -> float:
    """Of one training pass, on one thread of a CPU as a cell runs; the best of three."""
    _, classes, side = SIZES[dataset]
    batch = 512 if device.type == "cuda" else 64 if model == "tiny" else 8
    network = create(model, classes, (0.5,) * 3, (0.5,) * 3).to(device).train()
    x, y = torch.zeros(batch, 3, side, side, dtype=torch.uint8, device=device), torch.zeros(batch, device=device).long()
    threads, times = torch.get_num_threads(), []
    torch.set_num_threads(1 if device.type == "cpu" else threads)
    for _ in range(3):
        start = time.perf_counter()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return min(times) / batch
