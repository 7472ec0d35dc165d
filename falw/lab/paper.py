"""The numbers that the paper prints, every row of its Tables 1 to 8, to stand beside what we measure.

Percent, as printed. The files in `paper/` were taken from the paper's text and checked against themselves: each
Avg. Gap is the mean of its four distances within 0.03.
"""

from __future__ import annotations

import csv
import functools
from fractions import Fraction
from pathlib import Path
from typing import Any

Row = dict[str, Any]

_FOLDER = Path(__file__).with_name("paper")
_NAMES = {"FaLW-normal": "falw", "SalUn + FaLW": "falw"}  # one method under other names; Table 7's row is Table 4's


@functools.cache
def _all() -> tuple[Row, ...]:
    with open(_FOLDER / "tables.csv", newline="") as f:
        return tuple(_read(row) for row in csv.DictReader(f))


def _read(row: dict[str, str]) -> Row:
    return {
        **{"table": int(row["table"]), "dataset": row["dataset"], "model": row["model"]},
        **{"ratio": float(row["ratio"]), "gamma": float(Fraction(row["gamma"]))},
        "method": _NAMES.get(row["method"], row["method"].replace(" + ", "+").lower()),
        **{k.lower(): float(row[k]) for k in ("FA", "RA", "TA", "MIA")},
        **{"gap": float(row["avg_gap"]), "sd": float(row["std"]) if row["std"] else None},
    }


def rows(table: int | None = None, **where: Any) -> list[Row]:
    """Rows of one of Tables 1, 2, 4, 5, 6, 7, 8 (None: of all), of those settings and methods that `where` names.

    A row is {"table", "dataset", "model", "ratio", "gamma", "method", "fa", "ra", "ta", "mia", "gap", "sd"}: methods
    have the names of METHODS, gap is Avg. Gap and sd its deviation over runs, which only Table 1 has. Raises ValueError
    for a table that is not there and for what no row has.
    """
    tables = sorted({row["table"] for row in _all()})
    if table is not None and table not in tables:
        raise ValueError(f"no table {table} here; choose one of: {', '.join(map(str, tables))} (Table 3: `ablation`)")
    wanted = {**where, **({} if table is None else {"table": table})}
    for key in wanted:
        if key not in _all()[0]:
            raise ValueError(f"rows have no '{key}'; choose one of: {', '.join(_all()[0])}")
    found = [dict(row) for row in _all() if all(row[k] == v for k, v in wanted.items())]
    if not found:
        raise ValueError(f"the paper has no row with {wanted}")
    return found


def ablation() -> list[Row]:
    """Table 3: signed FA gaps to Retrain, overall and by group, with and without the balance factor, at two gammas."""
    with open(_FOLDER / "table3.csv", newline="") as f:
        return [
            {
                "gamma": float(Fraction(row["gamma"])),
                "balance_factor": row["balance_factor"] == "yes",
                **{name: float(row[f"delta_{key}FA"]) for name, key in _GROUPS.items()},
            }
            for row in csv.DictReader(f)
        ]


_GROUPS = {"all": "", "head": "head_", "mid": "mid_", "tail": "tail_"}
