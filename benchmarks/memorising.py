"""Methods at the Retrains' FA where the Original knows its training images by heart: real images, 16 pixels.

    python benchmarks/memorising.py cifar10 --root DATA --out results/memorising/cifar10 --seeds 0,1,2,3
    python benchmarks/memorising.py cifar10 --root DATA --out results/memorising/longer --seeds 0,1,2 --gammas 0.5 \
        --epochs 30 --methods rl,rl-fixed,rl+falw-epoch
    python benchmarks/memorising.py tiny-imagenet --root DATA --out results/memorising/tiny-imagenet --seeds 0,1,2 \
        --methods rl,rl-fixed,rl+falw-epoch,ft
    python benchmarks/memorising.py tiny-imagenet --root DATA --out results/memorising/tiny-imagenet --seeds 0,1,2 \
        --gammas 2 --methods rl,rl-fixed --rates 7
    python benchmarks/memorising.py cifar10 --root DATA --out results/memorising/cifar10-rivals --seeds 0,1,2,3 \
        --methods neggrad+

New images, split and training for every seed; four Retrains each. Every method runs at two rates, then at two more
(or at as many as make `--rates`) that `lab.curves.rate_after` puts where FA comes to the mean of the Retrains. A
stopped run goes on with the same command; the seconds of seeds 0 and 1 of CIFAR-10 add up to 780 to 840 an exponent.
`falw.records` and `lab.curves` read them all.

`--epochs` unlearns for longer, or shorter, than the ten epochs of all other runs: whether redrawn labels cost what they
cost because their rate is high. The first two rates go down as the epochs go up.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from falw.lab.cells import Setting
from falw.lab.curves import curve

KNOWN_BY_HEART = {
    "cifar10": Setting("folder:cifar10-jpeg", size=16, per_class=500),
    "tiny-imagenet": Setting("tiny-imagenet", size=16, classes=20, per_class=200),
}
TRAINING_EPOCHS, UNLEARNING_EPOCHS, RETRAINS, TWO_GAMMAS = 80, 10, 4, (0.5, 2.0)
FIRST_RATES = {
    **{"rl": (0.04, 0.16), "salun": (0.04, 0.16), "ft": (0.1, 0.4)},
    **dict.fromkeys(("rl-fixed", "rl+falw-epoch", "salun-fixed", "falw-epoch"), (0.01, 0.04)),
}
RIVAL_RATES = {"neggrad+": (0.04, 0.16)}  # by name only, as any row: one that is in neither begins at `coarse_rates`


def main(argv: Sequence[str] | None = None) -> None:
    """Run the seeds asked for, one after the other."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("images", choices=[*KNOWN_BY_HEART])
    given.add_argument("--root", type=Path, required=True, help="where the images are")
    given.add_argument("--out", type=Path, required=True)
    given.add_argument("--seeds", default="0,1,2,3")
    given.add_argument("--gammas", default=",".join(map(str, TWO_GAMMAS)))
    given.add_argument("--methods", default=",".join(FIRST_RATES))
    given.add_argument("--rates", type=int, default=4, help="of each method (default: %(default)s)")
    given.add_argument("--epochs", type=int, default=UNLEARNING_EPOCHS, help="of unlearning (default: %(default)s)")
    args = given.parse_args(argv)
    methods = args.methods.split(",")
    known = {name: rates for name, rates in {**FIRST_RATES, **RIVAL_RATES}.items() if name in methods}
    first = {name: [rate * UNLEARNING_EPOCHS / args.epochs for rate in rates] for name, rates in known.items()}
    for seed in map(int, args.seeds.split(",")):
        for gamma in map(float, args.gammas.split(",")):
            setting = replace(KNOWN_BY_HEART[args.images], gamma=gamma, seed=seed, data_seed=seed)
            references = {"original_epochs": TRAINING_EPOCHS, "retrains": RETRAINS, "rates": args.rates}
            how = {"root": args.root, "device": "cpu", "jobs": 1}
            curve(setting, methods, args.out, first_rates=first, epochs=args.epochs, **references, **how)


if __name__ == "__main__":
    main()
