"""Any network of PyTorch: seeds, modes, copies, which of its parameters may move, and an output more at its end."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """PyTorch's global generators, of the CPU and of `device`, start from `seed`; afterwards they are as before."""
    gpu = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpu):
        torch.default_generator.manual_seed(seed)
        for one in gpu:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed)
        yield


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that may move, those with `requires_grad`, by name; raises ValueError if there are none."""
    free = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not free:
        raise ValueError("every parameter of the network is frozen: set requires_grad of those that may be trained")
    return free


def is_frozen(layer: nn.Module) -> bool:
    """Whether a layer has parameters of its own, none of which may move."""
    own = [p.requires_grad for p in layer.parameters(recurse=False)]
    return bool(own) and not any(own)


def train_mode(model: nn.Module, several: bool = True) -> None:
    """Training mode; batch norm keeps its averages where it is frozen, and for one image, which has no deviation."""
    model.train()
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and (is_frozen(layer) or not several):
            layer.eval()


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards every layer is in the mode it was in."""
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def drop_history(model: nn.Module) -> nn.Module:
    """Detach what a pass has left in layers, such as a weight that pruning computes: deepcopy refuses a result."""
    for layer in model.modules():
        vars(layer).update({k: t.detach() for k, t in vars(layer).items() if isinstance(t, Tensor) and t.grad_fn})
    return model


def duplicate(model: nn.Module) -> nn.Module:
    """A deep copy, whatever the last pass was."""
    return copy.deepcopy(drop_history(model))


def widen_head(head: nn.Linear, seed: int) -> None:
    """Give the last layer one more output; the old rows keep their weights, the new one is drawn from `seed`.

    Raises ValueError for a layer whose weight is computed from others.
    """
    if "weight" not in dict(head.named_parameters(recurse=False)):
        raise ValueError("the last layer is pruned or parametrised, and `be` adds an output to it: make it plain first")
    with seeded(seed):
        new = nn.Linear(head.in_features, head.out_features + 1).to(head.weight)
    _set_rows(head, {name: torch.cat([p, getattr(new, name)[-1:]]) for name, p in head.named_parameters()})


def narrow_head(head: nn.Linear) -> None:
    """Take the last output of the last layer away again.

    Departure: SalUn's public code of boundary expanding keeps the extra output, and an image that is put there counts
    as wrong; the method's own takes it away, and so do we. `Method.keep_extra` keeps it.
    """
    _set_rows(head, {name: p[:-1].clone() for name, p in head.named_parameters()})


def _set_rows(head: nn.Linear, rows: dict[str, Tensor]) -> None:
    for name, p in rows.items():
        setattr(head, name, nn.Parameter(p.detach(), getattr(head, name).requires_grad))
    head.out_features = len(head.weight)
