"""`OnCluster` runs cells on a Ray cluster: warm workers, lost workers and machines, files sent back."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import tempfile
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falw.files import load_tensors, lock, write_atomic

if TYPE_CHECKING:
    import torch  # an actor that only waits for its first cell does without

from falw.lab.engines import DEVICES, IN_PROCESS, Each, InProcess

Files = dict[str, bytes]  # what a cell leaves behind, by name


PATIENCE = 60  # seconds without any slot before a word is said


TRIES = 4  # how often a cell is begun on a cluster: it is lost with its worker or its machine


@dataclass(frozen=True)
class OnCluster:
    """Cells on the machines of a Ray cluster, or in workers of Ray on this machine if there is no address.

    gpus_per_cell: the share of a GPU that a cell gets, 1/4 for four cells at a time on each; None is a whole one where
    the cluster has GPUs and they are wanted. Files come back to this machine.
    """

    address: str | None = None
    gpus_per_cell: float | None = None

    def place(self, device: str) -> torch.device:
        """Where this machine, which need not have a GPU, keeps the data that it checks."""
        import torch

        if device not in DEVICES:
            raise ValueError(f"unknown device '{device}'; choose one of: {', '.join(DEVICES)}")
        return torch.device("cpu")

    @contextlib.contextmanager
    def start(self, work: Callable[..., Any], out: Path, device: str, jobs: int | None) -> Iterator[Each]:
        """A function that runs cells and yields their records."""
        with connected(self.address) as resources:
            wanted = {"auto": "cuda" if resources.get("GPU") else "cpu"}.get(device, device)
            share = float(wanted == "cuda") if self.gpus_per_cell is None else self.gpus_per_cell
            with contextlib.closing(Pool(functools.partial(work, device=wanted), share, jobs)) as pool:
                yield functools.partial(self._each, pool, out)

    def _each(self, pool: Pool, out: Path, cells: Sequence[Any]) -> Iterator[tuple[Any, dict]]:
        for cell, files in pool.each(cells, out):
            for name in sorted(files, key=lambda name: name.endswith(".json")):  # last: with it the cell is done
                with lock(out / name):
                    write_atomic(out / name, lambda f, content=files[name]: f.write(content))
            yield cell, json.loads(files[f"{cell.key}.json"])


Engine = InProcess | OnCluster


def find_engine(name: str = "inprocess", address: str | None = None, gpus_per_cell: float | None = None) -> Engine:
    """The engine of a name; raises ValueError naming the choice, and for what only a cluster has."""
    if name not in ("inprocess", "ray"):
        raise ValueError(f"unknown engine '{name}'; choose one of: inprocess, ray")
    if gpus_per_cell is not None and not gpus_per_cell >= 0:
        raise ValueError(f"{gpus_per_cell:g} GPUs a cell: give 0, a share like 0.25, or a whole number")
    if name == "ray":
        return OnCluster(address, gpus_per_cell)
    if address is not None or gpus_per_cell is not None:
        raise ValueError("an address and GPUs a cell are for a cluster: add --engine ray")
    return IN_PROCESS


# Ray


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
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    ours = not ray.is_initialized()
    if ours:
        try:
            if address is not None:
                _knock(address)
            ray.init("local", include_dashboard=False, **quiet) if address is None else ray.init(address, **quiet)
        except Exception as error:  # Ray raises many kinds, and a bare one where a node takes too long to start
            where = "on this machine" if address is None else f"at '{address}'"
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConnectionError(f"no Ray cluster {where}: {reason}") from None
    try:
        yield ray.cluster_resources()
    finally:
        if ours:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError if nothing listens there; Ray would try again for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.rpartition("/")[2], int(port)), timeout=10).close()


def slots(resources: dict[str, float], gpus_per_cell: float = 0.0) -> int:
    """How many cells run at a time: one a CPU, or as many as have their share of a GPU. Raises ValueError for none."""
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    found = int(min(cpus, gpus / gpus_per_cell + 1e-9) if gpus_per_cell else cpus)
    if found < 1:
        raise ValueError(f"a cluster of {cpus:g} CPUs and {gpus:g} GPUs has no slot of {gpus_per_cell:g} GPUs")
    return found


class Slot:
    """An actor: runs one cell at a time, in a folder that is gone when the cell is."""

    def __init__(self, work: Callable[..., Any]):
        for left in Path(tempfile.gettempdir()).glob("falw-slot-*-*"):  # by an actor that was killed
            if not Path("/proc", left.name.split("-")[2]).exists() and Path("/proc").exists():
                shutil.rmtree(left, ignore_errors=True)
        self.work = work

    def ready(self) -> None:
        """Answers once the actor runs, or runs again."""

    def run(self, cell: Any, parent: list) -> Files:
        """What the cell leaves. `parent` holds a reference to the file it starts from, or nothing if it makes it."""
        import ray

        with tempfile.TemporaryDirectory(prefix=f"falw-slot-{os.getpid()}-") as name:
            folder = Path(name)
            start = folder / parent_file(cell)
            if parent:
                start.write_bytes(ray.get(parent[0]))
            self.work(cell, out=folder)
            left = [path for path in folder.iterdir() if path.stem == cell.key or (path == start and not parent)]
            return {path.name: path.read_bytes() for path in left}


def parent_file(cell: Any) -> str:
    """The file of the Original that a cell starts from."""
    return f"original-{cell.parent}.pt"


class Pool:
    """The slots of the connected cluster, at most `most` of them, each running `work(cell, out=folder)`."""

    def __init__(self, work: Callable[..., Any], gpus_per_cell: float = 0.0, most: int | None = None):
        import ray

        count = slots(ray.cluster_resources(), gpus_per_cell)
        actor = ray.remote(num_cpus=1, num_gpus=gpus_per_cell, max_restarts=-1)(Slot)
        self.actors: list[Any] = [actor.remote(work) for _ in range(min(count, most or count))]
        self.parents: dict[str, Any] = {}

    def each(self, cells: Sequence[Any], folder: Path) -> Iterator[tuple[Any, Files]]:
        """The cells with their files as they finish, begun in their order; parents are read from `folder`.

        A cell whose worker or machine is lost is begun again in another slot, before all others, and the lost slot
        comes back when there is room for it. Raises what `work` raises, and at the end ChildProcessError if a cell was
        lost TRIES times.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        queue, tries = deque(cells), Counter[str]()
        free: list[Any] = []
        lost: list[Any] = []
        # What every slot is at: a cell, or coming up. A call is never repeated by Ray, as it would wait for its slot.
        busy = {self._ready(actor): (actor, None) for actor in self.actors}
        while queue or any(cell for _, cell in busy.values()):
            while queue and free:
                actor, cell = free.pop(), queue.popleft()
                tries[cell.key] += 1
                busy[actor.run.remote(cell, self._parent(cell, folder))] = actor, cell
            ready, _ = ray.wait(list(busy), timeout=None if any(c for _, c in busy.values()) else PATIENCE)
            if not ready:
                warnings.warn(f"no slot has come up for {PATIENCE} s; waiting for a machine to join", stacklevel=2)
                continue
            done = ready[0]
            actor, cell = busy.pop(done)
            try:
                files = ray.get(done)
            except RayTaskError as error:
                raise error.cause from None
            except RayError as error:
                if cell is None:
                    raise ChildProcessError(f"a slot does not come up: {str(error).splitlines()[-1]}") from None
                busy[self._ready(actor)] = actor, None
                (queue.appendleft if tries[cell.key] < TRIES else lost.append)(cell)
                continue
            free.append(actor)
            if cell is not None:
                yield cell, files
        if lost:
            names = ", ".join(cell.key for cell in lost)
            raise ChildProcessError(
                f"{names}: worker lost {TRIES} times (too little memory?); all other cells are done"
            )

    def _ready(self, actor: Any) -> Any:
        return actor.ready.options(max_task_retries=-1).remote()

    def _parent(self, cell: Any, folder: Path) -> list:
        path = folder / parent_file(cell)
        if cell.parent not in self.parents and load_tensors(path) is not None:  # a damaged one is not sent around
            import ray

            self.parents[cell.parent] = ray.put(path.read_bytes())
        return [self.parents[cell.parent]] if cell.parent in self.parents else []

    def close(self) -> None:
        """End the actors, whatever they are at."""
        import ray

        for actor in self.actors:
            ray.kill(actor)
