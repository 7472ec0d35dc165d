"""Cells: one method, one setting, one seed; a cell's key (a hash); the cells of a setting, noise floor included."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from falw.methods import ALIASES, METHODS, Method, find_method
from falw.models import MODELS
from falw.train import Config, as_floats, whole_number

ORIGINAL, RETRAIN = "original", "retrain"


MOST_SEED = 2**32 - 1


FLOOR_SEED = 1000  # added to the training seed of the second Retrain, whose gap to the first is the noise floor


@dataclass(frozen=True)
class Setting:
    """What is forgotten, from what, by which network. None takes the data set's own value.

    split_mismatch: the Original was trained on the D_f and D_r of another seed's split, so that part of what is to be
    forgotten was never seen. The CIFAR loaders of the public code that the paper builds on do so, that of Tiny-ImageNet
    holds nothing out and cannot; here it is an option for any data set.
    """

    dataset: str = "textures"
    model: str = "tiny"
    ratio: float = 0.3
    gamma: float = 0.5
    seed: int = 0
    cap: str = "spill"
    val: float | None = None
    size: int | None = None
    classes: int | None = None
    per_class: int | None = None
    data_seed: int = 0
    split_mismatch: bool = False

    def __post_init__(self) -> None:
        for name in ("seed", "data_seed"):
            whole_number(name.replace("_", " "), getattr(self, name), 0, MOST_SEED)
        as_floats(self, "ratio", "gamma", "val")


# How each network is trained (Original and Retrain alike) and unlearned. The large networks follow Appendix C.1; the
# recipe of `tiny` is ours: it reaches 99 % on the training and about 70 % on the test images of `textures` in 30 s.
_TINY = Config(epochs=20, lr=0.1, batch_size=64, nesterov=True, schedule="one-cycle", crop=0)


_LARGE = Config(epochs=150, lr=0.01, milestones=(90, 120))


RECIPES: dict[str, Config] = {"tiny": _TINY, "resnet18": _LARGE, "vgg16": _LARGE}


UNLEARN: dict[str, Config] = {
    "tiny": replace(_TINY, epochs=10, schedule="cosine"),
    "resnet18": Config(),
    "vgg16": Config(),
}


TUNED = Path(__file__).with_name("tuned.json")


@functools.cache
def tuned() -> dict[str, dict[str, dict[str, Any]]]:
    """The values of `Config` that `tune` chose: {"DATASET/MODEL": {method: values}}."""
    return json.loads(TUNED.read_text())["chosen"]


def tuning_key(dataset: str, model: str) -> str:
    """The key of `tuned` for a data set and a network.

    A data set that was never searched borrows what was found on textures, which is a start and no more: rates do not
    travel (chapter 8).
    """
    own = f"{dataset}/{model}"
    return own if own in tuned() else f"textures/{model}"


@dataclass(frozen=True)
class Cell:
    """One method on one setting: everything that decides its result, and nothing else."""

    setting: Setting
    method: str
    config: Config  # of the method
    recipe: Config  # of the Original

    @property
    def key(self) -> str:
        """16 hexadecimal digits of the hash of the description."""
        return digest(asdict(self))

    @property
    def parent(self) -> str:
        """The key of the Original, which does not depend on what will be forgotten of what it learnt."""
        setting = {k: v for k, v in asdict(self.setting).items() if k not in ("ratio", "gamma", "cap")}
        return digest({"setting": setting, "recipe": asdict(self.recipe)})

    @property
    def is_floor(self) -> bool:
        """Whether this is the second Retrain."""
        return self.method == RETRAIN and self.config.seed != self.setting.seed

    def passes(self, n: int) -> float:
        """Training passes over all n training images that the cell takes, about, for estimates and for its place.

        A method on one part counts as its share; of FaLW's statistics, taken before every step on about a tenth of the
        images, an image counts a third.
        """
        row = find_method(self.method) if self.method != ORIGINAL else Method("")
        share = {"retain": 1 - self.setting.ratio, "forget": self.setting.ratio}.get(row.batches, 1.0)
        weighted = row.weight is not None and row.batches != "alternate"
        return self.config.epochs * share * (1 + weighted * n / 9 / (3 * self.config.batch_size))


def digest(description: dict) -> str:
    """16 hexadecimal digits of the hash of a description."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]


def cells_of(
    setting: Setting, methods: Sequence[str], original_epochs: int | None = None, **changes: Any
) -> list[Cell]:
    """The cells of a setting: Original, Retrain, a second Retrain for the noise floor, and the methods.

    `original_epochs` is the length of Original and Retrain; milestones that it does not reach are left out. `changes`
    are values of the methods' `Config` (lr, ...), before which what a method itself fixes goes.
    """
    find_model(setting.model)
    recipe = replace(RECIPES[setting.model], seed=setting.seed)
    if original_epochs is not None:
        whole_number("original epochs", original_epochs, 1)
        reached = tuple(m for m in recipe.milestones if m < original_epochs)
        recipe = replace(recipe, epochs=original_epochs, milestones=reached)
    again = replace(recipe, seed=setting.seed + FLOOR_SEED)
    cells = [Cell(setting, *row, recipe) for row in ((ORIGINAL, recipe), (RETRAIN, recipe), (RETRAIN, again))]
    for name in methods:
        if name != RETRAIN:
            row, chosen = find_method(name), tuned().get(tuning_key(setting.dataset, setting.model), {})
            values = {**chosen.get(row.tuned_as or name, {}), **changes}
            config = row.settle(replace(UNLEARN[setting.model], seed=setting.seed, **values))
            cells.append(Cell(setting, name, config, recipe))
    return cells


def find_model(name: str) -> str:
    """The name itself; raises ValueError naming the choice if there is no such model."""
    if name not in MODELS:
        raise ValueError(f"unknown model '{name}'; choose one of: {', '.join(MODELS)}")
    return name


def check_changes(names: Sequence[str], changes: dict[str, Any]) -> None:
    """Raise ValueError for a change of what is no field, and for one that no method but Retrain reads."""
    known = [field.name for field in fields(Config) if field.name != "seed"]  # which is the setting's
    for change, value in changes.items():
        if change not in known:
            raise ValueError(f"unknown change {change}={value!r}; choose one of: {', '.join(known)}")
        if not any(find_method(name).reads(change) for name in names if name != RETRAIN):
            ran = ", ".join(names) or f"{ORIGINAL}, {RETRAIN}"
            raise ValueError(f"{change} {value} changes nothing of {ran}: leave it out, or add a method that reads it")


def parse_methods(methods: str | Sequence[str]) -> list[str]:
    """The rows named by "all", "a,b", "all,b" or ["a", "b"], each checked and once; "all" is every row of METHODS."""
    given = methods.split(",") if isinstance(methods, str) else methods
    names = [name for g in given for name in (METHODS if g.strip() == "all" else [g.strip()])]
    for name in names:
        find_method(name)
    return list(dict.fromkeys(ALIASES.get(name, name) for name in names))
