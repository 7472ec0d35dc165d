"""The networks (tiny, ResNet-18, VGG-16), fresh weights for one, and what one says: probabilities, features.

Every network is `normalize -> body -> head`.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """A network with fresh weights drawn from `seed`, on the CPU. Raises ValueError for an unknown name."""
    if name not in MODELS:
        raise ValueError(f"unknown model '{name}'; choose one of: {', '.join(MODELS)}")
    with torch.random.fork_rng(devices=[]):  # building draws weights too, which `reset` then replaces
        network = Network(Normalize(mean, std), *MODELS[name](num_classes))
    return reset(network, seed)


def reset(model: M, seed: int) -> M:
    """Draw every weight of a model afresh from `seed`, in place, and clear its batch-norm averages; returns it.

    Works on any module whose layers have PyTorch's `reset_parameters`; raises ValueError naming a layer with weights
    and without it. The draw is made on the CPU and the global generator is left as it was.
    """
    device = next(model.parameters()).device
    model.cpu().to(memory_format=torch.contiguous_format)  # a draw fills a tensor in the order of its memory
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in model.named_modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            elif next(module.parameters(recurse=False), None) is not None:
                raise ValueError(f"cannot draw fresh weights for layer '{name}': give it a reset_parameters method")
    return model.to(device)


def true_probability(model: Any, x: Tensor, y: Tensor, index: Tensor) -> Tensor:
    """Probability of the true class for images x[index], float32 (n,); see `probabilities`."""
    return probabilities(model, x, index).gather(1, y[index, None])[:, 0]


@torch.no_grad()
def probabilities(model: Any, x: Tensor, index: Tensor) -> Tensor:
    """Softmax of images x[index] in eval mode, in chunks, float32 (n, C); the model's mode is restored.

    The softmax is float32 whatever the network's precision: bfloat16 has one number for all of 0.997 to 1.
    """
    training = model.training
    model.eval()
    # Small chunks stay in a CPU's cache; a GPU wants large ones.
    chunks = index.split(256 if x.device.type == "cpu" else 4096)
    p = torch.cat([model(x[i]).float().softmax(1) for i in chunks])
    model.train(training)
    return p


def features(model: Any, x: Tensor, index: Tensor) -> Tensor:
    """What the last layer, `model.head`, sees of images x[index]: eval mode, float32 (n, f); the mode is restored."""
    seen: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].float()))
    try:
        probabilities(model, x, index)
    finally:
        hook.remove()
    return torch.cat(seen)
