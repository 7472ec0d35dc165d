"""Figures of chapters 5 and 6: what is drawn is what was given. Numbers are made by hand; nothing is trained."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import beta as beta_density
from scipy.stats import norm

from falw.book import plots
from falw.lab.traces import Trace
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
    rows = [row("retrain", 50.0), row("noise floor", 2.0), row("b", 7.0), row("a", 5.0, None), row("other", 1.0)]
    panels = plots.sweep(pd.DataFrame(rows), {"b": 1, "a": 0.5}, "τ")
    assert [panel.get_title() for panel in panels] == [
        *(f"{name}, %\nbest at the line" for name in ("FA", "RA", "TA", "MIA")),
        "Avg. Gap, points\nlower is better",
    ]
    for panel, line in zip(panels, (50, 50, 50, 50, 2), strict=True):
        assert list(panel.containers[0].lines[0].get_ydata()) == [5, 7]
        assert [label.get_text() for label in panel.get_xticklabels()] == ["0.5", "1"]
        assert list(panel.lines[0].get_ydata()) == [line, line]


def row(method, base, sd=1.0, step=0):
    """A row of a table whose scores go up by `step` from one to the next."""
    scores = enumerate(("fa", "ra", "ta", "mia", "gap"))
    return {
        "method": method,
        **{f"{k}_{part}": v for n, k in scores for part, v in (("mean", base + step * n), ("sd", sd))},
    }


def test_a_fitted_class_has_its_own_histogram_and_parameters():
    p, y = (
        torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.95, 0.6, 0.7, 0.8, 0.85, 0.95, 0.97]),
        torch.tensor([0] * 6 + [1] * 6),
    )
    columns = torch.stack([p, 1 - p], 1)
    part = Part(torch.where(y[:, None] == 0, columns, columns.flip(1)), y)
    stats, beta = class_stats(p, y, 2), beta_fit(p, y, 2)
    panel = plots.fitted_classes(part, [1, 0], stats, beta)[0]
    _, gaussian, density = panel.lines
    m, s = stats.mean[1].item(), stats.std[1].item()
    assert gaussian.get_ydata() == pytest.approx(norm.pdf(gaussian.get_xdata(), m, s))
    assert density.get_ydata() == pytest.approx(beta_density.pdf(density.get_xdata(), beta.alpha[1], beta.beta[1]))
    bars = [b for b in panel.patches if b.get_facecolor()[:3] == pytest.approx((0xBB / 255,) * 3)]
    assert (
        sum(b.get_height() * b.get_width() for b in bars) == pytest.approx(1)
        and sum(b.get_height() for b in bars[:5]) == 0
    )
    assert panel.get_title() == f"class 1: μ = {m:.2f}, σ = {s:.2f}"


def test_a_sweep_draws_each_score_in_its_own_panel_with_deviations():
    rows = [row(name, base, step=1) for name, base in (("retrain", 50), ("noise floor", 0), ("a", 7), ("b", 5))]
    for n, panel in enumerate(plots.sweep(pd.DataFrame(rows), {"a": 1, "b": 0.5}, "τ")):
        line, _, (bars,) = panel.containers[0].lines
        assert list(line.get_ydata()) == [5 + n, 7 + n] and bars.get_segments()[0][:, 1].tolist() == [4 + n, 6 + n]
        middle = 4 if n == 4 else 50 + n
        band = panel.patches[0].get_extents().transformed(panel.transData.inverted()).intervaly
        assert band == pytest.approx([middle - 1, middle + 1])
