"""The architectures: ResNet-18, VGG-16 and a tiny ResNet for a CPU, each `normalize -> body -> head`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
