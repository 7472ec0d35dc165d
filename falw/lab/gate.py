"""The gate: whether Original and Retrain know their training images by heart, and recipes with which they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from falw.config import Config
from falw.lab.cells import ORIGINAL, POWER_LAW, RECIPES, REQUESTS, RETRAIN
from falw.lab.records import FLOOR, SETTING
from falw.lab.tables import describe

if TYPE_CHECKING:
    from pandas import DataFrame

# The paper's question is what a model does with images that it knows by heart: with less, the table is of another one.
GATE = 99.5  # RA in percent that Original and Retrain reach on average over seeds
OF_SET = [name for name in SETTING if name not in (*POWER_LAW, *REQUESTS, "split_mismatch")]


class ByHeart(NamedTuple):
    """A recipe that reaches GATE: on what, and what was measured where."""

    dataset: str
    model: str
    size: int | None
    classes: int | None
    per_class: int | None
    recipe: Config
    ra: tuple[float, float]  # of the Original and of the Retrains, in percent, on average
    records: str  # the folder


LONG = replace(RECIPES["tiny"], epochs=80)
BY_HEART = (
    ByHeart("textures", "tiny", None, None, None, RECIPES["tiny"], (99.53, 99.67), "results/cpu/textures"),
    ByHeart("folder:cifar10-jpeg", "tiny", 16, None, 500, LONG, (100.0, 100.0), "results/memorising/cifar10"),
    ByHeart("tiny-imagenet", "tiny", 16, 20, 200, LONG, (100.0, 100.0), "results/memorising/tiny-imagenet"),
    ByHeart(
        *("folder:tin100-32", "resnet18", None, None, None),
        Config(epochs=40, lr=0.1, nesterov=True, schedule="one-cycle"),
        *((99.91, 99.88), "results/gpu/nvidia-h200"),
    ),
)


def gate(frame: DataFrame) -> DataFrame:
    """Which sets are known by heart: a row a set and recipe with "original" and "retrain", mean RA, and "met".

    RA is in percent, over seeds and forget sets; "met" is False where one of them is below GATE. An Original
    that saw another split (split_mismatch) does not know all that is retained, and is left out.
    """
    ran = frame[frame["ra"].notna() & ~frame["split_mismatch"].astype(bool)]
    of = {"original": ran["method"] == ORIGINAL, "retrain": ran["method"].isin([RETRAIN, FLOOR])}
    ran = ran.assign(**{name: ran["ra"].where(chosen) for name, chosen in of.items()})
    rows = ran.groupby(OF_SET, dropna=False)[[*of]].mean().reset_index()
    return rows.assign(met=~(rows[[*of]] < GATE).any(axis=1))


def below_gate(frame: DataFrame) -> list[str]:
    """A line for each set of which Original or Retrain misses the gate: what it is, its RA, and what to do."""
    lines = []
    for row in gate(frame).query("not met").to_dict("records"):
        ra = " and ".join(f"{row[k]:.2f} of {k.title()}" for k in ("original", "retrain") if row[k] < GATE)
        what = f"{describe({k: row[k] for k in OF_SET})}: RA {ra}"
        lines.append(f"{what}, below {GATE}: images are not known by heart; train for longer ({_longer(row)})")
    return lines


def _longer(row: Mapping[str, Any]) -> str:
    """Options of the command line: those of a recipe that is known to reach the gate, or that there should be more."""
    for known in BY_HEART:
        usual = replace(known.recipe, epochs=RECIPES[known.model].epochs) == RECIPES[known.model]
        same = (known.dataset, known.model) == (row["dataset"], row["model"])
        if usual and same and known.recipe.epochs > row["original_epochs"]:
            options = {"original-epochs": known.recipe.epochs, "size": known.size}
            options |= {"classes": known.classes, "per-class": known.per_class}
            given = " ".join(f"--{name} {value}" for name, value in options.items() if value is not None)
            return f"{given} reached {min(known.ra):g}"
    return f"--original-epochs above {row['original_epochs']}"
