"""A target in place of a weight: what a model that never saw a forgotten image would say of it, as a soft label.

What the Original says of unseen images gives how sure such models are, the retained images nearest to a forgotten one
which image is the easier, and what it would be taken for. Nothing is trained for it. `labels_by_neighbours` is the
part that rows of `methods` have; the functions before it are its steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from falw.metrics import require_finite
from falw.models import features, probabilities, true_probability
from falw.modules import duplicate
from falw.parts import Target, Task, falw_weight, label_part
from falw.train import Batch

COMPARED_AT_ONCE = 1024  # images compared with all retained ones at a time
CLOSEST = 1e-6  # a probability to 0 and 1, as these have no log-odds


def neighbour_votes(images: Tensor, retained: Tensor, labels: Tensor, num_classes: int, count: int = 20) -> Tensor:
    """Share of each class among the `count` retained images nearest to each image, by cosine, float64 (n, C).

    Features (n, f) and (m, f), labels (m,) of the second. Raises ValueError for fewer than `count` retained images and
    for features that hold NaN.
    """
    if len(retained) < count:
        raise ValueError(f"{len(retained)} retained images have no {count} neighbours: lower the number of neighbours")
    images, retained = (F.normalize(require_finite(t).float(), dim=1) for t in (images, retained))
    nearest = torch.cat([(part @ retained.T).topk(count, dim=1).indices for part in images.split(COMPARED_AT_ONCE)])
    return F.one_hot(labels[nearest], num_classes).double().mean(1)


def quantiles_of_unseen(p_unseen: Tensor, y: Tensor, forgotten: Tensor, retained: Tensor | None = None) -> Tensor:
    """What forgotten images would get if nobody had seen them: quantiles of p over unseen ones, class by class.

    p_unseen (v,) of the true class and labels y (v,); counts of forgotten images (C,) -> float64 (sum of counts,), of
    class 0 first, each class in rising order: at (i + 1/2) / N_{f,c} of its unseen images, on log-odds. With the counts
    of `retained` images (C,), log(N_{r,c} / (N_{r,c} + N_{f,c})) is added to the log-odds, as a class of which less is
    trained on is a rarer one: nothing retained is p = 0. A class without unseen images takes those of all classes.
    Raises ValueError without any, and for p that are no probabilities.
    """
    if len(p_unseen) == 0:
        raise ValueError("this target needs unseen images and the validation set is empty: raise val above 0")
    if not ((p_unseen >= 0) & (p_unseen <= 1)).all():
        raise ValueError("p of unseen images must be probabilities from 0 to 1: these hold others, or NaN")
    log_odds, parts = p_unseen.double().logit(CLOSEST), []
    for c, count in enumerate(forgotten.tolist()):
        unseen = log_odds[y == c] if (y == c).any() else log_odds
        at = (torch.arange(count, dtype=torch.float64, device=unseen.device) + 0.5) / max(count, 1)
        left = 1.0 if retained is None else retained[c] / max(retained[c] + count, 1)
        parts.append((unseen.quantile(at) + torch.as_tensor(left, dtype=torch.float64).log()).sigmoid())
    return torch.cat(parts)


def by_rank(values: Tensor, scores: Tensor) -> Tensor:
    """The values (n,) handed out so that the larger score (n,) has the larger one; of equal scores the later."""
    given = torch.empty_like(values)
    given[scores.argsort(stable=True)] = values.sort().values
    return given


def soft_labels(p_true: Tensor, y: Tensor, others: Tensor) -> Tensor:
    """Probabilities (n, C): p_true (n,) for the label y (n,), the rest over other classes in proportion to `others`.

    others (n, C) above 0; what they say of the label is not looked at.
    """
    others = others.scatter(1, y[:, None], 0.0)
    rest = (1 - p_true)[:, None] * others / others.sum(1, keepdim=True)
    return rest.scatter(1, y[:, None], p_true[:, None])


def labels_by_neighbours(
    neighbours: int = 20,
    shifted: bool = True,
    power: float = 3.0,
    spread: bool = True,
    within_classes: bool = False,
    moving: bool = False,
) -> Callable[[Task], Target]:
    """A soft label for each forgotten image, made once from the Original; ours, no paper's.

    Its score is the share of its own class among the `neighbours` nearest retained images in the Original's features;
    equal scores go by the Original's probability of the label, which is the score with `neighbours` 0. The probability
    of the label comes by rank of the score from `quantiles_of_unseen`, of all classes together or, `within_classes`,
    of the own one; `shifted` is for what the class loses. The rest goes to other classes as (votes + 0.3 * what the
    Original says + 0.01)**power, or evenly without `spread`. `moving` makes the labels again before each epoch, of the
    model as it is then. Raises ValueError without unseen images and as `neighbour_votes`.
    """

    def labels(model: nn.Module, task: Task) -> Tensor:
        forget, y = task.split.forget.to(task.data.train.y.device), task.data.train.y
        says = probabilities(model, task.data.train.x, forget).double()
        votes = _votes(model, task, neighbours) if neighbours else torch.zeros_like(says)
        score = (neighbours * votes + 0.5 * says).gather(1, y[forget, None])[:, 0]
        p_true = _hand_out(_expected(model, task, shifted), score, y[forget], within_classes)
        others = (votes + 0.3 * says + 0.01) ** power if spread else torch.ones_like(says)
        table = torch.zeros(len(y), says.shape[1], device=y.device)
        table[forget] = soft_labels(p_true, y[forget], others).float()
        return table

    return label_part(lambda task: SoftLabels(task, labels, moving), "soft labels, " + ("moving" if moving else "once"))


class SoftLabels:
    """Probabilities (b, C) for each batch, from a table (n, C) that `labels` makes of the Original or of the model."""

    def __init__(self, task: Task, labels: Callable[[nn.Module, Task], Tensor], moving: bool):
        self.task, self.labels, self.moving = task, labels, moving
        self.table = labels(duplicate(task.original).to(task.data.train.x.device), task)

    def follow(self, model: nn.Module, epoch: int) -> bool:
        """Make the labels again if they move; the run goes on."""
        if self.moving and epoch > 0:
            self.table = self.labels(model, self.task)
        return True

    def __call__(self, batch: Batch) -> Tensor:
        return self.table[batch.index]


def _votes(model: nn.Module, task: Task, neighbours: int) -> Tensor:
    images, parts = task.data.train, (task.split.forget, task.split.retain)
    forgotten, retained = (features(model, images.x, part.to(images.y.device)) for part in parts)
    labels = images.y[task.split.retain.to(images.y.device)]
    return neighbour_votes(forgotten, retained, labels, task.data.num_classes, neighbours)


def _expected(model: nn.Module, task: Task, shifted: bool) -> Tensor:
    images, counts = task.data.train, task.split.forget_counts
    val = task.split.val.to(images.y.device)
    p_unseen = true_probability(model, images.x, images.y, val) if len(val) else torch.empty(0)
    retained = torch.bincount(images.y.cpu()[task.split.retain], minlength=len(counts)) if shifted else None
    return quantiles_of_unseen(p_unseen, images.y[val], counts, retained)


def _hand_out(expected: Tensor, score: Tensor, y: Tensor, within_classes: bool) -> Tensor:
    """The expected values, class by class as they come, by rank of the score (n,) of images with labels y (n,)."""
    if not within_classes:
        return by_rank(expected, score)
    given, classes = torch.empty_like(expected), y.sort().values
    for c in y.unique():
        given[y == c] = by_rank(expected[classes == c], score[y == c])
    return given


# Rows of `methods` beside neighbour-target: what each has in its place. Without each of its parts in turn, two that
# follow the model, and FaLW's weight on top.
EXCHANGED: dict[str, dict[str, Any]] = {
    "target-own-rank": {
        "summary": "neighbour-target without neighbours: the Original's own probability ranks",
        "targets": labels_by_neighbours(neighbours=0),
    },
    "target-unshifted": {
        "summary": "neighbour-target without the shift for what a class loses",
        "targets": labels_by_neighbours(shifted=False),
    },
    "target-power1": {
        "summary": "neighbour-target without sharpening",
        "targets": labels_by_neighbours(power=1.0),
    },
    "target-even": {
        "summary": "neighbour-target, the rest spread evenly",
        "targets": labels_by_neighbours(spread=False),
    },
    "target-within": {
        "summary": "neighbour-target with ranks within classes",
        "targets": labels_by_neighbours(within_classes=True),
    },
    "target-moving": {
        "summary": "neighbour-target, made again before each epoch, of the model",
        "targets": labels_by_neighbours(shifted=False, moving=True),
    },
    "target-unseen": {
        "summary": "the probabilities of unseen images, by the model's own rank before each epoch",
        "targets": labels_by_neighbours(neighbours=0, shifted=False, moving=True),
    },
    "target+falw": {
        "summary": "neighbour-target with FaLW weights, statistics once an epoch",
        "weight": falw_weight(refresh="epoch"),
    },
}
