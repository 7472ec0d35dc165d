"""What the measurements share: interleaved repeats, ratios within one run, and a record of what came out."""
# ruff: noqa: T201

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from falw.files import write_atomic
from falw.lab.engines import find_device
from falw.lab.records import conditions

RESULTS = Path(__file__).resolve().parent.parent / "results" / "bench"


CPU = torch.device("cpu")


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock seconds of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def interleaved(runs: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each run, `repeats` times in turns, so that a slow minute of the machine meets all of them.

    Each is called once before, to warm up.
    """
    for run in runs.values():
        run()
    rounds = [{name: seconds(run, device) for name, run in runs.items()} for _ in range(repeats)]
    return {name: [r[name] for r in rounds] for name in runs}


def ratio(times: Mapping[str, list[float]], of: str, to: str) -> float:
    """Median over the rounds of the seconds of one over those of another."""
    return statistics.median(a / b for a, b in zip(times[of], times[to], strict=True))


def store(name: str, rows: list[dict[str, Any]], device: torch.device) -> None:
    """Print the rows as they are, and write them with their conditions to results/bench/, a file a device."""
    for row in rows:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    RESULTS.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "system": platform.system()}
    record = {"benchmark": name, **conditions(device), **machine, "rows": rows}
    text = json.dumps(record, indent=1) + "\n"
    write_atomic(RESULTS / f"{name}-{device.type}.json", lambda f: f.write(text.encode()))


def device() -> torch.device:
    """The GPU if there is one; on a CPU one thread, as a cell runs."""
    found = find_device()
    if found.type == "cpu":
        torch.set_num_threads(1)
    return found
