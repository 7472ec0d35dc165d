"""Operating curves: a method over its rates, and methods compared where they forget as much as Retrain does.

A learning rate is a knob for FA, and one rate a method compares knobs. Here every method is read off at the Retrains'
FA, between the two runs around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from falw.lab.cells import ORIGINAL, RETRAIN
from falw.lab.records import CONFIG, FLOOR, SEEDS, SETTING
from falw.lab.tables import interval, side_of

if TYPE_CHECKING:
    from pandas import DataFrame

PLACE = [*SETTING, *SEEDS]  # where runs are compared with each other
REFERENCES = (RETRAIN, FLOOR)


def matched(frame: DataFrame, measures: Sequence[str] = ("ra", "ta")) -> DataFrame:
    """Every method at its Retrains' FA: a row a setting, seed and method, with the Retrains' mean subtracted.

    Columns: those of the setting, "method", "lr" (of the match), the `measures` less the Retrains' mean, "fa" and
    "matched". Between the two neighbouring rates around that FA everything is interpolated in log(rate). Where no rate
    goes so far the nearest run stands as it is, "matched" is False and "fa" says how far off it is.
    Raises ValueError for records without Retrain, and for runs of a method that differ in more than their rate.
    """
    import pandas as pd

    rows = []
    for place, cells in frame[frame.fa.notna()].groupby(PLACE, dropna=False):
        retrains = cells[cells.method.isin(REFERENCES)]
        if retrains.empty:
            raise ValueError("no Retrain among these records: its FA is where methods are compared; run it first")
        reference = retrains[["fa", *measures]].mean()
        for method, runs in cells[~cells.method.isin((ORIGINAL, *REFERENCES))].groupby("method", sort=False):
            differ = [name for name in CONFIG if name != "lr" and runs[name].nunique(dropna=False) > 1]
            if differ:
                raise ValueError(f"runs of {method} differ in {', '.join(differ)}, too: query for one value of each")
            at = _at(runs.sort_values("lr").to_dict("records"), reference.fa, ["fa", *measures])
            distances = {name: at[name] - reference[name] for name in ("fa", *measures)}
            rows.append({**dict(zip(PLACE, place, strict=True)), "method": method, **at, **distances})
    return pd.DataFrame(rows)


def _at(runs: list[dict[str, Any]], aim: float, names: Sequence[str]) -> dict[str, Any]:
    """The names of runs, sorted by rate, read off where "fa" is `aim`."""
    pairs = [(a, b) for a, b in pairwise(runs) if min(a["fa"], b["fa"]) <= aim <= max(a["fa"], b["fa"])]
    if not pairs:
        nearest = min(runs, key=lambda run: abs(run["fa"] - aim))
        return {"matched": nearest["fa"] == aim, **{name: nearest[name] for name in ("lr", *names)}}
    low, high = min(pairs, key=lambda pair: abs(pair[0]["fa"] - pair[1]["fa"]))
    t = 0.0 if low["fa"] == high["fa"] else (aim - low["fa"]) / (high["fa"] - low["fa"])
    lr = math.exp((1 - t) * math.log(low["lr"]) + t * math.log(high["lr"]))
    return {"matched": True, "lr": lr, **{name: (1 - t) * low[name] + t * high[name] for name in names}}


def next_rate(fa: dict[float, float], aim: float, reach: float = 4.0) -> float:
    """The rate to try next so that FA comes to `aim`, from FA by rate of at least two runs.

    By interpolation in log(rate) between the two neighbours around `aim`, else by the line through the two whose FA is
    nearest, at most `reach` times beyond the rates tried. Raises ValueError for fewer than two.
    """
    if len(fa) < 2:
        raise ValueError(f"{len(fa)} run gives no slope: run two rates first")
    points = sorted((math.log(lr), value) for lr, value in fa.items())
    pairs = list(pairwise(points))
    around = [(a, b) for a, b in pairs if min(a[1], b[1]) <= aim <= max(a[1], b[1])]
    (x0, f0), (x1, f1) = around[0] if around else min(pairs, key=lambda ab: min(abs(f - aim) for _, f in ab))
    x = (x0 + x1) / 2 if f0 == f1 else x0 + (aim - f0) / (f1 - f0) * (x1 - x0)
    low, high = points[0][0] - math.log(reach), points[-1][0] + math.log(reach)
    return float(f"{math.exp(min(max(x, low), high)):.4g}")


WITHIN = "equal, within the floor"


def difference(matches: DataFrame, method: str, base: str, measure: str, floor: float) -> dict[str, Any]:
    """`measure` of `method` minus that of `base` over seeds, each seed once: `interval`, and a verdict.

    A seed's value is the mean over the settings that both have. "verdict" is WITHIN where the whole interval lies
    within ±floor (two one-sided tests), "lower" or "higher" where it lies on one side of 0 but not within the floor,
    else "cannot be told". Pairs of which one did not reach the FA are left out and counted in "left out".
    """
    a, b = (matches[matches.method == name] for name in (method, base))
    pairs = a.merge(b, on=PLACE, suffixes=("", "_base"))
    fair = pairs[pairs.matched & pairs.matched_base]
    values = fair.assign(value=fair[measure] - fair[f"{measure}_base"]).groupby(SEEDS).value.mean()
    found = interval(values.tolist())
    within = -floor < found["low"] and found["high"] < floor
    verdict = WITHIN if within else side_of(found, "lower", "higher")
    return {**found, "left out": len(pairs) - len(fair), "floor": floor, "verdict": verdict}
