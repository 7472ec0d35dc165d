"""Operating curves: a method over its rates, and methods compared where they forget as much as the Retrains do.

A learning rate is a knob for FA, and one rate a method compares knobs. `curve` runs a method at several, `at_equal_fa`
reads every method off at the Retrains' FA, between the two runs around it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from falw.config import whole_number
from falw.lab.cells import ORIGINAL, RETRAIN, Cell, Methods, Setting, cells_of, check_changes, find_rows
from falw.lab.engines import IN_PROCESS
from falw.lab.ray import Engine
from falw.lab.records import FLOOR, SEEDS, SETTING, Record, in_order
from falw.lab.run import run_cells
from falw.lab.tables import (
    KNOBS,
    describe,
    interval,
    knobs_text,
    markdown,
    mean_and_sd,
    side_of,
    turned_in,
    values_read,
)
from falw.methods import Method, find_method

if TYPE_CHECKING:
    from pandas import DataFrame, Series

PLACE = [*SETTING, *SEEDS]  # where runs are compared with each other
REFERENCES = (RETRAIN, FLOOR)


# Running a curve


def knob(row: Method) -> str:
    """What is turned to change how much a method forgets; raises ValueError for a row that reads no such value."""
    for name in KNOBS:
        if row.reads(name):
            return name
    raise ValueError(f"{row.name} reads neither a learning rate nor a coefficient: it has no curve, leave it out")


def coarse_rates(row: Method) -> tuple[float, ...]:
    """The two values of a row's knob beside the middle of those that a search for it begins with.

    Raises ValueError for a row without a search.
    """
    trials = row.search or (find_method(row.tuned_as).search if row.tuned_as else ())
    values = sorted({trial[knob(row)] for trial in trials if knob(row) in trial})
    if len(values) < 3:
        raise ValueError(f"{row.name} names no range to search: say at which rates its curve begins")
    return values[len(values) // 2 - 1], values[len(values) // 2 + 1]


FirstRates = Mapping[str, Sequence[float]] | Sequence[float] | None  # by method, or the same for all


class _Line(NamedTuple):
    """A method on a setting: where its curve begins, the FA to come to, and FA by rate, None where it diverged."""

    setting: Setting
    row: Method
    first: Sequence[float]
    aim: float
    tried: dict[float, float | None]


def curve(
    setting: Setting | Iterable[Setting],
    methods: Methods,
    out: str | Path,
    *,
    rates: int = 4,
    retrains: int = 4,
    first_rates: FirstRates = None,
    original_epochs: int | None = None,
    root: str | Path | None = None,
    device: str = "auto",
    jobs: int | None = None,
    progress: bool = False,
    engine: Engine = IN_PROCESS,
    deterministic: bool = False,
    **changes: Any,
) -> list[Record]:
    """Run methods over their rates beside several Retrains and return the records: references, then rate by rate.

    rates: how many of each method. The first are `first_rates` (all of them, in their order), by default
    `coarse_rates`; the others lie where `rate_after` expects the mean FA of the setting's Retrains. What has no
    learning rate runs over its coefficient (`knob`). The rest is as in `run`; what is in `out` is not run again, and
    several processes may work there. Raises ValueError for a method without a knob and for a change of the knob,
    FloatingPointError if Original or a Retrain diverged.
    """
    settings, out = [setting] if isinstance(setting, Setting) else list(setting), os.path.expanduser(out)
    for name, value in (("rates", rates), ("retrains", retrains)):
        whole_number(name, value, 1)
    rows = [row for row in find_rows(methods) if not row.fresh]  # "all" names Retrain, too
    first = {row.name: _first_rates(row, first_rates) for row in rows}
    _check_knob_is_free(rows, changes)
    how: dict[str, Any] = {"root": root, "device": device, "jobs": jobs, "progress": progress, "engine": engine}
    how["deterministic"] = deterministic
    beside = [cell for s in settings for cell in cells_of(s, [], original_epochs, retrains=retrains)]
    records = run_cells(beside, out, **how)
    aims = _mean_fa(beside, records)
    lines = [_Line(s, row, first[row.name], aims[s], {}) for s in settings for row in rows]
    for turn in range(max([rates, *map(len, first.values())])):
        going = [line for line in lines if turn < max(rates, len(line.first))]
        at = [(line, rate) for line in going if (rate := rate_after(line.tried, line.first, line.aim)) is not None]
        cells = [
            cells_of(line.setting, [line.row], original_epochs, out, **changes, **{knob(line.row): rate})[-1]
            for line, rate in at
        ]
        ran = run_cells(cells, out, **how) if cells else []
        for (line, rate), record in zip(at, ran, strict=True):
            line.tried[rate] = record["scores"] and record["scores"]["fa"]
        records += ran
    return records


def _first_rates(row: Method, given: FirstRates) -> Sequence[float]:
    chosen = given.get(row.name) if isinstance(given, Mapping) else given
    first = list(coarse_rates(row) if chosen is None else chosen)
    if not first or len(set(first)) < len(first) or not all(0 < rate < math.inf for rate in first):
        raise ValueError(f"first rates {first} of {row.name}: give at least one, each once and above 0")
    return first


def _check_knob_is_free(rows: Sequence[Method], changes: dict[str, Any]) -> None:
    check_changes(rows, changes)
    for row in rows:
        if knob(row) in changes:
            name = knob(row)
            raise ValueError(f"{name} {changes[name]} is what the curve of {row.name} turns: give first rates instead")


def _mean_fa(cells: Sequence[Cell], records: Sequence[Record]) -> dict[Setting, float]:
    """FA of the Retrains of each setting."""
    fa: dict[Setting, list[float]] = {}
    for cell, record in zip(cells, records, strict=True):
        scores = record["scores"]
        if scores is None:
            raise FloatingPointError(f"{cell.method}, seed {cell.config.seed}: {record['failed']}")
        if cell.method == RETRAIN:
            fa.setdefault(cell.setting, []).append(scores["fa"])
    return {setting: sum(values) / len(values) for setting, values in fa.items()}


REACH = 4.0  # how far beyond the rates tried the next may lie, as a factor


def rate_after(tried: Mapping[float, float | None], first: Sequence[float], aim: float) -> float | None:
    """The rate to try after others, of which we know FA (None: it diverged): one of `first`, then `next_rate`.

    Nothing is tried beyond a rate that diverged but the middle (of the logarithm) between it and the highest that did
    not; while fewer than two finished, the lowest is divided by REACH. Where the line leads back to a rate that
    was tried and `aim` lies still beyond all of them, as it may by a single image: a small step past the end there.
    None: what is left to try has been tried.
    """
    if len(tried) < len(first):
        return first[len(tried)]
    finished = {rate: fa for rate, fa in tried.items() if fa is not None}
    if len(finished) < 2:
        return float(f"{min(tried) / REACH:.4g}")
    rate, top = next_rate(finished, aim), max(finished)
    rate = _past_the_end(finished, aim) if rate in finished else rate
    bound = min((r for r in tried if r > top), default=math.inf)
    rate = float(f"{math.sqrt(top * bound):.4g}") if rate is not None and rate >= bound else rate
    return None if rate in tried else rate


def _past_the_end(fa: Mapping[float, float], aim: float) -> float | None:
    """A small step past the end whose FA is nearer to an aim that no two rates enclose; None where some do."""
    if min(fa.values()) <= aim <= max(fa.values()):
        return None
    low, top = min(fa), max(fa)
    step = REACH**0.25
    return float(f"{top * step if abs(fa[top] - aim) <= abs(fa[low] - aim) else low / step:.4g}")


def next_rate(fa: dict[float, float], aim: float, reach: float = REACH) -> float:
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


# Reading curves


def at_equal_fa(frame: DataFrame, measures: Sequence[str] = ("ra", "ta")) -> DataFrame:
    """Every method at its Retrains' FA: a row a setting, seed and method, with the Retrains' mean subtracted.

    Columns: those of the setting, "method", "lr" and "coefficient" of the match (NaN where a method reads none), "d_fa"
    and the `measures`, both less the Retrains' mean, and "reached". Between the two neighbouring rates around that FA
    everything is interpolated in log(rate). Where no rate goes so far the nearest run stands as it is, "reached" is
    False and "d_fa" says how far off it is. Raises ValueError for records without Retrain, for a measure that they do
    not have, and for runs of a method that differ in more than their rate.
    """
    import pandas as pd

    names = ["fa", *measures]
    if missing := [name for name in names if name not in frame]:
        raise ValueError(
            f"these records have no '{missing[0]}'; choose measures that are columns of `frame`, as ra, ta"
        )
    rows = []
    for place, cells in frame[frame.fa.notna()].groupby(PLACE, dropna=False):
        retrains = cells[cells.method.isin(REFERENCES)]
        if retrains.empty:
            raise ValueError("no Retrain among these records: its FA is where methods are compared; run it first")
        reference = retrains[names].mean()
        for method, runs in cells[~cells.method.isin((ORIGINAL, *REFERENCES))].groupby("method", sort=False):
            at = _at(runs, turned_in(runs), reference.fa, names)
            far = {"d_fa" if name == "fa" else name: at.pop(name) - reference[name] for name in names}
            rows.append({**dict(zip(PLACE, place, strict=True)), "method": method, **at, **far})
    return pd.DataFrame(rows)


def at_shared_rates(frame: DataFrame) -> DataFrame:
    """The runs at rates at which every seed of the method ran: what is read off between them errs alike in all."""
    rates = frame.groupby(["gamma", "method", "lr", "coefficient"], dropna=False).seed.transform("nunique")
    return frame[rates == frame.groupby(["gamma", "method"]).seed.transform("nunique")]


def mean_curve(runs: DataFrame, measure: str) -> DataFrame:
    """A method's curve over seeds: rate, "fa" and the measure, a mean over seeds at every rate at which one ran.

    Between a seed's rates both are interpolated in log(rate). Only rates between the lowest and the highest of every
    seed are there: none where these ranges do not overlap.
    """
    import numpy as np
    import pandas as pd

    turned = turned_in(runs)
    seeds = [each.sort_values(turned) for _, each in runs[runs.fa.notna()].groupby(SEEDS)]
    low, high = max(each[turned].min() for each in seeds), min(each[turned].max() for each in seeds)
    rates = np.unique([rate for each in seeds for rate in each[turned] if low <= rate <= high])
    means = {
        name: np.mean([np.interp(np.log(rates), np.log(each[turned]), each[name]) for each in seeds], axis=0)
        for name in ("fa", measure)
    }
    return pd.DataFrame({turned: rates, **means})


def _at(runs: DataFrame, turned: str, aim: float, names: Sequence[str]) -> dict[str, Any]:
    """What a method's knobs and the names are where "fa" is `aim`, and whether its runs reach so far."""
    in_order = runs.sort_values(turned).to_dict("records")
    pairs = [(a, b) for a, b in pairwise(in_order) if min(a["fa"], b["fa"]) <= aim <= max(a["fa"], b["fa"])]
    if not pairs:
        nearest = min(in_order, key=lambda run: abs(run["fa"] - aim))
        return {"reached": nearest["fa"] == aim, **values_read(nearest), **{name: nearest[name] for name in names}}
    low, high = min(pairs, key=lambda pair: abs(pair[0]["fa"] - pair[1]["fa"]))
    t = 0.0 if low["fa"] == high["fa"] else (aim - low["fa"]) / (high["fa"] - low["fa"])
    rate = math.exp((1 - t) * math.log(low[turned]) + t * math.log(high[turned]))
    between = {name: (1 - t) * low[name] + t * high[name] for name in names}
    return {"reached": True, **values_read({**low, turned: rate}), **between}


def retrain_spread(frame: DataFrame, measures: Sequence[str] = ("ra", "ta")) -> dict[str, float]:
    """How far Retrains of one setting and seed lie apart: the standard deviation of "fa" and the measures, pooled.

    NaN where no setting and seed has two.
    """
    retrains = frame[frame.method.isin(REFERENCES) & frame.fa.notna()]
    return (retrains.groupby(PLACE, dropna=False)[["fa", *measures]].var().mean() ** 0.5).to_dict()


# What pages call a measure, its unit, and which direction is good
MEASURES = {
    **{"ra": ("RA", ", %", "higher"), "ta": ("TA", ", %", "higher")},
    **{"w1": ("W1", "", "lower"), "kl": ("KL", ", nats", "lower")},
}


def equal_fa_to_markdown(frame: DataFrame) -> str:
    """`at_equal_fa` as one table a setting: means over seeds with their standard deviations, the Retrains' beneath.

    The measures are RA, TA and, where distances are, W1.
    """
    measures = [name for name in ("ra", "ta", "w1") if name in frame and frame[name].notna().any()]
    parts = []
    for setting, cells in frame.groupby(SETTING, dropna=False, sort=False):
        matches = at_equal_fa(cells, measures)
        names = in_order(matches.method.unique()) if len(matches) else []
        lines = [_line(matches[matches.method == name], measures) for name in names]
        spread = retrain_spread(cells, measures)
        sds = ["–" if math.isnan(sd) else f"± {sd:.{_digits(name)}f}" for name, sd in spread.items()]
        below = ["one Retrain, sd", "", *sds, ""]
        columns = ["method", "lr", "FA", *(MEASURES[name][0] for name in measures), "seeds that reach it"]
        parts += [f"**{describe(dict(zip(SETTING, setting, strict=True)))}**", markdown(columns, [*lines, below])]
    good = "; ".join(f"{MEASURES[name][0]}: {MEASURES[name][-1]} is better" for name in measures)
    return "\n\n".join([*parts, f"At equal FA, less the Retrains' mean. {good}. {NOT_REACHED}"])


def _line(rows: DataFrame, measures: Sequence[str]) -> list[str]:
    """A method over seeds, of which those count that reach the FA, or all if none does."""
    reached = rows[rows.reached]
    counted = reached if len(reached) else rows
    first = counted.iloc[0].to_dict()
    knobs = knobs_text({**first, **{name: _geometric_mean(counted[name]) for name in KNOBS}})
    columns = ((counted[name], _digits(name)) for name in ("d_fa", *measures))
    texts = [mean_and_sd(values.mean(), values.std(), digits, "+") for values, digits in columns]
    return [first["method"] + "*" * (not len(reached)), knobs, *texts, f"{len(reached)} of {len(rows)}"]


def _geometric_mean(values: Series) -> float:
    return math.exp(values.astype(float).map(math.log).mean())  # NaN of nothing


def _digits(name: str) -> int:
    return 3 if name in ("w1", "kl") else 2


NOT_REACHED = (
    "*: no rate reached the Retrains' FA, so the run nearest to it stands here, and FA says how far off it is."
)


WITHIN = "equal, within the floor"


def difference(matches: DataFrame, method: str, base: str, measure: str, floor: float) -> dict[str, Any]:
    """`measure` of `method` minus that of `base` over seeds, each seed once: `interval`, and a verdict.

    A seed's value is the mean over the settings that both have. "verdict" is WITHIN where the whole interval lies
    within ±floor (two one-sided tests), "lower" or "higher" where it lies on one side of 0 but not within the floor,
    else "cannot be told". Pairs of which one did not reach the FA are left out and counted in "left out".
    """
    a, b = (matches[matches.method == name] for name in (method, base))
    pairs = a.merge(b, on=PLACE, suffixes=("", "_base"))
    fair = pairs[pairs.reached & pairs.reached_base]
    values = fair.assign(value=fair[measure] - fair[f"{measure}_base"]).groupby(SEEDS).value.mean()
    found = interval(values.tolist())
    return {**found, "left out": len(pairs) - len(fair), "floor": floor, "verdict": verdict_of(found, floor)}


def verdict_of(found: Mapping[str, Any], floor: float) -> str:
    """What an interval says: WITHIN if it lies within ±floor, else on which side of 0, or "cannot be told"."""
    within = -floor < found["low"] and found["high"] < floor
    return WITHIN if within else side_of(found, "lower", "higher")
