"""Files that are whole or not there, locks between processes, the checkpoint from which a killed run goes on.

The only store: what it gives back is known to be what was written.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


def write_atomic(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file under a temporary name and rename it, so that it is there whole or not at all.

    Raises OSError naming the file if there is no room or no permission.
    """
    part = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}.part")
    try:
        with open(part, "wb") as f:
            write(f)
        os.replace(part, path)
    except OSError as error:  # the system names no file when a disk is full, and `part` when it may not be made
        raise OSError(
            error.errno, f"{error.strerror}; the same command goes on when it can be written", str(path)
        ) from None
    finally:
        part.unlink(missing_ok=True)


def save_tensors(value: Any, path: Path) -> None:
    """Write tensors, numbers and texts in lists and dicts, with a checksum before them."""
    import torch  # here, as a worker of a cluster that waits for a cell does without

    buffer = io.BytesIO()
    torch.save(value, buffer)
    content = buffer.getbuffer()
    checksum = hashlib.sha256(content).hexdigest().encode()
    write_atomic(path, lambda f: (f.write(checksum), f.write(content)))


def load_tensors(path: Path) -> Any:
    """What `save_tensors` wrote, on the CPU, or None for no file and for a damaged one, which is set aside.

    What it held can be made again. No code in a file is run. Raises OSError for a file that may not be read.
    """
    import torch

    try:
        with open(path, "rb") as f:
            checksum, content = f.read(64), f.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if hashlib.sha256(content).hexdigest().encode() != checksum:
            raise ValueError("wrong checksum")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever is wrong with it, it can be made again
        quarantine(path, first_line(error))
        return None


def first_line(error: Exception) -> str:
    """What an error says, or its kind if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def quarantine(path: Path, reason: str) -> None:
    """Rename a file that cannot be used, with a warning: it may still tell what went wrong."""
    aside = path.with_suffix(".unreadable")
    warnings.warn(f"{path.name} cannot be used ({reason}); set aside as {aside.name}", stacklevel=4)
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        os.replace(path, aside)


@contextlib.contextmanager
def lock(path: Path, wait: bool = True) -> Iterator[None]:
    """While no other process makes the file at `path`. Raises filelock.Timeout if one does and we do not wait.

    The system holds the lock and frees it if its holder dies. What such a holder left half-written is removed. The
    lock's own file is removed last: whoever locks after that looks for the file first, as everyone does.
    """
    held = path.with_name(f".{path.name}.lock")
    with FileLock(held, blocking=wait):
        for stale in path.parent.glob(f".{path.stem}.*.part"):
            stale.unlink(missing_ok=True)
        try:
            yield
        finally:
            held.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the hidden files of processes that died between a file of the folder and the end of their work on it.

    Those of a file that another process holds the lock of at this moment stay, and those that may not be opened.
    """
    done = {path.stem for path in folder.iterdir() if path.suffix in (".json", ".pt") and not path.name.startswith(".")}
    left: dict[str, list[Path]] = {}
    for hidden in folder.glob(".*"):
        stem = hidden.name[1:].partition(".")[0]
        if hidden.suffix in (".lock", ".checkpoint", ".part") and stem in done:
            left.setdefault(stem, []).append(hidden)
    for files in left.values():
        with contextlib.suppress(Timeout, PermissionError), contextlib.ExitStack() as held:
            for file in files:
                if file.suffix == ".lock":
                    held.enter_context(FileLock(file, blocking=False))
            for file in files:
                file.unlink(missing_ok=True)


class Checkpoint:
    """A file from which a run goes on after it was killed, to the same end: on a CPU, bit for bit.

    It is written every `every` epochs. `of` says what the run is; a file of another run is not used. `seconds` is the
    time that earlier processes put into what was loaded. Whoever asked for it removes it when the result is safe.
    """

    def __init__(self, path: Path, of: str, every: int = 5):
        self.path, self.of, self.every = path, of, every
        self.seconds, self.start = 0.0, time.perf_counter()

    def resume(self, parts: dict[str, Any]) -> int:
        """Give each part the state that was stored; the epoch to go on with, 0 if nothing is stored."""
        stored = load_tensors(self.path)
        if stored is None or stored["of"] != self.of:
            return 0
        for name, part in parts.items():
            part.load_state_dict(stored["parts"][name])
        self.seconds = stored["seconds"]
        return stored["epoch"]

    def keep(self, parts: dict[str, Any], epoch: int) -> None:
        """Store the parts if `epoch` epochs are a multiple of `every`."""
        if epoch % self.every == 0:
            seconds = self.seconds + time.perf_counter() - self.start
            states = {name: part.state_dict() for name, part in parts.items()}
            save_tensors({"of": self.of, "epoch": epoch, "seconds": seconds, "parts": states}, self.path)
