"""Records as they are on disk, for tests of what the chapters say of them: no function that a page calls."""

import functools
import json
from pathlib import Path

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
