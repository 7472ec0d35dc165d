"""Models made again from their cells, as records keep none: how soon they relearn, and what their features hold.

A revisit trains what its cell trained, takes the features of forgotten and retained images, and trains on retained
images alone: what comes back of the forgotten ones was hidden and not gone. Revisits lie in a folder of their own.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from filelock import Timeout
from numpy import ndarray
from torch import nn

from falw.auditors import cka, epochs_until, probe
from falw.checks import admit
from falw.config import Config
from falw.files import lock, write_atomic
from falw.images import Dataset
from falw.lab.audits import as_json, classes_of, keep
from falw.lab.cells import ORIGINAL, RECIPES, RETRAIN, UNLEARN, Cell, digest
from falw.lab.engines import IN_PROCESS
from falw.lab.ensemble import together
from falw.lab.ray import Engine, original_file
from falw.lab.records import Audited, Record
from falw.lab.run import load_setting, one_thread_on_cpu, original_of
from falw.lab.shadows import Plan, config_of, nearest, seconds_of, setting_of_record
from falw.methods import unlearn
from falw.metrics import Part, neighbour_share
from falw.models import features, probabilities
from falw.split import Split
from falw.train import Objective, fit

RELEARN_EPOCHS = 5  # of relearning
REFERENCE_RETRAINS = 3  # that are made again


@dataclass(frozen=True)
class Revisit:
    """A cell whose model is made again; an engine runs it as it does a cell."""

    cell: Cell

    @property
    def key(self) -> str:
        """16 hexadecimal digits of what is revisited, and how it is trained then."""
        return digest({"revisit": self.cell.key, "relearning": repr(self.relearning)})

    @property
    def parent(self) -> str:
        """The key of the Original."""
        return self.cell.parent

    @property
    def relearning(self) -> Config:
        """How it is trained on what is retained: a tenth of the Original's rate, which stays what it is."""
        name, seed = self.cell.setting.model, self.cell.setting.seed
        return replace(UNLEARN[name], epochs=RELEARN_EPOCHS, lr=RECIPES[name].lr / 10, schedule="step", seed=seed)


def revisit(
    again: Revisit,
    out: Path,
    device: str | torch.device = "cpu",
    root: Path | None = None,
    wait: bool = True,
) -> dict[str, Any] | None:
    """{"key", "of"} of a revisit that is done, now or before; beside it lie features and which images are right when.

    None where another process is at it and we do not wait.
    """
    path = out / f"{again.key}.json"
    try:
        with lock(path, wait):
            if not path.exists():
                _relearn(again, out, path, torch.device(device), root, wait)
            return json.loads(path.read_text())
    except Timeout:
        return None


def _relearn(again: Revisit, out: Path, path: Path, device: torch.device, root: Path | None, wait: bool) -> None:
    cell = again.cell
    data, split = load_setting(cell.setting, root, device, said=True)
    with one_thread_on_cpu(device):
        model, _ = original_of(cell, data, out, wait)
        if cell.method != ORIGINAL:
            model = unlearn(cell.find_row(), model, data, split, cell.config)
        data = admit(model, data, split)
        held = {name: _features_of(model, data, getattr(split, name)) for name in ("forget", "retain")}
        right = [_right(model, data, split)]
        objective = Objective(batches="retain")
        fit(model, data, split, objective, again.relearning, lambda epoch, m: right.append(_right(m, data, split)))
    arrays = {**held, "right": np.stack(right), **{f"{k}_y": data.train.y.cpu()[getattr(split, k)] for k in held}}
    write_atomic(path.with_suffix(".npz"), lambda f: np.savez_compressed(f, **arrays))
    write_atomic(path, lambda f: f.write(json.dumps({"key": again.key, "of": cell.key}).encode()))


def _features_of(model: nn.Module, data: Dataset, index: torch.Tensor) -> ndarray:
    return features(model, data.train.x, index.to(data.train.x.device)).cpu().numpy()


def _right(model: nn.Module, data: Dataset, split: Split) -> ndarray:
    p = probabilities(model, data.train.x, split.forget.to(data.train.x.device)).cpu()
    return Part(p, data.train.y.cpu()[split.forget]).correct.numpy()


def cell_of_record(record: Record) -> Cell:
    """The cell that a record is of, which has a row of the package."""
    config, recipe = (config_of(record[name], record[name]["seed"]) for name in ("config", "recipe"))
    return Cell(setting_of_record(record), record["method"], config, recipe)


def plan_revisits(base: Sequence[Record], out: Path, methods: Sequence[str] | None = None) -> Plan:
    """Revisits of the Original, of some Retrains and of each method where FA is nearest to theirs, seed by seed."""
    chosen, cells = nearest(base, methods), list[Cell]()
    keys = {record["key"] for of_seeds in chosen.values() for record in of_seeds}
    for beside in together(base):
        retrains = sorted((r for r in beside if r["method"] == RETRAIN), key=lambda r: r["config"]["seed"])
        known = [r for r in beside if r["method"] == ORIGINAL] + retrains[:REFERENCE_RETRAINS]
        cells += [cell_of_record(r) for r in (*known, *(r for r in beside if r["key"] in keys))]
    visits = [Revisit(cell) for cell in cells]
    todo = [again for again in visits if not (out / f"{again.key}.json").exists()]
    seconds, of_retrain = seconds_of(base), fmean(r["seconds"] for r in base if r["method"] == RETRAIN)
    relearning = of_retrain * RELEARN_EPOCHS / base[0]["recipe"]["epochs"]
    first = fmean(r["seconds"] for r in base if r["method"] == ORIGINAL)
    made = [relearning + (0.0 if v.cell.method == ORIGINAL else seconds(v.cell)) for v in todo]
    return Plan(visits, todo, sum(made) + first * len({v.parent for v in todo}), chosen)


def run_revisits(
    todo: Sequence[Revisit],
    out: Path,
    *,
    root: Path | None = None,
    device: str = "auto",
    jobs: int | None = None,
    engine: Engine = IN_PROCESS,
) -> None:
    """Make models again in a folder beside the records, whose Originals are taken where they are stored."""
    out.mkdir(parents=True, exist_ok=True)
    for name in {original_file(again) for again in todo}:
        if (out.parent / name).exists() and not (out / name).exists():
            shutil.copyfile(out.parent / name, out / name)
    with engine.start(functools.partial(revisit, root=root), out, device, jobs) as each:
        for _ in each(todo):
            pass


def judge_revisits(base: Sequence[Record], visits: Sequence[Revisit], out: Path) -> Audited:
    """Relearning and features of each cell, kept in audits.json beside the records."""
    by_key, audited = {again.cell.key: again for again in visits}, Audited()
    for beside in together(base):
        mine = {r["key"]: r for r in beside if r["key"] in by_key}
        held = {key: _load(out / f"{by_key[key].key}.npz") for key in mine}
        retrains = [key for key, r in mine.items() if r["method"] == RETRAIN]
        ends = [[held[k]["right"][0] for k, r in mine.items() if r["method"] == name] for name in (RETRAIN, ORIGINAL)]
        halfway = np.mean([np.mean(end, 0) for end in ends], 0)
        for key in mine:
            others = [held[k]["forget"] for k in retrains if k != key]
            audited[key] = _numbers(held[key], others, halfway, classes_of(beside[0]))
    return keep(audited, out.parent)


def _load(path: Path) -> dict[str, ndarray]:
    with np.load(path) as z:
        return dict(z)


def _numbers(
    held: Mapping[str, ndarray], retrains: Sequence[ndarray], halfway: ndarray, classes: Mapping[str, ndarray]
) -> dict[str, Any]:
    """By audit and group. FA is back halfway (n,), as means of who is right, from the Retrains' to the Original's."""
    y, known_y = held["forget_y"], held["retain_y"]
    known = probe(held["retain"], known_y, held["forget"], y)
    tensors = (torch.from_numpy(held[name]) for name in ("forget", "forget_y", "retain", "retain_y"))
    near = neighbour_share(*tensors).numpy()
    relearning, held_by = {}, {}
    for group, members in classes.items():
        of = np.isin(y, members)
        if of.any():
            fa = (100 * held["right"][:, of].mean(1)).tolist()
            relearning[group] = as_json({"gain": max(fa) - fa[0], "epochs": epochs_until(fa, 100 * halfway[of].mean())})
            alike = fmean(cka(held["forget"][of], other[of]) for other in retrains)
            held_by[group] = as_json({"probe": 100 * known[of].mean(), "cka": alike, "neighbours": near[of].mean()})
    return {"relearning": relearning, "features": held_by}
