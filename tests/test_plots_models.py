"""Figures of models as data: images, probabilities, scores, deviations, searches, embeddings, gaps."""

import math
from colorsys import rgb_to_hsv
from itertools import pairwise

import matplotlib
import pandas as pd
import pytest

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb

from falw.book import plots
from falw.lab.records import CONFIG, SETTING
from falw.methods import METHODS, VARIANTS
from falw.metrics import Part, Scores
from falw.split import long_tailed_split


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def part(*p):
    """Images of class 0 with these probabilities of it."""
    p = torch.tensor(p)
    return Part(torch.stack([p, 1 - p], dim=1), torch.zeros(len(p), dtype=torch.long))


def test_image_grid_shows_the_first_images_of_each_class():
    x = torch.arange(6, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 2, 2)
    ax = plots.image_grid(x, torch.tensor([0, 1, 0, 1, 0, 1]), classes=[1, 0], per_class=2)
    shown = ax.images[0].get_array()
    assert shown.shape == (2 * 4, 2 * 4, 3)  # two white pixels after each image, to the right and below
    assert [[int(shown[r, c, 0]) for c in (0, 4)] for r in (0, 4)] == [[1, 3], [0, 2]] and shown[2, 0, 0] == 255
    assert [t.get_text() for t in ax.get_yticklabels()] == ["class 1", "class 0"]


def test_a_family_of_methods_has_one_hue_and_every_row_its_own_shade():
    rows = {**METHODS, **VARIANTS}
    shades = {name: rows[name].colour for names in plots.FAMILIES.values() for name in names}
    assert len(set(shades.values())) == len(shades) and {row.colour for row in rows.values()} <= {
        *shades.values(),
        METHODS["retrain"].colour,
    }
    hues = {}
    for family, names in plots.FAMILIES.items():
        hues[family] = [rgb_to_hsv(*to_rgb(rows[name].colour))[0] * 360 for name in names]
        assert max(hues[family]) - min(hues[family]) < 30
        assert all(plots.colour(name) == rows[name].colour for name in names)
    assert plots.colour("falw-tau0") not in (None, *shades.values()) and plots.colour("nobody") is None
    assert rgb_to_hsv(*to_rgb(plots.colour("falw-tau0")))[0] * 360 == pytest.approx(hues["FaLW's weights"][0], abs=2)
    spans = sorted((min(h), max(h)) for h in hues.values())
    assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_class_counts_are_bars_by_rank_in_the_colour_of_their_group():
    split = long_tailed_split(torch.arange(6).repeat_interleave(20), 0.3, 1.0, 0.1, permute=True)
    ax = plots.class_counts(split)
    bars = {round(bar.get_x() + bar.get_width() / 2): bar for bar in ax.patches}
    by_rank = split.forget_counts[split.rank.argsort()]
    assert [bars[k].get_height() for k in range(6)] == by_rank.tolist()
    colours = [to_hex(bars[k].get_facecolor()) for k in range(6)]
    assert colours == [to_hex(plots.GROUP_COLOURS[g]) for g in ("head", "mid", "tail") for _ in range(2)]
    assert legend(ax) == ["head", "mid", "tail"]


def test_histograms_of_probabilities_are_shares():
    ax = plots.probability_histogram({"original": part(0.05, 0.95, 0.95, 0.95), "falw": part(0.45, 0.55)}, bins=2)
    assert [set(patch.get_xy()[:, 1]) for patch in ax.patches] == [{0, 25, 75}, {0, 50}]
    assert legend(ax) == ["original", "falw"] and ax.get_xlim() == (0, 1)
    assert plots.probability_histogram({"nothing": part()}).patches


def test_score_bars_stand_side_by_side():
    ax = plots.score_bars({"retrain": Scores(40, 99, 60, 60), "falw": Scores(45, 98, 59, 55)})
    assert [[bar.get_height() for bar in bars] for bars in ax.containers] == [[40, 99, 60, 60], [45, 98, 59, 55]]
    places = [[bar.get_x() for bar in bars] for bars in ax.containers]
    assert all(b > a for a, b in zip(*places)) and legend(ax) == ["retrain", "falw"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["FA", "RA", "TA", "MIA"]


def test_deviations_are_shown_beside_the_band_of_the_tolerance():
    ax = plots.deviation_histogram({"falw": torch.tensor([-0.52, 0.01, 0.02, 0.52])}, tol=0.2)
    band, outline = ax.patches
    sides = band.get_patch_transform().transform(band.get_path().vertices)[:, 0]
    assert (sides.min(), sides.max()) == pytest.approx((-0.2, 0.2))
    assert outline.get_xy()[:, 1].max() == 50 and ax.get_xlim() == (-1, 1)


def test_a_model_is_drawn_over_retrain_image_by_image_and_sorted():
    p, retrain = torch.tensor([0.9, 0.2, 0.4]), torch.tensor([0.5, 0.8, 0.1])
    head = torch.tensor([True, False, True])
    ax = plots.against_retrain(p, retrain, {"head": head, "tail": ~head}, tol=0.2)
    _, *tolerance, first, second, both = [list(zip(*line.get_data(), strict=True)) for line in ax.lines]
    assert [band[0] for band in tolerance] == [(0, -0.2), (0, 0.2)]
    assert first == [pytest.approx((0.5, 0.9)), pytest.approx((0.1, 0.4))] and second == [pytest.approx((0.8, 0.2))]
    assert both == [pytest.approx(pair) for pair in ((0.1, 0.2), (0.5, 0.4), (0.8, 0.9))]
    assert legend(ax) == ["head", "tail", "both sorted"]


def test_paths_run_over_epochs_towards_the_line_of_retrain():
    ax = plots.paths({"rl": [0.9, 0.5, 0.3], "falw": [0.9, 0.4, 0.35]}, retrain=0.33)
    *paths, floor = ax.lines
    assert [line.get_ydata().tolist() for line in paths] == [[0.9, 0.5, 0.3], [0.9, 0.4, 0.35]]
    assert list(paths[0].get_xdata()) == [0, 1, 2] and list(floor.get_ydata()) == [0.33, 0.33]
    assert legend(ax) == ["rl", "falw", "retrain"]


def test_tuning_curves_mark_the_best_and_leave_out_what_diverged():
    found = {0.1: 3.0, 0.01: 2.0, 0.001: 4.0}
    trials = [{"method": "rl", "changes": {"lr": lr}, "gap": gap} for lr, gap in found.items()]
    trials += [{"method": "rl", "changes": {"lr": 1.0}, "failed": "diverged"}]
    line, mark = plots.tuning_curves(trials, ["rl"]).lines
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0.001, 0.01, 0.1], [4.0, 2.0, 3.0])
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([0.01], [2.0])


def test_paired_intervals_show_every_pair_and_zero():
    row = {"method": "falw", "base": "salun", "differences": [-2.0, 1.0], "low": -3.0, "high": 2.0, "mean": -0.5}
    ax = plots.paired_intervals([row, {**row, "method": "rl"}])
    dots, span, mean = ax.lines[:3]
    assert list(dots.get_xdata()) == [-2, 1] and list(span.get_xdata()) == [-3, 2] and list(mean.get_xdata()) == [-0.5]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["falw − salun", "rl − salun"]
    assert list(ax.lines[-1].get_xdata()) == [0, 0] and ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row on top


def test_intervals_have_a_panel_a_line_and_in_groups_their_colours():
    rows = [
        {"panel": panel, "line": line, "group": group, "low": mean - 1, "mean": mean, "high": mean + 2}
        for panel, first in (("A", 0.0), ("B", 10.0))
        for line, more in (("rl", 0.0), ("ft", 5.0))
        for group, mean in (("head", first + more), ("tail", first + more + 1))
    ]
    a, b = plots.intervals(rows, {"A": "points", "B": "%"})
    assert [(p.get_title(), p.get_xlabel()) for p in (a, b)] == [("A", "points"), ("B", "%")]
    assert [t.get_text() for t in a.get_yticklabels()] == ["rl", "ft"] and a.get_ylim()[0] > a.get_ylim()[1]
    spans = [list(line.get_xdata()) for line in b.lines if line.get_marker() == "None"][:-1]
    assert spans == [[9, 12], [10, 13], [14, 17], [15, 18]] and list(b.lines[-1].get_xdata()) == [0, 0]
    dots = [line for line in a.lines if line.get_marker() == "o"]
    assert [line.get_color() for line in dots] == [plots.GROUP_COLOURS[g] for g in ("head", "tail")] * 2
    assert [round(line.get_ydata()[0]) for line in dots] == [0, 0, 1, 1] and legend(a) == ["head", "tail"]


def test_intervals_by_series_draw_students_interval_and_leave_one_value_out():
    ax = plots.intervals_by_series({"a": {"x": [1.0, 2.0, 3.0], "y": [4.0]}, "b": {"y": [0.0, 2.0]}}, "p", 0.5)
    drawn = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    spans = [line for line in drawn if line.get_ydata()[0] == line.get_ydata()[1]]  # not the line at 0
    half = 4.3027 / math.sqrt(3)  # Student's t of two degrees of freedom, deviation 1
    assert list(spans[0].get_xdata()) == pytest.approx([2 - half, 2 + half], abs=1e-3) and len(spans) == 2
    assert [round(span.get_ydata()[0]) for span in spans] == [0, 1] and legend(ax) == ["x", "y"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"] and ax.get_ylim()[0] > ax.get_ylim()[1]


def test_differences_by_part_put_every_row_in_its_panel_and_hollow_what_is_not_told():
    row = {"where": "a", "part": "labels", "base": "rl", "low": -3.0, "high": 2.0, "mean": -0.5, "seeds": 3}
    one = {**row, "where": "b", "part": "weight", "base": "salun-fixed", "low": math.nan, "mean": 4.0, "seeds": 1}
    labels, weight = plots.differences_by_part([row, one], "points")
    assert [panel.get_title() for panel in (labels, weight)] == ["labels", "weight"]
    assert [t.get_text() for t in labels.get_yticklabels()] == ["a", "b"]
    (span, mean, zero), (_, lonely, _) = labels.lines, weight.lines
    assert list(span.get_xdata()) == [-3, 2] and list(mean.get_xdata()) == [-0.5] and list(zero.get_xdata()) == [0, 0]
    assert round(mean.get_ydata()[0]) == 0 and round(lonely.get_ydata()[0]) == 1
    assert (mean.get_fillstyle(), lonely.get_fillstyle()) == ("full", "none")
    assert (mean.get_marker(), lonely.get_marker()) == ("o", "s") and labels.get_xlim() == (-2.0, 5.5)


def test_before_and_after_are_joined():
    ax = plots.before_after({"rl": (5.0, 3.0), "ga": (9.0, 10.0)}, "Avg. Gap")
    assert [list(line.get_xdata()) for line in ax.lines] == [[5, 3], [5], [3], [9, 10], [9], [10]]
    assert legend(ax) == ["before", "after"] and ax.get_xlabel() == "Avg. Gap"


def test_an_embedding_has_a_panel_a_model_and_marks_what_is_forgotten():
    points = torch.arange(10.0).view(5, 2)
    y, forget = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([True, False, False, True, True])
    panels = plots.embedding({"original": points, "retrain": -points}, y, forget)
    assert [panel.get_title() for panel in panels] == ["original", "retrain"]
    drawn = [c.get_offsets().tolist() for c in panels[0].collections]  # of each class what is kept, then what is gone
    assert drawn == [points[[1]].tolist(), points[[0]].tolist(), points[[2]].tolist(), points[[3, 4]].tolist()]


def test_the_heat_map_writes_every_number_that_there_is():
    ax = plots.heat_map({("rl", "γ 0"): 1.0, ("rl", "γ 1"): 9.0, ("ga", "γ 1"): 4.0}, "Avg. Gap")
    written = {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in ax.texts}
    assert written == {(0, 0): "1.0", (0, 1): "9.0", (1, 1): "4.0"}
    assert [t.get_color() for t in ax.texts] == ["black", "white", "black"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["rl", "ga"]


def test_gaps_over_time_have_the_two_lines_to_compare_with():
    lines = [("retrain", 100.0, 0.0), ("noise floor", 100.0, 1.5), ("rl", 10.0, 3.0), ("falw", 40.0, 2.0)]
    rows = pd.DataFrame(lines, columns=["method", "seconds_mean", "gap_mean"])
    ax = plots.gap_over_time(rows)
    rl, falw, time, floor = ax.lines
    assert [(*line.get_xdata(), *line.get_ydata()) for line in (rl, falw)] == [(10, 3), (40, 2)]
    assert list(time.get_xdata()) == [100, 100] and list(floor.get_ydata()) == [1.5, 1.5]
    assert [t.get_text() for t in ax.texts] == ["rl", "falw"]


def test_gap_bars_are_the_methods_with_the_noise_floor_as_a_line():
    lines = [("noise floor", 1.5, 0.1), ("rl", 3.0, 0.1), ("falw", 2.0, 0.1)]
    rows = pd.DataFrame(lines, columns=["method", "gap_mean", "gap_sd"])
    ax = plots.gap_bars(rows)
    assert [bar.get_width() for bar in ax.patches] == [3, 2]
    assert ax.get_xlabel() == "Avg. Gap to Retrain, points" and legend(ax) == ["noise floor"]


def runs_of(method, seed, rates, fa, ra):
    base = {**dict.fromkeys([*SETTING, *CONFIG]), "method": method, "seed": seed, "data_seed": seed, "gamma": 0.5}
    return [{**base, "lr": lr, "fa": f, "ra": r} for lr, f, r in zip(rates, fa, ra, strict=True)]


RUNS = [
    *runs_of("rl", 0, (0.04, 0.01, 0.16), (50, 70, 30), (90, 98, 80)),
    *runs_of("rl", 1, (0.02, 0.08), (64, 44), (96, 88)),
    *runs_of("falw-epoch", 0, (0.01, 0.04), (60, 40), (99, 97)),
    *[run for seed in (0, 1) for run in runs_of("retrain", seed, [0.1], [48 + seed], [99.5])],
    *runs_of("noise floor", 0, [0.1], [53], [99]),
]


def test_operating_curves_run_from_rate_to_rate_beside_a_cloud_of_retrains():
    frame = pd.DataFrame([*RUNS, *runs_of("original", 0, [0.1], [100], [100])])
    ax = plots.operating_curves(frame, "ra", ["rl", "falw-epoch"])
    mean, first, second, falw, falw_seed, retrains, aim = ax.lines
    assert (list(first.get_xdata()), list(first.get_ydata())) == ([70, 50, 30], [98, 90, 80])
    assert (list(second.get_xdata()), list(second.get_ydata())) == ([64, 44], [96, 88])
    # rates of both: 0.02, 0.04, 0.08; seed 0 has FA 60, 50, 40 there, seed 1 has 64, 54, 44
    assert list(mean.get_xdata()) == pytest.approx([62, 52, 42])
    assert list(mean.get_ydata()) == pytest.approx([(94 + 96) / 2, (90 + 92) / 2, (85 + 88) / 2])
    assert list(falw.get_xdata()) == list(falw_seed.get_xdata()) == [60, 40]
    assert retrains.get_linestyle() == "None" and sorted(retrains.get_xdata()) == [48, 49, 53]
    assert list(aim.get_xdata()) == [50, 50]
    colours = [line.get_color() for line in (mean, first, second, falw, retrains)]
    assert colours == [METHODS["rl"].colour] * 3 + [METHODS["falw"].colour, "#000000"]  # that of its base
    assert legend(ax) == ["rl", "falw-epoch", "Retrains"]  # the Original lies far off
    assert ax.get_xlabel() == "FA, %" and ax.get_ylabel() == "RA, % (higher is better)"


def test_the_original_is_in_the_figure_where_it_lies_among_the_others():
    frame = pd.DataFrame([*RUNS, *runs_of("ft", 0, (0.1, 0.2), (100, 60), (100, 99))])
    ax = plots.operating_curves(pd.concat([frame, pd.DataFrame(runs_of("original", 0, [0.1], [99], [99]))]))
    assert legend(ax) == ["ft", "rl", "falw-epoch", "Retrains", "Original"]
    assert list(ax.lines[-1].get_xdata()) == [99]


def test_two_variants_of_one_base_differ_in_colour():
    rows = [run for name in ("falw", "falw-epoch", "falw-every10") for run in runs_of(name, 0, (1, 2), (9, 8), (9, 9))]
    ax = plots.operating_curves(pd.DataFrame([*RUNS[-3:], *rows]))
    assert (
        len({line.get_color() for line in ax.lines if line.get_label() in ("falw", "falw-epoch", "falw-every10")}) == 3
    )


def test_of_two_methods_of_like_colours_the_second_curve_is_dashed():
    frame = pd.DataFrame(
        [{**run, "method": {"rl": "neggrad+", "falw-epoch": "scrub"}.get(run["method"], run["method"])} for run in RUNS]
    )
    styles = {line.get_label(): line.get_linestyle() for line in plots.operating_curves(frame).lines}
    assert (styles["neggrad+"], styles["scrub"]) == ("-", "--")
    styles = {line.get_label(): line.get_linestyle() for line in plots.operating_curves(pd.DataFrame(RUNS)).lines}
    assert (styles["rl"], styles["falw-epoch"]) == ("-", "-")


def test_operating_curves_are_of_one_setting_and_of_what_was_measured():
    with pytest.raises(ValueError, match="records of 2 settings are in one figure: query for one"):
        plots.operating_curves(pd.DataFrame([*RUNS, *[{**run, "gamma": 2.0} for run in RUNS]]))
    with pytest.raises(ValueError, match="these records have no 'w1'"):
        plots.operating_curves(pd.DataFrame(RUNS), "w1")
