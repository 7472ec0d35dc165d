"""Audits on arrays: answers known by hand, each written out again in loops, and what cannot be audited."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import gumbel_r
from sklearn.metrics import roc_auc_score

from falw import auditors
from falw.auditors import (
    completeness,
    epochs_until,
    forgetting_epsilon,
    forgetting_score,
    klom,
    lira,
    margin,
    mean_auc,
    probe,
    rmia,
    told_apart,
    ulira,
    ulira_by_chance,
)
from falw.metrics import Part

LN = math.log


def rng(seed=0):
    return np.random.default_rng(seed)


# Margins and what tells two sets apart


def test_margins_by_hand():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.2, 0.2], [1.0, 0.0, 0.0], [1.0, 1e-12, 0.0]])
    got = margin(Part(p, torch.tensor([0, 1, 1, 0])))
    assert got.tolist() == pytest.approx([LN(7 / 3), LN(1 / 4), LN(1e-30), 12 * LN(10)], rel=1e-6)


def test_auc_and_hits_by_hand():
    # of 6 pairs the member is higher in 4, level in one; at no false alarm (a third is more than 1 %) one of two is hit
    found = told_apart(np.array([3.0, 1.0]), np.array([2.0, 1.0, 0.0]))
    assert (found["auc"], found["tpr"]) == (pytest.approx(4.5 / 6), 0.5)
    infinite = told_apart(np.array([np.inf, 1.0]), np.array([-np.inf, 2.0]))
    assert (infinite["auc"], infinite["tpr"]) == (0.75, 0.5)
    assert all(math.isnan(v) for v in told_apart(np.array([]), np.array([1.0])).values())


def test_hits_at_one_percent_of_false_alarms():
    others, members = np.arange(1000.0), np.concatenate([np.full(30, 989.5), np.full(50, 988.5), np.zeros(20)])
    assert told_apart(members, others)["tpr"] == pytest.approx(0.3)  # above 989.5 lie 10 of 1000, above 988.5 eleven


def test_hits_at_several_rates_are_counted():
    members, others = rng(1).normal(1, 1, 300), rng(2).normal(0, 1, 400)
    found = told_apart(members, others)
    for rate in (0.005, 0.02, 0.05, 0.1, 0.2, 0.5):
        least = np.sort(others)[::-1][int(rate * 400)]  # so many of the others lie above it
        assert found[f"tpr_{rate:g}"] == pytest.approx((members > least).mean())


def test_weights_count_as_that_many_images():
    members, others, copies = rng(1).normal(1, 1, 40), rng(2).normal(0, 1, 30), rng(3).integers(1, 4, 30)
    weighted, repeated = told_apart(members, others, (None, copies)), told_apart(members, np.repeat(others, copies))
    assert weighted == pytest.approx(repeated)
    labels = np.repeat([1, 0], [40, 30])
    expected = roc_auc_score(labels, np.append(members, others), sample_weight=np.append(np.ones(40), copies))
    assert weighted["auc"] == pytest.approx(expected, abs=1e-12)


# IAM


def completeness_by_loop(target, original, shadows, steps):
    """From the paper: one Gumbel distribution for each image and step, by the method of moments."""

    def signal(p):
        return -LN(1e-2 - LN(1e-5 + p))

    alphas, result = [k / (steps - 1) for k in range(steps)], []
    spread = []
    for alpha in alphas:
        between = [signal(s) + alpha * (signal(o) - signal(s)) for row in shadows for s, o in zip(row, original)]
        spread.append(np.sqrt(np.mean((np.array(between) - np.mean(between)) ** 2)))
    for i, (t, o) in enumerate(zip(target, original)):
        total = 0.0
        for k in range(steps - 1):
            mean = np.mean([signal(s[i]) + alphas[k] * (signal(o) - signal(s[i])) for s in shadows])
            beta = math.sqrt(6) * spread[k] / math.pi
            total += alphas[k + 1] * gumbel_r(mean - 0.5772156649015329 * beta, beta).cdf(signal(t))
        result.append(1 - total / sum(alphas[1:]))
    return result


@pytest.mark.parametrize("shadows, steps", [(1, 30), (3, 20), (1, 2)])
def test_completeness_written_out(shadows, steps):
    target, original, known = rng(0).random(15), 1 - rng(1).random(15) / 20, rng(2).random((shadows, 15))
    expected = completeness_by_loop(target, original, known, steps)
    assert completeness(target, original, known, steps) == pytest.approx(expected, abs=1e-9)


def test_completeness_orders_what_is_fitted_halfway_faithful_and_broken():
    known, original = rng(0).beta(2, 2, 500), 1 - rng(1).random(500) / 100
    fitted, half, faithful, broken = (
        completeness(p, original, known).mean()
        for p in (original, (known + original) / 2, rng(2).permutation(known), known / 50)
    )
    assert fitted < 0.2 < half < faithful < broken <= 1


# RMIA


def rmia_by_loop(target, references, population, population_references, a, beyond):
    result = []
    for i, p in enumerate(target):
        mine = p / (((1 + a) * np.mean([r[i] for r in references]) + 1 - a) / 2)
        won = 0
        for j, q in enumerate(population):
            won += mine / (q / (((1 + a) * np.mean([r[j] for r in population_references]) + 1 - a) / 2)) > beyond
        result.append(won / len(population))
    return result


@pytest.mark.parametrize("a, beyond", [(0.33, 1.0), (0.0, 2.0), (1.0, 1.0)])
def test_rmia_written_out(a, beyond):
    draw = rng(3)
    x = draw.random(20), draw.random((3, 20)), draw.random(30), draw.random((3, 30))
    assert rmia(*x, a=a, beyond=beyond) == pytest.approx(rmia_by_loop(*x, a, beyond), abs=1e-12)


def test_rmia_finds_what_references_do_not_know_and_nothing_in_another_reference():
    hard = rng(0).random((3, 400))
    hard = np.clip(hard.mean(0) + (hard - 0.5) / 5, 0.01, 1)  # hard images are hard to all
    unseen = np.clip(rng(1).random((3, 400)) / 5 + 0.4, 0, 1)
    found = [
        told_apart(rmia(p, hard[:2], unseen[2], unseen[:2]), rmia(unseen[2], unseen[:2], unseen[2], unseen[:2]))["auc"]
        for p in (np.full(400, 0.99), hard[2])
    ]
    assert found[0] > 0.95 and found[1] == pytest.approx(0.5, abs=0.1)


# LiRA and U-LiRA


def test_lira_by_hand():
    target, others = np.array([3.0, 0.0]), np.array([[0.0, -1.0], [2.0, 1.0]])  # means 1 and 0, both sd sqrt(2)
    assert lira(target, others).tolist() == pytest.approx([2 / math.sqrt(2), 0])
    members = np.array([[2.0, 4.0], [4.0, 6.0]])  # means 3 and 5
    # -(0 - 2**2) / 4 and -((0 - 5)**2 - 0) / 4
    assert lira(target, others, members).tolist() == pytest.approx([1, -25 / 4])


def test_a_pooled_deviation_is_that_within_images():
    others = np.array([[0.0, 100.0], [2.0, 106.0]])  # variances 2 and 18
    assert lira(np.array([11.0, 103.0]), others, pooled=True).tolist() == pytest.approx([10 / math.sqrt(10), 0])


def ulira_by_loop(unlearned, retrained, forgotten):
    result = np.full((2, *forgotten.shape), np.nan)
    for run, image in zip(*forgotten.nonzero()):
        others = [k for k in range(len(forgotten)) if k != run and forgotten[k, image]]
        if len(others) >= 2:
            a, b = ([m[k, image] for k in others] for m in (unlearned, retrained))
            for side, m in enumerate((unlearned, retrained)):
                x = m[run, image]
                of_a, of_b = (-LN(np.std(k, ddof=1)) - (x - np.mean(k)) ** 2 / 2 / np.var(k, ddof=1) for k in (a, b))
                result[side, run, image] = of_a - of_b
    return result


def test_ulira_written_out():
    draw = rng(5)
    forgotten = draw.random((8, 25)) < 0.5
    forgotten[:, 0], forgotten[2:, 1] = False, False  # never forgotten, and in too few runs
    args = draw.normal(1, 2, (8, 25)), draw.normal(0, 2, (8, 25)), forgotten
    got, expected = np.stack(ulira(*args)), ulira_by_loop(*args)
    assert np.isnan(got[:, ~forgotten]).all() and np.isnan(got[:, :, :2]).all()
    assert got == pytest.approx(expected, nan_ok=True, abs=1e-6)


@pytest.mark.parametrize("shift, low, high", [(0.0, 0.47, 0.53), (3.0, 0.95, 1.0), (-3.0, 0.95, 1.0)])
def test_ulira_finds_what_is_there_and_nothing_else(shift, low, high):
    """Gaussian margins of distance d have an AUC of norm.cdf(d / sqrt(2)), 0.98 for 3, whichever lies above."""
    draw, hard = rng(6), rng(7).normal(0, 3, 300)
    forgotten = draw.random((32, 300)) < 0.5
    unlearned, retrained = (hard + draw.normal(by, 1, (32, 300)) for by in (shift, 0.0))
    judged = ulira(unlearned, retrained, forgotten)
    each = [told_apart(*(side[run, forgotten[run]] for side in judged))["auc"] for run in range(32)]
    assert low < np.mean(each) < high


def test_chance_holds_runs_that_shift_as_a_whole_and_not_what_is_there():
    """Each model is off as a whole, as models are: runs judge each other wrong together, and only swaps show that."""
    draw, inside = rng(8), 0
    forgotten, everything = draw.random((12, 40)) < 0.6, [np.ones(40, bool)]
    for _ in range(6):
        sides = draw.normal(0, 1, (2, 12, 40)) + draw.normal(0, 2, (2, 12, 1))
        low, high = ulira_by_chance(*sides, forgotten, everything, swaps=40)[0]
        inside += low <= mean_auc(*ulira(*sides, forgotten)) <= high
    assert inside >= 5 and low < 0.45
    sides[0] += 4
    assert mean_auc(*ulira(*sides, forgotten)) > ulira_by_chance(*sides, forgotten, everything, swaps=40)[0, 1]


def test_a_mean_auc_is_that_of_each_run():
    a, b = rng(1).normal(1, 1, (3, 9)), rng(2).normal(0, 1, (3, 9))
    a[:, 0] = b[:, 0] = np.nan
    assert mean_auc(a, b) == pytest.approx(np.mean([told_apart(x[1:], y[1:])["auc"] for x, y in zip(a, b)]))


def test_a_run_is_not_judged_by_itself():
    """A margin that only one run has is far from all others of its kind: fitted with it, the ratio would be small."""
    forgotten, unlearned = np.ones((6, 1), bool), np.array([[0.0], [0.1], [-0.1], [0.05], [-0.05], [9.0]])
    judged, _ = ulira(unlearned, np.array([[0.0], [4.0], [-4.0], [2.0], [-2.0], [1.0]]), forgotten)
    assert judged[5, 0] < -1000 and (judged[:5, 0] > -1000).all()


# Distributions over models


def test_klom_by_hand():
    unlearned, retrained = np.array([0.0, 0.0, 20.0, 20.0]), np.array([0.0, 20.0, 20.0, 20.0])
    assert klom(unlearned, retrained) == pytest.approx(0.5 * LN(2) + 0.5 * LN(0.5 / 0.75))
    assert klom(np.array([1.0, 1.0]), np.array([1.0])) == 0
    # a quarter lies where no Retrain is, which counts as 1e-5 of 1.00001
    apart = 0.25 * LN(0.25 * 1.00001 / 1e-5) + 0.75 * LN(0.75 * 1.00001)
    assert klom(np.array([0.0, 0.0, 0.0, 20.0]), np.array([0.0])) == pytest.approx(apart)


def test_klom_falls_to_its_floor_for_models_of_one_kind_and_needs_many():
    same = [np.mean([klom(rng(k).normal(size=n), rng(k + 99).normal(size=n)) for k in range(50)]) for n in (8, 32, 512)]
    assert same[0] > same[1] > same[2] and same[2] < 0.1
    assert np.mean([klom(rng(k).normal(2, 1, 512), rng(k + 99).normal(size=512)) for k in range(5)]) > 1


def epsilon_by_loop(unlearned, retrained, delta=1e-5):
    """All intervals between thresholds that lie between, below and above the values, one after another."""
    narrow, wide = sorted((unlearned, retrained), key=lambda x: max(x) - min(x))
    values = sorted({*narrow, *wide})
    cuts = [-math.inf, *((a + b) / 2 for a, b in pairwise(values)), math.inf]
    best = 0.0
    for low in cuts:
        for high in (h for h in cuts if h >= low):
            alarm = sum(low < x < high for x in wide) / len(wide)
            miss = 1 - sum(low < x < high for x in narrow) / len(narrow)
            if alarm == miss == 0:
                return 50.0
            for a, b in ((alarm, miss), (miss, alarm)):
                if alarm > 0 and miss > 1e-12 and 1 - delta - a > 0:
                    best = max(best, LN(1 - delta - a) - LN(b))
    return best


@pytest.mark.parametrize("shift, scale", [(0, 1), (1, 1), (0, 0.3), (3, 2), (20, 1)])
def test_epsilon_written_out(shift, scale):
    unlearned, retrained = rng(1).normal(shift, scale, 12), rng(2).normal(0, 1, 10)
    assert forgetting_epsilon(unlearned, retrained) == pytest.approx(epsilon_by_loop(unlearned, retrained), abs=1e-9)


def test_epsilon_of_what_is_certain():
    assert forgetting_epsilon(np.array([1.0, 2.0]), np.array([8.0, 9.0])) == 50
    assert forgetting_epsilon(np.full(9, 1.0), np.arange(9.0)) == 50  # a spike among what varies
    assert forgetting_epsilon(np.ones(4), np.ones(4)) == 0


def test_forgetting_score_by_hand():
    # of 16 models log 15 = 2.7 can be shown, so worth ends at 3: 1, 1/2, 1/2, 1/32, 0, 0
    assert forgetting_score(np.array([0.49, 0.5, 0.99, 2.9, 3.0, 50.0]), 16) == pytest.approx((2 + 1 / 32) / 6)
    assert math.isnan(forgetting_score(np.array([]), 16))


# Relearning and features


def test_epochs_until_an_accuracy_by_hand():
    assert epochs_until([60, 70, 90], 80) == 1.5 and epochs_until([60, 70, 90], 70) == 1
    assert epochs_until([60, 70, 90], 50) == 0 and epochs_until([60, 50, 59], 61) == math.inf


def test_cka_is_blind_to_rotation_and_scale_and_small_between_strangers():
    x, rotation = rng(0).normal(size=(300, 6)), np.linalg.qr(rng(1).normal(size=(6, 6)))[0]
    assert auditors.cka(x, 3 * x @ rotation + 2) == pytest.approx(1)
    assert auditors.cka(x, rng(2).normal(size=(300, 9))) < 0.1
    # by the definition on Gram matrices, HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))
    y, centre = x[:, :3] + rng(3).normal(size=(300, 3)), np.eye(300) - 1 / 300
    k, m = (centre @ (f @ f.T) @ centre for f in (x, y))
    assert auditors.cka(x, y) == pytest.approx((k * m).sum() / math.sqrt((k * k).sum() * (m * m).sum()), abs=1e-9)
    assert math.isnan(auditors.cka(np.ones((5, 2)), x[:5]))


def test_a_probe_reads_what_features_hold_and_nothing_from_noise():
    y, asked_y, centre = rng(0).integers(4, size=400), rng(1).integers(4, size=200), 3 * rng(2).normal(size=(4, 8))
    held = probe(centre[y] + rng(3).normal(size=(400, 8)), y, centre[asked_y] + rng(4).normal(size=(200, 8)), asked_y)
    noise = probe(rng(3).normal(size=(400, 8)), y, rng(4).normal(size=(200, 8)), asked_y)
    assert held.shape == (200,) and held.mean() > 0.95 and noise.mean() == pytest.approx(0.25, abs=0.12)


# What cannot be audited

N2, N3 = np.ones(2), np.ones(3)


@pytest.mark.fault("an audit of arrays that do not fit, are NaN or too few", "refused in one line")
@pytest.mark.parametrize(
    "ask, words",
    [
        (lambda: completeness(N3, N3, N2), r"evaluated on \[2, 3\] images: give the same ones"),
        (lambda: completeness(N3, N3, N3, steps=1), "steps 1 are too few: give at least 2"),
        (lambda: rmia(N3, N2, N3, N3), r"evaluated on \[2, 3\] images"),
        (lambda: lira(N3, N3[None]), "1 run has no spread: give at least two of each kind"),
        (lambda: told_apart(N3 * math.nan, N3), "3 of 3 numbers are NaN: the model diverged"),
        (lambda: ulira(np.ones((4, 3)), np.ones((4, 3)), np.ones((4, 2), bool)), "give one row a run and one column"),
        (lambda: ulira(*np.ones((2, 2, 3)), np.ones((2, 3), bool)), "no image is forgotten in 3 of 2 runs"),
        (lambda: klom(N3, N3[:0]), "no models on one of the two sides"),
        (lambda: forgetting_epsilon(N3 * math.nan, N3), "3 of 3 numbers are NaN"),
        (lambda: forgetting_score(N3, 2), "2 models a side show nothing: give at least 3"),
        (lambda: epochs_until([], 1), "no accuracies: give that before the first epoch"),
        (lambda: probe(np.ones((4, 2)), np.ones(4), np.ones((2, 2)), np.ones(2)), "of one class teach a probe nothing"),
        (lambda: margin(Part(torch.full((1, 2), math.nan), torch.tensor([0]))), "1 of 1 rows hold NaN or infinity"),
    ],
)
def test_what_cannot_be_asked_of_arrays(ask, words):
    with pytest.raises(ValueError, match=words):
        ask()
