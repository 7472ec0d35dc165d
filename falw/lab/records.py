"""Records: what a finished cell leaves, its conditions (versions, device, commit, code), reading a folder of them."""

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
from pathlib import Path
from typing import Any

import numpy as np
import torch

import falw
from falw.files import quarantine
from falw.lab.cells import Cell, digest
from falw.metrics import Part, Predictions

Record = dict[str, Any]  # what a cell's JSON file holds


def conditions(device: torch.device) -> dict[str, Any]:
    """Under which conditions a result was obtained: versions, device, commit, date."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() or "cpu"
    versions = {"falw": falw.__version__, "torch": torch.__version__, "python": platform.python_version()}
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    same = device.type == "cpu" or torch.are_deterministic_algorithms_enabled()
    made = {"versions": versions, "commit": commit(), "code": code(), "date": date}
    return {"device": f"{device.type}: {name}", "deterministic": same, **made}


# What decides a result, of the package: not how a run is organised, stored, printed or drawn.
DECIDING = (
    *["split", "models", "weights", "metrics", "images", "checks", "data", "sources", "folders"],
    *["train", "parts", "methods", "audit", "lab.cells", "lab.run"],
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


EQUAL = Path(__file__).with_name("equal.json")


@functools.cache
def equal_commits() -> frozenset[str]:
    """Commits whose records today's code gives again to the last bit, as `tools/recompute.py` has shown for it."""
    shown = json.loads(EQUAL.read_text())
    return frozenset(shown["commits"] if shown["code"] == code() else [])


def is_ours(record: Record) -> bool:
    """Whether today's code made a record, or gives the same numbers as what made it."""
    return record.get("code") == code() or record["commit"] in equal_commits()


def meaning(node: ast.AST) -> str:
    """A statement without comments, docstrings, imports and whatever only some versions of Python put into a tree."""
    if isinstance(node, ast.Import | ast.ImportFrom) or (isinstance(node, ast.Expr) and _is_text(node.value)):
        return ""
    parts = (_parts(value) for name, value in ast.iter_fields(node) if name not in ("kind", "ctx", "type_comment"))
    return f"{type(node).__name__}({', '.join(part for part in parts if part)})"


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _parts(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(part for v in value if (part := _parts(v)))
    return meaning(value) if isinstance(value, ast.AST) else "" if value is None else repr(value)


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


def arrays_of(pred: Predictions) -> dict[str, np.ndarray]:
    """The arrays of predictions by name, as they are stored beside a record."""
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
        if record.get("checksum") not in (None, digest({k: v for k, v in record.items() if k != "checksum"})):
            raise ValueError("wrong checksum")
    except (ValueError, KeyError, TypeError) as error:
        quarantine(path, str(error))
        return None
    return record


def read_records(out: str | Path) -> list[Record]:
    """Every record in a folder, other files left alone; raises FileNotFoundError where there is none."""
    names = sorted(os.listdir(out)) if Path(out).is_dir() else []  # unlike glob, it says so if it may not look
    found = (read_record(Path(out, name)) for name in names if re.fullmatch("[0-9a-f]{16}[.]json", name))
    records = [record for record in found if record is not None]
    if not records:
        raise FileNotFoundError(f"no records in '{out}'; make some: python -m falw run --out {out}")
    return records
