"""One check at the door: images, labels and a network that fit each other, before anything is computed from them.

Each function looks at tensors once, as a whole; nothing is looked at again in the loop.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from falw.images import Dataset, Images
from falw.indices import whole_numbers
from falw.modules import evaluating, seeded
from falw.split import Split

PROBE = 8  # images that a network is shown


def admit(model: nn.Module, data: Dataset, split: Split) -> Dataset:
    """The data as uint8 and int64 tensors; raises ValueError unless data, split and network fit each other."""
    data = check_data(data)
    check_split(data, split)
    check_network(model, data)
    return data


def check_data(data: Dataset) -> Dataset:
    """The data with images as uint8 and labels as int64 tensors, from tensors, arrays or lists of integers.

    Raises ValueError, naming the value and the way out, for pixels that are not 0..255 and labels that no class has.
    """
    train, test = (_check_images(name, getattr(data, name), data.num_classes) for name in ("train", "test"))
    return data._replace(train=train, test=test)


def _check_images(name: str, images: Images, num_classes: int) -> Images:
    x = _pixels(f"{name} images", torch.as_tensor(images.x))
    y = whole_numbers(images.y, f"{name} labels are", "give one whole number an image").to(x.device)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} {name} images and {len(y)} labels: give one label an image")
    if len(y) and (y.min() < 0 or y.max() >= num_classes):
        raise ValueError(
            f"{name} labels are {int(y.min())}..{int(y.max())} and there are {num_classes} classes: "
            f"number them 0..{num_classes - 1}, as data.classes names them"
        )
    return Images(x, y)


def _pixels(what: str, x: Tensor) -> Tensor:
    """Images (n, c, h, w) as uint8, one after the other in memory, as a network that calls `view` needs them."""
    if x.dim() != 4:
        raise ValueError(f"{what} have shape {tuple(x.shape)}: give (n, c, h, w)")
    if x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        raise ValueError(f"{what} have shape {tuple(x.shape)}, colours last: give (n, c, h, w), x.permute(0, 3, 1, 2)")
    low, high = (float(x.min()), float(x.max())) if x.numel() else (0.0, 0.0)
    whole = not x.is_floating_point() and x.dtype != torch.bool
    if not (whole and low >= 0 and high <= 255) or high == 1:
        way = "(255 * x).round().to(torch.uint8)" if low >= 0 and high <= 1 else "x.to(torch.uint8) of such pixels"
        raise ValueError(f"{what} are {x.dtype} from {low:g} to {high:g}: give uint8 from 0 to 255, {way}")
    return x.to(torch.uint8).contiguous()


def check_split(data: Dataset, split: Split) -> None:
    """Raise ValueError unless the split was drawn from these training images."""
    held, n = sum(len(part) for part in (split.forget, split.retain, split.val)), len(data.train.y)
    if held != n:
        raise ValueError(f"the split holds {held} images and the training set {n}: draw it from data.train.y")


def check_network(model: nn.Module, data: Dataset) -> None:
    """Show a network a few images; raises ValueError unless it gives logits, one an image and class.

    A network that a method has left with an output more says so in `extra_outputs`. Raises FloatingPointError for
    outputs that are not numbers.
    """
    for name, p in model.named_parameters():
        if nn.parameter.is_lazy(p):
            raise ValueError(f"'{name}' has no shape until images pass: call the network once, model(data.train.x[:2])")
    x = data.train.x[:PROBE]
    x = x.to(next(model.parameters(), x).device)
    try:
        with evaluating(model), seeded(0, x.device):
            outputs = model(x)
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the network fails on uint8 images {tuple(x.shape)}: {str(error).splitlines()[0]}") from error
    _check_logits(logits_of(outputs), (len(x), data.num_classes + getattr(model, "extra_outputs", 0)))


def logits_of(outputs: Any) -> Tensor:
    """What a network gives; raises ValueError for what is no tensor, as some give more in training mode."""
    if not isinstance(outputs, Tensor):
        raise ValueError(f"the network gives a {type(outputs).__name__}: wrap it so that it gives the logits alone")
    return outputs


def _check_logits(outputs: Tensor, shape: tuple[int, int]) -> None:
    if outputs.shape != shape:
        raise ValueError(
            f"the network gives outputs {tuple(outputs.shape)} for {shape[0]} images of {shape[1]} classes: "
            f"give it a last layer of {shape[1]} outputs, or data.classes as many names as it has outputs"
        )
    if not torch.isfinite(outputs).all():
        raise FloatingPointError("the network's outputs are not numbers: it has diverged; lower the learning rate")
    if (outputs >= 0).all() and torch.allclose(outputs.float().sum(1), torch.ones(1).to(outputs.device), atol=1e-2):
        raise ValueError("the network gives probabilities: leave out its softmax, so that it gives logits")
