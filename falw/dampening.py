"""Selective synaptic dampening: weights that matter more to the forget set than to all data are made smaller, once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from falw.modules import duplicate, trainable
from falw.parts import Task, batch_gradients, coefficient_of, mean_square, takes_coefficient


def dampening(alpha: float = 10.0, strength: float = 1.0) -> Callable[[Task], nn.Module]:
    """theta * min(strength * F_D / F_f, 1) where F_f > alpha * F_D, entry by entry; the other weights stay.

    F_f and F_D are the Fisher information of the Original on D_f and on D = D_f + D_r, and the method is one pass over
    each: nothing is trained. `Config.coefficient` takes the place of alpha: the smaller, the more weights shrink.
    Source: Foster et al. 2024 (SSD), whose lambda is `strength`; both defaults are theirs.

    Departure: the paper's Fisher is over samples, its public code squares gradients of batches of 128, and so do we, of
    batches of the configuration's size, on augmented images in eval mode (`parts.mean_square`).
    """

    def build(task: Task) -> nn.Module:
        forget, everything = (mean_square(batch_gradients(task, part)) for part in ("forget", "union"))
        threshold = coefficient_of(task, alpha)
        model = duplicate(task.original).to(task.data.train.x.device)
        with torch.no_grad():
            for name, p in trainable(model).items():
                smaller = (strength * everything[name] / forget[name]).clamp(max=1)
                p.mul_(torch.where(forget[name] > threshold * everything[name], smaller, 1.0))
        return model

    return takes_coefficient(build)
