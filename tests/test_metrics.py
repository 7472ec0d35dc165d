"""Scores on arrays of a few rows, worked out by hand, and against other libraries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import rel_entr
from sklearn.svm import SVC

from falw import metrics
from falw.metrics import BINS, Part, Predictions, Scores, accuracy, distributions, gap, score, select, tow

# Three images: right with 0.7, wrong (0.2 for the true class), right with 0.5
P = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.2, 0.2], [0.25, 0.25, 0.5]])
THREE = Part(P, torch.tensor([0, 1, 2]))
NOTHING = select(THREE, torch.zeros(3, dtype=torch.bool))


def part(right: int, wrong: int) -> Part:
    """That many images classified right and wrong."""
    p = torch.tensor([[0.9, 0.1]]).repeat(right + wrong, 1)
    return Part(p, torch.tensor([0] * right + [1] * wrong))


def test_part_and_accuracy():
    assert THREE.p_true.tolist() == pytest.approx([0.7, 0.2, 0.5])
    assert THREE.correct.tolist() == [True, False, True]
    assert accuracy(THREE) == pytest.approx(200 / 3)
    assert select(THREE, torch.tensor([False, True, True])).p_true.tolist() == pytest.approx([0.2, 0.5])
    assert math.isnan(accuracy(NOTHING))


@pytest.mark.fault("rows that hold no numbers are scored", "refused in one line that counts them")
def test_rows_that_hold_no_numbers_are_counted():
    with pytest.raises(ValueError, match="^2 of 3 rows hold NaN or infinity: the model diverged"):
        accuracy(Part(torch.tensor([[0.5, math.nan], [0.5, 0.5], [math.inf, 0]]), torch.tensor([0, 0, 0])))


def test_scores_by_hand():
    # 3 of 4, 9 of 10, 3 of 5; the validation images do not count
    pred = Predictions(forget=part(3, 1), retain=part(9, 1), val=part(0, 2), test=part(3, 2))
    assert score(pred) == pytest.approx(Scores(fa=75, ra=90, ta=60, mia=25))
    assert score(pred._replace(retain=part(1, 1))) == pytest.approx(Scores(fa=75, ra=50, ta=60, mia=75))
    assert score(pred._replace(retain=part(3, 2))) == pytest.approx(Scores(fa=75, ra=60, ta=60, mia=75))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
@example(30, 38, 25)
@example(30, 25, 38)
def test_mia_is_the_support_vector_machine_on_correctness(fa, ra, ta):
    if ra == ta:  # members and others look alike
        ra = ta + 1 if ta < 40 else 39
    pred = Predictions(part(fa, 40 - fa), part(ra, 40 - ra), THREE, part(ta, 40 - ta))
    feature = {name: p.correct.double().numpy()[:, None] for name, p in pred._asdict().items()}
    svm = SVC(C=3, gamma="auto", kernel="rbf")  # decides +1 or -1 for any two counts: nothing is near
    svm.fit(np.concatenate([feature["retain"], feature["test"]]), np.repeat([1, 0], 40))
    assert score(pred).mia == pytest.approx(100 * (1 - svm.predict(feature["forget"]).mean()))


def test_gap_is_the_mean_of_four_distances():
    assert gap(Scores(60, 99, 70, 40), Scores(64, 100, 65, 36)) == (4 + 1 + 5 + 4) / 4
    # a printed row: Table 4, 20 %, SalUn
    salun, retrain = Scores(59.71, 96.92, 60.11, 40.29), Scores(62.09, 99.95, 62.10, 37.91)
    assert gap(salun, retrain) == pytest.approx(2.44, abs=0.01)


def test_groups_count_images():
    groups = {"head": torch.tensor([0, 2]), "mid": torch.tensor([1]), "tail": torch.tensor([7])}
    assert metrics.by_group(THREE, groups) == pytest.approx({"head": 100, "mid": 0, "tail": math.nan}, nan_ok=True)
    uneven = Part(P[[0, 1, 1, 1]], torch.tensor([0, 1, 1, 1]))  # not the mean over classes, 50
    assert metrics.by_group(uneven, {"all": torch.arange(3)}) == {"all": 25}


@pytest.mark.fault("two models are compared on other samples", "refused in one line")
def test_deviation_is_signed_and_paired():
    other = Part(torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.25, 0.65], [0.1, 0.1, 0.8]]), THREE.y)
    assert metrics.deviation(other, THREE).tolist() == pytest.approx([-0.6, 0.05, 0.3])
    with pytest.raises(ValueError, match="^the two models were evaluated on other samples: compare"):
        metrics.deviation(THREE, Part(P, torch.tensor([0, 1, 1])))


def test_deviation_shares():
    d = torch.tensor([-0.5, -0.25, -0.05, 0, 0.09, 0.11, 0.25, 0.5])
    assert metrics.deviation_shares(d) == {"under": 37.5, "faithful": 37.5, "over": 25}
    assert metrics.deviation_shares(d, tol=0.25) == {
        "under": 12.5,
        "faithful": 75,
        "over": 12.5,
    }  # the bound is faithful


def test_tug_of_war():
    assert tow(Scores(60, 99, 70, 0), Scores(50, 100, 75, 99)) == pytest.approx(0.9 * 0.99 * 0.95)
    assert tow(Scores(1, 2, 3, 4), Scores(1, 2, 3, 9)) == 1


def test_the_divergence_is_scipys():
    g = torch.Generator().manual_seed(0)
    p, q = (torch.rand(20, 5, generator=g).double().softmax(1) for _ in range(2))
    p[0] = torch.tensor([1.0, 0, 0, 0, 0])
    kl = rel_entr(p.numpy(), q.numpy()).sum(1)
    assert metrics.kl_divergence(p, q).tolist() == pytest.approx(kl, rel=1e-9)


def test_the_divergence_of_certain_predictions():
    yes, no = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert metrics.kl_divergence(yes, no).item() == pytest.approx(12 * math.log(10))  # the floor, 1e-12
    assert metrics.kl_divergence(yes, no, floor=0.01).item() == pytest.approx(2 * math.log(10))


def test_distributions_count_every_image_in_the_bin_of_its_probability():
    p = torch.tensor([[0.02, 0.98], [1.0, 0.0], [0.26, 0.74], [0.5, 0.5]])
    found = distributions(Part(p, torch.tensor([0, 0, 0, 1])), {"a": torch.tensor([0]), "b": torch.tensor([1, 2])})
    assert [k for k, n in enumerate(found["a"]["counts"]) if n] == [0, 5, BINS - 1]
    assert found["a"]["mean"] == 0.426667 and sum(found["b"]["counts"]) == 1  # 1.28 / 3 to six places
    assert {len(found[name]["counts"]) for name in "ab"} == {BINS}
    assert distributions(Part(p, torch.tensor([0] * 4)), {"c": torch.tensor([1])})["c"]["mean"] is None


def test_centroid_distance_by_hand():
    # Class 0 keeps directions (1, 0) and (0, 1): its centre lies at 45 degrees, however long the features are.
    # Class 1 keeps (0, 3); class 2 keeps nothing.
    retain, retain_y = torch.tensor([[1.0, 0.0], [0.0, 9.0], [0.0, 3.0]]), torch.tensor([0, 0, 1])
    forget, forget_y = torch.tensor([[2.0, 2.0], [5.0, 0.0], [4.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 0, 1, 2])
    got = metrics.centroid_distance(forget, forget_y, retain, retain_y)
    assert got[:3].tolist() == pytest.approx([0, 1 - math.sqrt(0.5), 1]) and got[3].isnan()


def test_neighbour_share_is_sklearns():
    from sklearn.neighbors import NearestNeighbors

    g = torch.Generator().manual_seed(0)
    forget, retain = torch.randn(12, 5, generator=g), torch.randn(40, 5, generator=g)
    forget_y, retain_y = torch.randint(3, (12,), generator=g), torch.randint(3, (40,), generator=g)
    near = NearestNeighbors(n_neighbors=7, metric="cosine").fit(retain).kneighbors(forget, return_distance=False)
    expected = (retain_y.numpy()[near] == forget_y.numpy()[:, None]).mean(1)
    np.testing.assert_allclose(metrics.neighbour_share(forget, forget_y, retain, retain_y, k=7), expected)
    with pytest.raises(ValueError, match="40 retained images have no 41 neighbours"):
        metrics.neighbour_share(forget, forget_y, retain, retain_y, k=41)


def test_distributions_take_the_true_class_and_round_down():
    p = torch.tensor([[0.34, 0.66], [0.18, 0.82]])
    found = distributions(Part(p, torch.tensor([0, 1])), {"all": torch.arange(2)})["all"]
    assert [k for k, n in enumerate(found["counts"]) if n] == [6, 16] and found["mean"] == pytest.approx(0.58)


def test_centroid_distance_reaches_two_and_other_classes_may_be_retained():
    retain, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 3])
    assert metrics.centroid_distance(torch.tensor([[-2.0, 0.0]]), torch.tensor([0]), retain, y).tolist() == [2]


def test_neighbour_share_takes_as_many_as_there_are_and_ten_by_default():
    x, y, one = torch.eye(10), torch.tensor([0] * 6 + [1] * 4), torch.ones(1, 10)
    assert metrics.neighbour_share(one, torch.tensor([0]), x, y).tolist() == [0.6]
    with pytest.raises(ValueError, match="9 retained images have no 10"):
        metrics.neighbour_share(one, torch.tensor([0]), x[:9], y[:9])


# An ensemble of Retrains

TRUE = torch.tensor([0, 1, 0])


def two_classes(*p_true: float) -> Part:
    """Three images of which a model gives the true class these probabilities."""
    p = torch.tensor(p_true)
    rows = torch.stack([p, 1 - p], 1)
    rows[1] = rows[1].flip(0)  # the second image is of class 1
    return Part(rows, TRUE)


THREE_RETRAINS = [two_classes(0.2, 0.4, 0.9), two_classes(0.4, 0.4, 0.7), two_classes(0.6, 0.4, 0.8)]


def test_distances_by_hand():
    # Means of the Retrains 0.4, 0.4, 0.8; standard deviations 0.2, 0 (so the floor of 0.01) and 0.1
    found = metrics.distances(two_classes(0.9, 0.3, 0.5), metrics.reference(THREE_RETRAINS))
    assert found["deviation"] == pytest.approx((0.5 - 0.1 - 0.3) / 3, abs=1e-6)
    assert found["abs_deviation"] == pytest.approx((0.5 + 0.1 + 0.3) / 3, abs=1e-6)
    assert found["outside"] == pytest.approx(100)  # 0.5 > 0.4, 0.1 > 0.02, 0.3 > 0.2
    # Equally many of both once mine are taken three times: the mean distance of the sorted values
    mine, theirs = sorted([0.9, 0.3, 0.5] * 3), sorted([0.2, 0.4, 0.9, 0.4, 0.4, 0.7, 0.6, 0.4, 0.8])
    assert found["w1"] == pytest.approx(sum(abs(a - b) for a, b in zip(mine, theirs)) / 9, abs=1e-6)
    kl = [rel_entr([m, 1 - m], [p, 1 - p]).sum() for m, p in zip((0.4, 0.4, 0.8), (0.9, 0.3, 0.5))]
    assert found["kl"] == pytest.approx(np.mean(kl), abs=1e-6)


def test_the_mean_of_the_retrains_is_at_no_distance_but_in_spread():
    found = metrics.distances(two_classes(0.4, 0.4, 0.8), metrics.reference(THREE_RETRAINS))
    assert found["abs_deviation"] == pytest.approx(0, abs=1e-6) and found["kl"] == pytest.approx(0, abs=1e-6)
    assert found["outside"] == 0 and found["w1"] > 0.05


def test_the_floor_leaves_each_retrain_out_once():
    rest = [(0, (1, 2)), (1, (0, 2)), (2, (0, 1))]
    each = [
        metrics.distances(THREE_RETRAINS[k], metrics.reference([THREE_RETRAINS[o] for o in others]))
        for k, others in rest
    ]
    floor = metrics.leave_one_out(THREE_RETRAINS)
    assert floor["w1"] == pytest.approx(sum(d["w1"] for d in each) / 3)
    assert floor["deviation"] == pytest.approx(0, abs=1e-6)


def test_an_ensemble_of_too_few_or_of_other_samples_is_refused():
    with pytest.raises(ValueError, match="1 Retrain has no spread: train at least two"):
        metrics.reference(THREE_RETRAINS[:1])
    with pytest.raises(ValueError, match="2 Retrains leave no ensemble"):
        metrics.leave_one_out(THREE_RETRAINS[:2])
    other = Part(THREE_RETRAINS[0].p, TRUE.flip(0) * 0)
    with pytest.raises(ValueError, match="evaluated on other samples"):
        metrics.reference([*THREE_RETRAINS, other])
    with pytest.raises(ValueError, match="evaluated on other samples"):
        metrics.distances(other, metrics.reference(THREE_RETRAINS))
