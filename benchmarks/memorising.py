"""Methods at the Retrains' FA where the Original knows its training images by heart: CIFAR-10, 16 pixels, 80 epochs.

    python benchmarks/memorising.py --root DATA --out results/memorising/cifar10 --seeds 0,1,2,3

New images, split and training for every seed; four Retrains each. Every method runs at two rates, then at two more
that `lab.curves.next_rate` puts where FA comes to the mean of the Retrains. A stopped run goes on with the same
command; the seconds of seeds 0 and 1 add up to 780 to 840 an exponent. `falw.records` and `lab.curves` read them all.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from falw.lab.cells import Setting, cells_of
from falw.lab.curves import next_rate
from falw.lab.run import run_cells

TRAINING_EPOCHS, RETRAINS, TWO_GAMMAS = 80, 4, (0.5, 2.0)
FIRST_RATES = {
    **{"rl": (0.04, 0.16), "salun": (0.04, 0.16), "ft": (0.1, 0.4)},
    **dict.fromkeys(("rl-fixed", "rl+falw-epoch", "salun-fixed", "falw-epoch"), (0.01, 0.04)),
}


def run_setting(
    setting: Setting,
    out: Path,
    first_rates: Mapping[str, Sequence[float]],
    *,
    retrains: int,
    epochs: int | None = None,
    rates: int = 4,
    root: Path | None = None,
    device: str = "cpu",
) -> None:
    """Every cell of a setting: references, each method at its first rates, then at rates drawn towards their FA."""
    where = {"root": root, "device": device, "jobs": 1}
    retrained = run_cells(cells_of(setting, [], epochs, retrains=retrains), out, **where)[1:]
    aim = sum(record["scores"]["fa"] for record in retrained) / len(retrained)
    for method, first in first_rates.items():
        fa: dict[float, float | None] = {}
        while len(fa) < rates:
            known = {lr: value for lr, value in fa.items() if value is not None}  # None: it diverged
            if len(fa) >= len(first) and len(known) < 2:
                break
            lr = first[len(fa)] if len(fa) < len(first) else next_rate(known, aim)
            if lr in fa:
                break
            (record,) = run_cells(cells_of(setting, [method], epochs, lr=lr)[-1:], out, **where)
            fa[lr] = record["scores"] and record["scores"]["fa"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the seeds asked for, one after the other."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--root", type=Path, required=True, help="the folder that holds cifar10-jpeg")
    given.add_argument("--out", type=Path, required=True)
    given.add_argument("--seeds", default="0,1,2,3")
    args = given.parse_args(argv)
    for seed in map(int, args.seeds.split(",")):
        for gamma in TWO_GAMMAS:
            options = {"size": 16, "per_class": 500, "gamma": gamma, "seed": seed, "data_seed": seed}
            setting = Setting("folder:cifar10-jpeg", **options)
            run_setting(setting, args.out, FIRST_RATES, retrains=RETRAINS, epochs=TRAINING_EPOCHS, root=args.root)


if __name__ == "__main__":
    main()
