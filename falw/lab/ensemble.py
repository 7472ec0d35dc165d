"""How far cells are from all Retrains of their setting, and of those each from the others: distances of a folder.

One Retrain is one draw. Several say what a faithful model may look like, and each of them against the others how far
off it may be: the floor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from falw.files import lock, write_atomic
from falw.lab.cells import RETRAIN, digest
from falw.lab.records import DISTANCES, Far, Record, read_distances, read_forget, stored_records
from falw.metrics import Part, distances, reference, select
from falw.split import Split, groups


def write_distances(out: Path) -> None:
    """Write distances.json into a folder of records, from the predictions beside them; nothing where that is done.

    Cells of one setting, seed and recipe of the Original are compared with all Retrains among them, two at least, on
    the forget set; a Retrain with the others. What was written before stands until predictions or Retrains change.
    Without predictions it stands as long as the Retrains are the same: a folder of JSON alone keeps its distances.
    Beside it ensemble-KEY.npz, of the first Retrain's key, holds what these say of each forgotten sample: "mean" and
    "sd" of p_true over the Retrains, (n_f,) float16, and their keys, "retrains".
    """
    if _is_done(out):  # and the folder may be one that is only read
        return
    with lock(out / DISTANCES):
        before, far = read_distances(out), Far()
        for beside in together(stored_records(out)):
            far |= _kept(beside, before) | _computed(beside, before, out)
        write_atomic(out / DISTANCES, lambda f: f.write(json.dumps(far).encode()))


def _is_done(out: Path) -> bool:
    before, each = read_distances(out), together(stored_records(out))
    return before.keys() == {k for beside in each for k in _kept(beside, before)} and not any(
        _todo(beside, before, out) for beside in each
    )


def together(records: Iterable[Record]) -> list[list[Record]]:
    """The records that have scores, in lists of one setting, seed and recipe of the Original."""

    def shared(record: Record) -> str:
        return digest({"setting": record["setting"], "recipe": record["recipe"]})

    scored = sorted((record for record in records if record["scores"]), key=shared)
    return [list(same) for _, same in groupby(scored, shared)]


def _retrains(beside: Sequence[Record]) -> list[str]:
    """Keys of the Retrains, the setting's own first."""
    retrains = [r for r in beside if r["method"] == RETRAIN]
    return [r["key"] for r in sorted(retrains, key=lambda r: r["config"]["seed"])]


def _kept(beside: Sequence[Record], before: Far) -> Far:
    """Those of the distances before that are to the Retrains of now."""
    retrains = {*_retrains(beside)}
    known = {r["key"]: before[r["key"]] for r in beside if r["key"] in before}
    return {key: entry for key, entry in known.items() if {*entry["to"]} == retrains - {key}}


def _todo(beside: Sequence[Record], before: Far, out: Path) -> list[str]:
    """Keys of the cells whose distances have to be computed, and can be."""
    retrains, kept = _retrains(beside), _kept(beside, before)
    times = {r["key"]: _written(out / f"{r['key']}.npz") for r in beside}
    if not all(times[key] for key in retrains):
        return []
    done = {key: _written(out / DISTANCES) for key in kept}
    needed = {key: [k for k in retrains if k != key] for key, time in times.items() if time}
    return [key for key, to in needed.items() if len(to) > 1 and max(times[k] for k in (key, *to)) >= done.get(key, 0)]


def _written(path: Path) -> int:
    """When a file was written, in nanoseconds; 0 where there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


def _computed(beside: Sequence[Record], before: Far, out: Path) -> Far:
    """The distances that are to be computed, from the predictions in `out`; what the Retrains say is written there."""
    todo, retrains = _todo(beside, before, out), _retrains(beside)
    if not todo:
        return {}
    theirs = {key: read_forget(key, out) for key in retrains}
    p_true = reference([*theirs.values()]).p_true
    said = {"mean": p_true.mean(0).half().numpy(), "sd": p_true.std(0).half().numpy(), "retrains": np.array(retrains)}
    write_atomic(out / f"ensemble-{retrains[0]}.npz", lambda f: np.savez_compressed(f, **said))
    return far_from(theirs, {key: read_forget(key, out) for key in todo}, groups_of(beside[0]))


def groups_of(record: Record) -> dict[str, Tensor]:
    """The head, mid and tail classes of a record: `split.groups`, as ranks follow the numbers of the classes."""
    counts, nothing = torch.tensor(record["forget_counts"]), torch.empty(0, dtype=torch.int64)
    return groups(Split(nothing, nothing, nothing, counts, torch.arange(len(counts))))


def far_from(retrains: Mapping[str, Part], parts: Mapping[str, Part], classes: Mapping[str, Tensor]) -> Far:
    """The distances of parts, by key, each to all Retrains but itself; none of one that has fewer than two of them."""
    far = Far()
    for key, part in parts.items():
        others = {k: retrain for k, retrain in retrains.items() if k != key}
        if len(others) > 1:
            cut = parts_by_group([part, *others.values()], classes)
            of_groups = {group: distances(ours, reference(theirs)) for group, (ours, *theirs) in cut.items()}
            far[key] = {"to": list(others), **of_groups}
    return far


def parts_by_group(parts: Sequence[Part], classes: Mapping[str, Tensor]) -> dict[str, list[Part]]:
    """Parts of the same images, whole and cut to each group of classes that has one of them."""
    chosen = {name: torch.isin(parts[0].y, members) for name, members in classes.items()}
    cut = {name: [select(part, mask) for part in parts] for name, mask in chosen.items() if mask.any()}
    return {"all": [*parts], **cut}
