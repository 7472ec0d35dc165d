"""Compute some of the stored records again with today's code, and note whose numbers come out the same to the last bit.

    python tools/recompute.py --root DATA      (the folder that holds cifar10-jpeg and tiny-imagenet-200)

From every folder of results/cpu and every commit that made records there, a few cells are run, other methods each time.
Commits all of whose cells are equal go into falw/lab/same_numbers.json together with the code that this was shown for:
while the code stays, `run` takes their records and Originals as its own and says nothing of other code.
"""

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from joblib import Parallel, delayed

from falw.config import Config
from falw.lab.cells import Cell, Setting
from falw.lab.records import SAME_NUMBERS, code
from falw.lab.run import run_cells

CPU_RECORDS = Path(__file__).parent.parent / "results" / "cpu"
NUMBERS = ("scores", "audit", "forget_groups", "forget_probabilities")


def stored() -> dict[str, list[dict]]:
    """Records that have scores, by the commit that made them."""
    of_commit = defaultdict(list)
    for path in sorted(CPU_RECORDS.glob("*/*.json")):
        record = json.loads(path.read_text())
        if record.get("scores") and "recipe" in record:
            of_commit[record["commit"]].append(record)
    return of_commit


def sample(records: list[dict], tried: Counter, each: int) -> list[dict]:
    """Records of a commit, one each of the methods that have been tried least."""
    of_method = {r["method"]: r for r in sorted(records, key=lambda r: -r["setting"]["seed"])}
    names = sorted(of_method, key=lambda name: tried[name])[:each]
    tried.update(names)
    return [of_method[name] for name in names]


def again(record: dict, out: Path, root: Path) -> bool:
    """Whether the cell of a record gives the same numbers today."""
    parts = Setting(**record["setting"]), record["method"], Config(**record["config"]), Config(**record["recipe"])
    (new,) = run_cells([Cell(*parts)], out, root=root, device="cpu", jobs=1)
    return all(new[name] == record[name] for name in NUMBERS if name in record)


def main() -> None:
    """Run the samples and write the file."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--root", type=Path, required=True)
    given.add_argument("--each", type=int, default=2, help="cells a commit (2)")
    given.add_argument("--jobs", type=int, default=1, help="processes (1)")
    args = given.parse_args()
    tried = Counter()
    samples = {commit: sample(records, tried, args.each) for commit, records in sorted(stored().items())}
    cells = [record for records in samples.values() for record in records]
    with tempfile.TemporaryDirectory() as out:
        same = Parallel(args.jobs, verbose=10)(delayed(again)(record, Path(out), args.root) for record in cells)
    same = {record["key"]: equal for record, equal in zip(cells, same, strict=True)}
    equal = [commit for commit, records in samples.items() if all(same[r["key"]] for r in records)]
    print(f"equal: {sum(same.values())} of {len(same)} cells, {len(equal)} of {len(samples)} commits")
    SAME_NUMBERS.write_text(json.dumps({"code": code(), "commits": equal, "cells": same}, indent=1) + "\n")


if __name__ == "__main__":
    main()
