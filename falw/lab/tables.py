"""Records as tables: means and intervals over seeds (those of claims, too), gaps, noise floor; Markdown, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from falw.lab.cells import ORIGINAL, RETRAIN
from falw.methods import METHODS, VARIANTS, Method
from falw.metrics import Scores, gap, tow

Row = dict[str, Any]
FLOOR = "noise floor"


def table(records: list[dict[str, Any]]) -> list[Row]:
    """Rows of the paper's kind: a method's four scores, gaps to Retrain and seconds, mean and deviation over seeds.

    A row is {"setting", "method", "seeds", "fa": {"mean", "sd", "gap"}, "ra", "ta", "mia", "gap": {"mean", "sd"},
    "mia_confidence": {"mean", "sd", "gap"}, "tow": {"mean", "sd"}, "seconds": {"mean", "sd"}}; "seeds" leaves out those
    that "diverged". sd is None for one seed. A gap is the mean over seeds of the distance to the Retrain of the same
    seed; "mia_confidence" is the attack on p_true (`audit`) and not part of Avg. Gap. The row "noise floor" is a second
    Retrain, trained from another seed, against the first.
    """
    of_setting: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        setting = {k: v for k, v in record["setting"].items() if k not in ("seed", "data_seed")}
        setting["original_epochs"] = record["recipe"]["epochs"]
        of_setting.setdefault(json.dumps(setting, sort_keys=True), []).append(record)
    groups_: dict[str, dict[str, dict[tuple, dict]]] = {}
    for setting_, members in of_setting.items():
        for name, record in zip(_labels(members), members, strict=True):
            seeds = (record["setting"]["seed"], record["setting"]["data_seed"])
            groups_.setdefault(setting_, {}).setdefault(name, {})[seeds] = record
    order = {name: place for place, name in enumerate([RETRAIN, FLOOR, ORIGINAL, *METHODS, *VARIANTS])}
    order[RETRAIN] = -1
    return [
        _row(json.loads(setting), name, methods[name], methods.get(RETRAIN, {}))
        for setting, methods in sorted(groups_.items())
        for name in sorted(methods, key=lambda n: order.get(n.split(" (")[0], len(order)))
    ]


def _labels(records: list[dict[str, Any]]) -> list[str]:
    """The method of each record; one run with several configurations says in which values they differ."""
    seen: dict[tuple[str, str], set[str]] = {}
    for record in records:
        for key, value in record["config"].items():
            seen.setdefault((row_name(record), key), set()).add(json.dumps(value))
    labels = []
    for record in records:
        name = row_name(record)
        differ = [k for k in record["config"] if k != "seed" and len(seen[name, k]) > 1]
        values = ", ".join(f"{k} {record['config'][k]}" for k in differ)
        labels.append(f"{name} ({values})" if differ else name)
    return labels


def _row(setting: dict, name: str, records: dict[tuple, dict], retrain: dict[tuple, dict]) -> Row:
    mine, theirs = (
        {seed: _numbers(r) for seed, r in sorted(found.items()) if r["scores"]} for found in (records, retrain)
    )
    paired = [seed for seed in mine if seed in theirs]
    row: Row = {"method": name, "setting": setting, "seeds": len(mine), "diverged": len(records) - len(mine)}
    for k in (*Scores._fields, "mia_confidence"):
        distances = [abs(mine[s][k] - theirs[s][k]) for s in paired]
        row[k] = {**_mean_sd([numbers[k] for numbers in mine.values()]), "gap": _mean_sd(distances)["mean"]}
    both = [(Scores(**records[s]["scores"]), Scores(**retrain[s]["scores"])) for s in paired]
    row["gap"] = _mean_sd([gap(*pair) for pair in both])
    row["tow"] = _mean_sd([tow(*pair) for pair in both])
    row["seconds"] = _mean_sd([r["seconds"] for r in records.values()])
    return row


def _numbers(record: dict[str, Any]) -> dict[str, float]:
    return {**record["scores"], "mia_confidence": record["audit"]["confidence"]}


def _mean_sd(values: list[float]) -> dict[str, float | None]:
    mean = statistics.fmean(values) if values else None
    return {"mean": mean, "sd": statistics.stdev(values) if len(values) > 1 else None}


MIN_FOR_BOOTSTRAP = 8  # below as many values a bootstrap draws from too few and is too narrow


def interval(values: Sequence[float], confidence: float = 0.95) -> dict[str, Any]:
    """{"mean", "low", "high", "seeds"} of values of different seeds.

    A bias-corrected and accelerated bootstrap; Student's t for fewer than FEW values. Raises ValueError for fewer than
    two.
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} value has no interval: run at least two seeds")
    from scipy import stats

    mean = statistics.fmean(values)
    low = high = mean
    if len(set(values)) > 1:  # equal values have no width, and either formula would divide 0 by 0
        if len(values) < MIN_FOR_BOOTSTRAP:
            found = stats.ttest_1samp(values, 0.0).confidence_interval(confidence)
        else:
            found = stats.bootstrap(
                (list(values),), statistics.fmean, confidence_level=confidence, rng=0, vectorized=False
            ).confidence_interval
        low, high = map(float, found)
    return {"mean": mean, "low": low, "high": high, "seeds": len(values)}


OPEN = "cannot be told"


def side_of(found: Mapping[str, Any], below: str = "closer", above: str = "further") -> str:
    """On which side of 0 an `interval` lies: `below` or `above` if the whole of it does, else OPEN.

    An end at 0 itself belongs to neither side. The defaults are for differences of Avg. Gap (`paired_gap`).
    """
    return below if found["high"] < 0 else above if found["low"] > 0 else OPEN


def paired_gap(records: list[dict[str, Any]], method: str, base: str, confidence: float = 0.95) -> dict[str, Any]:
    """By how much the Avg. Gap of `method` exceeds that of `base`, in points: below 0 the method is closer to Retrain.

    {"method", "base", "differences", and the `interval` of these}: one difference a seed. Of several settings it is the
    mean over them, since settings of one seed share images and Original and are no independent values; a seed without
    a setting that another seed has is left out. Raises ValueError for fewer than two seeds. A method with several
    configurations goes by the labels of `table`.
    """
    of_seed: dict[tuple[int, int], dict[str, float]] = {}
    for (seed, setting), gaps in _gaps(records).items():
        if method in gaps and base in gaps:
            of_seed.setdefault(seed, {})[setting] = gaps[method] - gaps[base]
    settings = {setting for found in of_seed.values() for setting in found}
    differences = [statistics.fmean(found.values()) for found in of_seed.values() if set(found) == settings]
    if len(differences) < 2:
        raise ValueError(f"{len(differences)} pairs of {method} and {base}: run both with at least two seeds")
    return {"method": method, "base": base, "differences": differences, **interval(differences, confidence)}


def _gaps(records: list[dict[str, Any]]) -> dict[tuple[tuple[int, int], str], dict[str, float]]:
    """Avg. Gap of every method by seeds (of split and data) and by the rest of the setting."""
    scores: dict[tuple[tuple[int, int], str], dict[str, Scores]] = {}
    for name, record in zip(_labels(records), records, strict=True):
        rest = {k: v for k, v in record["setting"].items() if k not in ("seed", "data_seed")}
        seeds = record["setting"]["seed"], record["setting"]["data_seed"]
        if record["scores"]:
            scores.setdefault((seeds, json.dumps(rest, sort_keys=True)), {})[name] = Scores(**record["scores"])
    return {
        place: {name: gap(value, methods[RETRAIN]) for name, value in methods.items()}
        for place, methods in scores.items()
        if RETRAIN in methods
    }


def gap_blocks(records: list[dict[str, Any]], methods: Sequence[str]) -> list[dict[str, float]]:
    """{method: Avg. Gap, mean over seeds} of every setting that has all the methods: blocks for `mean_ranks`."""
    of_setting: dict[str, dict[str, float]] = {}
    for row in table(records):
        if row["method"] in methods and row["gap"]["mean"] is not None:
            of_setting.setdefault(json.dumps(row["setting"]), {})[row["method"]] = row["gap"]["mean"]
    return [{m: found[m] for m in methods} for found in of_setting.values() if set(methods) <= set(found)]


def mean_ranks(blocks: Sequence[dict[str, float]], confidence: float = 0.95) -> dict[str, Any]:
    """{"ranks": {method: mean rank, 1 the smallest value}, "blocks", "p", "critical difference"} of values by method.

    p is of Friedman's test that all methods rank alike. Two methods whose mean ranks are closer than Nemenyi's critical
    difference cannot be told apart (Demšar 2006, sec. 3.2.2). Raises ValueError for fewer than two blocks or three
    methods.
    """
    names = list(blocks[0]) if blocks else []
    if len(blocks) < 2 or len(names) < 3:
        raise ValueError(
            f"{len(blocks)} settings of {len(names)} methods: ranks need two of the first, three of the last"
        )
    import numpy as np
    from scipy import stats

    n, k = len(blocks), len(names)
    values = np.array([[block[name] for name in names] for block in blocks])
    means = stats.rankdata(values, axis=1).mean(0)
    width = stats.studentized_range.ppf(confidence, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n))
    ranks = dict(sorted(zip(names, means.tolist(), strict=True), key=lambda item: item[1]))
    p = float(stats.friedmanchisquare(*values.T).pvalue)
    return {"ranks": ranks, "blocks": n, "p": p, "critical difference": float(width)}


def group_gaps(records: list[dict[str, Any]]) -> list[Row]:
    """Signed distances to Retrain on the forget set, by group of classes and gamma: above 0 is under-forgetting.

    A row is {"method", "gamma", "group", "seeds", "fa": {"mean", "sd"}, "p": {"mean", "sd"}}: "fa" in points of
    accuracy (the paper's Table 3 and Figures 2 and 5), "p" the mean deviation of Definition 1 in [-1, 1]. Groups are
    "all", "head", "mid", "tail"; pairs are of one setting and one seed. "noise floor" is a second Retrain.
    """
    found: dict[tuple, list[tuple[float, float]]] = {}
    of_setting: dict[str, dict[str, dict]] = {}
    for record in records:
        if record["scores"]:
            of_setting.setdefault(json.dumps(record["setting"], sort_keys=True), {})[row_name(record)] = record
    for methods in of_setting.values():
        for name, record in methods.items():
            if name != RETRAIN and RETRAIN in methods:
                mine, theirs = of_groups(record), of_groups(methods[RETRAIN])
                for group in mine:
                    key = (name, float(record["setting"]["gamma"]), group)
                    distance = tuple(a - b for a, b in zip(mine[group], theirs[group], strict=True))
                    found.setdefault(key, []).append(distance)  # type: ignore[arg-type]
    order = {name: place for place, name in enumerate([FLOOR, ORIGINAL, *METHODS, *VARIANTS])}
    rows = []
    for name, gamma, group in sorted(found, key=lambda k: (order[k[0]], k[1], GROUPS.index(k[2]))):
        fa, p = zip(*found[name, gamma, group], strict=True)
        row = {"method": name, "gamma": gamma, "group": group, "seeds": len(fa)}
        rows.append({**row, "fa": _mean_sd(list(fa)), "p": _mean_sd(list(p))})
    return rows


GROUPS = ("all", "head", "mid", "tail")


def of_groups(record: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """FA and mean probability on the forget set of each of GROUPS that has forgotten images."""
    parts = {g: d for g, d in record["forget_probabilities"].items() if d["mean"] is not None}
    sizes = {g: sum(d["counts"]) for g, d in parts.items()}
    mean = sum(sizes[g] * d["mean"] for g, d in parts.items()) / sum(sizes.values())
    groups_ = {g: (record["forget_groups"][g], d["mean"]) for g, d in parts.items()}
    return {"all": (record["scores"]["fa"], mean), **groups_}


def probabilities(records: list[dict[str, Any]]) -> dict[tuple[str, float, str], dict[str, Any]]:
    """{"mean", "counts"} of the true class's probability by (method, gamma, group), every image of every seed once.

    Groups are those of GROUPS; one without images is left out. Source of a record's part: `metrics.distributions`.
    """
    parts: dict[tuple[str, float, str], list[dict[str, Any]]] = {}
    for record in records:
        if record["scores"]:
            for group, found in record["forget_probabilities"].items():
                for name in ("all", group) if found["mean"] is not None else ():
                    key = (row_name(record), float(record["setting"]["gamma"]), name)
                    parts.setdefault(key, []).append(found)
    pooled = {}
    for key, found in parts.items():
        counts = [sum(column) for column in zip(*(f["counts"] for f in found), strict=True)]
        pooled[key] = {"mean": sum(sum(f["counts"]) * f["mean"] for f in found) / sum(counts), "counts": counts}
    return pooled


def row_name(record: dict[str, Any]) -> str:
    """The method of a record; a second Retrain, from another seed than its setting's, is the noise floor."""
    floor = record["method"] == RETRAIN and record["config"]["seed"] != record["setting"]["seed"]
    return FLOOR if floor else record["method"]


def over_gamma(records: Iterable[dict[str, Any]], value: Callable[[dict[str, Any]], float | None]) -> dict[float, list]:
    """The value of every record under its gamma, in ascending order; a value of None is left out."""
    found: dict[float, list[float]] = {}
    for record in sorted(records, key=lambda r: (r["setting"]["gamma"], r["setting"]["seed"])):
        if (number := value(record)) is not None:
            found.setdefault(float(record["setting"]["gamma"]), []).append(number)
    return found


def describe(setting: dict[str, Any]) -> str:
    """A setting in one line, naming only what is not left to the data set."""
    named = {k: v for k, v in setting.items() if v is not None and k not in ("dataset", "model")}
    usual = {"cap": "spill", "split_mismatch": False}
    rest = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in named.items() if usual.get(k) != v)
    return f"{setting['dataset']}, {setting['model']}, {rest}"


COLUMNS = {
    **{"gap": "Avg. Gap", "fa": "FA", "ra": "RA", "ta": "TA", "mia": "MIA"},
    **{"mia_confidence": "MIA (confidence)", "tow": "ToW", "seconds": "seconds"},
}


def to_markdown(rows: list[Row]) -> str:
    """One table a setting: mean ± standard deviation over seeds, in brackets the mean distance to Retrain.

    A row with fewer seeds than the heading says, or with seeds that diverged, says so.
    """
    lines: list[str] = []
    for setting in unique([row["setting"] for row in rows]):
        of_setting = [row for row in rows if row["setting"] == setting]
        seeds = max(row["seeds"] + row["diverged"] for row in of_setting)
        cells = [[_named(row, seeds), *(_text(row[k], k) for k in COLUMNS)] for row in of_setting]
        heading = f"**{describe(setting)}** ({_count(seeds)})"
        lines += ["", heading, "", grid(["method", *COLUMNS.values()], cells)]
    return "\n".join(lines[1:])


def _named(row: Row, seeds: int) -> str:
    own = row["seeds"] + row["diverged"]
    notes = [_count(own)] * (own != seeds) + [f"{row['diverged']} diverged"] * (row["diverged"] > 0)
    return row["method"] + (f" ({', '.join(notes)})" if notes else "")


def _count(seeds: int) -> str:
    return f"{seeds} seed" + ("s" if seeds > 1 else "")


def grid(columns: Sequence[str], rows: Iterable[Sequence[Any]], form: str = ".2f", align: str = "--:") -> str:
    """A Markdown table; floating-point numbers take the format `form`, columns after the first `align`.

    A bar in a text is escaped and a line break becomes a space, as either would split the cell. Raises ValueError for a
    row with more or fewer values than there are headings.
    """
    lines = [[_cell(value, form) for value in row] for row in (columns, *rows)]
    for line in lines:
        if len(line) != len(columns):
            raise ValueError(f"a row of {len(line)} values under {len(columns)} headings, {line}: give one a heading")
    lines.insert(1, [":--", *[align] * (len(columns) - 1)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any, form: str) -> str:
    text = "–" if value is None else format(value, form) if isinstance(value, float) else str(value)
    return re.sub(r"(?<!\\)\|", r"\|", " ".join(text.splitlines()))


def _text(value: dict[str, float | None], column: str) -> str:
    if value["mean"] is None:
        return "–"
    digits = 1 if column == "seconds" else 2
    text = f"{value['mean']:.{digits}f}" + ("" if value["sd"] is None else f" ± {value['sd']:.{digits}f}")
    return text if value.get("gap") is None else f"{text} ({value['gap']:.2f})"


def to_csv(rows: list[Row]) -> str:
    """One line a row, method first; columns fa_mean, fa_sd, fa_gap, ..., then the setting."""
    out = io.StringIO()
    flat = [_flat(row) for row in rows]
    writer = csv.DictWriter(out, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue().rstrip("\n")


def _flat(row: Row) -> dict[str, Any]:
    scores = {f"{k}_{part}": value for k in COLUMNS for part, value in row[k].items()}
    return {"method": row["method"], "seeds": row["seeds"], "diverged": row["diverged"], **scores, **row["setting"]}


def to_json(rows: list[Row]) -> str:
    """The rows as they are."""
    return json.dumps(rows, indent=1)


def methods_to_markdown(methods: dict[str, Method] = METHODS) -> str:
    """The rows of METHODS as a table: the named parts of Formulation 1 that each is made of."""
    columns = ("forget_loss", "targets", "weight", "penalty", "mask")
    rows = []
    for name, row in methods.items():
        plain = row.batches == "retain" or row.function is not None  # nothing is trained towards the forget set
        parts = [_part(getattr(row, c)) if not (plain and c in ("forget_loss", "targets")) else "–" for c in columns]
        rows.append([name, _part(row.function) if row.function is not None else row.batches, *parts])
    return grid(["method", "batches", *(c.replace("_", " ") for c in columns)], rows, align=":--")


def _part(part: Callable | None) -> str:
    """The name a builder was defined under: what made it, if it was made by a function with options."""
    return "–" if part is None else getattr(part, "label", part.__qualname__.split(".")[0].replace("_", " "))


FORMATS: dict[str, Callable[[list[Row]], str]] = {"md": to_markdown, "csv": to_csv, "json": to_json}


def unique(items: list[Any]) -> list[Any]:
    """The items without repeats, in order; they need not be hashable."""
    return [item for i, item in enumerate(items) if item not in items[:i]]
