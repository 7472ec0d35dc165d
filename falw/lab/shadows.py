"""U-LiRA's shadow runs, cells like any other in a folder beside the records audited, and what is said of them.

A run forgets a random half of a pool, with as many images of each class as the setting audited. Its Original, its
Retrains and what methods make of the Original are cells of a setting that lists its forget set, so they are shared,
resumed and run on any engine, and each saw as many images as the model audited.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy import ndarray

from falw.audit import AT
from falw.auditors import (
    LEAST_RUNS,
    forgetting_epsilon,
    forgetting_score,
    klom,
    margin,
    told_apart,
    ulira,
    ulira_by_chance,
)
from falw.lab.audits import as_json, as_many, classes_of, keep
from falw.lab.cells import FLOOR_SEED, ORIGINAL, POWER_LAW, RETRAIN, Cell, Setting, digest
from falw.lab.records import GROUPS, Audited, Record, in_order, read_predictions, read_record
from falw.lab.run import load_setting
from falw.lab.tables import interval, markdown
from falw.train import Config

if TYPE_CHECKING:
    from pandas import DataFrame


def shadow_folder(record: Record, out: Path) -> Path:
    """Where the records of shadow runs lie for those of a setting in `out`."""
    setting = setting_of_record(record)
    law = "histogram" if setting.histogram is not None else f"gamma{setting.gamma:g}"
    return out / ("shadows-listed" if setting.asked else f"shadows-ratio{setting.ratio:g}-{law}")


class Plan(NamedTuple):
    """What an audit that trains would do."""

    cells: list[Any]  # all, done ones among them
    todo: list[Any]
    seconds: float  # of one worker, by the seconds that the folder's own records took
    chosen: Mapping[str, Sequence[Record]]  # of each method the records whose configuration is audited


# Which settings and configurations are audited


def bases(records: Iterable[Record]) -> list[list[Record]]:
    """Records that have scores, those of one setting and recipe together whatever their seeds, the lowest first."""

    def shared(record: Record) -> str:
        setting = {k: v for k, v in record["setting"].items() if k not in ("seed", "data_seed")}
        return digest({"setting": setting, "recipe": without_seed(record["recipe"])})

    found: dict[str, list[Record]] = {}
    for record in sorted((r for r in records if r["scores"]), key=lambda r: (r["setting"]["seed"], r["key"])):
        found.setdefault(shared(record), []).append(record)
    return list(found.values())


def without_seed(config: dict[str, Any]) -> dict[str, Any]:
    """The values of a stored configuration that are no seed."""
    return {name: value for name, value in config.items() if name != "seed"}


def configurations(base: Sequence[Record], methods: Sequence[str] | None = None) -> dict[str, list[Record]]:
    """The records of each method in the configuration whose FA is nearest to the Retrains', on average over seeds.

    Methods are compared where they forget as much. Raises as `by_configuration` does.
    """
    far = _far_in_fa(base)
    return {
        name: min(several.values(), key=lambda records: abs(fmean(map(far, records))))
        for name, several in by_configuration(base, methods).items()
    }


def nearest(base: Sequence[Record], methods: Sequence[str] | None = None) -> dict[str, list[Record]]:
    """Of each method the record of every seed whose FA is nearest to that of the seed's Retrains.

    Raises as `by_configuration` does.
    """
    far, found = _far_in_fa(base), dict[str, list[Record]]()
    for name, several in by_configuration(base, methods).items():
        of_seeds: dict[tuple[int, int], list[Record]] = {}
        for record in itertools.chain(*several.values()):
            of_seeds.setdefault(_seeds_of(record), []).append(record)
        found[name] = [min(same, key=lambda record: abs(far(record))) for same in of_seeds.values()]
    return found


def by_configuration(
    base: Sequence[Record], methods: Sequence[str] | None = None
) -> dict[str, dict[str, list[Record]]]:
    """The records of each method that an audit can train again, by its configuration.

    Rows of a reader's own cannot be read from records and are left out. Raises ValueError for a method without records.
    """
    by: dict[str, dict[str, list[Record]]] = {}
    for record in base:
        named = methods is None or record["method"] in methods
        if named and record["method"] not in (ORIGINAL, RETRAIN) and "row" not in record:
            same = by.setdefault(record["method"], {})
            same.setdefault(digest(without_seed(record["config"])), []).append(record)
    if missing := [name for name in methods or () if name not in by and name not in (ORIGINAL, RETRAIN)]:
        raise ValueError(f"no records of {', '.join(missing)} in the folder: run them first, or leave them out")
    return by


def _far_in_fa(base: Sequence[Record]) -> Callable[[Record], float]:
    """FA of a record less the mean of its seeds' Retrains; raises ValueError where there is none."""
    known = _retrains_fa(base)
    return lambda record: fa_of(record) - known[_seeds_of(record)]


def fa_of(record: Record) -> float:
    """FA of a record that has scores."""
    return (record["scores"] or {})["fa"]


def _seeds_of(record: Record) -> tuple[int, int]:
    return record["setting"]["seed"], record["setting"]["data_seed"]


def _retrains_fa(base: Sequence[Record]) -> dict[tuple[int, int], float]:
    """Mean FA of the Retrains by seeds."""
    fas: dict[tuple[int, int], list[float]] = {_seeds_of(r): [] for r in base}
    for record in base:
        fas[_seeds_of(record)] += [fa_of(record)] if record["method"] == RETRAIN else []
    if not all(fas.values()):
        raise ValueError("no Retrain among the records: its FA is where methods are compared; run it first")
    return {seeds: fmean(each) for seeds, each in fas.items()}


def setting_of_record(record: Record) -> Setting:
    """The setting of a record."""
    return Setting(**{k: tuple(v) if isinstance(v, list) else v for k, v in record["setting"].items()})


def seconds_of(base: Sequence[Record]) -> Callable[[Cell], float]:
    """Seconds of a cell, on average over the records of its method and configuration."""

    def seconds(cell: Cell) -> float:
        alike = [r for r in base if r["method"] == cell.method and r["method"] in (ORIGINAL, RETRAIN)]
        config = without_seed(json.loads(json.dumps(cell.config.description)))
        alike = alike or [r for r in base if r["method"] == cell.method and without_seed(r["config"]) == config]
        return fmean(r["seconds"] for r in alike)

    return seconds


# U-LiRA


def pool_of(y: ndarray, counts: ndarray, seed: int) -> ndarray:
    """Indices, ascending, of the images that shadow runs forget from: twice as many of each class as are forgotten.

    All of a class that has fewer. y: (n,) training labels. counts: (C,).
    """
    draw = np.random.default_rng([seed, len(y)])
    each = [draw.permutation(np.flatnonzero(y == c))[: 2 * n] for c, n in enumerate(counts)]
    return np.sort(np.concatenate(each))


def forgets_of_run(pool: ndarray, y: ndarray, counts: ndarray, run: int) -> ndarray:
    """Indices, ascending, of what a shadow run forgets: so many of each class of the pool."""
    draw = np.random.default_rng([run, len(pool)])
    each = [draw.permutation(pool[y[pool] == c])[:n] for c, n in enumerate(counts)]
    return np.sort(np.concatenate(each))


def shadow_settings(setting: Setting, y: ndarray, counts: ndarray, runs: int) -> list[Setting]:
    """Settings that list what each run forgets; its number is added to the seed of the setting audited."""
    pool = pool_of(y, counts, setting.seed)
    usual = {name: getattr(Setting, name) for name in (*POWER_LAW, "forget_classes", "histogram")}
    lists = (tuple(forgets_of_run(pool, y, counts, run).tolist()) for run in range(runs))
    return [replace(setting, **usual, seed=setting.seed + k, forget=forget) for k, forget in enumerate(lists)]


def shadow_cells(
    base: Sequence[Record], settings: Iterable[Setting], chosen: Mapping[str, Sequence[Record]]
) -> list[Cell]:
    """The cells of shadow runs: of each an Original, two Retrains, the second to be judged, and the methods chosen."""
    cells: list[Cell] = []
    for setting in settings:
        recipe = config_of(base[0]["recipe"], setting.seed)
        second = replace(recipe, seed=setting.seed + FLOOR_SEED)
        retrains = [Cell(setting, RETRAIN, config, recipe) for config in (recipe, second)]
        rows = [Cell(setting, name, config_of(r[0]["config"], setting.seed), recipe) for name, r in chosen.items()]
        cells += [Cell(setting, ORIGINAL, recipe, recipe), *retrains, *rows]
    return cells


def config_of(stored: dict[str, Any], seed: int) -> Config:
    """A stored configuration, of another seed."""
    return Config(**{**stored, "milestones": tuple(stored["milestones"]), "seed": seed})


def judge_shadows(cells: Sequence[Cell], out: Path, root: Path | None = None) -> Audited:
    """U-LiRA, KLOM and the competition's score of every cell of shadow runs, kept in audits.json beside their records.

    Each is a number of a run, so an interval over runs is one over models. The second Retrain is the floor, the
    Original what is there to be found. Runs that diverged are left out; raises ValueError where too few are left.
    """
    settings = list(dict.fromkeys(cell.setting for cell in cells))
    by = {(c.setting, c.method, c.config.seed - c.setting.seed): c for c in cells}
    audited = Audited()
    for method in dict.fromkeys(cell.method for cell in cells):
        second = FLOOR_SEED if method == RETRAIN else 0
        pairs = [[by[s, method, second], by[s, RETRAIN, 0]] for s in settings]
        read = [[read_record(out / f"{cell.key}.json", cell) for cell in pair] for pair in pairs]
        ran = [(pair, both) for pair, both in zip(pairs, read, strict=True) if all(r and r["scores"] for r in both)]
        runs = [[_says(cell, r, out, root) for cell, r in zip(pair, both, strict=True)] for pair, both in ran]
        found = judged([run[0] for run in runs], [run[1] for run in runs], classes_of(ran[0][1][0])) if ran else []
        for (pair, _), numbers in zip(ran, found, strict=True):
            audited[pair[0].key] = {"to": [pair[1].key], **numbers}
    return keep(audited, out)


class Says(NamedTuple):
    """What the model of a shadow run says: margins of training images, NaN where held out, and of test images."""

    train: ndarray  # (n,)
    y: ndarray
    forgot: ndarray  # (n,) bool
    retained: ndarray
    test: ndarray  # (m,)
    test_y: ndarray


def _says(cell: Cell, record: Record, out: Path, root: Path | None) -> Says:
    data, split = load_setting(cell.setting, root, said=True)
    said, n = read_predictions(record, out), len(data.train.y)
    train, member = np.full(n, np.nan), np.zeros((2, n), bool)
    for row, (index, part) in enumerate(((split.forget, said.forget), (split.retain, said.retain))):
        train[index.numpy()], member[row, index.numpy()] = margin(part), True
    return Says(train, data.train.y.cpu().numpy(), *member, margin(said.test), said.test.y.numpy())


Numbers = dict[str, dict[str, dict[str, float]]]  # {audit: {group: {number: value}}}


def judged(unlearned: Sequence[Says], retrained: Sequence[Says], classes: Mapping[str, ndarray]) -> list[Numbers]:
    """The numbers of each run, by audit and group, of runs and the Retrains of the same runs.

    U-LiRA is asked of images that the run forgot, and of as many by class that it retained or never saw: what it finds
    there is no memory of what was forgotten.
    """
    ours, theirs = (np.stack([says.train for says in side]) for side in (unlearned, retrained))
    forgot = np.stack([says.forgot for says in unlearned])
    of = {"forget": np.stack(ulira(ours, theirs, forgot))}
    of["retain"] = np.stack(ulira(ours, theirs, np.stack([says.retained for says in unlearned])))
    tests = [np.stack([says.test for says in side]) for side in (unlearned, retrained)]
    of["test"] = np.stack(ulira(*tests, np.ones(tests[0].shape, bool)))
    kl, epsilon = _over_models(ours, theirs, forgot)
    y, models = {"forget": unlearned[0].y, "retain": unlearned[0].y, "test": unlearned[0].test_y}, forgot.sum(0)
    there = np.unique(y["forget"][~np.isnan(kl)])
    classes = {group: members for group, members in classes.items() if np.isin(there, members).any()}
    masks = [np.isin(y["forget"], members) for members in classes.values()]
    ends = ulira_by_chance(ours, theirs, forgot, masks).tolist()
    chance = {group: {"chance_low": low, "chance_high": high} for group, (low, high) in zip(classes, ends, strict=True)}

    def numbers(run: int, group: str, members: ndarray) -> dict[str, dict[str, float]]:
        chosen = {part: np.isin(y[part], members) & ~np.isnan(x[0, run]) for part, x in of.items()}
        forgotten = y["forget"][chosen["forget"]]
        found = {}
        for part, mask in chosen.items():
            weights = as_many(forgotten, y[part][mask])
            found[part] = told_apart(*of[part][:, run, mask], (weights, weights))
        others = {"unseen": found["test"]["auc"], "retained": found["retain"]["auc"]}
        fewest = int(models[chosen["forget"]].min())
        return {
            "ulira": {**found["forget"], **others, **chance[group]},
            "klom": {"kl": kl[chosen["forget"]].mean(), "models": fewest},
            "forgetting": {"score": forgetting_score(epsilon[chosen["forget"]], fewest), "models": fewest},
        }

    def by_audit(run: int) -> Numbers:
        here = np.unique(y["forget"][~np.isnan(of["forget"][0, run])])
        each = {g: numbers(run, g, members) for g, members in classes.items() if np.isin(here, members).any()}
        audits = next(iter(each.values())) if each else {}
        return {audit: {group: as_json(found[audit]) for group, found in each.items()} for audit in audits}

    return [by_audit(run) for run in range(len(unlearned))]


def _over_models(ours: ndarray, theirs: ndarray, forgot: ndarray) -> tuple[ndarray, ndarray]:
    """`klom` and `forgetting_epsilon` of each image over the runs that forgot it, NaN for fewer than LEAST_RUNS."""
    kl, epsilon = np.full((2, forgot.shape[1]), np.nan)
    for image in np.flatnonzero(forgot.sum(0) >= LEAST_RUNS):
        both = ours[forgot[:, image], image], theirs[forgot[:, image], image]
        kl[image], epsilon[image] = klom(*both), forgetting_epsilon(*both)
    return kl, epsilon


def plan_shadows(
    base: Sequence[Record], out: Path, methods: Sequence[str] | None, runs: int, root: Path | None = None
) -> Plan:
    """The shadow runs of a setting, those of the lowest seed's images."""
    setting = setting_of_record(base[0])
    data, _ = load_setting(setting, root, said=True)
    settings = shadow_settings(setting, data.train.y.cpu().numpy(), np.array(base[0]["forget_counts"]), runs)
    chosen = configurations(base, methods)
    cells = shadow_cells(base, settings, chosen)
    todo = [cell for cell in cells if not (out / f"{cell.key}.json").exists()]
    return Plan(cells, todo, sum(map(seconds_of(base), todo)), chosen)


def shadows_to_markdown(frame: DataFrame) -> str:
    """A row a method and group of the records of shadow runs: means over runs, of U-LiRA with 95 % intervals."""
    lines = []
    for method in in_order(frame.loc[frame["ulira_auc"].notna(), "method"].unique()):
        for group in GROUPS:
            runs = frame[frame["method"] == method].dropna(subset=_column("ulira_auc", group))
            if len(runs) > 1:
                told = [interval(runs[_column(f"ulira_{name}", group)].tolist()) for name in ("auc", "tpr")]
                others = ("ulira_unseen", "ulira_retained", "klom_kl", "klom_models", "forgetting_score")
                low, high = (runs[_column(f"ulira_chance_{end}", group)].mean() for end in ("low", "high"))
                means = [f"{runs[_column(name, group)].mean():.3g}" for name in others]
                texts = [f"{x['mean']:.3f} [{x['low']:.3f}, {x['high']:.3f}]" for x in told]
                lines.append([method, group, len(runs), texts[0], f"{low:.3f} to {high:.3f}", texts[1], *means])
    head = ["method", "images", "runs", "U-LiRA AUC", "by chance", f"TPR at {AT:.0%} FPR", "AUC unseen", "AUC retained"]
    return markdown([*head, "KLOM", "models", "forgetting score"], lines)


def _column(name: str, group: str) -> str:
    return name if group == "all" else f"{name}_{group}"
