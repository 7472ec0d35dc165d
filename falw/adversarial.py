"""Images moved up the loss of the Original: boundary shrink's nearest class, AMUN's nearest adversarial examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from falw.images import Images
from falw.modules import duplicate, seeded
from falw.parts import Target, Task
from falw.train import Batch

Answers = Callable[[Tensor], Tensor]  # logits of images that are floats in 0..1
AT_ONCE = 512  # images that are moved together


def nearest_label(bound: float = 0.1) -> Callable[[Task], Target]:
    """The class the Original sees after one signed gradient step of `bound` away from the label (FGSM).

    Departure: none from the public code, which does not exclude the true class where the attack fails.
    Raises ValueError for a network that takes uint8 images only. Source: Chen et al. 2023 (boundary shrink).
    """

    def build(task: Task) -> Target:
        attacked, dtype, white = _attacked(task)

        def target(batch: Batch) -> Tensor:
            x = (batch.x.float() / (255 / white)).requires_grad_()
            loss = F.cross_entropy(attacked(x.to(dtype)).float(), batch.y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x)
            moved = (x + bound * white * gradient.sign()).clamp(0, white).mul(255 / white).round() / (255 / white)
            return attacked(moved.detach().to(dtype)).argmax(1)

        return target

    return build


def nearest_examples(bound: float = 0.04, steps: int = 20) -> Callable[[Task], Task]:
    """The task with D_A beside its training images, retained: adversarial examples of D_f, under the labels seen there.

    D_A has for each forgotten image the nearest that the Original puts in another class: `steps` steps uphill, each a
    tenth of `bound` long and all within `bound` of the image (L2, pixels in 0..1), again with twice the bound until the
    class changes. An image that the Original has wrong already is its own example. Source: Ebrahimpour-Boroojeny et al.
    2025 (AMUN). Raises ValueError for a network that takes uint8 images only.

    Departure: 20 steps, where theirs are 50, for time: an example may lie a little further away.

    Departure: images are bytes, so examples are sought among images of bytes: they are wrong as the loop loads them.
    Where none is found within the diagonal of the cube of all images, where theirs searches for ever, there is none.

    Departure: the loop crops and mirrors D_A as it does every image; the public code takes it as it is.
    """

    def build(task: Task) -> Task:
        images, split = task.data.train, task.split
        attacked, dtype, white = _attacked(task)

        def network(x: Tensor) -> Tensor:
            return attacked((x * white).to(dtype)).float()

        parts = split.forget.to(images.y.device).split(AT_ONCE)
        found = [_nearest_wrong(network, images.x[index], images.y[index], bound, steps) for index in parts]
        x, y = (torch.cat([old, *new]) for old, new in zip(images, zip(*found, strict=True), strict=True))
        added = torch.arange(len(images.y), len(y))
        more = replace(split, retain=torch.cat([split.retain, added]))
        return task._replace(data=task.data._replace(train=Images(x, y)), split=more)

    return build


def _attacked(task: Task) -> tuple[nn.Module, torch.dtype, int]:
    """A copy of the Original whose weights stand still, and the type and the white of the images that it takes."""
    attacked = duplicate(task.original).to(task.data.train.x.device).eval().requires_grad_(False)
    return attacked, next(attacked.parameters()).dtype, _white(attacked, task.data.train.x[:8])


def _white(model: nn.Module, x: Tensor) -> int:
    """Which number stands for 255 in images that are floats, 1 or 255: that for which `model` says the same."""
    dtype = next(model.parameters()).dtype
    for white in (1, 255):
        with seeded(0, x.device):
            logits = model(x).float()
        with seeded(0, x.device):
            other = model((x.float() / (255 / white)).to(dtype)).float()
        if (other - logits).abs().max() <= 0.05 * logits.abs().max():
            return white
    raise ValueError(
        "bs and amun need a network that takes images as floats, 0..1 or 0..255, too: begin with falw.Normalize"
    )


def _nearest_wrong(network: Answers, x: Tensor, y: Tensor, bound: float, steps: int) -> tuple[Tensor, Tensor]:
    """Examples of x uint8 (b, c, h, w) that are of other classes than y, and these; fewer where none is found."""
    examples, said, todo = x.clone(), y.clone(), torch.arange(len(y), device=y.device)
    while len(todo) > 0 and bound <= 2 * x[0].numel() ** 0.5:  # the first bound beyond the diagonal is tried, too
        for index, seen, classes in _climb(network, x[todo], y[todo], bound, steps):
            examples[todo[index]], said[todo[index]] = seen, classes
        todo, bound = todo[said[todo] == y[todo]], 2 * bound
    return examples[said != y], said[said != y]


def _climb(network: Answers, x: Tensor, y: Tensor, bound: float, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Before each step: which images have not changed class so far, what is left of them as bytes, the class seen."""
    left = torch.arange(len(y), device=y.device)
    start = moved = x.float() / 255
    for _ in range(steps + 1):
        seen = (moved * 255).round().div(255).requires_grad_()
        logits = network(seen)
        said = logits.argmax(1)
        yield left, (seen.detach() * 255).round().byte(), said
        right = said == y[left]
        if not right.any():
            return
        moved = _ahead(start, moved, _uphill(logits, y[left], seen), bound)
        left, start, moved = left[right], start[right], moved[right]


def _uphill(logits: Tensor, y: Tensor, seen: Tensor) -> Tensor:
    """The direction in which the cross-entropy of each image grows fastest, of length 1.

    It is that of the odds against y. The gradient of the cross-entropy is 1 - p times that of the odds, which is 0 in
    float32 for an image that is known by heart.
    """
    own = F.one_hot(y, logits.shape[1]).bool()
    odds = logits.masked_fill(own, -torch.inf).logsumexp(1) - logits[own]
    (gradient,) = torch.autograd.grad(odds.sum(), seen)
    return gradient / _per_image(gradient.flatten(1).norm(dim=1).clamp(min=1e-10))


def _ahead(start: Tensor, moved: Tensor, uphill: Tensor, bound: float) -> Tensor:
    """A tenth of `bound` further, and back to within `bound` of the start and to pixels in 0..1."""
    away = moved + bound / 10 * uphill - start
    length = away.flatten(1).norm(dim=1).clamp(min=bound)
    return (start + away * _per_image(bound / length)).clamp(0, 1)


def _per_image(values: Tensor) -> Tensor:
    """One value an image (b,), as it is multiplied with images: (b, 1, 1, 1)."""
    return values[:, None, None, None]
