"""Networks by name (tiny, ResNet-18, VGG-16), fresh weights for one, and what one says: probabilities, features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from falw.architectures import Network, Normalize, resnet18, tiny, vgg16
from falw.modules import duplicate, evaluating, is_frozen, seeded, train_mode, trainable

M = TypeVar("M", bound=nn.Module)


Builder = Callable[[int], tuple[nn.Sequential, nn.Linear]]  # number of classes -> body and head
MODELS: dict[str, Builder] = {"tiny": tiny, "resnet18": resnet18, "vgg16": vgg16}


def create(name: str, num_classes: int, mean: tuple[float, ...], std: tuple[float, ...], seed: int = 0) -> Network:
    """A network with fresh weights drawn from `seed`, on the CPU, in channels-last order, which suits convolutions.

    Raises ValueError for an unknown name.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model '{name}'; choose one of: {', '.join(MODELS)}")
    with torch.random.fork_rng(devices=[]):  # building draws weights too, which `reset` then replaces
        network = Network(Normalize(mean, std), *MODELS[name](num_classes))
    return reset(network.to(memory_format=torch.channels_last), seed)


def reset(model: M, seed: int, x: Tensor | None = None) -> M:
    """Draw what may move afresh from `seed`, in place, by the layers' `reset_parameters`; returns the model.

    Frozen parameters (`requires_grad=False`) and the averages of frozen layers stay. Everything else is emptied before
    the draw, so that what no layer fills is known: ValueError names it, and the model is as it was. A buffer that no
    layer fills is a constant, unless a pass over images `x` in training mode changes it. The draw is made on the CPU,
    and the global generator is left as it was.
    """
    free, learnt = trainable(model), {} if x is None else _learnt_buffers(model, x)
    fresh = duplicate(model).cpu().to(memory_format=torch.contiguous_format)  # a draw follows the order of memory
    for name, t in [*fresh.named_parameters(), *fresh.named_buffers()]:
        if (name in free or not isinstance(t, nn.Parameter)) and t.is_floating_point():
            t.data.fill_(torch.nan)
    with seeded(seed):
        for layer in fresh.modules():
            draw: Any = getattr(layer, "reset_parameters", None)
            if draw is not None and not is_frozen(layer) and not hasattr(layer, "parametrizations"):
                draw()
    drawn = {name: t for name, t in [*fresh.named_parameters(), *fresh.named_buffers()] if not t.isnan().any()}
    stale = [name for name in free if name not in drawn]
    stale += [name for name, t in learnt.items() if name not in drawn or torch.equal(drawn[name], t)]
    if stale:
        raise ValueError(
            f"cannot draw {', '.join(stale[:3])} afresh: give the layer a reset_parameters method that does, or "
            "unlearn(..., fresh=build) a function that builds the network anew"
        )
    for name, t in [*free.items(), *model.named_buffers()]:
        if name in drawn:
            t.data.copy_(drawn[name])
    return model


def _learnt_buffers(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The buffers that a pass over images x in training mode changes, on the CPU."""
    seen = duplicate(model)
    train_mode(seen)
    with torch.no_grad(), seeded(0, x.device):
        seen(x)
    after = dict(seen.named_buffers())
    return {name: t.cpu() for name, t in model.named_buffers() if not torch.equal(t, after[name])}


def true_probability(model: Any, x: Tensor, y: Tensor, index: Tensor) -> Tensor:
    """Probability of the true class for images x[index], float32 (n,); see `probabilities`."""
    return probabilities(model, x, index).gather(1, y[index, None])[:, 0]


def probabilities(model: Any, x: Tensor, index: Tensor) -> Tensor:
    """Softmax of images x[index] in eval mode, in chunks, float32 (n, C); the modes of the layers are restored.

    The softmax is float32 whatever the network's precision: bfloat16 has one number for all of 0.997 to 1.
    """
    # Small chunks stay in a CPU's cache; a GPU wants large ones.
    chunks = index.split(256 if x.device.type == "cpu" else 4096)
    with evaluating(model):
        return torch.cat([model(x[i]).float().softmax(1) for i in chunks])


def head_of(model: nn.Module, x: Tensor) -> nn.Linear:
    """The linear layer whose outputs are the logits of images x; raises ValueError if there is none."""
    outputs: dict[nn.Module, Tensor] = {}
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(lambda layer, x, out: outputs.update({layer: out})) for layer in linear]
    try:
        with evaluating(model):
            logits = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    heads = [layer for layer, out in outputs.items() if out.shape == logits.shape and torch.equal(out, logits)]
    if not heads:
        raise ValueError("no linear layer of the network gives its logits, which features and `be` need: end in one")
    return heads[-1]  # type: ignore[return-value]


def features(model: Any, x: Tensor, index: Tensor) -> Tensor:
    """What the last layer (`head_of`) sees of images x[index]: eval mode, float32 (n, f); the modes are restored."""
    seen: list[Tensor] = []
    head = head_of(model, x[index[:1]])
    hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].float()))
    try:
        probabilities(model, x, index)
    finally:
        hook.remove()
    return torch.cat(seen)
