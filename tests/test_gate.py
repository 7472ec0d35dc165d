"""The gate: which sets are known by heart, recipes that get there, and what is said where one does not."""

import math
from pathlib import Path

import pytest
from test_tables import record

from falw.lab.cells import FLOOR_SEED
from falw.lab.gate import BY_HEART, GATE, below_gate, gate
from falw.lab.records import frame, read_records

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("known", BY_HEART, ids=lambda known: known.dataset)
def test_recipes_that_meet_the_gate_do_so_in_the_records(known):
    """What is printed of each is the mean over its records, and not below 99.5."""
    ra = {"original": [], "retrain": []}
    for r in read_records(ROOT / known.records):
        setting = [r["setting"][name] for name in ("dataset", "model", "size", "classes", "per_class")]
        recipe = {name: value for name, value in known.recipe.description.items() if name != "seed"}
        of_record = {name: tuple(v) if isinstance(v, list) else v for name, v in r["recipe"].items() if name != "seed"}
        if setting == [*known[:5]] and of_record == recipe and r["method"] in ra and r["scores"]:
            ra[r["method"]].append(r["scores"]["ra"])
    means = tuple(math.fsum(values) / len(values) for values in ra.values())
    assert known.ra == tuple(round(mean, 2) for mean in means) and min(means) >= GATE == 99.5


def made(original, retrain, floor=None, seed=0, **setting):
    """Records of an Original, a Retrain and another with these RA."""
    records = [
        record("original", (100, original, 70, 0), seed=seed, **setting),
        record("retrain", (40, retrain, 70, 60), seed=seed, **setting),
        record("ft", (40, 10, 70, 60), seed=seed, **setting),
    ]
    more = [] if floor is None else [record("retrain", (40, floor, 70, 60), seed=seed, config_seed=seed + FLOOR_SEED)]
    return [*records, *more]


def test_the_gate_is_of_means_over_seeds_retrains_and_forget_sets():
    rows = gate(frame([*made(99.9, 99.4, 99.6), *made(99.1, 99.5, 99.5, seed=1), *made(99.5, 99.5, gamma=2.0)]))
    (row,) = rows.to_dict("records")
    assert (row["original"], row["retrain"]) == pytest.approx((99.5, 99.5)) and row["met"]


@pytest.mark.parametrize(
    "ra, named", [((99.4, 100), ["Original"]), ((100, 99.4), ["Retrain"]), ((9, 8), ["Original", "Retrain"])]
)
def test_a_set_below_the_gate_takes_one_line_that_says_what_to_do(ra, named):
    (line,) = below_gate(frame([*made(*ra), *made(*ra, gamma=2.0, seed=1)]))
    assert line.startswith("textures, tiny, original epochs 20: RA ") and "below 99.5" in line
    assert [name for name in ("Original", "Retrain") if f"of {name}" in line] == named
    assert line.endswith("train for longer (--original-epochs above 20)")


def test_a_recipe_that_is_known_to_meet_the_gate_is_named():
    cifar = {"dataset": "folder:cifar10-jpeg", "size": 16, "per_class": 500}
    (line,) = below_gate(frame(made(91, 92, **cifar)))
    assert line.endswith("(--original-epochs 80 --size 16 --per-class 500 reached 100)")
    (line,) = below_gate(frame(made(91, 92, dataset="tiny-imagenet")))
    assert line.endswith("(--original-epochs 80 --size 16 --classes 20 --per-class 200 reached 100)")
    (line,) = below_gate(frame(made(91, 92, dataset="folder:tin100-32", model="resnet18")))
    assert line.endswith("(--original-epochs above 20)")  # 40 epochs by another schedule than the command line's


def test_sets_are_judged_apart_and_what_says_nothing_is_left_out():
    digits = {"dataset": "digits", "size": 8}
    records = [*made(100, 100), *made(98, 100, **digits), *made(10, 100, split_mismatch=True)]
    records += [record("retrain", None, dataset="digits"), record("ft", (1, 2, 3, 4), dataset="digits", size=4)]
    (line,) = below_gate(frame(records))
    assert line.startswith("digits, tiny, original epochs 20, size 8: RA 98.00 of Original, below")
    assert below_gate(frame(made(100, 100))) == []
