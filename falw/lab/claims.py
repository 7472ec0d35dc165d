"""The paper's claims judged by records: each holds, does not hold, or cannot be told (intervals are in `tables`).

A claim is a row: what it says, and a function from records to evidence. Evidence is a quantity of one setting, one
value a seed, that the claim expects below 0 or above 0. It "holds" where its whole interval lies on that side, it "does
not hold" where the whole interval lies on the other, and else it "cannot be told".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from falw.lab.grids import BASE_TO_FALW, BASELINE_NAMES
from falw.lab.records import COMPARED, SETTING
from falw.lab.tables import OPEN, by_seed, interval, side_of

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
        """HOLDS, FAILS or OPEN, by the 95 % interval of the mean."""
        below, above = (FAILS, HOLDS) if self.expected > 0 else (HOLDS, FAILS)
        return side_of(interval(self.values), below, above)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, where it is made, in which unit its evidence is, and the evidence."""

    text: str
    source: str
    unit: str
    evidence: Callable[[SeedsByGamma], Iterator[Evidence]]


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


def judge(frame: DataFrame) -> list[tuple[Claim, list[Evidence]]]:
    """Every claim with its evidence, one quantity an exponent; those with fewer than three seeds are left out.

    Quantities of one seed share images, Original and rates: their counts are no tests of their own. Where all seeds
    have one `data_seed` the intervals are of these images. Raises ValueError for several configurations of a method.
    """
    study = by_gamma(frame)
    return [(claim, [e for e in claim.evidence(study) if len(e.values) > 2]) for claim in CLAIMS]


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


# Quantities of a method beside the Retrain of its setting and seed

SeedsByGamma = Mapping[float, "DataFrame"]  # gamma: `by_seed`


def _of(seeds: DataFrame, column: str, method: str) -> Series:
    """A column of a method by seed; NaN where it did not run, and for a group without forgotten images."""
    return seeds.reindex(columns=[(column, method)]).iloc[:, 0]


def _evidence(what: str, gamma: float, values: Series, expected: int) -> Evidence:
    return Evidence(what, gamma, tuple(values.dropna()), expected)


def _below(what: str, column: str) -> Callable[[SeedsByGamma], Iterator[Evidence]]:
    """A column of RL and SalUn, which is expected below that of Retrain, for every gamma."""

    def evidence(study: SeedsByGamma) -> Iterator[Evidence]:
        for gamma, seeds in study.items():
            for name in ("rl", "salun"):
                yield _evidence(f"{what} of {name} − Retrain's", gamma, _of(seeds, column, name), -1)

    return evidence


STEEP = 1.0  # from here on whole classes vanish at a ratio of 0.3


def _heterogeneous(study: SeedsByGamma) -> Iterator[Evidence]:
    for gamma, seeds in study.items():
        for name in ("salun", "salun-fixed") if gamma >= STEEP else ():
            for group, side in (("head", 1), ("tail", -1)):
                values = _of(seeds, f"d_fa_{group}", name)
                yield _evidence(f"FA of {name} − Retrain's, {group}", gamma, values, side)


def _skewed(study: SeedsByGamma) -> Iterator[Evidence]:
    for gamma, seeds in study.items():
        for name in ("salun", "salun-fixed") if gamma >= STEEP else ():
            head, tail = (_of(seeds, f"d_p_{group}", name).abs() for group in ("head", "tail"))
            yield _evidence(f"|deviation of p| of {name}, tail − head", gamma, tail - head, 1)


def _differences(pairs: Sequence[tuple[str, str]], side: int) -> Callable[[SeedsByGamma], Iterator[Evidence]]:
    """Avg. Gap of the first minus that of the second, for every gamma."""

    def evidence(study: SeedsByGamma) -> Iterator[Evidence]:
        for gamma, seeds in study.items():
            for a, b in pairs:
                values = _of(seeds, "gap", a) - _of(seeds, "gap", b)
                yield _evidence(f"Avg. Gap, {a} − {b}", gamma, values, side)

    return evidence


def _tail(study: SeedsByGamma) -> Iterator[Evidence]:
    for gamma, seeds in study.items():
        for unit, column in (("FA", "d_fa_tail"), ("p", "d_p_tail")):
            a, b = (_of(seeds, column, name).abs() for name in ("falw", "falw-tau0"))
            yield _evidence(f"|{unit} − Retrain's| in the tail, with B − without", gamma, a - b, -1)


CLAIMS = (
    Claim("Unlearned models are less confident than Retrain", "Observation 1", "p", _below("p", "d_p_all")),
    Claim("... and that is over-forgetting in accuracy too", "Observation 1", "points", _below("FA", "d_fa_all")),
    Claim("Head under-forgotten, tail over-forgotten", "Observation 2", "points", _heterogeneous),
    Claim("Deviations are larger in the tail", "Observation 2", "p", _skewed),
    Claim(
        "FaLW has the lowest Avg. Gap",
        "Tables 1, 2, 4 to 6",
        "points",
        _differences([("falw", base) for base in BASELINE_NAMES], -1),
    ),
    Claim("The balance factor helps the tail", "Table 3", "points or p", _tail),
    Claim(
        "FaLW improves what it is plugged into",
        "Table 7",
        "points",
        _differences([(b, a) for a, b in BASE_TO_FALW.items()], -1),
    ),
    Claim("The normal distribution beats Beta", "Table 8", "points", _differences([("falw-beta", "falw")], 1)),
    Claim(
        "τ is best between 0.1 and 0.2",
        "Figure 7",
        "points",
        _differences([(f"falw-tau{t}", "falw") for t in ("0", "0.5", "1")], 1),
    ),
)
