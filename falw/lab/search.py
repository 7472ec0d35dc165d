"""The search for learning rates, `tune`: one rule for every method, over its own range, on a setting not reported.

It begins with the trials of a method's row, nine for each of the package. While the best lies at an edge of what was
tried, one more trial is made beyond that edge, four at most for each value. Two last trials lie half-way between the
best and its neighbours.

The winner is the trial with the smallest Avg. Gap, the mean over the seeds of the search. That needs Retrain, which
unlearning is meant to do without: it is what the field does, and it makes methods comparable at their best, not usable
in practice. `unseen_gap` is a criterion without Retrain; its choice is stored beside the first. How much of a choice is
the chance of its seeds, `bootstrap_choice` says, and what it adds to a comparison `tuned_difference`.
"""

from __future__ import annotations

import json
import statistics
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from falw.files import write_atomic
from falw.lab.cells import ORIGINAL, RETRAIN, Methods, Setting, cells_of, find_rows, read_tuned, tuned_file
from falw.lab.records import FLOOR, SEEDS, SETTING, Record, read_predictions
from falw.lab.run import run_cells
from falw.lab.tables import markdown, turned_in
from falw.methods import METHODS, VARIANTS, Method
from falw.metrics import Predictions, Scores, accuracy, gap

if TYPE_CHECKING:
    from pandas import DataFrame

OUTWARD = 4  # trials beyond an edge at most


def unseen_accuracy(pred: Predictions, forget_counts: torch.Tensor) -> float:
    """Accuracy on validation images in percent, classes weighted as they are in the forget set."""
    y, correct = pred.val.y, pred.val.correct.double()
    weight = forget_counts.double()[y] / torch.bincount(y, minlength=len(forget_counts)).clamp(min=1)[y]
    return 100 * ((weight * correct).sum() / weight.sum().clamp(min=1e-12)).item()


def unseen_gap(pred: Predictions, forget_counts: torch.Tensor) -> float:
    """How far forgotten images are from unseen ones, and retained ones from known: points, no Retrain needed.

    The mean of |FA - `unseen_accuracy`| and 100 - RA.
    """
    unseen = unseen_accuracy(pred, forget_counts)
    return (abs(accuracy(pred.forget) - unseen) + 100 - accuracy(pred.retain)) / 2


def searched(methods: Methods) -> list[Method]:
    """The rows that a search can be made for; raises ValueError if there are none, or if one asked for is not."""
    rows = [row for row in find_rows(methods) if not row.fresh]  # "all" names Retrain, too
    without = [row.name for row in rows if row.tuned_as or not row.search]
    if without or not rows:
        known = [row.name for row in (*METHODS.values(), *VARIANTS.values()) if row.search and not row.tuned_as]
        raise ValueError(f"nothing to tune in '{', '.join(without) or methods}'; choose from: {', '.join(known)}")
    return rows


def tune(
    setting: Setting,
    methods: Methods,
    out: str | Path,
    root: str | Path | None = None,
    seeds: Sequence[int] | None = None,
    **how: Any,
) -> dict[str, Any]:
    """Run every trial of the methods on one setting; return the search: trials with their gaps, and what is chosen.

    seeds: each draws data, split and training anew; by default the setting as it is. A trial has the means over them
    and, in "gaps", the Avg. Gap of each. `how` is passed on to `run_cells` (device, jobs, progress). A trial that
    diverged at one seed has failed; a method whose trials all have is not in `chosen`.
    Raises ValueError for a method without a range to search, FloatingPointError if Original or Retrain diverged.
    """
    rows = searched(methods)
    settings = [setting] if seeds is None else [replace(setting, seed=seed, data_seed=seed) for seed in seeds]
    base = run_cells([cell for each in settings for cell in cells_of(each, [])], out, root=root, **how)
    for record in base:
        if record["scores"] is None:
            raise FloatingPointError(f"{record['method']}: {record['failed']}")
    retrains = [Scores(**record["scores"]) for record in base[1::3]]
    floors = [gap(Scores(**record["scores"]), retrain) for record, retrain in zip(base[2::3], retrains, strict=True)]

    def run(todo: list[tuple[Method, dict[str, float]]]) -> list[dict[str, Any]]:
        cells = [cells_of(each, [row], out=out, **changes)[-1] for row, changes in todo for each in settings]
        records, n = run_cells(cells, out, root=root, **how), len(settings)
        return [
            {"method": row.name, "changes": changes, **_gaps(records[k * n : (k + 1) * n], retrains, Path(out))}
            for k, (row, changes) in enumerate(todo)
        ]

    trials = run([(row, changes) for row in rows for changes in row.search])
    for _ in range(OUTWARD):
        trials += run([(row, changes) for row in rows for changes in _outward(trials, row.name)])
    trials += run([(row, changes) for row in rows for changes in _halfway(row, _best(trials, row.name, "gap"))])
    names = [row.name for row in rows]
    chosen, without = (
        {name: best for name in names if (best := _best(trials, name, criterion))}
        for criterion in ("gap", "unseen_gap")
    )
    return {
        "setting": settings[0].description,
        "seeds": [each.seed for each in settings],
        "noise_floor": statistics.fmean(floors),
        "chosen": chosen,
        "chosen_without_retrain": without,
        "trials": trials,
        **{k: base[0][k] for k in ("device", "versions", "commit", "code", "date")},
    }


def _outward(trials: Sequence[dict[str, Any]], name: str) -> list[dict[str, float]]:
    """A trial one step beyond each edge of what was tried at which a method's best lies; none if it lies inside."""
    best, beyond = _best(trials, name, "gap") or {}, []
    for key in at_the_edge(trials, name, best):
        values = _tried(trials, name, key)
        edge, inside = values[:2] if best[key] == values[0] else values[:-3:-1]
        beyond.append({**best, key: edge * edge / inside})
    return beyond


def _halfway(row: Method, best: dict[str, float] | None) -> list[dict[str, float]]:
    """Two trials beside the best of a row's, its first value half a step (of the logarithm) down and up."""
    if best is None:
        return []
    key = next(iter(best))
    low, high, *_ = sorted({trial[key] for trial in row.search})
    return [{**best, key: best[key] * (high / low) ** half} for half in (-0.5, 0.5)]


def _gaps(records: Sequence[Record], retrains: Sequence[Scores], out: Path) -> dict[str, Any]:
    """What a trial came to, records of one seed after the other: means, and the Avg. Gap of each seed."""
    failed = [record["failed"] for record in records if record["scores"] is None]
    if failed:
        return {"failed": failed[0]}
    each = [_measured(record, retrain, out) for record, retrain in zip(records, retrains, strict=True)]
    means = {name: round(statistics.fmean(one[name] for one in each), 3) for name in each[0]}
    return {**means, "gaps": [round(one["gap"], 3) for one in each]}


def _measured(record: Record, retrain: Scores, out: Path) -> dict[str, float]:
    scores = Scores(**record["scores"])  # type: ignore[arg-type]
    unseen = unseen_gap(read_predictions(record, out), torch.tensor(record["forget_counts"]))
    beside = {"gap": gap(scores, retrain), "unseen_gap": unseen, "seconds": record["seconds"]}
    return {**scores._asdict(), **beside}


def _best(trials: list[dict[str, Any]], name: str, criterion: str) -> dict[str, float] | None:
    finished = [t for t in trials if t["method"] == name and "failed" not in t]
    return min(finished, key=lambda t: t[criterion])["changes"] if finished else None


def at_the_edge(trials: Sequence[dict[str, Any]], name: str, chosen: dict[str, float]) -> list[str]:
    """The values of a choice beyond which there is no trial, not even one that diverged: the best may lie outside."""
    return [k for k in chosen if chosen[k] in (_tried(trials, name, k)[0], _tried(trials, name, k)[-1])]


def _tried(trials: Sequence[dict[str, Any]], name: str, key: str) -> list[float]:
    return sorted({trial["changes"][key] for trial in trials if trial["method"] == name})


def trials_of(frame: DataFrame) -> list[dict[str, Any]]:
    """Trials as `tune` gives them, from records of one setting and its seeds (`records.frame`) that were run otherwise.

    What has not run at every seed is left out, with a UserWarning; what diverged at one has failed. Raises ValueError
    for records of several settings, and for runs of a method that differ in more than one value.
    """
    settings, seeds = frame.groupby(SETTING, dropna=False).ngroups, frame.groupby(SEEDS).ngroups
    if settings != 1:
        raise ValueError(f"these are records of {settings} settings: query for one, as gamma == 0.5")
    trials, fewer = [], Counter[str]()
    for method, runs in frame[~frame["method"].isin((ORIGINAL, RETRAIN, FLOOR))].groupby("method", sort=False):
        turned = turned_in(runs)
        for value, each in runs.sort_values(SEEDS).groupby(turned):
            if len(each) == seeds:
                trials.append({"method": method, "changes": {turned: value}, **_of_seeds(each)})
            else:
                fewer[method] += 1
    if fewer:
        counts = ", ".join(f"{count} of {method}" for method, count in fewer.items())
        warnings.warn(f"left out, as not all {seeds} seeds ran them: {counts}; run the others first", stacklevel=2)
    return trials


def _of_seeds(runs: DataFrame) -> dict[str, Any]:
    failed = runs["failed"].dropna()
    if len(failed):
        return {"failed": failed.iloc[0]}
    means = runs[[*Scores._fields, "gap", "seconds"]].astype(float).mean().to_dict()
    return {**means, "gaps": runs["gap"].tolist()}


def bootstrap_choice(trials: Sequence[Mapping[str, Any]], draws: int = 2000, seed: int = 0) -> DataFrame:
    """How often each trial is its method's best when the seeds of the search are drawn again, with replacement.

    Columns: "method", the values that the trial changes, "gap" (its mean over the seeds that ran) and "share" of the
    draws, which have the same seeds for every method; a row for each trial that ever wins, the most frequent of a
    method first. Raises ValueError for trials of fewer than two seeds.
    """
    import numpy as np
    import pandas as pd

    finished = [trial for trial in trials if "failed" not in trial]
    fewest = min((len(trial.get("gaps", [])) for trial in finished), default=0)
    if fewest < 2:
        raise ValueError(f"trials of {fewest} seeds have none to draw again: tune --seeds 100,101,102")
    again = np.random.default_rng(seed).integers(fewest, size=(draws, fewest))
    rows = []
    for method in dict.fromkeys(trial["method"] for trial in finished):
        mine = [trial for trial in finished if trial["method"] == method]
        best = np.array([trial["gaps"] for trial in mine])[:, again].mean(axis=2).argmin(axis=0)
        for k in sorted(set(best), key=lambda k: -(best == k).sum()):
            rows.append({"method": method, **mine[k]["changes"], "gap": mine[k]["gap"], "share": (best == k).mean()})
    return pd.DataFrame(rows)


def tuned_difference(
    trials: Sequence[Mapping[str, Any]], runs: DataFrame, method: str, base: str, draws: int = 4000, seed: int = 0
) -> dict[str, Any]:
    """Avg. Gap of `method` minus that of `base`, each at the rate that a search chose, with the search's own chance.

    trials: those of the search, as `bootstrap_choice` takes them; runs: of other seeds of one setting, several rates a
    method. "mean" is at the rates chosen, "low" and "high" hold 95 % of what is expected of the mean when the search's
    seeds are drawn again, the same for both methods, and the runs' seeds spread as Student's t says. A rate that is
    chosen and that not all seeds ran gives way to the nearest that they did; "moved" is the share of draws with one.
    Trials that diverged are left out. Raises ValueError for a method that was not searched or ran at no rate at which
    all its seeds did, and for fewer than two seeds on either side.
    """
    import numpy as np

    finished = [trial for trial in trials if "failed" not in trial and trial["method"] in (method, base)]
    fewest = min((len(trial.get("gaps", [])) for trial in finished), default=0)
    rng = np.random.default_rng(seed)
    again = np.vstack([np.arange(fewest), rng.integers(fewest, size=(draws, fewest))])  # first as they were
    sides, moved = [], np.zeros(draws + 1, dtype=bool)
    for name in (method, base):
        tried = {trial["changes"]["lr"]: trial["gaps"] for trial in finished if trial["method"] == name}
        wide = runs[runs["method"] == name].pivot(index="seed", columns="lr", values="gap").dropna(axis=1)
        if fewest < 2 or not tried or wide.empty:
            searched_at, at_all = len(tried), wide.shape[1]
            what = f"{name}: {searched_at} rates searched on {fewest} seeds, {at_all} that all its seeds ran"
            raise ValueError(f"{what}; give a search of two seeds or more and runs of one setting")
        apart = abs(np.subtract.outer(np.log([*tried]), np.log([*wide.columns])))
        best = np.array([*tried.values()])[:, again].mean(axis=2).argmin(axis=0)
        sides.append(wide.iloc[:, apart.argmin(axis=1)[best]])
        moved |= apart.min(axis=1)[best] > 1e-9
    seeds = sides[0].index.intersection(sides[1].index)
    if len(seeds) < 2:
        raise ValueError(f"{method} and {base} share {len(seeds)} seeds: a difference needs two")
    values = sides[0].loc[seeds].to_numpy() - sides[1].loc[seeds].to_numpy()  # (seeds, 1 + draws)
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / len(seeds) ** 0.5
    low, high = np.quantile(mean[1:] + error[1:] * rng.standard_t(len(seeds) - 1, draws), (0.025, 0.975))
    return {"mean": mean[0], "low": low, "high": high, "seeds": len(seeds), "moved": moved[1:].mean()}


def choices_to_markdown(search: dict[str, Any]) -> str:
    """The choices of a search as a table; an asterisk marks a value at the edge of its grid."""
    lines = []
    for name in dict.fromkeys(trial["method"] for trial in search["trials"]):
        both = (search[k].get(name) for k in ("chosen", "chosen_without_retrain"))
        lines.append([name, *(part for changes in both for part in _choice(search["trials"], name, changes))])
    return markdown(["method", "chosen", "Avg. Gap", "chosen without Retrain", "Avg. Gap"], lines)


def _choice(trials: list[dict[str, Any]], name: str, changes: dict[str, float] | None) -> tuple[str, float | None]:
    """What was chosen and its Avg. Gap."""
    if changes is None:
        return "every trial diverged", None
    edge = at_the_edge(trials, name, changes)
    text = ", ".join(f"{k} {v:.4g}" + ("*" if k in edge else "") for k, v in changes.items())
    (won,) = (t for t in trials if t["method"] == name and t["changes"] == changes)
    return text, float(won["gap"])


def write_search(search: dict[str, Any], path: Path) -> None:
    """Write a search whole, as JSON, one trial a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    trials = ",\n".join("  " + json.dumps(trial) for trial in search["trials"])
    head = json.dumps({k: v for k, v in search.items() if k != "trials"}, indent=1)
    write_atomic(path, lambda f: f.write(f'{head[:-2]},\n "trials": [\n{trials}\n ]\n}}\n'.encode()))


def adopt(search: dict[str, Any], out: str | Path) -> Path:
    """Make the choices of a search those that `run` uses for its data set and network; the other methods' stay.

    They go into a file of the reader's (`cells.tuned_file`), whose path is returned, never into the package. Raises
    ValueError if FALW_TUNED says that there is no such file.
    """
    path = tuned_file(out)
    if path is None:
        raise ValueError("FALW_TUNED is empty, so values have no file to go to: unset it, or name a file in it")
    chosen, key = read_tuned(path), "{dataset}/{model}".format(**search["setting"])
    chosen.setdefault(key, {}).update(search["chosen"])
    write_atomic(path, lambda f: f.write(f"{json.dumps({'chosen': chosen}, indent=1)}\n".encode()))
    return path
