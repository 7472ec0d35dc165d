"""What FAULTS.md says is what the tests say."""

from conftest import FAULTS, fault_table


def test_the_table_of_faults_is_the_one_that_the_tests_write():
    assert FAULTS.read_text() == fault_table(), "run make faults"
    assert fault_table().count("\n") > 50
