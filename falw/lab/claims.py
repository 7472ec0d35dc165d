"""The paper's claims judged by records: each holds, does not hold, or cannot be told (intervals are in `tables`).

A claim is a row: what it says, and a function from records to evidence. Evidence is a quantity of one setting, one
value a seed, that the claim expects below 0 or above 0. It "holds" where its whole interval lies on that side, it "does
not hold" where the whole interval lies on the other, and else it "cannot be told".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from falw.lab.cells import RETRAIN
from falw.lab.grids import BASE_TO_FALW, BASELINES
from falw.lab.tables import OPEN, interval, of_groups, row_name, side_of
from falw.metrics import Scores, gap

Record = dict[str, Any]
Seeds = Mapping[int, Mapping[str, Record]]  # seed -> method -> record, of one setting
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
    evidence: Callable[[Mapping[float, Seeds]], Iterator[Evidence]]


def by_gamma(records: Sequence[Record]) -> dict[float, dict[int, dict[str, Record]]]:
    """Records of one data set by gamma, seed and method; of several learning rates of a method the last stays."""
    found: dict[float, dict[int, dict[str, Record]]] = {}
    for record in records:
        if record["scores"] and record["setting"]["cap"] == "spill":
            place = found.setdefault(float(record["setting"]["gamma"]), {})
            place.setdefault(record["setting"]["seed"], {})[row_name(record)] = record
    return dict(sorted(found.items()))


def judge(records: Sequence[Record]) -> list[tuple[Claim, list[Evidence]]]:
    """Every claim with its evidence, one quantity an exponent; those with fewer than three seeds are left out.

    Quantities of one seed share images, Original and rates: their counts are no tests of their own. Where all seeds
    have one `data_seed` the intervals are of these images.
    """
    study = by_gamma(records)
    return [(claim, [e for e in claim.evidence(study) if len(e.values) > 2]) for claim in CLAIMS]


def rows(judged: Sequence[tuple[Claim, list[Evidence]]]) -> list[list[Any]]:
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


# Quantities of one record beside the Retrain of its setting and seed


def _fa(record: Record, retrain: Record, group: str = "all") -> float | None:
    """FA minus Retrain's, in points; None for a group without forgotten images."""
    return _distance(record, retrain, group, 0)


def _p(record: Record, retrain: Record, group: str = "all") -> float | None:
    """Mean deviation of the probability (Definition 1); None for a group without forgotten images."""
    return _distance(record, retrain, group, 1)


def _distance(record: Record, retrain: Record, group: str, which: int) -> float | None:
    mine, theirs = of_groups(record), of_groups(retrain)
    return mine[group][which] - theirs[group][which] if group in mine else None


def _gap(record: Record, retrain: Record) -> float:
    return gap(Scores(**record["scores"]), Scores(**retrain["scores"]))


def _values(seeds: Seeds, needed: Sequence[str], measure: Callable[..., float | None]) -> tuple[float, ...]:
    """`measure(*records of the needed methods, Retrain)` of every seed that has them all and gives a number."""
    found = (measure(*(m[n] for n in needed), m[RETRAIN]) for m in seeds.values() if {*needed, RETRAIN} <= set(m))
    return tuple(value for value in found if value is not None)


def _lower_confidence(study: Mapping[float, Seeds]) -> Iterator[Evidence]:
    for gamma, seeds in study.items():
        for name in ("rl", "salun"):
            yield Evidence(f"p of {name} − Retrain's", gamma, _values(seeds, [name], _p), -1)


def _lower_accuracy(study: Mapping[float, Seeds]) -> Iterator[Evidence]:
    for gamma, seeds in study.items():
        for name in ("rl", "salun"):
            yield Evidence(f"FA of {name} − Retrain's", gamma, _values(seeds, [name], _fa), -1)


STEEP = 1.0  # from here on whole classes vanish at a ratio of 0.3


def _heterogeneous(study: Mapping[float, Seeds]) -> Iterator[Evidence]:
    for gamma, seeds in study.items():
        for name in ("salun", "salun-fixed") if gamma >= STEEP else ():
            for group, side in (("head", 1), ("tail", -1)):
                values = _values(seeds, [name], lambda a, r, g=group: _fa(a, r, g))
                yield Evidence(f"FA of {name} − Retrain's, {group}", gamma, values, side)


def _skewed(study: Mapping[float, Seeds]) -> Iterator[Evidence]:
    for gamma, seeds in study.items():
        for name in ("salun", "salun-fixed") if gamma >= STEEP else ():
            values = _values(seeds, [name], lambda a, r: _excess(_p(a, r, "tail"), _p(a, r, "head")))
            yield Evidence(f"|deviation of p| of {name}, tail − head", gamma, values, 1)


def _excess(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else abs(a) - abs(b)


def _differences(pairs: Sequence[tuple[str, str]], side: int) -> Callable[[Mapping[float, Seeds]], Iterator[Evidence]]:
    """Avg. Gap of the first minus that of the second, for every gamma."""

    def evidence(study: Mapping[float, Seeds]) -> Iterator[Evidence]:
        for gamma, seeds in study.items():
            for a, b in pairs:
                values = _values(seeds, [a, b], lambda x, y, r: _gap(x, r) - _gap(y, r))
                yield Evidence(f"Avg. Gap, {a} − {b}", gamma, values, side)

    return evidence


def _tail(study: Mapping[float, Seeds]) -> Iterator[Evidence]:
    for gamma, seeds in study.items():
        for unit, measure in (("FA", _fa), ("p", _p)):
            values = _values(
                seeds,
                ["falw", "falw-tau0"],
                lambda a, b, r, m=measure: _excess(m(a, r, "tail"), m(b, r, "tail")),
            )
            yield Evidence(f"|{unit} − Retrain's| in the tail, with B − without", gamma, values, -1)


CLAIMS = (
    Claim("Unlearned models are less confident than Retrain", "Observation 1", "p", _lower_confidence),
    Claim("... and that is over-forgetting in accuracy too", "Observation 1", "points", _lower_accuracy),
    Claim("Head under-forgotten, tail over-forgotten", "Observation 2", "points", _heterogeneous),
    Claim("Deviations are larger in the tail", "Observation 2", "p", _skewed),
    Claim(
        "FaLW has the lowest Avg. Gap",
        "Tables 1, 2, 4 to 6",
        "points",
        _differences([("falw", base) for base in BASELINES], -1),
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
