"""How much two workers gain over one on 16 equal cells: joblib's processes, and actors on a Ray cluster of two nodes.

Run by hand: python benchmarks/engines.py [repeats] [epochs]. All are timed in turns, with workers and
data warm, from the first cell sent to the last record written; a ratio is one worker's seconds over those of two.
"""

from __future__ import annotations

import contextlib
import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common import CPU, store

from falw.lab.cells import Cell, Setting, cells_of
from falw.lab.engines import IN_PROCESS
from falw.lab.ray import Engine, OnCluster
from falw.lab.run import run_cell

SMALL = {"size": 16, "classes": 10, "per_class": 60}


def sixteen(epochs: int) -> list[Cell]:
    """One method, 16 seeds: as much work in each."""
    settings = [Setting("textures", seed=seed, **SMALL) for seed in range(16)]
    return [cells_of(setting, ["rl"], epochs, epochs=epochs)[-1] for setting in settings]


def seconds_of_cells(engine: Engine, jobs: int, cells: list[Cell]) -> float:
    """From the first cell sent to the last record written, after a cell for every worker to warm up on."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        with engine.start(functools.partial(run_cell, root=None), out, "cpu", jobs) as each:
            list(each([cells_of(Setting("textures", seed=100 + k, **SMALL), ["rl"], 1)[-1] for k in range(jobs)]))
            start = time.perf_counter()
            assert len(list(each(cells))) == len(cells)
            return time.perf_counter() - start


@contextlib.contextmanager
def two_nodes() -> Iterator[str]:
    """The address of a cluster of two nodes on this machine, one CPU each."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    cluster.wait_for_nodes()
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def main(repeats: int = 1, epochs: int = 5) -> None:
    """Measure, print, store."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cells = sixteen(epochs)
    with two_nodes() as address:
        engines = {"in-process": IN_PROCESS, "ray, two nodes": OnCluster(address)}
        runs = [
            {(name, jobs): seconds_of_cells(engine, jobs, cells) for name, engine in engines.items() for jobs in (1, 2)}
            for _ in range(repeats)
        ]
    rows = [
        {
            "what": f"16 equal cells, {name}",
            "1 worker, s": statistics.median(run[name, 1] for run in runs),
            "2 workers, s": statistics.median(run[name, 2] for run in runs),
            "1 / 2": statistics.median(run[name, 1] / run[name, 2] for run in runs),
        }
        for name in engines
    ]
    store("engines", rows, CPU)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
