"""`OnCluster` runs cells as tasks of a Ray cluster: lost workers and machines, files sent back."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falw.files import load_tensors, lock, write_atomic
from falw.lab.engines import IN_PROCESS, Each, InProcess, check_device

if TYPE_CHECKING:
    import torch

TRIES = 4  # how often a cell is begun on a cluster: it is lost with its worker or its machine


@dataclass(frozen=True)
class OnCluster:
    """Cells on the machines of a Ray cluster, or in workers of Ray on this machine if there is no address.

    gpus_per_cell: the share of a GPU that a cell gets, 1/4 for four cells at a time on each; None is a whole one where
    the cluster has GPUs and they are wanted. Files come back to this machine.
    """

    address: str | None = None
    gpus_per_cell: float | None = None

    def device_of_data(self, device: str) -> torch.device:
        """The CPU: this machine, which only checks the data, need not have a GPU. Raises ValueError for no device."""
        import torch

        check_device(device)
        return torch.device("cpu")

    @contextlib.contextmanager
    def start(self, work: Callable[..., Any], out: Path, device: str, jobs: int | None) -> Iterator[Each]:
        """A function that runs cells and yields their records; tasks that are left at the end are cancelled."""
        # Ray reports lost workers on the standard output, which is for results.
        with connected(self.address) as resources, contextlib.redirect_stdout(sys.stderr):
            import ray

            kind = {"auto": "cuda" if resources.get("GPU") else "cpu"}.get(device, device)
            share = float(kind == "cuda") if self.gpus_per_cell is None else self.gpus_per_cell
            count = slots(resources, share)
            task = functools.partial(_task(share).remote, functools.partial(work, device=kind))
            running: dict[Any, Any] = {}  # the result to come -> its cell
            try:
                yield functools.partial(_each, task, running, min(count, jobs or count), out)
            finally:
                for result in running:
                    ray.cancel(result, force=True)


def _task(share: float) -> Any:
    """A cell as a task, which Ray begins again if it loses its worker or its machine."""
    import ray

    # CUDA keeps a process on the GPU that it used first, and Ray may give it another for its next cell: where a machine
    # has several, a process runs one cell and ends, as is Ray's default for all tasks that use a GPU.
    several = any(node["Resources"].get("GPU", 0) > 1 for node in ray.nodes())
    as_task = ray.remote(
        num_cpus=1,
        num_gpus=share,
        max_calls=int(share > 0 and several),
        max_retries=TRIES - 1,
        retry_exceptions=False,
    )
    return as_task(run_in_folder)


def _each(task: Any, running: dict, limit: int, out: Path, cells: Sequence[Any]) -> Iterator[tuple[Any, dict]]:
    """The cells with their records as they finish, begun in their order, at most `limit` at a time.

    No more wait in Ray's queue, as a later cell may find the Original in `out` that an earlier one made. Raises what a
    cell raises, and at the end ChildProcessError if one was lost TRIES times.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    queue, lost = deque(cells), []
    originals: dict[str, Any] = {}
    while queue or running:
        while queue and len(running) < limit:
            cell = queue.popleft()
            path = out / original_file(cell)
            if cell.parent not in originals and load_tensors(path) is not None:  # a damaged one is not sent around
                originals[cell.parent] = ray.put(path.read_bytes())
            running[task(cell, originals.get(cell.parent))] = cell
        result = ray.wait(list(running))[0][0]
        cell = running.pop(result)
        try:
            files = ray.get(result)
        except RayTaskError as error:
            raise error.cause from None
        except RayError:
            lost.append(cell.key)
            continue
        for name in sorted(files, key=lambda name: name.endswith(".json")):  # last: with it the cell is done
            with lock(out / name):
                write_atomic(out / name, lambda f, content=files[name]: f.write(content))
        yield cell, json.loads(files[f"{cell.key}.json"])
    if lost:
        names = ", ".join(lost)
        raise ChildProcessError(f"{names}: worker lost {TRIES} times (too little memory?); all other cells are done")


def original_file(cell: Any) -> str:
    """The name of the file of the Original that a cell starts from."""
    return f"original-{cell.parent}.pt"


def run_in_folder(work: Callable[..., Any], cell: Any, original: bytes | None) -> dict[str, bytes]:
    """The files that a cell leaves, by name: its Original's is given, or among them if the cell had to make it."""
    for folder in Path(tempfile.gettempdir()).glob("falw-cell-*-*"):  # a worker that was killed leaves its own
        if Path("/proc").exists() and not Path("/proc", folder.name.split("-")[2]).exists():
            shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"falw-cell-{os.getpid()}-") as name:
        start = Path(name, original_file(cell))
        if original is not None:
            start.write_bytes(original)
        work(cell, out=start.parent)
        left = [p for p in start.parent.iterdir() if p.stem == cell.key or (p == start and original is None)]
        return {path.name: path.read_bytes() for path in left}


Engine = InProcess | OnCluster


def find_engine(name: str = "inprocess", address: str | None = None, gpus_per_cell: float | None = None) -> Engine:
    """The engine of a name; raises ValueError naming the choice, and for what only a cluster has."""
    if name not in ("inprocess", "ray"):
        raise ValueError(f"unknown engine '{name}'; choose one of: inprocess, ray")
    if gpus_per_cell is not None and not (0 <= gpus_per_cell <= 1 or (gpus_per_cell > 1 and gpus_per_cell % 1 == 0)):
        raise ValueError(f"{gpus_per_cell:g} GPUs a cell: give 0, a share like 0.25, or a whole number")
    if name == "ray":
        return OnCluster(address, gpus_per_cell)
    if address is not None or gpus_per_cell is not None:
        raise ValueError("an address and GPUs a cell are for a cluster: add --engine ray")
    return IN_PROCESS


# The cluster


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[dict[str, float]]:
    """The resources of the cluster at an address; of one on this machine, made for the purpose, if there is none.

    Raises ValueError if Ray is not installed and ConnectionError if nothing answers at the address.
    """
    try:
        import ray
    except ImportError:
        raise ValueError("engine 'ray' needs Ray, which is not installed: pip install 'falw[ray]'") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody asked for it to be sent
    os.environ.setdefault("RAY_task_oom_retries", str(TRIES - 1))  # without end where memory is short, if not set
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    connects = not ray.is_initialized()
    if connects:
        try:
            if address is not None:
                _require_listener(address)
            ray.init("local", include_dashboard=False, **quiet) if address is None else ray.init(address, **quiet)
        except Exception as error:  # Ray raises many kinds, and a bare one where a node takes too long to start
            where = "on this machine" if address is None else f"at '{address}'"
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConnectionError(f"no Ray cluster {where}: {reason}") from None
    try:
        yield ray.cluster_resources()
    finally:
        if connects:
            ray.shutdown()


def _require_listener(address: str) -> None:
    """Raise OSError if nothing listens at the address; Ray would try again for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.rpartition("/")[2], int(port)), timeout=10).close()


def slots(resources: dict[str, float], gpus_per_cell: float = 0.0) -> int:
    """How many cells run at a time: one a CPU, or as many as have their share of a GPU. Raises ValueError for none."""
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    count = int(min(cpus, gpus / gpus_per_cell + 1e-9) if gpus_per_cell else cpus)
    if count < 1:
        raise ValueError(f"a cluster of {cpus:g} CPUs and {gpus:g} GPUs has no slot of {gpus_per_cell:g} GPUs")
    return count
