"""Rows for the chapter on why: FaLW's weight with other statistics, of other shapes, and without validation data.

Each is `rl+falw-epoch` with one thing exchanged: what a weight is compared with, or how it answers. They are for study:
three of them ask Retrain, which nobody who unlearns has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from falw.distil import start_afresh
from falw.images import augment
from falw.methods import Method, find_method
from falw.models import true_probability
from falw.parts import Task
from falw.train import Objective, draw_augmentation, fit
from falw.weights import ClassStats, FaLW, class_stats, forgetting_weight, z_score

BASE = find_method("rl+falw-epoch")
SLICED = replace(BASE, retain_share=0.75)  # about as many images as D_val has
HALF_EPOCHS = 10  # of each of two networks on half of D_r: half the cost of a Retrain of twenty


class Studied(FaLW):
    """FaLW, once an epoch, with statistics that are `given` or not taken after epoch `last`, and another `shape`.

    shape: from z-scores and balance factors (b,) to weights (b,).
    """

    def __init__(
        self,
        val: tuple[Tensor, Tensor],
        counts: Tensor,
        last: float = math.inf,
        given: ClassStats | None = None,
        shape: Callable[[Tensor, Tensor], Tensor] = forgetting_weight,
    ):
        super().__init__(val, counts, refresh="epoch")
        self.last, self.given, self.shape, self.stats = last, given, shape, given

    def update(self, model: Any, epoch: int) -> None:
        """As FaLW does, while statistics are still taken."""
        if self.given is None and epoch <= self.last:
            super().update(model, epoch)

    def __call__(self, p_true: Tensor, y: Tensor, loss: Tensor | None = None) -> Tensor:
        return self.shape(z_score(p_true, y, self.stats), self.balance[y]).to(p_true.dtype)


def full_stop(z: Tensor, balance: Tensor) -> Tensor:
    """Full weight above the mean, none below."""
    return (z > 0).double()


def linear(z: Tensor, balance: Tensor) -> Tensor:
    """A straight line in z through 1, cut to the range of FaLW's."""
    return (1 + balance * z).clamp(0, 2)


def brake(z: Tensor, balance: Tensor) -> Tensor:
    """FaLW's weight where it is below 1, else 1."""
    return forgetting_weight(z, balance).clamp(max=1)


def push(z: Tensor, balance: Tensor) -> Tensor:
    """FaLW's weight where it is above 1, else 1."""
    return forgetting_weight(z, balance).clamp(min=1)


def always(value: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The same weight for every image."""
    return lambda z, balance: torch.full_like(z, value)


def few(index: Tensor, y: Tensor, per_class: int) -> Tensor:
    """The first images of each class among those at index."""
    rank = torch.stack([(y[index[:i]] == y[index[i]]).sum() for i in range(len(index))])
    return index[rank < per_class]


def first_of_val(per_class: int) -> Callable[[Task], Tensor]:
    """So many images a class of D_val."""
    return lambda task: few(task.split.val, task.data.train.y, per_class)


def weighed(images: Callable[[Task], Tensor] = lambda task: task.split.val, **options: Any) -> Callable[[Task], FaLW]:
    """A builder of `Studied` over the images that `images` names."""

    def build(task: Task) -> FaLW:
        x, y = task.data.train
        index = images(task)
        return Studied((x[index], y[index]), task.split.forget_counts, **options)

    return build


def sliced(task: Task) -> Tensor:
    """The part of D_r that `SLICED` does not train on: the Original knows it, unlearning leaves it alone."""
    held_out = SLICED.drawn(task).val
    return held_out[~torch.isin(held_out, task.split.val)]


def augmented(task: Task) -> FaLW:
    """Retained images, moved by up to four pixels and mirrored, in the place of unseen ones."""
    (x, y), index = task.data.train, few(task.split.retain, task.data.train.y, 25)
    draws = draw_augmentation(len(y), replace(task.config, crop=4, flip=True), 0, x.device)
    moved = augment(x[index], draws.dy[index], draws.dx[index], draws.flip[index], 4)
    return Studied((moved, y[index]), task.split.forget_counts)


def cross_fitted(task: Task) -> FaLW:
    """What two fresh networks, each trained on every other retained image, say of the half that they did not see."""
    (x, y), split, p = task.data.train, task.split, torch.zeros(len(task.data.train.y))
    config = replace(task.config, epochs=HALF_EPOCHS, lr=0.1, schedule="one-cycle")
    for seen, unseen in ((0, 1), (1, 0)):
        half = replace(split, retain=split.retain[seen::2], val=torch.cat([split.val, split.retain[unseen::2]]))
        network = start_afresh(task._replace(config=config))
        fit(network, task.data, half, Objective(batches="retain"), config)
        p[split.retain[unseen::2]] = true_probability(network, x, y, split.retain[unseen::2])
    given = class_stats(p[split.retain], y[split.retain], task.data.num_classes)
    return Studied((x[split.val], y[split.val]), split.forget_counts, given=given)


def of(name: str, summary: str, weight: Callable[[Task], FaLW], base: Method = BASE) -> Method:
    """A row of this study."""
    return replace(base, name=name, summary=summary, weight=weight, tuned_as="", colour="")


def with_retrains(stats: ClassStats) -> tuple[Method, ...]:
    """The rows that are told what Retrain says of unseen images."""
    return (
        of("stats-retrain", "mean and deviation of unseen images under Retrain", weighed(given=stats)),
        of("stop-retrain", "full weight above Retrain's mean, none below", weighed(given=stats, shape=full_stop)),
    )


STATISTICS = (
    of("stats-original", "mean and deviation of unseen images under the Original", weighed(last=0)),
    of("stats-frozen", "statistics frozen after one epoch", weighed(last=1)),
    of("stop", "full weight above the mean, none below", weighed(shape=full_stop)),
)
WITHOUT_VAL = (
    of("cross-fitted", "statistics from two halves of D_r, each the other's unseen", cross_fitted),
    of("augmented", "statistics from moved and mirrored retained images", augmented),
    of("sliced", "statistics from a quarter of D_r that is left alone", weighed(sliced), SLICED),
)
SHAPES = (
    of("brake", "FaLW's weight, never above 1", weighed(shape=brake)),
    of("push", "FaLW's weight, never below 1", weighed(shape=push)),
    of("linear", "a straight line in z from 0 to 2", weighed(shape=linear)),
)
SAME_FOR_ALL = tuple(
    of(f"weight-{value}", f"a weight of {value} for every image", weighed(shape=always(value))) for value in (0.5, 1.5)
)
FEWER = tuple(of(f"val-{n}", f"{n} unseen images a class", weighed(first_of_val(n))) for n in (5, 10))
