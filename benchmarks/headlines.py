"""Three headlines, in points at equal FA, from the JSON files under results/ alone: nothing of the package is used."""

import json
from collections import Counter
from itertools import combinations, pairwise, product
from pathlib import Path

import numpy as np
from scipy.stats import ttest_1samp


def read(folder, gamma, shared=False):
    """Of each seed {method: rows of rate, FA, RA, TA, by rate}, `shared` at rates of all; no runs that diverged."""
    cells, ran = {}, Counter()
    for path in (Path(__file__).parents[1] / "results" / folder).glob("?" * 16 + ".json"):
        if (r := json.loads(path.read_text()))["scores"] and r["setting"]["gamma"] == gamma:
            runs = cells.setdefault(r["setting"]["seed"], {}).setdefault(r["method"], [])
            runs.append([r["config"]["lr"], *(r["scores"][name] for name in ("fa", "ra", "ta"))])
            ran[r["method"], r["config"]["lr"]] += 1
    kept = {run for run, times in ran.items() if times >= shared * len(cells)}
    return [
        {m: np.array(sorted(r for r in runs if (m, r[0]) in kept)) for m, runs in c.items()} for c in cells.values()
    ]


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


sets = ("memorising/cifar10", 0.5), ("memorising/cifar10", 2.0), ("gpu/nvidia-h200", 1.0, True)
for of, (m, base), k in product(sets, (("rl-fixed", "rl"), ("rl+falw-epoch", "rl-fixed")), (0, 1)):
    mean, low, high, n, floor = contrast(read(*of), m, base, k)
    told = ", equal within the floor" if max(-low, high) < floor else ""
    print(f"{of[0]} {of[1]}: {m} less {base}, {'RT'[k]}A {mean:+.2f} [{low:+.2f}, {high:+.2f}], {n} seeds{told}")
