"""Records as they are on disk, for tests of what the chapters say of them: no function that a page calls."""

import functools
import json
from itertools import groupby, pairwise
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def stored(data_set):
    """(method, gamma, seed): record, of one data set under spill."""
    records = [json.loads(path.read_text()) for path in sorted((ROOT / "results" / "cpu" / data_set).glob("*.json"))]
    found = {}
    for record in records:
        setting = record["setting"]
        if setting["cap"] == "spill":
            again = record["method"] == "retrain" and record["config"]["seed"] != setting["seed"]
            name = "noise floor" if again else record["method"]
            found[name, setting["gamma"], setting["seed"]] = record
    return found


def is_retrain(record):
    return record["method"] == "retrain"


def fa_of(record):
    return record["scores"]["fa"]


@functools.cache
def curves(folder):
    """(gamma, seed): records of several rates a method, in the order of their rates."""
    found = {}
    for path in sorted((ROOT / "results" / folder).glob("*.json")):
        record = json.loads(path.read_text())
        if "scores" in record and record["method"] != "original":
            setting = record["setting"]
            found.setdefault((setting["gamma"], setting["seed"]), []).append(record)
    if folder.startswith("gpu"):  # rates lie far apart there, and only those of all seeds err alike
        every = [{rate_of(r) for r in records} for records in found.values()]
        found = {p: [r for r in records if all(rate_of(r) in seed for seed in every)] for p, records in found.items()}
    return {place: sorted(records, key=turned) for place, records in found.items()}


def turned(record):
    """What decides how much a method forgets: its rate, or the coefficient of SSD, which has none."""
    return record["config"]["coefficient" if record["method"] == "ssd" else "lr"]


def rate_of(record):
    """A method and its rate."""
    return record["method"], turned(record)


def at_retrains_fa(folder, value):
    """(method, gamma, seed): a value of records less its mean over Retrains, where FA is that of the Retrains."""
    found = {}
    for place, records in curves(folder).items():
        retrains = [r for r in records if is_retrain(r)]
        aim = fmean(map(fa_of, retrains))
        runs = sorted((r for r in records if not is_retrain(r)), key=lambda r: r["method"])
        for method, same in groupby(runs, key=lambda r: r["method"]):
            around = [(a, b) for a, b in pairwise(same) if (fa_of(a) - aim) * (fa_of(b) - aim) <= 0]
            if around:
                a, b = min(around, key=lambda pair: abs(fa_of(pair[0]) - fa_of(pair[1])))
                share = (aim - fa_of(a)) / (fa_of(b) - fa_of(a))
                at = value(a) + share * (value(b) - value(a))
                found[(method, *place)] = at - fmean(map(value, retrains))
    return found
