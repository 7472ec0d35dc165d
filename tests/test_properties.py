"""What holds for every input: one class, one image, an empty part, p of exactly 0 or 1, NaN, infinity, any precision.

Sampling, weights, metrics and audits in this order. Equations and numbers by hand are in the tests of each module.

Floats that were computed in two ways are compared with a tolerance: a vector unit may round tanh, log or a power
otherwise than what handles the rest of a tensor, so that the last bit depends on an entry's place. Equality stands
where whole numbers decide (counts, shares of images) or the same operation has the same operands.
"""

import math
from itertools import product

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from falw import metrics
from falw.audit import FEATURES, audit, svc_mia
from falw.metrics import Part, Predictions, Scores, by_group, distributions, gap, score, tow
from falw.split import CAPS, Split, groups, long_tailed_split, power_law_counts, split_of
from falw.weights import FaLW, balance_factor, beta_fit, beta_weight, class_stats, forgetting_weight, z_score

seldom = settings(max_examples=settings.default.max_examples // 4)  # what fits a support vector machine
NAN, INF = math.nan, math.inf
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRECISIONS = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])


def longs(values):
    return torch.tensor(values, dtype=torch.long)


def doubles(values):
    return torch.tensor(values, dtype=torch.float64)


def one_line(function, *args, **how):
    """The text of the ValueError that a call must raise, which has to be of one line."""
    with pytest.raises(ValueError) as caught:
        function(*args, **how)
    text = str(caught.value)
    assert text and "\n" not in text
    return text


def split_or_none(function, *args):
    """What a function gives, or None where it raises a ValueError of one line."""
    try:
        return function(*args)
    except ValueError as error:
        if "\n" in str(error):
            raise
        return None


# Sampling

class_sizes = st.lists(st.integers(0, 5), min_size=1, max_size=8)  # one class, one image, classes without an image
any_gamma = st.one_of(st.floats(0, 10), st.floats(0, allow_infinity=False))
rules = st.sampled_from(CAPS)


def caps_and_total(sizes):
    return sizes.flatmap(lambda caps: st.tuples(st.just(caps), st.integers(0, sum(caps))))


@given(caps_and_total(class_sizes), any_gamma, rules)
def test_counts_sum_to_the_total_within_the_caps_however_steep_the_law(asked, gamma, cap):
    caps, total = asked
    counts = power_law_counts(total, longs(caps), gamma, cap).tolist()
    assert sum(counts) == total
    assert all(0 <= k <= most for k, most in zip(counts, caps, strict=True))


@given(caps_and_total(st.lists(st.integers(0, 9), min_size=1, max_size=10)), st.floats(1100, 1e308), rules)
def test_the_steepest_law_fills_one_class_after_the_other(asked, gamma, cap):
    caps, total = asked
    filled = []
    for most in caps:
        filled.append(min(most, total - sum(filled)))
    assert power_law_counts(total, longs(caps), gamma, cap).tolist() == filled


@given(caps_and_total(class_sizes), st.floats(0, 4), rules, st.integers(2, 50))
def test_counts_grow_with_the_number_of_images_and_keep_their_shares(asked, gamma, cap, times):
    caps, total = asked
    few = power_law_counts(total, longs(caps), gamma, cap)
    many = power_law_counts(times * total, times * longs(caps), gamma, cap)
    assert ((many - times * few).abs() <= times + 1).all()  # each is at most one image from its share


@given(class_sizes, st.floats(0, 1), st.floats(0, 1), any_gamma, st.integers(0, 3), rules, st.booleans())
def test_a_split_is_whole_or_refused_in_one_line(sizes, ratio, val, gamma, seed, cap, permute):
    y = torch.arange(len(sizes)).repeat_interleave(longs(sizes))
    split = split_or_none(long_tailed_split, y, ratio, gamma, val, seed, cap, permute)
    if split is None:
        return
    parts = (split.forget, split.retain, split.val)
    assert torch.cat(parts).sort().values.tolist() == list(range(len(y)))
    assert len(split.forget) > 0 < len(split.retain)
    assert split.forget_counts.tolist() == y[split.forget].bincount(minlength=len(split.rank)).tolist()
    assert sorted(split.rank.tolist()) == list(range(len(split.rank)))


@given(class_sizes, st.randoms(use_true_random=False), st.sampled_from([torch.uint8, torch.int32, torch.int64]))
def test_how_many_of_each_class_does_not_depend_on_the_order_of_the_images_nor_on_the_type_of_labels(sizes, draw, kind):
    assume(sum(sizes) > 3)
    y = torch.arange(len(sizes)).repeat_interleave(longs(sizes))
    order = list(range(len(y)))
    draw.shuffle(order)
    one, two = long_tailed_split(y, 0.5, 1.0), long_tailed_split(y[order].to(kind), 0.5, 1.0)
    assert torch.equal(one.forget_counts, two.forget_counts)
    for part in ("val", "retain"):
        a, b = (labels[getattr(split, part)].tolist() for labels, split in ((y, one), (y[order], two)))
        assert sorted(a) == sorted(b)
    assert torch.equal(long_tailed_split(y.to(kind), 0.5, 1.0).forget, one.forget)


@given(class_sizes, st.lists(st.integers(-2, 30), max_size=12), st.floats(-0.2, 1.2), st.integers(0, 3))
def test_a_split_of_given_images_is_whole_or_refused_in_one_line(sizes, asked, val, seed):
    y = torch.arange(len(sizes)).repeat_interleave(longs(sizes))
    split = split_or_none(split_of, y, longs(asked), val, seed)
    if split is None:
        return
    assert split.forget.tolist() == sorted(asked)
    assert torch.cat([split.forget, split.retain, split.val]).sort().values.tolist() == list(range(len(y)))
    again = split_of(y, longs(asked[::-1]), val, seed)
    assert torch.equal(again.val, split.val) and torch.equal(again.forget, split.forget)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_groups_hold_every_class_once_and_the_head_is_forgotten_most(counts, draw):
    rank = list(range(len(counts)))
    draw.shuffle(rank)
    nothing = longs([])
    found = groups(Split(nothing, nothing, nothing, forget_counts=longs(counts), rank=longs(rank)))
    assert list(found) == ["head", "mid", "tail"]
    assert sorted(torch.cat(list(found.values())).tolist()) == list(range(len(counts)))
    assert len(found["head"]) == len(found["tail"]) == round(len(counts) / 3)
    in_order = longs(counts)[torch.cat(list(found.values()))]
    assert (in_order.diff() <= 0).all()


WRONG_LABELS = {
    "none": (longs([]), "labels are torch.int64 of shape (0,): give one whole number an image"),
    "fractions": (torch.tensor([0.0, 0.5]), "labels are torch.float32 of shape (2,): give one"),
    "one row a class": (torch.eye(3).long(), "labels are torch.int64 of shape (3, 3): give one"),
    "below 0": (longs([0, -1, 0, 0]), "label -1 is below 0: classes are numbered from 0 up"),
}


@pytest.mark.fault("labels that are no class numbers, or none at all", "refused in one line that says what labels are")
def test_labels_that_are_no_class_numbers_are_refused():
    for name, (y, words) in WRONG_LABELS.items():
        assert words in one_line(long_tailed_split, y, 0.5, 1.0), name
        assert words in one_line(split_of, y, longs([0])), name


@pytest.mark.fault("fewer than 0 images in a class", "refused in one line that names the number")
def test_caps_below_0_are_refused():
    assert one_line(power_law_counts, 3, longs([5, -1]), 1.0) == "caps hold -1: a class has 0 images or more"


# Weights

# The squares of numbers below 1e-100 have lost their digits, or are 0.
probabilities = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1).map(lambda p: p if p > 1e-100 else 0.0))
not_nan = st.floats(allow_nan=False)
positive = st.floats(0, exclude_min=True, allow_infinity=False)


@given(st.lists(not_nan, min_size=1, max_size=12), positive, st.floats(0.01, 100), PRECISIONS)
def test_weight_is_in_0_to_2_and_never_falls_for_any_z_and_precision(z, balance, eta, precision):
    z = doubles([*z, INF, -INF, 0.0]).to(DEVICE, precision).sort().values
    for b in (balance, torch.full_like(z.double(), balance).to(precision), torch.full_like(z.double(), balance)):
        w, eps = forgetting_weight(z, b, eta), torch.finfo(precision).eps
        assert ((w >= 0) & (w <= 2)).all()
        exponent = (1 / (eta * torch.as_tensor(b).double())).max().item()
        assert (w.diff() >= -4 * (1 + exponent) * eps).all()  # the power multiplies what tanh was rounded by
        assert (w[z == 0] == 1).all() and w[0] <= eps and w[-1] >= 2 - eps
        assert torch.allclose(forgetting_weight(-z, b, eta) + w, torch.full_like(w, 2), atol=1e-2)


@given(st.lists(st.one_of(not_nan, st.just(NAN)), min_size=1, max_size=12), PRECISIONS)
def test_weight_is_not_a_number_exactly_where_z_is_not(z, precision):
    z = doubles(z).to(precision)
    assert torch.equal(forgetting_weight(z, 1.3).isnan(), z.isnan())


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=12), st.floats(-1e3, 1e3), st.integers(2, 9))
def test_balance_factor_depends_on_shares_only_and_never_makes_a_weight_leave_its_range(counts, tau, times):
    counts = longs(counts)
    factor = balance_factor(counts, tau)
    assert torch.allclose(balance_factor(counts * times, tau), factor, rtol=1e-9)
    assert torch.allclose(balance_factor(counts.flip(0), tau), factor.flip(0), rtol=1e-9)
    assert (factor[counts == 0] == 1).all() and (factor >= 0).all()
    if tau >= 0:  # rarer is never below
        rising = factor[counts > 0][counts[counts > 0].argsort()]
        assert (rising[1:] <= rising[:-1] * (1 + 1e-9)).all()
    w = forgetting_weight(torch.tensor([[-INF], [-0.5], [0.0], [0.5], [INF]]), factor)
    assert ((w >= 0) & (w <= 2)).all()


unseen = st.lists(st.tuples(probabilities, st.integers(0, 3)), min_size=1, max_size=12)


@given(unseen, PRECISIONS, st.randoms(use_true_random=False))
def test_class_stats_do_not_depend_on_order_nor_precision_of_what_is_given(drawn, precision, draw):
    p, y = doubles([q for q, _ in drawn]).to(precision), longs([c for _, c in drawn])
    got = class_stats(p, y, 5)
    order = list(range(len(y)))
    draw.shuffle(order)
    for other in (class_stats(p[order], y[order], 5), class_stats(p.double(), y, 5), class_stats(p, y + 1, 6)):
        shift = len(other.mean) - 5
        for a, b in zip(other, got, strict=True):
            assert a.dtype == torch.float64 and torch.allclose(a[shift : 5 + shift], b, rtol=1e-9, atol=1e-12)
    assert got.count.sum() == len(y) and (got.std >= 1e-3).all()
    for c in y.unique():
        own = p[y == c].double()
        assert own.min() - 1e-12 <= got.mean[c] <= own.max() + 1e-12
        assert len(own) > 1 or got.std[c] == 1e-3


@given(unseen, st.lists(not_nan, min_size=1, max_size=8), st.integers(0, 3), st.sampled_from([0.0, 1e-3, 1.0]))
def test_z_is_a_number_for_any_p_and_halves_with_everything_else(drawn, p, c, floor):
    unseen_p, y = doubles([q for q, _ in drawn]), longs([k for _, k in drawn])
    own = torch.full((len(p) + 1,), c)
    stats = class_stats(unseen_p, y, 4, floor)
    at = doubles([*p, stats.mean[c]])
    z = z_score(at, own, stats)
    assert not z.isnan().any() and z[-1] == 0
    if not (y == c).any():
        assert (z == 0).all()
    small = doubles([q for q in p if 1e-290 < abs(q) < 1e290] + [0.25])
    half = z_score(small / 2, own[:1].expand(len(small)), class_stats(unseen_p / 2, y, 4, floor / 2))
    assert torch.allclose(half, z_score(small, own[:1].expand(len(small)), stats), rtol=1e-9, atol=1e-12)


@given(unseen, st.randoms(use_true_random=False))
def test_a_beta_fit_is_positive_or_none_and_does_not_depend_on_order(drawn, draw):
    p, y = doubles([q for q, _ in drawn]), longs([c for _, c in drawn])
    fit = beta_fit(p, y, 4)
    assert (fit.alpha[fit.ok] > 0).all() and (fit.beta[fit.ok] > 0).all()
    assert torch.isfinite(fit.alpha[fit.ok]).all() and torch.isfinite(fit.beta[fit.ok]).all()
    few = y.bincount(minlength=4) < 2
    assert not fit.ok[few].any()
    order = list(range(len(y)))
    draw.shuffle(order)
    clear = (class_stats(p, y, 4, floor=0.0).std - 1e-4).abs() > 1e-9  # at the edge of `ok` the order may decide
    assert torch.equal(beta_fit(p[order], y[order], 4).ok[clear], fit.ok[clear])
    at = torch.linspace(0, 1, 11).double()
    for c in range(4):
        w = beta_weight(at, torch.full((11,), c), fit)
        assert ((w >= 0) & (w <= 2)).all() and (w.diff() >= -1e-9).all()
        assert fit.ok[c] or (w == 1).all()
        if fit.ok[c]:
            assert w[[0, -1]].tolist() == pytest.approx([0, 2], abs=1e-9)  # p of 0 and of 1


@given(st.lists(st.floats(0.05, 0.95), min_size=3, max_size=12))
def test_a_beta_fit_of_what_is_missing_to_1_is_the_mirror_image(p):
    p, y = doubles(p), torch.zeros(len(p), dtype=torch.long)
    assume(p.std() > 0.02)
    one, other = beta_fit(p, y, 1), beta_fit(1 - p, y, 1)
    assert torch.allclose(one.alpha, other.beta, rtol=1e-6) and torch.allclose(one.beta, other.alpha, rtol=1e-6)


class Says(nn.Module):
    """A network that gives image i, the number in its first pixel, the probability p[i] for its own class of two."""

    def __init__(self, p, y):
        super().__init__()
        self.p, self.y = p, y

    def forward(self, x):
        i = x[:, 0, 0, 0].long()
        own = torch.stack([self.p[i], 1 - self.p[i]], 1).float().log()  # -inf where p is 0
        return torch.where((self.y[i] == 0)[:, None], own, own.flip(1))


def numbered(n):
    return torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1)


MODES = st.sampled_from([1, 3, "epoch", "rolling"])
DISTS = st.sampled_from(["normal", "beta"])


@given(
    st.lists(st.tuples(probabilities, st.integers(0, 1)), min_size=1, max_size=10),
    st.lists(st.integers(0, 50), min_size=2, max_size=3),
    *(MODES, DISTS, PRECISIONS, st.lists(not_nan, min_size=1, max_size=6), st.floats(-5, 5)),
)
def test_falw_gives_a_weight_in_0_to_2_in_every_mode_for_any_p(drawn, counts, refresh, dist, precision, p, tau):
    unseen_p, y = torch.tensor([q for q, _ in drawn]), longs([c for _, c in drawn])
    weight = FaLW((numbered(len(y)), y), longs(counts), tau=tau, refresh=refresh, dist=dist, rolling=3)
    model = Says(unseen_p, y)
    asked = doubles([*p, 0.0, 1.0, INF, -INF]).to(precision)
    for step in range(9):
        model.p = unseen_p.roll(step)
        weight.update(model, step // 4)
        for c in range(len(counts)):
            w = weight(asked, torch.full(asked.shape, c))
            assert w.dtype == precision and ((w >= 0) & (w <= 2)).all(), (c, w)
            if not (y == c).any():
                assert (w == 1).all()  # nothing is known of the class


@pytest.mark.fault("a network that says NaN of an unseen image", "the weights are NaN and the run ends as diverged")
@pytest.mark.parametrize("dist", ["normal", "beta"])
def test_nan_of_an_unseen_image_reaches_the_weight(dist):
    y = longs([0, 0, 0, 1, 1])
    weight = FaLW((numbered(5), y), longs([3, 3]), dist=dist)
    weight.update(Says(torch.tensor([0.2, 0.5, NAN, 0.4, 0.9]), y), 0)
    assert weight(torch.tensor([0.3]), longs([0])).isnan().all()


@pytest.mark.fault("a network that says NaN of a forgotten image", "its weight and so the loss are NaN, the others not")
@pytest.mark.parametrize("dist", ["normal", "beta"])
def test_nan_of_a_forgotten_image_reaches_its_weight(dist):
    y = longs([0, 0, 1, 1])
    weight = FaLW((numbered(4), y), longs([3, 3]), dist=dist)
    weight.update(Says(torch.tensor([0.2, 0.5, 0.4, 0.9]), y), 0)
    assert weight(torch.tensor([NAN, 0.3]), longs([0, 0])).isnan().tolist() == [True, False]


TWO = (numbered(2), longs([0, 1]))
WRONG_WEIGHTS = {
    "tau nan": ({"tau": NAN}, "tau nan is not a finite number: 0 is no balance"),
    "tau inf": ({"tau": INF}, "tau inf is not a finite number"),
    "eta 0": ({"eta": 0.0}, "eta 0.0 is not a number above 0"),  # below 0 and NaN: see forgetting_weight
    "floor -1": ({"floor": -1.0}, "floor -1.0 is not a number from 0 up"),
    "floor nan": ({"floor": NAN}, "floor nan is not a number from 0 up"),
    "rolling 0": ({"rolling": 0}, "rolling 0 is too small"),
    "label 2 of 2": ({"val": (TWO[0], longs([0, 2]))}, "2 unseen images, 2 labels in 0..2 and counts of 2 classes do"),
    "label -1": ({"val": (TWO[0], longs([0, -1]))}, "2 unseen images, 2 labels in -1..0 and counts of 2 classes"),
    "a label short": ({"val": (TWO[0], longs([1]))}, "2 unseen images, 1 labels in 1..1 and counts of 2 classes do"),
}


@pytest.mark.fault(
    "a tau, eta, floor or label that would give weights outside 0 to 2", "refused in one line before the first step"
)
def test_falw_refuses_what_would_give_no_weight():
    for name, (options, words) in WRONG_WEIGHTS.items():
        assert words in one_line(FaLW, **{"val": TWO, "counts": longs([4, 4]), **options}), name


@pytest.mark.fault("an exponent that is 0, below 0 or NaN", "refused in one line that names it")
def test_weight_refuses_an_eta_that_is_not_above_0():
    for eta in (0.0, -1.0, NAN, INF):
        assert one_line(forgetting_weight, doubles([0.5]), 1.0, eta).startswith(f"eta {eta} is not a number above 0")


# Metrics


def rows(n, num_classes):
    """n rows of probabilities: of any kind, all equal, or exactly 0 and 1."""
    kinds = st.sampled_from(["any", "equal", "certain"])
    number = st.integers(0, 2**20)
    return st.tuples(
        kinds, st.lists(st.lists(number, min_size=num_classes, max_size=num_classes), min_size=n, max_size=n)
    )


some = st.integers(0, 6)


@st.composite
def parts(draw, n=some, num_classes=3):
    n = draw(n)
    kind, numbers = draw(rows(n, num_classes))
    y = longs(draw(st.lists(st.integers(0, num_classes - 1), min_size=n, max_size=n)))
    p = torch.tensor(numbers, dtype=torch.float32).reshape(n, num_classes) + 1
    if kind == "equal":
        p = torch.ones(n, num_classes)
    if kind == "certain":
        p = nn.functional.one_hot(p.argmax(1), num_classes).float()
    return Part(p / p.sum(1, keepdim=True), y)


@st.composite
def predictions(draw, n=some):
    num_classes = draw(st.integers(1, 4))
    return Predictions(*(draw(parts(n, num_classes)) for _ in range(4)))


def shuffled(part, draw):
    order = list(range(len(part.y)))
    draw.shuffle(order)
    return Part(part.p[order], part.y[order])


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


@given(predictions(), st.randoms(use_true_random=False))
def test_scores_are_percent_or_nan_exactly_where_a_part_is_empty(pred, draw):
    found = score(pred)
    empty = {name: len(part.y) == 0 for name, part in pred._asdict().items()}
    needs = {"fa": ("forget",), "ra": ("retain",), "ta": ("test",), "mia": ("forget", "retain", "test")}
    for name, value in found._asdict().items():
        assert math.isnan(value) == any(empty[part] for part in needs[name]), name
        assert math.isnan(value) or 0 <= value <= 100
    assert math.isnan(found.mia) or found.mia in (found.fa, 100 - found.fa)
    again = score(Predictions(*(shuffled(part, draw) for part in pred)))
    double = score(Predictions(*(Part(p.double(), y) for p, y in pred)))
    for other in (again, double, score(pred._replace(val=pred.test))):
        assert all(map(same, found, other))


@given(parts(), st.randoms(use_true_random=False))
def test_groups_of_a_part_make_up_the_whole(part, draw):
    chosen = {"a": longs([0]), "b": longs([1, 2]), "none": longs([7])}
    accuracies, found = by_group(part, chosen), distributions(part, chosen)
    sizes = {"a": int((part.y == 0).sum()), "b": int((part.y > 0).sum()), "none": 0}
    right = total = 0.0
    for name, n in sizes.items():
        assert math.isnan(accuracies[name]) == (n == 0) == (found[name]["mean"] is None)
        assert sum(found[name]["counts"]) == n and len(found[name]["counts"]) == metrics.BINS
        if n:
            assert 0 <= accuracies[name] <= 100 and 0 <= found[name]["mean"] <= 1
            right, total = right + n * accuracies[name], total + n * found[name]["mean"]
    if len(part.y):
        assert right / len(part.y) == pytest.approx(metrics.accuracy(part))
        assert total / len(part.y) == pytest.approx(part.p_true.mean().item(), abs=1e-5)
    for name, again in distributions(shuffled(part, draw), chosen).items():
        assert again["counts"] == found[name]["counts"]
        assert again["mean"] == pytest.approx(found[name]["mean"], abs=2e-6)


percent = st.floats(0, 100)
scores = st.builds(Scores, percent, percent, percent, percent)


@given(scores, scores, scores, st.integers(0, 3))
def test_gap_is_a_distance_and_tow_a_similarity(a, b, c, place):
    assert gap(a, b) == gap(b, a) >= 0 == gap(a, a)
    assert gap(a, c) <= gap(a, b) + gap(b, c) + 1e-9
    assert tow(a, b) == tow(b, a) and 0 <= tow(a, b) <= 1 == tow(a, a)
    hole = Scores(*(NAN if k == place else value for k, value in enumerate(a)))
    assert math.isnan(gap(hole, b)) and math.isnan(gap(b, hole))
    assert math.isnan(tow(hole, b)) == (place < 3)  # MIA is no part of it


@given(parts(), st.floats(0, 1), st.data())
def test_deviations_are_antisymmetric_and_their_shares_sum_to_100(part, tol, data):
    other = Part(data.draw(parts(st.just(len(part.y)))).p, part.y)
    d = metrics.deviation(part, other)
    assert torch.equal(metrics.deviation(other, part), -d) and ((d >= -1) & (d <= 1)).all()
    shares, mirrored = metrics.deviation_shares(d, tol), metrics.deviation_shares(-d, tol)
    if not len(d):
        assert all(map(math.isnan, shares.values()))
        return
    assert sum(shares.values()) == pytest.approx(100) and all(0 <= s <= 100 for s in shares.values())
    assert (shares["under"], shares["faithful"]) == (mirrored["over"], mirrored["faithful"])


tiny = st.one_of(st.just(0.0), st.floats(0, 1e-9), st.floats(0, 1))


@given(st.lists(st.tuples(tiny, tiny), min_size=1, max_size=6), PRECISIONS)
def test_the_divergence_is_never_below_0_and_blind_to_the_order_of_classes(drawn, precision):
    p, q = (doubles([[[v, 1 - v] for v in pair]]).to(precision)[0].double() for pair in zip(*drawn, strict=True))
    assert (metrics.kl_divergence(p, p).abs() <= 1e-10).all()
    slack = 0.02 if precision in (torch.float16, torch.bfloat16) else 1e-6  # rounded rows do not sum to 1
    kl = metrics.kl_divergence(p, q)
    assert torch.isfinite(kl).all() and (kl >= -slack).all()
    assert torch.allclose(metrics.kl_divergence(p.flip(1), q.flip(1)), kl, atol=1e-12)


@st.composite
def features(draw, least=0):
    n = draw(st.integers(least, 7))
    whole = st.integers(-9, 9)
    x = torch.tensor(draw(st.lists(st.lists(whole, min_size=3, max_size=3), min_size=n, max_size=n)))
    return x.reshape(n, 3).float(), longs(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))


@given(features(), features(), st.sampled_from([2.0**-20, 4.0, 2.0**60]), st.randoms(use_true_random=False))
def test_distance_to_the_centre_is_nan_exactly_where_nothing_of_the_class_is_retained(forget, retain, times, draw):
    got = metrics.centroid_distance(*forget, *retain)
    assert got.shape == forget[1].shape
    assert torch.equal(got.isnan(), ~torch.isin(forget[1], retain[1]))
    there = got[~got.isnan()]
    assert ((there >= -1e-12) & (there <= 2 + 1e-12)).all()
    order = list(range(len(retain[1])))
    draw.shuffle(order)
    longer = metrics.centroid_distance(forget[0] * times, forget[1], (retain[0] * times)[order], retain[1][order])
    # A centre of opposite directions has none, only rounding, which the order of its images changes.
    centres = [nn.functional.normalize(retain[0][retain[1] == c].double(), dim=1).sum(0).norm() for c in range(4)]
    clear = torch.tensor([centres[c] > 1e-6 for c in forget[1]], dtype=torch.bool) & ~got.isnan()
    assert torch.allclose(longer[clear], got[clear], atol=1e-9)


@given(features(), features(least=1), st.data())
def test_share_of_neighbours_is_a_fraction_of_k_and_the_share_of_the_class_among_all(forget, retain, data):
    k = data.draw(st.integers(1, len(retain[1])))
    share = metrics.neighbour_share(*forget, *retain, k=k)
    assert ((share >= 0) & (share <= 1)).all() and torch.allclose((share * k).round(), share * k)
    assert torch.equal(metrics.neighbour_share(forget[0] * 4, forget[1], *retain, k=k), share)
    every = metrics.neighbour_share(*forget, *retain, k=len(retain[1]))
    assert every.tolist() == pytest.approx([(retain[1] == c).double().mean().item() for c in forget[1]])


GOOD = Part(torch.tensor([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]]), longs([0, 1, 1]))
NOTHING = Part(GOOD.p[:0], GOOD.y[:0])
ALL = {"all": longs([0, 1])}


def spoilt(value):
    p = GOOD.p.clone()
    p[1, 0] = value
    return Part(p, GOOD.y)


def in_part(name, value):
    return Predictions(GOOD, GOOD, GOOD, GOOD)._replace(**{name: spoilt(value)})


SCORES = {
    "accuracy": lambda v: metrics.accuracy(spoilt(v)),
    "by group": lambda v: by_group(spoilt(v), ALL),
    "distributions": lambda v: distributions(spoilt(v), ALL),
    "scores, forget": lambda v: score(in_part("forget", v)),
    "scores, retain": lambda v: score(in_part("retain", v)),
    "scores, test": lambda v: score(in_part("test", v)),
    "deviation shares": lambda v: metrics.deviation_shares(torch.tensor([0.1, v, 0.2])),
    "distance, forget": lambda v: metrics.centroid_distance(*spoilt(v), *GOOD),
    "distance, retain": lambda v: metrics.centroid_distance(*GOOD, *spoilt(v)),
    "neighbours, forget": lambda v: metrics.neighbour_share(*spoilt(v), *GOOD, k=1),
    "neighbours, retain": lambda v: metrics.neighbour_share(*GOOD, *spoilt(v), k=1),
    **{f"attack, {part}": lambda v, n=part: svc_mia(in_part(n, v), "prob") for part in ("forget", "retain", "test")},
}


@pytest.mark.fault("probabilities or features of NaN or infinity are scored", "refused in one line, never averaged")
def test_what_is_no_number_is_never_averaged():
    words = "1 of 3 rows hold NaN or infinity: the model diverged; lower the learning rate"
    for what, value in product(SCORES, (NAN, INF, -INF)):
        assert one_line(SCORES[what], value) == words, what


@pytest.mark.fault("fewer than one neighbour is asked for", "refused in one line that names the number")
def test_no_neighbours_are_refused():
    assert one_line(metrics.neighbour_share, *GOOD, *GOOD, k=0).startswith("k 0 is too small: give how many")


@pytest.mark.fault("a part without images is scored", "NaN for what needs it, and for nothing else")
def test_empty_parts_have_no_score():
    assert math.isnan(metrics.accuracy(NOTHING)) and math.isnan(by_group(NOTHING, ALL)["all"])
    assert distributions(NOTHING, ALL)["all"] == {"mean": None, "counts": [0] * metrics.BINS}
    assert metrics.deviation(NOTHING, NOTHING).shape == (0,)
    assert metrics.centroid_distance(*NOTHING, *GOOD).shape == (0,)
    assert metrics.centroid_distance(*GOOD, *NOTHING).isnan().all()
    assert metrics.neighbour_share(*NOTHING, *GOOD, k=2).shape == (0,)
    assert "0 retained images have no 2 neighbours" in one_line(metrics.neighbour_share, *GOOD, *NOTHING, k=2)


# Audits


@seldom
@given(predictions(), st.integers(0, 2), st.sampled_from([*FEATURES]), st.booleans())
def test_an_attack_is_percent_nan_without_a_forget_set_or_refused_in_one_line(pred, seed, feature, fast):
    if not len(pred.retain.y) or not len(pred.test.y):
        assert "cannot train an attacker on" in one_line(svc_mia, pred, feature, seed, fast)
        return
    found = svc_mia(pred, feature, seed, fast)
    assert math.isnan(found) == (len(pred.forget.y) == 0)
    assert math.isnan(found) or 0 <= found <= 100


@seldom
@given(predictions(st.integers(1, 6)), st.sampled_from([*FEATURES]), st.booleans(), st.randoms(use_true_random=False))
def test_an_attack_sees_neither_order_nor_precision_nor_number_of_what_is_forgotten(pred, feature, fast, draw):
    found = svc_mia(pred, feature, fast=fast)
    assert found * len(pred.forget.y) / 100 == pytest.approx(round(found * len(pred.forget.y) / 100))
    double = Predictions(*(Part(p.double(), y) for p, y in pred))
    assert svc_mia(double, feature, fast=fast) == found  # the features are float64 in any case
    if "entropy" in feature:  # the last bit of a logarithm depends on its place, and half-way it decides
        return
    twice = Part(pred.forget.p.repeat(2, 1), pred.forget.y.repeat(2))
    assert svc_mia(pred._replace(forget=twice), feature, fast=fast) == pytest.approx(found)
    assert svc_mia(pred._replace(forget=shuffled(pred.forget, draw)), feature, fast=fast) == pytest.approx(found)


@pytest.mark.fault("an attack on probabilities that are all equal, one image a part or one class", "0 or 100, no crash")
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("feature", ["correctness", "entropy", "prob"])  # a yes or no, a number, a vector
def test_an_attack_that_has_nothing_to_go_by_is_all_or_nothing(feature, fast):
    for n, row in product((1, 2, 30), ([0.0, 1.0], [0.5, 0.5], [1.0, 0.0], [1.0])):
        alike = Part(torch.tensor([row]).repeat(n, 1), torch.zeros(n, dtype=torch.long))
        found = svc_mia(Predictions(alike, alike, alike, alike), feature, fast=fast)
        # Of 30 equal rows the last bits of the logarithms may differ by their place.
        assert found in (0, 100) or (n, feature) == (30, "entropy")


@seldom
@given(predictions(st.integers(1, 5)), PRECISIONS)
def test_features_are_finite_and_within_their_bounds_in_every_precision(pred, precision):
    part = Part(pred.test.p.to(precision), pred.test.y)
    num_classes = part.p.shape[1]
    slack = 0.05 if precision in (torch.float16, torch.bfloat16) else 1e-5  # rounded rows do not sum to 1
    bounds = {"correctness": 1, "confidence": 1, "prob": 1, "entropy": math.log(num_classes), "modified_entropy": 139}
    for name, feature in FEATURES.items():
        value = feature(part).double()
        assert torch.isfinite(value).all() and (value >= -slack).all(), name
        assert (value <= bounds[name] + slack).all(), name


def test_an_audit_of_an_empty_forget_set_is_nan_throughout():
    assert all(map(math.isnan, audit(Predictions(NOTHING, GOOD, GOOD, GOOD)).values()))
