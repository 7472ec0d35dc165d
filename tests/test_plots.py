"""Figures as data: what is drawn, read back from the axes."""

import matplotlib

matplotlib.use("Agg")

import pytest
import torch
from matplotlib import pyplot as plt

from falw import plots


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_count_lines_draws_every_forget_set_from_rank_1_on():
    ax = plots.count_lines({"a": torch.tensor([3, 2, 1]), "b": torch.tensor([2, 2, 2])}, available=4)
    a, b, line = ax.lines
    assert (a.get_xdata().tolist(), a.get_ydata().tolist()) == ([1, 2, 3], [3, 2, 1])
    assert b.get_ydata().tolist() == [2, 2, 2] and list(line.get_ydata()) == [4, 4]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b", "images a class has"]
    assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] > 4
    assert len(plots.count_lines({"a": torch.tensor([3, 2])}).lines) == 1


def test_over_gamma_draws_means_in_order_with_the_range_as_bars():
    ax = plots.over_gamma({"head": {2.0: [1, 3], 0.5: [10, 20, 60]}, "paper": {1.0: [7]}}, "FA, %")
    (line, _, (bars,)), (single, *_) = (container.lines for container in ax.containers)
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0.5, 2], [30, 2])
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[10, 60], [1, 3]]
    assert line.get_color() == plots.GROUP_COLOURS["head"] and single.get_ydata().tolist() == [7]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("γ", "FA, %")
    given = plt.figure().add_subplot()
    assert plots.over_gamma({"a": {0: [1]}}, "", given) is given
