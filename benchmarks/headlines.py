"""Three headlines, in points at equal FA, from the JSON files under results/ alone: nothing of the package is used."""

import json
from itertools import combinations, pairwise, product
from pathlib import Path

import numpy as np
from scipy.stats import ttest_1samp


def read(folder, gamma):
    """Of each seed {method: rows of rate, FA, RA, TA, by rate}; runs that diverged are left out."""
    cells, files = {}, (Path(__file__).parents[1] / "results" / folder).glob("?" * 16 + ".json")
    for r in (r for r in map(json.loads, map(Path.read_text, files)) if r["scores"] and r["setting"]["gamma"] == gamma):
        runs = cells.setdefault(r["setting"]["seed"], {}).setdefault(r["method"], [])
        runs.append([r["config"]["lr"], *(r["scores"][name] for name in ("fa", "ra", "ta"))])
    return [{method: np.array(sorted(runs)) for method, runs in cell.items()} for cell in cells.values()]


def read_off(cell, method):
    """RA and TA less the Retrains' means, between the two rates around their mean FA; NaN where no two are."""
    runs, aim = cell.get(method, np.empty((0, 4)))[:, 1:], cell["retrain"][:, 1:].mean(0)
    pairs = [(a, b) for a, b in pairwise(runs) if min(a[0], b[0]) <= aim[0] <= max(a[0], b[0])]
    a, b = min(pairs, key=lambda pair: abs(pair[0][0] - pair[1][0]), default=np.full((2, 3), np.nan))
    return (a + (aim[0] - a[0]) / (b[0] - a[0]) * (b - a) - aim)[1:]


def contrast(cells, method, base, k):
    """Mean, Student's t 95 % interval and number of seeds, of RA (k 0) or TA (k 1); the distance of two Retrains."""
    d = np.array([(read_off(cell, method) - read_off(cell, base))[k] for cell in cells])
    floor = np.mean([abs(a - b)[2 + k] for cell in cells for a, b in combinations(cell["retrain"], 2)])
    return np.nanmean(d), *ttest_1samp(d, 0, nan_policy="omit").confidence_interval(), np.isfinite(d).sum(), floor


for (m, base), g, k in product((("rl-fixed", "rl"), ("rl+falw-epoch", "rl-fixed")), (0.5, 2.0), (0, 1)):
    mean, low, high, n, floor = contrast(read("memorising/cifar10", g), m, base, k)
    told = f"{'' if max(-low, high) < floor else 'not '}shown to be equal within the floor {floor:.2f}"
    print(f"gamma {g}: {m} less {base}, {'RT'[k]}A {mean:+.2f} [{low:+.2f}, {high:+.2f}], {n} seeds, {told}")
for m in ("rl", "rl-fixed", "rl+falw-epoch", "salun", "salun-fixed", "falw-every10", "ft"):
    print(f"ResNet-18, {m} less Retrain: RA {read_off(read('gpu/nvidia-h200', 1.0)[0], m)[0]:+.2f}")
