"""Audits of a folder from its stored predictions, IAM, RMIA and LiRA with its Retrains; audits.json beside the records.

The Retrains of a setting and seed never learnt what was forgotten and saw as many images as a faithful model: they are
the shadow and reference models of these attacks. A Retrain is audited with the others: that is the floor of each.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from falw.auditors import completeness, lira, margin, rmia, told_apart
from falw.files import lock, write_atomic
from falw.lab.cells import ORIGINAL, RETRAIN
from falw.lab.ensemble import groups_of, together
from falw.lab.records import AUDITS_FILE, Audited, Record, read_audits, read_predictions, without_retrains
from falw.metrics import Part


class Seen(NamedTuple):
    """What a model says of the images of one part, each (n,)."""

    p_true: ndarray
    margin: ndarray
    y: ndarray


Model = Mapping[str, Seen]  # "forget", "retain", "val" and "test"


class Case(NamedTuple):
    """A model to be audited, and those that the auditor has."""

    target: Model
    original: Model
    retrains: Sequence[Model]


def seen_of(part: Part) -> Seen:
    """A part without its other probabilities."""
    return Seen(part.p_true.double().numpy(), margin(part), part.y.numpy())


# Each gives a number of every image, the higher the more it looks learnt, by part: (draws of references, n).
Looks = dict[str, ndarray]
AUDITED_PARTS = ("forget", "retain", "test")  # the forgotten; retained and never seen images say what else has moved


def _fitted(case: Case) -> Looks:
    def one(part: str) -> ndarray:
        shadows = np.stack([m[part].p_true for m in case.retrains])
        return 1 - completeness(case.target[part].p_true, case.original[part].p_true, shadows)[None]

    return {part: one(part) for part in AUDITED_PARTS}


MOST_REFERENCES = 4  # at most, of RMIA
DRAWS = 8  # of them, at most


def _likely(case: Case) -> Looks:
    """RMIA with the validation images as its population, for several draws of references."""
    if not len(case.target["val"].y):
        raise ValueError("no validation images: RMIA compares with a population that no model saw; leave it out")
    draws = _draws(len(case.retrains), min(MOST_REFERENCES, len(case.retrains) - 1))

    def one(part: str, chosen: Sequence[int]) -> ndarray:
        ours, theirs = ([m[name].p_true for name in (part, "val")] for m in (case.target, case.target))
        known = [np.stack([case.retrains[k][name].p_true for k in chosen]) for name in (part, "val")]
        return rmia(ours[0], known[0], theirs[1], known[1])

    return {part: np.stack([one(part, chosen) for chosen in draws]) for part in AUDITED_PARTS}


def _draws(of: int, take: int) -> list[tuple[int, ...]]:
    """Up to DRAWS choices of some of the references, spread over all there are."""
    every = list(itertools.combinations(range(of), take))
    return [every[k] for k in np.unique(np.linspace(0, len(every) - 1, DRAWS).round().astype(int))]


def _far_from_others(case: Case) -> Looks:
    runs = {part: np.stack([m[part].margin for m in case.retrains]) for part in AUDITED_PARTS}
    return {part: lira(case.target[part].margin, runs[part], pooled=True)[None] for part in AUDITED_PARTS}


class FromStored(NamedTuple):
    """An audit that stored predictions answer: what it says of an image, and of a group of them."""

    images: Callable[[Case], Looks]
    numbers: Callable[..., dict[str, float]]


def as_many(forget_y: ndarray, y: ndarray) -> ndarray:
    """Weights (m,) by which images of classes y count class by class as many as those forgotten, forget_y (n,)."""
    size = 1 + max(forget_y.max(initial=0), y.max(initial=0))
    forgotten, there = (np.bincount(labels, minlength=size) for labels in (forget_y, y))
    return (forgotten / np.maximum(there, 1))[y]


def _separations(images: Looks, y: Mapping[str, ndarray], retrains: Sequence[Looks]) -> dict[str, float]:
    """Forgotten images against never seen ones of the same classes, and retained ones against these."""
    weights = {part: as_many(y["forget"], y[part]) for part in AUDITED_PARTS}

    def against(part: str) -> list[dict[str, float]]:
        both = weights[part], weights["test"]
        return [told_apart(*pair, both) for pair in zip(images[part], images["test"], strict=True)]

    each, retained = against("forget"), against("retain")
    aucs = [found["auc"] for found in each]
    told = {name: fmean(found[name] for found in each) for name in each[0]}
    told |= {"retained": fmean(found["auc"] for found in retained)}
    return {**told, **({"spread": stdev(aucs)} if len(aucs) > 1 else {})}


TAILS = 0.05  # of the Retrains' completeness, on either side: beyond lies what no Retrain would say


def _completenesses(images: Looks, y: Mapping[str, ndarray], retrains: Sequence[Looks]) -> dict[str, float]:
    """Mean completeness; percent of forgotten images outside the middle 90 % of the Retrains' own."""
    means = {part: np.average(1 - images[part][0], weights=as_many(y["forget"], y[part])) for part in AUDITED_PARTS}
    ours, theirs = images["forget"][0], np.concatenate([r["forget"][0] for r in retrains])
    high, low = np.quantile(theirs, [1 - TAILS, TAILS])
    shares = {"under": 100 * np.mean(ours > high), "over": 100 * np.mean(ours < low)}
    return {"completeness": means["forget"], **shares, "unseen": means["test"], "retained": means["retain"]}


FROM_STORED = {
    "iam": FromStored(_fitted, _completenesses),
    "rmia": FromStored(_likely, _separations),
    "lira": FromStored(_far_from_others, _separations),
}


def audit_stored(records: Iterable[Record], out: Path, names: Sequence[str]) -> Audited:
    """The audits of all cells that have three Retrains beside them, two for a Retrain; kept in audits.json.

    Raises ValueError where no cell has, and FileNotFoundError without predictions.
    """
    audited = Audited()
    for beside in together(records):
        in_turn = sorted(beside, key=lambda r: r["config"]["seed"])
        retrains = [r["key"] for r in in_turn if r["method"] == RETRAIN]
        originals = [r["key"] for r in beside if r["method"] == ORIGINAL]
        if len(retrains) >= 3 and originals:
            models = {r["key"]: model_of(r, out) for r in beside}
            audited |= _audited(models, originals[0], retrains, classes_of(beside[0]), names)
    if not audited:
        raise ValueError(f"'{out}' has no setting with three Retrains, which the auditor needs: run --retrains 3")
    return keep(audited, out)


def model_of(record: Record, out: Path) -> Model:
    """What a cell's model says of each part, from the predictions beside its record; FileNotFoundError without them."""
    try:
        parts = read_predictions(record, out)._asdict()
    except FileNotFoundError:
        what = f"no predictions beside '{record['key']}.json', and a record alone cannot be audited"
        raise FileNotFoundError(f"{what}: remove it, and run it again") from None
    return {name: seen_of(part) for name, part in parts.items()}


def classes_of(record: Record) -> dict[str, ndarray]:
    """The classes of each group of a record, "all" of them first."""
    every = np.arange(len(record["forget_counts"]))
    return {"all": every, **{name: members.numpy() for name, members in groups_of(record).items()}}


def _audited(
    models: Mapping[str, Model],
    original: str,
    retrains: Sequence[str],
    classes: Mapping[str, ndarray],
    names: Sequence[str],
) -> Audited:
    others = {key: [k for k in retrains if k != key] for key in models}
    audited: Audited = {key: {"to": others[key]} for key in models}
    for name in names:
        row = FROM_STORED[name]
        images = {k: row.images(Case(m, models[original], [models[o] for o in others[k]])) for k, m in models.items()}
        for key, model in models.items():
            theirs = [images[k] for k in others[key]]
            audited[key][name] = _grouped(row, images[key], model, theirs, classes)
    return audited


def _grouped(
    row: FromStored, images: Looks, model: Model, retrains: Sequence[Looks], classes: Mapping[str, ndarray]
) -> dict[str, dict[str, float]]:
    """The numbers of each group that has forgotten images."""
    numbers = {}
    for group, members in classes.items():
        chosen = {part: np.isin(model[part].y, members) for part in AUDITED_PARTS}
        if chosen["forget"].any():
            ours, *theirs = ({part: x[part][:, chosen[part]] for part in chosen} for x in (images, *retrains))
            found = row.numbers(ours, {part: model[part].y[chosen[part]] for part in chosen}, theirs)
            numbers[group] = as_json(found)
    return numbers


def as_json(numbers: Mapping[str, float]) -> dict[str, float]:
    """Numbers rounded to what matters; those that are none are left out, as JSON has no NaN."""
    return {name: round(float(x), 5) for name, x in numbers.items() if math.isfinite(x)}


def keep(audited: Audited, out: Path) -> Audited:
    """Add audits to those of the folder, each in the place of the same of before, and return all of its.

    What was said of a cell beside other Retrains than now goes.
    """
    with lock(out / AUDITS_FILE):
        kept = read_audits(out)
        for key, entry in audited.items():
            before = kept.get(key, {})
            if entry.get("to", before.get("to")) != before.get("to"):
                before = without_retrains(before)
            kept[key] = {**before, **entry}
        write_atomic(out / AUDITS_FILE, lambda f: f.write(json.dumps(kept).encode()))
    return kept
