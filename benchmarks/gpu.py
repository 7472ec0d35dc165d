"""How much of a GPU the loop uses, at the paper's networks and sizes: images a second, share of a matrix product, FaLW.

Run by hand on a GPU: python benchmarks/gpu.py. `python benchmarks/loop.py` there gives what it gives on a CPU.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch
from common import device, interleaved, ratio, seconds, store
from loop import REPEATS, bare_steps, memory, noise, our_loop, schedules, usual_loop
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from falw.config import Config, precision_of
from falw.models import create

NETWORKS_AND_SIZES = [("resnet18", 32), ("vgg16", 32), ("resnet18", 64), ("vgg16", 64)]
IMAGES, CLASSES = 50_000, 100
EPOCHS_A_RUN = 5  # what a run takes to begin is spread over these
TABLE = 2 * 150 + 10 * 10  # epochs: Original and Retrain, and ten methods


def flops_an_image(network: str, size: int) -> float:
    """Floating-point operations of a step an image, forward and backward, as PyTorch counts them."""
    model = create(network, CLASSES, (0.5,) * 3, (0.3,) * 3)
    x, y = torch.zeros(2, 3, size, size), torch.zeros(2, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(x), y).backward()
    return counter.get_total_flops() / 2


def product_flops(place: torch.device, n: int = 8192, repeats: int = 20) -> float:
    """Floating-point operations a second of a matrix product in the loop's precision: what the device can do."""
    a = torch.randn(n, n, device=place, dtype=precision_of(Config(), place))

    def products() -> None:
        for _ in range(repeats):
            a @ a

    products()
    return 2 * n**3 * repeats / seconds(products, place)


def measure_network(
    network: str, size: int, place: torch.device, images: int, batch: int, peak: float
) -> dict[str, Any]:
    """Images a second of the loop against bare steps and the usual loop."""
    data, split = noise(images, size, CLASSES, place)
    config = Config(epochs=EPOCHS_A_RUN, batch_size=batch)
    few, of_few = noise(min(5_000, images), size, CLASSES, place)  # the usual loop is slow, and as slow on few images
    runs = {
        "ours": our_loop(data, split, config, network),
        "bare": bare_steps(data, split, config, place, network),
        "few": our_loop(few, of_few, config, network),
        "usual": usual_loop(few, of_few, config, 0, place, network),
    }
    times = interleaved(runs, REPEATS, place)
    seen = config.epochs * (len(split.forget) + len(split.retain))
    rate = seen / statistics.median(times["ours"])
    return {
        "what": f"{network} at {size}x{size}, batch {batch}",
        "images/s": rate,
        "share of a matrix product": rate * flops_an_image(network, size) / peak,
        "bare / ours": ratio(times, "bare", "ours"),
        "usual / ours": ratio(times, "usual", "few"),
        "150 epochs of 45,000, s": 150 * 45_000 / rate,
        "10 epochs of 45,000, s": 10 * 45_000 / rate,
        "a table, minutes": TABLE * 45_000 / rate / 60,
    }


def main(
    cases: list[tuple[str, int]] = NETWORKS_AND_SIZES, images: int = IMAGES, batch: int = 512, product: int = 8192
) -> None:
    """Measure, print, store."""
    place = device()
    peak = product_flops(place, product)
    rows: list[dict[str, Any]] = [{"what": "a matrix product", "TFLOP/s": peak / 1e12}]
    for network, size in cases:
        rows.append(measure_network(network, size, place, images * 32 // size, batch, peak))
        store("gpu", rows, place)  # as they come: a lent machine may be taken back
    network, size = cases[0]
    rows += schedules(network, *noise(images, size, CLASSES, place), Config(epochs=2, batch_size=batch), place)
    store("gpu", rows + memory(place), place)


if __name__ == "__main__":
    main()
