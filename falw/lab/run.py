"""From settings to records: runs the cells that are missing, stores each, and goes on after a stop.

A cell is done if and only if its record exists, so an interrupted run goes on where it stopped and nothing is computed
twice, not even by two processes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import Timeout
from torch import nn

from falw.audit import audit
from falw.config import whole_number
from falw.data import find_source, load_dataset
from falw.files import Checkpoint, load_tensors, lock, remove_leftovers, save_tensors, write_atomic
from falw.folders import files_state
from falw.images import Dataset
from falw.lab.cells import ORIGINAL, Cell, Methods, Setting, cells_of, check_changes, digest, find_rows
from falw.lab.engines import IN_PROCESS
from falw.lab.ensemble import write_distances
from falw.lab.ray import Engine
from falw.lab.records import (
    OTHER,
    OtherImages,
    Record,
    arrays_of,
    check_same_data,
    code,
    commit,
    conditions,
    identity_of,
    made_by_current_code,
    read_record,
    stored_records,
    what_changed,
)
from falw.lab.requests import split_asked
from falw.methods import unlearn
from falw.metrics import Part, Predictions, by_group, distributions, score
from falw.models import create
from falw.sources import image_digests
from falw.split import Split, groups, long_tailed_split
from falw.train import make_deterministic, predict, train_original


def check_network_fits(model: str, data: Dataset) -> None:
    """Raise ValueError for a single class, which leaves no wrong label, and for images too small for the network."""
    if data.num_classes < 2:
        raise ValueError(f"{data.num_classes} class leaves nothing to tell apart: give at least 2 classes")
    network = create(model, data.num_classes, data.mean, data.std).eval()
    try:
        with torch.no_grad():
            network(data.train.x[:1].cpu())
    except RuntimeError:
        h, w = data.train.x.shape[2:]
        raise ValueError(f"images of {w}x{h} pixels are too small for {model}: give a larger size") from None


def _dataset(setting: Setting, root: Path | None, device: torch.device, progress: bool, said: bool) -> Dataset:
    options: dict[str, Any] = {"size": setting.size, "classes": setting.classes, "per_class": setting.per_class}
    if setting.background is not None:
        if not find_source(setting.dataset).under_root:
            raise ValueError(f"background '{setting.background}' changes nothing of {setting.dataset}: leave it out")
        options["background"] = setting.background
    key = (setting.dataset, root, device, setting.data_seed, *options.items(), files_state(setting.dataset, root))
    if key not in _LOADED:
        while len(_LOADED) >= 2:
            _LOADED.pop(next(iter(_LOADED)))
        with warnings.catch_warnings() if said else contextlib.nullcontext():
            if said:
                warnings.simplefilter("ignore")
            seed = setting.data_seed
            _LOADED[key] = load_dataset(setting.dataset, root, device, seed=seed, progress=progress, **options)
    return _LOADED[key]


_LOADED: dict[tuple, Dataset] = {}  # the last two data sets of this process


def load_setting(
    setting: Setting,
    root: Path | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
    said: bool = False,
) -> tuple[Dataset, Split]:
    """The data set (kept in memory) and the split of a setting; a warning of what is odd, unless `said` before."""
    data = _dataset(setting, root, torch.device(device), progress, said)
    split = _split(setting, data, setting.seed)
    if not said:
        _say_if_copied(data, split)
    return data, split


def _say_if_copied(data: Dataset, split: Split) -> None:
    """A warning if copies of forgotten images are retained: whoever learns these has not forgotten the others."""
    digests = image_digests(data.train.x)
    retained = {digests[i]: i for i in split.retain.tolist()}
    if both := [(i, retained[digests[i]]) for i in split.forget.tolist() if digests[i] in retained]:
        named = " is ".join(data.files[i] if data.files else f"image {i}" for i in both[0])
        what = f"{len(both)} of {len(split.forget)} images to forget stay among the retained ones as copies ({named})"
        warnings.warn(f"{data.name}: {what}; forget these, too, or the model goes on learning them", stacklevel=3)


def _split(setting: Setting, data: Dataset, seed: int) -> Split:
    val = data.val if setting.val is None else setting.val
    if setting.asked:
        return split_asked(setting, data, val, seed)
    gamma = setting.gamma if setting.histogram is None else None
    return long_tailed_split(data.train.y, setting.ratio, gamma, val, seed, setting.cap, histogram=setting.histogram)


def original(
    setting: Setting,
    out: str | Path,
    *,
    original_epochs: int | None = None,
    root: str | Path | None = None,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """The Original of a setting, that of the records in `out`: read from there, or trained now and stored there."""
    out = Path(os.path.expanduser(out))
    data, _ = load_setting(setting, None if root is None else Path(os.path.expanduser(root)), device)
    check_network_fits(setting.model, data)
    out.mkdir(parents=True, exist_ok=True)
    with one_thread_on_cpu(torch.device(device)):
        return original_of(cells_of(setting, [], original_epochs)[0], data, out)[0]


@contextlib.contextmanager
def one_thread_on_cpu(device: torch.device) -> Iterator[None]:
    """One thread while a model is made on a CPU, as their number changes the last digits; a GPU keeps those it has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cpu" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def original_of(cell: Cell, data: Dataset, out: Path, wait: bool = True) -> tuple[nn.Module, float]:
    """The cell's Original and the seconds its training took: from `out`, or trained now and stored there.

    One that other code trained is kept, with a warning. Raises OtherImages for one that was trained on others,
    filelock.Timeout if another process is at it and we do not wait.
    """
    model = create(cell.setting.model, data.num_classes, data.mean, data.std, cell.recipe.seed)
    path, identity = out / f"original-{cell.parent}.pt", identity_of(data)
    with lock(path, wait):
        stored = load_tensors(path)
        if stored is not None:
            if changed := what_changed(stored.get("data", identity), identity):
                raise OtherImages(f"{data.name} has changed since {path.name} was trained on it ({changed}); {OTHER}")
            if not made_by_current_code(stored):
                warnings.warn(f"{path.name} comes from other code; remove it to train it again", stacklevel=2)
            model.load_state_dict(stored["weights"])
            return model.to(data.train.x.device).eval(), stored["seconds"]
        split = _split(cell.setting, data, cell.setting.seed + cell.setting.split_mismatch)
        with _checkpoint(path, data.train.x.device, identity) as checkpoint:
            train_original(model, data, split, cell.recipe, checkpoint=checkpoint)
            seconds = _seconds(checkpoint, data.train.x.device)
            weights = {k: v.cpu() for k, v in model.state_dict().items()}
            made = {"seconds": seconds, "code": code(), "commit": commit(), "data": identity}
            save_tensors({"weights": weights, **made}, path)
    return model, seconds


@contextlib.contextmanager
def _checkpoint(path: Path, device: torch.device, identity: Record) -> Iterator[Checkpoint]:
    """A checkpoint of the run on these images that makes the file at `path`, gone when that is there.

    Other images, other code, another version of PyTorch and another kind of device start afresh.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    of = f"{path.stem} by {code()} with {torch.__version__} on {name}, of {digest(identity)}"
    checkpoint = Checkpoint(path.with_name(f".{path.stem}.checkpoint"), of)
    yield checkpoint
    checkpoint.path.unlink(missing_ok=True)


def _seconds(checkpoint: Checkpoint, device: torch.device) -> float:
    """How long the run took, with what earlier processes put into it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return checkpoint.seconds + time.perf_counter() - checkpoint.start


def run_cell(
    cell: Cell,
    out: Path,
    root: Path | None = None,
    device: str | torch.device = "cpu",
    wait: bool = True,
    deterministic: bool = False,
    said: bool = False,
) -> Record | None:
    """The record of a cell: read if it is there, else computed and written, its probabilities beside it.

    On a CPU a cell runs on one thread, whichever engine runs it: the number of threads changes the last digits. A model
    that diverged is a result too, as is a method that refuses the cell: its record has None for scores and says why in
    "failed". "frozen" names parameters that may not move, where there are any. If another process is at the cell, its
    record is waited for; without `wait` None is returned. said: warnings about the data have been given.
    """
    path = out / f"{cell.key}.json"
    if (record := read_record(path, cell)) is not None:
        return record
    if deterministic:
        make_deterministic()
    try:
        with lock(path, wait):
            return read_record(path, cell) or _compute(cell, out, root, torch.device(device), wait, said)
    except Timeout:
        return None


def _compute(cell: Cell, out: Path, root: Path | None, device: torch.device, wait: bool, said: bool) -> Record:
    data, split = load_setting(cell.setting, root, device, said=said)
    path, identity, seconds = out / f"{cell.key}.json", identity_of(data), 0.0
    with one_thread_on_cpu(device), _checkpoint(path, device, identity) as checkpoint:
        _warm_up(device)
        try:
            model, seconds = original_of(cell, data, out, wait)
            if cell.method != ORIGINAL:
                checkpoint.start = time.perf_counter()
                model = unlearn(cell.find_row(), model, data, split, cell.config, checkpoint=checkpoint)
                seconds = _seconds(checkpoint, device)
            results = _results(predict(model, data, split), split, path.with_suffix(".npz"))
            frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
            results.update({"frozen": frozen} if frozen else {})  # of the Original's, in Retrain too
        except OtherImages:
            raise
        except (FloatingPointError, ValueError) as error:
            results = {"scores": None, "failed": str(error)}
        return write_record(cell, {**results, "data": identity}, split, seconds, device, path)


def write_record(
    cell: Cell, results: dict[str, Any], split: Split, seconds: float, device: torch.device, path: Path
) -> Record:
    """Write the results of a cell, with its description and conditions, as its record."""
    record: Any = {
        "key": cell.key,
        **json.loads(json.dumps(cell.description)),
        **results,
        "forget_counts": split.forget_counts.tolist(),
        "seconds": round(seconds, 3),
        **conditions(device),
    }
    record["checksum"] = digest(record)
    write_atomic(path, lambda f: f.write(json.dumps(record, indent=1).encode()))
    return record


@functools.cache
def _warm_up(device: torch.device) -> None:
    """Make the first optimiser of a process, which imports for seconds that are no cell's."""
    weight = torch.zeros(1, device=device, requires_grad=True)
    weight.sum().backward()
    torch.optim.SGD([weight], lr=0.1).step()


def _results(pred: Predictions, split: Split, path: Path) -> dict[str, Any]:
    """What a record says of the predictions, which are written to `path`."""
    write_atomic(path, lambda f: np.savez_compressed(f, **arrays_of(pred)))
    return evaluate(pred, split)


def evaluate(pred: Predictions, split: Split) -> dict[str, Any]:
    """What a record says of predictions: scores, attacks, accuracies and probabilities by group, sizes of the parts."""
    return {
        "scores": score(pred)._asdict(),
        "audit": audit(pred, prob=False),
        "forget_groups": _accuracies(pred.forget, split),
        "test_groups": _accuracies(pred.test, split),
        "forget_probabilities": distributions(pred.forget, groups(split)),
        "sizes": {name: len(part.y) for name, part in pred._asdict().items()},
    }


def _accuracies(part: Part, split: Split) -> dict[str, float | None]:
    """Accuracy by group, None for a group without images: JSON has no NaN."""
    return {name: value if value == value else None for name, value in by_group(part, groups(split)).items()}


def run(
    setting: Setting | Iterable[Setting],
    methods: Methods,
    out: str | Path,
    *,
    original_epochs: int | None = None,
    retrains: int = 2,
    root: str | Path | None = None,
    device: str = "auto",
    jobs: int | None = None,
    progress: bool = False,
    engine: Engine = IN_PROCESS,
    deterministic: bool = False,
    **changes: Any,
) -> list[Record]:
    """Run the methods on a setting or several and return the records, in order; what is in `out` already is not run.

    methods: "all", names joined by commas, or a list of names and of rows of your own. `changes` replace values of the
    methods' `Config` (lr=..., epochs=...), `original_epochs` the length of Original and Retrain, `retrains` how many of
    these a setting has: from 3 up, each has the others to be compared with (`ensemble`). Raises ValueError for a change
    that none of the methods reads. For the rest see `run_cells`.
    """
    settings, out = [setting] if isinstance(setting, Setting) else list(setting), os.path.expanduser(out)
    rows = find_rows(methods)
    check_changes(rows, changes)
    cells = [cell for s in settings for cell in cells_of(s, rows, original_epochs, out, retrains, **changes)]
    where: dict[str, Any] = {"root": root, "device": device, "jobs": jobs, "engine": engine}
    return run_cells(cells, out, **where, progress=progress, deterministic=deterministic)


def run_cells(
    cells: list[Cell],
    out: str | Path,
    *,
    root: str | Path | None = None,
    device: str = "auto",
    jobs: int | None = None,
    progress: bool = False,
    engine: Engine = IN_PROCESS,
    deterministic: bool = False,
) -> list[Record]:
    """The records of the cells, in order, each run if it is not in `out`; Originals come first, then the longest.

    jobs: worker processes; by default one a core on a CPU, and the calling process alone on a GPU. deterministic: see
    `train.make_deterministic`. Data sets and splits are checked before the first file is written; the last file says
    how far the cells are from their Retrains (`ensemble.write_distances`). A UserWarning says so if stored records were
    made by other code, and if a model diverges.
    Raises ValueError for what does not exist or fit, ChildProcessError if a worker is lost again and again.
    """
    if jobs is not None:
        whole_number("jobs", jobs, 1)
    folder, out = None if root is None else Path(os.path.expanduser(root)), Path(os.path.expanduser(out))
    nearest = next(path for path in (out, *out.parents) if path.exists())
    if not nearest.is_dir():
        raise ValueError(f"records need a folder and '{nearest}' is a file; give another --out")
    checked_on = engine.device_of_data(device)
    sizes, of_now = {}, list[Record]()
    for setting in dict.fromkeys(cell.setting for cell in cells):
        data, split = load_setting(setting, folder, checked_on, progress=progress)
        check_network_fits(setting.model, data)
        sizes[setting] = len(data.train.y), len(split.forget) / (len(split.forget) + len(split.retain))
        of_now.append({"setting": setting.description, "data": identity_of(data)})
    check_same_data([*stored_records(out), *of_now], out)
    out.mkdir(parents=True, exist_ok=True)

    passes = {cell.key: cell.passes(*sizes[cell.setting]) for cell in cells}
    stored = ((cell, read_record(out / f"{cell.key}.json", cell)) for cell in cells)
    records = {cell.key: record for cell, record in stored if record is not None}
    _say_if_other_code(list(records.values()), out)
    _say_if_of_unknown_images(list(records.values()), out)
    todo = sorted((cell for cell in cells if cell.key not in records), key=lambda c: -passes[c.key])
    remove_leftovers(out)
    if not todo:
        write_distances(out)
        return [records[cell.key] for cell in cells]
    originals = {cell.parent: cell for cell in todo if cell.method == ORIGINAL}
    rest = [cell for cell in todo if cell not in originals.values()]
    work = functools.partial(run_cell, root=folder, deterministic=deterministic, said=True)
    with _bar(sum(passes[cell.key] for cell in todo), progress) as bar, engine.start(work, out, device, jobs) as each:
        for wave in (list(originals.values()), rest):
            for cell, record in each(wave):
                records[cell.key] = record
                if record["scores"] is None:
                    drawn = cell.setting.description
                    law = f"gamma {drawn['gamma']:g}, " if "gamma" in drawn else ""
                    name = f"{cell.method}, {law}seed {cell.setting.seed}"
                    warnings.warn(f"{name}: {record['failed']}", stacklevel=2)
                bar.set_postfix_str(cell.method)
                bar.update(passes[cell.key])
    write_distances(out)
    return [records[cell.key] for cell in cells]


def _say_if_other_code(records: list[Record], out: Path) -> None:
    if other := [r for r in records if not made_by_current_code(r)]:
        made = ", ".join(sorted({f"{r['versions']['falw']} at {r['commit']}" for r in other}))
        what = (
            f"{len(other)} of {len(records)} records that were in '{out}' come from other code ({made}); they are kept"
        )
        warnings.warn(f"{what}: remove them, or give another --out, to compute them again", stacklevel=3)


def _say_if_of_unknown_images(records: list[Record], out: Path) -> None:
    """Of data sets that lie on disk: what is generated cannot have changed."""
    if old := [r for r in records if not r["data"] and find_source(r["setting"]["dataset"]).under_root]:
        what = f"{len(old)} of {len(records)} records that were in '{out}' do not say of which images they are"
        warnings.warn(f"{what}; they are kept: if these have changed since, {OTHER}", stacklevel=3)


def _bar(total: float, progress: bool) -> Any:
    from tqdm.auto import tqdm

    form = "{desc}{percentage:3.0f}%|{bar:24}| {elapsed} gone, {remaining} left{postfix}"
    return tqdm(total=total, disable=not progress, unit="epoch", bar_format=form)
