"""Rows that learn from a network held fixed, each against a step written from its paper; what follows a model."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from falw import distil
from falw.files import Checkpoint
from falw.methods import METHODS, VARIANTS, find_method, unlearn
from falw.models import create
from falw.parts import Task
from falw.train import Objective, cross_entropy, draw_augmentation, epoch_steps, fit, load_batch


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture
def task(original, data, split, config):
    """A task of one batch a pass."""
    return Task(original, data, split, replace(config, epochs=1, batch_size=1000))


def batch_of(task, part, split=None):
    (step,) = epoch_steps(part, split or task.split, task.config, 0)
    draws = draw_augmentation(len(task.data.train.y), task.config, 0, torch.device("cpu"))
    flags = torch.zeros(len(task.data.train.y), dtype=torch.bool)
    flags[task.split.forget] = True
    return load_batch(task.data.train, step.index, draws, task.config, flags, 0)


def check_steps(row, task, *losses):
    """The row, by SGD whatever it is published with, ends where steps on these losses of a network do."""
    model = copy.deepcopy(task.original).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=task.config.lr, momentum=0.9, weight_decay=5e-4)
    for loss in losses:
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
    got = unlearn(replace(row, config={}), *task[:4])
    assert torch.allclose(parameters(got), parameters(model), atol=1e-5)
    assert (parameters(got) - parameters(task.original)).abs().max() > 1e-3


def divergence(log_p, target):
    """KL(target || p), averaged over samples, zeros of the target left out."""
    terms = torch.where(target > 0, target * (target.clamp(min=1e-30).log() - log_p), 0.0)
    return terms.sum(1).mean()


def says(model, x):
    with torch.no_grad():
        return model(x)


# One step of each, written out


def test_neggrad_plus_step(task):
    b, a = batch_of(task, "union"), 0.95

    def loss(model):
        losses = F.cross_entropy(model(b.x), b.y, reduction="none")
        theirs = a * losses[~b.forget].mean() - (1 - a) * losses[b.forget].mean()
        return theirs / (a * len(b.y) / (~b.forget).sum())  # the rate's part

    check_steps(METHODS["neggrad+"], task, loss)


def test_scrub_climbs_away_from_the_original_and_then_comes_back_on_retained_data(task):
    f, r = batch_of(task, "forget"), batch_of(task, "retain")

    def softened(model, b):
        target = (says(task.original, b.x) / 2).softmax(1)
        return 4 * divergence((model(b.x) / 2).log_softmax(1), target)

    def away(model):  # in training mode a batch is normalised by itself, so there is a slope at the Original, too
        return -softened(model, f)

    def back(model):
        logits, target = model(r.x), (says(task.original, r.x) / 2).softmax(1)
        return F.cross_entropy(logits, r.y) + 0.5 * 4 * divergence((logits / 2).log_softmax(1), target)

    check_steps(METHODS["scrub"], task, away, back)


def test_scrub_climbs_in_the_first_epochs_only(task, split):
    config = replace(task.config, epochs=5, batch_size=32)
    objective = METHODS["scrub"].objective(task._replace(config=config))
    taken = [[s.kind for s in epoch_steps("sequential", split, config, e) if objective.takes(s)] for e in range(5)]
    assert ["forget" in kinds for kinds in taken] == [True, True, True, False, False]
    assert [kinds.count("retain") for kinds in taken] == [-(-len(split.retain) // 32)] * 5


def test_bad_teacher_step(task, data):
    row = METHODS["bad-teacher"]
    b = batch_of(task, "union", row.drawn(task))
    bad = create("tiny", data.num_classes, data.mean, data.std, seed=task.config.seed).eval()
    taught = torch.stack([says(bad if f else task.original, x[None])[0] for x, f in zip(b.x, b.forget, strict=True)])
    check_steps(row, task, lambda m: divergence(m(b.x).log_softmax(1), taught.softmax(1)))


def test_delete_step(task):
    b = batch_of(task, "forget")
    p = says(task.original, b.x).softmax(1)
    p[torch.arange(len(b.y)), b.y] = 0
    check_steps(METHODS["delete"], task, lambda m: divergence(m(b.x).log_softmax(1), p / p.sum(1, keepdim=True)))


def share_right(model, data, index):
    return (says(model, data.train.x[index]).argmax(1) == data.train.y[index]).double().mean().item()


def test_lotus_step(task, data, split):
    row = replace(METHODS["lotus"], targets=distil.smoothed(2.0))
    b, target = batch_of(task, "union", row.drawn(task)), row.targets(task)
    target.follow(task.original, 0)  # which draws the noise
    noisy = says(task.original, b.x) + target.noise[b.index]
    gap = share_right(task.original, data, split.forget) - share_right(task.original, data, split.val)
    expected = (noisy / math.exp(2 * gap)).softmax(1)
    for i in (~b.forget).nonzero()[:, 0]:
        expected[i] = torch.eye(data.num_classes)[noisy[i].argmax()]
    assert gap > 0.1 and torch.allclose(target(b), expected, atol=1e-5)
    check_steps(row, task, lambda m: -(expected * m(b.x).log_softmax(1)).sum(1).mean())


def test_the_noise_of_lotus_is_gumbels_and_drawn_anew_every_epoch(task):
    target = METHODS["lotus"].targets(task)
    first, second = [target.follow(task.original, e) and target.noise for e in (0, 1)]
    both = torch.cat([first, second]).double()
    assert not torch.equal(first, second) and target.follow(task.original, 0) and torch.equal(target.noise, first)
    assert both.mean().item() == pytest.approx(0.5772, abs=0.1)
    assert both.var().item() == pytest.approx(math.pi**2 / 6, abs=0.3)


# What follows the model


def test_lotus_ends_where_the_forget_set_is_known_no_better_than_unseen_images(task, data, split):
    target = METHODS["lotus"].targets(task)
    unlearned = create("tiny", data.num_classes, data.mean, data.std).eval()
    assert share_right(unlearned, data, split.forget) < share_right(task.original, data, split.val) - 0.01
    assert target.follow(task.original, 0) and not target.follow(unlearned, 1)
    assert target.tau < 1
    with pytest.warns(UserWarning, match="^LoTUS ends before it begins"):
        target.follow(unlearned, 0)


class Until:
    """A target that has enough after so many epochs."""

    def __init__(self, epochs):
        self.epochs, self.seen = epochs, []

    def follow(self, model, epoch):
        self.seen.append(epoch)
        return epoch < self.epochs

    def __call__(self, batch):
        return batch.y


def test_a_target_that_has_enough_ends_the_run(data, split, config):
    ran, target = [], Until(2)
    model = create("tiny", data.num_classes, data.mean, data.std)
    fit(model, data, split, Objective("forget", target=target), replace(config, epochs=5), lambda e, m: ran.append(e))
    assert ran == [0, 1] and target.seen == [0, 1, 2]


def test_lotus_goes_on_from_a_checkpoint_without_anything_stored_of_its_target(original, data, split, config, tmp_path):
    config, ran = replace(config, epochs=3, lr=1e-4), []
    expected = unlearn("lotus", original, data, split, config)
    for every in (2, 5):  # the first run leaves a checkpoint of two epochs
        checkpoint = Checkpoint(tmp_path / "c", "it", every)
        found = unlearn("lotus", original, data, split, config, lambda e, m: ran.append(e), checkpoint)
        assert torch.equal(parameters(found), parameters(expected))
    assert ran == [0, 1, 2, 2]


def test_one_weight_is_the_temperature_of_lotus_and_changes_with_the_epoch(task, data, split):
    weight = VARIANTS["rl+lotus-scalar"].weight(task)
    p, y = torch.tensor([0.1, 0.9]), torch.tensor([0, 1])
    weight.update(task.original, 0)
    gap = share_right(task.original, data, split.forget) - share_right(task.original, data, split.val)
    assert weight(p, y, p).tolist() == pytest.approx([math.exp(gap)] * 2)
    unlearned = create("tiny", data.num_classes, data.mean, data.std).eval()
    weight.update(unlearned, 0)
    assert weight(p, y, p).tolist() == pytest.approx([math.exp(gap)] * 2)
    weight.update(unlearned, 1)
    assert weight(p, y, p)[0] < 1


@pytest.mark.parametrize("name", ["lotus", "rl+lotus-scalar"])
def test_without_unseen_images_there_is_nothing_to_follow(name, task):
    split = replace(task.split, val=task.split.val[:0])
    with pytest.raises(ValueError, match="^LoTUS needs unseen images and the validation set is empty: raise val above"):
        find_method(name).objective(task._replace(split=split))


# Parts


def test_a_share_of_the_retained_is_drawn_once_and_the_rest_held_out(task, split):
    row = METHODS["lotus"]
    drawn = row.drawn(task)
    assert len(drawn.retain) == int(0.3 * len(split.retain)) and torch.equal(drawn.forget, split.forget)
    whole = torch.cat([split.retain, split.val]).sort().values
    assert torch.equal(torch.cat([drawn.retain, drawn.val]).sort().values, whole)
    assert set(drawn.retain.tolist()) < set(split.retain.tolist())
    assert torch.equal(row.drawn(task).retain, drawn.retain)
    other = row.drawn(task._replace(config=replace(task.config, seed=1)))
    assert not torch.equal(other.retain, drawn.retain) and METHODS["rl"].drawn(task) is split


def test_a_target_of_probabilities_averages_over_labels():
    log_p = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    y = torch.tensor([0, 2, 1, 1, 0])
    assert torch.allclose(cross_entropy(log_p, F.one_hot(y, 3)), cross_entropy(log_p, y))
    third = cross_entropy(log_p, torch.full((5, 3), 1 / 3))
    assert torch.allclose(third, sum(cross_entropy(log_p, torch.full((5,), c)) for c in range(3)) / 3)


def test_a_fixed_network_is_in_eval_mode_and_stays_as_it_is(task):
    b = batch_of(task, "union")
    expected = says(copy.deepcopy(task.original).eval(), b.x)
    logits = distil.original_logits(task)
    moved = unlearn("ft", *task[:4])
    assert torch.allclose(logits(b), expected, atol=1e-6) and not logits(b).requires_grad
    assert not torch.allclose(says(moved, b.x), expected)


def test_a_fresh_teacher_can_be_built(task, data):
    def other():
        return create("tiny", data.num_classes, data.mean, data.std, seed=7)

    b = batch_of(task, "union")
    built = distil.fresh_logits(task._replace(fresh=other))(b)
    assert torch.allclose(built, says(other().eval(), b.x), atol=1e-6)
    assert not torch.allclose(built, distil.fresh_logits(task)(b))


def test_the_share_of_neggrad_plus_is_one(task):
    assert METHODS["neggrad+"].alpha(task._replace(config=replace(task.config, coefficient=1.0)))(0.5) == 0
    with pytest.raises(ValueError, match=r"^coefficient 1\.5 is outside \(0, 1\]: it is the share of D_r"):
        METHODS["neggrad+"].alpha(task._replace(config=replace(task.config, coefficient=1.5)))
