"""Why random labels under a weight end where they end: what was asked before the runs, and the runs.

    python benchmarks/mechanism.py --out runs/ensemble --part statistics

Textures as in results/ensemble (`tiny`, ratio 0.3, exponents 1/2 and 2, new images, split and training for every seed),
seeds 0 to 4, whose Original, eight Retrains and methods are the reference. Every row of `brakes` runs at two rates and,
where these do not lie around the Retrains' FA, at a third and a fourth towards it; all is compared at that FA
(`lab.curves.at_equal_fa`). A stopped run goes on with the same command; about 7 s a cell on an idle core.

Written before the runs. Known by then: one seed's prototype, and what results/ensemble says of whole forget sets: at
equal FA and gamma 1/2 mean p lies 0.22 to 0.26 below Retrain's under random labels, with and without weight, 0.01
under ft; at gamma 2 it hardly differs, and W1 is 0.06 to 0.07. Nothing was known of unseen and retained images at equal
FA, of single classes, or of any row of `brakes`.

Words: d is p of the true class minus its mean over the eight Retrains; of unseen images it is taken on the test images,
which no statistic has seen. d(unseen) and d(retained) weigh classes by their forgotten images, so that they speak of
the same classes as d(forgotten). A class is "whole" where no image of it is retained (only at gamma 2), else "part":
these two are kept apart. A verdict is per exponent: "holds" where the 95 % interval of the mean over five seeds
(Student's t) lies on the side that is named, "does not hold" where it lies on the other, else "cannot be told". There
are 2 exponents and about 30 quantities, so one or two intervals beside 0 are expected by chance.

1. Wrong attractor. Under fixed labels unseen images of a class fall with the forgotten ones. For rl, rl-fixed,
   rl+falw-epoch and falw-epoch: d(forgotten, part) < 0 and d(unseen, part) < 0. Fails if the latter lies above 0.
   Beside it: |d(forgotten, part)| of rl+falw-epoch minus that of ft > 0; d(retained) is reported.
2. Moving statistics. If they were the main cause, Retrain's own mean and deviation (stats-retrain) would halve the
   distance: W1(row) - W1(rl+falw-epoch) / 2 < 0. The same for stats-original and stats-frozen.
3. A weaker brake. If the weight only were too weak, a full stop would halve it: the same for stop and stop-retrain.
   "A brake is no target" fails if stop-retrain halves W1; it is supported if d(unseen, part) of stop-retrain is
   below 0 as well.
4. The yardstick. Adjusted R2 of a straight-line fit to p_i of one Retrain over all forgotten images, mean over eight:
   mu_c of the Original less 0.1 < 0; own-class share of the 20 nearest retained images (cosine, the Original's
   features) minus mu_c with retained share and their product > 0; it minus the class's own mean under that Retrain,
   which no number per class can beat, > 0; another Retrain minus it > 0.
5. The way it points. Of forgotten images under rl+falw-epoch: balanced accuracy of sign(p_i - mu_c) as a guess of
   sign(p_i - mean of the Retrains' p_i), minus 0.5 > 0.
6. Where the target is right. At gamma 2 |d(forgotten)| of whole classes minus that of part classes < 0.
7. Normal or Beta. Each class's distribution from 25 unseen images, tested on 50 others (Kolmogorov-Smirnov, 5 %), under
   Original and Retrain: share of classes refused, normal minus Beta > 0; beside it two samples without a model. Does it
   matter: Spearman's correlation of the weights of forgotten images under either, less 0.9, > 0.
8. Shapes, unseen images, and none of them: W1(row) - W1(rl+falw-epoch) for brake, push, linear, stop; val-5, val-10 and
   rl-fixed (no weight); cross-fitted, augmented, sliced. "The same" where the whole interval lies within the floor, the
   mean W1 of one Retrain to the seven others; else lower, higher, or not to be told.

9. Which half, or how much (written on 2026-11-28, when all of the above was known and no cell of this had run). At 1/2
   brake is nearer than FaLW's weight and keeps RA, push loses RA. If that is only a matter of how much the forget term
   weighs, a constant below and above 1 does the same: weight-0.5 and weight-1.5. "It is the amount" for the brake where
   W1(weight-0.5) - W1(brake) is "the same" or lower and RA(weight-0.5) - RA(brake) is not shown to be lower; for the
   push where RA(weight-1.5) - RA(rl-fixed) < 0. "It is not" where the first is higher or its RA lower, and where the
   last is not shown to be below 0. The same at 2.

Changed after the first cell, stats-original at a rate of 0.01, had an FA of 80 where 59 is wanted: the rows of
`statistics` start at higher rates than the others, and after two seeds stop-retrain at still higher ones.

Rows are run in this order of importance: statistics, without, fewer, shapes, constant. What is not run is not claimed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import brakes
import torch

from falw.lab.cells import RETRAIN, Setting
from falw.lab.curves import curve
from falw.lab.records import Record, read_predictions
from falw.weights import ClassStats, class_stats

RUN_SEEDS, RUN_GAMMAS, RUN_RETRAINS = range(5), (0.5, 2.0), 8
START = {0.5: (0.01, 0.02), 2.0: (0.02, 0.04)}
START_OF_HELD = {0.5: (0.02, 0.08), 2.0: (0.04, 0.16)}  # statistics that do not sink brake harder
START_OF_STOP = {0.5: (0.08, 0.24), 2.0: (0.16, 0.48)}  # and the full stop at Retrain's mean still harder
ASKED = {
    "statistics": brakes.STATISTICS,
    "without": brakes.WITHOUT_VAL,
    "fewer": brakes.FEWER,
    "shapes": brakes.SHAPES,
    "constant": brakes.SAME_FOR_ALL,
}


def settings() -> Iterator[Setting]:
    """The settings of results/ensemble that are studied."""
    for gamma in RUN_GAMMAS:
        for seed in RUN_SEEDS:
            yield Setting(gamma=gamma, seed=seed, data_seed=seed)


def run_part(part: str, setting: Setting, out: Path, only: Sequence[str] | None = None) -> None:
    """Rows of a part on a setting, two rates each, then up to two more where these do not lie around the FA."""
    how = {"retrains": RUN_RETRAINS, "device": "cpu", "jobs": 1}
    references = curve(setting, [], out, **how)
    rows = list(ASKED[part])
    if part == "statistics":
        rows += brakes.with_retrains(of_retrains(references, out))
    rows = [row for row in rows if only is None or row.name in only]
    first = {row.name: (START if part != "statistics" else START_OF_HELD)[setting.gamma] for row in rows}
    first |= {"stop-retrain": START_OF_STOP[setting.gamma]}
    for rates in (2, 3, 4):
        if not rows:
            return
        ran = curve(setting, rows, out, rates=rates, first_rates=first, **how)
        rows = [row for row in rows if not is_around([r for r in ran if r["method"] == row.name], references)]


def of_retrains(records: Sequence[Record], out: Path) -> ClassStats:
    """Mean and deviation of each class's unseen images, over all Retrains."""
    said = [read_predictions(r, out).val for r in records if r["method"] == RETRAIN]
    p, y = (torch.cat(parts) for parts in zip(*((part.p_true, part.y) for part in said), strict=True))
    return class_stats(p, y, said[0].p.shape[1])


def is_around(runs: Sequence[Record], references: Sequence[Record]) -> bool:
    """Whether FA of the runs lies on both sides of the Retrains' mean, which the comparison needs."""
    theirs = [r["scores"]["fa"] for r in references if r["method"] == RETRAIN]
    aim, ours = sum(theirs) / len(theirs), [r["scores"]["fa"] for r in runs if r["scores"]]
    return min(ours) <= aim <= max(ours)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts asked for, one setting after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=[*ASKED], action="append", help="default: all, in this order")
    parser.add_argument("--gamma", type=float, choices=RUN_GAMMAS, action="append", help="default: both")
    parser.add_argument("--only", action="append", help="a row of the part (default: all of them)")
    args = parser.parse_args(argv)
    for part in args.part or ASKED:
        for setting in settings():
            if setting.gamma in (args.gamma or RUN_GAMMAS):
                run_part(part, setting, args.out, args.only)


if __name__ == "__main__":
    main()
