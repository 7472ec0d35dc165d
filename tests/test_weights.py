"""The equations against scalar loops and other libraries, and the callable against a written-out schedule."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from falw import models, weights
from falw.models import create
from falw.weights import FaLW, balance_factor, beta_fit, beta_weight, class_stats, forgetting_weight, z_score


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def bent(s, exponent):
    """1 + sign(s) |s|**exponent, one number at a time."""
    return 1 + math.copysign(abs(s) ** exponent, s) if s else 1.0


# Equations 5, 6, 7


@given(st.floats(-30, 30), st.floats(0.2, 5), st.floats(0.2, 5))
def test_weight_is_the_scalar_formula(z, balance, eta):
    got = forgetting_weight(doubles(z), doubles(balance), eta)
    assert got.item() == pytest.approx(bent(math.tanh(z), 1 / (eta * balance)), abs=1e-12)


def test_weight_by_hand():
    # tanh(1) = 0.761594; B = 2 takes its root, 0.872694, and eta = 1/2 its square, 0.580026
    for options, above in (
        ((), 0.761594),
        ((2.0,), 0.872694),
        ((1.0, 0.5), 0.580026),
        ((2.0, 0.5), 0.761594),
    ):
        w = forgetting_weight(doubles(1, -1, 0), *options)
        assert w.tolist() == pytest.approx([1 + above, 1 - above, 1], abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.integers(0, 99), st.floats(0.3, 3))
def test_weight_never_falls_as_p_grows_and_is_1_at_the_class_mean(p, seed, balance):
    unseen = np.random.default_rng(seed).integers(0, 65, 8) / 64  # their mean is exact
    zeros = torch.zeros(30, dtype=torch.long)
    stats = class_stats(torch.tensor(unseen), zeros[:8], 1)
    p = doubles(*p, unseen.mean()).sort().values
    w = forgetting_weight(z_score(p, zeros[: len(p)], stats), balance)
    assert (w.diff() > -1e-12).all()  # equal p may differ in the last bits, by their place in a vector register
    assert (w[p == unseen.mean()] == 1).all()


def test_weight_rises_with_p_and_further_from_1_for_rare_classes():
    z = torch.linspace(-3, 3, 60)
    rare, common = forgetting_weight(z, 1.5), forgetting_weight(z, 0.8)
    assert (common.diff() > 0).all()
    assert ((rare - 1).abs() > (common - 1).abs()).all()


@given(st.lists(st.integers(1, 500), min_size=1, max_size=12))
def test_balance_factor_is_a_power_of_sklearns_balanced_class_weight(counts):
    classes = np.arange(len(counts))
    balanced = compute_class_weight("balanced", classes=classes, y=np.repeat(classes, counts))
    for tau in (0, 0.15, 1):
        assert balance_factor(torch.tensor(counts), tau).tolist() == pytest.approx(balanced**tau, rel=1e-12)


def test_balance_factor_by_hand():
    # 12 images over 4 classes are 3 on average: 3/6, 3/1, 3/5, and 1 where nothing is forgotten
    assert balance_factor(torch.tensor([6, 1, 5, 0]), 1.0).tolist() == pytest.approx([0.5, 3, 0.6, 1])
    assert balance_factor(torch.tensor([0, 0]), 0.15).tolist() == [1, 1]


# Class statistics and z


@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 60))
def test_class_stats_are_numpys(seed, classes, n):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, classes, n), rng.beta(2, 1, n).astype(np.float32)
    got = class_stats(torch.from_numpy(p), torch.from_numpy(y), classes + 1)
    own = [p[y == c].astype(np.float64) for c in range(classes + 1)]
    assert got.count.tolist() == [len(q) for q in own]
    assert got.mean.tolist() == pytest.approx([q.mean() if len(q) else 0 for q in own], rel=1e-12)
    spread = [q.std(ddof=1) if len(q) > 1 else 0 for q in own]
    assert got.std.tolist() == pytest.approx([max(s, 1e-3) for s in spread], rel=1e-10)
    assert {v.dtype for v in got} == {torch.float64}
    biased = class_stats(torch.from_numpy(p), torch.from_numpy(y), classes + 1, floor=1e-8, unbiased=False).std
    assert biased.tolist() == pytest.approx([max(q.std(), 1e-8) if len(q) else 1e-8 for q in own], rel=1e-9)


def test_saturated_probabilities_keep_their_deviation():
    p = torch.tensor([1, 1 - 5e-5] * 500)  # 2.5e-5 on either side of the mean
    got = class_stats(p, torch.zeros(1000, dtype=torch.long), 1, floor=0).std.item()
    assert got == pytest.approx(p.numpy().astype(np.float64).std(ddof=1), rel=1e-9)
    assert got == pytest.approx(2.5e-5, rel=2e-3)
    in_float32 = ((p**2).mean() - p.mean() ** 2).clamp(min=0).sqrt().item()
    assert abs(in_float32 - got) > got / 2  # what the shorter formula would have given


@pytest.mark.fault(
    "a class with one unseen image, equal ones, or none", "its deviation is the floor; without any the weight is 1"
)
def test_z_of_one_image_of_equal_images_and_of_an_absent_class():
    stats = class_stats(torch.tensor([0.4, 0.4, 0.9]), torch.tensor([0, 0, 1]), 3)
    assert stats.std.tolist() == [1e-3] * 3
    z = z_score(torch.tensor([0.402, 0.897, 0.3]), torch.tensor([0, 1, 2]), stats)
    assert z.tolist() == pytest.approx([2, -3, 0], abs=1e-3)
    assert forgetting_weight(z)[2] == 1


# The Beta distribution


def test_beta_fit_is_scipys():
    rng = np.random.default_rng(0)
    shapes, sizes = np.exp(rng.uniform(-1.5, 5, (12, 2))), rng.integers(2, 60, 12)
    p = [rng.beta(a, b, n) for (a, b), n in zip(shapes, sizes, strict=True)]
    p[0] = np.arange(30) % 2  # zeros and ones have a fit once they are kept off the edge
    y = torch.arange(12).repeat_interleave(torch.tensor([len(q) for q in p]))
    got = beta_fit(torch.tensor(np.concatenate(p)), y, 12)
    assert got.ok.all()
    for c in range(12):
        a, b, _, _ = scipy_stats.beta.fit(np.clip(p[c], 1e-4, 1 - 1e-4), floc=0, fscale=1)
        assert (got.alpha[c].item(), got.beta[c].item()) == pytest.approx((a, b), rel=1e-5)


def test_beta_fit_starts_at_the_moments():
    # class 0 has mean 0.4, variance 0.04: the parameters sum to 0.24 / 0.04 - 1 = 5. Elsewhere a bound holds: 0.1 and a
    # million for the sum, 0.05 for a parameter, 1e-4 for the mean, its distance from 1, and the deviation
    p = doubles(0.2, 0.4, 0.6, 0, 1, 0, 0, 0, 1, 0.5, 0.5002, 0, 0, 1, 1)
    y = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 5, 5])
    got = beta_fit(p, y, 6, steps=0)
    assert got.alpha.tolist() == pytest.approx([2, 0.05, 0.05, 500100, 0.9998, 9997.0002], rel=1e-9)
    assert got.beta.tolist() == pytest.approx([3, 0.05, 0.075, 499900, 9997.0002, 0.9998], rel=1e-9)


def test_beta_step_is_newtons_where_the_likelihood_is_concave_by_autograd():
    g = torch.Generator().manual_seed(0)
    theta = torch.rand(2, 60, generator=g, dtype=torch.float64) * 8 - 3
    p = torch.rand(2, 60, generator=g, dtype=torch.float64)  # two images a class
    steps, kinds = weights._beta_newton_step(theta, torch.stack([p.log().mean(0), (1 - p).log().mean(0)])), set()
    for at, q, step in zip(theta.T, p.T, steps.T, strict=True):

        def likelihood(t, q=q):
            return torch.distributions.Beta(*t.exp()).log_prob(q).mean()

        gradient = torch.autograd.functional.jacobian(likelihood, at)
        hessian = torch.autograd.functional.hessian(likelihood, at)
        concave = bool((torch.linalg.eigvalsh(hessian) < 0).all())
        expected = -torch.linalg.solve(hessian, gradient) if concave else gradient
        assert step.tolist() == pytest.approx(expected.clamp(-1, 1).tolist(), rel=1e-6)
        kinds.add(concave)
    assert (kinds, steps.min(), steps.max()) == ({True, False}, -1, 1)


def test_beta_weight_is_a_scalar_loop():
    alpha, beta, balance = [2, 0.5], [3, 0.4], [0.8, 1.5]
    params = weights.BetaParams(doubles(*alpha), doubles(*beta), torch.tensor([True, True]))
    p, y = torch.tensor([0.05, 0.4, 0.95, 0.5, 1.0, 0.0]), [0, 0, 0, 1, 1, 1]
    s = [2 * scipy_stats.beta.cdf(q, alpha[c], beta[c]) - 1 for q, c in zip(p.tolist(), y, strict=True)]
    plain, balanced = (beta_weight(p, torch.tensor(y), params, *b) for b in ((), (doubles(*balance)[y],)))
    assert plain.tolist() == pytest.approx([1 + s_i for s_i in s], abs=1e-9)
    assert balanced.tolist() == pytest.approx([bent(s[i], 1 / balance[c]) for i, c in enumerate(y)], abs=1e-9)
    assert balanced[4:].tolist() == [2, 0]


@pytest.mark.fault("unseen images of a class to which no Beta distribution fits", "the weight is 1")
def test_beta_falls_back_to_1_where_no_fit_exists():
    # all alike, one image, all 0, all 1, absent, hardly any spread; then two that have a fit; then another absent one
    p = doubles(0.7, 0.7, 0.7, 0.3, 0, 0, 1, 1, 0.5, 0.5001, 0.1, 0.9, 0.5, 0.5002)
    params = beta_fit(p, torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 5, 5, 6, 6, 7, 7]), 9)
    assert params.ok.tolist() == [False] * 6 + [True] * 2 + [False]
    w = beta_weight(torch.full((8,), 0.99), torch.arange(8), params)
    assert w[:6].tolist() == [1] * 6
    assert (w[6:] > 1.2).all()


# The callable


class Stub(nn.Module):
    """Image i, the number in its first pixel, gets probability 1/(2 + i + step) for class 0."""

    step = 0

    def forward(self, x):
        self.shown += x[:, 0, 0, 0].tolist()
        p = 1 / (2.0 + x[:, 0, 0, 0] + self.step)
        return torch.stack([p, 1 - p], 1).log()


def shown_by(weight, model, epoch):
    """The images that the model is shown in an update."""
    model.shown = []
    weight.update(model, epoch)
    return model.shown


X, Y = (
    torch.arange(7, dtype=torch.uint8).view(7, 1, 1, 1).expand(7, 1, 2, 2),
    torch.tensor([0, 1, 0, 0, 1, 1, 0]),
)
COUNTS, ALL = torch.tensor([9, 3]), list(range(7))
NEXT = [ALL, [4, 5, 6, 0], [1, 2, 3, 4], [5, 6, 0, 1], [2, 3, 4, 5], [6, 0, 1, 2]]
ROLLING = [images for four in NEXT for images in [four, *[[]] * 7]]  # every eighth step the next four
SCHEDULES = {
    1: [ALL] * 6,
    3: [ALL, [], []] * 2,
    "epoch": [ALL, []] * 3,
    "rolling": ROLLING,
}  # two steps an epoch


@pytest.mark.parametrize("refresh, dist", [(1, "beta"), *((refresh, "normal") for refresh in SCHEDULES)])
def test_statistics_follow_the_model_on_schedule(refresh, dist):
    balance = [(12 / 2 / 9) ** 0.5, (12 / 2 / 3) ** 0.5]
    model, latest = Stub(), np.zeros(7)
    own = {"normal": {"eta": 0.8}, "beta": {}}[dist]  # Eq. 13 has no eta
    weight = FaLW((X, Y), COUNTS, tau=0.5, refresh=refresh, dist=dist, rolling=4, **own)
    for step, images in enumerate(SCHEDULES[refresh]):
        model.step = step
        assert shown_by(weight, model, step // 2) == images
        for i in images:
            latest[i] = abs(int(Y[i]) - 1 / (2 + i + step))
        for c, p in ((0, 0.1), (0, 0.9), (1, 0.7), (1, 0.99)):
            own = latest[Y.numpy() == c]
            if dist == "normal":
                expected = bent(math.tanh((p - own.mean()) / own.std(ddof=1)), 1 / (0.8 * balance[c]))
            else:
                a, b, _, _ = scipy_stats.beta.fit(own, floc=0, fscale=1)
                expected = bent(2 * scipy_stats.beta.cdf(p, a, b) - 1, 1 / balance[c])
            got = weight(torch.tensor([p]), torch.tensor([c]))
            assert got.item() == pytest.approx(expected, abs=2e-5)
            assert got.dtype == torch.float32


@pytest.mark.parametrize("refresh", SCHEDULES)
def test_a_stopped_run_goes_on_with_the_same_statistics(refresh):
    for stop in (0, 5, 9):
        model, p = Stub(), doubles(0.4, 0.8)
        whole, before, after = (FaLW((X, Y), COUNTS, refresh=refresh, rolling=4) for _ in range(3))
        for step in range(18):
            model.step = step
            if step == stop:
                after.load_state_dict(before.state_dict())
            part = before if step < stop else after
            assert shown_by(part, model, step // 2) == shown_by(whole, model, step // 2)
            assert torch.equal(part(p, Y[:2]), whole(p, Y[:2]))


def test_defaults_of_the_callable():
    model, weight = Stub(), FaLW((X, Y), COUNTS)
    assert [shown_by(weight, model, 0) for _ in range(3)] == [ALL] * 3
    assert weight.balance.tolist() == balance_factor(COUNTS, 0.15).tolist()
    # Y = 1 for class 1: mean and deviation of 1 - 1/3, 1 - 1/6, 1 - 1/7
    own = np.array([2 / 3, 5 / 6, 6 / 7])
    expected = bent(math.tanh((0.8 - own.mean()) / own.std(ddof=1)), 1 / 2**0.15)
    assert weight(doubles(0.8), torch.tensor([1])).item() == pytest.approx(expected, abs=1e-6)
    for n, options, chunk in ((560, {}, 512), (70, {}, 70), (7, {"rolling": 1}, 1)):  # 512 at a time, or all there are
        rolling = FaLW((X.repeat(n // 7, 1, 1, 1), Y.repeat(n // 7)), COUNTS, refresh="rolling", **options)
        assert [len(shown_by(rolling, model, 0)) for _ in range(10)] == [n, *[0] * 7, chunk, 0]
    six = FaLW((X[:6], Y[:6]), COUNTS, refresh="rolling", rolling=4)  # of seven, every eighth step is the next one
    assert [shown_by(six, model, 0) for _ in range(9)] == [ALL[:6], *[[]] * 7, [4, 5, 0, 1]]
    for options, std in (({}, 1e-3), ({"floor": 0.6}, 0.6), ({"floor": 0}, 0)):
        one_image = FaLW((X[:1], Y[:1]), COUNTS, **options)
        shown_by(one_image, model, 0)
        assert one_image.stats.std.tolist() == [std, std]


@pytest.mark.fault("a weight is asked for before the statistics of its classes", "refused in one line that says how")
def test_there_is_no_weight_before_the_first_update():
    with pytest.raises(ValueError, match="^FaLW has no class statistics yet: call update"):
        FaLW((X, Y), COUNTS)(doubles(0.5), Y[:1])


@pytest.mark.parametrize("training", [True, False])
def test_update_leaves_the_model_as_it_was(training):
    model = create("tiny", 2, (0.5,) * 3, (0.3,) * 3).train(training)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = torch.randint(0, 256, (7, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    weight = FaLW((x, Y), COUNTS)
    weight.update(model, 0)
    assert {m.training for m in model.modules()} == {training}
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.allclose(weight.p_val, model.eval()(x).softmax(1)[range(7), Y], atol=1e-6)


@pytest.mark.parametrize("dist", ["normal", "beta"])
def test_no_gradient_flows_through_the_weight(dist):
    weight, p = FaLW((X, Y), COUNTS, dist=dist), torch.tensor([0.2, 0.9], requires_grad=True)
    shown_by(weight, Stub(), 0)
    fit = {"normal": class_stats, "beta": beta_fit}[dist]
    assert not any(v.requires_grad for v in (weight(p, Y[:2]), *fit(p, Y[:2], 2)))


def test_probabilities_are_those_of_the_chosen_images_in_float32():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).bfloat16()
    x = torch.rand(600, 1, 2, 2, generator=torch.Generator().manual_seed(0)).bfloat16()
    index, y = torch.arange(599, -1, -1), torch.arange(600) % 3
    got = models.probabilities(model, x, index)
    assert (got.dtype, got.requires_grad) == (torch.float32, False)
    assert torch.allclose(got, model(x.flip(0)).float().softmax(1), atol=1e-6)
    assert torch.equal(models.true_probability(model, x, y, index), got[range(600), y.flip(0)])


@pytest.mark.fault(
    "a schedule or distribution that does not exist, no unseen images", "refused in one line with the choice"
)
def test_falw_errors():
    for options, words in (
        (
            {"refresh": "batch"},
            "^unknown refresh 'batch'; choose a number of steps from 1 up, 'epoch' or 'rolling'$",
        ),
        ({"refresh": 0}, "^unknown refresh 0; choose"),
        ({"refresh": 2.5}, r"^unknown refresh 2\.5; choose"),
        ({"floor": math.inf}, "^floor inf is not a number from 0 up"),
        ({"dist": "cauchy"}, "^unknown dist 'cauchy'; choose one of: normal, beta$"),
        (
            {"val": (X[:0], Y[:0])},
            "^FaLW needs unseen images and the validation set is empty: raise val above 0$",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            FaLW(**{"val": (X, Y), "counts": COUNTS, **options})


# A number acts in the precision of what it acts on


def test_a_number_as_balance_or_eta_is_not_rounded():
    z, number = doubles(-2.0, -0.3, 0.01, 1.5), 0.1  # float32 has 0.1 to eight digits
    expected = [bent(math.tanh(v), 1 / (0.7 * number)) for v in z.tolist()]
    assert forgetting_weight(z, number, eta=0.7).tolist() == pytest.approx(expected, rel=1e-12)
    params = weights.BetaParams(doubles(2.0), doubles(3.0), torch.tensor([True]))
    p = doubles(0.05, 0.4, 0.95)
    expected = [bent(2 * scipy_stats.beta.cdf(v, 2, 3) - 1, 1 / number) for v in p.tolist()]
    assert beta_weight(p, torch.zeros(3, dtype=torch.long), params, number).tolist() == pytest.approx(
        expected, rel=1e-12
    )


def test_a_number_as_balance_has_to_be_above_0():
    params = weights.BetaParams(doubles(2.0), doubles(3.0), torch.tensor([True]))
    for balance in (0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"^balance {balance} is not a number above 0"):
            forgetting_weight(doubles(0.5), balance)
        with pytest.raises(ValueError, match=f"^balance {balance} is not a number above 0"):
            beta_weight(doubles(0.5), torch.tensor([0]), params, balance)


@pytest.mark.parametrize("own", [{"eta": 0.5}, {"floor": 0.01}, {"unbiased": False}])
def test_what_the_beta_weight_does_not_read_is_refused(own):
    with pytest.raises(ValueError, match=r"^eta .* and floor .* change nothing under dist 'beta': leave them out$"):
        FaLW((X, Y), COUNTS, dist="beta", **own)
