"""Figures of chapters 7 and 9: what is drawn is what was given. Numbers are made by hand; nothing is trained."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from falw.book import plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_bars_of_a_batch_are_its_losses_and_the_line_is_its_one_mean():
    loss, weight = torch.tensor([0.5, 2.0, 4.0, 0.25]), torch.tensor([9.0, 1.5, 0.5, 9.0])
    ax = plots.batch_losses(loss, weight, torch.tensor([False, True, True, False]))
    weighted, unweighted, retained = ([bar.get_height() for bar in c] for c in ax.containers)
    assert weighted == [3, 2] and unweighted == [2, 4] and retained == [0.5, 0.25]  # weighted, largest first
    assert ax.lines[0].get_ydata()[0] == pytest.approx((3 + 2 + 0.5 + 0.25) / 4)  # retained images have no weight


def test_schedules_are_followed_and_epochs_marked():
    paths = {"every step": [4.0, 3.0, 2.0, 1.0], "once": [4.0, 4.0, 4.0, 4.0]}
    ax = plots.tracked(paths, 2, "mu")
    drawn = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert {name: drawn[name] for name in paths} == paths and ax.get_ylabel() == "mu"
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [2]


def test_before_and_after_are_a_circle_and_a_square_a_row():
    ax = plots.before_after({"ga": (3.0, 1.0), "rl": (2.0, 2.5)}, "gap")
    circles, squares = ([line for line in ax.lines if line.get_marker() == m] for m in "os")
    assert [line.get_xdata()[0] for line in circles] == [3, 2]
    assert [line.get_xdata()[0] for line in squares] == [1, 2.5]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["ga", "rl"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["before", "after"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is on top


def test_embedding_marks_classes_by_colour_and_forgotten_images_by_crosses():
    y, forget = torch.tensor([7, 7, 7, 2, 2]), torch.tensor([True, False, False, True, False])
    points = {"a": torch.arange(10.0).view(5, 2), "b": torch.zeros(5, 2)}
    panels = plots.embedding(points, y, forget)
    assert [panel.get_title() for panel in panels] == ["a", "b"]
    kept, gone = panels[0].collections[0], panels[0].collections[1]
    np.testing.assert_array_equal(kept.get_offsets(), points["a"][[1, 2]])
    np.testing.assert_array_equal(gone.get_offsets(), points["a"][[0]])
    colours = [tuple(c.get_edgecolor()[0]) for c in panels[0].collections]
    assert colours[0] == colours[1] == to_rgba("#0072B2") and colours[2] == colours[3] != colours[0]
    texts = [t.get_text() for t in panels[0].figure.legends[0].get_texts()]
    assert texts == ["class 7", "class 2", "retained", "forgotten"]
