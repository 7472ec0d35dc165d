"""The loop: what it draws, what it steps, what it freezes, and what it leaves alone."""

import copy
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from falw.checks import check_split
from falw.config import SCHEDULES, Config, precision_of
from falw.images import augment
from falw.models import create, features
from falw.split import long_tailed_split
from falw.train import (
    AUGMENT,
    ORDER,
    Batch,
    Freeze,
    Objective,
    constant,
    draw_augmentation,
    epoch_steps,
    fit,
    generator,
    negative_cross_entropy,
    predict,
    train_original,
)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def indices(steps, kind=None):
    return torch.cat([s.index for s in steps if kind in (None, s.kind)])


# Steps of an epoch


def test_one_pass_visits_every_image_of_the_part_once(split, config):
    for part in ("retain", "forget"):
        steps = epoch_steps(part, split, config, 0)
        assert torch.equal(indices(steps).sort().values, getattr(split, part))
        assert {s.kind for s in steps} == {part}
        assert all(len(s.index) == config.batch_size for s in steps[:-1])


def test_union_mixes_and_sequential_does_not(split, config):
    everything = torch.cat([split.forget, split.retain]).sort().values
    union = epoch_steps("union", split, config, 0)
    assert torch.equal(indices(union).sort().values, everything)
    assert all(0 < torch.isin(s.index, split.forget).sum() < len(s.index) for s in union)
    kinds = [s.kind for s in epoch_steps("sequential", split, config, 0)]
    assert kinds == sorted(kinds) and set(kinds) == {"forget", "retain"}


def test_order_of_a_subset_is_the_order_of_the_whole(split, config):
    order = torch.randperm(180, generator=generator(config.seed, 4, ORDER)).tolist()
    retained = indices(epoch_steps("retain", split, config, 4)).tolist()
    assert retained == [i for i in order if i in set(split.retain.tolist())]


def test_epochs_and_seeds_draw_other_orders_and_the_same_again(split, config):
    first = indices(epoch_steps("union", split, config, 0))
    assert torch.equal(first, indices(epoch_steps("union", split, config, 0)))
    assert not torch.equal(first, indices(epoch_steps("union", split, config, 1)))
    assert not torch.equal(first, indices(epoch_steps("union", split, replace(config, seed=1), 0)))


def test_alternate_steps_are_written_out(split, config):
    config = replace(config, batch_size=10, epochs=2)
    steps = [s for e in range(2) for s in epoch_steps("alternate", split, config, e)]
    per_epoch = len(epoch_steps("retain", split, config, 0))
    expected = []
    for t in range(2 * per_epoch):
        expected += [("forget", t / (2 * per_epoch))] if t % 5 == 0 else []
        expected += [("retain", t / (2 * per_epoch))]
    assert [(s.kind, pytest.approx(s.progress)) for s in steps] == expected
    forget = indices(steps, "forget")  # the endless iterator: a full pass before any image comes again
    seen = forget[: len(split.forget)]
    assert len(seen.unique()) == len(seen)


def test_a_last_batch_of_one_image_joins_the_one_before(data):
    split = long_tailed_split(data.train.y, 33 / 144, 0, val=0.2)
    sizes = [len(s.index) for s in epoch_steps("forget", split, Config(batch_size=16), 0)]
    assert len(split.forget) == 33 and sizes == [16, 17]


def test_progress_runs_from_0_to_1(split, config):
    steps = [s for e in range(config.epochs) for s in epoch_steps("union", split, config, e)]
    assert [s.progress for s in steps] == pytest.approx([k / len(steps) for k in range(len(steps))])


# Schedules and configuration


def test_schedules_by_hand():
    c = Config(epochs=150, milestones=(90, 120))
    assert [SCHEDULES["step"](e / 150, c) for e in (0, 89.9, 90, 119.9, 120, 149)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert [SCHEDULES["cosine"](t, c) for t in (0, 1 / 3, 0.5, 1)] == pytest.approx([1, 0.75, 0.5, 0])
    assert [SCHEDULES["one-cycle"](t, c) for t in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_configuration_errors():
    for change, words in (
        ({"epochs": 0}, "epochs 0 is too small"),
        ({"batch_size": 0}, "batch_size 0 is too small"),
        ({"crop": -1}, "crop -1 is too small"),
        ({"lr": 0.0}, "lr 0.0 is not a positive number"),
        ({"lr": math.nan}, "lr nan is not"),
        ({"schedule": "linear"}, "unknown schedule 'linear'; choose one of: step, cosine, one-cycle"),
        ({"precision": "int8"}, "unknown precision 'int8'; choose one of: auto"),
    ):
        with pytest.raises(ValueError, match=words):
            Config(**change)


def test_precision_policy(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert precision_of(Config(), cpu) == torch.float32
    assert precision_of(Config(precision="bfloat16"), cpu) == torch.bfloat16
    for capability, dtype in (((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), torch.float16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert precision_of(Config(), cuda) == dtype


def test_augmentation_of_an_image_does_not_depend_on_the_others():
    few, many = (draw_augmentation(n, Config(seed=3), 2, torch.device("cpu")) for n in (100, 100))
    assert all(torch.equal(a, b) for a, b in zip(few, many, strict=True))
    draws = draw_augmentation(4000, Config(crop=4), 0, torch.device("cpu"))
    assert draws.dy.unique().tolist() == draws.dx.unique().tolist() == list(range(9))
    assert 0.45 < draws.flip.float().mean() < 0.55
    assert not draw_augmentation(100, Config(flip=False, crop=0), 0, torch.device("cpu")).flip.any()


# The objective


def batch_of(y, forget, index=None):
    x = torch.zeros(len(y), 3, 2, 2, dtype=torch.uint8)
    return Batch(x, torch.tensor(y), torch.tensor(forget), torch.arange(len(y)) if index is None else index, 0)


class Fixed:
    """A weight that is what it is told to be."""

    def __init__(self, w):
        self.w, self.seen = torch.tensor(w), None

    def update(self, model, epoch):
        pass

    def __call__(self, p_true, y, loss):
        self.seen = (p_true, loss)
        return self.w


LOGITS = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0], [1.0, 1.0, 1.0], [0.5, -0.5, 0.0]])


def hand_loss(row, target):
    values = LOGITS[row].tolist()
    return math.log(sum(math.exp(v) for v in values)) - values[target]


def test_objective_is_one_mean_over_forgotten_and_retained():
    batch = batch_of([0, 1, 2, 0], [True, False, True, False])
    objective = Objective(
        target=lambda b: torch.tensor([2, 0, 1, 1]), alpha=lambda t: 3 * t, beta=0.5, weight=Fixed([0.5, 9, 2, 9])
    )
    total = 1.5 * 0.5 * hand_loss(0, 2) + 0.5 * hand_loss(1, 1) + 1.5 * 2 * hand_loss(2, 1) + 0.5 * hand_loss(3, 0)
    assert objective(LOGITS, batch, 0.5).item() == pytest.approx(total / 4, rel=1e-6)


def test_weights_see_the_true_class_and_carry_no_gradient():
    logits = LOGITS.clone().requires_grad_()
    weight = Fixed([1.0, 1.0, 1.0, 1.0])
    Objective(weight=weight, target=lambda b: (b.y + 1) % 3)(logits, batch_of([0, 1, 2, 0], [True] * 4))
    p, loss = weight.seen
    assert torch.allclose(p, LOGITS.softmax(1)[range(4), [0, 1, 2, 0]])
    assert torch.allclose(loss, -p.log()) and not p.requires_grad and not loss.requires_grad


def test_normalised_weights_average_to_one_over_the_forgotten():
    batch = batch_of([0, 1, 2, 0], [True, False, True, False])
    got = Objective(weight=Fixed([1.0, 7.0, 3.0, 7.0]), normalise=True)(LOGITS, batch)
    own = [hand_loss(r, t) for r, t in enumerate([0, 1, 2, 0])]
    assert got.item() == pytest.approx((0.5 * own[0] + own[1] + 1.5 * own[2] + own[3]) / 4, rel=1e-6)


def test_negative_cross_entropy_climbs():
    batch = batch_of([0, 1, 2, 0], [True] * 4)
    up = Objective(forget_loss=negative_cross_entropy)(LOGITS, batch)
    assert up.item() == pytest.approx(-F.cross_entropy(LOGITS, batch.y).item(), rel=1e-6)


def test_half_precision_logits_are_widened_before_the_softmax():
    saturated = torch.tensor([[12.0, 0.0], [13.0, 0.0]]).bfloat16()
    weight = Fixed([1.0, 1.0])
    Objective(weight=weight)(saturated, batch_of([0, 0], [True, True]))
    assert weight.seen[0].dtype == torch.float32 and weight.seen[0][0] != weight.seen[0][1]


# The loop against a loop written the usual way


def plain_loop(model, data, split, config):
    """The same training, with PyTorch's optimiser and nothing of ours but the random numbers."""
    sgd = {"momentum": config.momentum, "nesterov": config.nesterov}
    make, how = {
        "sgd": (torch.optim.SGD, sgd),
        "adam": (torch.optim.Adam, {"betas": (config.momentum, 0.999)}),
        "adamw": (torch.optim.AdamW, {"betas": (config.momentum, 0.999)}),
    }[config.optimizer]
    optimizer = make(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, **how)
    seen = torch.cat([split.forget, split.retain])
    step, per_epoch = 0, -(-len(seen) // config.batch_size)
    for epoch in range(config.epochs):
        model.train()
        order = torch.randperm(len(data.train.y), generator=generator(config.seed, epoch, ORDER))
        order = order[torch.isin(order, seen)]
        g = generator(config.seed, epoch, AUGMENT)
        dy, dx = torch.randint(0, 2 * config.crop + 1, (2, len(data.train.y)), generator=g)
        flip = torch.randint(0, 2, (len(data.train.y),), generator=g).bool()
        for index in order.split(config.batch_size):
            x = augment(data.train.x[index], dy[index], dx[index], flip[index], config.crop).float() / 255
            loss = nn.CrossEntropyLoss()(model(x), data.train.y[index])
            optimizer.param_groups[0]["lr"] = (
                config.lr * (1 + math.cos(math.pi * step / (per_epoch * config.epochs))) / 2
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return model


@pytest.mark.parametrize("how", [{"nesterov": True}, {"optimizer": "adam", "lr": 1e-3}, {"optimizer": "adamw"}])
def test_training_agrees_with_a_plain_loop(how, data, split, config):
    decay = {"momentum": 0.8, "weight_decay": 0.1}
    config = replace(config, schedule="cosine", epochs=1, **{**decay, **how})  # five steps: rounding grows in each
    model = create("tiny", data.num_classes, data.mean, data.std)
    expected = plain_loop(copy.deepcopy(model), data, split, config)
    train_original(model, data, split, config)
    for mine, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_training_is_reproducible_and_seeded(data, split, config):
    def train(seed):
        model = create("tiny", data.num_classes, data.mean, data.std)
        return train_original(model, data, split, replace(config, seed=seed, epochs=1))

    assert same(train(0), train(0)) and not same(train(0), train(1))


def test_clip_bounds_forget_steps_only(data, split, config, monkeypatch):
    norms = []
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda params, bound: norms.append(bound))
    model = create("tiny", data.num_classes, data.mean, data.std)
    steps = epoch_steps("alternate", split, config, 0)
    fit(model, data, split, Objective(batches="alternate", clip=7.0), replace(config, epochs=1))
    assert norms == [7.0] * sum(s.kind == "forget" for s in steps)


def test_callback_comes_after_every_epoch(data, split, config):
    seen = []
    model = create("tiny", data.num_classes, data.mean, data.std)
    fit(model, data, split, Objective(), config, on_epoch=lambda epoch, m: seen.append((epoch, m is model)))
    assert seen == [(0, True), (1, True), (2, True)]


# Masks


def half_mask(model):
    g = torch.Generator().manual_seed(1)
    return {n: torch.rand(p.shape, generator=g) < 0.5 for n, p in model.named_parameters()}


@pytest.mark.parametrize("steps", ["all", "forget"])
def test_update_mask_freezes_to_the_bit(data, split, config, steps):
    model = create("tiny", data.num_classes, data.mean, data.std)
    before, mask = copy.deepcopy(model), half_mask(model)
    batches = "union" if steps == "all" else "forget"
    objective = Objective(batches=batches, mask=mask, mask_steps=steps)
    fit(model, data, split, objective, replace(config, epochs=10, weight_decay=0.1))
    moved = 0
    for (name, p), q in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(p[~mask[name]], q[~mask[name]])
        moved += (p != q).sum().item()
    assert moved > 0.99 * sum(m.sum().item() for m in mask.values())


def test_gradient_mask_lets_decay_move_what_it_masks(data, split, config):
    model = create("tiny", data.num_classes, data.mean, data.std)
    before, mask = copy.deepcopy(model), half_mask(model)
    fit(model, data, split, Objective(mask=mask, mask_on="gradient"), config)
    after = dict(model.named_parameters())
    leaked = [after[n][~mask[n]] != p[~mask[n]] for n, p in before.named_parameters()]
    assert torch.cat(leaked).float().mean() > 0.9


def test_mask_on_forget_steps_leaves_retain_steps_free(data, split, config):
    model = create("tiny", data.num_classes, data.mean, data.std)
    nothing = {n: torch.zeros_like(p, dtype=torch.bool) for n, p in model.named_parameters()}
    objective = Objective(batches="retain", mask=nothing, mask_steps="forget")
    before = copy.deepcopy(model)
    fit(model, data, split, objective, replace(config, epochs=1))
    assert not same(model, before)


def test_freeze_restores_after_anything():
    layer = nn.Linear(4, 3)
    kept = layer.weight.detach().clone()
    freeze = Freeze(dict(layer.named_parameters()), {"weight": torch.eye(3, 4).bool(), "bias": torch.ones(3).bool()})
    with torch.no_grad():
        layer.weight.mul_(-7).add_(3)
    freeze.restore()
    assert torch.equal(layer.weight[~torch.eye(3, 4).bool()], kept[~torch.eye(3, 4).bool()])
    assert torch.allclose(layer.weight.diagonal(), -7 * kept.diagonal() + 3)


# Predictions


def test_predict_is_eval_mode_softmax_without_augmentation(data, split, original):
    pred = predict(original, data, split)
    with torch.no_grad():
        expected = original(data.test.x.float() / 255).softmax(1)
    assert torch.allclose(pred.test.p, expected, atol=1e-6) and torch.equal(pred.test.y, data.test.y)
    assert torch.equal(pred.forget.y, data.train.y[split.forget])
    assert [len(part.y) for part in pred] == [len(split.forget), len(split.retain), len(split.val), len(data.test.y)]


def test_predict_restores_the_mode_and_leaves_batch_norm_alone(data, split, original):
    model = copy.deepcopy(original).train()
    predict(model, data, split)
    assert model.training and same(model, original)


def test_a_diverged_model_is_reported(data, split, original):
    broken = copy.deepcopy(original)
    with torch.no_grad():
        broken.head.bias[0] = float("nan")
    with pytest.raises(FloatingPointError, match="diverged; lower the learning rate"):
        predict(broken, data, split)


@pytest.mark.fault("a loss is infinite or not a number", "an error that names the step and the epoch, and the way out")
@pytest.mark.parametrize("value", ["nan", "-inf"])
def test_a_loss_that_is_no_number_is_reported_with_its_step(value, data, split, config):
    ended = []

    def penalty(model, progress):
        return torch.tensor(float(value) if progress > 0.5 else 0.0)

    model = create("tiny", data.num_classes, data.mean, data.std)
    # 144 images in steps of 32 make five an epoch, and fifteen in all: the ninth is the first beyond one half
    words = f"^the loss is {value} at step 4 of 5 in epoch 2: it has diverged; lower"
    with pytest.raises(FloatingPointError, match=words):
        fit(model, data, split, Objective(penalty=penalty), config, lambda epoch, model: ended.append(epoch))
    assert ended == [0]


def test_a_split_of_other_data_is_refused(data, split):
    other = data._replace(train=data.train._replace(y=data.train.y[:100], x=data.train.x[:100]))
    with pytest.raises(ValueError, match="the split holds 180 images and the training set 100"):
        check_split(other, split)


def test_constant():
    assert constant(2.5)(0.3) == 2.5


@pytest.mark.parametrize("training", [True, False])
def test_features_are_what_the_head_sees_in_eval_mode(data, training):
    model = create("tiny", data.num_classes, data.mean, data.std, seed=3).train(training)
    before = copy.deepcopy(model.state_dict())
    index = torch.tensor([5, 0, 7])
    got = features(model, data.train.x, index)
    assert got.shape == (3, model.head.in_features) and got.dtype == torch.float32 and not got.requires_grad
    assert model.training == training and not model.head._forward_pre_hooks
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model.head(got), model(data.train.x[index]))


def test_features_leave_no_hook_behind_when_the_network_fails(data):
    model = create("tiny", data.num_classes, data.mean, data.std)
    with pytest.raises(RuntimeError):
        features(model, data.train.x[:, :1].float().expand(-1, 5, -1, -1), torch.tensor([0]))
    assert not model.head._forward_pre_hooks


def test_features_of_more_images_than_one_chunk(data):
    model = create("tiny", data.num_classes, data.mean, data.std, seed=3).eval()
    index = torch.arange(180).repeat(2)  # 256 at a time
    with torch.no_grad():
        torch.testing.assert_close(model.head(features(model, data.train.x, index)), model(data.train.x[index]))


# The last batch of a pass, and the first step at a milestone


def test_a_last_batch_of_one_image_stays_alone_where_nothing_trains(split, config):
    one_more = replace(config, batch_size=len(split.forget) - 1)
    for batches in ("forget", "sequential", "alternate"):
        joined, alone = (epoch_steps(batches, split, one_more, 0, join=join) for join in (True, False))
        first = (next(len(s.index) for s in steps if s.kind == "forget") for steps in (joined, alone))
        assert list(first) == [len(split.forget), len(split.forget) - 1]
    singles = epoch_steps("retain", split, replace(config, batch_size=1), 0, join=False)
    assert [len(s.index) for s in singles] == [1] * len(split.retain)


def test_the_rate_falls_at_the_first_step_of_a_milestone_and_not_before():
    """In floating point (29 / 50) * 50 < 29, and so for 3,276 of all pairs of a milestone and up to 400 epochs."""
    steps, wrong = 7, []  # of an epoch
    for epochs in range(1, 401):
        for milestone in range(1, epochs):
            c = SimpleNamespace(epochs=epochs, milestones=(milestone,))
            last, first = (
                SCHEDULES["step"](k / (steps * epochs), c) for k in (steps * milestone - 1, steps * milestone)
            )
            if (last, first) != (1, 0.1):
                wrong.append((milestone, epochs))
    assert not wrong


# Values that no configuration can have, and those that would change nothing


def test_a_configuration_that_means_nothing_is_refused():
    for change, words in (
        ({"epochs": 2.5}, "epochs 2.5 is not a whole number"),
        ({"seed": 2**63}, "seed 9223372036854775808 is too large: give a whole number from 0 to"),
        ({"momentum": 1.0}, "momentum 1.0 is outside"),
        ({"momentum": math.nan}, "momentum nan is outside"),
        ({"momentum": 0.0, "nesterov": True}, "nesterov True looks ahead along the momentum, which is 0"),
        ({"optimizer": "adam", "nesterov": True}, "nesterov True changes nothing under optimizer 'adam': leave it out"),
        ({"optimizer": "rmsprop"}, "unknown optimizer 'rmsprop'; choose one of: sgd, adam, adamw"),
        ({"weight_decay": -1e-4}, "weight_decay -0.0001 is not a number from 0 up"),
        ({"coefficient": math.inf}, "coefficient inf is not a number from 0 up"),
        ({"milestones": (10,)}, "milestones (10,) are not whole numbers that rise within 1..9"),
        ({"milestones": (6, 3)}, "milestones (6, 3) are not"),
        ({"milestones": (0,)}, "milestones (0,) are not"),
        ({"milestones": (3,), "schedule": "cosine"}, "milestones (3,) change nothing under schedule 'cosine'"),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(words)):
            Config(**change)
