"""Sure networks and networks of 16 bits: what rounding takes away, and that statistics and weights keep the rest."""

import math
import statistics
from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest
import torch
from torch import nn

from falw.methods import METHODS, unlearn
from falw.metrics import Part
from falw.models import probabilities
from falw.train import Batch, Objective, predict
from falw.weights import FaLW, balance_factor, beta_fit, beta_weight, class_stats, forgetting_weight, z_score

HALVES = [torch.bfloat16, torch.float16]
halves = pytest.mark.parametrize("half", HALVES, ids=["bfloat16", "float16"])
ZERO = torch.zeros(1, dtype=torch.long)


def logits_around(margins):
    """Logits of two classes whose difference is each margin, in float64: the first class has p = 1 / (1 + e**-m)."""
    m = torch.as_tensor(margins, dtype=torch.float64)
    return torch.stack([m / 2, -m / 2], 1)


def sure(n=64):
    """Margins of a network that is sure, and often wrong: p from 1 - 1e-8 to 1e-8."""
    return torch.cat([torch.linspace(4, 18, n), torch.linspace(-18, -4, n)])


class Gives(nn.Module):
    """A network that answers image i, the number in its first pixel, with row i of logits, in their own precision."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return self.logits[x[:, 0, 0, 0].long()]


def numbered(n):
    return torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1)


# Probabilities from logits of 16 bits


@halves
def test_probabilities_of_half_logits_are_those_of_float64_softmax(half):
    logits = logits_around(sure()).to(half)
    got = probabilities(Gives(logits), numbered(128), torch.arange(128))
    exact = logits.double().softmax(1)
    assert got.dtype == torch.float32
    assert torch.allclose(got.double(), exact, rtol=1e-5, atol=6e-8)  # half a step of float32 below 1
    kept, lost = (len(p[:, 0].unique()) for p in (got, logits.softmax(1)))
    assert kept > 1.25 * lost  # what a softmax of 16 bits would have left


@halves
def test_what_half_logits_themselves_lose_is_bounded_by_their_rounding(half):
    logits = logits_around(sure())
    p, rounded = logits.softmax(1)[:, 0], logits.to(half).double().softmax(1)[:, 0]
    step = torch.finfo(half).eps * logits.abs().max()  # of one logit; a margin is off by at most one
    assert ((p - rounded).abs() <= p * (1 - p) * step.expm1() * 1.01 + 1e-12).all()
    assert (p - rounded).abs().max() > 0 or half == torch.float32


def test_a_bfloat16_probability_is_1_from_0998_up_and_would_turn_a_weight_around():
    p, y = torch.tensor([0.9979, 0.9985, 0.999, 0.9995]), torch.zeros(4, dtype=torch.long)
    assert p[1:].bfloat16().tolist() == [1, 1, 1]
    stats = class_stats(
        torch.tensor([0.9985, 0.999, 0.9995]), y[:3], 1
    )  # 0.999 with a deviation of 0.0005, floor 0.001
    w, of_bfloat16 = (forgetting_weight(z_score(q, y, stats)) for q in (p, p.bfloat16()))
    assert w[1] < 1 < of_bfloat16[1] and of_bfloat16[1] - w[1] > 1
    assert w[2] == pytest.approx(1, abs=1e-4)


@halves
def test_the_loop_takes_p_in_float32_from_half_logits(half):
    seen = []

    class Spy:
        def update(self, model, epoch):
            raise AssertionError("the objective does not update")

        def __call__(self, p_true, y, loss):
            seen.append((p_true, loss))
            return torch.ones_like(p_true)

    logits = logits_around(sure()).to(half).requires_grad_()
    y = torch.zeros(128, dtype=torch.long)
    batch = Batch(torch.empty(128, 0), y, torch.ones(128, dtype=torch.bool), torch.arange(128), 0)
    loss = Objective(weight=Spy())(logits, batch)
    ((p, own),) = seen
    exact = logits.detach().double().log_softmax(1)[:, 0]
    assert p.dtype == own.dtype == loss.dtype == torch.float32 and not p.requires_grad
    assert torch.allclose(p.double(), exact.exp(), rtol=2e-6, atol=1e-12)
    assert torch.allclose(own.double(), -exact, rtol=2e-6, atol=6e-8)
    loss.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.fault(
    "a network of 16 bits is sure of every answer", "statistics in 64, weights in 32 bits, within what its logits say"
)
@pytest.mark.parametrize("half, dist", [(torch.float16, "normal"), (torch.bfloat16, "beta")])
def test_weights_of_a_half_network_are_those_of_its_logits_in_float64(half, dist):
    logits, y = logits_around(sure()).to(half), torch.zeros(128, dtype=torch.long)
    counts = torch.tensor([30, 10])
    weight = FaLW((numbered(128), y), counts, dist=dist)
    weight.update(Gives(logits), 0)
    exact = logits.double().softmax(1)[:, 0]
    assert weight.p_val.dtype == torch.float32
    assert {v.dtype for v in weight.stats} <= {torch.float64, torch.bool}
    fit = class_stats(exact, y, 2) if dist == "normal" else beta_fit(exact, y, 2)
    for mine, reference in zip(weight.stats, fit, strict=True):
        assert torch.allclose(mine[0].double(), reference[0].double(), rtol=1e-5)
    balance, p = balance_factor(counts, 0.15)[y], exact.float()
    w = weight(p, y)
    assert w.dtype == torch.float32 and ((w >= 0) & (w <= 2)).all()
    if dist == "normal":
        assert torch.allclose(w.double(), forgetting_weight(z_score(exact, y, fit), balance), atol=1e-5)
    else:  # a Beta distribution may climb steeply at 1: the last step of float32, 6e-8, is worth a tenth here
        assert torch.allclose(w.double(), beta_weight(p, y, fit, balance), atol=1e-5)
        assert torch.allclose(w.double(), beta_weight(exact, y, fit, balance), atol=0.15)


def test_an_unlearning_run_in_16_bits_shows_its_weight_float32_probabilities(data, split, original, config):
    seen = []
    call = FaLW.__call__

    class Watched(FaLW):
        def __call__(self, p_true, y, loss=None):
            w = call(self, p_true, y, loss)
            seen.append((p_true.dtype, self.p_val.dtype, self.stats.mean.dtype, w))
            return w

    def build(task):
        index = task.split.val
        return Watched((task.data.train.x[index], task.data.train.y[index]), task.split.forget_counts)

    row = replace(METHODS["rl+falw"], weight=build)
    model = unlearn(row, original, data, split, replace(config, epochs=1, precision="bfloat16"))
    assert {tuple(kinds) for *kinds, _ in seen} == {(torch.float32, torch.float32, torch.float64)}
    assert all(((w >= 0) & (w <= 2)).all() for *_, w in seen)
    assert all(torch.isfinite(part.p).all() for part in predict(model, data, split))


# Class statistics against exact fractions

NEAR_1 = {
    "1e-12 below 1": [1 - k * 1e-13 for k in (0, 1, 3, 4, 7, 10)],
    "two steps below 1": [1.0, math.nextafter(1.0, 0), math.nextafter(math.nextafter(1.0, 0), 0)],
    "1e-12 above 0": [k * 1e-13 for k in (0, 1, 3, 4, 7, 10)],
    "smallest numbers": [5e-324, 1e-310, 3e-310, 0.0],
    "both ends": [0.0, 1.0, 1 - 1e-12, 1e-12, 0.5],
    "float32 below 1": [1 - k * 2.0**-24 for k in (0, 1, 2, 5)],
    "one image": [1 - 1e-12],
    "all alike": [1 - 1e-12] * 5,
    "1000 of two": [1.0, 1 - 1e-12] * 500,
}


def exact_moments(p):
    """Mean and standard deviation of numbers by the standard library, from fractions."""
    mean = statistics.mean(map(Fraction, p))
    spread = math.sqrt(sum((Fraction(q) - mean) ** 2 for q in p) / (len(p) - 1)) if len(p) > 1 else 0.0
    assert len(p) == 1 or spread == pytest.approx(statistics.stdev(p), rel=1e-9, abs=1e-300)
    return float(mean), spread


def test_class_stats_are_the_standard_librarys_where_floats_are_coarse():
    for name, p in NEAR_1.items():
        mean, spread = exact_moments(p)
        got = class_stats(torch.tensor([*p, 0.3], dtype=torch.float64), torch.tensor([1] * len(p) + [0]), 3, floor=0.0)
        assert got.count.tolist() == [1, len(p), 0] and got.mean[0] == 0.3
        # Each number added to the mean may cost half a step of float64 below 2, which the second pass sees squared.
        assert abs(got.mean[1].item() - mean) <= 1.2e-16 * (len(p) + 1) * max(p), name
        assert got.std[1].item() == pytest.approx(spread, rel=1e-3, abs=2.3e-16 * max(p)), name


def test_class_stats_of_lesser_precision_are_exact_for_the_numbers_given():
    for precision in (torch.float16, torch.bfloat16, torch.float32):
        p = torch.sigmoid(sure().double()).to(precision)
        mean, spread = exact_moments(p.tolist())
        got = class_stats(p, torch.zeros(len(p), dtype=torch.long), 1)
        assert got.mean.item() == pytest.approx(mean, rel=1e-13) and got.std.item() == pytest.approx(spread, rel=1e-12)


def test_the_moments_of_float32_would_be_lost():
    p = torch.tensor([1 - k * 1e-12 for k in range(8)], dtype=torch.float64)
    assert p.float().unique().tolist() == [1]
    got = class_stats(p, torch.zeros(8, dtype=torch.long), 1, floor=0.0).std.item()
    assert got == pytest.approx(statistics.stdev(p.tolist()), rel=1e-3)
    one_pass = math.sqrt(max((p**2).mean().item() - p.mean().item() ** 2, 0))  # E[p^2] - mean^2, in float64
    assert abs(one_pass - got) > 0.5 * got


def test_z_near_1_is_that_of_fractions():
    for name, p in NEAR_1.items():
        mean = statistics.mean(map(Fraction, p))
        sigma = max(exact_moments(p)[1], 1e-3)
        y = torch.zeros(len(p), dtype=torch.long)
        at = torch.tensor(p, dtype=torch.float64)
        z = z_score(at, y, class_stats(at, y, 1))  # with the floor of 1e-3, as in a run
        expected = [float(Fraction(q) - mean) / sigma for q in p]
        assert z.tolist() == pytest.approx(expected, abs=1.2e-16 * (len(p) + 1) * max(p) / sigma), name


PRECISIONS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def test_a_weight_is_within_rounding_of_the_formula_in_every_precision():
    for precision, balance in product(PRECISIONS, (0.5, 1.0, 2.0)):
        z = torch.cat([torch.linspace(-4, 4, 41), torch.tensor([-1e4, -1e-3, 0.0, 1e-3, 1e4])]).to(precision)
        w = forgetting_weight(z, balance)
        exact = [1 + math.copysign(math.tanh(abs(v)) ** (1 / balance), v) if v else 1.0 for v in z.tolist()]
        assert w.dtype == precision
        assert w.tolist() == pytest.approx(exact, abs=3 * torch.finfo(precision).eps)


@pytest.mark.fault(
    "p is 0 or 1 to the last bit, or outside what a probability can be", "weights are finite and in 0 to 2"
)
@pytest.mark.parametrize("unseen", [[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0], [0.5, 0.5 + 1e-9]], ids=str)
def test_weights_at_the_ends(unseen):
    y = torch.zeros(len(unseen), dtype=torch.long)
    for precision in PRECISIONS:
        q = torch.tensor(unseen, dtype=torch.float64).to(precision)
        p = torch.tensor([0.0, 1.0, 0.5, 1.5, -1.0, math.inf, -math.inf, 6e4, 1e-7], dtype=precision)
        same_class = torch.zeros(len(p), dtype=torch.long)
        for floor, balance in product((0.0, 1e-3), (0.2, 1.0, 5.0)):
            w = forgetting_weight(z_score(p, same_class, class_stats(q, y, 1, floor)), balance)
            assert torch.isfinite(w).all() and ((w >= 0) & (w <= 2)).all()
        w = beta_weight(p, same_class, beta_fit(q, y, 1))
        assert torch.isfinite(w).all() and ((w >= 0) & (w <= 2)).all()


@pytest.mark.fault(
    "a logit is infinite, or beyond the range of 16 bits", "p of minus infinity is 0; of plus, the run ends"
)
@halves
def test_infinite_logits(half, data, split):
    low = Gives(torch.tensor([[0.0, -math.inf], [-1e9, 1e9]]).to(half))  # float16 has no 1e9
    p = probabilities(low, numbered(2), torch.arange(1))
    assert p.tolist() == [[1, 0]]

    class Beyond(nn.Module):
        def forward(self, x):
            return torch.full((len(x), data.num_classes), 1e39, dtype=torch.float64).to(half)

    with pytest.raises(FloatingPointError, match=r"has diverged; lower the learning rate"):
        predict(Beyond(), data, split)


@halves
def test_parts_of_half_probabilities_are_scored_as_their_numbers_are(half):
    from falw.audit import FEATURES

    p = logits_around(sure()).softmax(1).to(half)
    part, exact = (Part(q, torch.zeros(128, dtype=torch.long)) for q in (p, p.double()))
    for name, feature in FEATURES.items():
        assert torch.equal(feature(part).double(), feature(exact).double()), name
