"""Engines run cells: `InProcess` on this machine, one process a core; for a Ray cluster see `ray`.

Files and numbers are the same with every engine. An engine is given `work(cell, out=folder, device=device)`, which
leaves files named after the cell's `key` and the `parent` it starts from; with `wait=False` it gives None where another
process is computing the cell. An engine knows no more of cells than these.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


Each = Callable[[Sequence[Any]], Iterator[tuple[Any, dict]]]  # cells -> cells with their records, as they finish


DEVICES = ("auto", "cpu", "cuda")


def find_device(name: str = "auto") -> torch.device:
    """The device of a name; "auto" is the GPU if there is one. Raises ValueError for a GPU that is not there."""
    import torch

    check_device(name)
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: PyTorch sees no GPU here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def check_device(name: str) -> None:
    """Raise ValueError for a name of no device, which no machine has."""
    if name not in DEVICES:
        raise ValueError(f"unknown device '{name}'; choose one of: {', '.join(DEVICES)}")


def default_jobs(device: torch.device) -> int:
    """How many worker processes: on a CPU one a core that this process may use (`joblib.cpu_count`), on a GPU one."""
    import joblib

    return joblib.cpu_count() if device.type == "cpu" else 1


class InProcess:
    """Cells in this process, or in joblib's worker processes on this machine."""

    device_of_data = staticmethod(find_device)

    @contextlib.contextmanager
    def start(self, work: Callable[..., Any], out: Path, device: str, jobs: int | None) -> Iterator[Each]:
        """A function that runs cells and yields their records."""
        torch_device = find_device(device)
        jobs = jobs or default_jobs(torch_device)
        yield functools.partial(self._each, functools.partial(work, out=out, device=torch_device), jobs)

    def _each(self, work: Callable[..., Any], jobs: int, cells: Sequence[Any]) -> Iterator[tuple[Any, dict]]:
        """First what no other process is computing, then the rest, which others may have finished by then."""
        others = []
        for cell, record in _in_order(functools.partial(work, wait=False), jobs, cells):
            if record is None:
                others.append(cell)
            else:
                yield cell, record
        yield from _in_order(work, jobs, others)


def _in_order(work: Callable[..., Any], jobs: int, cells: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    if jobs == 1 or len(cells) <= 1:
        yield from ((cell, work(cell)) for cell in cells)
        return
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    # joblib replaces a worker whose memory has grown, as PyTorch's caches do, and says so; no cell is lost by it.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs", module="joblib")
    pool = Parallel(n_jobs=jobs, return_as="generator_unordered")
    try:
        yield from pool(delayed(_with_cell)(work, cell) for cell in cells)
    except TerminatedWorkerError:
        raise ChildProcessError(
            "a worker process was killed (too little memory?); the same command goes on from here, with fewer --jobs"
        ) from None


def _with_cell(work: Callable[..., Any], cell: Any) -> tuple[Any, Any]:
    return cell, work(cell)


IN_PROCESS = InProcess()
