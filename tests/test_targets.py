"""The soft labels of neighbour-target, against numbers worked out by hand and against SciPy."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.special import expit, logit

from falw import targets
from falw.methods import METHODS, VARIANTS, find_method, unlearn
from falw.models import probabilities
from falw.parts import Task
from falw.split import Split
from falw.train import Batch

# Six retained images around a circle: two near 0 degrees of class 0, two near 90 of class 1, one of each at 45.
ANGLES = torch.tensor([0.0, 10.0, 80.0, 90.0, 44.0, 46.0]).deg2rad()
RETAINED, LABELS = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1), torch.tensor([0, 0, 1, 1, 0, 2])


def test_votes_are_class_shares_of_the_nearest_by_angle():
    images = torch.tensor([[5.0, 0.0], [0.0, 0.1], [1.0, 1.0]])  # at 0, 90 and 45 degrees, of any length
    votes = targets.neighbour_votes(images, RETAINED, LABELS, 3, count=2)
    assert votes.tolist() == [[1, 0, 0], [0, 1, 0], [0.5, 0, 0.5]]
    assert targets.neighbour_votes(images, RETAINED, LABELS, 4, count=6).tolist() == [[0.5, 2 / 6, 1 / 6, 0]] * 3


def test_votes_do_not_depend_on_how_many_images_are_compared_at_a_time(monkeypatch):
    g = torch.Generator().manual_seed(0)
    images, retained = torch.randn(7, 5, generator=g), torch.randn(30, 5, generator=g)
    labels = torch.randint(3, (30,), generator=g)
    whole = targets.neighbour_votes(images, retained, labels, 3, count=4)
    monkeypatch.setattr(targets, "COMPARED_AT_ONCE", 3)
    assert torch.equal(targets.neighbour_votes(images, retained, labels, 3, count=4), whole)


@pytest.mark.parametrize("p", [1.5, -0.1, math.nan])
def test_what_is_no_probability_has_no_quantiles(p):
    with pytest.raises(ValueError, match="from 0 to 1"):
        targets.quantiles_of_unseen(torch.tensor([0.5, p]), torch.tensor([0, 1]), torch.tensor([1, 1]))


def test_quantiles_are_those_of_the_own_class_moved_by_what_it_loses():
    p = torch.tensor([0.2, 0.5, 0.8, 0.9, 0.6])
    y, forgotten, retained = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([1, 2]), torch.tensor([1, 6])
    # class 0: its middle, 0.5; class 1: a quarter and three quarters of the way from 0.6 to 0.9, on log-odds
    low, high = logit(0.6), logit(0.9)
    middle = expit([low + (high - low) / 4, low + (high - low) * 3 / 4])
    plain = targets.quantiles_of_unseen(p, y, forgotten)
    torch.testing.assert_close(plain, torch.tensor([0.5, *middle]).double(), rtol=1e-6, atol=1e-6)
    # half of class 0 and three quarters of class 1 are left: odds times 1/2 and 3/4
    odds = torch.tensor([1, *(middle / (1 - middle))]).double() * torch.tensor([1 / 2, 3 / 4, 3 / 4])
    moved = targets.quantiles_of_unseen(p, y, forgotten, retained)
    torch.testing.assert_close(moved, odds / (1 + odds), rtol=1e-6, atol=1e-6)


def test_a_class_of_which_nothing_is_retained_gets_nothing_and_one_without_unseen_images_those_of_all():
    p, y = torch.tensor([0.2, 0.5, 0.8]), torch.tensor([0, 0, 0])
    found = targets.quantiles_of_unseen(p, y, torch.tensor([2, 1]), torch.tensor([0, 5]))
    assert found[:2].tolist() == [0, 0] and found[2].item() == pytest.approx(5 / 6 / (1 + 5 / 6))
    assert targets.quantiles_of_unseen(p, y, torch.tensor([0, 1])).tolist() == [pytest.approx(0.5)]


def test_no_unseen_images_are_refused():
    with pytest.raises(ValueError, match="^this target needs unseen images and the validation set is empty: raise val"):
        targets.quantiles_of_unseen(torch.empty(0), torch.empty(0).long(), torch.tensor([1]))


def test_too_few_neighbours_are_refused():
    with pytest.raises(ValueError, match="^6 retained images have no 20 neighbours: lower the number"):
        targets.neighbour_votes(RETAINED, RETAINED, LABELS, 3)


def test_the_larger_score_has_the_larger_value():
    given = targets.by_rank(torch.tensor([0.3, 0.1, 0.2, 0.9]), torch.tensor([5.0, 7.0, 5.0, -1.0]))
    assert given.tolist() == pytest.approx([0.2, 0.9, 0.3, 0.1])


def test_the_rest_goes_to_other_classes_in_proportion():
    labels = targets.soft_labels(torch.tensor([0.4, 1.0]), torch.tensor([1, 0]), torch.tensor([[1.0, 9, 3], [1, 1, 1]]))
    torch.testing.assert_close(labels, torch.tensor([[0.15, 0.4, 0.45], [1, 0, 0]]))


# The part


@pytest.fixture
def task(original, data, split, config):
    return Task(original, data, split, config)


def labels_of(task, **options):
    """The soft labels of the forgotten images and what they are of: (n_f, C), (n_f,)."""
    data, forget = task.data, task.split.forget
    member = torch.ones(len(forget), dtype=torch.bool)
    batch = Batch(data.train.x[forget], data.train.y[forget], member, forget, 0)
    return targets.labels_by_neighbours(**options)(task)(batch), batch.y


def p_of(labels, y):
    return labels.gather(1, y[:, None])[:, 0]


def test_labels_are_probabilities_and_those_of_the_true_class_are_quantiles_of_unseen_images(task, split, data):
    labels, y = labels_of(task)
    torch.testing.assert_close(labels.sum(1), torch.ones(len(y)))
    val, known = split.val, data.train.y
    unseen = p_of(probabilities(task.original, data.train.x, val), known[val])
    retained = torch.bincount(known[split.retain], minlength=data.num_classes)
    expected = targets.quantiles_of_unseen(unseen, known[val], split.forget_counts, retained)
    torch.testing.assert_close(p_of(labels, y).sort().values.double(), expected.sort().values, rtol=1e-5, atol=1e-6)


def test_more_neighbours_of_the_own_class_are_a_larger_probability(task, split, data):
    labels, y = labels_of(task)
    seen = [targets.features(task.original, data.train.x, part) for part in (split.forget, split.retain)]
    votes = targets.neighbour_votes(*seen, data.train.y[split.retain], data.num_classes)
    share, p = p_of(votes, y), p_of(labels, y)
    assert len(share.unique()) > 2
    for low, high in zip(share.unique(), share.unique()[1:], strict=False):
        assert p[share == low].max() <= p[share == high].min()


def test_without_neighbours_the_original_ranks_and_within_classes_each_class_has_its_own_values(task, split, data):
    labels, y = labels_of(task, neighbours=0)
    says = p_of(probabilities(task.original, data.train.x, split.forget), y)
    assert torch.equal(p_of(labels, y).argsort(stable=True), says.argsort(stable=True))
    within, whole = (p_of(labels_of(task, within_classes=flag)[0], y) for flag in (True, False))
    torch.testing.assert_close(within.sort().values, whole.sort().values)
    val, known = split.val, data.train.y
    unseen = p_of(probabilities(task.original, data.train.x, val), known[val])
    for c in range(data.num_classes):
        counts = torch.zeros_like(split.forget_counts)
        counts[c] = split.forget_counts[c]
        retained = torch.bincount(known[split.retain], minlength=data.num_classes)
        own = targets.quantiles_of_unseen(unseen, known[val], counts, retained)
        torch.testing.assert_close(within[y == c].sort().values.double(), own.sort().values, rtol=1e-5, atol=1e-6)


def test_power_sharpens_and_no_spread_is_even(task):
    (sharp, y), (flat, _), (even, _) = (labels_of(task, **how) for how in ({}, {"power": 1.0}, {"spread": False}))
    torch.testing.assert_close(p_of(sharp, y), p_of(flat, y))
    own = torch.nn.functional.one_hot(y, sharp.shape[1]).bool()
    of_others = [labels.masked_fill(own, 0) for labels in (sharp, flat, even)]
    assert of_others[0].max(1).values.mean() > of_others[1].max(1).values.mean() > of_others[2].max(1).values.mean()
    torch.testing.assert_close(even[~own], ((1 - p_of(even, y)) / (even.shape[1] - 1)).repeat_interleave(5))
    cubed = of_others[1] ** 3 / (of_others[1] ** 3).sum(1, keepdim=True)
    torch.testing.assert_close(of_others[0], cubed * (1 - p_of(sharp, y))[:, None], rtol=1e-3, atol=1e-6)


def test_labels_move_with_the_model_only_if_they_are_to(task, original):
    for moving in (True, False):
        target = targets.labels_by_neighbours(neighbours=0, shifted=False, moving=moving)(task)
        first = target.table.clone()
        model = targets.duplicate(original)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(0.5)
        assert target.follow(model, 0) and torch.equal(target.table, first)
        assert target.follow(model, 1) and torch.equal(target.table, first) != moving
        assert (
            torch.equal(target.table, targets.labels_by_neighbours(0, False)(task._replace(original=model)).table)
            == moving
        )


def test_no_validation_images_are_refused_by_the_row(original, data, split, config):
    nothing = replace(split, val=split.val[:0], retain=torch.cat([split.retain, split.val]).sort().values)
    assert isinstance(nothing, Split)
    with pytest.raises(ValueError, match="needs unseen images"):
        unlearn("neighbour-target", original, data, nothing, config)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.startswith(("target", "neighbour-target"))])
def test_a_variant_exchanges_one_part_of_the_row(name):
    assert len(find_method(name).differences(METHODS["neighbour-target"])) == 1
