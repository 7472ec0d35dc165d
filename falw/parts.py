"""The parts of methods: targets, weights, masks (SalUn, SFRon), coefficients, penalties, class shares.

A part is a builder: a function of a `Task` (the Original, the data, the split, the configuration), since masks, labels
and weights depend on it. `methods` puts parts together, one row a method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from falw import train
from falw.config import Config
from falw.images import Dataset
from falw.modules import duplicate, trainable
from falw.split import Split
from falw.train import Batch, Weight, constant
from falw.weights import FaLW


class Task(NamedTuple):
    """What a method is asked to unlearn."""

    original: nn.Module
    data: Dataset
    split: Split
    config: Config
    fresh: Callable[[], nn.Module] | None = None  # builds a network anew, where layers cannot be reset


Target = Callable[[Batch], Tensor]


# Targets: what a forgotten sample is trained towards.


def own_labels(task: Task) -> Target:
    """The true label."""
    return train.own_label


def label_part(build: Callable, label: str) -> Callable:
    """The builder, with what the table of methods (`lab.tables.methods_to_markdown`) is to call it."""
    build.label = label  # type: ignore[attr-defined]
    return build


def random_labels(redraw: bool = False, may_be_own: bool = False) -> Callable[[Task], Target]:
    """A class drawn uniformly for each image: once, and never its own, as Algorithm 1 says.

    Departure: with `redraw` the class is drawn again every epoch and with `may_be_own` from all classes, which is what
    SalUn's public code of RL and SalUn does; SFRon's repository draws once and never the own, which is `rl-fixed`. A
    redrawn label is an average over classes; a fixed one gets memorised.
    """

    def build(task: Task) -> Target:
        y, classes = task.data.train.y, task.data.num_classes
        drawn: dict[int, Tensor] = {}

        def table(epoch: int) -> Tensor:
            if epoch not in drawn:
                drawn.clear()
                g = train.generator(task.config.seed, epoch, train.LABELS)
                shift = torch.randint(0 if may_be_own else 1, classes, y.shape, generator=g)
                drawn[epoch] = (y + train.to_device(shift, y.device)) % classes
            return drawn[epoch]

        return lambda batch: table(batch.epoch if redraw else 0)[batch.index]

    return label_part(build, "random labels, " + ("redrawn" if redraw else "once"))


def extra_label(task: Task) -> Target:
    """A class that does not exist: index C, the output that `widen_head` adds."""
    return lambda batch: torch.full_like(batch.y, task.data.num_classes)


# How often retained images are drawn.


def class_shares(task: Task) -> Tensor:
    """N_c / N_{r,c} of the class c of each training image, float64 (n,): D_r drawn so has the class shares of D.

    N_c counts what the Original was trained on, D_f and D_r. Source: De Min et al. 2025 (REWEIGHT).

    Departure: groups are classes; theirs are pairs of a class and an attribute, such as a gender, that our data lack.
    """
    y = task.data.train.y.cpu()
    retained = torch.bincount(y[task.split.retain], minlength=task.data.num_classes).double()
    return ((retained + task.split.forget_counts) / retained.clamp(min=1))[y]


# Weights of forgotten samples.


def falw_weight(**options: Any) -> Callable[[Task], Weight]:
    """FaLW over the split's validation images; options are those of `weights.FaLW` (tau, refresh, dist, ...).

    Rolling statistics look at as many unseen images as a batch has, every 8 steps: a twenty-fourth more work.
    """

    def build(task: Task) -> Weight:
        images, val = task.data.train, task.split.val.to(task.data.train.y.device)
        defaults = {"rolling": task.config.batch_size}
        return FaLW((images.x[val], images.y[val]), task.split.forget_counts, **{**defaults, **options})

    return build


class InverseLoss:
    """SFRon's coefficient a = 1 / loss**power: what the model knows best is pushed hardest (Huang et al. 2024)."""

    def __init__(self, power: float = 0.5):
        self.power = power

    def update(self, model: Any, epoch: int) -> None:
        """Nothing to follow."""

    def __call__(self, p_true: Tensor, y: Tensor, loss: Tensor) -> Tensor:
        return 1 / (loss**self.power + 1e-15)


def inverse_loss(task: Task) -> Weight:
    """SFRon's adaptive coefficient with its published power."""
    return InverseLoss()


# Masks: which parameters may move.


def batch_gradients(task: Task, part: str) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """The size of each batch of "forget", "retain" or "union", and the gradients of the Original's cross-entropy there.

    The gradients of the batch's mean, of what may move; 0 for what the loss does not depend on. Eval mode, augmented
    images, in the order of the first epoch; the last batch may hold a single image.
    """
    images, device = task.data.train, task.data.train.x.device
    model = duplicate(task.original).to(device).eval()
    params = trainable(model)
    draws = train.draw_augmentation(len(images.y), task.config, 0, device)
    forget = torch.zeros(len(images.y), dtype=torch.bool, device=device)
    for step in train.steps_to_device(train.epoch_steps(part, task.split, task.config, 0, join=False), device):
        batch = train.load_batch(images, step.index, draws, task.config, forget, 0)
        loss = F.cross_entropy(model(batch.x).float(), batch.y)
        gradients = torch.autograd.grad(loss, list(params.values()), allow_unused=True, materialize_grads=True)
        yield len(batch.y), dict(zip(params, gradients, strict=True))


def saliency_mask(fraction: float = 0.5) -> Callable[[Task], dict[str, Tensor]]:
    """True for the int(fraction * P) parameters with the largest |summed batch gradient| on D_f, over all layers.

    Source: Fan et al. 2024 (SalUn). The signed gradients of the batches are added before the absolute value is taken.
    """

    def build(task: Task) -> dict[str, Tensor]:
        total: dict[str, Tensor] = {}
        for _, gradients in batch_gradients(task, "forget"):
            total = {name: g + total[name] if total else g for name, g in gradients.items()}
        flat = torch.cat([g.abs().flatten() for g in total.values()])
        free = torch.zeros_like(flat, dtype=torch.bool)
        free[flat.argsort(descending=True, stable=True)[: int(fraction * len(flat))]] = True
        pieces = free.split([g.numel() for g in total.values()])
        return {name: piece.view_as(total[name]) for name, piece in zip(total, pieces, strict=True)}

    return build


def fisher_mask(threshold: float = 1.0) -> Callable[[Task], dict[str, Tensor]]:
    """True where the Fisher information of D_f is at least `threshold` times that of D_r, entry by entry.

    Fisher here is the mean over batches of the squared batch gradient, not a per-sample Fisher: it shrinks with the
    batch size, so both sides use the same. Source: Huang et al. 2024 (SFRon).
    """

    def build(task: Task) -> dict[str, Tensor]:
        forget, retain = (mean_square(batch_gradients(task, part)) for part in ("forget", "retain"))
        return {name: (forget[name] + 1e-15) / (retain[name] + 1e-15) >= threshold for name in forget}

    return build


def mean_square(batches: Iterator[tuple[int, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """The mean over batches of the squared gradient, entry by entry."""
    total: dict[str, Tensor] = {}
    count = 0
    for _, gradients in batches:
        total = {name: g**2 + total[name] if total else g**2 for name, g in gradients.items()}
        count += 1
    return {name: t / count for name, t in total.items()}


# Coefficients and penalties. A builder's own number gives way to `Config.coefficient`, so that it can be tuned.


def one(task: Task) -> Callable[[float], float]:
    """alpha = 1 throughout."""
    return constant(1.0)


def fading_alpha(start: float = 25.0) -> Callable[[Task], Callable[[float], float]]:
    """alpha falling from `start` to 0 along half a cosine over the run. Source: Huang et al. 2024 (SFRon)."""

    def build(task: Task) -> Callable[[float], float]:
        scale = coefficient_of(task, start)
        return lambda progress: scale * (1 + math.cos(math.pi * progress)) / 2

    return takes_coefficient(build)


def coefficient_of(task: Task, default: float) -> float:
    """The number of `Config.coefficient`, or the builder's own."""
    return default if task.config.coefficient is None else task.config.coefficient


def takes_coefficient(build: Callable) -> Callable:
    """The builder, marked as one that reads `Config.coefficient`."""
    build.coefficient = True  # type: ignore[attr-defined]
    return build


def fading_l1(strength: float = 5e-4) -> Callable[[Task], Callable[[nn.Module, float], Tensor]]:
    """lambda * ||theta||_1 over what may move, lambda falling from `strength` by equal steps, one an epoch, towards 0.

    Source: Jia et al. 2023 (l1-sparse).
    """

    def build(task: Task) -> Callable[[nn.Module, float], Tensor]:
        epochs, strength_ = task.config.epochs, coefficient_of(task, strength)

        def penalty(model: nn.Module, progress: float) -> Tensor:
            epoch = int(progress * epochs + 1e-9)
            sizes = [p.abs().sum() for p in model.parameters() if p.requires_grad]
            return strength_ * (1 - epoch / epochs) * torch.stack(sizes).sum()

        return penalty

    return takes_coefficient(build)
