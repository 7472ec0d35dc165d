"""Figures: every function draws arrays or records on the axes it is given, or on new ones, and returns them.

Nothing is trained or computed here beyond means and counts, so a figure never runs a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from torch import Tensor

from falw.lab.cells import ORIGINAL, RETRAIN
from falw.lab.claims import LEAST_SEEDS
from falw.lab.curves import MEASURES, REFERENCES, mean_curve
from falw.lab.records import SEEDS, SETTING, in_order
from falw.lab.tables import interval, turned_in
from falw.lab.traces import Trace
from falw.methods import METHODS, VARIANTS
from falw.metrics import Part, Scores
from falw.split import Split, groups
from falw.weights import BetaParams, ClassStats, balance_factor

if TYPE_CHECKING:
    from pandas import DataFrame

# Colours that colour-blind readers can tell apart, the same in all figures. A method's stands in its row.
NO_METHODS = {"original": "#999999", "noise floor": "#666666", "test images": "#56B4E9"}
SERIES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#E69F00", "D"))  # colour and mark
GROUP_COLOURS = {"head": "#0072B2", "mid": "#E69F00", "tail": "#D55E00"}


# A family of methods has one hue in the whole book; its rows differ in how dark they are.
FAMILIES = {  # those of chapter 3, FaLW's weights and the target of chapter 13 apart
    "retain only": ("ft", "l1-sparse"),
    "relabel": ("rl", "rl-fixed", "salun", "salun-fixed", "be", "bs", "amun"),
    "ascend": ("ga", "neggrad+", "sfron", "scrub"),
    "distil": ("bad-teacher", "delete", "lotus"),
    "dampen": ("iu", "ssd"),
    "FaLW's weights": ("falw", "rl+falw"),
    "a target": ("neighbour-target",),
}


def axes(ax: Axes | None, width: float = 6.4, height: float = 3.2) -> Axes:
    """The axes given, or those of a new figure of width x height inches."""
    return ax if ax is not None else plt.subplots(figsize=(width, height), dpi=144, layout="constrained")[1]


MARKS = "os^Dv"  # of methods whose colours are alike


def colour(name: str) -> str | None:
    """The colour of a model; a variant in its base's colour has a darker shade. None for one that has no row."""
    if name in NO_METHODS:
        return NO_METHODS[name]
    rows = {**METHODS, **VARIANTS}
    shade = rows[name].colour if name in rows else ""
    owner = next((row.name for row in rows.values() if row.colour == shade), name)
    return (shade if owner == name else to_hex(np.array(to_rgb(shade)) * 0.55)) if shade else None


def is_pale(shade: str) -> bool:
    """Whether a line of this colour on white has a contrast below 2 : 1 (WCAG's formula)."""
    light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(shade)]
    return 1.05 / (np.dot((0.2126, 0.7152, 0.0722), light) + 0.05) < 2


def legend_above(ax: Axes) -> Axes:
    """The same axes with their names outside, where they cover nothing."""
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return ax


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


def image_row(images: Mapping[str, Tensor], ax: Axes | None = None) -> Axes:
    """Images uint8 (c, h, w) of one size in a row, each under its name."""
    ax = axes(ax, 1.05 * len(images) + 0.1, 1.4)
    side = next(iter(images.values())).shape[2]
    row = torch.cat([torch.nn.functional.pad(x, (0, side // 8, 0, 0), value=255) for x in images.values()], dim=2)
    ax.imshow(row.permute(1, 2, 0).numpy(), interpolation="nearest")
    ax.set_xticks([(side + side // 8) * (k + 0.5) - side // 16 for k in range(len(images))], images)
    ax.set_yticks([])
    ax.xaxis.tick_top()
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


def known_images(x: Tensor, y: Tensor, p: Mapping[str, Tensor]) -> Sequence[Axes]:
    """Images uint8 (n, c, h, w), and under each the probability of its class under every model: p (n,) by name."""
    _, panels = plt.subplots(
        2, len(x), figsize=(1.7 * len(x), 2.9), dpi=144, height_ratios=[2, 1], layout="constrained", squeeze=False
    )
    for k, (above, below) in enumerate(panels.T):
        above.imshow(x[k].permute(1, 2, 0).numpy(), interpolation="nearest")
        above.set(title=f"labelled {y[k]}", xticks=[], yticks=[])
        for row, (name, values) in enumerate(p.items()):
            below.barh(row, values[k].item(), color=colour(name))
            below.text(1.03, row, f"{values[k]:.2f}", va="center", fontsize=9)
        below.set(xlim=(0, 1.35), xticks=[0, 1], yticks=range(len(p)), yticklabels=list(p) if k == 0 else [])
        below.invert_yaxis()
        below.spines[["top", "right"]].set_visible(False)
    return list(panels.flat)


def network_shapes(shapes: Mapping[str, tuple[int, ...]], ax: Axes | None = None) -> Axes:
    """What flows through a network, a block a layer: as high as the image, as wide as the log of the channels."""
    ax = axes(ax, 1.05 * len(shapes) + 0.3, 2.4)
    tallest = max(shape[1] if len(shape) > 1 else 1 for shape in shapes.values())
    for k, (name, shape) in enumerate(shapes.items()):
        height = (shape[1] if len(shape) > 1 else 1) / tallest
        width = 0.1 * np.log2(shape[0]) + 0.1
        ax.add_patch(
            plt.Rectangle((k - width / 2, -height / 2), width, height, facecolor="#56B4E9", edgecolor="#333333")
        )
        ax.text(k, 0.62, name, ha="center", va="bottom", fontsize=9)
        ax.text(k, -0.62, " × ".join(map(str, shape)), ha="center", va="top", fontsize=9)
        if k:
            ax.annotate("", (k - 0.38, 0), (k - 0.62, 0), arrowprops={"arrowstyle": "->", "color": "#333333"})
    ax.set(xlim=(-0.6, len(shapes) - 0.4), ylim=(-0.95, 1.05))
    ax.axis("off")
    return ax


def class_counts(split: Split, ax: Axes | None = None) -> Axes:
    """How many images of each class are forgotten, classes by rank and coloured by group."""
    ax = axes(ax)
    for name, members in groups(split).items():
        ranks, counts = split.rank[members].tolist(), split.forget_counts[members].tolist()
        ax.bar(ranks, counts, color=GROUP_COLOURS[name], label=name, width=0.9)
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


def count_lines(counts: Mapping[str, Tensor], available: int | None = None, ax: Axes | None = None) -> Axes:
    """Class counts of several forget sets as lines, (C,) each, head class first; `available` is what a class has."""
    ax = axes(ax)
    for name, values in counts.items():
        ax.plot(range(1, len(values) + 1), values, drawstyle="steps-mid", linewidth=1.3, label=name)
    if available is not None:
        ax.axhline(available, color="black", linestyle="--", linewidth=1, label="images a class has")
    ax.set(xlabel="class", ylabel="images to forget", ylim=(0, None if available is None else 1.45 * available))
    ax.legend(frameon=False, loc="upper right")
    return ax


def slope_shares(
    slopes: Mapping[str, Sequence[float]], marks: Mapping[str, Sequence[float]], ax: Axes | None = None
) -> Axes:
    """Histograms of slopes γ, a name an outline of shares in percent; `marks` are values on the axis below, by name."""
    ax = axes(ax)
    edges = np.linspace(0, 2.5, 26)
    shares = {name: 100 * np.histogram(values, edges)[0] / len(values) for name, values in slopes.items()}
    for name, share in shares.items():
        ax.stairs(share, edges, linewidth=1.8, label=name)
    for name, values in marks.items():
        ax.plot(values, [0] * len(values), "k^", clip_on=False, zorder=5, label=name)
    ax.set(xlabel="slope γ", ylabel="accounts, %", xlim=(-0.05, 2.5))
    ax.set_ylim(0, 1.5 * max(share.max() for share in shares.values()))
    ax.legend(frameon=False, loc="upper left")
    return ax


def over_gamma(series: Mapping[str, Mapping[float, Sequence[float]]], label: str, ax: Axes | None = None) -> Axes:
    """A score over gamma, a line a name: the mean at each gamma, and from the least to the largest value as a bar."""
    ax = axes(ax)
    for name, values in series.items():
        gammas = sorted(values)
        means = np.array([np.mean(values[g]) for g in gammas])
        bars = [means - [min(values[g]) for g in gammas], [max(values[g]) for g in gammas] - means]
        ax.errorbar(gammas, means, bars, marker=".", capsize=3, color=GROUP_COLOURS.get(name), label=name)
    ax.set(xlabel="γ", ylabel=label, ylim=(0, None))
    ax.legend(frameon=False)
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


def probability_counts(rows: DataFrame, ax: Axes | None = None) -> Axes:
    """Histograms of the true class's probability, a model a row (of `tables.pooled_probabilities`), means dashed."""
    ax = axes(ax, 5, 3)
    for name, part in rows.iterrows():
        share = 100 * np.asarray(part["counts"], float) / max(sum(part["counts"]), 1)
        edges = np.linspace(0, 1, len(share) + 1)
        ax.stairs(share, edges, color=colour(name) or "#777777", linewidth=1.8, label=name)
        ax.axvline(part["mean"], color=colour(name) or "#777777", linewidth=1, linestyle="--")
    ax.set(xlabel="probability of the true class", ylabel="share of forgotten images, %", xlim=(0, 1), ylim=(0, None))
    ax.legend(frameon=False, loc="upper right")
    return ax


def group_gap_panels(rows: DataFrame, methods: Sequence[str], of: str = "fa") -> Sequence[Axes]:
    """Signed distance to Retrain over gamma, a panel a group, from `tables.group_gaps`; bars are deviations over seeds.

    of: "fa" (points of accuracy) or "p" (mean deviation of the probability). Two exponents are not joined by a line,
    which would say something of those between.
    """
    names = [name for name in GROUP_COLOURS if name in set(rows["group"])]
    figure, panels = plt.subplots(1, len(names), figsize=(9, 3.4), dpi=144, layout="constrained", sharey=True)
    ran = sorted(rows["gamma"].unique())
    # Colours of a family are alike, and some are pale: each method has a mark of its own, with a dark edge, and so has
    # a pale line.
    style: dict[str, Any] = {"markersize": 4.5, "markeredgecolor": "#333333", "markeredgewidth": 0.7, "capsize": 2}
    style["linestyle"] = "-" if len(ran) > 2 else "none"
    for panel, group in zip(panels, names, strict=True):
        for k, name in enumerate(methods):
            gaps = rows[(rows["method"] == name) & (rows["group"] == group)]
            x = gaps["gamma"] + 0.04 * (k - len(methods) / 2)  # side by side, so that bars can be told
            mean, sd = gaps[f"{of}_mean"], gaps[f"{of}_sd"].fillna(0)
            bars = panel.errorbar(x, mean, sd, color=colour(name), label=name, marker=MARKS[k % len(MARKS)], **style)
            if is_pale(colour(name) or "#777777"):
                bars[0].set_path_effects([Stroke(linewidth=2.5, foreground="#333333"), Normal()])
        panel.axhline(0, color="black", linewidth=0.8)
        panel.set(title=group, xlabel="γ")
        if len(ran) == 2:
            panel.set(xticks=ran, xlim=(1.5 * ran[0] - 0.5 * ran[1], 1.5 * ran[1] - 0.5 * ran[0]))
    difference = "FA − FA of Retrain, points" if of == "fa" else "mean p − p of Retrain"
    panels[0].set_ylabel(f"{difference}\n0 is best")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(methods), frameon=False)
    return panels


def metric_bars(rows: DataFrame, column: str, label: str, ax: Axes | None = None) -> Axes:
    """One column of `tables.table` as bars with deviations over seeds: Retrain's value, or the noise floor, dashed."""
    mean, sd = f"{column}_mean", f"{column}_sd"
    shown = rows[~rows["method"].isin(["retrain", "noise floor"]) & rows[mean].notna()]
    reference = "noise floor" if column in ("gap", "tow") else "retrain"
    ax = axes(ax, 5, 0.26 * len(shown) + 1)
    ax.barh(
        shown["method"],
        shown[mean],
        xerr=shown[sd].fillna(0),
        color=[colour(name) or "#777777" for name in shown["method"]],
        error_kw={"elinewidth": 1, "ecolor": "#000000"},
    )
    for value in rows.loc[rows["method"] == reference, mean]:
        ax.axvline(value, color="black", linestyle="--", linewidth=1, label=reference)
        ax.legend(frameon=False, loc="lower right")
    ax.set(xlabel=label, xlim=(0, None))
    ax.set_ylim(len(shown) - 0.5, -0.5)  # the first on top; inverting twice would undo it on shared axes
    return ax


def class_at_epoch(p: Tensor, w: Tensor, val_p: Tensor, mean: float, std: float, ax: Axes | None = None) -> Axes:
    """One class at one moment: each forgotten sample's weight over its probability, and unseen images as a rug.

    p, w: (n,) of the forgotten samples; val_p: (m,) of the unseen ones; their mean and one SD about it are marked.
    """
    ax = axes(ax, 5, 3)
    ax.axvspan(max(mean - std, 0), min(mean + std, 1), color="#dddddd", zorder=0, label="unseen: mean ± SD")
    ax.axvline(mean, color="#666666", linewidth=1)
    ax.plot(val_p, np.full(len(val_p), 0.04), "|", color="#666666", markersize=8)
    ax.plot(p, w, "o", color=colour("falw"), markersize=3.5, label="forgotten samples")
    ax.axhline(1, color="black", linewidth=0.6)
    ax.set(xlabel="probability of the true class", ylabel="weight w", xlim=(-0.02, 1.02), ylim=(0, 2.05))
    legend_above(ax)
    return ax


def weights_by_group(images: DataFrame, ax: Axes | None = None) -> Axes:
    """Weight over probability, a dot a forgotten image, coloured by group (rows of `own_model.weighted`)."""
    ax = axes(ax, 5, 3)
    for name, shade in GROUP_COLOURS.items():
        own = images[images["group"] == name]
        ax.plot(own["p"], own["w"], "o", color=shade, markersize=3.5, label=name)
    ax.axhline(1, color="black", linewidth=0.6)
    ax.set(xlabel="probability of the true class", ylabel="weight w", xlim=(-0.02, 1.02), ylim=(0, 2.05))
    legend_above(ax)
    return ax


def probability_pairs(x: Part, y: Part, names: tuple[str, str], ax: Axes | None = None) -> Axes:
    """One dot an image: probability of the true class under two models; the line is where they agree."""
    ax = axes(ax, 4, 4)
    ax.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    ax.plot(x.p_true, y.p_true, ".", color=colour("salun"), markersize=3, alpha=0.5)
    ax.set(xlabel=f"p under {names[0]}", ylabel=f"p under {names[1]}", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.set_aspect("equal")
    return ax


def fitted_classes(part: Part, classes: Sequence[int], stats: ClassStats, beta: BetaParams) -> Sequence[Axes]:
    """Unseen images of some classes, a panel each: probabilities as a histogram and a rug, with two fitted densities.

    The Gaussian is drawn beyond 0 and 1 as well, where it puts weight and no image can be.
    """
    from scipy.stats import beta as beta_density
    from scipy.stats import norm

    _, panels = plt.subplots(1, len(classes), figsize=(9, 3), dpi=144, layout="constrained", sharey=True)
    wide, inside = np.linspace(-0.4, 1.4, 181), np.linspace(0.002, 0.998, 400)
    for panel, c in zip(panels, classes, strict=True):
        p = part.p_true[part.y == c]
        panel.axvspan(-0.4, 0, color="#eeeeee", zorder=0)
        panel.axvspan(1, 1.4, color="#eeeeee", zorder=0)
        panel.hist(p, np.linspace(0, 1, 11), density=True, color="#bbbbbb")
        panel.plot(p, np.full(len(p), 0.1), "|", color="black", markersize=7)
        mean, std = stats.mean[c].item(), stats.std[c].item()
        panel.plot(wide, norm.pdf(wide, mean, std), color=colour("salun"), label="Gaussian")
        panel.plot(inside, beta_density.pdf(inside, beta.alpha[c].item(), beta.beta[c].item()), color=colour("falw"))
        panel.lines[-1].set_label("Beta")
        panel.set(title=f"class {c}: μ = {mean:.2f}, σ = {std:.2f}", xlabel="p of unseen images")
        panel.set(xlim=(-0.4, 1.4), ylim=(0, 8))
    panels[0].set_ylabel("density")
    panels[0].legend(frameon=False, loc="upper left")
    return panels


def class_statistics(stats: Mapping[str, ClassStats], ax: Axes | None = None) -> Axes:
    """Mean and one deviation of the unseen images of each class under several models, side by side."""
    ax = axes(ax, 8, 3)
    for k, (name, values) in enumerate(stats.items()):
        positions = np.arange(len(values.mean)) + 0.3 * (k - (len(stats) - 1) / 2)
        mean, std = values.mean.numpy(), values.std.numpy()  # Matplotlib 3.7 would keep a tensor as objects
        ax.errorbar(positions, mean, std, fmt="o", markersize=4, linewidth=1, color=colour(name), label=name)
    ax.set(xlabel="class", ylabel="p of unseen images: μ ± σ", ylim=(-0.1, 1.3))
    ax.legend(frameon=False, ncols=3, loc="upper left")
    return ax


def sample_paths(trace: Trace, samples: Mapping[str, int]) -> Sequence[Axes]:
    """p (with the mean of the unseen images, dashed), z and w of a few forgotten samples after each epoch."""
    _, panels = plt.subplots(1, 3, figsize=(9, 3), dpi=144, layout="constrained")
    for (name, i), shade in zip(samples.items(), GROUP_COLOURS.values(), strict=False):
        for panel, values in zip(panels, (trace.p, trace.z, trace.w), strict=True):
            panel.plot(values[:, i], marker=".", color=shade, label=name)
        panels[0].plot([stats.mean[trace.y[i]] for stats in trace.stats], "--", color=shade, linewidth=1)
    panels[0].set(title="p, and μ of its class (dashed)", ylim=(0, 1))
    panels[1].set(title="z-score")
    panels[2].set(title="weight w", ylim=(0, 2.05))
    panels[1].axhline(0, color="black", linewidth=0.6)
    panels[2].axhline(1, color="black", linewidth=0.6)
    panels[0].legend(frameon=False)
    for panel in panels:
        panel.set_xlabel("epoch")
    return panels


def balance_factors(counts: Mapping[str, Tensor], tau: float, ax: Axes | None = None) -> Axes:
    """Balance factor of each class (Eq. 6) by rank, one line a name; classes with nothing to forget are left out."""
    ax = axes(ax, 5, 2.8)
    for (name, n), shade in zip(counts.items(), ("#56B4E9", "#0072B2", "#E69F00", "#D55E00"), strict=False):
        rank = np.arange(1, len(n) + 1)
        ax.plot(rank[n > 0], balance_factor(n, tau)[n > 0], marker=".", color=shade, label=name)
    ax.axhline(1, color="black", linewidth=0.6)
    ax.set(xlabel="rank of the class", ylabel="balance factor B", ylim=(0.7, None))
    ax.legend(frameon=False)
    return ax


def sweep(rows: DataFrame, values: Mapping[str, float], xlabel: str) -> Sequence[Axes]:
    """FA, RA, TA, MIA and Avg. Gap from `tables.table` over the value that each method stands for, a panel each.

    values: {"falw-tau0": 0, ...}. Bars are deviations over seeds; the dashed line and its band are Retrain's mean and
    deviation, for Avg. Gap the noise floor's. Values are spaced evenly, in their order.
    """
    shown = rows.set_index("method")
    names = sorted(values, key=lambda name: values[name])
    _, panels = plt.subplots(1, 5, figsize=(11, 2.7), dpi=144, layout="constrained")
    for panel, (key, title) in zip(panels, _SWEPT.items(), strict=True):
        mean, sd = shown[f"{key}_mean"], shown[f"{key}_sd"].fillna(0)
        line = "noise floor" if key == "gap" else "retrain"
        panel.axhline(mean[line], color="black", linestyle="--", linewidth=1)
        panel.axhspan(mean[line] - sd[line], mean[line] + sd[line], color="#dddddd", zorder=0)
        panel.errorbar(
            range(len(names)), mean[names], sd[names], marker="o", markersize=4, capsize=2, color=colour("falw")
        )
        panel.set_xticks(range(len(names)), [f"{values[name]:g}" for name in names], fontsize="small")
        panel.set(title=title, xlabel=xlabel)
    panels[-1].set_ylim(0, None)
    return panels


_SWEPT = {key: f"{key.upper()}, %\nbest at the line" for key in ("fa", "ra", "ta", "mia")}
_SWEPT["gap"] = "Avg. Gap, points\nlower is better"


def batch_losses(loss: Tensor, weight: Tensor, forget: Tensor, ax: Axes | None = None) -> Axes:
    """One batch as bars, forgotten images first: loss (b,) towards each image's target, and times its weight (b,).

    forget: (b,) bool. Forgotten images are ordered by their weighted loss; retained ones have no weight.
    """
    ax = axes(ax)
    order = torch.argsort(torch.where(forget, loss * weight, loss.double() - 1e6), descending=True)
    bars, weighted = loss[order].numpy(), (loss * weight)[order].numpy()
    positions, n = np.arange(len(bars)), int(forget.sum())
    ax.bar(positions[:n], weighted[:n], color=colour("falw"), label="forgotten, weighted")
    ax.bar(positions[:n], bars[:n], fill=False, edgecolor="black", linewidth=0.8, label="forgotten, unweighted")
    ax.bar(positions[n:], bars[n:], color="#0072B2", label="retained")
    mean = (weighted[:n].sum() + bars[n:].sum()) / len(bars)
    ax.axhline(mean, color="black", linestyle="--", linewidth=1, label="mean of the batch")
    ax.set(xlabel="images of the batch", ylabel="loss")
    ax.legend(frameon=False)
    return ax


def tracked(values: Mapping[str, Sequence[float]], per_epoch: int, ylabel: str, ax: Axes | None = None) -> Axes:
    """A quantity at every step as several schedules see it; the first is what the others follow. Epochs are dotted."""
    ax = axes(ax)
    for k, (name, path) in enumerate(values.items()):
        followers = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
        thick = {"color": "#999999", "linewidth": 5.0, "alpha": 0.6}
        style: dict[str, Any] = thick if k == 0 else {"color": followers[(k - 1) % 4], "linewidth": 1.5}
        ax.step(range(len(path)), path, where="post", label=name, **style)
        for start in range(per_epoch, len(path), per_epoch) if k == 0 else ():
            ax.axvline(start, color="#666666", linestyle=":", linewidth=1)
    ax.set(xlabel="step", ylabel=ylabel, ylim=(0, None))
    ax.legend(frameon=False)
    return ax


def probability_histogram(parts: Mapping[str, Part], ax: Axes | None = None, bins: int = 20) -> Axes:
    """Distribution of the true class's probability under several models, as outlines that can be compared."""
    ax = axes(ax)
    _outlines(ax, {name: part.p_true for name, part in parts.items()}, np.linspace(0, 1, bins + 1))
    ax.set(xlabel="probability of the true class", ylabel="share of images, %", xlim=(0, 1))
    ax.legend(frameon=False)
    return ax


def _outlines(ax: Axes, values: Mapping[str, Tensor], edges: np.ndarray) -> None:
    """Shares of each model's values between the edges, in percent."""
    for name, each in values.items():
        share = np.full(len(each), 100 / max(len(each), 1))
        ax.hist(each, edges, weights=share, histtype="step", linewidth=1.8, color=colour(name), label=name)


def score_bars(scores: Mapping[str, Scores], ax: Axes | None = None) -> Axes:
    """The four scores of several models side by side."""
    ax = axes(ax)
    width = 0.8 / max(len(scores), 1)
    positions = np.arange(len(Scores._fields))
    for k, (name, values) in enumerate(scores.items()):
        ax.bar(positions + (k - (len(scores) - 1) / 2) * width, values, width, color=colour(name), label=name)
    ax.set_xticks(positions, [field.upper() for field in Scores._fields])
    ax.set(ylabel="%", ylim=(0, 105))
    ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def deviation_histogram(deviations: Mapping[str, Tensor], tol: float = 0.1, ax: Axes | None = None) -> Axes:
    """Signed deviation from Retrain of every forgotten sample; the band is what the tolerance calls faithful."""
    ax = axes(ax)
    ax.axvspan(-tol, tol, color="#dddddd", zorder=0)
    _outlines(ax, deviations, np.linspace(-1, 1, 41))
    ax.set(xlabel="over-forgotten  ←  p − p of Retrain  →  under-forgotten", ylabel="share of samples, %", xlim=(-1, 1))
    ax.legend(frameon=False)
    return ax


def against_retrain(
    p: Tensor, retrain: Tensor, groups: Mapping[str, Tensor], tol: float = 0.1, ax: Axes | None = None
) -> Axes:
    """The true class's probability under a model over Retrain's, a dot an image: p, retrain (n,), groups (n,) bool.

    Dashed: within `tol`, faithful. The line joins the two sorted by themselves; its mean distance from the diagonal,
    upright, is W1.
    """
    ax = axes(ax, 4, 4)
    ax.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    for shift in (-tol, tol):
        ax.plot([0, 1], [shift, 1 + shift], "--", color="#999999", linewidth=0.8)
    for name, chosen in groups.items():
        ax.plot(retrain[chosen], p[chosen], "o", color=GROUP_COLOURS[name], markersize=2.5, mew=0, label=name)
    ax.plot(retrain.sort().values, p.sort().values, color="black", linewidth=1.5, label="both sorted")
    ax.set(xlabel="p under Retrain", ylabel="p", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    ax.legend(frameon=False, loc="upper left", fontsize="small")
    return ax


def paths(values: Mapping[str, Sequence[float]], retrain: float, ax: Axes | None = None) -> Axes:
    """A quantity after each epoch (0 is the Original) under several methods, with Retrain's value as a line."""
    ax = axes(ax)
    for name, path in values.items():
        ax.plot(range(len(path)), path, marker=".", label=name)
    ax.axhline(retrain, color=colour("retrain"), linewidth=1, linestyle="--", label="retrain")
    ax.set(xlabel="epoch", ylabel="mean probability of the true class", ylim=(0, 1))
    ax.legend(frameon=False)
    return ax


def tuning_curves(trials: Sequence[Mapping[str, Any]], methods: Sequence[str], ax: Axes | None = None) -> Axes:
    """Avg. Gap over the learning rate for methods of a search (`tune`), the chosen rate marked."""
    ax = axes(ax)
    for name in methods:
        scored = sorted((t for t in trials if t["method"] == name and "gap" in t), key=lambda t: t["changes"]["lr"])
        rates, gaps = [t["changes"]["lr"] for t in scored], [t["gap"] for t in scored]
        (line,) = ax.plot(rates, gaps, marker=".", color=colour(name), label=name)
        best = min(scored, key=lambda t: t["gap"])
        ax.plot(best["changes"]["lr"], best["gap"], "o", markersize=9, fillstyle="none", color=line.get_color())
    ax.set(xscale="log", xlabel="learning rate", ylabel="Avg. Gap to Retrain, points", ylim=(0, None))
    ax.legend(frameon=False)
    return ax


def operating_curves(
    frame: DataFrame, measure: str = "ra", methods: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """A measure over FA in runs of one setting (`records.frame`): every method from rate to rate, Retrains as a cloud.

    A thin line is a seed, with a dot for each run; the thick one is the mean over seeds (`curves.mean_curve`). The
    dotted line is the Retrains' mean FA, where methods are compared. The Original is drawn where it lies among the
    others. Raises ValueError for records of several settings and for a measure that they do not have.
    """
    ran = _of_one_setting(frame, measure)
    ax, taken = axes(ax, 5, 4.4), list[str]()
    for name in methods or in_order(set(ran["method"]) - {ORIGINAL, *REFERENCES}):
        runs = ran[ran["method"] == name]
        mean, turned = mean_curve(runs, measure), turned_in(runs)
        (line,) = ax.plot(mean["fa"], mean[measure], color=_free_colour(name, taken), linewidth=2.2, label=name)
        if any(np.linalg.norm(np.subtract(to_rgb(line.get_color()), to_rgb(shade))) < 0.2 for shade in taken):
            line.set_linestyle("--")  # two shades of a family that can hardly be told apart
        taken.append(line.get_color())
        for _, seed in runs.sort_values(turned).groupby(SEEDS):
            ax.plot(seed["fa"], seed[measure], ".-", color=taken[-1], linewidth=0.8, markersize=4, alpha=0.45)
    retrains = ran[ran["method"].isin(REFERENCES)]
    ax.plot(retrains["fa"], retrains[measure], "o", color=colour(RETRAIN), markersize=5, label="Retrains")
    ax.axvline(retrains["fa"].mean(), color="#666666", linewidth=1, linestyle=":", zorder=0)
    _add_within(ax, ran[ran["method"] == ORIGINAL], measure)
    name, unit, better = MEASURES.get(measure, (measure, "", ""))
    ax.set(xlabel="FA, %", ylabel=f"{name}{unit}" + (f" ({better} is better)" if better else ""))
    ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize="small")
    return ax


def _of_one_setting(frame: DataFrame, measure: str) -> DataFrame:
    """What has the measure, of one setting."""
    if measure not in frame or frame[measure].isna().all():
        raise ValueError(f"these records have no '{measure}'; choose a column of `frame` that has values, as ra")
    ran = frame[frame["fa"].notna() & frame[measure].notna()]
    settings = ran.groupby(SETTING, dropna=False).ngroups
    if settings > 1:
        raise ValueError(f"records of {settings} settings are in one figure: query for one, as gamma == 0.5")
    return ran


def _free_colour(name: str, taken: Sequence[str]) -> str | None:
    """A method's colour, for a variant that of its base, the darker shade where another has it in this figure."""
    row = {**METHODS, **VARIANTS}.get(name)
    shades = (row.colour, colour(name)) if row else ()
    return next((shade for shade in shades if shade and shade not in taken), None)


def _add_within(ax: Axes, runs: DataFrame, measure: str) -> None:
    """The Original's points, if what is drawn lies around them."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    inside = runs[runs["fa"].between(left, right) & runs[measure].between(low, high)]
    if len(inside):
        ax.plot(inside["fa"], inside[measure], "s", color=colour(ORIGINAL), markersize=5, label="Original")


def paired_intervals(rows: Sequence[Mapping[str, Any]], ax: Axes | None = None) -> Axes:
    """Differences in Avg. Gap with their intervals, from `tables.paired_gap`; each seed is a dot."""
    ax = axes(ax, height=0.45 * len(rows) + 1)
    for y, row in enumerate(rows):
        ax.plot(row["differences"], np.full(len(row["differences"]), y), ".", color="#999999", markersize=4)
        ax.plot([row["low"], row["high"]], [y, y], color=colour("falw"), linewidth=2)
        ax.plot(row["mean"], y, "o", color=colour("falw"))
    ax.axvline(0, color="black", linewidth=1)
    ax.set_yticks(range(len(rows)), [f"{row['method']} − {row['base']}" for row in rows])
    ax.set(xlabel="first closer to Retrain  ←  difference in Avg. Gap, points  →  second closer")
    ax.set_ylim(len(rows) - 0.5, -0.5)
    return ax


def intervals_by_series(
    values: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str, within: float = 0.0, ax: Axes | None = None
) -> Axes:
    """{row: {series: one value a seed}}: `intervals` of these values, seeds as dots, a colour and mark a series.

    The grey band reaches `within` to both sides of 0. What has fewer than two values is left out.
    """
    rows = [
        {"panel": None, "line": line, "group": name, "values": each, **interval(list(each))}
        for line, series in values.items()
        for name, each in series.items()
        if len(each) > 1
    ]
    ax = axes(ax, height=0.26 * len(rows) + 1.2)
    ax.axvspan(-within, within, color="#dddddd", zorder=0)
    intervals(rows, {None: xlabel}, [ax])
    return legend_above(ax) if ax.get_legend() else ax


def differences_by_part(rows: Sequence[Mapping[str, Any]], xlabel: str) -> Sequence[Axes]:
    """Rows of `claims.take_apart` with a "where", a panel a part and a line a place: means with their 95 % intervals.

    Hollow: fewer than three seeds, of which nothing is told. The axis holds all means, wider intervals are cut.
    """
    parts, places = (list(dict.fromkeys(row[key] for row in rows)) for key in ("part", "where"))
    size = (3.2 * len(parts) + 1.2, 0.36 * len(places) + 1.2)
    figure, panels = plt.subplots(1, len(parts), figsize=size, dpi=144, layout="constrained", sharex=True, sharey=True)
    for panel, part in zip(panels, parts, strict=True):
        for row in (row for row in rows if row["part"] == part):
            salun = "salun" in row["base"]
            y, style = places.index(row["where"]) + 0.15 * (1 if salun else -1), "s" if salun else "o"
            of, fill = colour("salun" if salun else "rl"), "full" if row["seeds"] >= LEAST_SEEDS else "none"
            panel.plot([row["low"], row["high"]], [y, y], color=of, linewidth=1.5)
            panel.plot(row["mean"], y, style, color=of, markersize=5, fillstyle=fill)
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set(title=part)
    panels[0].set_yticks(range(len(places)), places)
    means = [row["mean"] for row in rows]
    panels[0].set(ylim=(len(places) - 0.5, -0.5), xlim=(min(means) - 1.5, max(means) + 1.5))
    marks = {"random labels": ("o", colour("rl")), "SalUn's mask": ("s", colour("salun"))}
    handles = [Line2D([], [], color=of, marker=style, label=name) for name, (style, of) in marks.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
    panels[len(parts) // 2].set_xlabel(xlabel)
    return panels


def intervals(
    rows: Sequence[Mapping[str, Any]],
    xlabels: Mapping[Any, str] | None = None,
    panels: Sequence[Axes] | None = None,
) -> Sequence[Axes]:
    """Means with their intervals (`tables.interval`), a line each "line" of the rows and a panel each "panel".

    Rows with a "group" stand in its colour one under the other, their "values" as dots. xlabels: by panel, each of
    which holds 0: Retrain.
    """
    names, lines, of = (list(dict.fromkeys(row.get(key) for row in rows)) for key in ("panel", "line", "group"))
    if panels is None:
        size = (3.1 * len(names) + 1.2, (0.3 if len(of) == 1 else 0.42) * len(lines) + 1)
        figure = plt.figure(figsize=size, dpi=144, layout="constrained")
        panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        _add_intervals(panel, [row for row in rows if row["panel"] == name], lines, of)
        panel.set(xlabel=(xlabels or {}).get(name, ""), title=name or "", ylim=(len(lines) - 0.5, -0.5))
        panel.xaxis.set_major_locator(MaxNLocator(5))
    panels[0].set_yticks(range(len(lines)), lines)
    if len(of) > 1:
        panels[0].legend(frameon=False, fontsize="small")
    return panels


_GROUP_STYLES = {name: (shade, "o") for name, shade in GROUP_COLOURS.items()}


def _add_intervals(ax: Axes, rows: Sequence[Mapping[str, Any]], lines: Sequence[str], of: Sequence[str | None]) -> None:
    """The rows of one panel, and a line at 0."""
    for row in rows:
        group = row.get("group")
        y = lines.index(row["line"]) + 0.22 * (of.index(group) - (len(of) - 1) / 2)
        tint, mark = {None: (colour(RETRAIN), "o"), **_GROUP_STYLES}.get(group) or SERIES[of.index(group)]
        if "values" in row:
            ax.plot(row["values"], [y] * len(row["values"]), ".", color="#999999", markersize=3)
        ax.plot([row["low"], row["high"]], [y, y], color=tint, linewidth=1.5)
        first = row["line"] == next(other["line"] for other in rows if other.get("group") == group)
        ax.plot(row["mean"], y, mark, color=tint, markersize=5, label=group if first else None)
    ax.axvline(0, color="black", linewidth=0.8, zorder=0)


def before_after(pairs: Mapping[str, tuple[float, float]], xlabel: str, ax: Axes | None = None) -> Axes:
    """One row a name: a line from the value before (grey circle) to the value after (filled square)."""
    ax = axes(ax, 4.5, 0.4 * len(pairs) + 1)
    for y, (before, after) in enumerate(pairs.values()):
        ax.plot([before, after], [y, y], color="#999999", linewidth=1.5, zorder=1)
        ax.plot(before, y, "o", color="#666666", fillstyle="none", markersize=8, label=None if y else "before")
        ax.plot(after, y, "s", color=colour("falw"), markersize=6, label=None if y else "after")
    ax.set_yticks(range(len(pairs)), list(pairs))
    ax.set(xlabel=xlabel, xlim=(0, None), ylim=(len(pairs) - 0.5, -0.5))
    ax.legend(frameon=False, loc="lower right")
    return ax


def embedding(points: Mapping[str, Tensor], y: Tensor, forget: Tensor) -> Sequence[Axes]:
    """Points in the plane under several models, a panel each: colour is the class, o is retained, x is forgotten.

    points: (n, 2) a model; y: (n,) classes, at most eight; forget: (n,) bool. Axes of such a picture mean nothing.
    """
    okabe = ["#0072B2", "#56B4E9", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#000000", "#F0E442"]
    n = len(points)
    figure, panels = plt.subplots(1, n, squeeze=False, figsize=(3.3 * n, 3.9), dpi=144, layout="constrained")
    for panel, (name, xy) in zip(panels[0], points.items(), strict=True):
        for k, c in enumerate(dict.fromkeys(y.tolist())):
            mine = y == c
            kept, gone = xy[mine & ~forget], xy[mine & forget]
            panel.scatter(*kept.T, s=12, marker="o", facecolors="none", edgecolors=okabe[k], label=f"class {c}")
            panel.scatter(*gone.T, s=22, marker="x", color=okabe[k], linewidths=1.2)
        panel.set(title=name, xticks=[], yticks=[])
    colours, names = panels[0][0].get_legend_handles_labels()
    marks = [Line2D([], [], color="#444444", linestyle="", marker=m, fillstyle="none") for m in "ox"]
    names = [*names, "retained", "forgotten"]
    figure.legend([*colours, *marks], names, loc="outside lower center", ncols=4, frameon=False, fontsize="small")
    return panels[0]


def gap_bars(rows: DataFrame, ax: Axes | None = None) -> Axes:
    """Avg. Gap of each method in rows of `tables.table`, with its deviation over seeds; the noise floor as a line."""
    ax = axes(ax, height=0.36 * len(rows) + 0.3)
    return metric_bars(rows, "gap", "Avg. Gap to Retrain, points", ax)


def heat_map(values: Mapping[tuple[str, str], float], label: str, ax: Axes | None = None) -> Axes:
    """Numbers by (row, column), darker for larger ones, each written in its cell; a missing pair stays empty."""
    rows, columns = (list(dict.fromkeys(key[k] for key in values)) for k in (0, 1))
    ax = axes(ax, 1.1 * len(columns) + 2.2, 0.32 * len(rows) + 1)
    grid = np.array([[values.get((row, column), np.nan) for column in columns] for row in rows])
    image = ax.imshow(grid, cmap="Blues", aspect="auto", vmin=0, vmax=np.nanpercentile(grid, 90))
    for (y, x), value in np.ndenumerate(grid):
        if np.isfinite(value):
            dark = value > 0.6 * image.norm.vmax
            ax.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=8, color="white" if dark else "black")
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.figure.colorbar(image, ax=ax, label=label)
    return ax


def gap_over_time(rows: DataFrame, ax: Axes | None = None) -> Axes:
    """Avg. Gap over seconds for rows of `tables.table`; Retrain's own seconds and the noise floor are lines."""
    ax = axes(ax, 7.4, 4.2)
    means = rows.set_index("method")[["seconds_mean", "gap_mean"]]
    lines = means.at["retrain", "seconds_mean"], means.at["noise floor", "gap_mean"]
    points = means.drop(["retrain", "noise floor", "original"], errors="ignore")
    for name, (seconds, gap) in points.iterrows():
        ax.plot(seconds, gap, "o", color=colour(name) or "#777777")
        # A name stands right of its point, or above where the next point or Retrain's line would cross it.
        near = points[points.gap_mean.between(gap / 1.15, gap * 1.15)].seconds_mean
        crossed = any(1.05 * seconds < x < 1.35 * seconds for x in (lines[0], *near))
        at = {"xytext": (4, 6), "ha": "right"} if crossed else {"xytext": (6, -3.5), "ha": "left"}
        ax.annotate(name, (seconds, gap), fontsize=9.5, textcoords="offset points", **at)
    ax.margins(0.15)
    ax.axvline(lines[0], color="black", linewidth=1, linestyle="--", label="retrain")
    ax.axhline(lines[1], color="#666666", linewidth=1, linestyle=":", label="noise floor")
    ax.set(xlabel="seconds", ylabel="Avg. Gap to Retrain, points", xscale="log", yscale="log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    ax.legend(frameon=False)
    return ax


def critical_difference(comparison: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    """Mean ranks of methods from `tables.mean_ranks`, best left; a bar joins those that cannot be told apart."""
    ranks, width = comparison["ranks"], comparison["critical difference"]
    bars = _indistinct(list(ranks.values()), width)
    half = (len(ranks) + 1) // 2
    ax = axes(ax, 6.4, 0.24 * half + 0.16 * len(bars) + 1.1)
    low, high = 1, len(ranks)
    depth = 0.4 * len(bars) + 0.5
    for order, (name, rank) in enumerate(ranks.items()):
        left = order < half
        y = -depth - 0.6 * (order if left else len(ranks) - 1 - order)
        x = low - 0.2 if left else high + 0.2
        ax.plot([rank, rank, x], [0, y, y], color=colour(name) or "#777777", linewidth=1.2)
        ax.annotate(
            f"{name}  {rank:.1f}" if left else f"{rank:.1f}  {name}",
            (x, y),
            xytext=(-3 if left else 3, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=8,
        )
    for row, (first, last) in enumerate(bars):
        ax.plot([first - 0.05, last + 0.05], [-0.4 * (row + 1)] * 2, color="black", linewidth=3, solid_capstyle="butt")
    ax.plot([low, low + width], [0.7, 0.7], color="black", linewidth=1.2, marker="|")
    ax.annotate(f"critical difference {width:.1f}", (low, 0.7), xytext=(0, 5), textcoords="offset points", fontsize=8)
    ax.spines[["left", "right", "bottom"]].set_visible(False)
    ax.spines["top"].set_position(("data", 0))
    ax.xaxis.set_ticks_position("top")
    ax.set(xlim=(low - 2.4, high + 2.4), ylim=(-depth - 0.6 * half, 1.5), yticks=[], xticks=range(low, high + 1))
    ax.spines["top"].set_bounds(low, high)
    return ax


def _indistinct(ranks: Sequence[float], width: float) -> list[tuple[float, float]]:
    """The longest runs of ascending ranks that span less than `width`, as (first, last); none lies within another."""
    runs: list[tuple[float, float]] = []
    for first in ranks:
        last = max(rank for rank in ranks if rank - first < width)
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs
