"""The paper's claims judged by records: each holds, does not hold, or cannot be told (intervals are in `tables`).

A claim is a row: what it says, and a function from records to evidence. Evidence is a quantity of one setting, one
value a seed, that the claim expects below 0 or above 0. It "holds" where its whole interval lies on that side, it "does
not hold" where the whole interval lies on the other, and else it "cannot be told".

`judge` takes one run a method: records at chosen rates as they are, several rates a method by `rows_at_equal_fa`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

from falw.lab.curves import PLACE, REFERENCES, at_equal_fa, difference
from falw.lab.grids import BASE_TO_FALW, BASELINE_NAMES
from falw.lab.records import COMPARED, SEEDS, SETTING
from falw.lab.tables import OPEN, by_seed, interval, side_of
from falw.metrics import Scores

if TYPE_CHECKING:
    from pandas import DataFrame, Series

HOLDS, FAILS = "holds", "does not hold"


@dataclass(frozen=True)
class Evidence:
    """One quantity: per seed, and the side of 0 on which the claim expects it."""

    what: str
    gamma: float
    values: tuple[float, ...]
    expected: int  # -1: below 0, +1: above 0

    def verdict(self) -> str:
        """HOLDS, FAILS or OPEN, by the 95 % interval of the mean; OPEN below LEAST_SEEDS seeds."""
        if len(self.values) < LEAST_SEEDS:
            return OPEN
        below, above = (FAILS, HOLDS) if self.expected > 0 else (HOLDS, FAILS)
        return side_of(interval(self.values), below, above)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, where it is made, in which unit its evidence is, and the evidence."""

    text: str
    source: str
    unit: str
    evidence: Callable[[float, DataFrame], Iterator[Evidence]]  # of gamma and `by_seed` at it


def by_gamma(frame: DataFrame) -> dict[float, DataFrame]:
    """`by_seed` of what is compared with Retrain, under spill, by gamma.

    Raises ValueError for several settings of one gamma, whose seeds would count twice.
    """
    rows = frame.query("cap == 'spill'")
    settings = rows[SETTING].drop_duplicates()
    if settings["gamma"].duplicated().any():
        differ = [k for k in SETTING if k != "gamma" and settings[k].nunique(dropna=False) > 1]
        raise ValueError(f"several settings of one gamma: query for one value of {', '.join(differ)}")
    return {gamma: by_seed(same, ["gap", *(f"d_{k}" for k in COMPARED)]) for gamma, same in rows.groupby("gamma")}


LEAST_SEEDS = 3  # seeds below which nothing is told


def judge(frame: DataFrame) -> list[tuple[Claim, list[Evidence]]]:
    """Every claim with its evidence, one quantity an exponent; those with fewer than LEAST_SEEDS seeds are left out.

    Quantities of one seed share images, Original and rates: their counts are no tests of their own. Where all seeds
    have one `data_seed` the intervals are of these images. Raises ValueError for several configurations of a method.
    """
    study = by_gamma(frame)
    every = ((claim, [e for gamma, rows in study.items() for e in claim.evidence(gamma, rows)]) for claim in CLAIMS)
    return [(claim, [e for e in evidence if len(e.values) >= LEAST_SEEDS]) for claim, evidence in every]


def count_verdicts(judged: Sequence[tuple[Claim, list[Evidence]]]) -> list[list[Any]]:
    """Lines of a table: claim, source, and how many quantities hold, do not hold and cannot be told."""
    lines = []
    for claim, evidence in judged:
        verdicts = [e.verdict() for e in evidence]
        lines.append([claim.text, claim.source, *(verdicts.count(v) for v in (HOLDS, FAILS, OPEN))])
    return lines


def detail(claim: Claim, evidence: Sequence[Evidence]) -> list[list[Any]]:
    """Lines of a claim's own table: quantity, gamma, seeds, mean, interval, what is expected, verdict."""
    lines = []
    for e in evidence:
        found = interval(e.values)
        span = f"{found['low']:+.2f} to {found['high']:+.2f}"
        side = "above 0" if e.expected > 0 else "below 0"
        lines.append([e.what, f"{e.gamma:.3g}", found["seeds"], f"{found['mean']:+.2f}", span, side, e.verdict()])
    return lines


# Methods that ran at several rates

STANDS_FOR = {"rl+falw-epoch": "rl+falw", "falw-epoch": "falw", "falw-every10": "falw"}  # statistics taken less often


def rows_at_equal_fa(frame: DataFrame) -> DataFrame:
    """Several rates a method as one row that can be judged: each method at its Retrains' FA (`curves.at_equal_fa`).

    A setting, seed and method whose rates do not reach that FA is left out. "d_ra", "d_p_head", ... are to the mean of
    the Retrains, and so is "w1" (NaN without distances); "gap" is the mean of the four scores' distances to it.
    "d_fa_all" is NaN, as FA is what has been set equal. A method with rarer statistics goes by the name of FaLW's own
    row (STANDS_FOR). Raises ValueError as `at_equal_fa`.
    """
    scores = [name for name in COMPARED if name not in ("fa", "fa_all")]
    at = at_equal_fa(frame, [*scores, "w1"])
    at = at[at["reached"]].rename(columns={name: f"d_{name}" for name in scores})
    names = at["method"].replace(STANDS_FOR)
    gap = at[[f"d_{name}" for name in Scores._fields]].abs().mean(axis=1)
    return at.assign(method=names, label=names, fa=at["d_fa"], d_fa_all=math.nan, gap=gap)


# FaLW taken apart: as the paper describes it, and its two changes one at a time

QUESTIONS = {
    "as described": (("rl+falw", "rl"), ("falw", "salun")),
    "labels alone": (("rl-fixed", "rl"), ("salun-fixed", "salun")),
    "weight alone": (("rl+falw", "rl-fixed"), ("falw", "salun-fixed")),
}


def take_apart(frame: DataFrame, column: str, floors: Mapping[float, float]) -> list[dict[str, Any]]:
    """`column` of one method minus that of another, a row a pair of QUESTIONS and gamma: `curves.difference`.

    frame: one row a setting, seed and method. floors: by gamma, within which two methods count as equal. A row
    has "gamma", "part", "method", "base", "mean", "low", "high" (NaN for one seed), "seeds", "floor" and "verdict",
    which is OPEN below LEAST_SEEDS seeds. A pair without a common seed is left out.
    """
    rows = []
    for gamma, same in frame.query("cap == 'spill'").groupby("gamma"):
        wide = by_seed(same, column)
        for part, pairs in QUESTIONS.items():
            for method, base in (pair for pair in pairs if {*pair} <= {*wide}):
                seeds = (wide[method] - wide[base]).dropna().tolist()
                row = {"gamma": gamma, "part": part, "method": method, "base": base, "seeds": len(seeds)}
                rows += [row | _told(same, row, column, floors[gamma], seeds)] if seeds else []
    return rows


def _told(same: DataFrame, row: Mapping[str, Any], column: str, floor: float, seeds: Sequence[float]) -> dict[str, Any]:
    """Mean, interval and verdict of a difference, of which `seeds` are the values."""
    if len(seeds) < 2:
        return {"mean": seeds[0], "low": math.nan, "high": math.nan, "floor": floor, "verdict": OPEN}
    runs = same[[*PLACE, "method", column]].dropna(subset=column).assign(reached=True)
    told = difference(runs, row["method"], row["base"], column, floor)
    return told if len(seeds) >= LEAST_SEEDS else {**told, "verdict": OPEN}


def noise_floor(frame: DataFrame, column: str) -> dict[float, float]:
    """By gamma how far two Retrains of one seed are from each other on average, in a column as "gap" or "d_ra".

    "w1" is a distance already, that of each Retrain from the others.
    """
    retrains = frame[frame["method"].isin(REFERENCES) & (frame["cap"] == "spill")]
    floors: dict[float, list[float]] = {}
    for (gamma, *_), same in retrains.groupby(["gamma", *SEEDS]):
        apart = (abs(a - b) for a, b in combinations(same[column], 2))
        floors.setdefault(gamma, []).extend(same[column] if column == "w1" else apart)
    return {gamma: fmean(values) for gamma, values in floors.items() if values}


# Quantities of a method beside the Retrain of its setting and seed


def _of(seeds: DataFrame, column: str, method: str) -> Series:
    """A column of a method by seed; NaN where it did not run, and for a group without forgotten images."""
    return seeds.reindex(columns=[(column, method)]).iloc[:, 0]


def _evidence(what: str, gamma: float, values: Series, expected: int) -> Evidence:
    return Evidence(what, gamma, tuple(values.dropna()), expected)


def _below(gamma: float, seeds: DataFrame, what: str, column: str) -> Iterator[Evidence]:
    """A column of RL and SalUn, which is expected below that of Retrain."""
    for name in ("rl", "salun"):
        yield _evidence(f"{what} of {name} − Retrain's", gamma, _of(seeds, column, name), -1)


STEEP = 1.0  # from here on whole classes vanish at a ratio of 0.3


def _heterogeneous(gamma: float, seeds: DataFrame) -> Iterator[Evidence]:
    for name in ("salun", "salun-fixed") if gamma >= STEEP else ():
        for group, side in (("head", 1), ("tail", -1)):
            values = _of(seeds, f"d_fa_{group}", name)
            yield _evidence(f"FA of {name} − Retrain's, {group}", gamma, values, side)


def _skewed(gamma: float, seeds: DataFrame) -> Iterator[Evidence]:
    for name in ("salun", "salun-fixed") if gamma >= STEEP else ():
        head, tail = (_of(seeds, f"d_p_{group}", name).abs() for group in ("head", "tail"))
        yield _evidence(f"|deviation of p| of {name}, tail − head", gamma, tail - head, 1)


def _differences(gamma: float, seeds: DataFrame, pairs: Iterable[tuple[str, str]], side: int) -> Iterator[Evidence]:
    """Avg. Gap of the first minus that of the second."""
    for a, b in pairs:
        yield _evidence(f"Avg. Gap, {a} − {b}", gamma, _of(seeds, "gap", a) - _of(seeds, "gap", b), side)


def _tail(gamma: float, seeds: DataFrame) -> Iterator[Evidence]:
    for unit, column in (("FA", "d_fa_tail"), ("p", "d_p_tail")):
        a, b = (_of(seeds, column, name).abs() for name in ("falw", "falw-tau0"))
        yield _evidence(f"|{unit} − Retrain's| in the tail, with B − without", gamma, a - b, -1)


_less_confident = partial(_below, what="p", column="d_p_all")
_less_accurate = partial(_below, what="FA", column="d_fa_all")
_lower, _higher = (partial(_differences, side=side) for side in (-1, 1))
OVER_BASELINES = [("falw", base) for base in BASELINE_NAMES]
OVER_BASES = [(plugged, base) for base, plugged in BASE_TO_FALW.items()]
OTHER_TAUS = [(f"falw-tau{tau}", "falw") for tau in ("0", "0.5", "1")]

CLAIMS = (
    Claim("Unlearned models are less confident than Retrain", "Observation 1", "p", _less_confident),
    Claim("... and that is over-forgetting in accuracy too", "Observation 1", "points", _less_accurate),
    Claim("Head under-forgotten, tail over-forgotten", "Observation 2", "points", _heterogeneous),
    Claim("Deviations are larger in the tail", "Observation 2", "p", _skewed),
    Claim("FaLW has the lowest Avg. Gap", "Tables 1, 2, 4 to 6", "points", partial(_lower, pairs=OVER_BASELINES)),
    Claim("The balance factor helps the tail", "Table 3", "points or p", _tail),
    Claim("FaLW improves what it is plugged into", "Table 7", "points", partial(_lower, pairs=OVER_BASES)),
    Claim("The normal distribution beats Beta", "Table 8", "points", partial(_higher, pairs=[("falw-beta", "falw")])),
    Claim("τ is best between 0.1 and 0.2", "Figure 7", "points", partial(_higher, pairs=OTHER_TAUS)),
)
