"""Three studies on generated textures: network width, rates over several seeds, distances to eight Retrains.

    python benchmarks/textures.py width --out results/width
    python benchmarks/textures.py tuning --out results/tuning
    python benchmarks/textures.py ensemble --out results/ensemble --tuning results/tuning

`width`: `tiny` at one, two and four times its channels; rl and rl-fixed at four rates each, three seeds, two Retrains.
`tuning`: six rates of each method, or seven, on seeds 100 to 102, at a small and a large exponent, beside two Retrains:
rates are chosen on these seeds. `ensemble`: six other seeds beside eight Retrains each, every method at the rate whose
Avg. Gap has the smallest mean over the tuning seeds, at half and at twice that rate, and at one that comes nearer to
the Retrains' FA, or three where FA is steep in the rate (STEEP_IN_RATE). A row of which one part is exchanged runs at
the rates of that row, without a search of its own (SAME_RATES): the two are read at equal FA. All draw new images for
every seed. The same command goes on after a stop, and may run several times at once; `--methods` and `--gammas` run a
part.

What per-sample weights add to LoTUS' one number, decided before `ensemble` ran it: they add something if, at the
Retrains' FA, W1 to the Retrains on all forgotten images, a seed's mean over both exponents, is lower by an interval
over seeds clear of 0, and neither RA nor TA is shown to be further from Retrain's, in both comparisons that change
nothing but the weight, rl+falw-epoch - rl+lotus-scalar and lotus+falw - lotus. In one of them: in part. Head, mid and
tail say where.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from joblib import Parallel, delayed
from memorising import TWO_GAMMAS
from torch import nn

from falw.architectures import _residual
from falw.lab.cells import RECIPES, UNLEARN, Setting
from falw.lab.curves import curve
from falw.lab.records import records
from falw.lab.tables import turned_in
from falw.models import MODELS

if TYPE_CHECKING:
    from pandas import DataFrame

WIDTHS, CHANNELS = (1, 2, 4), (16, 32, 64)
WIDTH_RATES = {"rl": (0.08, 0.32), "rl-fixed": (0.01, 0.04)}


class Search(NamedTuple):
    """Values of what a method turns (`lab.curves.knob`): `first` times these powers of `factor`.

    Six of them, and one beyond an end at which the best of six lay. coefficient: that of its `Config` where that is not
    turned, None for the one in its row.
    """

    first: float
    factor: float = 2.0
    coefficient: float | None = None
    powers: Sequence[int] = range(6)


SEARCHES = {
    **{"rl": Search(0.02), "salun": Search(0.02), "ft": Search(0.05)},
    **dict.fromkeys(("rl-fixed", "rl+falw-epoch", "salun-fixed", "falw-epoch"), Search(0.005)),
    "lotus": Search(1e-4, coefficient=8.0),  # at the 2 of its other networks FA stays where it was
    **{"delete": Search(5e-4, powers=range(7)), "bad-teacher": Search(1e-4, powers=range(7))},
    **{"scrub": Search(0.005, 1.5, powers=range(-1, 6)), "neggrad+": Search(0.01)},
    **{"ssd": Search(1.0, 1.5), "amun": Search(0.04), "ft-reweighted": Search(0.05)},
}
SAME_RATES = {"rl+lotus-scalar": "rl+falw-epoch", "lotus+falw": "lotus"}

# Of these, on half of the seeds or more, the runs on both sides of the Retrains' FA were more than 20 points of FA or
# RA apart, so that what is read between them is no run's: two more rates (LoTUS for the comparison with its exchange).
STEEP_IN_RATE = {("ft", 0.5), ("ssd", 0.5), ("lotus", 0.5), ("lotus+falw", 0.5), ("neggrad+", 2.0)}
STEEP_IN_RATE |= {("scrub", 0.5), ("scrub", 2.0)}


class Job(NamedTuple):
    """Methods on settings: what a process does."""

    settings: Sequence[Setting]
    first: dict[str, Sequence[float]]  # rates of each method, of which four are made
    retrains: int = 2
    rates: int = 4
    coefficient: float | None = None


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


def width(args: argparse.Namespace) -> list[Job]:
    """The widest first, as it takes longest."""
    return [
        Job([Setting(model=network(times), seed=seed, data_seed=seed)], {method: first})
        for times in sorted(map(int, args.widths.split(",")), reverse=True)
        for method, first in WIDTH_RATES.items()
        for seed in range(3)
    ]


def tuning(args: argparse.Namespace) -> list[Job]:
    """The values of every method that has a search."""
    return [
        Job(drawn(gamma, (100, 101, 102)), {method: [first * factor**k for k in powers]}, 2, len(powers), coefficient)
        for gamma, method in asked(args)
        if method in SEARCHES
        for first, factor, coefficient, powers in [SEARCHES[method]]
    ]


def ensemble(args: argparse.Namespace) -> list[Job]:
    """The tuned rate of every method, half of it and twice, and one or three towards the Retrains' FA."""
    frame = records(args.tuning)
    return [
        Job(drawn(gamma, range(6)), {method: [best, best / factor, best * factor]}, 8, rates, coefficient)
        for gamma, method in asked(args)
        for searched in [SAME_RATES.get(method, method)]
        for _, factor, coefficient, _ in [SEARCHES[searched]]
        for best in [best_rate(frame, gamma, searched)]
        for rates in [6 if (method, gamma) in STEEP_IN_RATE else 4]
    ]


def asked(args: argparse.Namespace) -> list[tuple[float, str]]:
    """The exponents and methods asked for."""
    return list(product(map(float, args.gammas.split(",")), args.methods.split(",")))


def drawn(gamma: float, seeds: Iterable[int]) -> list[Setting]:
    """New images for every seed."""
    return [Setting(gamma=gamma, seed=seed, data_seed=seed) for seed in seeds]


def best_rate(frame: DataFrame, gamma: float, method: str) -> float:
    """The rate with the smallest mean Avg. Gap over the tuning seeds, all of which must have run it."""
    runs = frame[(frame.gamma == gamma) & (frame.method == method)]
    means = runs.groupby(turned_in(runs)).gap.agg(["mean", "count"]) if len(runs) else runs
    if len(means) < 6 or means["count"].min() < 3:
        raise ValueError(f"the search for {method} at gamma {gamma} is not complete: run the tuning study first")
    return float(means["mean"].idxmin())


TEXTURE_STUDIES = {"width": width, "tuning": tuning, "ensemble": ensemble}


def run_job(job: Job, out: Path, device: str) -> None:
    """References and methods of a setting."""
    for times in WIDTHS:
        network(times)  # in a worker, too
    how: dict[str, Any] = {"rates": job.rates, "retrains": job.retrains, "device": device, "jobs": 1}
    how |= {} if job.coefficient is None else {"coefficient": job.coefficient}
    curve(job.settings, [*job.first], out, first_rates=job.first, **how)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=[*TEXTURE_STUDIES])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS)))
    parser.add_argument("--methods", default=",".join([*SEARCHES, *SAME_RATES]), help="of the last two (default: all)")
    parser.add_argument("--gammas", default=",".join(map(str, TWO_GAMMAS)), help="the same (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--tuning", type=Path, help="the folder of the tuning study, for `ensemble`")
    args = parser.parse_args(argv)
    jobs = TEXTURE_STUDIES[args.study](args)
    Parallel(n_jobs=args.jobs)(delayed(run_job)(job, args.out, args.device) for job in jobs)


if __name__ == "__main__":
    main()
