"""What holds for pytest and for nbval, whoever calls them."""

import os

# For the processes of pytest-xdist, the kernels of nbval and whatever a test starts: two run side by side on two cores,
# and a number that a notebook stored is compared with one computed the same way. Set before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["FALW_TUNED"] = ""  # rates that a reader adopted are not those of the book


def pytest_collection_modifyitems(items):
    """Give a cell of nbval more time than five seconds between two messages of its kernel."""
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = 300
