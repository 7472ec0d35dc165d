"""The same numbers again: whatever the order, the company, the threads and the engine. (With Ray: test_engines.)"""

import os

import pytest
import torch
from conftest import answer, content

from falw.lab.cells import Setting, cells_of
from falw.lab.run import run_cells
from falw.train import make_deterministic

SETTING = Setting("textures", size=8, classes=4, per_class=12, gamma=1.0)
METHODS = ["falw", "sfron", "iu", "bs", "l1-sparse"]


def run(folder, methods=METHODS, threads=1, jobs=1):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        run_cells(cells_of(SETTING, methods, 2, epochs=2), folder, device="cpu", jobs=jobs)
    finally:
        torch.set_num_threads(before)
    return content(folder)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return run(tmp_path_factory.mktemp("first"))


ALIKE = {
    "two threads, methods in another order": {"threads": 2, "methods": METHODS[::-1]},
    "two worker processes": {"jobs": 2},
    "some of the methods": {"methods": ["bs", "falw"]},
}


@pytest.mark.fault(
    "a run is repeated with other threads, workers, company or order", "the same files, seconds and date aside"
)
@pytest.mark.parametrize("how", ALIKE.values(), ids=ALIKE)
def test_a_cell_comes_out_the_same(how, first, tmp_path):
    found = run(tmp_path, **how)
    expected = {name: first[name] for name in found}
    expected["distances.json"] = {key: first["distances.json"][key] for key in found["distances.json"]}
    assert found == expected and len(found) >= 2 * 4 + 1
    assert len(found) == len(first) or "methods" in how


def ask(end):
    make_deterministic()
    end.send((torch.are_deterministic_algorithms_enabled(), os.environ["CUBLAS_WORKSPACE_CONFIG"]))


def test_deterministic_algorithms_are_asked_for():
    assert answer(ask) == (True, ":4096:8")
    assert not torch.are_deterministic_algorithms_enabled()
