"""What holds for pytest and for nbval, whoever calls them."""

import os

# For the processes of pytest-xdist, the kernels of nbval and whatever a test starts: two run side by side on two cores,
# and a number that a notebook stored is compared with one computed the same way. Set before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["LOKY_MAX_CPU_COUNT"] = "1"  # no worker processes unless a test asks for some: each imports torch anew
# glibc keeps the memory of freed arrays: a step of training would otherwise get its pages from the system, and zeroed.
os.environ |= {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**29)}
os.environ["FALW_TUNED"] = ""  # rates that a reader adopted are not those of the book

# Files and chapters that take longest begin first, as each stays with one process: begun last, one would run on alone.
# The first chapter trains what others ask for, too: were they beside it from the start, they would wait for its files.
LONG = ["13-a-target", "test_window", "test_engines", "test_faults", "one-rate", "01-what-is-forgetting"]
LONG += ["09-plug-and-play", "10-your-own-data", "07-falw-line-by-line", "11-auditing", "verdict"]
LONG += [f"test_{name}" for name in ("widgets", "disk", "cli", "methods", "networks", "properties", "determinism")]
LONG += ["05-z-score-weight", "04-observed-deviations", "03-one-formula", "08-benchmarks", "12-why"]


def pytest_collection_modifyitems(items):
    """Order files; give a cell of nbval more time than five seconds between two messages of its kernel."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = 300
