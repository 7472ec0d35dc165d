"""What a step costs on a GPU, in a minute: images a second, with recorded passes and without, and what lies idle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from common import seconds
from gpu import flops_an_image
from loop import noise, our_loop
from torch import nn
from torch.autograd import DeviceType

from falw.config import Config, precision_of
from falw.images import Dataset
from falw.models import create
from falw.split import Split
from falw.train import Objective, draw_augmentation, epoch_steps, load_batch, steps_to_device


@dataclass(frozen=True)
class Size:
    """How large the measurements are: the paper's sizes."""

    networks: tuple[str, ...] = ("resnet18", "vgg16")
    images: int = 50_000
    side: int = 32
    classes: int = 100
    batch: int = 512
    product: int = 8192  # rows of the matrices
    smoke: int = 125  # images a class, of a method in bfloat16
    smoke_side: int = 16


TOY = Size(networks=("tiny",), images=120, side=8, classes=4, batch=16, product=64, smoke=10, smoke_side=8)


def throughput(network: str, size: Size, device: torch.device) -> dict[str, float]:
    """Images a second of `fit`, and the operations a second that they come to."""
    data, split = noise(size.images, size.side, size.classes, device)
    config = Config(epochs=2, batch_size=size.batch)
    run = our_loop(data, split, config, network)
    run()
    rate = config.epochs * (len(split.forget) + len(split.retain)) / seconds(run, device)
    return {"images/s": rate, "TFLOP/s": rate * flops_an_image(network, size.side) / 1e12}


def recorded(network: str, size: Size, device: torch.device) -> dict[str, float]:
    """Images a second of bare steps: the network's passes as ever, and recorded as a graph. Without a GPU both are."""
    data, split = noise(size.images, size.side, size.classes, device)
    config = Config(epochs=1, batch_size=size.batch)
    model = create(network, data.num_classes, data.mean, data.std).to(device).to(memory_format=torch.channels_last)
    dtype = precision_of(config, device)
    # Around the model, as a recorded module has another `forward`; and a graph cannot hold the cache of autocast.
    autocast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False)
    graph: Callable = nn.Sequential(model.train())
    rates = {}
    for name in ("eager", "graph"):
        if name == "graph" and device.type == "cuda":
            with autocast:
                graph = torch.cuda.make_graphed_callables(graph, (data.train.x[: size.batch].clone(),))
        run = partial(bare_epoch, graph, model, autocast, data, split, config)
        images = run()
        rates[f"images/s, bare, {name}"] = images / seconds(run, device)
    return rates


def bare_epoch(
    passes: Callable, model: nn.Module, autocast: torch.autocast, data: Dataset, split: Split, config: Config
) -> int:
    """What `fit` does in an epoch, of full batches alone, as a graph has one shape; gives how many images they held."""
    device, objective, images = data.train.x.device, Objective(), 0
    optimizer = torch.optim.SGD(model.parameters(), config.lr, config.momentum, fused=device.type == "cuda")
    draws = draw_augmentation(len(data.train.y), config, 0, device)
    forget = torch.zeros(len(data.train.y), dtype=torch.bool, device=device)
    steps = [step for step in epoch_steps("union", split, config, 0) if len(step.index) == config.batch_size]
    for step in steps_to_device(steps, device):
        batch = load_batch(data.train, step.index, draws, config, forget, 0)
        with autocast:
            logits = passes(batch.x)
        optimizer.zero_grad()
        objective(logits, batch).backward()
        optimizer.step()
        images += len(step.index)
    return images


def profile(network: str, size: Size, device: torch.device) -> dict[str, Any]:
    """The share of 20 steps in which the device is idle, large where starts of kernels bind; and the longest kernels.

    The profiler slows the host, so the time of the kernels is compared with that of the same steps without it.
    """
    data, split = noise(20 * size.batch * 10 // 9, size.side, size.classes, device)  # a tenth is held out
    run = our_loop(data, split, Config(epochs=1, batch_size=size.batch), network)
    run()
    wall, cuda = seconds(run, device), device.type == "cuda"
    with torch.profiler.profile() as found:  # of the host, and of a GPU where there is one
        seconds(run, device)
    kind = DeviceType.CUDA if cuda else DeviceType.CPU
    kernels = [e for e in found.key_averages() if e.device_type == kind and not e.is_user_annotation]
    spent = {e.key: (e.self_device_time_total if cuda else e.self_cpu_time_total) / 1e6 for e in kernels}
    longest = sorted(spent, key=lambda key: -spent[key])[:12]
    return {"idle": 1 - sum(spent.values()) / wall, "share of the step": {key: spent[key] / wall for key in longest}}
