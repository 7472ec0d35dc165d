"""From a setting to a table: run what is missing, keep every result as a small file, read the files back.

A cell is one method on one setting with one seed. It is addressed by the hash of its full description and is done if
and only if its record exists, so an interrupted run goes on where it stopped and nothing is computed twice, not even by
two processes. Files are written whole: to a temporary name first, then renamed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import re
import subprocess
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import Timeout
from torch import nn

import falw
from falw.audit import audit
from falw.data import Dataset, load_dataset
from falw.engines import IN_PROCESS, Engine
from falw.files import alone, load_tensors, save_tensors, set_aside, sweep, write_whole
from falw.methods import ALIASES, METHODS, Method, find_method, unlearn
from falw.metrics import Part, Predictions, by_group, distributions, score
from falw.models import MODELS, create
from falw.split import Split, groups, long_tailed_split
from falw.train import Checkpoint, Config, as_floats, make_deterministic, predict, train_original, whole_number

Record = dict[str, Any]  # what a cell's JSON file holds

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


TUNED = Path(falw.__file__).parent / "tuned.json"


@functools.cache
def tuned() -> dict[str, dict[str, dict[str, Any]]]:
    """The values of `Config` that `tune` chose: {"DATASET/MODEL": {method: values}}."""
    return json.loads(TUNED.read_text())["chosen"]


def searched(dataset: str, model: str) -> str:
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
        return _hash(asdict(self))

    @property
    def parent(self) -> str:
        """The key of the Original, which does not depend on what will be forgotten of what it learnt."""
        setting = {k: v for k, v in asdict(self.setting).items() if k not in ("ratio", "gamma", "cap")}
        return _hash({"setting": setting, "recipe": asdict(self.recipe)})

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


def _hash(description: dict) -> str:
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
            row, chosen = find_method(name), tuned().get(searched(setting.dataset, setting.model), {})
            values = {**chosen.get(row.tuned_as or name, {}), **changes}
            config = row.settle(replace(UNLEARN[setting.model], seed=setting.seed, **values))
            cells.append(Cell(setting, name, config, recipe))
    return cells


def find_model(name: str) -> str:
    """The name itself; raises ValueError naming the choice if there is no such model."""
    if name not in MODELS:
        raise ValueError(f"unknown model '{name}'; choose one of: {', '.join(MODELS)}")
    return name


def check(model: str, data: Dataset) -> None:
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


def _dataset(setting: Setting, root: Path | None, device: torch.device, progress: bool) -> Dataset:
    options = {"size": setting.size, "classes": setting.classes, "per_class": setting.per_class}
    key = (setting.dataset, root, device, setting.data_seed, *options.values())
    if key not in _LOADED:
        while len(_LOADED) >= 2:
            _LOADED.pop(next(iter(_LOADED)))
        _LOADED[key] = load_dataset(setting.dataset, root, device, seed=setting.data_seed, progress=progress, **options)
    return _LOADED[key]


_LOADED: dict[tuple, Dataset] = {}  # the last two data sets of this process


def load_setting(
    setting: Setting, root: Path | None = None, device: str | torch.device = "cpu", progress: bool = False
) -> tuple[Dataset, Split]:
    """The data set (kept in memory for the next call) and the split of a setting."""
    data = _dataset(setting, root, torch.device(device), progress)
    return data, _split(setting, data, setting.seed)


def _split(setting: Setting, data: Dataset, seed: int) -> Split:
    val = data.val if setting.val is None else setting.val
    return long_tailed_split(data.train.y, setting.ratio, setting.gamma, val, seed, setting.cap)


def original_of(cell: Cell, data: Dataset, out: Path, wait: bool = True) -> tuple[nn.Module, float]:
    """The cell's Original and the seconds its training took: from `out`, or trained now and stored there.

    One that other code trained is kept, with a warning. Raises filelock.Timeout if another process is at it and we do
    not wait.
    """
    model = create(cell.setting.model, data.num_classes, data.mean, data.std, cell.recipe.seed)
    path = out / f"original-{cell.parent}.pt"
    with alone(path, wait):
        stored = load_tensors(path)
        if stored is not None:
            if stored["code"] != code():
                warnings.warn(f"{path.name} comes from other code; remove it to train it again", stacklevel=2)
            model.load_state_dict(stored["weights"])
            # In the layout in which `fit` leaves it: other kernels would change the last digits.
            model.to(data.train.x.device).to(memory_format=torch.channels_last)
            return model.eval(), stored["seconds"]
        split = _split(cell.setting, data, cell.setting.seed + cell.setting.split_mismatch)
        with _checkpoint(path, data.train.x.device) as checkpoint:
            train_original(model, data, split, cell.recipe, checkpoint=checkpoint)
            seconds = _seconds(checkpoint, data.train.x.device)
            weights = {k: v.cpu() for k, v in model.state_dict().items()}
            save_tensors({"weights": weights, "seconds": seconds, "code": code()}, path)
    return model, seconds


@contextlib.contextmanager
def _checkpoint(path: Path, device: torch.device) -> Iterator[Checkpoint]:
    """A checkpoint of the run that makes the file at `path`, gone when that is there.

    Other code, another version of PyTorch and another kind of device start afresh.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    of = f"{path.stem} by {code()} with {torch.__version__} on {name}"
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
) -> Record | None:
    """The record of a cell: read if it is there, else computed and written, its probabilities beside it.

    On a CPU a cell runs on one thread, whichever engine runs it: the number of threads changes the last digits. A model
    that diverged is a result too: its record has None for scores and says why in "failed". If another process is at the
    cell, its record is waited for; without `wait` None is returned.
    """
    path = out / f"{cell.key}.json"
    record = read_record(path, cell)
    if record is not None:
        return record
    if deterministic:
        make_deterministic()
    try:
        with alone(path, wait):
            return read_record(path, cell) or _compute(cell, out, root, torch.device(device), wait)
    except Timeout:
        return None


def _compute(cell: Cell, out: Path, root: Path | None, device: torch.device, wait: bool) -> Record:
    data, split = load_setting(cell.setting, root, device)
    path, threads, seconds = out / f"{cell.key}.json", torch.get_num_threads(), 0.0
    torch.set_num_threads(1 if device.type == "cpu" else threads)
    _warm_up(device)
    with _checkpoint(path, device) as checkpoint:
        try:
            model, seconds = original_of(cell, data, out, wait)
            if cell.method != ORIGINAL:
                checkpoint.start = time.perf_counter()
                model = unlearn(cell.method, model, data, split, cell.config, checkpoint=checkpoint)
                seconds = _seconds(checkpoint, device)
            found = _found(predict(model, data, split), split, path.with_suffix(".npz"))
        except FloatingPointError as error:
            found = {"scores": None, "failed": str(error)}
        finally:
            torch.set_num_threads(threads)
        record = {
            "key": cell.key,
            **json.loads(json.dumps(asdict(cell))),
            **found,
            "forget_counts": split.forget_counts.tolist(),
            "seconds": round(seconds, 3),
            **conditions(device),
        }
        record["checksum"] = _hash(record)
        write_whole(path, lambda f: f.write(json.dumps(record, indent=1).encode()))
    return record


@functools.cache
def _warm_up(device: torch.device) -> None:
    """Make the first optimiser of a process, which imports for seconds that are no cell's."""
    weight = torch.zeros(1, device=device, requires_grad=True)
    weight.sum().backward()
    torch.optim.SGD([weight], lr=0.1).step()


def _found(pred: Predictions, split: Split, path: Path) -> Record:
    """What a record says of the predictions, which are written to `path`."""
    write_whole(path, lambda f: np.savez_compressed(f, **_arrays(pred)))
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


def conditions(device: torch.device) -> dict[str, Any]:
    """Under which conditions a result was obtained: versions, device, commit, date."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() or "cpu"
    versions = {"falw": falw.__version__, "torch": torch.__version__, "python": platform.python_version()}
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    same = device.type == "cpu" or torch.are_deterministic_algorithms_enabled()
    made = {"versions": versions, "commit": commit(), "code": code(), "date": date}
    return {"device": f"{device.type}: {name}", "deterministic": same, **made}


DECIDING = ("split", "weights", "metrics", "audit", "models", "data", "train", "methods", "bench")


@functools.cache
def code() -> str:
    """12 hexadecimal digits of the hash of the modules that decide a result: another value, other code."""
    digest = hashlib.sha256()
    for name in DECIDING:
        digest.update((Path(falw.__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def commit() -> str | None:
    """The commit of the code, "+" after it if the package has been changed since; None outside a checkout."""
    here = Path(falw.__file__).parent
    git = functools.partial(subprocess.run, cwd=here, capture_output=True, text=True, check=True)
    try:
        changed = git(["git", "status", "--porcelain", "--", "."]).stdout.strip()
        return git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _arrays(pred: Predictions) -> dict[str, np.ndarray]:
    return {f"{name}_{k}": v.numpy() for name, part in pred._asdict().items() for k, v in part._asdict().items()}


def read_predictions(record: Record, out: Path | str) -> Predictions:
    """The probabilities that lie beside a record; raises FileNotFoundError where only the record was kept."""
    with np.load(Path(out) / f"{record['key']}.npz") as z:
        return Predictions(
            *(Part(*(torch.from_numpy(z[f"{n}_{k}"]) for k in Part._fields)) for n in Predictions._fields)
        )


def read_record(path: Path, cell: Cell | None = None) -> Record | None:
    """A record, None where there is none. One that is damaged or of another cell is set aside, with a warning.

    Records from before there were checksums have none and are read as they are.
    """
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
        if record["key"] != path.stem or (cell and record["key"] != cell.key) or "scores" not in record:
            raise ValueError("it describes another cell")
        if record.get("checksum") not in (None, _hash({k: v for k, v in record.items() if k != "checksum"})):
            raise ValueError("wrong checksum")
    except (ValueError, KeyError, TypeError) as error:
        set_aside(path, str(error))
        return None
    return record


def run(
    setting: Setting | Iterable[Setting],
    methods: str | Sequence[str],
    out: str | Path,
    *,
    original_epochs: int | None = None,
    root: str | Path | None = None,
    device: str = "auto",
    jobs: int | None = None,
    progress: bool = False,
    engine: Engine = IN_PROCESS,
    deterministic: bool = False,
    **changes: Any,
) -> list[Record]:
    """Run the methods on a setting or several and return the records, in order; what is in `out` already is not run.

    methods: "all", names joined by commas, or a list. `changes` replace values of the methods' `Config` (lr=...,
    epochs=...), `original_epochs` the length of Original and Retrain. Raises ValueError for a change that none of the
    methods reads. For the rest see `run_cells`.
    """
    settings = [setting] if isinstance(setting, Setting) else list(setting)
    names = parse_methods(methods)
    _check_changes(names, changes)
    cells = [cell for s in settings for cell in cells_of(s, names, original_epochs, **changes)]
    where: dict[str, Any] = {"root": root, "device": device, "jobs": jobs, "engine": engine}
    return run_cells(cells, out, **where, progress=progress, deterministic=deterministic)


def _check_changes(names: Sequence[str], changes: dict[str, Any]) -> None:
    """Raise ValueError for a change of what is no field, and for one that no method but Retrain reads."""
    known = [field.name for field in fields(Config) if field.name != "seed"]  # which is the setting's
    for change, value in changes.items():
        if change not in known:
            raise ValueError(f"unknown change {change}={value!r}; choose one of: {', '.join(known)}")
        if not any(find_method(name).reads(change) for name in names if name != RETRAIN):
            ran = ", ".join(names) or f"{ORIGINAL}, {RETRAIN}"
            raise ValueError(f"{change} {value} changes nothing of {ran}: leave it out, or add a method that reads it")


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
    `train.make_deterministic`. Data sets and splits are checked before the first file is written. A UserWarning says so
    if stored records were made by other code, and if a model diverges.
    Raises ValueError for what does not exist or fit, ChildProcessError if a worker is lost again and again.
    """
    if jobs is not None:
        whole_number("jobs", jobs, 1)
    where, out = Path(root) if root is not None else None, Path(out)
    there = next(path for path in (out, *out.parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"records need a folder and '{there}' is a file; give another --out")
    place = engine.place(device)
    sizes = {}
    for setting in dict.fromkeys(cell.setting for cell in cells):
        data = load_setting(setting, where, place, progress=progress)[0]
        check(setting.model, data)
        sizes[setting] = len(data.train.y)
    out.mkdir(parents=True, exist_ok=True)

    passes = {cell.key: cell.passes(sizes[cell.setting]) for cell in cells}
    found = ((cell, read_record(out / f"{cell.key}.json", cell)) for cell in cells)
    records = {cell.key: record for cell, record in found if record is not None}
    _say_if_other_code(list(records.values()), out)
    todo = sorted((cell for cell in cells if cell.key not in records), key=lambda c: -passes[c.key])
    sweep(out)
    if not todo:
        return [records[cell.key] for cell in cells]
    originals = {cell.parent: cell for cell in todo if cell.method == ORIGINAL}
    rest = [cell for cell in todo if cell not in originals.values()]
    work = functools.partial(run_cell, root=where, deterministic=deterministic)
    with _bar(sum(passes[cell.key] for cell in todo), progress) as bar, engine.start(work, out, device, jobs) as each:
        for wave in (list(originals.values()), rest):
            for cell, record in each(wave):
                records[cell.key] = record
                if record["scores"] is None:
                    name = f"{cell.method}, gamma {cell.setting.gamma:g}, seed {cell.setting.seed}"
                    warnings.warn(f"{name}: {record['failed']}", stacklevel=2)
                bar.set_postfix_str(cell.method)
                bar.update(passes[cell.key])
    return [records[cell.key] for cell in cells]


def _say_if_other_code(records: list[Record], out: Path) -> None:
    other = [r for r in records if r.get("code") != code()]
    if other:
        made = ", ".join(sorted({f"{r['versions']['falw']} at {r['commit']}" for r in other}))
        warnings.warn(
            f"{len(other)} of {len(records)} records that were in '{out}' come from other code ({made}); they are "
            "kept: remove them, or give another --out, to compute them again",
            stacklevel=3,
        )


def parse_methods(methods: str | Sequence[str]) -> list[str]:
    """The rows named by "all", "a,b", "all,b" or ["a", "b"], each checked and once; "all" is every row of METHODS."""
    given = methods.split(",") if isinstance(methods, str) else methods
    names = [name for g in given for name in (METHODS if g.strip() == "all" else [g.strip()])]
    for name in names:
        find_method(name)
    return list(dict.fromkeys(ALIASES.get(name, name) for name in names))


def _bar(total: float, progress: bool) -> Any:
    from tqdm.auto import tqdm

    form = "{desc}{percentage:3.0f}%|{bar:24}| {elapsed} gone, {remaining} left{postfix}"
    return tqdm(total=total, disable=not progress, unit="epoch", bar_format=form)


def read_records(out: str | Path) -> list[Record]:
    """Every record in a folder, other files left alone; raises FileNotFoundError where there is none."""
    names = sorted(os.listdir(out)) if Path(out).is_dir() else []  # unlike glob, it says so if it may not look
    found = (read_record(Path(out, name)) for name in names if re.fullmatch("[0-9a-f]{16}[.]json", name))
    records = [record for record in found if record is not None]
    if not records:
        raise FileNotFoundError(f"no records in '{out}'; make some: python -m falw run --out {out}")
    return records
