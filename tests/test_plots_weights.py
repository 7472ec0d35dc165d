"""Figures of chapters 5 and 6: what is drawn is what was given. Numbers are made by hand; nothing is trained."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from falw import plots
from falw.methods import Trace
from falw.metrics import Part
from falw.weights import balance_factor, beta_fit, class_stats


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def part():
    """Twelve images of two classes, class 1 surer than class 0."""
    p = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 0.6, 0.7, 0.8, 0.85, 0.95, 0.97])
    y = torch.tensor([0] * 6 + [1] * 6)
    columns = torch.stack([p, 1 - p], 1)
    return Part(torch.where(y[:, None] == 0, columns, columns.flip(1)), y)


def test_pairs_are_one_dot_an_image_with_the_diagonal(part):
    other = Part(part.p.flip(0), part.y)
    ax = plots.probability_pairs(part, other, ("Retrain", "the Original"))
    diagonal, dots = ax.lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
    assert np.allclose(dots.get_xydata(), torch.stack([part.p_true, other.p_true], 1))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("p under Retrain", "p under the Original")


def test_a_fitted_class_shows_its_images_and_two_densities_of_area_one(part):
    stats, beta = class_stats(part.p_true, part.y, 2), beta_fit(part.p_true, part.y, 2)
    panels = plots.fitted_classes(part, [1, 0], stats, beta)
    assert [panel.get_title()[:7] for panel in panels] == ["class 1", "class 0"]
    rug, gaussian, density = panels[1].lines
    assert np.allclose(rug.get_xdata(), part.p_true[:6])
    assert torch.trapezoid(*map(torch.as_tensor, density.get_data()[::-1])).item() == pytest.approx(1, abs=0.02)
    peak = gaussian.get_xdata()[gaussian.get_ydata().argmax()]
    assert peak == pytest.approx(stats.mean[0].item(), abs=0.01)
    assert gaussian.get_xdata().min() < 0 and gaussian.get_xdata().max() > 1


def test_class_statistics_stand_side_by_side(part):
    stats = class_stats(part.p_true, part.y, 2)
    ax = plots.class_statistics({"original": stats, "retrain": stats})
    first, second = (container.lines[0] for container in ax.containers)
    assert np.allclose(first.get_ydata(), stats.mean) and np.allclose(second.get_ydata(), stats.mean)
    assert (first.get_xdata() < second.get_xdata()).all()


def test_sample_paths_follow_p_z_w_and_the_mean_of_the_class(part):
    p, z, w = (torch.arange(6, dtype=torch.float64).view(3, 2) / scale for scale in (10, 2, 3))
    stats = [class_stats(part.p_true * shrink, part.y, 2) for shrink in (1.0, 0.5, 0.25)]
    trace = Trace(torch.tensor([0, 1]), p, z, w, part.y, part.p_true.repeat(3, 1), stats)
    panels = plots.sample_paths(trace, {"tail": 1})
    for panel, values in zip(panels, (p, z, w), strict=True):
        assert list(panel.lines[0].get_ydata()) == values[:, 1].tolist()
    assert np.allclose(panels[0].lines[1].get_ydata(), [s.mean[1] for s in stats])


def test_balance_factors_leave_out_classes_without_forgotten_images():
    counts = torch.tensor([6, 3, 0, 1])
    ax = plots.balance_factors({"γ": counts}, 0.5)
    assert list(ax.lines[0].get_xdata()) == [1, 2, 4]
    assert np.allclose(ax.lines[0].get_ydata(), balance_factor(counts, 0.5)[[0, 1, 3]])


def test_a_sweep_is_in_the_order_of_its_values_with_retrain_as_a_line():
    def row(method, mean, sd=1.0):
        return {"method": method, **{k: {"mean": mean, "sd": sd} for k in ("fa", "ra", "ta", "mia", "gap")}}

    rows = [row("retrain", 50.0), row("noise floor", 2.0), row("b", 7.0), row("a", 5.0, None), row("other", 1.0)]
    panels = plots.sweep(rows, {"b": 1, "a": 0.5}, "τ")
    assert [panel.get_title() for panel in panels] == ["FA, %", "RA, %", "TA, %", "MIA, %", "Avg. Gap, points"]
    for panel, line in zip(panels, (50, 50, 50, 50, 2), strict=True):
        assert list(panel.containers[0].lines[0].get_ydata()) == [5, 7]
        assert [label.get_text() for label in panel.get_xticklabels()] == ["0.5", "1"]
        assert list(panel.lines[0].get_ydata()) == [line, line]
