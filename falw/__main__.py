"""The command line, `python -m falw`: run, curve, bench, table, report, tune, audit, methods, datasets."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pandas import DataFrame


class Parser(argparse.ArgumentParser):
    """One line for a wrong argument, not the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"falw: {message} (see {self.prog} --help)\n")


ADOPT = """let `run` and `bench` use the values chosen: they go into the file that FALW_TUNED names, else into
falw-tuned.json beside the folder of --out, and are read from there for every folder beside it; they are those of a data
set and network, so values for another gamma need a file of their own in FALW_TUNED"""


AUDITS = "iam, rmia, lira, ulira, relearning, features"


def _path(text: str) -> Path:
    """A path, its ~ expanded: a shell leaves that of --out=~/runs as it is."""
    return Path(os.path.expanduser(text))


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    main = Parser(prog="python -m falw", description="Machine unlearning with long-tailed forget sets.")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    run = commands.add_parser("run", help="run methods on a setting and print the table")
    run.set_defaults(act=_run)
    run.add_argument("--lr", type=float, help="learning rate of the unlearning methods")

    curve = commands.add_parser("curve", help="run methods at several rates and compare them at the Retrains' FA")
    curve.set_defaults(act=_curve)
    curve.add_argument("--rates", type=int, default=4, help="of each method: two coarse ones, then towards that FA (4)")
    curve.add_argument("--retrains", type=int, default=4, help="Retrains of each setting and seed (4)")
    curve.add_argument("--lr", metavar="LIST", help="rates to begin with in place of two coarse ones: 0.01,0.04")

    for command in (run, curve):
        command.add_argument("--seeds", default="1", help="3 for seeds 0, 1, 2; or the seeds themselves: 4,5,6")
        command.add_argument("--data-seed", default="0", help="seed of the data set (0), or `same` as that of each run")
        command.add_argument("--epochs", type=int, help="epochs of the unlearning methods")
        command.add_argument("--original-epochs", type=int, help="epochs of Original and Retrain")
        command.add_argument("--coefficient", type=float, help="a method's own number, of those that have one")
        command.add_argument("--forget", type=_path, metavar="FILE", help="images to forget: paths or indices, by line")
        command.add_argument("--forget-classes", metavar="NAMES", help="classes to forget, joined by commas")

    tune = commands.add_parser("tune", help="choose each method's learning rate by a fair search")
    tune.set_defaults(act=_tune)
    tune.add_argument("--seed", type=int, help="of split, training and data; not to be reported (100)")
    tune.add_argument("--seeds", default="1", help="the mean over several: 3 for 100, 101, 102; or a list: 4,5,6")
    tune.add_argument("--adopt", action="store_true", help=ADOPT)

    for command in (run, curve, tune):
        command.add_argument("--dataset", default="textures", help="a name from `python -m falw datasets`")
        command.add_argument("--model", default="tiny", help="tiny, resnet18 or vgg16")
        command.add_argument("--ratio", type=float, help="share of the training images to forget (0.3)")
        command.add_argument("--gamma", type=float, help="exponent of the power law of the forget set (0.5)")
        command.add_argument(
            "--histogram", metavar="COUNTS", help="counts of the classes, in place of gamma: 565,358,275"
        )
        command.add_argument("--cap", help="what full classes cannot give: spill (the default) or water-filling")
        command.add_argument("--split-mismatch", action="store_true", help="the Original saw another seed's split")
        command.add_argument("--methods", default="all", help="all, or names joined by commas")
        command.add_argument("--size", type=int, help="pixels: resize images to SIZE x SIZE")
        command.add_argument("--classes", type=int, help="keep the first CLASSES classes")
        command.add_argument("--per-class", type=int, help="keep PER_CLASS training images of each class")
        command.add_argument("--background", help="seen through transparent parts of images: black or white")

    bench = commands.add_parser("bench", help="run a table or figure of the paper and print it beside the paper's")
    bench.set_defaults(act=_bench)
    bench.add_argument("grid", metavar="GRID", help="table1 to table8, figure2, figure5 or figure7")
    bench.add_argument("--seeds", default="3", help="3 for seeds 0, 1, 2; or the seeds themselves: 4,5,6")
    bench.add_argument("--dry-run", action="store_true", help="only say what would run, and about how long")

    report = commands.add_parser("report", help="print the paper's tables and figures from a folder of records")
    report.set_defaults(act=_report)
    report.add_argument("out", type=_path, metavar="FOLDER")
    report.add_argument("--grid", help="one of them, even if records are missing; else all that are complete")
    scales = "quick (generated images; the default), local (files on disk) or full"
    bench.add_argument("--scale", default="quick", help=scales)
    report.add_argument("--scale", help=f"of --grid: {scales}")

    audit = commands.add_parser("audit", help="say of records whether the forgotten can be told from the never seen")
    audit.set_defaults(act=_audit)
    audit.add_argument("out", type=_path, metavar="FOLDER")
    audit.add_argument("--audits", default="iam,rmia,lira", help=f"all, or of: {AUDITS}; the last three train models")
    audit.add_argument("--methods", help="of those that train: names joined by commas, for all that have records")
    audit.add_argument("--gamma", type=float, help="of those that train: records of one exponent alone")
    audit.add_argument("--runs", type=int, default=32, help="shadow runs of ulira (32)")
    audit.add_argument("--dry-run", action="store_true", help="only say how many trainings, and about how long")

    for command in (run, curve, tune, bench):
        command.add_argument(
            "--out", required=True, type=_path, help="folder of the records; what is there is not rerun"
        )
    for command in (run, curve, tune, bench, audit):
        command.add_argument("--device", default="auto", help="auto, cpu or cuda")
        command.add_argument("--deterministic", action="store_true", help="a GPU: the same bits every time, slower")
        command.add_argument("--root", type=_path, help="folder of the data sets on disk")
        command.add_argument("--jobs", type=int, help="worker processes (a CPU: one a core; a GPU: 1)")
        command.add_argument("--engine", default="inprocess", help="inprocess, or ray for several machines")
        command.add_argument("--ray-address", metavar="HOST:PORT", help="a cluster that runs (else: this machine)")
        command.add_argument("--gpus-per-cell", type=float, help="with --engine ray: 0.25 for four cells on a GPU")

    table = commands.add_parser("table", help="print the table of a folder of records")
    table.set_defaults(act=_table)
    table.add_argument("out", type=_path, metavar="FOLDER")
    for command in (run, bench):
        command.add_argument("--retrains", type=int, default=2, help="Retrains a setting (2); of 3 each has a floor")
    for command in (run, table):
        command.add_argument("--scores", default="paper", help="paper (the default), distribution, audits or all")
        command.add_argument("--format", default="md", help="md, csv or json")

    commands.add_parser("methods", help="list the methods").set_defaults(act=_methods)
    commands.add_parser("datasets", help="list the data sets").set_defaults(act=_datasets)
    return main


def _run(args: argparse.Namespace) -> None:
    from falw.lab import run as runs
    from falw.lab.records import audits_of, frame, read_distances, stored_records

    form = _shown(args)
    how = _how(args, "epochs", "lr", "coefficient")
    records = runs.run(_settings(args), args.methods, args.out, retrains=args.retrains, **how)
    rows = frame(records, read_distances(args.out), audits_of(stored_records(args.out), args.out))
    print(form(rows))
    _say_gate(rows)


def _say_gate(rows: DataFrame) -> None:
    """A line for each set that is not known by heart."""
    from falw.lab.gate import below_gate

    for line in below_gate(rows):
        _say(line)


def _curve(args: argparse.Namespace) -> None:
    from falw.lab import curves
    from falw.lab.records import frame, read_distances

    first = None if args.lr is None else _rates(args.lr)
    beside = {"rates": args.rates, "retrains": args.retrains, "first_rates": first}
    how = _how(args, "epochs", "coefficient")
    records = curves.curve(_settings(args), args.methods, args.out, **beside, **how)
    rows = frame(records, read_distances(args.out))
    print(curves.equal_fa_to_markdown(rows))
    _say_gate(rows)


def _settings(args: argparse.Namespace) -> list:
    """The settings of the seeds asked for."""
    from falw.data import find_source
    from falw.folders import draws_test_set
    from falw.lab.cells import Setting

    seeds = _seeds(args.seeds)
    of_data = seeds if args.data_seed == "same" else [_data_seed(args.data_seed)] * len(seeds)
    of_all = args.per_class is None and not find_source(args.dataset).generated
    if any(of_data) and of_all and not draws_test_set(args.dataset, args.root):
        raise ValueError(
            f"data seed {args.data_seed} changes nothing: all images of '{args.dataset}' are taken; leave it out"
        )
    asked = _asked(args)
    return [Setting(seed=s, data_seed=d, **_setting(args), **asked) for s, d in zip(seeds, of_data)]


def _how(args: argparse.Namespace, *changes: str) -> dict:
    """Where and how to run, and what of the methods' configuration is given."""
    given = {name: getattr(args, name) for name in changes if getattr(args, name) is not None}
    return {"original_epochs": args.original_epochs, **_where(args, [args.dataset]), **given}


def _rates(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part]
    except ValueError:
        raise ValueError(f"rates '{text}' are no list like 0.01,0.04") from None


def _where(args: argparse.Namespace, datasets: Iterable[str]) -> dict:
    """Where and how to run cells of these data sets."""
    from falw.config import whole_number
    from falw.data import find_source
    from falw.lab.ray import find_engine

    if args.jobs is not None:
        whole_number("jobs", args.jobs, 1)
    if args.root is not None and not any(find_source(name).under_root for name in datasets):
        raise ValueError(f"root '{args.root}' changes nothing: {', '.join(datasets)} lies in no folder; leave it out")
    engine = find_engine(args.engine, args.ray_address, args.gpus_per_cell)
    where = {"root": args.root, "device": args.device, "jobs": args.jobs, "deterministic": args.deterministic}
    return {**where, "engine": engine, "progress": True}


def _asked(args: argparse.Namespace) -> dict:
    """The images or classes that are to be forgotten, where somebody lists them; then no power law draws any."""
    from falw.lab.requests import read_list

    given = [name for name in ("forget", "forget_classes") if getattr(args, name) is not None]
    for name in ("ratio", "gamma", "histogram", "cap", *given[1:]) if given else ():
        if getattr(args, name) is not None:
            first, other = (f"--{option.replace('_', '-')}" for option in (given[0], name))
            raise ValueError(f"{first} and {other} both say what to forget: give one of them")
    if "forget" in given:
        return {"forget": read_list(args.forget, args.dataset, args.root)}
    if not given:
        return {}
    return {"forget_classes": dict.fromkeys(name.strip() for name in args.forget_classes.split(",") if name.strip())}


def _setting(args: argparse.Namespace) -> dict:
    names = (
        "dataset",
        "model",
        "ratio",
        "gamma",
        "size",
        "classes",
        "per_class",
        "cap",
        "split_mismatch",
        "background",
    )
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    if args.histogram is None:
        return given
    if args.gamma is not None:
        raise ValueError("--histogram and --gamma both say how the counts fall: give one of them")
    return {**given, "histogram": _counts(args.histogram)}


def _counts(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError:
        raise ValueError(f"histogram '{text}' is no list of counts like 565,358,275") from None


def _tune(args: argparse.Namespace) -> None:
    from falw.lab import cells as lab_cells
    from falw.lab import search as lab_search

    if "," in args.seeds and args.seed is not None:
        raise ValueError(f"seed {args.seed} and seeds '{args.seeds}' both say on what to tune: give one of them")
    first = 100 if args.seed is None else args.seed
    seeds = [seed + first * ("," not in args.seeds) for seed in _seeds(args.seeds)]
    setting = lab_cells.Setting(**_setting(args))
    search = lab_search.tune(setting, args.methods, args.out, seeds=seeds, **_where(args, [args.dataset]))
    lab_search.write_search(search, args.out / "search.json")
    if args.adopt:
        lab_search.adopt(search, args.out)
    print(lab_search.choices_to_markdown(search))


def _bench(args: argparse.Namespace) -> None:
    from falw.lab import grids
    from falw.lab import run as runs
    from falw.lab.engines import default_jobs, find_device
    from falw.lab.records import frame

    cells = grids.cells(args.grid, args.scale, _seeds(args.seeds), args.out, args.retrains)
    where = _where(args, {cell.setting.dataset for cell in cells})
    if args.dry_run:
        device = find_device(args.device)
        todo = [cell for cell in cells if not (args.out / f"{cell.key}.json").exists()]
        cost = grids.estimate(todo, device)
        jobs = args.jobs or default_jobs(device)
        print(f"{len(cells)} cells, {len(cells) - len(todo)} of them done")
        for method in dict.fromkeys(cell.method for cell in todo):
            print(f"{sum(cell.method == method for cell in todo):5} {method}")
        print(f"{cost['images']:.3g} images in training, about {cost['seconds'] / jobs / 60:.3g} minutes on {device}")
        return
    rows = frame(runs.run_cells(cells, args.out, **where))
    print(grids.report(args.grid, args.scale, rows))
    _say_gate(rows)


def _report(args: argparse.Namespace) -> None:
    from falw.lab import grids
    from falw.lab.records import records as read

    if args.scale is not None and args.grid is None:
        raise ValueError(f"scale '{args.scale}' is of one table or figure: name it with --grid")
    records = read(args.out)
    shown = [(args.grid, args.scale or "quick")] if args.grid is not None else grids.complete(records)
    if not shown:
        raise ValueError(f"'{args.out}' has no complete table or figure; name one: --grid table2 --scale quick")
    for name, scale in shown:
        print(f"# {name}, {scale}\n\n{grids.report(name, scale, records)}\n")


MOST_RUNS = 1000


def _seeds(text: str) -> list[int]:
    try:
        given = [int(part) for part in text.split(",") if part]
    except ValueError:
        given = []
    if not given or min(given) < 0 or ("," not in text and given == [0]):
        raise ValueError(f"seeds '{text}' is neither a number from 1 up nor a list like 4,5,6")
    if "," not in text:
        if given[0] > MOST_RUNS:
            raise ValueError(f"seeds '{text}' are too many: give at most {MOST_RUNS}, or a list, {text}, for that seed")
        return list(range(given[0]))
    twice = [seed for seed in given if given.count(seed) > 1]
    if twice:
        raise ValueError(f"seeds '{text}' name {twice[0]} more than once: give each once")
    return given


def _data_seed(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"data seed '{text}' is neither a number from 0 up nor `same`")
    return int(text)


def _shown(args: argparse.Namespace) -> Callable[[DataFrame], str]:
    """How a frame is printed: which scores, in which format."""
    from falw.lab.tables import FORMATS, SCORES, table

    for given, known, what in ((args.format, FORMATS, "format"), (args.scores, SCORES, "scores")):
        if given not in known:
            raise ValueError(f"unknown {what} '{given}'; choose one of: {', '.join(known)}")
    return lambda rows: FORMATS[args.format](table(rows, args.scores))


def _table(args: argparse.Namespace) -> None:
    from falw.lab.records import records

    form = _shown(args)
    print(form(records(args.out)))


def _methods(args: argparse.Namespace) -> None:
    from falw.methods import ALIASES, METHODS, VARIANTS

    for name, method in METHODS.items():
        also = "".join(f" (also {alias})" for alias, of in ALIASES.items() if of == name)
        print(f"{name:16} {method.summary}{also}")
    print("\nvariants, one part exchanged, not in `all`:")
    for name, method in VARIANTS.items():
        print(f"{name:16} {method.summary}")


def _datasets(args: argparse.Namespace) -> None:
    from falw.data import DATASETS

    for name, row in DATASETS.items():
        print(f"{name:14} {row.summary}")


def _audit(args: argparse.Namespace) -> None:
    from falw.config import whole_number
    from falw.lab import audits, revisits, shadows
    from falw.lab.records import read_records, records
    from falw.lab.run import run_cells
    from falw.lab.tables import scores_to_markdown, table

    whole_number("runs", args.runs, 1)
    asked, stored = _audits_of(args.audits), read_records(args.out)
    from_stored = [name for name in asked if name in audits.FROM_STORED]
    bases = [base for base in shadows.bases(stored) if args.gamma in (None, base[0]["setting"].get("gamma"))]
    if not bases:
        raise ValueError(f"no records of gamma {args.gamma:g} in '{args.out}': leave --gamma out, or run them first")
    where = _where(args, [base[0]["setting"]["dataset"] for base in bases])
    methods = None if args.methods is None else [name.strip() for name in args.methods.split(",")]
    again, plans = args.out / "revisited", []
    for base in bases:
        if "ulira" in asked:
            folder = shadows.shadow_folder(base[0], args.out)
            plans.append(("ulira", base, folder, shadows.plan_shadows(base, folder, methods, args.runs, args.root)))
        if {"relearning", "features"} & {*asked}:
            plans.append(("relearning and features", base, again, revisits.plan_revisits(base, again, methods)))
    for name, _, folder, plan in plans:
        done = len(plan.cells) - len(plan.todo)
        rates = ", ".join(f"{row} at {_span(r['config']['lr'] for r in same)}" for row, same in plan.chosen.items())
        _say(f"{name} of {rates}, where FA is nearest to the Retrains'")
        _say(f"{name}: {len(plan.todo)} trainings in '{folder}', {done} done; about {plan.seconds:.0f} s of one core")
    if args.dry_run:
        return
    if from_stored:
        audits.audit_stored(stored, args.out, from_stored)
    for name, base, folder, plan in plans:
        if name == "ulira":
            run_cells(plan.cells, folder, **where)
            shadows.judge_shadows(plan.cells, folder, args.root)
            print(shadows.shadows_to_markdown(records(folder)), end="\n\n")
        else:
            given = {key: where[key] for key in ("root", "device", "jobs", "engine")}
            revisits.run_revisits(plan.todo, folder, **given)
            revisits.judge_revisits(base, plan.cells, folder)
    print(scores_to_markdown(table(records(args.out), "audits")))


def _span(values: Iterable[float]) -> str:
    """The smallest and the largest of some numbers, or the one that they are."""
    ends = sorted(set(values))
    return " to ".join(f"{v:.3g}" for v in dict.fromkeys((ends[0], ends[-1])))


def _audits_of(text: str) -> list[str]:
    names = AUDITS.split(", ") if text == "all" else [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in AUDITS.split(", ")]:
        raise ValueError(f"unknown audit '{unknown[0]}'; choose of: {AUDITS}, or all")
    return names


def _say(message: Warning | str, *where: object) -> None:
    from tqdm import tqdm

    tqdm.write(f"falw: {message}", file=sys.stderr)  # on a line of its own, above the bar


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command: 0 done, 1 failed on the way, 2 asked for something that is not there. Errors take one line."""
    try:
        args = parser().parse_args(argv)
        with warnings.catch_warnings():
            warnings.showwarning = _say
            args.act(args)
    except (ValueError, FileNotFoundError) as error:
        print(f"falw: {error}", file=sys.stderr)
        return 2
    except (OSError, FloatingPointError) as error:
        print(f"falw: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("falw: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
