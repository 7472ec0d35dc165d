"""How much faster the fast path of the audit is than scikit-learn's SVC, and by how much their scores differ.

Run by hand: python benchmarks/audit.py [repeats] [points]. Both are timed in this process, in turns,
on the points that train the attacker (10,000, half members) and 4,500 forgotten images. Times are medians, from
predictions to score.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import torch
from common import CPU, store

from falw.audit import FEATURES, svc_mia
from falw.metrics import Part, Predictions

# classes, then (margin, spread) of the true class's logit for members, others and the forget set
CASES = {
    "memorised, 10 classes": (10, (14, 3), (5, 4), (6, 4)),
    "memorised, 100 classes": (100, (12, 2), (4, 4), (3, 4)),
    "most at 1.0, 10 classes": (10, (40, 8), (25, 15), (20, 12)),
    "overlapping, 100 classes": (100, (6, 1.5), (4, 2.5), (4, 2)),
}


def draw(n: int, classes: int, margin: float, spread: float, seed: int) -> Part:
    """Softmax of noise, the true class ahead by a margin that differs between images."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=g)
    z = torch.randn(n, classes, generator=g)
    z[torch.arange(n), y] += margin + spread * torch.randn(n, generator=g)
    return Part(z.softmax(1), y)


def timed(pred: Predictions, feature: str, fast: bool) -> tuple[float, float]:
    """The score and the seconds it took."""
    start = time.perf_counter()
    score = svc_mia(pred, feature, fast=fast)
    return score, time.perf_counter() - start


def compare(pred: Predictions, feature: str, repeats: int) -> dict[str, float]:
    """Median seconds of both, their ratio, the score and the difference."""
    runs = [(timed(pred, feature, fast=False), timed(pred, feature, fast=True)) for _ in range(repeats)]
    exact, fast = (statistics.median(run[k][1] for run in runs) for k in (0, 1))
    score, difference = runs[0][0][0], runs[0][1][0] - runs[0][0][0]
    return {
        "exact, s": exact,
        "fast, s": fast,
        "exact / fast": exact / fast,
        "score": score,
        "fast - exact": difference,
    }


def main(repeats: int = 1, points: int = 10_000) -> None:
    """Measure, print, store."""
    rows: list[dict[str, Any]] = []
    torch.set_num_threads(1)
    svc_mia(Predictions(*[draw(40, 4, 3, 2, seed) for seed in range(4)]), "confidence", fast=False)  # imports
    for name, (classes, members, others, forget) in CASES.items():
        n = points // 2
        parts = [draw(k, classes, *m, seed) for seed, (k, m) in enumerate([(4500, forget), (n, members), (n, others)])]
        pred = Predictions(parts[0], parts[1], parts[0], parts[2])
        for feature in FEATURES:
            if feature != "prob":
                rows.append({"what": f"{name}, {feature}", "points": points, **compare(pred, feature, repeats)})
    store("audit", rows, CPU)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
