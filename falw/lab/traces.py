"""What unlearning does to every forgotten sample, epoch by epoch: probability, z-score, weight."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from falw.images import Dataset
from falw.methods import Method, unlearn
from falw.models import true_probability
from falw.split import Split
from falw.train import Config
from falw.weights import ClassStats, balance_factor, class_stats, forgetting_weight, z_score


class Trace(NamedTuple):
    """Forgotten samples while they are being unlearned: row 0 is the Original, row e what it is after epoch e."""

    y: Tensor  # (n_f,) classes of the forgotten samples
    p: Tensor  # (E + 1, n_f) probability of the true class
    z: Tensor  # (E + 1, n_f) z-score against the unseen images of the class (Eq. 5)
    w: Tensor  # (E + 1, n_f) FaLW's weight, whether or not the method uses it
    val_y: Tensor  # (n_v,)
    val_p: Tensor  # (E + 1, n_v) probability of the true class of unseen images
    stats: list[ClassStats]


def trace(
    method: str | Method, original: nn.Module, data: Dataset, split: Split, config: Config, tau: float = 0.15
) -> Trace:
    """Unlearn as `unlearn` does and keep p, z and w of every forgotten sample after each epoch, in eval mode."""
    x, y = data.train
    forget, val = (part.to(y.device) for part in (split.forget, split.val))
    balance = balance_factor(split.forget_counts, tau).to(y.device)[y[forget]]
    rows: list[tuple[Tensor, ...]] = []
    stats: list[ClassStats] = []

    def look(epoch: int, model: nn.Module) -> None:
        p, val_p = (true_probability(model, x, y, part) for part in (forget, val))
        stats.append(class_stats(val_p, y[val], data.num_classes))
        z = z_score(p, y[forget], stats[-1])
        rows.append(tuple(t.cpu() for t in (p, z, forgetting_weight(z, balance), val_p)))

    look(-1, original.to(y.device))
    unlearn(method, original, data, split, config, on_epoch=look)
    p, z, w, val_p = map(torch.stack, zip(*rows, strict=True))
    return Trace(y[forget].cpu(), p, z, w, y[val].cpu(), val_p, stats)
