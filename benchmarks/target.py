"""neighbour-target on generated textures, by the plan in results/target/PREREGISTRATION.md.

    python benchmarks/target.py tuning --out RUNS/tuning
    python benchmarks/target.py report --out RUNS/ensemble --tuning RUNS/tuning
    python benchmarks/target.py parts --out RUNS/ensemble --tuning RUNS/tuning

The folders begin as copies of results/tuning and results/ensemble, whose references and rivals these runs share.
`tuning`: six rates on seeds 100 to 102. `report`: at the rate that this chose, then with `--rates 4` at half, twice and
one nearer to the Retrains' FA. `parts`: rows that differ from it in one part, and other ideas, at its rate. The same
command goes on after a stop.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from memorising import TWO_GAMMAS
from textures import Job, best_rate, run_job

from falw.lab.cells import Setting
from falw.lab.records import records

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


TARGET_STUDIES = {"tuning": search, "report": at_chosen_rate, "parts": exchanged}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=[*TARGET_STUDIES])
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
    for job in TARGET_STUDIES[args.study](args):
        run_job(job, args.out, "cpu")


if __name__ == "__main__":
    main()
