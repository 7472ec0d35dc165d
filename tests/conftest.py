"""A small data set with a train-test gap that trains in a second, shared by the tests of the loop and the methods."""

import ast
import json
import multiprocessing
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

from falw.config import Config
from falw.files import load_tensors
from falw.images import Dataset, Images
from falw.lab.records import commit
from falw.methods import METHODS
from falw.models import create
from falw.split import long_tailed_split
from falw.train import train_original

# The same examples at every run; `make fuzz` takes ten times as many and draws them anew.
FIXED = {"deadline": None, "database": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("fixed", derandomize=True, **FIXED)
hypothesis.settings.register_profile("fuzz", derandomize=False, max_examples=1000, print_blob=True, **FIXED)
hypothesis.settings.load_profile("fixed")


def blobs(classes=6, train=30, test=20, size=8, noise=0.35, seed=0) -> Dataset:
    """Noisy copies of one random 8x8 image a class."""
    g = torch.Generator().manual_seed(seed)
    prototypes = torch.rand(classes, 3, size, size, generator=g)

    def images(n):
        y = torch.arange(classes).repeat_interleave(n)
        x = prototypes[y] + noise * torch.randn(len(y), 3, size, size, generator=g)
        return Images((x.clamp(0, 1) * 255).byte(), y)

    names = tuple(f"class {c}" for c in range(classes))
    return Dataset("blobs", images(train), images(test), names, (0.5,) * 3, (0.3,) * 3, 0.2)


@pytest.fixture(scope="session")
def data() -> Dataset:
    return blobs()


@pytest.fixture(scope="session")
def split(data):
    return long_tailed_split(data.train.y, 0.3, 0.5, val=0.2)


@pytest.fixture(scope="session")
def config() -> Config:
    return Config(epochs=3, lr=0.02, batch_size=32, crop=1, seed=0)


@pytest.fixture(scope="session")
def _original(data, split):
    recipe = Config(epochs=8, lr=0.1, batch_size=32, schedule="one-cycle", crop=1)
    return train_original(create("tiny", data.num_classes, data.mean, data.std), data, split, recipe)


@pytest.fixture
def original(_original):
    """The Original; every test that gets it must leave it as it was."""
    before = {k: v.clone() for k, v in _original.state_dict().items()}
    yield _original
    assert all(torch.equal(v, before[k]) for k, v in _original.state_dict().items())
    assert not _original.training


def content(folder):
    """What the files of a folder of records say, the time aside; every name in it, so that nothing may be left over."""
    found = {}
    for path in folder.iterdir():
        if path.suffix == ".json":
            record = json.loads(path.read_text())
            found[path.name] = {k: v for k, v in record.items() if k not in ("seconds", "date", "checksum")}
        elif path.suffix == ".npz":
            found[path.name] = {k: v.tobytes() for k, v in np.load(path).items()}
        elif path.suffix == ".pt":
            found[path.name] = {k: v.numpy().tobytes() for k, v in load_tensors(path)["weights"].items()}
        else:
            found[path.name] = None
    return found


# Every method, and of the variants those that go another way through the loop: the others exchange what some row has.
ROWS = [*METHODS, "rl-sequential", "salun-leak", "falw-rolling"]


# A row of each kind of part that a step may have, and of state that a checkpoint has to bring back: draws of an epoch,
# an extra class, a penalty, steps that alternate, a mask of either sort, statistics of each schedule, one weight for
# all that is measured once an epoch, another optimiser.
KINDS = ["retrain", "rl", "be", "l1-sparse", "sfron", "salun-leak", "falw", "falw-beta", "falw-epoch", "falw-rolling"]
KINDS += ["rl+lotus-scalar", "bad-teacher"]


# A clean process that has everything imported forks each process that a test wants to kill, or to fail.
forks = multiprocessing.get_context("forkserver")
PRELOADED = ["falw.lab.run", "falw.__main__", "torch._dynamo", "sklearn.svm", "tqdm.auto", "hypothesis"]
forks.set_forkserver_preload(PRELOADED)


def started(function, *args):
    process = forks.Process(target=function, args=args, daemon=True)  # it ends with the tests, should it hang
    process.start()
    return process


def answer(function, *args):
    """What a function, called in a process of its own, sends to the end of a pipe that is its last argument."""
    ours, theirs = forks.Pipe()
    process = started(function, *args, theirs)
    theirs.close()  # the only other end is then that of the process: if it dies, there is an EOFError
    found = ours.recv()
    process.join()
    return found


FAULTS, MATRIX = (Path(__file__).resolve().parent / name for name in ("FAULTS.md", "MATRIX.md"))


def pytest_addoption(parser):
    parser.addoption("--faults", action="store_true", help="run the tests of faults and, if all pass, write FAULTS.md")
    parser.addoption("--matrix", help="write how this run ended into MATRIX.md, as the row of that name")


def pytest_collection_modifyitems(config, items):
    if config.getoption("faults"):
        items[:] = [item for item in items if item.get_closest_marker("fault")]


def pytest_sessionfinish(session, exitstatus):
    if session.config.getoption("faults") and exitstatus == 0:
        FAULTS.write_text(fault_table())


def fault_table():
    """FAULTS.md, from the marks as the files have them: a test can check it, whichever tests were asked for."""
    rows = {}
    for path in sorted(FAULTS.parent.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                tried, outcome = map(ast.literal_eval, node.args)
                rows[f"| {tried} | {outcome} | `{path.stem}` |\n"] = None
    title = "# What goes wrong, and what happens then\n\nWritten by `make faults`, which runs the tests of these.\n\n"
    return "".join([title, "| tried | outcome | where |\n| :-- | :-- | :-- |\n", *rows])


# MATRIX.md: every run of make test-matrix writes its own row, whatever came out.

PACKAGES = ["torch", "numpy", "scipy", "scikit-learn", "pillow", "joblib", "filelock", "tqdm"]
PACKAGES += ["matplotlib", "ipywidgets", "ray"]


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    if not (name := config.getoption("matrix")) or exitstatus not in (0, 1):  # all passed, some failed
        return
    ended = [f"{len(terminalreporter.stats.get(kind, ()))} {kind}" for kind in ("passed", "failed", "error", "skipped")]
    ended = ", ".join(count for count in ended if not count.startswith("0 "))
    row = [name, platform.python_version(), *map(version, PACKAGES), ended, date.today().isoformat(), str(commit())]
    text, _, table = MATRIX.read_text().partition("\n| ")
    rows = {line.split()[1]: line for line in table.splitlines() if line.startswith("| py")}
    rows[name] = f"| {' | '.join(row)} |"
    head = [f"| {' | '.join(['run', 'Python', *PACKAGES, 'tests', 'on', 'commit'])} |", "| :-- " * len(row) + "|"]
    MATRIX.write_text("\n".join([text, *head, *(rows[name] for name in sorted(rows)), ""]))
