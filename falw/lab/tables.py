"""Records as tables: means and intervals over seeds (those of claims, too), gaps, noise floor; Markdown, CSV, JSON.

Every function here starts from the DataFrame of `records.frame`, of which `query` has taken what is meant.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from falw import parts
from falw.lab.cells import RETRAIN
from falw.lab.records import CONFIG, FLOOR, GROUPS, SEEDS, SETTING, in_order
from falw.methods import METHODS, VARIANTS, Method
from falw.metrics import Scores

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = {
    **{"gap": "Avg. Gap", "fa": "FA", "ra": "RA", "ta": "TA", "mia": "MIA"},
    **{"mia_confidence": "MIA (confidence)", "tow": "ToW", "seconds": "seconds"},
}
DISTRIBUTION = {  # of p_true on the forget set, and of probabilities: `metrics.distances`
    **{"deviation": "deviation", "abs_deviation": "abs. deviation"},
    **{"w1": "W1", "w1_head": "W1 head", "w1_mid": "W1 mid", "w1_tail": "W1 tail"},
    **{"kl": "KL", "outside": "outside (%)"},
}
AUDIT_COLUMNS = {  # see `records.NUMBERS_OF_AUDITS`; of those that nobody asked for there is no column in a table
    **{"iam_completeness": "IAM", "iam_under": "under (%)", "iam_over": "over (%)"},
    **{"rmia_auc": "RMIA AUC", "rmia_spread": "of references (sd)"},
    **{"rmia_auc_head": "RMIA head", "rmia_auc_mid": "RMIA mid", "rmia_auc_tail": "RMIA tail"},
    **{"lira_auc": "LiRA AUC", "lira_tpr": "LiRA TPR", "lira_retained": "LiRA retained"},
    **{"relearning_gain": "relearnt (points)", "relearning_epochs": "epochs"},
    **{"features_probe": "probe (%)", "features_cka": "CKA", "features_neighbours": "neighbours"},
}
SCORES = {
    **{"paper": COLUMNS, "distribution": DISTRIBUTION, "audits": AUDIT_COLUMNS},
    "all": {**COLUMNS, **DISTRIBUTION, **AUDIT_COLUMNS},
}


KNOBS = ("lr", "coefficient")  # values of `Config` that say how much a method forgets


def reads(method: str, name: str) -> bool:
    """Whether a method reads a value of `Config`; the Original and rows of the reader's own are taken to."""
    row = {**METHODS, **VARIANTS}.get(method)
    return row is None or row.reads(name)


def values_read(run: Mapping[str, Any]) -> dict[str, float]:
    """KNOBS of a row of `records.frame`, NaN for one that its method does not read or leaves to its row."""
    given = {name: run[name] if reads(run["method"], name) else None for name in KNOBS}
    return {name: math.nan if value is None else float(value) for name, value in given.items()}


def knobs_text(run: Mapping[str, Any]) -> str:
    """KNOBS as a cell of a table: "0.02", "0.02, coefficient 25", or "coefficient 0.1" where there is no rate."""
    texts = {"": run["lr"], "coefficient ": run["coefficient"]}
    return ", ".join(f"{name}{value:.3g}" for name, value in texts.items() if value == value)


def turned_in(runs: DataFrame) -> str:
    """In which of KNOBS runs of a method differ, the first if in none; raises ValueError if they differ in more."""
    differ = [name for name in CONFIG if runs[name].nunique(dropna=False) > 1]
    turned = next((name for name in KNOBS if name in differ), KNOBS[0])
    if also := [name for name in differ if name != turned]:
        raise ValueError(f"runs of {runs.method.iloc[0]} differ in {', '.join(also)}, too: query for one value of each")
    return turned


def table(frame: DataFrame, scores: str = "paper") -> DataFrame:
    """Rows of the paper's kind, one a setting and method: scores, gaps to Retrain and seconds over seeds.

    scores: "paper"; "distribution", distances to all Retrains of a setting and seed; "audits", what `audits.json` says;
    "all". ValueError for another.

    Columns are method (the label, see `records.frame`), its "lr" and "coefficient" (`values_read`), seeds, without
    those that diverged, and diverged; "fa_mean", "fa_sd" (NaN for one seed) and "fa_gap", the mean over seeds of the
    distance to the Retrain of the same seed, so for "ra", "ta", "mia" and "mia_confidence"; mean and sd of "gap", "tow"
    and "seconds"; and the setting. The attack on p_true (`audit`), "mia_confidence", is not part of Avg. Gap. The row
    "noise floor" is a second Retrain against the first, of more Retrains each of them.
    """
    if scores not in SCORES:
        raise ValueError(f"unknown scores '{scores}'; choose one of: {', '.join(SCORES)}")
    columns, compared = SCORES[scores], (*Scores._fields, "mia_confidence")
    spread = {f"{k}_{part}": (k, how) for k in columns for part, how in (("mean", "mean"), ("sd", "std"))}
    far = {f"{k}_gap": (f"d_{k}", lambda d: d.abs().mean()) for k in compared if k in columns}
    frame = frame.sort_values(SEEDS)  # sums in one order: the same digits
    seed, ran = frame.groupby(SEEDS).ngroup(), frame["fa"].notna()  # several Retrains may have one seed
    read = {
        name: frame[name].astype(float).where([reads(method, name) for method in frame["method"]]) for name in KNOBS
    }
    frame = frame.assign(seed_ran=seed.where(ran), seed_diverged=seed.where(~ran), **read)
    counts = {"seeds": ("seed_ran", "nunique"), "diverged": ("seed_diverged", "nunique")}
    groups = frame.groupby([*SETTING, "label"], dropna=False)
    knobs = {name: (name, "first") for name in KNOBS}
    rows = groups.agg(**knobs, **counts, **spread, **far).reset_index().rename(columns={"label": "method"})
    rank = {name: k for k, name in enumerate(in_order(frame["label"].unique()))}
    rows = rows.sort_values([*SETTING, "method"], key=lambda c: c.map(rank) if c.name == "method" else c)
    numbers = [name for k in columns for name in (f"{k}_mean", f"{k}_sd", f"{k}_gap") if name in rows]
    return rows[["method", *KNOBS, "seeds", "diverged", *numbers, *SETTING]].reset_index(drop=True)


MIN_FOR_BOOTSTRAP = 8  # below as many values a bootstrap draws from too few and is too narrow


def interval(values: Sequence[float], confidence: float = 0.95) -> dict[str, Any]:
    """{"mean", "low", "high", "seeds"} of values of different seeds.

    A bias-corrected and accelerated bootstrap; Student's t for fewer than MIN_FOR_BOOTSTRAP values. Raises ValueError
    for fewer than two.
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


def by_seed(frame: DataFrame, columns: str | list[str], by: str = "method") -> DataFrame:
    """Columns by method (or by="label"), one row a seed and setting, in the order in which these come; NaN: not run.

    What diverged is left out; where there are several Retrains the noise floor is the mean of theirs. Raises ValueError
    if a method has several configurations on one setting and seed.
    """
    rows = frame[frame["fa"].notna()]
    rows = rows.assign(setting=rows.groupby(SETTING, dropna=False).ngroup())
    index = [*SEEDS, "setting"]
    rows = _one_floor(rows, [*index, "label"], [columns] if isinstance(columns, str) else columns)
    twice = rows.loc[rows.duplicated([*index, by], keep=False), "label"].unique()
    if len(twice):
        raise ValueError(f"several configurations of one method: query for one of {', '.join(in_order(twice))}")
    wide = rows.pivot(index=index, columns=by, values=columns)
    return wide.reindex(rows.set_index(index).index.unique())


def _one_floor(rows: DataFrame, index: list[str], columns: list[str]) -> DataFrame:
    """The rows with one of the noise floor for each value of `index`, in the place of the first."""
    floor = rows["method"] == FLOOR
    means = rows[floor].groupby(index, dropna=False)[columns].transform("mean")
    rows = rows.assign(**{name: rows[name].where(~floor, means[name]) for name in columns})
    return rows[~(floor & rows.duplicated(index))]


def paired_gap(frame: DataFrame, method: str, base: str, confidence: float = 0.95) -> dict[str, Any]:
    """By how much the Avg. Gap of `method` exceeds that of `base`, in points: below 0 the method is closer to Retrain.

    {"method", "base", "differences", and the `interval` of these}: one difference a seed. Of several settings it is the
    mean over them, since settings of one seed share images and Original and are no independent values; a seed without
    a setting that another seed has is left out. Raises ValueError for fewer than two seeds, and for a method of several
    configurations, which go by their labels.
    """
    gaps = by_seed(frame, "gap", by="label")
    mine, theirs = (gaps.reindex(columns=[_label_of(name, list(gaps))]).squeeze(axis=1) for name in (method, base))
    pairs = (mine - theirs).dropna()
    seeds = pairs.groupby(level=SEEDS, sort=False)
    differences = seeds.mean()[seeds.size() == pairs.index.get_level_values("setting").nunique()].tolist()
    if len(differences) < 2:
        raise ValueError(f"{len(differences)} pairs of {method} and {base}: run both with at least two seeds")
    return {"method": method, "base": base, "differences": differences, **interval(differences, confidence)}


def _label_of(name: str, labels: Sequence[str]) -> str:
    """The label that a method goes by."""
    fitting = [label for label in labels if label == name or label.startswith(f"{name} (")]
    if len(fitting) > 1:
        raise ValueError(f"{name} has several configurations; choose one of: {', '.join(fitting)}")
    return fitting[0] if fitting else name


def gap_blocks(frame: DataFrame, methods: Sequence[str]) -> DataFrame:
    """Avg. Gap, mean over seeds, by method, of every setting that has all the methods: blocks for `mean_ranks`."""
    rows = table(frame)
    rows = rows.assign(setting=rows.groupby(SETTING, dropna=False).ngroup())
    return rows.pivot(index="setting", columns="method", values="gap_mean").reindex(columns=list(methods)).dropna()


def mean_ranks(blocks: DataFrame, confidence: float = 0.95) -> dict[str, Any]:
    """{"ranks": {method: mean rank, 1 the smallest value}, "blocks", "p", "critical difference"} of values by method.

    p is of Friedman's test that all methods rank alike. Two methods whose mean ranks are closer than Nemenyi's critical
    difference cannot be told apart (Demšar 2006, sec. 3.2.2). Raises ValueError for fewer than two blocks or three
    methods.
    """
    n, k = blocks.shape
    if n < 2 or k < 3:
        raise ValueError(f"{n} settings of {k} methods: ranks need two of the first, three of the last")
    import numpy as np
    from scipy import stats

    ranks = blocks.rank(axis=1).mean().sort_values(kind="stable")
    width = stats.studentized_range.ppf(confidence, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n))
    p = float(stats.friedmanchisquare(*blocks.to_numpy().T).pvalue)
    return {"ranks": ranks.to_dict(), "blocks": n, "p": p, "critical difference": float(width)}


def rows_by_group(frame: DataFrame) -> DataFrame:
    """A row of each cell for each "group" of classes with forgotten images: its fa, p, d_fa, d_p and counts."""
    import pandas as pd

    units = ("fa", "p", "d_fa", "d_p", "counts")
    parts = [frame.assign(group=g, **{unit: frame[f"{unit}_{g}"] for unit in units}) for g in GROUPS]
    rows = pd.concat(parts, ignore_index=True).dropna(subset="p")
    orders = {"label": in_order(rows["label"].unique()), "group": GROUPS}
    return rows.assign(**{name: pd.Categorical(rows[name], order, ordered=True) for name, order in orders.items()})


def group_gaps(frame: DataFrame) -> DataFrame:
    """Signed distances to Retrain on the forget set, by group of classes and gamma: above 0 is under-forgetting.

    Columns are method (the label), gamma, group, seeds, and mean and sd (NaN for one seed) of "fa", in points of
    accuracy (the paper's Table 3 and Figures 2 and 5), and of "p", the mean deviation of Definition 1 in [-1, 1].
    Groups are "all", "head", "mid", "tail"; pairs are of one setting and one seed.
    """
    rows = rows_by_group(frame[(frame["method"] != RETRAIN) & frame["gap"].notna()])
    spread = {f"{k}_{part}": (f"d_{k}", how) for k in ("fa", "p") for part, how in (("mean", "mean"), ("sd", "std"))}
    groups = rows.groupby(["label", "gamma", "group"], observed=True)
    gaps = groups.agg(seeds=("d_fa", "count"), **spread).reset_index().rename(columns={"label": "method"})
    return gaps.astype({"method": str, "group": str})


def pooled_probabilities(frame: DataFrame) -> DataFrame:
    """The true class's probability, "mean" and "counts" of a histogram, by (label, gamma, group), seeds pooled.

    Every image of every seed counts once. Source of a record's part: `metrics.distributions`.
    """
    rows = rows_by_group(frame)
    rows = rows.assign(images=rows["counts"].map(sum)).eval("total = p * images")
    groups = rows.groupby(["label", "gamma", "group"], observed=True)
    counts = groups["counts"].agg(lambda each: [sum(column) for column in zip(*each, strict=True)])
    sums = groups[["total", "images"]].sum()
    return sums.eval("mean = total / images").assign(counts=counts)[["mean", "counts"]]


def describe(setting: Mapping[str, Any]) -> str:
    """A setting in one line, naming only what is not left to the data set."""
    import pandas as pd

    named = {k: v for k, v in setting.items() if not pd.isna(v) and k not in ("dataset", "model")}
    usual = {"cap": "spill", "split_mismatch": False}
    rest = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in sorted(named.items()) if usual.get(k) != v)
    return f"{setting['dataset']}, {setting['model']}, {rest}"


def scores_to_markdown(rows: DataFrame) -> str:
    """`table` as one table a setting: mean ± standard deviation over seeds, in brackets the mean distance to Retrain.

    A row with fewer seeds than the heading says, or with seeds that diverged, says so; a line under distances says how
    they are read.
    """
    parts, columns = [], {k: heading for k, heading in SCORES["all"].items() if f"{k}_mean" in rows}
    columns = {k: h for k, h in columns.items() if k not in AUDIT_COLUMNS or rows[f"{k}_mean"].notna().any()}
    for setting, same in rows.groupby(SETTING, dropna=False, sort=False):
        seeds = int((same["seeds"] + same["diverged"]).max())
        cells = same.to_dict("records")
        lines = [[_named(row, seeds), *(_text(row, k) for k in columns), knobs_text(row)] for row in cells]
        heading = f"**{describe(dict(zip(SETTING, setting, strict=True)))}** ({_count(seeds)})"
        parts += [heading, markdown(["method", *columns.values(), "lr"], lines)]
        parts += [_how_to_read(same)] if {*DISTRIBUTION} <= {*columns} else []
    return "\n\n".join(parts)


def _how_to_read(rows: DataFrame) -> str:
    """Of a table of distances: which direction is good, and what the floor is."""
    if rows["w1_mean"].isna().all():
        return "Not measured: distances take the predictions of two Retrains; run the same with --retrains 2 or more."
    retrain = rows.loc[rows["method"] == RETRAIN, "w1_mean"]
    floor = "each Retrain from the others (retrain, noise floor)" if retrain.notna().any() else "takes --retrains 3"
    return f"Distance to all Retrains; closer to 0 is better, down to the floor: {floor}. Outside: over 2 sd of theirs."


def _named(row: Mapping[str, Any], seeds: int) -> str:
    ran = row["seeds"] + row["diverged"]
    notes = [_count(ran)] * (ran != seeds) + [f"{row['diverged']} diverged"] * (row["diverged"] > 0)
    return row["method"] + (f" ({', '.join(notes)})" if notes else "")


def _count(seeds: int) -> str:
    return f"{seeds} seed" + ("s" if seeds > 1 else "")


def _text(row: Mapping[str, Any], column: str) -> str:
    mean, sd, gap = (row.get(f"{column}_{part}", math.nan) for part in ("mean", "sd", "gap"))
    if math.isnan(mean):
        return "–"
    digits = 1 if column == "seconds" else 3 if column in (*DISTRIBUTION, *AUDIT_COLUMNS) else 2
    text = mean_and_sd(mean, sd, digits)
    return text if math.isnan(gap) else f"{text} ({gap:.2f})"


def mean_and_sd(mean: float, sd: float, digits: int = 2, sign: str = "") -> str:
    """A mean over seeds with its standard deviation, left out where it is NaN; "+" puts a sign before every mean."""
    rounded = round(mean, digits) + 0  # + 0 takes the sign from -0
    return f"{rounded:{sign}.{digits}f}" + ("" if math.isnan(sd) else f" ± {sd:.{digits}f}")


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]], form: str = ".2f", align: str = "right") -> str:
    """A Markdown table; floating-point numbers take the format `form`, columns after the first stand `align`.

    A bar in a text is escaped and a line break becomes a space, as either would split the cell. Raises ValueError for a
    row with more or fewer values than there are headings.
    """
    from tabulate import tabulate

    head, *lines = [[_cell(value, form) for value in row] for row in (columns, *rows)]
    for line in lines:
        if len(line) != len(head):
            raise ValueError(f"a row of {len(line)} values under {len(head)} headings, {line}: give one a heading")
    aligned = ["left", *[align] * (len(head) - 1)]
    return tabulate(lines, head, "pipe", disable_numparse=True, colalign=aligned if lines else None)


def _cell(value: Any, form: str) -> str:
    text = "–" if value is None or value != value else format(value, form) if isinstance(value, float) else str(value)
    return re.sub(r"(?<!\\)\|", r"\|", " ".join(text.splitlines()))


def methods_to_markdown(methods: dict[str, Method] = METHODS) -> str:
    """The rows of METHODS as a table: the named parts of Formulation 1 that each is made of."""
    columns = ("forget_loss", "targets", "retain_loss", "weight", "penalty", "mask")
    rows = []
    for name, row in methods.items():
        unread = ("forget_loss", "targets") * (row.batches == "retain") + ("retain_loss",) * (row.batches == "forget")
        silent = columns if row.function is not None else unread
        parts = [_part(getattr(row, c)) if c not in silent else "–" for c in columns]
        images = ", ".join([row.batches, *(_part(p) for p in (row.enlarge, row.sampling) if p is not None)])
        rows.append([name, images if row.function is None else _part(row.function), *parts])
    return markdown(["method", "batches", *(c.replace("_", " ") for c in columns)], rows, align="left")


def formulation_to_markdown(methods: Mapping[str, Method]) -> str:
    """Rows of METHODS as Eq. 3: alpha and what it stands before, beta and lambda likewise; 0 for a term that is not."""
    rows = []
    for name, row in methods.items():
        forget = f"{_part(row.forget_loss)} to {_part(row.targets)}"
        if row.weight is not None:
            forget = f"{_part(row.weight)} · {forget}"
        alpha = ("1" if row.alpha is parts.one else _part(row.alpha), forget)
        beta = (f"{row.beta:g}", _part(row.retain_loss))
        held = ", ".join(_part(part) for part in (row.penalty, row.mask) if part is not None)
        terms = [
            ("0", "–") if row.batches == "retain" else alpha,
            ("0", "–") if row.batches == "forget" else beta,
            ("λ" if row.penalty is not None else "0", held or "–"),
        ]
        once = [("–", f"one step: {_part(row.function)}"), ("–", "–"), ("–", "–")]
        rows.append([name, *(cell for term in (terms if row.function is None else once) for cell in term)])
    heads = ["method", "α", "forget term, w · loss to target", "β", "retain term", "λ", "penalty, mask"]
    return markdown(heads, rows, align="left")


def _part(part: Callable | None) -> str:
    """The name a builder was defined under: what made it, if it was made by a function with options."""
    return "–" if part is None else getattr(part, "label", part.__qualname__.split(".")[0].replace("_", " "))


FORMATS: dict[str, Callable[[DataFrame], str]] = {
    "md": scores_to_markdown,
    "csv": lambda rows: rows.to_csv(index=False).rstrip("\n"),
    "json": lambda rows: rows.to_json(orient="records", indent=1, double_precision=15),
}
