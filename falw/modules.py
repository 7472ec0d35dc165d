"""Any network of PyTorch: seeds, modes, copies, and which of its parameters may move."""

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
