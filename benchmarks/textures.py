"""Two studies on generated textures: does a wider network forget more cheaply, and which rate is best over seeds.

    python benchmarks/textures.py width --out results/width
    python benchmarks/textures.py tuning --out results/tuning

`width`: `tiny` at one, two and four times its channels; rl and rl-fixed at four rates each, three seeds, two Retrains.
`tuning`: six rates of each method on seeds 100 to 102, at a small and a large exponent, beside two Retrains; no result
is read off these seeds. Both draw new images for every seed. The same command goes on after a stop, and may run
several times at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from joblib import Parallel, delayed
from memorising import run_setting
from torch import nn

from falw.architectures import _residual
from falw.lab.cells import RECIPES, UNLEARN, Setting
from falw.models import MODELS

WIDTHS, CHANNELS = (1, 2, 4), (16, 32, 64)
FIRST_RATES = {"rl": (0.08, 0.32), "rl-fixed": (0.01, 0.04)}
LOWEST = {"rl": 0.01, "salun": 0.01, "ft": 0.05}  # of six, each twice the one before
LOWEST |= dict.fromkeys(("rl-fixed", "rl+falw-epoch", "salun-fixed", "falw-epoch"), 0.005)


class Task(NamedTuple):
    """One method on one setting: what a process does."""

    setting: Setting
    method: str
    first: Sequence[float]
    rates: int


def wide(times: int, num_classes: int) -> tuple[nn.Sequential, nn.Linear]:
    """`tiny` with so many times its channels."""
    a, b, c = CHANNELS
    return _residual((a * times, b * times, c * times), 1, num_classes)


def network(times: int) -> str:
    """The name of `tiny` at a width, known to this process from then on."""
    name = "tiny" if times == 1 else f"tiny-x{times}"
    MODELS.setdefault(name, partial(wide, times))
    RECIPES.setdefault(name, RECIPES["tiny"])
    UNLEARN.setdefault(name, UNLEARN["tiny"])
    return name


def width(widths: Sequence[int]) -> list[Task]:
    """The widest first, as it takes longest."""
    return [
        Task(Setting(model=network(times), seed=seed, data_seed=seed), method, first, 4)
        for times in sorted(widths, reverse=True)
        for method, first in FIRST_RATES.items()
        for seed in range(3)
    ]


def tuning(widths: Sequence[int]) -> list[Task]:
    """Of `tiny` alone."""
    return [
        Task(Setting(gamma=gamma, seed=seed, data_seed=seed), method, [low * 2**k for k in range(6)], 6)
        for method, low in LOWEST.items()
        for gamma in (0.5, 2.0)
        for seed in (100, 101, 102)
    ]


STUDIES = {"width": width, "tuning": tuning}


def run_task(task: Task, out: Path, device: str) -> None:
    """References and one method of a setting."""
    for times in WIDTHS:
        network(times)  # in a worker, too
    run_setting(task.setting, out, {task.method: task.first}, retrains=2, rates=task.rates, device=device)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=[*STUDIES])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS)))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    args = parser.parse_args(argv)
    tasks = STUDIES[args.study]([int(times) for times in args.widths.split(",")])
    Parallel(n_jobs=args.jobs)(delayed(run_task)(task, args.out, args.device) for task in tasks)


if __name__ == "__main__":
    main()
