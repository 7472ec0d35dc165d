"""How fast the loop is: against the usual loop, against the bare step, by schedule of FaLW, and by size.

Run by hand: python benchmarks/loop.py. A ratio is within this run, the median over interleaved repeats; an absolute
time is this machine's at that moment.
"""

from __future__ import annotations

import os
import resource
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from common import device, interleaved, ratio, seconds, store
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms

from falw.config import Config, precision_of
from falw.data import load_dataset
from falw.images import Dataset, Images
from falw.methods import METHODS, Method, unlearn
from falw.models import create
from falw.parts import Task, falw_weight
from falw.split import Split, long_tailed_split
from falw.train import Objective, draw_augmentation, epoch_steps, fit, load_batch, steps_to_device
from falw.weights import class_stats, forgetting_weight, z_score

REPEATS = 3


class Pictures(torch.utils.data.Dataset):
    """Images one by one, as Pillow images through torchvision's transforms: how it is usually done."""

    def __init__(self, images: Images, index: torch.Tensor, data: Dataset, pad: int):
        size = images.x.shape[-1]
        self.images = [transforms.functional.to_pil_image(x) for x in images.x[index].cpu()]
        self.labels = images.y[index].tolist()
        crop = [transforms.RandomCrop(size, pad)] if pad else []
        self.transform = transforms.Compose(
            [*crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, k: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[k]), self.labels[k]


def loader(data: Dataset, split: Split, config: Config, workers: int) -> DataLoader:
    """What gives the usual loop its batches."""
    pictures = Pictures(data.train, torch.cat([split.forget, split.retain]), data, config.crop)
    return DataLoader(pictures, config.batch_size, shuffle=True, num_workers=workers)


def usual_loop(
    data: Dataset, split: Split, config: Config, workers: int, place: torch.device, network: str = "tiny"
) -> Callable[[], Any]:
    """Epochs over a DataLoader, float32, contiguous, with the loss and the accuracy read after every step."""
    batches = loader(data, split, config, workers)
    model = create(network, data.num_classes, (0.0,) * 3, (1.0,) * 3).to(place).train()  # they are normalised

    def run() -> float:
        optimizer = torch.optim.SGD(
            model.parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        total = 0.0
        for _ in range(config.epochs):
            for x, y in batches:
                x, y = x.to(place), y.to(place)
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() + (logits.argmax(1) == y).float().mean().item()
        return total

    return run


def usual_batches(data: Dataset, split: Split, config: Config) -> Callable[[], Any]:
    """The batches of the usual loop without a network."""
    batches = loader(data, split, config, 0)
    return lambda: [len(y) for _ in range(config.epochs) for _, y in batches]


def our_loop(data: Dataset, split: Split, config: Config, network: str = "tiny") -> Callable[[], Any]:
    """The same epochs with `fit`."""
    model = create(network, data.num_classes, data.mean, data.std)
    return lambda: fit(model, data, split, Objective(), config)


def our_batches(data: Dataset, split: Split, config: Config, place: torch.device) -> Callable[[], Any]:
    """The batches of `fit` without a network: order, crops, gathering."""
    forget = torch.zeros(len(data.train.y), dtype=torch.bool, device=place)

    def run() -> None:
        for epoch in range(config.epochs):
            draws = draw_augmentation(len(data.train.y), config, epoch, place)
            for step in steps_to_device(epoch_steps("union", split, config, epoch), place):
                load_batch(data.train, step.index, draws, config, forget, epoch)

    return run


def bare_steps(
    data: Dataset, split: Split, config: Config, place: torch.device, network: str = "tiny"
) -> Callable[[], Any]:
    """As many steps of the same network on one batch of pixels that never changes: what no loop can be faster than."""
    steps = config.epochs * len(epoch_steps("union", split, config, 0))
    x, y = data.train.x[: config.batch_size], data.train.y[: config.batch_size]
    autocast = torch.autocast(place.type, precision_of(config, place), enabled=place.type == "cuda")
    model = create(network, data.num_classes, data.mean, data.std).to(place).to(memory_format=torch.channels_last)
    model.train()

    def run() -> None:
        optimizer = torch.optim.SGD(
            model.parameters(), config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        for _ in range(steps):
            with autocast:
                loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def generated(size: int, place: torch.device, val: float = 0.2, **options: Any) -> tuple[Dataset, Split]:
    """Textures of a size, and a split of them."""
    data = load_dataset("textures", device=place, size=size, **options)
    return data, long_tailed_split(data.train.y, 0.3, 0.5, val)


def noise(n: int, size: int, classes: int, place: torch.device) -> tuple[Dataset, Split]:
    """Pixels without meaning, a tenth held out: time does not depend on what they show."""
    x = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, device=place)
    y = torch.arange(n, device=place) % classes
    names = tuple(map(str, range(classes)))
    data = Dataset("noise", Images(x, y), Images(x[:10], y[:10]), names, (0.5,) * 3, (0.3,) * 3)
    return data, long_tailed_split(y.cpu(), 0.3, 0.5, 0.1)


def against_the_usual(place: torch.device) -> list[dict[str, Any]]:
    """(1) and (2): ours, the usual loop with 0 and 2 workers, bare steps, and what the batches alone take."""
    rows = []
    before = torch.get_num_threads()
    for threads in sorted({1, os.cpu_count() or 1}) if place.type == "cpu" else [before]:
        torch.set_num_threads(threads)
        for size in (16, 32):
            data, split = generated(size, place, classes=20)
            config = Config(epochs=48 // size, lr=0.01, batch_size=64, crop=0 if size == 16 else 4)
            runs = {
                "ours": our_loop(data, split, config),
                "usual": usual_loop(data, split, config, 0, place),
                "usual, 2 workers": usual_loop(data, split, config, 2, place),
                "bare": bare_steps(data, split, config, place),
                "our batches": our_batches(data, split, config, place),
                "usual batches": usual_batches(data, split, config),
            }
            times = interleaved(runs, REPEATS, place)
            images = config.epochs * (len(split.forget) + len(split.retain))
            rows.append(
                {
                    "what": f"tiny at {size}x{size}, batch 64, {threads} thread{'s' * (threads > 1)}",
                    "ours, images/s": images / statistics.median(times["ours"]),
                    "usual / ours": ratio(times, "usual", "ours"),
                    "usual with 2 workers / ours": ratio(times, "usual, 2 workers", "ours"),
                    "bare / ours": ratio(times, "bare", "ours"),
                    "our batches alone / ours": ratio(times, "our batches", "ours"),
                    "usual batches alone / usual": ratio(times, "usual batches", "usual"),
                }
            )
    torch.set_num_threads(before)
    return rows


PARTS = {"convolutions": "conv", "batch norm": "batch_norm", "optimiser": "SGD"}


def operator_shares(place: torch.device) -> list[dict[str, Any]]:
    """Where the time of our step goes, by the names of PyTorch's operators: why no loop makes it much faster."""
    rows = []
    for size in (16, 32):
        data, split = generated(size, place, classes=20)
        run = our_loop(data, split, Config(epochs=48 // size, lr=0.01, batch_size=64, crop=0 if size == 16 else 4))
        run()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
            run()
        spent = {event.key: event.self_cpu_time_total for event in found.key_averages()}
        total = sum(spent.values())
        shares = {name: sum(t for key, t in spent.items() if word in key) / total for name, word in PARTS.items()}
        rows.append({"what": f"share of our step at {size}x{size}", **shares, "the rest": 1 - sum(shares.values())})
    return rows


def schedules(network: str, data: Dataset, split: Split, config: Config, place: torch.device) -> list[dict[str, Any]]:
    """(3): FaLW's schedules against the same method without a weight, and what their forward passes alone come to."""
    original = create(network, data.num_classes, data.mean, data.std).to(place).eval()
    original.to(memory_format=torch.channels_last)  # as `fit` has it
    plain = METHODS["rl+falw"]
    rows = {"none": replace(plain, weight=None)}
    rows |= {str(r): replace(plain, weight=falw_weight(refresh=r)) for r in (1, 10, "epoch", "rolling")}
    runs: dict[str, Callable[[], Any]] = {
        name: (lambda row=row: unlearn(row, original, data, split, config)) for name, row in rows.items()
    }
    steps = len(epoch_steps("union", split, config, 0))

    def passes(row: Method) -> None:
        weight = row.weight(Task(original, data, split, config))
        for epoch in range(config.epochs):
            for _ in range(steps):
                weight.update(original, epoch)

    runs |= {f"passes, {name}": (lambda row=row: passes(row)) for name, row in rows.items() if row.weight}
    times = interleaved(runs, REPEATS, place)
    return [
        {
            "what": f"{network}, FaLW, refresh {name}",
            "seconds / without a weight": ratio(times, name, "none"),
            "1 + forward passes alone": 1 + ratio(times, f"passes, {name}", "none"),
        }
        for name in rows
        if name != "none"
    ]


def scaling(place: torch.device) -> list[dict[str, Any]]:
    """(4): seconds an image by the number of images and classes, and of the statistics by unseen images."""
    rows = []
    for n, classes in ((1_000, 10), (5_000, 10), (50_000, 10), (5_000, 100)):
        data, split = noise(n, 16, classes, place)
        config = Config(epochs=max(1, 5_000 // n), lr=0.01, batch_size=64, crop=0)
        run = our_loop(data, split, config)
        times = [seconds(run, place)] if n > 5_000 else interleaved({"ours": run}, 3, place)["ours"]
        images = config.epochs * (len(split.forget) + len(split.retain))
        rows.append({"what": f"{n} images, {classes} classes", "microseconds an image": 1e6 * min(times) / images})
    for n in (1_000, 10_000, 100_000):
        p, y = torch.rand(n, device=place), torch.arange(n, device=place) % 100

        def weigh(p: torch.Tensor = p, y: torch.Tensor = y) -> None:
            for _ in range(20):
                forgetting_weight(z_score(p, y, class_stats(p, y, 100)))

        times = interleaved({"weights": weigh}, 5, place)["weights"]
        rows.append(
            {"what": f"statistics and weights of {n} images", "microseconds an image": 1e6 * min(times) / 20 / n}
        )
    return rows


def memory(place: torch.device) -> list[dict[str, Any]]:
    """(5): the most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    row = {"what": "all of the above", "peak MiB": peak}
    if place.type == "cuda":
        row["peak MiB on the GPU"] = torch.cuda.max_memory_allocated(place) / 2**20
    return [row]


def main() -> None:
    """Measure, print, store."""
    place = device()
    rows = against_the_usual(place) + operator_shares(place)
    # A tenth of the images is held out, as in the paper; the cost grows with that share.
    rows += schedules("tiny", *generated(16, place, val=0.1), Config(epochs=2, lr=0.01, batch_size=64, crop=0), place)
    store("loop", rows + scaling(place) + memory(place), place)


if __name__ == "__main__":
    main()
