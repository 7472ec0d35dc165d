"""The networks (tiny, ResNet-18, VGG-16), fresh weights for one, and what one says: probabilities, features.

Every network is `normalize -> body -> head`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

M = TypeVar("M", bound=nn.Module)


class Normalize(nn.Module):
    """Images as uint8 0..255 or float 0..1, (b, c, h, w) -> float, each channel less its mean over its deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.mean.dtype) / 255 if x.dtype == torch.uint8 else x
        return (x - self.mean) / self.std


class Network(nn.Module):
    """normalize -> body (features, flat) -> head (logits)."""

    def __init__(self, normalize: nn.Module, body: nn.Module, head: nn.Linear):
        super().__init__()
        self.normalize, self.body, self.head = normalize, body, head

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees: (b, c, h, w) images -> (b, f)."""
        return self.body(self.normalize(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Conv(nn.Conv2d):
    """A convolution without bias, its weights drawn by He's rule for the outgoing side."""

    def __init__(self, inp: int, out: int, size: int, stride: int = 1, padding: int = 0):
        super().__init__(inp, out, size, stride, padding, bias=False)

    def reset_parameters(self) -> None:
        """Weights normal with variance 2 / (outputs * size**2)."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")


class SmallLinear(nn.Linear):
    """A linear layer that starts with small weights and biases of 0, as in VGG."""

    def reset_parameters(self) -> None:
        """Weights normal with deviation 0.01, biases 0."""
        nn.init.normal_(self.weight, 0, 0.01)
        nn.init.zeros_(self.bias)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is 1x1 where the shape changes (He et al. 2016)."""

    def __init__(self, inp: int, out: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = Conv(inp, out, 3, stride, 1), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = Conv(out, out, 3, 1, 1), nn.BatchNorm2d(out)
        same = stride == 1 and inp == out
        self.shortcut = nn.Identity() if same else nn.Sequential(Conv(inp, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x), inplace=True)


def _residual(widths: tuple[int, ...], blocks: int, num_classes: int) -> tuple[nn.Sequential, nn.Linear]:
    layers: list[nn.Module] = [Conv(3, widths[0], 3, 1, 1), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
    inp = widths[0]
    for stage, out in enumerate(widths):
        for block in range(blocks):
            layers.append(BasicBlock(inp, out, 2 if stage and not block else 1))
            inp = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(inp, num_classes)


def tiny(num_classes: int) -> tuple[nn.Sequential, nn.Linear]:
    """Three stages of one block, 16-32-64 channels, about 79,000 parameters: learns `textures` on a CPU in 30 s."""
    return _residual((16, 32, 64), 1, num_classes)


def resnet18(num_classes: int) -> tuple[nn.Sequential, nn.Linear]:
    """ResNet-18 for small images: 3x3 stem, no max-pool; 11,173,962 parameters at 10 classes."""
    return _residual((64, 128, 256, 512), 2, num_classes)


def vgg16(num_classes: int) -> tuple[nn.Sequential, nn.Linear]:
    """VGG-16 with batch norm and a 2048-256-256-C head; 15,311,818 parameters at 10 classes.

    Departure: the paper names VGG-16 only. This is the variant of the code base it builds on: four max-pools, no bias
    before batch norm, pooling to 2x2, no dropout.
    """
    layers: list[nn.Module] = []
    inp = 3
    for stage in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
        layers += [nn.MaxPool2d(2)] if layers else []
        for out in stage:
            layers += [Conv(inp, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
            inp = out
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    for wide, narrow in ((2048, 256), (256, 256)):
        layers += [SmallLinear(wide, narrow), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers), SmallLinear(256, num_classes)


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
