"""Engines: equal files from each, and nothing lost with a worker, a machine or the process that asked."""

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import content

from falw import bench, engines
from falw.bench import Setting, cells_of, run_cells
from falw.engines import IN_PROCESS, TRIES, InProcess, OnCluster, find_engine, slots

pytestmark = pytest.mark.xdist_group("ray")  # one cluster, so one test process
SMALL = {"size": 8, "classes": 4, "per_class": 12}


def cells(seeds=(0,), methods=("ft", "rl")):
    settings = [Setting("textures", seed=s, **SMALL) for s in seeds]
    return [cell for setting in settings for cell in cells_of(setting, methods, 1, epochs=1)]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Without a cluster


def test_an_engine_by_its_name():
    assert find_engine() is IN_PROCESS and isinstance(IN_PROCESS, InProcess)
    assert find_engine("ray", "auto", 0.25) == OnCluster("auto", 0.25)


@pytest.mark.fault(
    "an engine that does not exist, or options of another",
    "refused in one line with the choice",
)
@pytest.mark.parametrize(
    "given, words",
    [
        (["dask"], "unknown engine 'dask'; choose one of: inprocess, ray"),
        (["inprocess", "auto"], "are for a cluster: add --engine ray"),
        (["inprocess", None, 0.5], "are for a cluster: add --engine ray"),
        (["ray", None, -1.0], "-1 GPUs a cell: give 0, a share like 0.25, or a whole number"),
    ],
)
def test_an_engine_that_does_not_exist_or_fit_is_refused(given, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        find_engine(*given)


@pytest.mark.parametrize(
    "resources, share, count",
    [
        ({"CPU": 2.0}, 0.0, 2),
        ({"CPU": 16.0, "GPU": 2.0}, 0.25, 8),
        ({"CPU": 3.0, "GPU": 2.0}, 0.25, 3),  # a slot needs a CPU as well
        ({"CPU": 16.0, "GPU": 2.0}, 1.0, 2),
        ({"CPU": 16.0, "GPU": 0.3}, 0.1, 3),  # and 0.3 / 0.1 is below 3 in floating point
    ],
)
def test_slots_by_hand(resources, share, count):
    assert slots(resources, share) == count


@pytest.mark.fault("a cluster has no room for a single cell", "one line that says what it has")
def test_a_cluster_without_a_slot_says_what_it_has():
    with pytest.raises(ValueError, match=r"a cluster of 4 CPUs and 0 GPUs has no slot of 0.5 GPUs"):
        slots({"CPU": 4.0}, 0.5)


@pytest.mark.fault("Ray is not installed", "everything else runs; asked for, one line that says what to install")
def test_without_ray_the_package_runs_and_the_engine_says_what_to_install(tmp_path):
    program = f"""
import sys
sys.modules["ray"] = None  # any import of it fails
import falw
from falw.engines import OnCluster
setting = falw.Setting("textures", **{SMALL!r})
print(len(falw.run(setting, "ft", {str(tmp_path)!r}, original_epochs=1, epochs=1, device="cpu", jobs=1)))
try:
    falw.run(setting, "rl", {str(tmp_path)!r}, original_epochs=1, epochs=1, engine=OnCluster())
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["4", "engine 'ray' needs Ray, which is not installed: pip install 'falw[ray]'"]


@pytest.mark.fault(
    "a worker process is killed",
    "one line, status 1; the same command goes on",
)
def test_a_worker_that_is_killed_is_reported_in_one_line_and_the_rest_goes_on_later(tmp_path):
    def work(cell, out, device, wait=True):
        if cell.key == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"key": cell.key}

    todo = [SimpleNamespace(key=key) for key in ("killed", "a", "b")]
    with (
        IN_PROCESS.start(work, tmp_path, "cpu", 2) as each,
        pytest.raises(ChildProcessError, match="a worker process was killed .* with fewer --jobs"),
    ):
        list(each(todo))


# A cluster of two nodes on this machine, each with one CPU and one GPU that is only counted

ray = pytest.importorskip("ray", reason="Ray has no wheel for this system")


@pytest.fixture(scope="module")
def two_nodes():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    made.spare = {k: v for k, v in node.items() if k != "include_dashboard"}
    made.add_node(**made.spare)
    ray.init(made.address, log_to_driver=False, logging_level="ERROR")
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def engine(two_nodes):
    return OnCluster(two_nodes.address)


@pytest.fixture(scope="module")
def in_process(tmp_path_factory):
    """A folder with what 16 cells leave in this process."""
    folder = tmp_path_factory.mktemp("in-process")
    run_cells(SIXTEEN, folder, device="cpu", jobs=1)
    return folder


SIXTEEN = cells(seeds=(0, 1), methods=("ft", "rl", "salun", "ga", "rl+falw"))


def results(work, keys, folder, share=0.0):
    """What a pool yields for fake cells. `work` is defined inside a test, so that it travels by value."""
    with contextlib.closing(engines.Pool(work, share)) as made:
        yield from made.each(fake(*keys), folder)


def fake(*keys):
    return [SimpleNamespace(key=key, parent="none") for key in keys]


def test_sixteen_cells_leave_the_same_files_as_in_process(engine, in_process, tmp_path):
    assert len(SIXTEEN) == 16
    records = run_cells(SIXTEEN, tmp_path, device="cpu", engine=engine)
    assert [r["key"] for r in records] == [cell.key for cell in SIXTEEN]
    assert content(tmp_path) == content(in_process)
    assert ray.is_initialized()  # a cluster that was there stays


def test_a_second_run_sends_nothing(engine, tmp_path, monkeypatch):
    first = run_cells(cells(), tmp_path, device="cpu", engine=engine)
    monkeypatch.setattr(engines, "Pool", lambda *args: pytest.fail("a pool is made"))
    assert run_cells(cells(), tmp_path, device="cpu", engine=engine) == first


def test_cells_use_both_nodes_and_begin_in_their_order(two_nodes, tmp_path):
    def work(cell, out):
        time.sleep(0.3)
        node = ray.get_runtime_context().get_node_id()
        (out / f"{cell.key}.json").write_text(json.dumps([node, time.time()]))

    found = {c.key: json.loads(f[f"{c.key}.json"]) for c, f in results(work, "abcdefgh", tmp_path)}
    assert len({node for node, _ in found.values()}) == 2
    ended = sorted(found, key=lambda key: found[key][1])
    assert all(abs("abcdefgh".index(key) - place) < 2 for place, key in enumerate(ended))


@pytest.mark.parametrize("share, at_once", [(1.0, 1), (0.25, 4)])
def test_a_share_of_a_gpu_bounds_how_many_cells_are_on_it(two_nodes, tmp_path, share, at_once):
    node = two_nodes.add_node(**{**two_nodes.spare, "num_cpus": 6})
    log = tmp_path / "log"
    log.mkdir()

    def work(cell, out):
        here = ray.get_runtime_context().get_node_id()
        (log / f"{time.time():.4f}-{cell.key}-begin").write_text(here)
        end = time.time() + 30
        while time.time() < end and max(Counter(p.read_text() for p in log.glob("*-begin")).values()) < at_once:
            time.sleep(0.05)
        time.sleep(0.3)  # for one too many to begin
        (log / f"{time.time():.4f}-{cell.key}-end").write_text(here)

    try:
        list(results(work, "abcdefghij", tmp_path, share))
    finally:
        two_nodes.remove_node(node)
    now, most = Counter(), Counter()
    for path in sorted(log.iterdir()):
        where = path.read_text()
        now[where] += 1 if path.name.endswith("begin") else -1
        most[where] = max(most[where], now[where])
    assert max(most.values()) == at_once


@pytest.mark.fault(
    "a worker of a cluster is killed in the middle of a cell",
    "the cell is begun again elsewhere and done once",
)
def test_a_cell_whose_worker_is_killed_ends_done_once(engine, in_process, tmp_path):
    killed = tmp_path / "killed"
    victim = next(cell for cell in SIXTEEN if cell.method == "salun").key

    def work(cell, out, **how):
        if cell.key == victim and not killed.exists():
            killed.write_text("once")
            os.kill(os.getpid(), signal.SIGKILL)
        return bench.run_cell(cell, out, **how)

    out = tmp_path / "out"
    out.mkdir()
    with engine.start(work, out, "cpu", None) as each:
        originals = [c for c in SIXTEEN if c.method == "original"]
        done = [cell.key for wave in (originals, [c for c in SIXTEEN if c not in originals]) for cell, _ in each(wave)]
    assert killed.exists() and sorted(done) == sorted(c.key for c in SIXTEEN)
    assert content(out) == content(in_process)


@pytest.mark.fault("a cell kills every worker that takes it", "given up after some tries, all others are done")
def test_a_cell_that_kills_every_worker_is_given_up_and_the_others_are_done(two_nodes, tmp_path):
    log = tmp_path / "log"

    def work(cell, out):
        with open(log, "a") as f:
            f.write(cell.key)
        if cell.key == "x":
            os.kill(os.getpid(), signal.SIGKILL)

    done = []
    with pytest.raises(ChildProcessError, match=f"x: worker lost {TRIES} times .*; all other cells are done"):
        done.extend(cell.key for cell, _ in results(work, "axbc", tmp_path))
    assert sorted(done) == ["a", "b", "c"] and Counter(log.read_text()) == {"x": TRIES, "a": 1, "b": 1, "c": 1}


@pytest.mark.fault("a machine of a cluster is lost, another comes", "its cell is begun again; the new one is used")
def test_a_node_that_goes_takes_no_cell_with_it_and_one_that_comes_is_used(two_nodes, tmp_path):
    log = tmp_path / "log"
    log.mkdir()

    def begun():
        return [path.read_text() for path in sorted(log.iterdir())]

    def work(cell, out):
        node = ray.get_runtime_context().get_node_id()
        (log / f"{time.time():.4f}-{cell.key}").write_text(node)
        while len(set(begun())) < 3:  # until the third node has begun a cell as well
            time.sleep(0.05)

    lost = two_nodes.list_all_nodes()[-1]
    found = []
    reader = threading.Thread(target=lambda: found.extend(cell.key for cell, _ in results(work, "abcd", tmp_path)))
    reader.start()
    wait_until(lambda: len(set(begun())) == 2)  # a cell is at work on each node
    two_nodes.remove_node(lost)
    two_nodes.add_node(**two_nodes.spare)
    reader.join(60)
    assert sorted(found) == ["a", "b", "c", "d"]
    assert len(begun()) == 5  # one cell was begun twice


def wait_until(true, seconds=30):
    end = time.time() + seconds
    while not true():
        assert time.time() < end, "it does not happen"
        time.sleep(0.05)


@pytest.mark.fault(
    "the process that asked a cluster is killed",
    "the same command goes on; no finished cell runs again",
)
def test_the_process_that_asked_is_killed_and_started_again_and_finished_cells_stay(two_nodes, in_process, tmp_path):
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_engines import OnCluster, SIXTEEN, run_cells
run_cells(SIXTEEN, {str(tmp_path)!r}, device="cpu", engine=OnCluster({two_nodes.address!r}))
"""
    start = functools.partial(subprocess.Popen, [sys.executable, "-c", program], cwd=tmp_path.parent)
    first = start()
    wait_until(lambda: len(list(tmp_path.glob("*.json"))) >= 4, 60)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert 4 <= len(before) < 16
    assert start().wait(120) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert content(tmp_path) == content(in_process)


@pytest.mark.fault("a cell raises an error on another machine", "the same one line here")
def test_what_a_cell_raises_comes_out_as_it_is(two_nodes, tmp_path):
    def work(cell, out):
        raise ValueError("gamma -1 is no exponent")

    with pytest.raises(ValueError, match="^gamma -1 is no exponent$"):
        list(results(work, "a", tmp_path))


def test_a_pool_leaves_no_folder_behind(two_nodes, tmp_path):
    def work(cell, out):
        (out / f"{cell.key}.json").write_text(str(out))

    made = engines.Pool(work)
    folders = {Path(f[f"{c.key}.json"].decode()) for c, f in made.each(fake(*"abcd"), tmp_path)}
    assert folders and all(folder.is_dir() and names(folder) == [] for folder in folders)
    made.close()
    wait_until(lambda: not any(folder.exists() for folder in folders))


@pytest.mark.fault(
    "no cluster answers at the address",
    "one line, status 1",
)
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no.such.host.invalid:6379"])
def test_no_cluster_at_an_address_is_one_line(address, tmp_path):
    program = """
import sys
from falw.__main__ import main
where = ["--engine", "ray", "--ray-address", sys.argv[1], "--out", sys.argv[2]]
sys.exit(main(["run", "--methods", "ft", "--size", "8", *where]))
"""
    given = [sys.executable, "-c", program, address, str(tmp_path)]
    done = subprocess.run(given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"falw: no Ray cluster at '{address}': ")
    assert names(tmp_path) == []
