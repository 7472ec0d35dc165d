"""Records: what a finished cell leaves, its conditions (versions, device, code), a folder of them as a DataFrame."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import platform
import re
import subprocess
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch

import falw
from falw.audit import RATES
from falw.config import LATER_CONFIG, Config
from falw.files import quarantine
from falw.images import Dataset
from falw.lab.cells import ORIGINAL, RETRAIN, Cell, Setting, digest
from falw.methods import METHODS, VARIANTS
from falw.metrics import Part, Predictions, Scores
from falw.sources import image_digests

if TYPE_CHECKING:
    from pandas import DataFrame, Series


class Record(TypedDict, total=False):
    """What a cell's JSON file holds. Of a model that diverged `scores` is None and `failed` says why."""

    key: str
    setting: dict[str, Any]  # of `Setting`
    method: str
    config: dict[str, Any]  # of `Config`: the method's
    recipe: dict[str, Any]  # of `Config`: the Original's
    row: str  # what a row of the reader's own is (`Cell.row_digest`); rows of the package have none
    scores: dict[str, float] | None
    failed: str
    audit: dict[str, float]  # attack: percent of forgotten images that it takes for unseen
    forget_groups: dict[str, float | None]  # accuracy in percent, None for a group without images
    test_groups: dict[str, float | None]
    forget_probabilities: dict[str, dict[str, Any]]  # see `metrics.distributions`
    forget_counts: list[int]  # (C,)
    sizes: dict[str, int]
    data: dict[str, Any] | None  # see `identity_of`; older records have none
    seconds: float
    device: str
    deterministic: bool
    versions: dict[str, str]
    commit: str | None
    code: str
    date: str
    checksum: str


def conditions(device: torch.device) -> dict[str, Any]:
    """Under which conditions a result was obtained: versions, device, commit, date."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() or "cpu"
    versions = {"falw": falw.__version__, "torch": torch.__version__, "python": platform.python_version()}
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    same = device.type == "cpu" or torch.are_deterministic_algorithms_enabled()
    made = {"versions": versions, "commit": commit(), "code": code(), "date": date}
    return {"device": f"{device.type}: {name}", "deterministic": same, **made}


def identity_of(data: Dataset) -> dict[str, Any]:
    """What the images and labels of a data set are: how many, how large, and digests of them."""
    parts = {"training": data.train, "test": data.test}
    return {
        "classes": data.num_classes,
        "shape of an image": list(data.train.x.shape[1:]),
        **{f"{name} images": len(images.y) for name, images in parts.items()},
        **{f"pixels of {name} images": _hash(*image_digests(images.x)) for name, images in parts.items()},
        **{f"labels of {name} images": _hash(images.y.cpu().numpy().tobytes()) for name, images in parts.items()},
    }


def _hash(*parts: bytes) -> str:
    return hashlib.blake2b(b"".join(parts), digest_size=8).hexdigest()


def what_changed(old: dict[str, Any], new: dict[str, Any]) -> str:
    """In what the images of two data sets differ, by their identities, in words; "" if in nothing."""
    changed = [name for name in new if old.get(name) != new[name]]
    said = [f"{name} {old.get(name)}, now {new[name]}" for name in changed if not isinstance(new[name], str)]
    return "; ".join(said) or ", ".join(changed)


OF_DATA = ("dataset", "size", "classes", "per_class", "data_seed", "background")


def check_same_data(records: Iterable[Record], out: Path | str) -> None:
    """Raise OtherImages if records of one data set were made of different images: they must not be compared.

    Records from before images had an identity have none, and are taken as they are.
    """
    known: dict[tuple, dict[str, Any]] = {}
    for record in records:
        if made_of := record.get("data"):
            data_set = tuple(record["setting"].get(name) for name in OF_DATA)
            changed = what_changed(known.setdefault(data_set, made_of), made_of)
            if changed:
                when = f"since records were stored in '{out}'"
                raise OtherImages(f"{data_set[0]} has changed {when} ({changed}); {OTHER}")


OTHER = "give another --out, or remove what is there"


class OtherImages(ValueError):
    """What is stored was made of other images than those that are there now."""


# What decides a result, of the package: not how a run is organised, stored, printed or drawn.
DECIDING = (
    *["indices", "split", "architectures", "modules", "models", "weights", "metrics", "images", "checks", "data"],
    *["sources", "folders", "config", "train", "parts", "distil", "targets", "adversarial", "dampening", "influence"],
    *["methods", "audit", "lab.cells", "lab.requests", "lab.run"],
)


@functools.cache
def code() -> str:
    """12 hexadecimal digits of what the deciding modules say: another value, other code.

    The hash is of their statements as Python reads them, in no order: a comment, a docstring, an import or the module
    that a function stands in changes nothing.
    """
    package = Path(falw.__file__).parent
    files = [package.joinpath(*name.split(".")).with_suffix(".py") for name in DECIDING]
    statements = [node for file in files for node in ast.parse(file.read_text()).body]
    said = sorted(filter(None, map(meaning, statements)))
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]


SAME_NUMBERS = Path(__file__).with_name("same_numbers.json")


@functools.cache
def commits_with_same_numbers() -> frozenset[str]:
    """Commits whose records today's code gives again to the last bit, as `tools/recompute.py` has shown for it."""
    shown = json.loads(SAME_NUMBERS.read_text())
    return frozenset(shown["commits"] if shown["code"] == code() else [])


def made_by_current_code(stored: Mapping[str, Any]) -> bool:
    """Whether today's code made a record or an Original's file, or gives the same numbers as what made it.

    Early records have no "code", early files of Originals no "commit".
    """
    return stored.get("code") == code() or stored.get("commit") in commits_with_same_numbers()


def meaning(node: ast.AST) -> str:
    """A statement without comments, docstrings, imports and whatever only some versions of Python put into a tree."""
    if isinstance(node, ast.Import | ast.ImportFrom) or (isinstance(node, ast.Expr) and _is_text(node.value)):
        return ""
    parts = (
        _meaning_of_field(value) for name, value in ast.iter_fields(node) if name not in ("kind", "ctx", "type_comment")
    )
    return f"{type(node).__name__}({', '.join(part for part in parts if part)})"


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _meaning_of_field(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(part for v in value if (part := _meaning_of_field(v)))
    return meaning(value) if isinstance(value, ast.AST) else "" if value is None else repr(value)


@functools.cache
def commit() -> str | None:
    """The commit of the code, "+" after it if the package has been changed since.

    Outside a checkout the environment variable FALW_COMMIT names it, and without that it is None.
    """
    here = Path(falw.__file__).parent
    git = functools.partial(subprocess.run, cwd=here, capture_output=True, text=True, check=True)
    try:
        changed = git(["git", "status", "--porcelain", "--", "."]).stdout.strip()
        return git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("FALW_COMMIT")


def arrays_of(pred: Predictions) -> dict[str, np.ndarray]:
    """The arrays of predictions by name, as they are stored beside a record."""
    return {f"{name}_{k}": v.numpy() for name, part in pred._asdict().items() for k, v in part._asdict().items()}


def read_predictions(record: Record, out: Path | str) -> Predictions:
    """The probabilities that lie beside a record; raises FileNotFoundError where only the record was kept."""
    with np.load(Path(out) / f"{record['key']}.npz") as z:
        return Predictions(
            *(Part(*(torch.from_numpy(z[f"{n}_{k}"]) for k in Part._fields)) for n in Predictions._fields)
        )


def read_forget(key: str, out: Path | str) -> Part:
    """The forget set's part of them alone."""
    with np.load(Path(out) / f"{key}.npz") as z:
        return Part(*(torch.from_numpy(z[f"forget_{k}"]) for k in Part._fields))


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
        if record.get("checksum") not in (None, digest({k: v for k, v in record.items() if k != "checksum"})):
            raise ValueError("wrong checksum")
    except (ValueError, KeyError, TypeError) as error:
        quarantine(path, str(error))
        return None
    record.setdefault("data", None)  # of older records it cannot be told
    return record


def read_records(out: str | Path) -> list[Record]:
    """Every record in a folder, other files left alone; raises FileNotFoundError where there is none.

    Raises OtherImages if some were made after the images of a data set had changed.
    """
    stored = stored_records(out)
    if not stored:
        raise FileNotFoundError(f"no records in '{out}'; make some: python -m falw run --out {out}")
    check_same_data(stored, out)
    return stored


def stored_records(out: str | Path) -> list[Record]:
    """Every record in a folder, other files left alone; none where there is no folder."""
    out = os.path.expanduser(out)
    names = sorted(os.listdir(out)) if Path(out).is_dir() else []  # unlike glob, it says so if it may not look
    read = (read_record(Path(out, name)) for name in names if re.fullmatch("[0-9a-f]{16}[.]json", name))
    return [record for record in read if record is not None]


Far = dict[str, dict[str, Any]]  # {key: {"to": keys of Retrains, "all": `metrics.distances`, "head": ..., ...}}
DISTANCES = "distances.json"  # the file of them; `ensemble` writes it


def read_distances(out: str | Path) -> Far:
    """How far the cells of a folder are from their Retrains; empty where that was not computed."""
    return _read_derived(Path(os.path.expanduser(out), DISTANCES))


def _read_derived(path: Path) -> dict[str, dict[str, Any]]:
    """What was computed from the predictions of a folder, by key; a damaged file is set aside, with a warning."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        quarantine(path, str(error))
        return {}


Audited = dict[str, dict[str, Any]]  # {key: {"to": keys of Retrains, audit: {"all": {number: ...}, "head": ..., ...}}}
AUDITS_FILE = "audits.json"  # `audits` writes it


BY_RETRAINS = ("iam", "rmia", "lira")  # audits that compare a cell with all Retrains of its setting


def read_audits(out: str | Path) -> Audited:
    """What audits say of the cells of a folder, as it is stored; empty where none was asked for."""
    return _read_derived(Path(os.path.expanduser(out), AUDITS_FILE))


def audits_of(records: Iterable[Record], out: str | Path) -> Audited:
    """What audits say of the cells of a folder, of which these are all records.

    What they said beside other Retrains than are there now is left out, and a warning says of how many cells that is.
    """
    audited = read_audits(out)
    beside = _retrains_beside(records) if audited else {}
    old = [k for k, e in audited.items() if k in beside and {*BY_RETRAINS} & e.keys() and {*e["to"]} != beside[k]]
    if old:
        what = f"{len(old)} cells in '{out}' were audited beside other Retrains than are there now"
        warnings.warn(f"{what}, which is left out: run `python -m falw audit` on the folder again", stacklevel=2)
    return {**audited, **{key: without_retrains(audited[key]) for key in old}}


def _retrains_beside(records: Iterable[Record]) -> dict[str, set[str]]:
    """Of each cell that has scores the keys of the other Retrains of its setting, seed and recipe."""
    shared, retrains = dict[str, str](), dict[str, set[str]]()
    for record in records:
        if record["scores"]:
            same = digest({"setting": record["setting"], "recipe": record["recipe"]})
            shared[record["key"]] = same
            retrains.setdefault(same, set()).update([record["key"]] if record["method"] == RETRAIN else [])
    return {key: retrains[same] - {key} for key, same in shared.items()}


def without_retrains(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Audits of a cell but those BY_RETRAINS."""
    return {name: found for name, found in entry.items() if name not in BY_RETRAINS}


# Records as rows of a DataFrame

FLOOR = "noise floor"
GROUPS = ("all", "head", "mid", "tail")
SETTING = [*(f.name for f in fields(Setting) if f.name not in ("seed", "data_seed")), "original_epochs"]
SEEDS = ["seed", "data_seed"]
CONFIG = [*(f.name for f in fields(Config) if f.name != "seed"), "row"]  # the seed is the setting's
FAR = {  # column: group and number of `metrics.distances`
    name if group == "all" else f"{name}_{group}": (group, name)
    for group in GROUPS
    for name in ("deviation", "abs_deviation", "w1", "kl", "outside")
}
HITS = ("tpr", *(f"tpr_{rate:g}" for rate in RATES))  # of `told_apart`
NUMBERS_OF_AUDITS = {  # those that are one number a cell
    "iam": ("completeness", "under", "over", "unseen", "retained"),
    **dict.fromkeys(("rmia", "lira"), ("auc", *HITS, "retained", "spread")),
    "ulira": ("auc", "chance_low", "chance_high", *HITS, "unseen", "retained"),
    **{"klom": ("kl", "models"), "forgetting": ("score", "models")},
    **{"relearning": ("gain", "epochs"), "features": ("probe", "cka", "neighbours")},
}
AUDITED = {  # column: group, audit and number
    "_".join([audit, name, *[group][group == "all" :]]): (group, audit, name)
    for group in GROUPS
    for audit, names in NUMBERS_OF_AUDITS.items()
    for name in names
}
COMPARED = [*Scores._fields, "mia_confidence", *(f"{unit}_{group}" for group in GROUPS for unit in ("fa", "p"))]


def records(out: str | Path) -> DataFrame:
    """A folder of records as a DataFrame, distances and audits with them: see `frame`.

    Raises FileNotFoundError without any.
    """
    found = read_records(out)
    return frame(found, read_distances(out), audits_of(found, out))


NOTHING: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


def frame(
    records: Iterable[Record],
    distances: Mapping[str, Mapping[str, Any]] = NOTHING,
    audits: Mapping[str, Mapping[str, Any]] = NOTHING,
) -> DataFrame:
    """Records as a DataFrame, one row a cell in their order, to be asked by `query`, `groupby` and `merge`.

    Columns: the fields of `Setting` (lists as texts) and of `Config` (its seed aside), original_epochs and row; method,
    further Retrains being the "noise floor", and label, which tells apart configurations of one method on one setting;
    fa, ra, ta, mia and the attacks of `audit` as mia_confidence, ...; of forgotten images, by group of classes ("all",
    "head", "mid", "tail"), fa_head, the mean probability p_head and its histogram counts_head; key, seconds, device,
    code, commit and failed. Beside them stands the distance to the Retrain of the same setting and seeds: d_fa,
    d_p_head, ... is signed, above 0 is more than Retrain; gap is Avg. Gap, tow `metrics.tow`. From `distances`
    (`read_distances`) come those to all Retrains of the setting and seed but the row itself: deviation, abs_deviation,
    w1, kl and outside (see `metrics.distances`), and deviation_head, ... From `audits` (`audits_of`) come rmia_auc,
    rmia_auc_head, ... (NUMBERS_OF_AUDITS). NaN is what was not measured.
    Raises ValueError if a setting and seed has several Retrains of the setting's own seed.
    """
    import pandas as pd

    columns = dict.fromkeys(
        [*SETTING, *SEEDS, *CONFIG, *COMPARED, *(f"counts_{group}" for group in GROUPS), *FAR, *AUDITED]
    )
    each = [
        {**columns, **_row(r), **_far(distances.get(r["key"], {})), **_found(audits.get(r["key"], {}))} for r in records
    ]
    rows = pd.DataFrame(each).drop_duplicates("key", ignore_index=True)
    kinds = {
        **dict.fromkeys(["size", "classes", "per_class"], "Int64"),
        **dict.fromkeys(["ratio", "gamma", "val", *COMPARED, *FAR, *AUDITED], float),
    }
    # A copy lies in one piece: pandas warns of a frame that is added to in many.
    return _beside_retrain(rows.astype(kinds).copy().assign(label=_method_labels(rows)))


def _row(record: Record) -> dict[str, Any]:
    second = record["method"] == RETRAIN and record["config"]["seed"] != record["setting"]["seed"]
    ran = {**LATER_CONFIG, **record["config"]}
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in ran.items() if k != "seed"}
    return {
        **{k: record.get(k) for k in ("key", "seconds", "device", "code", "commit", "failed", "row")},
        **{"method": FLOOR if second else record["method"], "original_epochs": record["recipe"]["epochs"]},
        **config,
        **_in_words(record["setting"]),
        **(record["scores"] or {}),
        **{f"mia_{attack}": value for attack, value in (record.get("audit") or {}).items()},
        **(_of_groups(record, record["scores"]) if record["scores"] else {}),
    }


def _far(entry: Mapping[str, Any]) -> dict[str, float]:
    return {column: entry.get(group, {}).get(name) for column, (group, name) in FAR.items()}


def _found(entry: Mapping[str, Any]) -> dict[str, float]:
    return {c: entry.get(audit, {}).get(group, {}).get(name) for c, (group, audit, name) in AUDITED.items()}


def _in_words(setting: dict[str, Any]) -> dict[str, Any]:
    """A setting whose lists of what to forget are texts, which may be grouped by."""
    words = dict(setting)
    if listed := setting.get("forget"):
        words["forget"] = f"{len(listed)} listed images ({digest(listed)[:6]})"
    if classes := setting.get("forget_classes"):
        words["forget_classes"] = " and ".join(classes)
    if counts := setting.get("histogram"):
        words["histogram"] = ":".join(map(str, counts))
    return words


def _of_groups(record: Record, scores: dict[str, float]) -> dict[str, Any]:
    """FA, mean probability and histogram on the forget set, of each group that has forgotten images and of all."""
    parts = {g: d for g, d in record["forget_probabilities"].items() if d["mean"] is not None}
    sizes = {g: sum(d["counts"]) for g, d in parts.items()}
    counts = [sum(column) for column in zip(*(d["counts"] for d in parts.values()), strict=True)]
    mean = sum(sizes[g] * d["mean"] for g, d in parts.items()) / sum(sizes.values())
    numbers = {"fa_all": scores["fa"], "p_all": mean, "counts_all": counts}
    for g, d in parts.items():
        numbers |= {f"fa_{g}": record["forget_groups"][g], f"p_{g}": d["mean"], f"counts_{g}": d["counts"]}
    return numbers


def _method_labels(rows: DataFrame) -> Series:
    """The method of each row; several configurations on one setting say in which values they differ."""
    labels = rows["method"].copy()
    for (*_, method), same in rows.groupby([*SETTING, "method"], dropna=False):
        differ = [k for k in CONFIG if same[k].nunique(dropna=False) > 1]
        for i in same.index if differ else ():
            labels[i] = f"{method} ({', '.join(f'{k} {same.at[i, k]}' for k in differ)})"
    return labels


def _beside_retrain(rows: DataFrame) -> DataFrame:
    retrain = rows.loc[(rows["method"] == RETRAIN) & rows["fa"].notna(), [*SETTING, *SEEDS, *COMPARED]]
    if retrain.duplicated([*SETTING, *SEEDS]).any():
        raise ValueError("two Retrains of one setting and seed: keep records of one recipe in a folder")
    theirs = rows[[*SETTING, *SEEDS]].merge(retrain, on=[*SETTING, *SEEDS], how="left").set_axis(rows.index)
    signed = (rows[COMPARED] - theirs[COMPARED]).add_prefix("d_")
    far = signed[[f"d_{score}" for score in Scores._fields]].abs()
    near = 1 - far[["d_fa", "d_ra", "d_ta"]] / 100
    return rows.join(signed).assign(gap=far.mean(axis=1, skipna=False), tow=near.prod(axis=1, skipna=False))


def in_order(names: Iterable[str]) -> list[str]:
    """Labels as tables list them: Retrain, noise floor, Original, then methods and variants as their tables do."""
    order = dict.fromkeys([RETRAIN, FLOOR, ORIGINAL, *METHODS, *VARIANTS])
    known = {name: rank for rank, name in enumerate(order)}
    return sorted(names, key=lambda name: known.get(name.split(" (")[0], len(order)))
