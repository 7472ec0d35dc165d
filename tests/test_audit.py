"""Membership inference: features by hand and by loops, the SVC written out again, merged points against all points."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.svm import SVC

from falw import audit
from falw.audit import FEATURES, svc_mia
from falw.metrics import Part, Predictions, accuracy

# Three images: right with 0.7, wrong (0.2 for the true class), right with 0.5
P = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.2, 0.2], [0.25, 0.25, 0.5]])
THREE = Part(P, torch.tensor([0, 1, 2]))
SCALARS = [name for name in FEATURES if name != "prob"]
LN = math.log


def draw(n: int, classes: int, margin: float, spread: float, seed: int) -> Part:
    """Softmax of noise, the true class ahead by a margin that differs between images; float32, so 1.0 is common."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=g)
    z = torch.randn(n, classes, generator=g)
    z[torch.arange(n), y] += margin + spread * torch.randn(n, generator=g)
    return Part(z.softmax(1), y)


def predictions(members, others, forget, classes=10, sizes=(900, 600, 600), seed=0) -> Predictions:
    """Predictions of (margin, spread) on forget, retain and test, of the sizes forget, retain, test."""
    parts = [draw(n, classes, *m, seed + k) for k, (n, m) in enumerate(zip(sizes, (forget, members, others)))]
    return Predictions(parts[0], parts[1], THREE, parts[2])


def part(right: int, wrong: int) -> Part:
    """That many images classified right and wrong."""
    p = torch.tensor([[0.9, 0.1]]).repeat(right + wrong, 1)
    return Part(p, torch.tensor([0] * right + [1] * wrong))


def log(p: float) -> float:
    return LN(max(p, 1e-30))


def by_loop(feature: str, p: list[float], y: int) -> float:
    others = [q for c, q in enumerate(p) if c != y]
    return {
        "correctness": lambda: float(p[y] == max(p)),
        "confidence": lambda: p[y],
        "entropy": lambda: -sum(q * LN(q) for q in p if q > 0),
        "modified_entropy": lambda: -(1 - p[y]) * log(p[y]) - sum(q * log(1 - q) for q in others),
    }[feature]()


def test_features_by_hand():
    assert list(FEATURES) == ["correctness", "confidence", "entropy", "modified_entropy", "prob"]
    assert FEATURES["correctness"](THREE).tolist() == [1, 0, 1]
    assert FEATURES["confidence"](THREE).tolist() == pytest.approx([0.7, 0.2, 0.5])
    # -(.7 ln .7 + .2 ln .2 + .1 ln .1), -(.6 ln .6 + 2 * .2 ln .2), 2 * .25 ln 4 + .5 ln 2
    assert FEATURES["entropy"](THREE).tolist() == pytest.approx([0.80182, 0.95027, 1.5 * LN(2)], abs=1e-5)
    # -(.3 ln .7 + .2 ln .8 + .1 ln .9), -(.8 ln .2 + .6 ln .4 + .2 ln .8), -(.5 ln .5 + 2 * .25 ln .75)
    assert FEATURES["modified_entropy"](THREE).tolist() == pytest.approx([0.16217, 1.88196, 0.49041], abs=1e-5)
    assert torch.equal(FEATURES["prob"](THREE), P)


def test_features_are_those_of_a_loop():
    some = draw(50, 4, 2, 3, seed=0)
    for feature in SCALARS:
        expected = [by_loop(feature, p, y) for p, y in zip(some.p.tolist(), some.y.tolist())]
        assert FEATURES[feature](some).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-12), feature


def test_entropies_of_certain_predictions():
    p = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
    right_and_wrong = Part(p, torch.tensor([0, 1]))
    assert FEATURES["entropy"](right_and_wrong).tolist() == [0, 0]
    # wrong: the factors of log p_y and of log(1 - p_0) are both 1, and both logarithms stop at that of 1e-30
    assert FEATURES["modified_entropy"](right_and_wrong).tolist() == pytest.approx([0, 60 * LN(10)])


@pytest.mark.parametrize("feature", ["confidence", "prob"])  # a number, a vector
def test_svc_written_out(feature):
    pred = predictions((6, 3), (3, 2), (4, 2))  # as many retain as test images: every one is used
    x = {
        name: np.array(
            [p.tolist() if feature == "prob" else [by_loop(feature, p.tolist(), int(y))] for p, y in zip(*part_)]
        )
        for name, part_ in pred._asdict().items()
    }
    columns = x["forget"].shape[1]
    svm = SVC(C=3, gamma=1 / columns, kernel="rbf")
    svm.fit(np.concatenate([x["retain"], x["test"]]), [1] * 600 + [0] * 600)
    expected = 100 * np.mean(svm.predict(x["forget"]) == 0)
    assert 0 < expected < 100
    assert svc_mia(pred, feature) == pytest.approx(expected)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.booleans())
@example(30, 38, 37, True)
@example(30, 25, 26, True)
def test_correctness_is_100_minus_fa_or_fa(fa, ra, ta, fast):
    if ra == ta:  # members and others look alike
        ra = ta + 1 if ta < 40 else 39
    pred = Predictions(part(fa, 40 - fa), part(ra, 40 - ra), THREE, part(ta, 40 - ta))
    expected = 100 - accuracy(pred.forget) if ra > ta else accuracy(pred.forget)
    assert svc_mia(pred, "correctness", fast=fast) == pytest.approx(expected)


# name: classes, then (margin, spread) of members, of others and of the forget set
CASES = {
    "memorised, 100 classes": (100, (12, 2), (4, 4), (3, 4)),
    "most at 1.0": (10, (40, 8), (25, 15), (20, 12)),
    "overlapping": (10, (3, 2), (2.5, 2), (2.9, 2)),
}


@pytest.mark.parametrize("case", CASES)
def test_fast_is_within_a_tenth_of_a_point_of_exact(case):
    classes, members, others, forget = CASES[case]
    pred = predictions(members, others, forget, classes, sizes=(2000, 1000, 1000))
    for feature in SCALARS:
        assert svc_mia(pred, feature, fast=True) == pytest.approx(svc_mia(pred, feature), abs=0.1), feature


def test_fast_is_within_a_tenth_of_a_point_of_exact_on_8_000_points():
    pred = predictions((10, 4), (5, 4), (6, 4), 100, sizes=(4500, 4000, 4000))
    assert svc_mia(pred, fast=True) == pytest.approx(svc_mia(pred), abs=0.1)


@pytest.mark.fault(
    "an attack on features that are far apart or all alike", "within a tenth of a point of the exact one, or 0 or 100"
)
def test_fast_copes_with_values_far_apart_and_all_alike():
    pred = predictions((60, 30), (0, 40), (20, 40))  # modified entropies up to 138
    assert FEATURES["modified_entropy"](pred.test).max() > 60
    exact = svc_mia(pred, "modified_entropy")
    assert svc_mia(pred, "modified_entropy", fast=True) == pytest.approx(exact, abs=0.1)
    assert svc_mia(Predictions(part(5, 0), part(5, 0), THREE, part(5, 0)), fast=True) in (0, 100)


def test_members_are_a_seeded_draw_from_all_of_the_retain_set():
    # the first 300 retain images, which the published code takes, are learnt by heart; the others look like test images
    learnt, alike, test = draw(300, 10, 30, 1, 0), draw(900, 10, 3, 2, 1), draw(300, 10, 3, 2, 2)
    retain = Part(*(torch.cat(both) for both in zip(learnt, alike)))
    members, others = audit._shadow(Predictions(THREE, retain, THREE, test), seed=0)
    assert torch.equal(others.p, test.p) and len(members.y) == 300
    assert (members.p_true > 0.999999).double().mean() == pytest.approx(0.25, abs=0.1)
    again, _ = audit._shadow(Predictions(THREE, retain, THREE, test), seed=0)
    other, _ = audit._shadow(Predictions(THREE, retain, THREE, test), seed=1)
    assert torch.equal(again.p, members.p) and not torch.equal(other.p, members.p)
    assert len(torch.unique(members.p, dim=0)) == len(torch.unique(members.p.double(), dim=0)) > 200  # without repeats


def test_storage_order_does_not_matter_in_law_and_the_seed_does():
    pred = predictions((6, 4), (3, 3), (4, 3), sizes=(500, 900, 300))
    by_class = pred.retain.y.argsort()
    sorted_ = pred._replace(retain=Part(pred.retain.p[by_class], pred.retain.y[by_class]))
    one, two = (np.array([svc_mia(p, "entropy", s, fast=True) for s in range(12)]) for p in (pred, sorted_))
    assert one.std() > 0 and one.mean() == pytest.approx(two.mean(), abs=3 * one.std() / math.sqrt(6))
    assert svc_mia(pred, "entropy", seed=3, fast=True) == one[3]


@pytest.mark.fault("fewer images retained than tested", "the attacker sees as many of both")
def test_fewer_retain_than_test_images():
    pred = predictions((6, 3), (3, 2), (4, 2), sizes=(400, 100, 500))
    members, others = audit._shadow(pred, seed=0)
    assert torch.equal(members.p, pred.retain.p)  # all, in storage order
    assert len(others.y) == 100 and torch.isin(others.p_true, pred.test.p_true).all()
    even = 100 - accuracy(pred.forget)  # were all 500 test images used, the attacker would call everything unseen
    assert svc_mia(pred, "correctness") == svc_mia(pred, "correctness", fast=True) == pytest.approx(even)
    assert 0 < svc_mia(pred, "confidence") < 100


def test_audit_has_all_five():
    pred = predictions((6, 3), (3, 2), (4, 2), sizes=(200, 200, 150))
    scores = audit.audit(pred, seed=1)
    assert list(scores) == list(FEATURES)
    assert scores == {name: svc_mia(pred, name, seed=1, fast=name != "prob") for name in FEATURES}
    assert scores["prob"] == svc_mia(pred, "prob", seed=1)
    del scores["prob"]
    assert audit.audit(pred, seed=1, prob=False) == scores


@pytest.mark.fault(
    "an audit of an unknown kind, or without members or others",
    "refused in one line",
)
def test_what_cannot_be_audited():
    pred = Predictions(THREE, THREE, THREE, THREE)
    with pytest.raises(ValueError, match=r"unknown feature 'loss'; choose one of: correctness, confidence, entropy, "):
        svc_mia(pred, "loss")
    none = Part(P[:0], THREE.y[:0])
    with pytest.raises(ValueError, match=r"cannot train an attacker on 0 retain and 3 test images: forget less"):
        svc_mia(pred._replace(retain=none))
    assert math.isnan(svc_mia(pred._replace(forget=none))) and math.isnan(
        svc_mia(pred._replace(forget=none), fast=True)
    )
