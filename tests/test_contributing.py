"""What FAULTS.md, MATRIX.md and mutation.md say is what the tests say, or says of which commit it was."""

import ast
import re

import pytest
from conftest import FAULTS, MATRIX, fault_table

ROOT = FAULTS.parent.parent
MUTATION = FAULTS.with_name("mutation.md")


def test_the_table_of_faults_is_the_one_that_the_tests_write():
    assert FAULTS.read_text() == fault_table(), "run make faults"
    assert fault_table().count("\n") > 50


@pytest.mark.parametrize("report", [MATRIX, MUTATION], ids=lambda path: path.stem)
def test_a_report_names_the_commit_that_it_is_of_and_files_that_exist(report):
    text = report.read_text()
    stamped = [line for line in text.splitlines() if line.startswith(("| py", "Written by"))]
    assert stamped and all(re.search(r"\b[0-9a-f]{7,12}\b", line) for line in stamped)
    named = re.findall(r"`([\w/]+\.(?:py|toml|md))`", text)
    assert named and [name for name in named if not (ROOT / name).exists()] == []


def test_what_no_test_notices_is_excused_where_the_code_still_says_it():
    tree = ast.parse((ROOT / "tools" / "mutation.py").read_text())
    (reasons,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "REASONS")
    starts = [start for group in ast.literal_eval(reasons).values() for start in group]
    for where, change in (start.split(": ", 1) for start in starts):
        module, *_, function = where.split(".")
        code = " ".join((ROOT / "falw" / f"{module}.py").read_text().split())
        assert f"def {function}(" in code and change.split(" →")[0] in code, f"{where}: {change}"
