"""Figures as data: what is drawn, read back from the axes."""

import matplotlib
import pandas as pd
import pytest

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt

from falw.book import plots


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_a_row_of_images_shows_each_under_its_name_with_white_between():
    red, blue = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    red[0], blue[2] = 255, 255
    ax = plots.image_row({"red": red, "blue": blue})
    shown = ax.images[0].get_array()
    assert shown.shape == (8, 18, 3) and shown[0, :, 1].tolist() == [*[0] * 8, 255] * 2
    for tick, pixel in zip(ax.get_xticks(), ([255, 0, 0], [0, 0, 255]), strict=True):
        assert shown[4, round(tick)].tolist() == pixel
    assert [t.get_text() for t in ax.get_xticklabels()] == ["red", "blue"]


def test_known_images_have_a_bar_a_model_as_long_as_its_probability():
    x, y = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([7, 3])
    panels = plots.known_images(x, y, {"original": torch.tensor([0.9, 1.0]), "retrain": torch.tensor([0.25, 0.0])})
    assert [p.get_title() for p in panels[:2]] == ["labelled 7", "labelled 3"] and len(panels) == 4
    assert [round(bar.get_width(), 2) for bar in panels[2].patches] == [0.9, 0.25]
    assert [t.get_text() for t in panels[3].texts] == ["1.00", "0.00"]


def test_a_network_is_drawn_as_boxes_as_high_as_its_images():
    ax = plots.network_shapes({"image": (3, 16, 16), "block": (64, 4, 4), "classes": (10,)})
    heights = [box.get_height() for box in ax.patches if isinstance(box, plt.Rectangle)]
    assert heights == [1, 0.25, 1 / 16]
    assert [t.get_text() for t in ax.texts if "×" in t.get_text()] == ["3 × 16 × 16", "64 × 4 × 4"]


def test_count_lines_draws_every_forget_set_from_rank_1_on():
    ax = plots.count_lines({"a": torch.tensor([3, 2, 1]), "b": torch.tensor([2, 2, 2])}, available=4)
    a, b, line = ax.lines
    assert (a.get_xdata().tolist(), a.get_ydata().tolist()) == ([1, 2, 3], [3, 2, 1])
    assert b.get_ydata().tolist() == [2, 2, 2] and list(line.get_ydata()) == [4, 4]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b", "images a class has"]
    assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] > 4
    assert len(plots.count_lines({"a": torch.tensor([3, 2])}).lines) == 1


def test_slope_shares_are_percent_of_each_name_over_the_slopes():
    ax = plots.slope_shares({"a": [0.55, 0.58, 1.21, 1.62], "b": [0.55]}, {"paper": [0, 0.5]})
    a, b = ax.patches
    shares, edges, _ = a.get_data()
    assert {round(edges[k], 1): share for k, share in enumerate(shares) if share} == {0.5: 50, 1.2: 25, 1.6: 25}
    assert b.get_data().values.sum() == 100 and list(ax.lines[0].get_xdata()) == [0, 0.5]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b", "paper"]


def test_over_gamma_draws_means_in_order_with_the_range_as_bars():
    ax = plots.over_gamma({"head": {2.0: [1, 3], 0.5: [10, 20, 60]}, "paper": {1.0: [7]}}, "FA, %")
    (line, _, (bars,)), (single, *_) = (container.lines for container in ax.containers)
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0.5, 2], [30, 2])
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[10, 60], [1, 3]]
    assert line.get_color() == plots.GROUP_COLOURS["head"] and single.get_ydata().tolist() == [7]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("γ", "FA, %")
    given = plt.figure().add_subplot()
    assert plots.over_gamma({"a": {0: [1]}}, "", given) is given


def value(name, mean, sd=1.0):
    return {f"{name}_mean": mean, f"{name}_sd": sd}


def test_group_gaps_are_a_line_a_method_in_the_panel_of_its_group():
    lines = [
        {"method": "rl", "gamma": g, "group": c, **value("fa", k + g), **value("p", -k)}
        for k, c in enumerate(("all", "head", "mid", "tail"))
        for g in (0.0, 1.0)
    ]
    rows = pd.DataFrame(lines)
    panels = plots.group_gap_panels(rows, ["rl"])
    assert [p.get_title() for p in panels] == ["head", "mid", "tail"]
    assert [list(p.containers[0].lines[0].get_ydata()) for p in panels] == [[1, 2], [2, 3], [3, 4]]
    assert list(plots.group_gap_panels(rows, ["rl"], "p")[1].containers[0].lines[0].get_ydata()) == [-2, -2]
    assert panels[0].containers[0].lines[0].get_linestyle() == "None"  # two exponents say nothing of what is between
    more = pd.concat([rows, rows.assign(gamma=2.0)])
    assert plots.group_gap_panels(more, ["rl"])[0].containers[0].lines[0].get_linestyle() == "-"


def test_metric_bars_are_means_from_the_top_with_their_reference():
    lines = [
        {"method": m, **value("gap", g), **value("fa", f)}
        for m, g, f in (("retrain", 0, 40), ("noise floor", 2, 41), ("rl", 9, 50), ("ga", 3, 70))
    ]
    rows = pd.DataFrame(lines)
    for column, line, widths in (("gap", 2, [9, 3]), ("fa", 40, [50, 70])):
        ax = plots.metric_bars(rows, column, "")
        assert [bar.get_width() for bar in ax.patches] == widths and ax.get_ylim()[0] > ax.get_ylim()[1]
        assert [t.get_text() for t in ax.get_yticklabels()] == ["rl", "ga"]
        bars = ax.containers[0].lines[2][0] if hasattr(ax.containers[0], "lines") else ax.collections[0]
        assert bars.get_segments()[0][:, 0].tolist() == [widths[0] - 1, widths[0] + 1]
        assert next(x for x in ax.lines if x.get_label() in ("retrain", "noise floor")).get_xdata()[0] == line


def test_a_power_law_starts_at_rank_1_and_stored_counts_become_shares():
    ax = plots.power_law(torch.tensor([3, 2, 1]), 4)
    values, edges, _ = ax.patches[0].get_data()
    assert (list(values), list(edges)) == ([3, 2, 1], [0.5, 1.5, 2.5, 3.5]) and ax.lines[0].get_ydata()[0] == 4
    ax = plots.probability_counts(pd.DataFrame({"counts": [[3, 1]], "mean": 0.3}, index=["rl"]))
    assert ax.get_ylim()[1] > 75  # none is cut off
    assert list(ax.patches[0].get_data().values) == [75, 25] and ax.lines[0].get_xdata()[0] == 0.3


def test_weight_curves_and_a_trajectory_draw_w_over_x():
    x, w = torch.tensor([0.0, 1.0]), torch.tensor([0.5, 1.5])
    a, b, _ = plots.weight_curves({"B = 1": (x, w), "b": (x, w)}, "z", "B = 1").lines
    assert list(a.get_ydata()) == [0.5, 1.5] and a.get_color() == "#999999" != b.get_color()
    ax = plots.class_at_epoch(x, w, torch.tensor([0.3]), 0.5, 0.2)
    mean, rug, dots, _ = ax.lines
    assert list(mean.get_xdata()) == [0.5, 0.5] and rug.get_xdata() == pytest.approx([0.3])
    assert (dots.get_xdata().tolist(), dots.get_ydata().tolist()) == ([0, 1], [0.5, 1.5])
    assert ax.patches[0].get_extents().transformed(ax.transData.inverted()).intervalx == pytest.approx([0.3, 0.7])


def test_methods_within_a_critical_difference_are_joined():
    assert plots._indistinct([1.0, 1.5, 2.4, 4.0, 4.1], 1.0) == [(1.0, 1.5), (1.5, 2.4), (4.0, 4.1)]
    assert plots._indistinct([1.0, 3.0], 1.0) == []
    assert plots._indistinct([1.0, 1.2, 1.4], 9.0) == [(1.0, 1.4)]  # and not its parts


def test_a_critical_difference_has_a_line_a_method_at_its_rank_and_its_width():
    ax = plots.critical_difference({"ranks": {"a": 1.0, "b": 1.5, "c": 3.0}, "critical difference": 1.2})
    a, b, c, bar, scale = ax.lines
    assert [line.get_xdata()[0] for line in (a, b, c)] == [1.0, 1.5, 3.0]
    assert list(bar.get_xdata()) == pytest.approx([0.95, 1.55]) and list(scale.get_xdata()) == pytest.approx([1, 2.2])
    assert [t.get_text() for t in ax.texts] == ["a  1.0", "b  1.5", "3.0  c", "critical difference 1.2"]
