"""Arrays and records as pictures. Every function draws on the axes it is given, or on new ones, and returns them.

Nothing is trained or computed here beyond means and counts, so a figure never runs a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from falw.metrics import Part, Scores, deviation
from falw.split import Split, groups

# Okabe and Ito's colours, told apart by colour-blind readers; the models of one chapter keep theirs across figures.
COLOURS = {
    "original": "#999999",
    "retrain": "#000000",
    "noise floor": "#666666",
    "ft": "#56B4E9",
    "rl": "#E69F00",
    "ga": "#CC79A7",
    "salun": "#0072B2",
    "falw": "#D55E00",
    "rl+falw": "#009E73",
    "test images": "#56B4E9",
}
GROUP_COLOURS = {"head": "#0072B2", "mid": "#E69F00", "tail": "#D55E00"}


def axes(ax: Axes | None, width: float = 6.4, height: float = 3.2) -> Axes:
    """The axes given, or those of a new figure of width x height inches."""
    return ax if ax is not None else plt.subplots(figsize=(width, height), dpi=144, layout="constrained")[1]


def colour(name: str) -> str | None:
    """The colour of a model, None (the next in the cycle) for one without."""
    return COLOURS.get(name)


def image_grid(x: Tensor, y: Tensor, classes: Sequence[int], per_class: int = 8, ax: Axes | None = None) -> Axes:
    """One row of images a class: x uint8 (n, c, h, w), y (n,)."""
    ax = axes(ax, 0.75 * per_class + 0.8, 0.75 * len(classes))
    x = torch.nn.functional.pad(x, (0, 2, 0, 2), value=255)  # a white line between images
    rows = [torch.cat(list(x[y == c][:per_class]), dim=2) for c in classes]
    ax.imshow(torch.cat(rows, dim=1).permute(1, 2, 0).numpy(), interpolation="nearest")
    side = x.shape[2]
    ax.set_xticks([])
    ax.set_yticks([side * (k + 0.5) for k in range(len(classes))], [f"class {c}" for c in classes])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


def class_counts(split: Split, ax: Axes | None = None) -> Axes:
    """How many images of each class are forgotten, classes by rank and coloured by group."""
    ax = axes(ax)
    for name, members in groups(split).items():
        ax.bar(split.rank[members], split.forget_counts[members], color=GROUP_COLOURS[name], label=name, width=0.9)
    ax.set(xlabel="class, by rank", ylabel="images to forget")
    ax.legend(title="group", frameon=False)
    return ax


def power_law(counts: Tensor, available: int, ax: Axes | None = None) -> Axes:
    """Forget counts by rank as an outline, the dashed line is what each class has: counts (C,), head class first."""
    ax = axes(ax, 5, 2.8)
    edges = np.arange(len(counts) + 1) + 0.5
    ax.stairs(counts, edges, fill=True, color=GROUP_COLOURS["head"], alpha=0.35)
    ax.stairs(counts, edges, color=GROUP_COLOURS["head"], linewidth=1.5)
    ax.axhline(available, color="black", linestyle="--", linewidth=1, label="images a class has")
    ax.set(xlabel="rank of the class", ylabel="images to forget", xlim=(0.5, len(counts) + 0.5))
    ax.set_ylim(0, 1.2 * available)
    ax.legend(frameon=False, loc="upper right")
    return ax


def weight_curves(
    curves: Mapping[str, tuple[Tensor, Tensor]], xlabel: str, grey: str | None = None, ax: Axes | None = None
) -> Axes:
    """Weights w over z or p, one curve a name as (x, w); `grey` is the one that the others are compared with."""
    ax = axes(ax, 5, 3)
    for name, (x, w) in curves.items():
        ax.plot(x, w, color="#999999" if name == grey else None, linewidth=1.8, label=name)
    ax.axhline(1, color="black", linewidth=0.6)
    ax.set(xlabel=xlabel, ylabel="weight w", ylim=(-0.05, 2.05))
    ax.legend(frameon=False, loc="upper left")
    return ax


def group_histogram(counts: Mapping[str, Sequence[float]], means: Mapping[str, float], ax: Axes | None = None) -> Axes:
    """Stored counts of the true class's probability (`metrics.distributions`) under several models, means as lines."""
    ax = axes(ax, 5, 3)
    for name, values in counts.items():
        share = 100 * np.asarray(values, float) / max(sum(values), 1)
        edges = np.linspace(0, 1, len(share) + 1)
        ax.stairs(share, edges, color=colour(name) or "#0072B2", linewidth=1.8, label=name)
        ax.axvline(means[name], color=colour(name) or "#0072B2", linewidth=1, linestyle="--")
    ax.set(xlabel="probability of the true class", ylabel="share of forgotten images, %", xlim=(0, 1), ylim=(0, 60))
    ax.legend(frameon=False, loc="upper center")
    return ax


def group_gaps(rows: Sequence[Mapping[str, Any]], methods: Sequence[str], of: str = "fa") -> Sequence[Axes]:
    """Signed distance to Retrain over gamma, a panel a group, from `report.group_gaps`; bars are deviations over seeds.

    of: "fa" (points of accuracy) or "p" (mean deviation of the probability).
    """
    names = [name for name in GROUP_COLOURS if any(row["group"] == name for row in rows)]
    _, panels = plt.subplots(1, len(names), figsize=(9, 3.2), dpi=144, layout="constrained", sharey=True)
    for panel, group in zip(panels, names, strict=True):
        for name in methods:
            own = [row for row in rows if row["method"] == name and row["group"] == group]
            means, sds = [row[of]["mean"] for row in own], [row[of]["sd"] or 0.0 for row in own]
            x = [row["gamma"] for row in own]
            panel.errorbar(x, means, sds, marker=".", capsize=2, color=colour(name), label=name)
        panel.axhline(0, color="black", linewidth=0.8)
        panel.set(title=group, xlabel="γ")
    panels[0].set_ylabel("FA − FA of Retrain, points" if of == "fa" else "mean p − p of Retrain")
    panels[-1].legend(frameon=False, fontsize="small")
    return panels


def metric_bars(rows: Sequence[Mapping[str, Any]], column: str, label: str, ax: Axes | None = None) -> Axes:
    """One column of `report.table` as bars with deviations over seeds: Retrain's value, or the noise floor, dashed."""
    names = [row["method"] for row in rows if row["method"] not in ("retrain", "noise floor")]
    shown = [row for row in rows if row["method"] in names and row[column]["mean"] is not None]
    reference = "noise floor" if column in ("gap", "tow") else "retrain"
    ax = axes(ax, 5, 0.26 * len(shown) + 1)
    ax.barh(
        [row["method"] for row in shown],
        [row[column]["mean"] for row in shown],
        xerr=[row[column]["sd"] or 0.0 for row in shown],
        color=[colour(row["method"]) or "#777777" for row in shown],
        error_kw={"elinewidth": 1, "ecolor": "#444444"},
    )
    for row in rows:
        if row["method"] == reference:
            ax.axvline(row[column]["mean"], color="black", linestyle="--", linewidth=1, label=reference)
            ax.legend(frameon=False, loc="lower right")
    ax.set(xlabel=label, xlim=(0, None), ylim=(len(shown) - 0.5, -0.5))
    return ax


def trajectory(p: Tensor, w: Tensor, val_p: Tensor, mean: float, std: float, ax: Axes | None = None) -> Axes:
    """One class at one moment: each forgotten sample's weight over its probability, and unseen images as a rug.

    p, w: (n,) of the forgotten samples; val_p: (m,) of the unseen ones, whose mean and one deviation are marked.
    """
    ax = axes(ax, 5, 3)
    ax.axvspan(max(mean - std, 0), min(mean + std, 1), color="#dddddd", zorder=0, label="unseen: mean ± deviation")
    ax.axvline(mean, color="#666666", linewidth=1)
    ax.plot(val_p, np.full(len(val_p), 0.04), "|", color="#666666", markersize=8)
    ax.plot(p, w, "o", color=COLOURS["falw"], markersize=3.5, label="forgotten samples")
    ax.axhline(1, color="black", linewidth=0.6)
    ax.set(xlabel="probability of the true class", ylabel="weight w", xlim=(-0.02, 1.02), ylim=(0, 2.05))
    ax.legend(frameon=False, loc="upper left")
    return ax


def probability_histogram(parts: Mapping[str, Part], ax: Axes | None = None, bins: int = 20) -> Axes:
    """Distribution of the true class's probability under several models, as outlines that can be compared."""
    ax = axes(ax)
    edges = np.linspace(0, 1, bins + 1)
    for name, part in parts.items():
        share = np.full(len(part.y), 100 / max(len(part.y), 1))
        ax.hist(part.p_true, edges, weights=share, histtype="step", linewidth=1.8, color=colour(name), label=name)
    ax.set(xlabel="probability of the true class", ylabel="share of images, %", xlim=(0, 1))
    ax.legend(frameon=False)
    return ax


def score_bars(scores: Mapping[str, Scores], ax: Axes | None = None) -> Axes:
    """The four scores of several models side by side."""
    ax = axes(ax)
    width = 0.8 / max(len(scores), 1)
    places = np.arange(len(Scores._fields))
    for k, (name, values) in enumerate(scores.items()):
        ax.bar(places + (k - (len(scores) - 1) / 2) * width, values, width, color=colour(name), label=name)
    ax.set_xticks(places, [field.upper() for field in Scores._fields])
    ax.set(ylabel="%", ylim=(0, 105))
    ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def deviation_histogram(deviations: Mapping[str, Tensor], tol: float = 0.1, ax: Axes | None = None) -> Axes:
    """Signed deviation from Retrain of every forgotten sample; the band is what the tolerance calls faithful."""
    ax = axes(ax)
    ax.axvspan(-tol, tol, color="#dddddd", zorder=0)
    for name, d in deviations.items():
        share = np.full(len(d), 100 / len(d))
        edges = np.linspace(-1, 1, 41)
        ax.hist(d, edges, weights=share, histtype="step", linewidth=1.8, color=colour(name), label=name)
    ax.set(xlabel="over-forgotten  ←  p − p of Retrain  →  under-forgotten", ylabel="share of samples, %", xlim=(-1, 1))
    ax.legend(frameon=False)
    return ax


def method_card(name: str, forget: Mapping[str, Part], tol: float = 0.1) -> tuple[Axes, Axes]:
    """One method in two panels: its probabilities on the forget set, and its deviation from Retrain.

    forget: the forget set under "original", "retrain", "noise floor" and `name`.
    """
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 2.6), dpi=144, layout="constrained")
    probability_histogram({k: forget[k] for k in ("original", "retrain", name)}, left)
    against = {k: deviation(forget[k], forget["retrain"]) for k in ("noise floor", name)}
    deviation_histogram(against, tol, right)
    return left, right


def paths(values: Mapping[str, Sequence[float]], floor: float, ax: Axes | None = None) -> Axes:
    """A quantity after each epoch (0 is the Original) under several methods, with Retrain's value as a line."""
    ax = axes(ax)
    for name, path in values.items():
        ax.plot(range(len(path)), path, marker=".", label=name)
    ax.axhline(floor, color=COLOURS["retrain"], linewidth=1, linestyle="--", label="retrain")
    ax.set(xlabel="epoch", ylabel="mean probability of the true class", ylim=(0, 1))
    ax.legend(frameon=False)
    return ax


def tuning_curves(trials: Sequence[Mapping[str, Any]], methods: Sequence[str], ax: Axes | None = None) -> Axes:
    """Avg. Gap over the learning rate for methods of a search (`tune`), the chosen rate marked."""
    ax = axes(ax)
    for name in methods:
        own = sorted((t for t in trials if t["method"] == name and "gap" in t), key=lambda t: t["changes"]["lr"])
        rates, gaps = [t["changes"]["lr"] for t in own], [t["gap"] for t in own]
        (line,) = ax.plot(rates, gaps, marker=".", color=colour(name), label=name)
        best = min(own, key=lambda t: t["gap"])
        ax.plot(best["changes"]["lr"], best["gap"], "o", markersize=9, fillstyle="none", color=line.get_color())
    ax.set(xscale="log", xlabel="learning rate", ylabel="Avg. Gap to Retrain, points", ylim=(0, None))
    ax.legend(frameon=False)
    return ax


def paired_intervals(rows: Sequence[Mapping[str, Any]], ax: Axes | None = None) -> Axes:
    """Differences in Avg. Gap with their intervals, from `report.paired_gap`; each pair of seeds is a dot."""
    ax = axes(ax, height=0.45 * len(rows) + 1)
    for y, row in enumerate(rows):
        ax.plot(row["differences"], np.full(len(row["differences"]), y), ".", color="#999999", markersize=4)
        ax.plot([row["low"], row["high"]], [y, y], color=COLOURS["falw"], linewidth=2)
        ax.plot(row["mean"], y, "o", color=COLOURS["falw"])
    ax.axvline(0, color="black", linewidth=1)
    ax.set_yticks(range(len(rows)), [f"{row['method']} − {row['base']}" for row in rows])
    ax.set(xlabel="first closer to Retrain  ←  difference in Avg. Gap, points  →  second closer")
    ax.invert_yaxis()
    return ax


def gap_bars(rows: Sequence[Mapping[str, Any]], ax: Axes | None = None) -> Axes:
    """Avg. Gap of each method in rows of `report.table`, with its deviation over seeds; the noise floor as a line."""
    shown = [row for row in rows if row["method"] not in ("retrain", "noise floor")]
    ax = axes(ax, height=0.36 * len(shown) + 1)
    floor = [row["gap"]["mean"] for row in rows if row["method"] == "noise floor"]
    names = [row["method"] for row in shown]
    ax.barh(
        names,
        [row["gap"]["mean"] for row in shown],
        xerr=[row["gap"]["sd"] or 0.0 for row in shown],
        color=[colour(name) or "#777777" for name in names],
        error_kw={"elinewidth": 1, "ecolor": "#444444"},
    )
    if floor:
        ax.axvline(floor[0], color="black", linestyle="--", linewidth=1, label="noise floor")
        ax.legend(frameon=False)
    ax.set_ylim(len(shown) - 0.5, -0.5)  # the first on top; inverting twice would undo it on shared axes
    ax.set(xlabel="Avg. Gap to Retrain, points", xlim=(0, None))
    return ax
