"""What is said of dependencies: the licence of each, and the lowest versions that the tests ran with."""

import re

import pytest
from conftest import MATRIX

ROOT = MATRIX.parent.parent
ASKED = (ROOT / "pyproject.toml").read_text().split("\ndependencies = ")[1].split("\n[project.scripts]")[0]
FLOORS = dict(re.findall(r'"([\w-]+)>=([\d.]+)', ASKED))


def plain(name):
    return name.lower().replace("_", "-")


def test_every_dependency_has_a_lowest_version():
    assert {"torch", "numpy", "ray", "pytest"} <= set(FLOORS)
    assert set(re.findall(r'"([\w-]+)', ASKED)) - {"falw"} == set(FLOORS)


def test_every_dependency_has_a_licence():
    listed = {plain(row.split()[1]) for row in (ROOT / "LICENCES.md").read_text().splitlines() if row.startswith("| ")}
    assert {plain(name) for name in FLOORS} <= listed, "run make licences"


def test_the_lowest_versions_are_those_that_ran_and_nothing_failed(request):
    if request.config.getoption("matrix"):
        pytest.skip("this run is to write the row")
    head, _, *rows = [line for line in MATRIX.read_text().splitlines() if line.startswith("|")]
    assert not [row for row in rows if "failed" in row or "error" in row]
    lowest = next(row for row in rows if row.startswith("| py311-lowest "))
    ran = {name.strip(): version.strip() for name, version in zip(head.split("|"), lowest.split("|"))}
    assert {"torch", "numpy", "ray"} <= ran.keys()
    for name in ran.keys() & FLOORS:
        assert f"{ran[name]}.".startswith(f"{FLOORS[name]}."), f"{name}: run make test-matrix"
