"""The one loop, `fit`: `Objective`, batches, steps, checkpoints; and `predict`.

Training, retraining and every iterative unlearning method are this loop over another objective.

An objective is the paper's Formulation 1 as data: which batches, which targets, alpha times the forget loss with its
weights, beta times the retain loss, a penalty, and a mask on what may move. `methods` builds objectives, this file runs
them. Images stay uint8 on the device; everything random in an epoch is drawn from (seed, epoch) on the CPU before the
epoch starts, so a run can be resumed without a stored generator and draws the same numbers on every device.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from falw.checks import admit, logits_of
from falw.config import OPTIMIZERS, SCHEDULES, Config, precision_of
from falw.files import Checkpoint
from falw.images import Dataset, Images, augment
from falw.metrics import Part, Predictions
from falw.models import probabilities
from falw.modules import drop_history, seeded, train_mode, trainable
from falw.split import Split

ORDER, AUGMENT, LABELS, FORGET_ORDER, NETWORK, SUBSET, SAMPLING = range(7)  # independent streams of random numbers


def stream_seed(seed: int, epoch: int, stream: int) -> int:
    """The seed of one purpose in one epoch."""
    return ((seed * 100_003 + epoch) * 8 + stream) % 2**63


def generator(seed: int, epoch: int, stream: int) -> torch.Generator:
    """A CPU generator for one purpose in one epoch."""
    return torch.Generator().manual_seed(stream_seed(seed, epoch, stream))


def make_deterministic() -> None:
    """Ask PyTorch for the same bits every time on a GPU, in this process, before its first product on one.

    Slower, and a GPU of another kind still gives others. On a CPU the same number of threads always gives the same.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)  # a warning names what has no such algorithm


class Step(NamedTuple):
    """One step of an epoch: which images, what kind of batch, and how far into the whole run (0 to 1)."""

    index: Tensor  # type: ignore[assignment]  # (b,) into the training images
    kind: str  # "forget", "retain" or "both"
    progress: float


class Batch(NamedTuple):
    """What an objective sees of a step."""

    x: Tensor  # uint8 (b, c, h, w), augmented
    y: Tensor  # (b,) true labels
    forget: Tensor  # (b,) bool: in D_f
    index: Tensor  # type: ignore[assignment]  # (b,) into the training images
    epoch: int


class Weight(Protocol):
    """A weight per forgotten sample; `update` is called before each step that has forgotten samples.

    One that remembers anything between steps has `state_dict` and `load_state_dict`, too.
    """

    def update(self, model: Any, epoch: int) -> None: ...
    def __call__(self, p_true: Tensor, y: Tensor, loss: Tensor) -> Tensor: ...


def cross_entropy(log_p: Tensor, target: Tensor) -> Tensor:
    """-log p of the target, per sample: (b, C) and labels (b,), or probabilities (b, C) over which it is averaged.

    To descend it towards probabilities is to descend KL(target || p): the two differ by what no gradient sees.
    """
    if target.dim() == 2:
        return -(target * log_p).sum(1)
    return -log_p.gather(1, target[:, None])[:, 0]


def negative_cross_entropy(log_p: Tensor, target: Tensor) -> Tensor:
    """log p of the target, per sample: its descent is ascent on the cross-entropy."""
    return -cross_entropy(log_p, target)


def label_loss(log_p: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """The cross-entropy to the true label, whatever the target."""
    return cross_entropy(log_p, y)


def own_label(batch: Batch) -> Tensor:
    """The true label as the target."""
    return batch.y


def constant(value: float) -> Callable[[float], float]:
    """A coefficient that does not change over the run."""
    return lambda progress: value


ALWAYS_1 = constant(1.0)


@dataclass(frozen=True)
class Objective:
    """Formulation 1 (Eqs. 2 and 3): alpha * weight * forget loss, beta * retain loss, penalty; and what may move.

    Called with logits (b, C) it gives the scalar to descend. `target` gives labels (b,) or probabilities (b, C), to
    which `forget_loss` compares what the network says of a forgotten sample; `retain_loss` has the label before it. A
    target with a method `follow(model, epoch)` is shown the model before each epoch, and ends the run where that is
    False. No step is taken on D_f alone where alpha is 0. `mask` names boolean tensors, True where a parameter may
    change; it acts on the "update" (weights, momentum and decay: frozen entries keep their bits) or on the "gradient"
    only (decay and momentum still move frozen entries), in "all" steps or in "forget" steps. `clip` bounds the
    gradient's norm in forget steps. `normalise` divides the weights by their mean over the batch's forgotten samples.
    `sampling`: see `epoch_steps`.
    """

    batches: str = "union"
    sampling: Tensor | None = None
    target: Callable[[Batch], Tensor] = own_label
    forget_loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    retain_loss: Callable[[Tensor, Tensor, Tensor], Tensor] = label_loss
    alpha: Callable[[float], float] = ALWAYS_1
    beta: float = 1.0
    weight: Weight | None = None
    normalise: bool = False
    penalty: Callable[[nn.Module, float], Tensor] | None = None
    mask: dict[str, Tensor] | None = None
    mask_on: str = "update"
    mask_steps: str = "all"
    clip: float | None = None

    def __call__(self, logits: Tensor, batch: Batch, progress: float = 0.0) -> Tensor:
        log_p, target = logits.float().log_softmax(1), self.target(batch)
        retain = self.beta * self.retain_loss(log_p, batch.y, target)
        forget = self.alpha(progress) * self.forget_loss(log_p, target)
        if self.weight is not None:
            loss = cross_entropy(log_p.detach(), batch.y)
            w = self.weight((-loss).exp(), batch.y, loss)
            if self.normalise:
                w = w * batch.forget.sum() / (w * batch.forget).sum().clamp(min=1e-12)
            forget = w * forget
        # The only place that averages: forgotten and retained samples together, as in Algorithm 1.
        return torch.where(batch.forget, forget, retain).mean()

    def takes(self, step: Step) -> bool:
        """Whether a step is taken: what is ascended in the first epochs only leaves no decay behind in the others."""
        return step.kind != "forget" or self.alpha(step.progress) != 0

    def follow(self, model: nn.Module, epoch: int) -> bool:
        """Show the target the model before an epoch; False if the run is to end."""
        follow = getattr(self.target, "follow", None)
        return follow is None or follow(model, epoch)


ALTERNATE_EVERY = 5  # steps of D_r to one of D_f, as in SFRon
PASSES = {"retain": ("retain",), "forget": ("forget",), "union": ("both",), "sequential": ("forget", "retain")}


def epoch_steps(
    batches: str, split: Split, config: Config, epoch: int, join: bool = True, sampling: Tensor | None = None
) -> list[Step]:
    """The steps of one epoch. The order of a subset is the order of the whole training set restricted to it.

    "retain", "forget", "union": one pass over D_r, D_f or both mixed. "sequential": D_f, then D_r. "alternate": a pass
    over D_r with a batch of D_f before every fifth step, counted over the whole run.

    A pass is cut into batches of config.batch_size; the last may be smaller. With `join` a last batch of one image, on
    which batch norm cannot train, is joined to the batch before it. `sampling` (n,), a number for each training image,
    exchanges every retained image of a pass for one that is drawn from D_r in proportion to it, with replacement.
    """

    def one_pass(kind: str, epoch: int, stream: int = ORDER) -> list[Tensor]:
        return _one_pass(kind, split, config, epoch, stream, join, sampling)

    if batches in PASSES:
        parts = [(kind, index) for kind in PASSES[batches] for index in one_pass(kind, epoch)]
        total = len(parts) * config.epochs
        return [Step(index, kind, (epoch * len(parts) + k) / total) for k, (kind, index) in enumerate(parts)]
    if batches != "alternate":
        raise ValueError(f"unknown batches '{batches}'; choose one of: {', '.join(PASSES)}, alternate")
    retain = one_pass("retain", epoch)
    per_pass = len(one_pass("forget", 0, FORGET_ORDER))
    steps, total = [], len(retain) * config.epochs
    for t, index in enumerate(retain, start=epoch * len(retain)):
        if t % ALTERNATE_EVERY == 0:  # an endless iterator over D_f, of which this step takes the next batch
            turn, k = divmod(t // ALTERNATE_EVERY, per_pass)
            steps.append(Step(one_pass("forget", turn, FORGET_ORDER)[k], "forget", t / total))
        steps.append(Step(index, "retain", t / total))
    return steps


def _one_pass(
    kind: str, split: Split, config: Config, epoch: int, stream: int, join: bool, sampling: Tensor | None
) -> list[Tensor]:
    chosen = {"retain": split.retain, "forget": split.forget, "both": torch.cat([split.forget, split.retain])}[kind]
    member = torch.zeros(len(split.forget) + len(split.retain) + len(split.val), dtype=torch.bool)
    member[chosen] = True
    order = torch.randperm(len(member), generator=generator(config.seed, epoch, stream))
    index = order[member[order]]
    if sampling is not None:
        g = generator(config.seed, epoch, SAMPLING)
        drawn = torch.multinomial(sampling[split.retain], len(split.retain), replacement=True, generator=g)
        index = index.masked_scatter(torch.isin(index, split.retain), split.retain[drawn])
    parts = list(index.split(config.batch_size))
    if join and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


class Draws(NamedTuple):
    """The random crop and flip of every training image in one epoch, on the data's device."""

    dy: Tensor
    dx: Tensor
    flip: Tensor


def draw_augmentation(n: int, config: Config, epoch: int, device: torch.device) -> Draws:
    """Drawn for all n images, so an image is cropped alike whichever others are trained on beside it."""
    g = generator(config.seed, epoch, AUGMENT)
    dy, dx = torch.randint(0, 2 * config.crop + 1, (2, n), generator=g)
    flip = torch.randint(0, 2, (n,), generator=g).bool() & config.flip
    return Draws(*(to_device(t, device) for t in (dy, dx, flip)))


def to_device(t: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. A GPU copies it from pinned memory while the program goes on."""
    return t.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else t.to(device)


def steps_to_device(steps: list[Step], device: torch.device) -> list[Step]:
    """The steps of an epoch with their indices on the device, sent as one tensor."""
    sizes = [len(step.index) for step in steps]
    sent = to_device(torch.cat([step.index for step in steps]), device).split(sizes)
    return [step._replace(index=index) for step, index in zip(steps, sent, strict=True)]


def load_batch(images: Images, index: Tensor, draws: Draws, config: Config, forget: Tensor, epoch: int) -> Batch:
    """The images at `index`, augmented, with what an objective needs to know of them."""
    x = augment(images.x[index], draws.dy[index], draws.dx[index], draws.flip[index], config.crop)
    return Batch(x, images.y[index], forget[index], index, epoch)


def fit(
    model: nn.Module,
    data: Dataset,
    split: Split,
    objective: Objective,
    config: Config,
    on_epoch: Callable[[int, nn.Module], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> nn.Module:
    """Descend `objective` for config.epochs epochs and return the model, moved to the data's device.

    `on_epoch(epoch, model)` is called after each epoch that runs; those before a `checkpoint` do not run again. Nothing
    in an epoch waits for the device. Raises FloatingPointError at its end for a loss that is no finite number.
    """
    images, device = data.train, data.train.x.device
    if device.type == "cuda":  # by trial, as all batches but one have one shape; trials need not end alike
        torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    dtype = precision_of(config, device)
    model.to(device)
    params = trainable(model)
    how = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": device.type == "cuda"}
    optimizer = OPTIMIZERS[config.optimizer](params.values(), config, **how)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    # Without its cache, which hands casts made in FaLW's pass without gradients to the next: pytorch/pytorch#112583.
    autocast = torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32, cache_enabled=False)
    forget = torch.zeros(len(images.y), dtype=torch.bool)
    forget[split.forget] = True
    forget = to_device(forget, device)
    freeze = Freeze(params, objective.mask) if objective.mask is not None else None

    parts = {"model": model, "optimizer": optimizer, "scaler": scaler, "weight": objective.weight}
    parts = {name: part for name, part in parts.items() if hasattr(part, "state_dict")}  # all that changes in a run

    for epoch in range(checkpoint.resume(parts) if checkpoint is not None else 0, config.epochs):
        draws, losses, several = draw_augmentation(len(images.y), config, epoch, device), [], None
        steps = steps_to_device(
            epoch_steps(objective.batches, split, config, epoch, sampling=objective.sampling), device
        )
        with seeded(stream_seed(config.seed, epoch, NETWORK), device):  # what the network itself draws
            if not objective.follow(model, epoch):
                break
            for index, kind, progress in filter(objective.takes, steps):
                if several is not (len(index) > 1):
                    several = len(index) > 1
                    train_mode(model, several)
                batch = load_batch(images, index, draws, config, forget, epoch)
                with autocast:
                    if objective.weight is not None and kind != "retain":
                        objective.weight.update(model, epoch)
                    logits = logits_of(model(batch.x))
                loss = objective(logits, batch, progress)
                if objective.penalty is not None:
                    loss = loss + objective.penalty(model, progress)
                losses.append(loss.detach())
                optimizer.zero_grad(set_to_none=True)
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                masked = objective.mask_on if objective.mask_steps == "all" or kind == "forget" else None
                if freeze is not None and masked == "gradient":
                    freeze.gradient()
                if objective.clip is not None and kind == "forget":
                    nn.utils.clip_grad_norm_(params.values(), objective.clip)
                for group in optimizer.param_groups:
                    group["lr"] = config.lr * SCHEDULES[config.schedule](progress, config)
                scaler.step(optimizer)
                scaler.update()
                if freeze is not None and masked == "update":
                    freeze.restore()
        drop_history(model)
        check_losses(losses, epoch)
        if on_epoch is not None:
            on_epoch(epoch, model)
        if checkpoint is not None:
            checkpoint.keep(parts, epoch + 1)
    optimizer.zero_grad(set_to_none=True)
    return model


def check_losses(losses: list[Tensor], epoch: int) -> None:
    """Raise FloatingPointError naming the first step of an epoch whose loss is no finite number."""
    for step, loss in enumerate(torch.stack(losses).tolist() if losses else (), start=1):
        if not math.isfinite(loss):
            when = f"step {step} of {len(losses)} in epoch {epoch + 1}"
            raise FloatingPointError(f"the loss is {loss} at {when}: it has diverged; lower the learning rate")


class Freeze:
    """Holds the masked entries of a model: in the gradient, or bit for bit after a step.

    A mask on the gradient alone lets weight decay and momentum move every frozen entry, which is what the reference
    code did until 2026; `restore` puts the entries back whatever moved them.
    """

    def __init__(self, params: dict[str, nn.Parameter], mask: dict[str, Tensor]):
        self.params = list(params.values())
        self.free = [mask[name].to(p) for name, p in params.items()]
        self.kept = [p.detach() * (1 - free) for p, free in zip(self.params, self.free, strict=True)]

    @torch.no_grad()
    def gradient(self) -> None:
        moved = [(p.grad, free) for p, free in zip(self.params, self.free, strict=True) if p.grad is not None]
        torch._foreach_mul_(*zip(*moved, strict=True))  # type: ignore[arg-type,misc]

    @torch.no_grad()
    def restore(self) -> None:
        torch._foreach_mul_(self.params, self.free)  # type: ignore[arg-type]
        torch._foreach_add_(self.params, self.kept)  # type: ignore[arg-type]


def train_original(
    model: nn.Module,
    data: Dataset,
    split: Split,
    config: Config,
    on_epoch: Callable[[int, nn.Module], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> nn.Module:
    """Train a model on everything it may see, D_f and D_r: the Original, theta_o, in eval mode.

    It is trained in place, on the data's device, in the memory layout in which it comes. Raises as `checks.admit`.
    """
    data = admit(model, data, split)
    return fit(model, data, split, Objective(batches="union"), config, on_epoch, checkpoint).eval()


def predict(model: nn.Module, data: Dataset, split: Split) -> Predictions:
    """Probabilities on D_f, D_r, D_val and the test set, in eval mode, without augmentation, on the CPU.

    The model is left in its mode and on its device. Raises FloatingPointError if a probability is not a number, as the
    model has diverged, and otherwise as `checks.admit`.
    """
    data = admit(model, data, split)
    device = data.train.x.device
    home = next(model.parameters(), data.train.x).device
    model.to(device)

    def part(images: Images, index: Tensor) -> Part:
        if len(index) == 0:
            return Part(torch.empty(0, data.num_classes), images.y[:0].cpu())
        return Part(probabilities(model, images.x, index.to(device)).cpu(), images.y.cpu()[index])

    with seeded(0, device):  # for a network that draws in eval mode, too
        forget, retain, val = (part(data.train, index) for index in (split.forget, split.retain, split.val))
        result = Predictions(forget, retain, val, part(data.test, torch.arange(len(data.test.y))))
    model.to(home)
    if not all(torch.isfinite(p).all() for p, _ in result):
        raise FloatingPointError("the model's probabilities are not numbers: it has diverged; lower the learning rate")
    return result
