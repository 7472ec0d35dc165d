"""What CONTRIBUTING.md says of faults is what the tests say."""

import os
import subprocess
import sys

from conftest import CONTRIBUTING, END, START

PRINT = """
import sys, pytest
class Print:
    def pytest_collection_finish(self, session):
        sys.stderr.write(session.config.faults)
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "tests", "--ignore=tests/rendered"], [Print()]))
"""


def test_the_table_of_faults_is_the_one_that_the_tests_write():
    # In a process of its own, since a worker of pytest-xdist is told which tests to run.
    run = subprocess.run(
        [sys.executable, "-c", PRINT],
        cwd=CONTRIBUTING.parent,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
    )
    assert run.returncode == 0, run.stdout[-2000:]
    table = CONTRIBUTING.read_text().split(START)[1].split(END)[0]
    assert table.count("\n") > 15 and table in run.stderr, "run make faults"
