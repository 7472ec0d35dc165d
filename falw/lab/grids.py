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
from typing import Any

import torch

from falw import methods
from falw.data import find_source
from falw.lab import paper
from falw.lab.cells import ORIGINAL, Cell, Setting, cells_of
from falw.lab.tables import GROUPS, Row, grid, group_gaps, paired_gap, side_of, table, to_markdown
from falw.models import create

BASELINES = tuple(row.name for row in methods.BASELINES)
ALL = (*BASELINES, "falw")
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


def _each(ratios: Sequence[float], gammas: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple((ratio, gamma) for ratio in ratios for gamma in gammas)


_cifar100, _cifar10, _tiny = ("cifar100", "resnet18"), ("cifar10", "vgg16"), ("tiny-imagenet", "vgg16")
_fifth = _each([0.2], [1 / 4])  # the setting of Tables 7 and 8 and of Figure 7
_plug = tuple(name for pair in BASE_TO_FALW.items() for name in pair)

GRIDS: dict[str, tuple[Grid, ...]] = {
    "table1": (Grid(*_tiny, _each([0.1], [1.0]), ALL, 1), Grid(*_cifar10, _each([0.4], [1 / 2]), ALL, 1)),
    "table2": (Grid(*_cifar100, _each([0.3], GAMMAS), ("salun", "falw"), 2),),
    "table3": (Grid(*_cifar100, _each([0.3], [3 / 2, 2.0]), ("falw-tau0", "falw")),),
    "table4": (Grid(*_cifar100, _each([0.1, 0.2, 0.3, 0.4, 0.5], [1 / 4]), ALL, 4),),
    "table5": (Grid(*_tiny, ((0.2, 0.0), (0.5, 0.0), (0.3, 1 / 3), (0.1, 1.0)), ALL, 5),),
    "table6": (Grid(*_cifar10, _each([0.4], [1 / 2]), ALL, 6),),
    "table7": (Grid(*_cifar100, _fifth, _plug, 7),),
    "table8": (
        Grid(*_cifar100, _fifth, ("falw", "falw-beta"), 8),
        Grid(*_tiny, _each([0.1], [1.0]), ("falw", "falw-beta"), 8),
    ),
    "figure2": (Grid(*_cifar100, _each([0.3], GAMMAS), ("salun", "falw")),),
    "figure5": (Grid(*_cifar100, _each([0.3], GAMMAS), ("rl", "salun", "rl-fixed", "salun-fixed")),),
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


def cells(name: str, scale: str, seeds: Sequence[int], out: Path | None = None) -> list[Cell]:
    """Every cell of a table or figure, each once: Originals and Retrains are shared where settings are.

    `out` is the folder of records beside which tuned values of the reader's own may lie.
    """
    every = [
        cell
        for found in find_grid(name, scale)
        for setting in settings_of(found, seeds)
        for cell in cells_of(setting, found.methods, out=out)
    ]
    return list({cell.key: cell for cell in every}.values())


def beside_paper(rows: Sequence[Row], printed: Sequence[dict[str, Any]]) -> list[Row]:
    """Our rows (`tables.table`, one setting) with the paper's of the same method.

    A row is {"method", "seeds", and for "fa", "ra", "ta", "mia", "gap": {"ours", "sd", "paper", "within"}}. "within" is
    the tolerance stated before any run: |ours - paper| <= max(2 * combined deviation, 1 point), where the paper's
    deviation is 0 if it prints none.
    """
    theirs = {row["method"]: row for row in printed}
    found = []
    for row in rows:
        if row["method"] not in theirs:
            continue
        entry: Row = {"method": row["method"], "seeds": row["seeds"]}
        for key in ("fa", "ra", "ta", "mia", "gap"):
            value, ours = theirs[row["method"]][key], row[key]
            paper_sd = (theirs[row["method"]]["sd"] or 0.0) if key == "gap" else 0.0
            tolerance = max(2 * math.hypot(ours["sd"] or 0.0, paper_sd), 1.0)
            within = ours["mean"] is not None and abs(ours["mean"] - value) <= tolerance
            entry[key] = {"ours": ours["mean"], "sd": ours["sd"], "paper": value, "within": within}
        found.append(entry)
    return found


def rank_correlation(rows: Sequence[Row]) -> float | None:
    """Kendall's tau between our order of the methods and the paper's, by Avg. Gap; None for fewer than three."""
    pairs = [(row["gap"]["ours"], row["gap"]["paper"]) for row in rows if row["method"] != "retrain"]
    pairs = [pair for pair in pairs if pair[0] is not None]
    if len(pairs) < 3:
        return None
    from scipy.stats import kendalltau

    return float(kendalltau(*zip(*pairs, strict=True)).statistic)


def report(name: str, scale: str, records: Sequence[dict[str, Any]]) -> str:
    """A table or figure of the paper from records, as Markdown: ours, the paper's beside it, and what can be told.

    Settings without records are left out. Raises ValueError if there are none at all.
    """
    parts = []
    for found in find_grid(name, scale):
        for ratio, gamma in found.settings:
            own = [r for r in records if _belongs(r, found, ratio, gamma)]
            if own:
                parts += [to_markdown(table(own)), *_comparison(found, ratio, gamma, own), *_paired(own)]
    if not parts:
        raise ValueError(f"no records of {name} at scale {scale}: run python -m falw bench {name} --scale {scale}")
    if any(found.table is None for found in find_grid(name, scale)):
        parts.append(_groups([r for r in records if any(_belongs(r, g) for g in find_grid(name, scale))]))
    return "\n\n".join(parts)


def _belongs(record: dict[str, Any], found: Grid, *where: float) -> bool:
    s = record["setting"]
    settings = [where] if where else found.settings
    return (
        (s["dataset"], s["model"], s["cap"], s["split_mismatch"]) == (found.dataset, found.model, "spill", False)
        and any(math.isclose(s["ratio"], r) and math.isclose(s["gamma"], g) for r, g in settings)
        and record["method"] in ("original", "retrain", *found.methods)
    )


def _comparison(found: Grid, ratio: float, gamma: float, own: list[dict[str, Any]]) -> list[str]:
    """Ours beside the paper's rows of this setting, whatever its data set and network are."""
    if found.table is None:
        return []
    printed = [r for r in paper.rows(found.table) if r["ratio"] == ratio and math.isclose(r["gamma"], gamma)]
    rows = beside_paper(table(own), printed)
    lines = [[row["method"], *(_pair(row[key]) for key in ("fa", "ra", "ta", "mia", "gap"))] for row in rows]
    there, here = "{dataset}, {model}".format(**printed[0]), f"{found.dataset}, {found.model}"
    title = f"Ours ({here}) / the paper's Table {found.table} ({there}), * outside the tolerance:"
    tau = rank_correlation(rows)
    order = [] if tau is None else [f"Rank correlation of the methods by Avg. Gap (Kendall's tau): {tau:+.2f}"]
    return [title, grid(["method", "FA", "RA", "TA", "MIA", "Avg. Gap"], lines), *order]


def _pair(value: dict[str, Any]) -> str:
    ours = "–" if value["ours"] is None else f"{value['ours']:.2f}"
    return f"{ours} / {value['paper']:.2f}" + ("" if value["within"] else " *")


def _paired(own: list[dict[str, Any]]) -> list[str]:
    """Whether FaLW is closer to Retrain than its base, seed by seed, for every pair that ran with two seeds or more."""
    ran = {record["method"] for record in own}
    lines = []
    for base, plugged in BASE_TO_FALW.items():
        if {base, plugged} <= ran and len({r["setting"]["seed"] for r in own if r["method"] == plugged}) > 1:
            found = paired_gap(own, plugged, base)
            interval = f"{found['low']:+.2f} to {found['high']:+.2f}"
            lines.append([f"{plugged} − {base}", f"{found['mean']:+.2f}", interval, side_of(found)])
    return [grid(["Avg. Gap", "difference", "95 % interval", "FaLW is"], lines)] if lines else []


def _groups(own: list[dict[str, Any]]) -> str:
    """Signed FA gaps by group, as in Table 3 and Figures 2 and 5, with the lines that the paper prints."""
    printed = {("falw" if r["balance_factor"] else "falw-tau0", r["gamma"]): r for r in paper.ablation()}
    rows = group_gaps(own)
    lines = []
    for key in dict.fromkeys((row["method"], row["gamma"]) for row in rows):
        of = {row["group"]: row["fa"] for row in rows if (row["method"], row["gamma"]) == key}
        texts = [_signed(of.get(g, {"mean": None, "sd": None})) for g in GROUPS]
        lines.append([key[0], f"{key[1]:.3g}", *texts])
        if key in printed:
            lines.append([f"{key[0]}, Table 3", f"{key[1]:.3g}", *(f"{printed[key][g]:+.2f}" for g in GROUPS)])
    return "FA minus Retrain's, by group:\n\n" + grid(["method", "γ", *GROUPS], lines)


def _signed(value: dict[str, float | None]) -> str:
    if value["mean"] is None:
        return "–"
    return f"{value['mean']:+.2f}" + ("" if value["sd"] is None else f" ± {value['sd']:.2f}")


def complete(records: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """(name, scale) of every table and figure of which these records have each method on each setting."""
    found = []
    for name in GRIDS:
        for scale in {find_grid(name, scale): scale for scale in SCALES}.values():  # two scales may be the same
            grids = find_grid(name, scale)
            wanted = [(g, where, method) for g in grids for where in g.settings for method in g.methods]
            if all(any(r["method"] == m and _belongs(r, g, *where) for r in records) for g, where, m in wanted):
                found.append((name, scale))
    return found


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
        own = n * cell.passes(n)
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
