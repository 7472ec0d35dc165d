"""Influence unlearning: one step from gradients of the Original, in place of the loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from falw.modules import duplicate, trainable
from falw.parts import Task, batch_gradients, coefficient_of, takes_coefficient


def influence(alpha: float = 0.2, samples: int = 1000, exact: bool = False) -> Callable[[Task], nn.Module]:
    """theta + alpha * k, where k stands for the inverse Hessian times the gradient that leaving out D_f adds.

    v = n_f / n * (gradient on D_f - gradient on D_r), and k is meant to be H^-1 v with H = I + mean of g g^T over
    `samples` retained images. Source: Izzo et al. 2021; the recursion is that of the public SalUn code.

    Departure: that code, kept as the default, rescales the first image's gradient where every new one is needed, so k
    is v plus a multiple of one gradient. `exact` is the recursion as it was meant; it stores `samples` vectors as long
    as the network and is refused above 200.

    Departure: ours reads `samples` single images, drawn with the seed; the public code reads two more, 1,002, as it
    counts from 0 and stops after the first number above 1,000, and takes them in storage order, which is mixed for
    CIFAR and by class for Tiny-ImageNet. Both divide by `samples`, also where fewer images are retained.
    """
    if exact and samples > 200:
        raise ValueError(f"exact influence with {samples} samples stores as many gradients; choose 200 or fewer")

    def build(task: Task) -> nn.Module:
        v = _left_out(task)
        k = (_woodfisher if exact else _one_direction)(v, _single_gradients(task, samples), samples)
        model = duplicate(task.original).to(v.device)
        params = trainable(model).values()
        step = (coefficient_of(task, alpha) * k).split([p.numel() for p in params])
        with torch.no_grad():
            for p, piece in zip(params, step, strict=True):
                p.add_(piece.view(p.shape))
        return model

    return takes_coefficient(build)


def _flatten(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients.values()])


def _left_out(task: Task) -> Tensor:
    def mean(part: str, n: int) -> Any:
        return sum(size * _flatten(g) for size, g in batch_gradients(task, part)) / n

    n_f, n_r = len(task.split.forget), len(task.split.retain)
    return n_f / (n_f + n_r) * (mean("forget", n_f) - mean("retain", n_r))


def _single_gradients(task: Task, samples: int) -> Iterator[Tensor]:
    one_by_one = task._replace(config=replace(task.config, batch_size=1))
    gradients = (_flatten(g) for _, g in batch_gradients(one_by_one, "retain"))
    return itertools.islice(gradients, samples)


def _one_direction(v: Tensor, gradients: Iterator[Tensor], samples: int) -> Tensor:
    o, k = next(gradients), v
    for g in gradients:
        t = o @ g
        k = k - (k @ g) / (samples + t) * o
        o = o - t / (samples + t) * o
    return k


def _woodfisher(v: Tensor, gradients: Iterator[Tensor], samples: int) -> Tensor:
    seen: list[tuple[Tensor, Tensor]] = []  # H_{j-1}^-1 g_j and its denominator
    k = v
    for g in gradients:
        o = g - sum(((p @ g) / d * p for p, d in seen), torch.zeros_like(g))
        denominator = samples + g @ o
        k = k - (g @ k) / denominator * o
        seen.append((o, denominator))
    return k
