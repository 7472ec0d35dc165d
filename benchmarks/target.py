"""neighbour-target on generated textures, by the plan in results/target/PREREGISTRATION.md.

    python benchmarks/target.py tuning --out RUNS/tuning
    python benchmarks/target.py report --out RUNS/ensemble --tuning RUNS/tuning
    python benchmarks/target.py parts --out RUNS/ensemble --tuning RUNS/tuning

The folders begin as copies of results/tuning and results/ensemble, whose references and rivals these runs share.
`tuning`: six rates on seeds 100 to 102. `report`: at the rate that this chose, then with `--rates 4` at half, twice and
one nearer to the Retrains' FA. `parts`: rows that differ from it in one part, and other ideas, at its rate. `guesses`:
what the soft labels say of the forgotten images beside the Retrains, into guesses.json. The same command goes on after
a stop.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from memorising import TWO_GAMMAS
from textures import Job, best_rate, run_job
from torch import Tensor

from falw.lab.cells import Setting, cells_of
from falw.lab.records import read_forget, records
from falw.lab.run import load_setting, original
from falw.methods import METHODS
from falw.metrics import Part, accuracy, distances, reference
from falw.parts import Task
from falw.train import predict
from falw.weights import class_stats

MAIN, LOWEST_RATE = "neighbour-target", 0.02  # the lowest of six rates, each twice the one before
EXCHANGED_PARTS = ("target-own-rank", "target-unshifted", "target-power1", "target-even", "target-within")
IDEAS = ("target-moving", "target-unseen", "neighbour-target-reweighted", "target+falw")


def settings_beside(args: argparse.Namespace, seeds: str) -> Iterator[Setting]:
    """Those of a study, seed by seed."""
    for seed in (args.seeds or seeds).split(","):
        for gamma in args.gammas.split(","):
            yield Setting(gamma=float(gamma), seed=int(seed), data_seed=int(seed))


def search(args: argparse.Namespace) -> list[Job]:
    """Six rates."""
    rates = [LOWEST_RATE * 2**k for k in range(6)]
    return [Job(setting, {MAIN: rates}, rates=6) for setting in settings_beside(args, "100,101,102")]


def rate_at(gamma: float, args: argparse.Namespace) -> float:
    """The rate that was chosen at the nearest of the exponents asked for."""
    searched = map(float, args.searched.split(","))
    return best_rate(records(args.tuning), min(searched, key=lambda other: abs(other - gamma)), MAIN)


def at_chosen_rate(args: argparse.Namespace) -> list[Job]:
    """The chosen rate; half, twice and a fourth if as many are asked for."""
    first = [1, 0.5, 2][: args.rates]
    return [
        Job(s, {MAIN: [rate_at(s.gamma, args) * f for f in first]}, retrains=args.retrains, rates=args.rates)
        for s in settings_beside(args, "0,1,2,3,4,5")
    ]


def exchanged(args: argparse.Namespace) -> list[Job]:
    """The chosen rate of the whole for each."""
    names = args.methods.split(",") if args.methods else [*EXCHANGED_PARTS, *IDEAS]
    return [
        Job(s, {name: [rate_at(s.gamma, args)]}, retrains=args.retrains, rates=1)
        for name in names
        for s in settings_beside(args, "0,1,2")
    ]


def guesses_of(setting: Setting, out: Path) -> dict[str, Any]:
    """What is said of the forgotten images without Retrain, the soft labels above all, beside the Retrains of `out`.

    "predicted_fa": percent of labels that are largest at the true class. "labels": `metrics.distances` of the labels,
    taken for a model's answers. "explained": share of the variance of a Retrain's p that each guess explains, a mean
    over the Retrains; of another Retrain over all pairs.
    """
    data, split = load_setting(setting)
    retrains = [read_forget(cell.key, out) for cell in cells_of(setting, [], retrains=8)[1:]]
    model, y = original(setting, out), data.train.y[split.forget]
    task = Task(model, data, split, cells_of(setting, [MAIN])[-1].config)
    labels = METHODS[MAIN].targets(task).table[split.forget]  # type: ignore[attr-defined]
    own, unseen = (predict(model, data, split)._asdict()[name] for name in ("forget", "val"))
    mean = class_stats(unseen.p_true, unseen.y, data.num_classes).mean[y]
    guesses = {"original": own.p_true, "class mean": mean, "label": Part(labels, y).p_true}
    explained = {name: fmean(shared(p, r.p_true) for r in retrains) for name, p in guesses.items()}
    pairs = [shared(a.p_true, b.p_true) for a, b in combinations(retrains, 2)]
    return {
        "predicted_fa": accuracy(Part(labels, y)),
        "labels": distances(Part(labels, y), reference(retrains)),
        "explained": {**explained, "another Retrain": fmean(pairs)},
    }


def shared(a: Tensor, b: Tensor) -> float:
    """Share of the variance of one that the other explains, in a straight line."""
    return torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1].item() ** 2


def write_guesses(args: argparse.Namespace) -> None:
    """guesses.json in `out`: `guesses_of` by exponent and seed."""
    found = [
        {"gamma": s.gamma, "seed": s.seed, **guesses_of(s, args.out)} for s in settings_beside(args, "0,1,2,3,4,5")
    ]
    (args.out / "guesses.json").write_text(json.dumps(found, indent=1))


TARGET_STUDIES = {"tuning": search, "report": at_chosen_rate, "parts": exchanged}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=[*TARGET_STUDIES, "guesses"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tuning", type=Path, help="the folder of the tuning study, for the others")
    both = ",".join(f"{gamma:g}" for gamma in TWO_GAMMAS)
    parser.add_argument("--searched", default=both, help="exponents of that study whose rates are taken")
    parser.add_argument("--seeds", help="joined by commas (default: those of the study)")
    parser.add_argument("--gammas", default=both)
    parser.add_argument("--methods", help="of `parts`, joined by commas (default: all)")
    parser.add_argument("--rates", type=int, default=1, help="of `report` (default: 1)")
    parser.add_argument("--retrains", type=int, default=8)
    args = parser.parse_args(argv)
    if args.study == "guesses":
        return write_guesses(args)
    for job in TARGET_STUDIES[args.study](args):
        run_job(job, args.out, "cpu")


if __name__ == "__main__":
    main()
