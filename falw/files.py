"""Files that are there whole or not at all, and that are known to hold what was written."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock


def write_whole(path: Path, write: Callable[[Any], Any]) -> None:
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
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    content = buffer.getbuffer()
    checksum = hashlib.sha256(content).hexdigest().encode()
    write_whole(path, lambda f: (f.write(checksum), f.write(content)))


def load_tensors(path: Path) -> Any:
    """What `save_tensors` wrote, on the CPU, or None where there is no file or it is damaged.

    A damaged one is set aside with a warning: what it held can be computed again. No code in a file is run.
    """
    import torch

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        if hashlib.sha256(content[64:]).hexdigest().encode() != content[:64]:
            raise ValueError("wrong checksum")
        return torch.load(io.BytesIO(content[64:]), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever is wrong with it, it can be made again
        set_aside(path, str(error).splitlines()[0])
        return None


def set_aside(path: Path, reason: str) -> None:
    """Rename a file that cannot be used, with a warning: it may still tell what went wrong."""
    aside = path.with_suffix(".unreadable")
    warnings.warn(f"{path.name} cannot be used ({reason}); set aside as {aside.name}", stacklevel=4)
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        os.replace(path, aside)


@contextlib.contextmanager
def alone(path: Path, wait: bool = True) -> Iterator[None]:
    """While no other process makes the file at `path`. Raises filelock.Timeout if one does and we do not wait.

    The system holds the lock and frees it if its holder dies. What such a holder left half-written is removed. The
    lock's own file is removed last: whoever locks after that looks for the file first, as everyone does.
    """
    lock = path.with_name(f".{path.name}.lock")
    with FileLock(lock, blocking=wait):
        for stale in path.parent.glob(f".{path.stem}.*.part"):
            stale.unlink(missing_ok=True)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the hidden files of processes that died between a file of the folder and the end of their work on it."""
    done = {path.stem for path in folder.iterdir() if path.suffix in (".json", ".pt") and not path.name.startswith(".")}
    for hidden in folder.glob(".*"):
        if hidden.suffix in (".lock", ".checkpoint", ".part") and hidden.name[1:].partition(".")[0] in done:
            hidden.unlink(missing_ok=True)
