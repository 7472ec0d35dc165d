"""Processes that are killed, and processes that work on one folder: nothing is lost, nothing is done twice."""

import functools
import hashlib
import itertools
import json
import os
import random
import signal
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import KINDS, answer, content, forks, started
from filelock import FileLock
from waiting import wait_until

from falw import files
from falw.config import Config
from falw.files import Checkpoint, lock, remove_leftovers
from falw.lab import records as lab_records
from falw.lab import run as runs
from falw.lab.cells import Setting, cells_of
from falw.lab.run import run_cells
from falw.methods import unlearn
from falw.models import create
from falw.train import train_original

SMALL = {"size": 8, "classes": 4, "per_class": 12}
CELLS = [
    cell
    for seed, gamma in ((0, 0.0), (1, 1.0))
    for cell in cells_of(Setting("textures", gamma=gamma, seed=seed, **SMALL), ["rl", "ga", "salun"], 1, epochs=1)
]
CELLS += [  # long enough for two checkpoints each
    cells_of(Setting("textures", gamma=gamma, **SMALL), [name], 1, epochs=12)[-1]
    for gamma, name in ((0.0, "falw-rolling"), (1.0, "sfron"))
]
HERE = functools.partial(run_cells, device="cpu", jobs=1)


def kill_at(number, cells, folder, end=None):
    """Run cells and die at the call of a function of that number; if there is none, send how many calls there were."""
    calls = itertools.count()

    def at_call(frame, event, arg):
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.settrace(at_call)  # as it gives no tracer for what is inside, it is told of calls alone
    HERE(cells, folder)
    sys.settrace(None)
    if end:
        end.send(next(calls))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted run leaves, and how many functions it calls."""
    folder = tmp_path_factory.mktemp("whole")
    calls = answer(kill_at, None, CELLS, folder)
    return content(folder), calls


# Killed at a random moment


@pytest.mark.fault(
    "a run is killed at 8 random moments",
    "the same command goes on; the files are those of an undisturbed run",
)
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_files(whole, tmp_path):
    expected, calls = whole
    draw, kills, stopped_at = random.Random(0), 0, set()
    folder = tmp_path / "0"
    while kills < 8:
        process = started(kill_at, draw.randrange(calls // 50, calls // 2), CELLS, folder)
        process.join()
        if process.exitcode == -signal.SIGKILL:
            kills += 1
            stopped_at.add(len(list(folder.glob("*.json"))))
        else:  # it came to the end, so from the start once more
            assert content(folder) == expected
            folder = tmp_path / str(kills)
    HERE(CELLS, folder)
    assert content(folder) == expected
    assert len(stopped_at) > 2, "the kills came at different places"


# Killed at a chosen moment


def kill_in_write(at, cells, folder):
    """Die in `write_atomic`, at the file whose name ends in at[0]: with at[1] its bytes written and not renamed."""

    def replace(source, target, replace=os.replace):
        if str(target).endswith(at[0]):
            if at[1] == "half":
                Path(source).write_bytes(Path(source).read_bytes()[:100])
            if at[1] == "after":
                replace(source, target)
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    files.os = type("os", (), {**vars(os), "replace": staticmethod(replace)})
    HERE(cells, folder)


def kill_in(name, cells, folder):
    """Die when bench calls the function of that name."""
    setattr(runs, name, lambda *args, **how: os.kill(os.getpid(), signal.SIGKILL))
    HERE(cells, folder)


MOMENTS = {
    f"{kind}, {when}": functools.partial(kill_in_write, (kind, when))
    for kind in (".checkpoint", ".pt", ".npz", ".json")
    for when in ("half", "after")
} | {f"in {name}": functools.partial(kill_in, name) for name in ("train_original", "score")}


@pytest.mark.fault(
    "a run is killed while it trains, unlearns, predicts, scores, or before, in and after writing a file",
    "what is there is whole; the same command goes on to the same files",
)
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_run_killed_at_this_moment_goes_on_to_the_same_files(moment, whole, tmp_path):
    process = started(moment, CELLS, tmp_path)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    for path in tmp_path.glob("*.json"):  # what is there is whole
        assert json.loads(path.read_text())["key"] == path.stem
    HERE(CELLS, tmp_path)
    assert content(tmp_path) == whole[0]


# Checkpoints

FOUR = Config(epochs=4, lr=0.02, batch_size=32, crop=1)


def bits(model):
    return {k: v.numpy().tobytes() for k, v in model.state_dict().items()}


@pytest.mark.fault(
    "a method is stopped between checkpoints",
    "goes on from the last one to the same bits",
)
@pytest.mark.parametrize("name", KINDS)
def test_a_method_that_is_stopped_goes_on_from_its_checkpoint_to_the_same_bits(name, original, data, split, tmp_path):
    path, ran = tmp_path / ".run.checkpoint", []

    def stop(epoch, model):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unlearn(name, original, data, split, FOUR, stop, Checkpoint(path, "run", every=2))
    goes_on = Checkpoint(path, "run", every=2)
    found = unlearn(name, original, data, split, FOUR, lambda epoch, model: ran.append(epoch), goes_on)
    assert ran == [2, 3] and goes_on.seconds > 0
    assert bits(found) == bits(unlearn(name, original, data, split, FOUR))


def stored(path, data, split, of="run"):
    """A checkpoint after 2 of 3 epochs."""
    model = create("tiny", data.num_classes, data.mean, data.std)
    train_original(model, data, split, replace(FOUR, epochs=3), checkpoint=Checkpoint(path, of, every=2))
    return path


def epochs_run(path, data, split):
    """The epochs that a run goes through, given a checkpoint."""
    ran, model = [], create("tiny", data.num_classes, data.mean, data.std)
    train_original(model, data, split, replace(FOUR, epochs=3), lambda e, m: ran.append(e), Checkpoint(path, "run"))
    return ran


@pytest.mark.fault(
    "a checkpoint of another run lies there",
    "not used",
)
def test_a_checkpoint_of_another_run_is_not_used(data, split, tmp_path):
    assert epochs_run(stored(tmp_path / ".a.checkpoint", data, split), data, split) == [2]
    assert epochs_run(stored(tmp_path / ".b.checkpoint", data, split, "other"), data, split) == [0, 1, 2]
    assert epochs_run(tmp_path / ".none.checkpoint", data, split) == [0, 1, 2]


DAMAGES = {
    "truncated": lambda b: b[: len(b) // 2],
    "a byte altered": lambda b: b[:5000] + bytes([b[5000] ^ 1]) + b[5001:],
    "empty": lambda b: b"",
    "another checksum": lambda b: b"0" * 64 + b[64:],
    "no tensors": lambda b: hashlib.sha256(b"text").hexdigest().encode() + b"text",
}


@pytest.mark.fault(
    "a checkpoint is cut short, empty or altered",
    "set aside with a warning, the run starts afresh",
)
def test_a_damaged_checkpoint_is_set_aside_and_the_run_starts_again(data, split, tmp_path):
    path = stored(tmp_path / ".run.checkpoint", data, split)
    whole, words = path.read_bytes(), r"\.run\.checkpoint cannot be used \(.+\); set aside as \.run\.unreadable"
    for damage in DAMAGES.values():
        path.write_bytes(damage(whole))
        with pytest.warns(UserWarning, match=words):
            assert files.load_tensors(path) is None
    path.write_bytes(DAMAGES["truncated"](whole))
    with pytest.warns(UserWarning, match=words):
        assert epochs_run(path, data, split) == [0, 1, 2]
    assert (tmp_path / ".run.unreadable").exists()


@pytest.mark.fault(
    "a stored Original is cut short, empty or altered",
    "set aside with a warning, trained again",
)
def test_a_damaged_original_is_set_aside_and_trained_again(whole, tmp_path):
    HERE(CELLS[:1], tmp_path)
    (path,) = tmp_path.glob("original-*.pt")
    path.write_bytes(DAMAGES["a byte altered"](path.read_bytes()))  # all others are tried on a checkpoint, above
    with pytest.warns(UserWarning, match=rf"{path.name} cannot be used .* set aside as {path.stem}\.unreadable"):
        HERE(CELLS[:2], tmp_path)
    assert content(tmp_path)[path.name] == whole[0][path.name]


class Evil:
    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.fault(
    "a checkpoint holds a pickle that would run code",
    "set aside with a warning, nothing is run",
)
def test_a_checkpoint_runs_no_code(tmp_path):
    evil, path = Evil(), tmp_path / ".run.checkpoint"
    evil.path = str(tmp_path / "executed")
    files.save_tensors(evil, path)
    with pytest.warns(UserWarning, match="cannot be used"):
        assert files.load_tensors(path) is None
    assert not (tmp_path / "executed").exists()


def test_the_seconds_of_a_record_hold_what_a_killed_process_put_in(tmp_path, monkeypatch):
    cell = CELLS[-1]
    once = HERE([cell], tmp_path / "once")[0]

    def stop(checkpoint, parts, epoch, keep=Checkpoint.keep):
        keep(checkpoint, parts, epoch)
        if epoch == 10:
            raise KeyboardInterrupt

    out = tmp_path / "twice"
    with monkeypatch.context() as m:
        m.setattr(Checkpoint, "keep", stop)
        with pytest.raises(KeyboardInterrupt):
            HERE([cell], out)
    (left,) = out.glob(f".{cell.key}.checkpoint")
    before = files.load_tensors(left)["seconds"]
    again = HERE([cell], out)[0]
    assert again["scores"] == once["scores"] and again["seconds"] > before > 0 and not left.exists()


@pytest.mark.fault(
    "a checkpoint of other code, of another PyTorch or device",
    "not used",
)
def test_a_checkpoint_of_other_code_version_or_device_is_not_used(tmp_path, monkeypatch):
    path = tmp_path / f"{CELLS[-1].key}.json"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")

    def of(place="cpu"):
        with runs._checkpoint(path, torch.device(place), {}) as checkpoint:
            return checkpoint.of

    names = [of(), of("cuda")]
    for module, name, value in ((runs, "code", lambda: "0" * 12), (torch, "__version__", "9.9")):
        with monkeypatch.context() as m:
            m.setattr(module, name, value)
            names.append(of())
    assert len(set(names)) == 4 and of() == names[0]


@pytest.mark.fault(
    "an Original was trained by other code",
    "kept, with a warning",
)
def test_an_original_of_other_code_is_kept_and_said_to_be(tmp_path, monkeypatch):
    HERE(CELLS[:1], tmp_path)
    (path,) = tmp_path.glob("original-*.pt")
    before = path.read_bytes()
    (tmp_path / f"{CELLS[0].key}.json").unlink()  # which would be reported as well
    monkeypatch.setattr(lab_records, "code", lambda: "0" * 12)
    with pytest.warns(UserWarning, match=f"{path.name} comes from other code; remove it to train it again"):
        HERE(CELLS[:2], tmp_path)
    assert path.read_bytes() == before


@pytest.mark.fault(
    "a lock, checkpoint or half-written file of a dead process is left over",
    "removed once its cell is done",
)
def test_what_a_process_left_that_died_after_its_work_is_swept_away(tmp_path):
    HERE(CELLS[:1], tmp_path)
    before, kinds = content(tmp_path), (".checkpoint", ".json.lock", ".json.123.part")
    for kind in kinds:
        (tmp_path / f".{CELLS[0].key}{kind}").write_text("left")
        (tmp_path / f".{'0' * 16}{kind}").write_text("of a cell that is not done")
    HERE(CELLS[:1], tmp_path)
    assert set(content(tmp_path)) - set(before) == {f".{'0' * 16}{kind}" for kind in kinds}


@pytest.mark.fault(
    "another process writes the distances while a run begins in the same folder",
    "what it holds the lock of is left alone",
)
def test_what_a_living_process_writes_is_not_swept_away(tmp_path):
    HERE(CELLS[:1], tmp_path)
    (tmp_path / "distances.json").write_text("{}")
    part = tmp_path / ".distances.json.123.part"
    with lock(tmp_path / "distances.json"):
        part.write_text("half")
        remove_leftovers(tmp_path)
        assert part.exists() and (tmp_path / ".distances.json.lock").exists()
    part.write_text("of a process that died")
    remove_leftovers(tmp_path)
    assert not part.exists()


# Two processes on one folder


def count_and_run(log, barrier, cells, folder):
    """Run cells and append to the log what is computed; go on with the first when the other process is at one too."""
    meet = functools.cache(barrier.wait)

    def counted(cell, *args, compute=runs._compute):
        meet(300)
        record = compute(cell, *args)  # raises Timeout while another process trains the Original
        with open(log, "a") as f:
            f.write(f"{cell.key}\n")
        return record

    runs._compute = counted
    HERE(cells, folder)


@pytest.mark.fault(
    "two processes work on one folder",
    "each cell is computed once, both finish and agree",
)
def test_two_processes_on_one_folder_share_the_cells_and_agree(whole, tmp_path):
    folder, log, barrier = tmp_path / "out", tmp_path / "log", forks.Barrier(2)
    both = [started(count_and_run, log, barrier, CELLS, folder) for _ in range(2)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]  # so they met: both were at a cell at once
    assert Counter(log.read_text().split()) == {cell.key: 1 for cell in CELLS}
    assert content(folder) == whole[0]


def tell_and_run(waits, cells, folder):
    """Run cells and say so before waiting for the lock of one."""

    def say_first(path, wait=True, lock=runs.lock):
        if wait and path.suffix == ".json":
            waits.set()
        return lock(path, wait)

    runs.lock = say_first
    HERE(cells, folder)


@pytest.mark.fault(
    "another process is at a cell",
    "the others come first, then it is waited for",
)
def test_a_cell_that_another_process_is_at_is_waited_for_last(tmp_path):
    cells, lock, waits = CELLS[:4], tmp_path / f".{CELLS[3].key}.json.lock", forks.Event()
    with FileLock(lock):
        process = started(tell_and_run, waits, cells, tmp_path)
        wait_until(waits.is_set)
        assert {path.stem for path in tmp_path.glob("*.json")} == {cell.key for cell in cells[:3]}
    process.join()
    assert process.exitcode == 0 and (tmp_path / f"{cells[3].key}.json").exists() and not lock.exists()


def hold_for_ever(lock, held):
    with FileLock(lock):
        held.set()
        signal.pause()


@pytest.mark.fault(
    "a process died while it held a lock",
    "taken over",
)
def test_the_lock_of_a_process_that_died_is_taken_over(tmp_path):
    lock, held = tmp_path / f".{CELLS[0].key}.json.lock", forks.Event()
    process = started(hold_for_ever, lock, held)
    wait_until(held.is_set)
    process.kill()
    process.join()
    assert lock.exists()
    assert HERE(CELLS[:1], tmp_path)[0]["key"] == CELLS[0].key and not lock.exists()


# Other code


@pytest.mark.fault(
    "records in the folder were made by other code",
    "kept, with a warning that counts and names them",
)
def test_records_of_other_code_are_kept_and_reported(tmp_path, monkeypatch, recwarn):
    first = HERE(CELLS[:3], tmp_path)
    assert {r["code"] for r in first} == {lab_records.code()} and not recwarn
    monkeypatch.setattr(lab_records, "code", lambda: "0" * 12)
    words = r"3 of 3 records that were in .* come from other code \(\S+ at \S+\); they are kept: remove them"
    with pytest.warns(UserWarning, match=words):
        assert HERE(CELLS[:4], tmp_path)[:3] == first


def test_records_from_before_the_code_was_noted_are_reported_too(tmp_path):
    HERE(CELLS[:2], tmp_path)
    path = tmp_path / f"{CELLS[1].key}.json"
    old = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("code", "checksum")}
    path.write_text(json.dumps(old))
    with pytest.warns(UserWarning, match="1 of 2 records"):
        HERE(CELLS[:2], tmp_path)


def test_what_a_commit_with_the_same_numbers_made_is_of_current_code(tmp_path, monkeypatch):
    (record,) = HERE(CELLS[:1], tmp_path)
    weights = files.load_tensors(next(tmp_path.glob("original-*.pt")))
    monkeypatch.setattr(lab_records, "code", lambda: "0" * 12)
    shown = tmp_path / "same_numbers.json"
    monkeypatch.setattr(lab_records, "SAME_NUMBERS", shown)
    for of, commits, current in (("0" * 12, [record["commit"]], True), ("1" * 12, [record["commit"]], False)):
        shown.write_text(json.dumps({"code": of, "commits": commits}))
        lab_records.commits_with_same_numbers.cache_clear()
        assert lab_records.made_by_current_code(record) == lab_records.made_by_current_code(weights) == current
    lab_records.commits_with_same_numbers.cache_clear()


def copy_of_the_package(folder):
    """The deciding modules alone, as other files."""
    package = Path(lab_records.falw.__file__).parent
    for name in lab_records.DECIDING:
        path = folder.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(package.joinpath(*name.split(".")).with_suffix(".py").read_text())
    return folder / "__init__.py"


@pytest.mark.parametrize(
    "old, new, other",
    [
        ("0.2", "0.3", True),  # a number of a schedule
        ("return (1 + math.cos", "return (2 + math.cos", True),
        ("# a warning names what", "# another comment", False),
        ('"""Train a model on everything', '"""Fit a network to everything', False),
        ("import os\n", "import os\nimport cmath\n", False),
    ],
)
def test_the_code_is_what_it_says_and_not_how(old, new, other, tmp_path, monkeypatch):
    monkeypatch.setattr(lab_records.falw, "__file__", str(copy_of_the_package(tmp_path / "falw")))
    assert lab_records.code.__wrapped__() == lab_records.code()
    files = [tmp_path / "falw" / name for name in ("config.py", "train.py")]
    (path,) = (file for file in files if old in file.read_text())
    path.write_text(path.read_text().replace(old, new))
    assert (lab_records.code.__wrapped__() != lab_records.code()) == other


def test_every_module_that_numbers_come_from_is_part_of_the_code():
    """A new module of the core decides unless it is named here: the store, and what judges numbers that are stored."""
    core = {name for name in lab_records.falw._HOME if name.partition(".")[0] not in ("lab", "book")}
    assert core - {*lab_records.DECIDING} == {"files", "auditors"}


def test_the_code_is_the_same_where_a_function_has_moved(tmp_path, monkeypatch):
    monkeypatch.setattr(lab_records.falw, "__file__", str(copy_of_the_package(tmp_path / "falw")))
    here, there = tmp_path / "falw" / "train.py", tmp_path / "falw" / "methods.py"
    moved = 'def own_label(batch: Batch) -> Tensor:\n    """The true label as the target."""\n    return batch.y\n'
    assert moved in here.read_text()
    here.write_text(here.read_text().replace(moved, ""))
    there.write_text(f"{there.read_text()}\n\n{moved}")
    assert lab_records.code.__wrapped__() == lab_records.code()
