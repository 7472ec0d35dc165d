"""The toy of chapter 3: its points, and that what is drawn is what the networks say."""

import re

import matplotlib
import pytest
import torch

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from falw.book import explorers, toy
from falw.book.toy import CELLS, EPOCHS, FORGOTTEN, ROW_OF_FAMILY, Moment, Toy, blobs, draw_plane, draw_points, follow
from falw.config import Config


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def moment(p, blob):
    """A network that gives every cell to one blob, and each point the probability p."""
    field = torch.zeros(CELLS * CELLS, 3)
    field[:, blob] = 1
    return Moment(field, torch.full((sum(FORGOTTEN),), p), 0.5)


def a_toy():
    moments = {family: [moment(0.1 * k, k % 3) for k in range(EPOCHS + 1)] for family in ROW_OF_FAMILY}
    return Toy(*blobs(), moment(0.3, 1), moments)


def test_the_forget_set_has_a_tail_and_a_stray_of_every_blob():
    data, split = blobs()
    assert split.forget_counts.tolist() == list(FORGOTTEN) and data.train.x.shape == (120, 1, 1, 2)
    points, y = data.train.x.flatten(1).float(), data.train.y
    centres = torch.stack([points[y == c].mean(0) for c in range(3)])
    nearest = torch.cdist(points, centres).argmin(1)
    assert {c for c in range(3) if ((nearest != y) & (y == c))[split.forget].any()} == {0, 1, 2}
    assert (nearest == y)[split.forget].sum() >= 3 and (nearest == y).double().mean() > 0.75


def test_a_method_is_followed_from_the_original_on_and_a_single_step_is_done_after_one():
    data, split = blobs()
    torch.manual_seed(0)
    network = torch.nn.Sequential(toy.Scale(), torch.nn.Linear(2, 3))
    config = Config(epochs=EPOCHS, lr=0.05, batch_size=16, crop=0, flip=False, coefficient=1.0)
    for row, several in (("ft", True), ("ssd", False)):
        seen = follow(row, network, data, split, config)
        assert len(seen) == EPOCHS + 1 and not seen[0].p.equal(seen[-1].p)
        assert seen[1].p.equal(seen[-1].p) is not several
        assert seen[0].field.sum(1).allclose(torch.ones(CELLS * CELLS))


def test_the_plane_has_the_colour_of_the_blob_that_the_network_names_and_a_bar_is_a_probability():
    of, (left, right) = a_toy(), plt.subplots(1, 2)[1]
    draw_plane(of, moment(0.5, 2), left)
    shown = left.images[0].get_array()
    assert (shown == shown[0, 0]).all() and shown[0, 0].argmax() == 1  # the third blob is green
    draw_points(of, moment(0.5, 2), right)
    assert [bar.get_width() for bar in right.patches] == [0.5] * 10
    assert right.lines[0].get_xdata().tolist() == pytest.approx([0.3] * 10)


def test_the_explorer_has_a_frame_for_every_epoch_of_every_family_and_plays_them(monkeypatch):
    asked = {}
    monkeypatch.setattr(toy, "explore", lambda draw, **how: asked.update(how, draw=draw))
    toy.watch(a_toy())
    assert (asked["play"], asked["family"], asked["epoch"]) == ("epoch", list(ROW_OF_FAMILY), list(range(EPOCHS + 1)))
    assert len(ROW_OF_FAMILY) * (EPOCHS + 1) <= explorers.MAX_FRAMES
    words = asked["alt"]("ascend", 4)
    assert re.search(r"ascend \(ga\) after 4 epochs.* 0.40, under Retrain 0.30; \d+ of ten", words)
    figure = asked["draw"]("ascend", 4).figure
    assert [bar.get_width() for bar in figure.axes[1].patches] == pytest.approx([0.4] * 10)


def test_the_ends_show_retrain_and_the_last_epoch_of_every_family():
    titles = [ax.get_title() for ax in toy.ends(a_toy())]
    assert titles == ["Retrain\nmean p 0.30", *(f"{family}\nmean p 1.00" for family in ROW_OF_FAMILY)]
