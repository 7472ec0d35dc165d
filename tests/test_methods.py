"""Every method against one contract, and each against a few lines written independently of the package."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from conftest import ROWS
from torch import nn
from torch.nn import functional as F

from falw import adversarial, influence, methods, parts
from falw.config import Config
from falw.methods import ALIASES, METHODS, VARIANTS, find_method, unlearn
from falw.metrics import score
from falw.models import true_probability
from falw.modules import widen_head
from falw.parts import Task
from falw.train import ORDER, Batch, draw_augmentation, epoch_steps, generator, load_batch, predict
from falw.weights import FaLW, balance_factor, class_stats, forgetting_weight, z_score

ITERATIVE = [name for name, row in METHODS.items() if row.function is None]


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def first_batch(task, epoch=0, step=0):
    row_steps = epoch_steps("union", task.split, task.config, epoch)
    forget = torch.zeros(len(task.data.train.y), dtype=torch.bool)
    forget[task.split.forget] = True
    draws = draw_augmentation(len(task.data.train.y), task.config, epoch, torch.device("cpu"))
    return load_batch(task.data.train, row_steps[step].index, draws, task.config, forget, epoch)


@pytest.fixture
def task(original, data, split, config):
    return Task(original, data, split, config)


# One contract for all

# A search of fewer steps: the whole of it takes as long as all others together.
QUICK = {"amun": replace(METHODS["amun"], enlarge=adversarial.nearest_examples(steps=3))}
GENTLE = {"retrain": {"epochs": 10, "lr": 0.1}, "iu": {"coefficient": 0.02}}  # the rest: a low rate


@pytest.mark.parametrize("name", ROWS)
def test_contract(name, original, data, split, config):
    config, row = replace(config, **GENTLE.get(name, {"lr": 0.003})), QUICK.get(name, name)
    model = unlearn(row, original, data, split, config)
    assert model is not original and not model.training
    shapes = [(k, v.shape) for k, v in original.state_dict().items()]
    assert [(k, v.shape) for k, v in model.state_dict().items()] == shapes
    assert all(torch.isfinite(v).all() for v in model.state_dict().values())
    assert torch.equal(parameters(unlearn(row, original, data, split, config)), parameters(model))
    other = unlearn(row, original, data, split, replace(config, seed=1))
    assert not torch.equal(parameters(other), parameters(model))
    assert not torch.equal(parameters(model), parameters(original))
    assert score(predict(model, data, split)).ra > 100 / data.num_classes + 10


def test_unknown_method_names_the_choice(original, data, split, config):
    with pytest.raises(ValueError, match="unknown method 'salum'; choose one of: retrain, ft, rl, .*salun.falw"):
        unlearn("salum", original, data, split, config)


def test_variants_exchange_one_part_of_a_row():
    for name, variant in VARIANTS.items():
        others = [row for row in (*METHODS.values(), *VARIANTS.values()) if row is not variant]
        assert min(len(variant.differences(row)) for row in others) == 1, name


def test_two_rows_differ_in_their_parts_and_not_in_what_they_say_of_themselves():
    rl, other = METHODS["rl"], {"clip": 1.0, "mask_on": "gradient"}
    assert replace(rl, name="x", summary="-", search=(), tuned_as="ga", colour="#123456").differences(rl) == []
    assert rl.differences(replace(rl, **other)) == ["mask_on", "clip"]


def test_aliases_are_rows():
    assert all(find_method(alias) is METHODS[name] for alias, name in ALIASES.items())


def test_a_new_method_is_one_row(original, data, split, config):
    row = replace(METHODS["ga"], summary="ascent, softly", alpha=lambda task: lambda t: 0.1)
    assert not torch.equal(parameters(unlearn(row, original, data, split, config)), parameters(original))


# Labels


def labels(build, task, epoch):
    index = torch.arange(len(task.data.train.y))
    batch = Batch(task.data.train.x, task.data.train.y, torch.ones(len(index), dtype=torch.bool), index, epoch)
    return build(task)(batch)


def test_random_labels_once_are_other_classes_and_stay(task):
    first = labels(parts.random_labels(), task, 0)
    assert (first != task.data.train.y).all() and first.min() >= 0 and first.max() < task.data.num_classes
    assert torch.equal(first, labels(parts.random_labels(), task, 5))
    others = [(first - task.data.train.y) % task.data.num_classes]
    assert torch.cat(others).unique().tolist() == list(range(1, task.data.num_classes))


def test_official_random_labels_are_redrawn_and_may_be_the_own(task):
    build = parts.random_labels(redraw=True, may_be_own=True)
    first, second = labels(build, task, 0), labels(build, task, 1)
    assert not torch.equal(first, second) and torch.equal(first, labels(build, task, 0))
    share = torch.stack([labels(build, task, e) == task.data.train.y for e in range(40)]).double().mean()
    assert abs(share - 1 / task.data.num_classes) < 0.02


def test_nearest_label_is_one_signed_step(task):
    batch = first_batch(task)
    got = adversarial.nearest_label(0.1)(task)(batch)
    for i in range(6):
        x = (batch.x[i : i + 1].double() / 255).float().requires_grad_()
        nn.CrossEntropyLoss()(task.original(x), batch.y[i : i + 1]).backward()
        moved = torch.round(torch.clamp(x.detach() + 0.1 * x.grad.sign(), 0, 1) * 255) / 255
        assert got[i] == task.original(moved).argmax()
    task.original.zero_grad()


# Masks


def gradient_sum(task, squared=False):
    model = copy.deepcopy(task.original)
    total = None
    forget = torch.zeros(len(task.data.train.y), dtype=torch.bool)
    draws = draw_augmentation(len(task.data.train.y), task.config, 0, torch.device("cpu"))
    for step in epoch_steps("forget", task.split, task.config, 0):
        batch = load_batch(task.data.train, step.index, draws, task.config, forget, 0)
        model.zero_grad()
        (-nn.CrossEntropyLoss()(model(batch.x), batch.y)).backward()
        g = torch.cat([p.grad.flatten() for p in model.parameters()])
        total = g if total is None else total + g
    return total


def test_saliency_mask_is_the_global_top_of_the_summed_gradient(task):
    mask = torch.cat([m.flatten() for m in parts.saliency_mask(0.2)(task).values()])
    size = gradient_sum(task).abs()
    assert mask.sum() == int(0.2 * len(mask))
    assert size[mask].min() >= size[~mask].max() - 1e-6


def test_fisher_mask_compares_mean_squares(task):
    mask = parts.fisher_mask()(task)
    model, fisher = copy.deepcopy(task.original), {}
    draws = draw_augmentation(len(task.data.train.y), task.config, 0, torch.device("cpu"))
    forget = torch.zeros(len(task.data.train.y), dtype=torch.bool)
    for part in ("forget", "retain"):
        squares = []
        for step in epoch_steps(part, task.split, task.config, 0):
            batch = load_batch(task.data.train, step.index, draws, task.config, forget, 0)
            model.zero_grad()
            nn.CrossEntropyLoss()(model(batch.x), batch.y).backward()
            squares.append(model.head.weight.grad.clone() ** 2)
        fisher[part] = torch.stack(squares).mean(0)
    expected = fisher["forget"] >= fisher["retain"]
    assert (mask["head.weight"] == expected).float().mean() > 0.99
    assert 0.05 < torch.cat([m.flatten() for m in mask.values()]).float().mean() < 0.95


def test_salun_freezes_half_of_the_network_to_the_bit(original, data, split, config):
    task = Task(original, data, split, config)
    mask = METHODS["salun"].mask(task)
    model = unlearn("salun", original, data, split, replace(config, epochs=5, weight_decay=0.05))
    count = sum(m.numel() for m in mask.values())
    assert sum(m.sum().item() for m in mask.values()) == int(0.5 * count)
    for (name, p), q in zip(model.named_parameters(), original.parameters(), strict=True):
        assert torch.equal(p[~mask[name]], q[~mask[name]])


def test_official_mask_leak_moves_frozen_weights(original, data, split, config):
    leaky = replace(METHODS["salun"], mask_on="gradient")
    mask = METHODS["salun"].mask(Task(original, data, split, config))
    model = unlearn(leaky, original, data, split, config)
    moved = [(p != q)[~mask[n]] for (n, p), q in zip(model.named_parameters(), original.parameters(), strict=True)]
    assert torch.cat(moved).float().mean() > 0.9


# One step of each method, written out


def one_step(name, original, data, split, config):
    """The parameters after the first epoch of `name`, where that is a single batch."""
    return parameters(unlearn(name, original, data, split, replace(config, epochs=1, batch_size=1000)))


def written_out(original, loss_of, task, lr):
    """theta - lr * (gradient + decay * theta), which is SGD's first step whatever its momentum."""
    model = copy.deepcopy(original).train()
    loss_of(model).backward()
    return torch.cat([(p - lr * (p.grad + 5e-4 * p)).detach().flatten() for p in model.parameters()])


@pytest.fixture
def single(original, data, split, config):
    """A task of one batch an epoch and what is in that batch."""
    task = Task(original, data, split, replace(config, epochs=1, batch_size=1000))
    draws = draw_augmentation(len(data.train.y), task.config, 0, torch.device("cpu"))
    flags = torch.zeros(len(data.train.y), dtype=torch.bool)
    flags[split.forget] = True

    def batch(part):
        (step,) = epoch_steps(part, split, task.config, 0)
        return load_batch(data.train, step.index, draws, task.config, flags, 0)

    return task, batch


def check_step(name, original, data, split, config, loss_of, task):
    expected = written_out(original, loss_of, task, config.lr)
    assert torch.allclose(one_step(name, original, data, split, config), expected, atol=1e-5)


def test_ft_step(original, data, split, config, single):
    task, batch = single
    b = batch("retain")
    check_step("ft", original, data, split, config, lambda m: nn.CrossEntropyLoss()(m(b.x), b.y), task)


def test_ga_step(original, data, split, config, single):
    task, batch = single
    b = batch("forget")
    check_step("ga", original, data, split, config, lambda m: -nn.CrossEntropyLoss()(m(b.x), b.y), task)


def test_l1_step(original, data, split, config, single):
    task, batch = single
    b = batch("retain")

    def loss(model):
        return nn.CrossEntropyLoss()(model(b.x), b.y) + 5e-4 * sum(p.abs().sum() for p in model.parameters())

    check_step("l1-sparse", original, data, split, config, loss, task)


def test_l1_fades_by_epoch(task):
    penalty = parts.fading_l1(0.1)(task)
    model = nn.Linear(2, 1)
    norm = sum(p.abs().sum() for p in model.parameters()).item()
    got = [penalty(model, t).item() / norm for t in (0, 0.3, 0.34, 0.66, 0.67, 0.99)]
    assert got == pytest.approx([0.1 * f for f in (1, 1, 2 / 3, 2 / 3, 1 / 3, 1 / 3)], rel=1e-4)


def test_rl_step_is_one_mean_over_both_parts(original, data, split, config, single):
    task, batch = single
    b = batch("union")
    target = torch.where(b.forget, METHODS["rl"].targets(task)(b), b.y)
    check_step("rl", original, data, split, config, lambda m: nn.CrossEntropyLoss()(m(b.x), target), task)


def test_rl_sequential_ends_on_retained_data(original, data, split, config):
    mixed = unlearn("rl", original, data, split, config)
    sequential = unlearn(replace(METHODS["rl"], batches="sequential"), original, data, split, config)
    assert not torch.equal(parameters(mixed), parameters(sequential))


def test_bs_step(original, data, split, config, single):
    task, batch = single
    b = batch("forget")
    target = adversarial.nearest_label()(task)(b)
    check_step("bs", original, data, split, config, lambda m: nn.CrossEntropyLoss()(m(b.x), target), task)


def test_be_step_trains_an_extra_class_and_takes_it_away(original, data, split, config, single):
    task, batch = single
    b = batch("forget")
    wide = copy.deepcopy(original)
    widen_head(wide.head, config.seed)
    assert torch.equal(wide.head.weight[:-1], original.head.weight) and wide.head.out_features == data.num_classes + 1
    target = torch.full_like(b.y, data.num_classes)
    expected = written_out(wide, lambda m: nn.CrossEntropyLoss()(m(b.x), target), task, config.lr)
    kept = unlearn(replace(METHODS["be"], keep_extra=True), original, data, split, task.config)
    assert torch.allclose(parameters(kept), expected, atol=1e-5)
    pruned = unlearn("be", original, data, split, task.config)
    assert torch.equal(pruned.head.weight, kept.head.weight[:-1]) and pruned.head.out_features == data.num_classes


def algorithm_1_loss(b, target, data, split, tau=0.15):
    """Algorithm 1 for one batch, sample by sample, in plain Python numbers."""

    def loss(model):
        model.eval()
        with torch.no_grad():
            p_val = model(data.train.x[split.val].float() / 255).softmax(1)
        y_val = data.train.y[split.val]
        logits = model.train()(b.x)
        terms = []
        for i in range(len(b.y)):
            c = b.y[i].item()
            if not b.forget[i]:
                terms.append(F.cross_entropy(logits[i : i + 1], b.y[i : i + 1]))
                continue
            unseen = [p_val[j, c].item() for j in range(len(y_val)) if y_val[j] == c]
            mean = sum(unseen) / len(unseen)
            std = max(math.sqrt(sum((u - mean) ** 2 for u in unseen) / (len(unseen) - 1)), 1e-3)
            z = (logits[i].softmax(0)[c].item() - mean) / std
            balance = (len(split.forget) / (data.num_classes * split.forget_counts[c].item())) ** tau
            w = 1 + math.copysign(math.tanh(abs(z)) ** (1 / balance), z)
            terms.append(w * F.cross_entropy(logits[i : i + 1], target[i : i + 1]))
        return torch.stack(terms).mean()

    return loss


def test_falw_step_is_algorithm_1(original, data, split, config, single):
    task, batch = single
    b = batch("union")
    target = parts.random_labels()(task)(b)
    model = copy.deepcopy(original)
    loss = algorithm_1_loss(b, target, data, split)
    model.eval()
    expected = written_out(original, loss, task, config.lr)
    assert torch.allclose(one_step("rl+falw", original, data, split, config), expected, atol=1e-5)


def port_of_falw_loss(b, target, data, split, tau=0.15):
    """The public port's cost of one batch: moments of p in one pass with n below, weights, one mean over both parts."""
    classes = data.num_classes

    def loss(model):
        model.eval()
        with torch.no_grad():
            probabilities = model(data.train.x[split.val].float() / 255).double().softmax(1)
        y_val = data.train.y[split.val]
        p = probabilities[torch.arange(len(y_val)), y_val]
        n = torch.bincount(y_val, minlength=classes)
        mean, square = (torch.bincount(y_val, moment, classes) / n for moment in (p, p * p))
        std = (square - mean * mean).clamp(min=0).sqrt().clamp(min=1e-8)
        logits = model.train()(b.x)
        y, logits_f = b.y[b.forget], logits[b.forget]
        z = (logits_f.detach().double().softmax(1)[torch.arange(len(y)), y] - mean[y]) / std[y]
        balance = (len(split.forget) / (classes * split.forget_counts[y])) ** tau
        w = 1 + z.sign() * z.abs().tanh() ** (1 / balance)
        forget = (w * F.cross_entropy(logits_f, target[b.forget], reduction="none")).sum()
        return (forget + F.cross_entropy(logits[~b.forget], b.y[~b.forget], reduction="sum")) / len(b.y)

    return loss


def test_the_port_of_falw_steps_as_the_port_does(original, data, split, config, single):
    task, batch = single
    b = batch("union")
    loss = port_of_falw_loss(b, METHODS["rl"].targets(task)(b), data, split)
    check_step("falw-port", original, data, split, config, loss, task)
    assert VARIANTS["falw-port"].weight(task).spread["floor"] == 1e-8  # no class of these is so sure


BASE_TO_FALW = {"rl": "rl+falw", "salun": "falw", "ga": "ga+falw", "sfron": "sfron+falw"}


def test_falw_is_one_replace():
    for base, name in BASE_TO_FALW.items():
        changed = METHODS[base].differences(METHODS[name])
        assert "weight" in changed and set(changed) <= {"weight", "targets"}


def test_ga_falw_weights_vanish_as_the_probability_falls_below_the_class_mean(task):
    weight = METHODS["ga+falw"].weight(task)
    weight.update(task.original, 0)
    y = torch.zeros(5, dtype=torch.long)
    mean, std = weight.stats.mean[0].item(), weight.stats.std[0].item()
    p = torch.tensor([mean + 2 * std, mean, mean - std / 2, mean - 2 * std, mean - 5 * std])
    w = weight(p, y)
    assert w[1].item() == pytest.approx(1, abs=1e-3) and (w[:-1] > w[1:]).all() and w[-1] < 1e-3


def test_falw_reads_unseen_images_of_the_split(task):
    weight = METHODS["falw"].weight(task)
    weight.update(task.original, 0)
    val = task.split.val
    p = true_probability(task.original, task.data.train.x, task.data.train.y, val)
    stats = class_stats(p, task.data.train.y[val], task.data.num_classes)
    y = torch.arange(task.data.num_classes)
    got = weight(torch.full((len(y),), 0.5), y)
    z = z_score(torch.full((len(y),), 0.5), y, stats)
    expected = forgetting_weight(z, balance_factor(task.split.forget_counts, 0.15))
    assert torch.allclose(got, expected.float()) and isinstance(weight, FaLW)


# SFRon and IU


def test_sfron_sequence_is_written_out(original, data, split, config):
    """Forget step (weighted ascent, mask, clip), then retain step, one optimiser, cosine rate."""
    config = replace(config, epochs=2, batch_size=24)
    task = Task(original, data, split, replace(config, schedule="cosine"))
    mask = parts.fisher_mask()(task)
    model = copy.deepcopy(original).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9, weight_decay=5e-4)
    forget = torch.zeros(len(data.train.y), dtype=torch.bool)
    forget[split.forget] = True
    per_epoch = len(epoch_steps("retain", split, config, 0))
    t = 0
    for epoch in range(2):
        draws = draw_augmentation(len(data.train.y), config, epoch, torch.device("cpu"))
        for step in epoch_steps("alternate", split, config, epoch):
            b = load_batch(data.train, step.index, draws, config, forget, epoch)
            fade = (1 + math.cos(math.pi * t / (2 * per_epoch))) / 2
            optimizer.param_groups[0]["lr"] = config.lr * fade
            optimizer.zero_grad()
            losses = F.cross_entropy(model(b.x), b.y, reduction="none")
            if step.kind == "forget":
                a = 1 / (losses.detach().sqrt() + 1e-15)
                (-25 * fade * (a * losses).sum() / a.sum()).backward()
                for name, p in model.named_parameters():
                    p.grad *= mask[name]
                nn.utils.clip_grad_norm_(model.parameters(), 7.0)
            else:
                losses.mean().backward()
                t += 1
            optimizer.step()
    got = unlearn("sfron", original, data, split, config)
    assert torch.allclose(parameters(got), parameters(model), atol=2e-4)


def test_sfron_coefficient_comes_from_the_configuration(task):
    assert METHODS["sfron"].alpha(task)(0.0) == 25 and METHODS["sfron"].alpha(task)(1.0) == pytest.approx(0)
    tuned = task._replace(config=replace(task.config, coefficient=4.0))
    assert METHODS["sfron"].alpha(tuned)(0.5) == pytest.approx(2)


def dense_hessian(task, samples):
    g = torch.stack(list(influence._single_gradients(task, samples))).double()
    return g, torch.eye(g.shape[1], dtype=torch.double) + g.T @ g / samples


class Small(nn.Module):
    """Few enough parameters for a dense Hessian."""

    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(12, classes)

    def forward(self, x):
        x = x.float() / 255 if x.dtype == torch.uint8 else x
        return self.head(F.avg_pool2d(x, 4).flatten(1))


@pytest.fixture
def small_task(data, split, config):
    torch.manual_seed(0)
    return Task(Small(data.num_classes).eval(), data, split, config)


def test_exact_influence_solves_the_dense_system(small_task):
    samples = 40
    _, hessian = dense_hessian(small_task, samples)
    v = influence._left_out(small_task)
    expected = torch.linalg.solve(hessian, v.double()).float()
    model = influence.influence(alpha=2.0, samples=samples, exact=True)(small_task)
    step = (parameters(model) - parameters(small_task.original)) / 2
    assert torch.allclose(step, expected, atol=1e-6)


def test_official_influence_collapses_to_one_direction(small_task):
    v = influence._left_out(small_task)
    gradients = list(influence._single_gradients(small_task, 60))
    k = influence._one_direction(v, iter(gradients), 60)
    along = gradients[0] / gradients[0].norm()
    rest = (k - v) - ((k - v) @ along) * along
    assert (k - v).norm() > 1e-6 and rest.norm() < 1e-4 * (k - v).norm()
    exact = influence._woodfisher(v, iter(gradients), 60)
    assert F.cosine_similarity(exact - v, along, dim=0).abs() < 0.999


def test_influence_gradient_is_written_out(small_task):
    task = small_task
    model, grads = copy.deepcopy(task.original), {}
    draws = draw_augmentation(len(task.data.train.y), task.config, 0, torch.device("cpu"))
    flags = torch.zeros(len(task.data.train.y), dtype=torch.bool)
    for part in ("forget", "retain"):
        b = load_batch(task.data.train, getattr(task.split, part), draws, task.config, flags, 0)
        model.zero_grad()
        nn.CrossEntropyLoss()(model(b.x), b.y).backward()
        grads[part] = torch.cat([p.grad.flatten() for p in model.parameters()])
    share = len(task.split.forget) / (len(task.split.forget) + len(task.split.retain))
    assert torch.allclose(influence._left_out(task), share * (grads["forget"] - grads["retain"]), atol=1e-6)


def test_influence_refuses_to_store_too_much():
    with pytest.raises(ValueError, match="choose 200 or fewer"):
        influence.influence(samples=201, exact=True)


def test_config_of_a_method_wins(original, data, split, config, monkeypatch):
    seen = []
    monkeypatch.setattr(methods, "fit", lambda *args: seen.append(args[4]))
    unlearn("sfron", original, data, split, replace(config, schedule="step"))
    assert isinstance(seen[0], Config) and seen[0].schedule == "cosine"


def test_a_sweep_moves_the_number_in_its_name(original, data, split, config):
    task = Task(original, data, split, config)
    made = {name: row.weight(task) for name, row in VARIANTS.items() if row.tuned_as in ("falw", "rl+falw")}
    for name, w in made.items():
        tau = float(name[8:]) if name.startswith("falw-tau") else 0.15
        assert torch.equal(w.balance, balance_factor(split.forget_counts, tau)), name
        assert w.refresh == {"every10": 10, "epoch": "epoch", "rolling": "rolling"}.get(name.rpartition("-")[2], 1)
    assert len(made) == 9
    same = ("batches", "targets", "mask", "mask_on", "forget_loss")
    base = {name: METHODS[VARIANTS[name].tuned_as] for name in made}
    assert all(getattr(VARIANTS[n], k) == getattr(base[n], k) for n in made for k in same)


# Where nothing trains, a last batch of one image is a batch of its own


def gradients_of_batches(task, part):
    """The gradient of each batch of a part, the order cut by hand."""
    order = torch.randperm(len(task.data.train.y), generator=generator(task.config.seed, 0, ORDER)).tolist()
    chosen, size = set(getattr(task.split, part).tolist()), task.config.batch_size
    index = torch.tensor([i for i in order if i in chosen])
    draws = draw_augmentation(len(task.data.train.y), task.config, 0, torch.device("cpu"))
    forget = torch.zeros(len(task.data.train.y), dtype=torch.bool)
    model, found = copy.deepcopy(task.original), []
    for start in range(0, len(index), size):
        batch = load_batch(task.data.train, index[start : start + size], draws, task.config, forget, 0)
        model.zero_grad()
        nn.CrossEntropyLoss()(model(batch.x), batch.y).backward()
        found.append(flat([p.grad for p in model.parameters()]))
    return torch.stack(found)


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


@pytest.fixture
def one_over(task):
    """A task whose forget set is one image more than a batch."""
    return task._replace(config=replace(task.config, batch_size=len(task.split.forget) - 1))


def test_the_saliency_of_a_last_batch_of_one_image_counts_as_a_batch(one_over):
    gradients = gradients_of_batches(one_over, "forget")
    size, mask = gradients.sum(0).abs(), flat(parts.saliency_mask()(one_over).values())
    assert len(gradients) == 2 and size[mask].min() >= size[~mask].max() - 1e-6


def test_the_fisher_mask_squares_a_last_batch_of_one_image_by_itself(one_over):
    forget, retain = (gradients_of_batches(one_over, part).square().mean(0) for part in ("forget", "retain"))
    mask = flat(parts.fisher_mask()(one_over).values())
    clear = (forget - retain).abs() > 1e-3 * retain  # entries that rounding does not decide
    assert clear.float().mean() > 0.9 and torch.equal(mask[clear], (forget >= retain)[clear])


def test_single_gradients_are_of_single_images_to_the_last(small_task):
    found = torch.stack(list(influence._single_gradients(small_task, 1000)))
    expected = gradients_of_batches(small_task._replace(config=replace(small_task.config, batch_size=1)), "retain")
    assert len(found) == len(small_task.split.retain) < 1000
    assert torch.allclose(found, expected, atol=1e-6)


# Selective synaptic dampening


def fisher_by_hand(task, index):
    """The mean over batches of the squared gradient, the order of the first epoch cut by hand."""
    order = torch.randperm(len(task.data.train.y), generator=generator(task.config.seed, 0, ORDER))
    order = order[torch.isin(order, index)]
    draws = draw_augmentation(len(task.data.train.y), task.config, 0, torch.device("cpu"))
    model, squares = copy.deepcopy(task.original), []
    for part in order.split(task.config.batch_size):
        batch = load_batch(task.data.train, part, draws, task.config, torch.zeros(len(task.data.train.y)), 0)
        model.zero_grad()
        nn.CrossEntropyLoss()(model(batch.x), batch.y).backward()
        squares.append(flat([p.grad for p in model.parameters()]).double() ** 2)
    return torch.stack(squares).mean(0)


@pytest.mark.parametrize(("coefficient", "alpha"), [(None, 10.0), (2.0, 2.0)])
def test_ssd_shrinks_what_matters_more_to_the_forget_set(task, coefficient, alpha):
    forget, everything = (
        fisher_by_hand(task, i) for i in (task.split.forget, torch.cat([task.split.forget, task.split.retain]))
    )
    ratio, theta = everything / forget, parameters(task.original)
    expected = torch.where(ratio * alpha < 1, theta * ratio, theta)
    config = replace(task.config, coefficient=coefficient)
    got = parameters(unlearn("ssd", task.original, task.data, task.split, config))
    clear = (ratio * alpha - 1).abs() > 1e-3  # entries that rounding does not decide
    assert clear.float().mean() > 0.9 and torch.allclose(got[clear], expected[clear].float(), rtol=1e-3)
    assert (got != theta).any() and (got == theta).any()


# AMUN


def nearest_by_hand(model, x, y, bound=0.04, steps=12):
    """The nearest image of another class, sought image by image in float64 with the gradient of the cross-entropy."""
    while True:
        moved = start = x.double() / 255
        for step in range(steps + 1):
            seen = ((moved * 255).round() / 255).requires_grad_()
            logits = model(seen[None])
            if logits.argmax() != y:
                return (seen.detach() * 255).round().byte(), logits.argmax().item(), bound
            if step < steps:
                (g,) = torch.autograd.grad(nn.CrossEntropyLoss()(logits, y[None]), seen)
                delta = moved + bound / 10 * g / g.norm() - start
                moved = (start + delta * min(1, bound / delta.norm().item())).clamp(0, 1)
        bound *= 2


def test_adversarial_examples_are_the_nearest_images_of_another_class(task):
    larger = adversarial.nearest_examples(steps=12)(task)
    n, forget = len(task.data.train.y), task.split.forget
    x, y = (t[n:] for t in larger.data.train)
    assert len(y) == len(forget) and (y != task.data.train.y[forget]).all()
    assert torch.equal(task.original(x).argmax(1), y)  # wrong as they are stored
    model, same = copy.deepcopy(task.original).double(), []
    for k in range(0, len(forget), 6):
        image, label, bound = nearest_by_hand(model, task.data.train.x[forget[k]], task.data.train.y[forget[k]])
        same.append(label == y[k] and (image.int() - x[k].int()).abs().double().mean() < 0.03)
        assert ((x[k].double() - task.data.train.x[forget[k]]) / 255).norm() <= bound + 0.5 / 255 * x[k].numel() ** 0.5
    assert sum(same) >= 0.8 * len(same)  # a rounded pixel may go either way


def test_images_known_by_heart_and_images_that_are_wrong_have_examples(task):
    sure = copy.deepcopy(task.original)
    with torch.no_grad():
        sure.head.weight.mul_(1e4)
        sure.head.bias.mul_(1e4)  # the gradient of the cross-entropy is 0 in float32
    find = adversarial.nearest_examples(steps=12)
    found = find(task._replace(original=sure))
    assert len(found.data.train.y) == len(task.data.train.y) + len(task.split.forget)
    other = task._replace(data=task.data._replace(train=task.data.train._replace(y=task.data.train.y.roll(1))))
    forget, wrong = task.split.forget, sure(task.data.train.x).argmax(1) != task.data.train.y.roll(1)
    x, _ = (t[len(task.data.train.y) :] for t in find(other).data.train)
    assert wrong[forget].any() and torch.equal(x[wrong[forget]], task.data.train.x[forget][wrong[forget]])


def test_an_image_of_which_nothing_changes_the_class_has_no_example(task):
    stubborn = nn.Sequential(nn.Flatten(), nn.Linear(task.data.train.x[0].numel(), task.data.num_classes)).eval()
    with torch.no_grad():
        stubborn[1].weight.mul_(1e-9)
    stubborn = Bytes(stubborn)
    said = stubborn(task.data.train.x[:1]).argmax().item()
    found = adversarial.nearest_examples(steps=3)(task._replace(original=stubborn))
    right = task.data.train.y[task.split.forget] == said
    assert right.any() and len(found.split.retain) == len(task.split.retain) + (~right).sum()


class Bytes(nn.Module):
    """A network for floats that takes bytes, too."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x.float() / 255 if x.dtype == torch.uint8 else x)


def test_amun_step_is_one_mean_over_all_images_and_the_examples(original, data, split, config, single):
    larger = QUICK["amun"].enlarge(single[0])
    images, chosen = larger.data.train, torch.cat([split.forget, larger.split.retain])
    assert torch.equal(larger.split.forget, split.forget) and len(chosen) < 1000
    draws = draw_augmentation(len(images.y), config, 0, torch.device("cpu"))
    b = load_batch(images, chosen, draws, config, torch.zeros(len(images.y)), 0)
    check_step(QUICK["amun"], original, data, split, config, lambda m: nn.CrossEntropyLoss()(m(b.x), b.y), larger)


# REWEIGHT


def test_retained_images_are_drawn_by_the_class_shares_of_all(task):
    y, split = task.data.train.y, task.split
    retained = torch.bincount(y[split.retain], minlength=6)
    trained = retained + torch.bincount(y[split.forget], minlength=6)
    sampling = parts.class_shares(task)
    assert torch.allclose(sampling[split.retain], (trained / retained)[y[split.retain]].double())
    seen = []
    for epoch in range(200):
        drawn = epoch_steps("union", split, task.config, epoch, sampling=sampling)
        plain = epoch_steps("union", split, task.config, epoch)
        assert [(len(s.index), s.progress) for s in drawn] == [(len(s.index), s.progress) for s in plain]
        index, before = (torch.cat([s.index for s in steps]) for steps in (drawn, plain))
        kept = torch.isin(before, split.forget)
        assert torch.equal(index[kept], before[kept]) and torch.isin(index[~kept], split.retain).all()
        seen.append(index[~kept])
    share = torch.bincount(y[torch.cat(seen)], minlength=6) / sum(map(len, seen))
    assert torch.allclose(share, trained / trained.sum(), atol=0.01)
    assert not torch.allclose(retained / retained.sum(), trained / trained.sum(), atol=0.02)
    assert not torch.equal(seen[0], seen[1]) and len(seen[0].unique()) < len(seen[0])


def test_a_class_that_is_forgotten_as_a_whole_is_not_drawn(task):
    whole = task.data.train.y == 0
    split = replace(
        task.split,
        forget=torch.nonzero(whole).flatten(),
        retain=torch.nonzero(~whole).flatten(),
        val=torch.tensor([], dtype=torch.long),
        forget_counts=torch.bincount(task.data.train.y[whole], minlength=6),
    )
    sampling = parts.class_shares(task._replace(split=split))
    drawn = torch.cat([s.index for s in epoch_steps("retain", split, task.config, 0, sampling=sampling)])
    assert len(drawn) == len(split.retain) and not whole[drawn].any()


@pytest.mark.parametrize("name", ["ft-reweighted", "rl-fixed-reweighted"])
def test_a_reweighted_step_is_a_mean_over_what_was_drawn(name, original, data, split, config, single):
    task, _ = single
    row = VARIANTS[name]
    (step,) = epoch_steps(row.batches, split, task.config, 0, sampling=parts.class_shares(task))
    draws = draw_augmentation(len(data.train.y), task.config, 0, torch.device("cpu"))
    forget = torch.isin(torch.arange(len(data.train.y)), split.forget)
    b = load_batch(data.train, step.index, draws, task.config, forget, 0)
    target = torch.where(b.forget, row.targets(task)(b), b.y)
    check_step(name, original, data, split, config, lambda m: nn.CrossEntropyLoss()(m(b.x), target), task)


def test_a_reweighted_retrain_starts_where_retrain_does_and_ends_elsewhere(original, data, split, config):
    own, other = (unlearn(name, original, data, split, config) for name in ("retrain", "retrain-reweighted"))
    assert not torch.equal(parameters(own), parameters(other))
    start = [
        unlearn(n, original, data, split, replace(config, epochs=1, lr=1e-30))
        for n in ("retrain", "retrain-reweighted")
    ]
    assert torch.allclose(*map(parameters, start), rtol=0, atol=1e-20)
