"""Folders that cannot be written, disks that are full: one line that says so, and nothing half-written."""

import contextlib
import ctypes
import functools
import io
import re
import resource

import pytest
from conftest import answer, content

from falw.__main__ import main

RUN = ["run", "--classes", "4", "--per-class", "12", "--size", "8", "--device", "cpu", "--jobs", "1"]
RUN += ["--methods", "rl", "--original-epochs", "6", "--epochs", "6"]


def obey_modes():
    """Take from root what lets it do as it likes, so that the mode of a folder stops it as it stops others."""
    version_3, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(version_3, none) == 0


def limit_files(size):
    """Let no file grow beyond so many bytes: a write then fails half-way, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def command(before, args, end):
    """The command line in this process; its status and what it says are sent to the other end of a pipe."""
    said = io.StringIO()
    before()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main([str(arg) for arg in args])
    end.send((status, said.getvalue()))


def falw(*args, before=int):
    """The status of a command and the lines that it says, but for the bar's and that images are not known by heart."""
    status, said = answer(command, before, args)
    lines = [line.rsplit("\r", 1)[-1].strip() for line in said.split("\n")]
    return status, [line for line in lines if line and "gone" not in line and "below 99.5" not in line]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder that nothing was in the way of, which no test may change."""
    folder = tmp_path_factory.mktemp("whole")
    assert falw(*RUN, "--out", folder) == (0, [])
    return folder


@pytest.mark.fault(
    "the disk is full when a file is written", "one line, status 1; what is there is whole, the run goes on"
)
@pytest.mark.parametrize(
    "kind, epochs, room", [(".checkpoint", 6, 0.3), (".pt", 4, 0.9), (".npz", 4, 0.001), (".json", 4, 0.9)]
)
def test_a_full_disk_is_said_in_one_line_and_the_run_goes_on_when_there_is_room(kind, epochs, room, whole, tmp_path):
    sizes = {suffix: max(p.stat().st_size for p in whole.glob(f"*{suffix}")) for suffix in (".pt", ".npz", ".json")}
    limit = int(room * sizes.get(kind, 2 * sizes[".pt"]))  # a checkpoint has the momentum too
    out = tmp_path / "out"
    run = [*RUN, "--original-epochs", epochs, "--epochs", epochs, "--out", out]
    status, lines = falw(*run, before=functools.partial(limit_files, limit))
    assert status == 1 and len(lines) == 1
    again = "the same command goes on when it can be written"
    assert re.fullmatch(rf"falw: \[Errno 27\] File too large; {again}: '{out}/\S+'", lines[0])
    left = content(out)
    assert falw(*run) == (0, [])
    after = content(out)
    assert {name: after[name] for name in left} == left  # each of them was whole, and no other was there
    assert epochs == 4 or after == content(whole)


@pytest.mark.fault("the output folder, or the one that it would be made in, is read-only", "one line, status 1")
def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    for out in (folder, folder / "new"):
        status, lines = falw(*RUN, "--out", out, before=obey_modes)
        assert status == 1 and len(lines) == 1
        assert re.fullmatch(rf"falw: \[Errno 13\] Permission denied: '{folder}.*", lines[0])
        assert list(folder.iterdir()) == []


@pytest.mark.fault("a folder of records is read-only and complete", "read as ever")
def test_a_complete_folder_need_not_be_writable(whole):
    before = content(whole)
    whole.chmod(0o555)
    try:
        for args in ([*RUN, "--out", whole], ["table", whole]):
            assert falw(*args, before=obey_modes) == (0, [])
    finally:
        whole.chmod(0o755)
    assert content(whole) == before


@pytest.mark.fault("a folder of records cannot be read", "one line, status 1")
def test_a_folder_that_cannot_be_read_is_said_in_one_line(tmp_path):
    out = tmp_path / "out"
    out.mkdir(mode=0o000)
    status, lines = falw("table", out, before=obey_modes)
    assert status == 1 and len(lines) == 1 and "Permission denied" in lines[0]
