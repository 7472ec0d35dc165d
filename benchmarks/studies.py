"""What the studies of a lent GPU are: settings, methods, rates, and the cells that they come to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from falw.config import Config
from falw.lab.cells import FLOOR_SEED, ORIGINAL, RECIPES, RETRAIN, Cell, Setting
from falw.lab.curves import knob
from falw.lab.grids import GAMMAS, ON_DISK
from falw.methods import METHODS, find_method

ONE_CYCLE = Config(lr=0.1, nesterov=True, schedule="one-cycle")
CONSTANT = Config()  # the paper's: 10 epochs at one rate


@dataclass(frozen=True)
class Study:
    """Settings of one data set and network, the methods that run on each, and how all are trained."""

    dataset: str
    model: str
    ratio: float
    gammas: tuple[float, ...]
    seeds: tuple[int, ...]
    methods: tuple[str, ...]
    recipe: Config = ONE_CYCLE  # of Original and Retrains
    lengths: tuple[int, ...] = (40, 60)  # its epochs, and those to take where RA misses the gate
    unlearning: Config = CONSTANT
    retrains: int = 3  # the fewest of which one can be left out
    rates: int = 4  # of each method: two coarse ones, the others drawn towards the Retrains' FA


E5 = Study(
    *(ON_DISK["cifar100"], "resnet18", 0.3, (1.0,), (0, 1)),
    methods=("rl", "rl-fixed", "rl+falw-epoch", "salun", "salun-fixed", "falw-every10", "ft"),
)
ALL_BUT_RETRAIN = tuple(name for name in METHODS if name != RETRAIN)
STUDIES = {
    "E5": E5,
    "table6": Study(ON_DISK["cifar10"], "vgg16", 0.4, (0.5,), (0,), ALL_BUT_RETRAIN, RECIPES["vgg16"], (150,)),
    "table2": replace(E5, gammas=GAMMAS, seeds=(0,), methods=("salun", "falw-every10")),
    "schedules": replace(E5, seeds=(0,), methods=("falw", "falw-every10", "falw-epoch")),
}

# The two coarse rates of each method, of one without gradient steps the coefficients.
COARSE = {
    **dict.fromkeys(("rl", "salun"), (0.005, 0.04)),
    **dict.fromkeys(("ft", "l1-sparse"), (0.04, 0.32)),
    **dict.fromkeys(("ga", "ga+falw", "bs"), (3e-4, 3e-3)),
    **{"be": (1e-3, 1e-2), "sfron": (0.02, 0.2), "sfron+falw": (2e-3, 2e-2), "iu": (0.1, 1.0)},
}
OTHERS = (0.0025, 0.02)  # fixed labels, FaLW


def at_toy_size(study: Study) -> Study:
    """The same study for a rehearsal: a small network, few seeds and epochs."""
    small = {"batch_size": 16, "crop": 1}
    recipe = replace(study.recipe, milestones=(), **small)
    lengths = tuple(range(1, len(study.lengths) + 1))
    unlearning = replace(study.unlearning, epochs=1, **small)
    few = {"gammas": study.gammas[:2], "methods": study.methods[:2]}
    return replace(study, model="tiny", recipe=recipe, lengths=lengths, unlearning=unlearning, **few)


def archive(dataset: str) -> str:
    """The file of a data set's images."""
    return f"{dataset.removeprefix('folder:')}.tar.xz"


def setting_of(study: Study, gamma: float | None = None, seed: int = 0) -> Setting:
    """A setting of a study, the first if nothing is said."""
    return Setting(study.dataset, study.model, study.ratio, study.gammas[0] if gamma is None else gamma, seed)


def reference_cells(study: Study, setting: Setting, recipe: Config) -> list[Cell]:
    """Original and Retrains."""
    again = [replace(recipe, seed=setting.seed + k * FLOOR_SEED) for k in range(study.retrains)]
    return [Cell(setting, ORIGINAL, recipe, recipe), *(Cell(setting, RETRAIN, config, recipe) for config in again)]


def cell_of(study: Study, method: str, rate: float, setting: Setting, recipe: Config) -> Cell:
    """A method at a rate."""
    row = find_method(method)
    config = replace(study.unlearning, seed=setting.seed, **{knob(row): rate})
    return Cell(setting, method, row.settle(config), recipe)


def describe_cell(cell: Cell) -> str:
    """A cell for the log."""
    s = cell.setting
    return f"{s.dataset} {s.model} ratio {s.ratio:g} gamma {s.gamma:.3g} seed {s.seed}: {cell.method} " + (
        f"{cell.config.epochs} epochs from seed {cell.config.seed}"
        if cell.method in (ORIGINAL, RETRAIN)
        else f"{(name := knob(cell.find_row()))} {getattr(cell.config, name):.4g}"
    )
