"""The rows of the chapter on why, each against arithmetic done here, and what `deviations` makes of predictions."""

import importlib
import math
import sys

import numpy as np
import pytest
import torch
from stored import ROOT

from falw.book import explorers
from falw.methods import find_method
from falw.metrics import Part, Predictions
from falw.models import true_probability
from falw.parts import Task
from falw.train import draw_augmentation, load_batch
from falw.weights import ClassStats


def load(name):
    """A module of benchmarks/."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


brakes, deviations = load("brakes"), load("deviations")


@pytest.fixture
def task(original, data, split, config):
    return Task(original, data, split, config)


def by_hand(p, mean, std):
    """tanh of the z-score's size, with its sign."""
    z = (p - mean) / std
    return math.copysign(math.tanh(abs(z)), z)


SHAPES = {
    "stop": lambda tanh, z: float(z > 0),
    "linear": lambda tanh, z: min(max(1 + z, 0), 2),
    "brake": lambda tanh, z: min(1 + tanh, 1),
    "push": lambda tanh, z: max(1 + tanh, 1),
    "weight-0.5": lambda tanh, z: 0.5,
    "weight-1.5": lambda tanh, z: 1.5,
}


def statistics_by_hand(model, data, index):
    """Mean and sample deviation of each class, with NumPy."""
    p = true_probability(model, *data.train, index).double().numpy()
    y = data.train.y[index].numpy()
    return {c: (p[y == c].mean(), p[y == c].std(ddof=1)) for c in set(y)}


def loss_by_hand(task, weigh, model):
    """One batch of the first epoch under random labels, drawn once: each sample by itself in Python."""
    batch = first_batch(task)
    log_p = model(batch.x).double().log_softmax(1)
    target = find_method("rl-fixed").targets(task)(batch)
    total = 0.0
    for row, y, label, forgotten in zip(log_p, batch.y.tolist(), target.tolist(), batch.forget.tolist(), strict=True):
        total += weigh(row[y].exp().item(), y) * -row[label].item() if forgotten else -row[y].item()
    return total / len(log_p)


def first_batch(task):
    forget = torch.zeros(len(task.data.train.y), dtype=torch.bool)
    forget[task.split.forget] = True
    index = torch.cat([task.split.forget[:20], task.split.retain[:12]])
    draws = draw_augmentation(len(forget), task.config, 0, task.data.train.x.device)
    return load_batch(task.data.train, index, draws, task.config, forget, 0)


def loss_of(row, task, model, epoch=0):
    objective = row.objective(task)
    objective.weight.balance = torch.ones_like(objective.weight.balance)  # which chapter 6 is about
    objective.weight.update(model, epoch)
    return objective(model(first_batch(task).x), first_batch(task)).item()


@pytest.mark.parametrize("name", SHAPES)
def test_one_step_under_another_shape_is_that_of_plain_python(name, task, original):
    row = next(r for r in (*brakes.STATISTICS, *brakes.SHAPES, *brakes.SAME_FOR_ALL) if r.name == name)
    known = statistics_by_hand(original, task.data, task.split.val)

    def weigh(p, y):
        mean, std = known[y]
        return SHAPES[name](by_hand(p, mean, std), (p - mean) / std)

    expected = loss_by_hand(task, weigh, original)
    assert loss_of(row, task, original) == pytest.approx(expected, rel=1e-4)
    assert loss_of(find_method("rl+falw-epoch"), task, original) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["stats-retrain", "stop-retrain"])
def test_one_step_with_given_statistics_looks_at_no_unseen_image(name, task, original):
    classes = task.data.num_classes
    given = ClassStats(torch.full((classes,), 0.6).double(), torch.full((classes,), 0.2).double(), torch.ones(classes))
    row = next(r for r in brakes.with_retrains(given) if r.name == name)

    def weigh(p, y):
        return float(p > 0.6) if name == "stop-retrain" else 1 + by_hand(p, 0.6, 0.2)

    assert loss_of(row, task, original) == pytest.approx(loss_by_hand(task, weigh, original), rel=1e-4)


@pytest.mark.parametrize("name, taken", [("stats-original", [0]), ("stats-frozen", [0, 1]), ("brake", [0, 1, 2])])
def test_statistics_are_taken_until_they_are_frozen(name, taken, task, original, monkeypatch):
    row, seen = next(r for r in (*brakes.STATISTICS, *brakes.SHAPES, *brakes.SAME_FOR_ALL) if r.name == name), []
    weight = row.weight(task)
    monkeypatch.setattr(weight, "_estimate", lambda model, index: seen.append(model) or setattr(weight, "stats", 1))
    for epoch in range(3):
        for _ in range(2):
            weight.update(epoch, epoch)
    assert seen == taken


def test_fewer_unseen_images_are_the_first_of_each_class(task):
    weight = next(r for r in brakes.FEWER if r.name == "val-5").weight(task)
    y = task.data.train.y[task.split.val].tolist()
    first = [i for k, i in enumerate(task.split.val.tolist()) if y[:k].count(y[k]) < 5]
    assert torch.equal(weight.x, task.data.train.x[first]) and len(first) == 5 * task.data.num_classes


def test_a_slice_is_retained_and_neither_trained_on_nor_unseen(task):
    row = next(r for r in brakes.WITHOUT_VAL if r.name == "sliced")
    trained, slice_ = row.drawn(task).retain.tolist(), brakes.sliced(task).tolist()
    assert set(slice_) | set(trained) == set(task.split.retain.tolist()) and not set(slice_) & set(trained)
    assert len(slice_) == pytest.approx(0.25 * len(task.split.retain), abs=1) and row.name == "sliced"


def test_cross_fitting_asks_no_network_of_an_image_that_it_saw(task, monkeypatch):
    saw = []

    def fit(network, data, split, objective, config):
        assert objective.batches == "retain" and config.epochs == brakes.HALF_EPOCHS
        saw.append(set(split.retain.tolist()))

    def probability(network, x, y, index):
        assert not saw[-1] & set(index.tolist())
        return torch.full((len(index),), 0.2 * len(saw))

    monkeypatch.setattr(brakes, "fit", fit)
    monkeypatch.setattr(brakes, "true_probability", probability)
    weight = brakes.cross_fitted(task)
    assert saw[0] | saw[1] == set(task.split.retain.tolist()) and not saw[0] & saw[1]
    assert weight.stats.mean.tolist() == pytest.approx([0.3] * task.data.num_classes, abs=0.02)
    assert weight.stats.count.sum() == len(task.split.retain)


def test_moved_images_are_retained_ones_and_not_as_they_were(task):
    weight = brakes.augmented(task)
    whole = task.data.train.x[brakes.few(task.split.retain, task.data.train.y, 25)]
    assert weight.x.shape == whole.shape and not torch.equal(weight.x, whole)
    assert set(torch.bincount(weight.y).tolist()) <= set(range(26))


def test_each_row_differs_from_falws_in_its_weight_alone():
    rows = (*brakes.STATISTICS, *brakes.SHAPES, *brakes.FEWER, *brakes.WITHOUT_VAL)
    expected = {row.name: {"weight"} for row in rows} | {"sliced": {"weight", "retain_share"}}
    assert {row.name: set(row.differences(brakes.BASE)) for row in rows} == expected


# What is made of predictions


def predictions(forget, retain, test, val=((0.5,), (0,))):
    """Two classes; (p of the true class, y) of each part."""

    def part(p, y):
        p, y = torch.tensor(p), torch.tensor(y)
        return Part(torch.where(y[:, None] == torch.arange(2), p[:, None], 1 - p[:, None]), y)

    return Predictions(part(*forget), part(*retain), part(*val), part(*test))


def test_deviations_count_classes_by_their_forgotten_images_and_keep_whole_classes_apart():
    ours = predictions(((0.1, 0.2, 0.9), (0, 0, 1)), ((0.8,), (1,)), ((0.3, 0.5), (0, 1)))
    first = predictions(((0.0, 0.0, 0.8), (0, 0, 1)), ((1.0,), (1,)), ((0.0, 0.7), (0, 1)))
    second = predictions(((0.0, 0.0, 0.6), (0, 0, 1)), ((1.0,), (1,)), ((0.2, 0.7), (0, 1)))
    found = deviations.beside(ours, [first, second], torch.tensor([2, 1]))
    assert found["part"] == pytest.approx({"images": 1, "forgotten": 0.2, "unseen": -0.2, "retained": -0.2})
    assert found["whole"] == pytest.approx({"images": 2, "forgotten": 0.15, "unseen": 0.2})


def test_direction_is_balanced_over_images_that_are_too_high_and_too_low():
    val = ((0.4, 0.6), (0, 0))  # a mean of 0.5
    ours = predictions(((0.7, 0.8, 0.3, 0.9), (0, 0, 0, 0)), ((1.0,), (0,)), ((0.5,), (0,)), val)
    theirs = predictions(((0.9, 0.9, 0.1, 0.5), (0, 0, 0, 0)), ((1.0,), (0,)), ((0.5,), (0,)))
    found = deviations.direction(ours, [theirs], 2)  # too low: both pushed on; too high: one held back, one not
    assert found == {"pushed": 1.0, "held": 0.5, "right": 0.25}


def test_what_is_explained_agrees_with_numpy_and_noise_explains_nothing():
    g = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 400, generator=g)
    y = 0.6 * x + 0.8 * noise
    n, r2 = len(y), np.corrcoef(x, y)[0, 1] ** 2
    assert deviations.explained(y, [x]) == pytest.approx(1 - (1 - r2) * (n - 1) / (n - 2))
    assert abs(deviations.explained(noise, [x])) < 0.02
    classes = torch.arange(400) % 40  # means of forty classes fit noise; adjusted they explain nothing
    means = deviations.per_class(noise, classes, 40)[classes]
    assert deviations.explained(noise, [means]) > 0.05
    assert abs(deviations.adjusted(deviations.explained(noise, [means]), 400, 40)) < 0.05


def test_a_normal_is_refused_for_what_is_a_beta_and_not_the_other_way_round():
    g = np.random.default_rng(0)
    p = torch.tensor(g.beta(0.3, 0.3, (2, 20, 50)), dtype=torch.float32)  # two sets of 20 classes, 50 images each
    y = torch.arange(20).repeat_interleave(50)
    one_hot = torch.nn.functional.one_hot(y, 20).bool()
    val, test = (Part(torch.where(one_hot, part.reshape(-1, 1), 0.0), y) for part in p)
    found = deviations.refused(Predictions(val, val, val, test), 20)
    assert found["normal"] > 0.5 and found["beta"] < 0.3 and found["two samples"] < 0.3


# What the chapter draws by hand


@pytest.mark.parametrize("weight, pull, retrain", [(1.0, 1.0, 0.8), (0.25, 4.0, 0.5), (2.0, 0.5, 0.2), (0.0, 1.0, 0.5)])
def test_a_resting_point_is_where_descent_ends(weight, pull, retrain):
    u = 3.0
    for _ in range(20_000):
        p = 1 / (1 + math.exp(-u))
        u -= 0.05 * (weight * p + pull * (p - retrain))
    found = explorers.resting_point(lambda p: weight, pull, retrain)
    assert found == pytest.approx(p, abs=1e-4) and found == pytest.approx(pull * retrain / (pull + weight))
