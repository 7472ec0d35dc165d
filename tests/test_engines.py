"""Engines: equal files from each, and nothing lost with a worker, a machine or the process that asked."""

import contextlib
import functools
import io
import json
import math
import os
import re
import signal
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import waiting
from conftest import answer, content, forks, started
from waiting import wait_until

from falw.__main__ import main
from falw.lab import ray as lab_ray
from falw.lab import run as runs
from falw.lab.cells import Setting, cells_of
from falw.lab.engines import IN_PROCESS, InProcess, default_jobs
from falw.lab.ensemble import write_distances
from falw.lab.ray import OnCluster, find_engine, slots
from falw.lab.run import run_cells

SMALL = {"size": 8, "classes": 4, "per_class": 12}


def cells(seeds=(0,), methods=("ft", "rl")):
    settings = [Setting("textures", seed=s, **SMALL) for s in seeds]
    return [cell for setting in settings for cell in cells_of(setting, methods, 1, epochs=1)]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Without a cluster


def test_an_engine_by_its_name():
    assert find_engine() is IN_PROCESS and isinstance(IN_PROCESS, InProcess)
    for gpus in (0, 0.25, 1, 2.0):
        assert find_engine("ray", "auto", gpus) == OnCluster("auto", gpus)


@pytest.mark.fault(
    "an engine that does not exist, or options of another",
    "refused in one line with the choice",
)
def test_an_engine_that_does_not_exist_or_fit_is_refused():
    for given, words in (
        (["dask"], "unknown engine 'dask'; choose one of: inprocess, ray"),
        (["inprocess", "auto"], "are for a cluster: add --engine ray"),
        (["inprocess", None, 0.5], "are for a cluster: add --engine ray"),
        *((["ray", None, gpus], f"{gpus:g} GPUs a cell: give 0, a share") for gpus in (-1.0, 1.5, math.inf, math.nan)),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            find_engine(*given)


def test_slots_by_hand():
    for resources, share, count in (
        ({"CPU": 2.0}, 0.0, 2),
        ({"CPU": 16.0, "GPU": 2.0}, 0.25, 8),
        ({"CPU": 3.0, "GPU": 2.0}, 0.25, 3),  # a slot needs a CPU as well
        ({"CPU": 16.0, "GPU": 2.0}, 1.0, 2),
        ({"CPU": 16.0, "GPU": 0.3}, 0.1, 3),  # and 0.3 / 0.1 is below 3 in floating point
    ):
        assert slots(resources, share) == count, resources


@pytest.mark.fault("a cluster has no room for a single cell", "one line that says what it has")
def test_a_cluster_without_a_slot_says_what_it_has():
    with pytest.raises(ValueError, match=r"a cluster of 4 CPUs and 0 GPUs has no slot of 0.5 GPUs"):
        slots({"CPU": 4.0}, 0.5)


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


def test_by_default_as_many_processes_as_cores_may_be_used_and_one_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert [default_jobs(torch.device(name)) for name in ("cpu", "cuda")] == [1, 1]
    with IN_PROCESS.start(lambda cell, **_: {"process": os.getpid()}, tmp_path, "cpu", None) as each:
        assert {record["process"] for _, record in each([SimpleNamespace(key=key) for key in "ab"])} == {os.getpid()}
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1000")
    assert 1 <= default_jobs(torch.device("cpu")) <= os.cpu_count() and default_jobs(torch.device("cuda")) == 1


# A cluster of two nodes on this machine, each with one CPU, one with a GPU that is only counted. The tests share it
# and the workers that Ray keeps, so those of real cells come first, and last those that change its nodes or its driver.

# Ray gives up on its own processes, which start in seconds, after 10 to 60; on a busy machine they take longer.
LIMITS = ["raylet_start_wait_time_s", "worker_register_timeout_seconds", "gcs_server_request_timeout_seconds"]
LIMITS += ["gcs_rpc_server_connect_timeout_s", "py_gcs_connect_timeout_s"]
os.environ |= {f"RAY_{name}": "300" for name in LIMITS}
os.environ |= {f"RAY_{name}": "300000" for name in ("agent_register_timeout_ms", "health_check_timeout_ms")}
os.environ |= {"RAY_worker_niceness": "0"}  # Ray's 15 leaves a worker next to nothing beside busy processes
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="Ray has no wheel for this system")


# A node has two agents, which take seconds to start and would have nothing to do; `cat` ends with the node as they do.
# Nor need it ask for their ports: it ends itself if they take longer than 15 s to say so.
UNUSED = [f"--{name}=-1" for name in ("metrics-agent-port", "metrics_export_port", "dashboard_agent_listen_port")]
UNUSED += ["--undefok=dashboard_agent_listen_port"]  # before Ray 2.5x it did not ask
UNUSED += ["--dashboard_agent_command=cat", "--runtime_env_agent_command=cat", "--num_prestart_python_workers=0"]


@pytest.fixture(scope="module")
def two_nodes():
    from ray._private import services
    from ray.cluster_utils import Cluster

    def start(command, kind, *args, start=services.start_ray_process, **how):
        return start([*command, *UNUSED] if kind == "raylet" else command, kind, *args, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "start_ray_process", start)
        without = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True, "num_gpus": 0}
        made = Cluster(initialize_head=True, head_node_args={**node(), **without})
        ray.init(made.address, log_to_driver=False, logging_level="ERROR")
        ray.cloudpickle.register_pickle_by_value(waiting)  # a worker cannot import it
        join(made)
        yield made
        ray.shutdown()
        made.shutdown()


def node(cpus=1):
    """What a node of the cluster has."""
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    return {"num_cpus": cpus, "num_gpus": 1, "object_store_memory": 80 * 2**20, "runtime_env_agent_port": port}


def join(cluster, cpus=1):
    """A node that is added to a cluster, once all know of it."""
    added = cluster.add_node(wait=False, **node(cpus))
    settle(cluster)
    return added


def leave(cluster, node):
    cluster.remove_node(node)
    settle(cluster)


def settle(cluster):
    """Wait until the cluster counts the nodes that it has, and no other."""

    def settled():
        alive = [node for node in ray.nodes() if node["Alive"]]
        cpus = sum(node["Resources"].get("CPU", 0) for node in alive)
        return len(alive) == len(cluster.list_all_nodes()) and cpus == ray.cluster_resources().get("CPU")

    wait_until(settled)


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


def results(cluster, work, keys, folder, share=None, jobs=None):
    """Keys of fake cells with what `work(key, out)` gives for them. It is defined in a test, so it travels by value."""

    def store(cell, out, device):
        (out / f"{cell.key}.json").write_text(json.dumps(work(cell.key, out)))

    cells = [SimpleNamespace(key=key, parent="none") for key in keys]
    with OnCluster(cluster.address, share).start(store, folder, "cpu", jobs) as each:
        yield from ((cell.key, given) for cell, given in each(cells))


def test_sixteen_cells_leave_the_same_files_as_in_process_and_a_second_run_sends_nothing(
    engine, in_process, tmp_path, monkeypatch
):
    assert len(SIXTEEN) == 16
    records = run_cells(SIXTEEN, tmp_path, device="cpu", engine=engine)
    assert [r["key"] for r in records] == [cell.key for cell in SIXTEEN]
    assert content(tmp_path) == content(in_process)
    assert ray.is_initialized()  # a cluster that was there stays
    monkeypatch.setattr(OnCluster, "start", lambda *args: pytest.fail("the cluster is asked"))
    assert run_cells(SIXTEEN, tmp_path, device="cpu", engine=engine) == records


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
        return runs.run_cell(cell, out, **how)

    out = tmp_path / "out"
    out.mkdir()
    with engine.start(work, out, "cpu", None) as each:
        originals = [c for c in SIXTEEN if c.method == "original"]
        done = [cell.key for wave in (originals, [c for c in SIXTEEN if c not in originals]) for cell, _ in each(wave)]
    assert killed.exists() and sorted(done) == sorted(c.key for c in SIXTEEN)
    write_distances(out)  # as `run_cells` does at its end
    assert content(out) == content(in_process)


@pytest.mark.fault("a cell kills every worker that takes it", "given up after some tries, all others are done")
def test_a_cell_that_kills_every_worker_is_given_up_and_the_others_are_done(two_nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(lab_ray, "TRIES", 2)
    log = tmp_path / "log"

    def work(key, out):
        with open(log, "a") as f:
            f.write(f"{key} {out}\n")
        if key == "x":
            os.kill(os.getpid(), signal.SIGKILL)

    done = []
    with pytest.raises(ChildProcessError, match="x: worker lost 2 times .*; all other cells are done"):
        done.extend(key for key, _ in results(two_nodes, work, "axbc", tmp_path))
    begun = [line.split() for line in log.read_text().splitlines()]
    assert sorted(done) == ["a", "b", "c"] and Counter(key for key, _ in begun) == {"x": 2, "a": 1, "b": 1, "c": 1}
    list(results(two_nodes, lambda key, out: None, "y", tmp_path))  # a worker that lives cleans up after the dead
    assert not any(Path(folder).exists() for _, folder in begun)


def test_cells_run_on_both_nodes_at_once_and_each_runs_once(two_nodes, tmp_path):
    met, log = tmp_path / "met", tmp_path / "log"
    met.mkdir()

    def work(key, out):
        with open(log, "a") as f:
            f.write(key)
        node = ray.get_runtime_context().get_node_id()
        (met / node).touch()
        wait_until(lambda: len(list(met.iterdir())) == 2)  # for a cell on the other node
        return node

    found = dict(results(two_nodes, work, "abcdefgh", tmp_path))
    assert sorted(found) == list("abcdefgh") == sorted(log.read_text())
    assert set(found.values()) == {node.node_id for node in two_nodes.list_all_nodes()}


def test_cells_begin_in_their_order(two_nodes, tmp_path):
    log = tmp_path / "log"

    def work(key, out):
        with open(log, "a") as f:
            f.write(key)

    assert dict.fromkeys("hbdface") == dict(results(two_nodes, work, "hbdface", tmp_path, jobs=1))
    assert log.read_text() == "hbdface"


@pytest.mark.fault("a cell raises an error on another machine", "the same one line here")
def test_what_a_cell_raises_comes_out_as_it_is(two_nodes, tmp_path):
    def work(key, out):
        raise ValueError("gamma -1 is no exponent")

    with pytest.raises(ValueError, match="^gamma -1 is no exponent$"):
        list(results(two_nodes, work, "a", tmp_path))


def test_a_cell_leaves_no_folder_behind(two_nodes, tmp_path):
    def work(key, out):
        (out / "left").touch()
        return str(out)

    folders = {Path(folder) for _, folder in results(two_nodes, work, "abcd", tmp_path)}
    assert len(folders) == 4 and not any(folder.exists() for folder in folders)


def asked_in_vain(address, folder, answers):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        where = ["--engine", "ray", "--ray-address", address, "--out", folder]
        status = main(["run", "--methods", "ft", "--size", "8", *where])
    answers.send((status, said.getvalue().splitlines()[-1]))


@pytest.mark.fault("a machine of a cluster is lost, another comes", "its cell is begun again; the new one is used")
def test_a_node_that_goes_takes_no_cell_with_it_and_one_that_comes_is_used(two_nodes, tmp_path):
    log = tmp_path / "log"
    log.touch()

    def begun():
        """The cells that were begun, each with its node."""
        return [line.split() for line in log.read_text().splitlines()]

    def work(key, out):
        with open(log, "a") as f:
            f.write(f"{key} {ray.get_runtime_context().get_node_id()}\n")
        wait_until(lambda: len({node for _, node in begun()}) == 3)  # for a cell on the third node

    lost = two_nodes.list_all_nodes()[-1]
    with ThreadPoolExecutor(1) as beside:
        found = beside.submit(lambda: [key for key, _ in results(two_nodes, work, "abcd", tmp_path)])
        wait_until(lambda: len({node for _, node in begun()}) == 2)  # a cell is at work on each node
        two_nodes.remove_node(lost)
        new = join(two_nodes)
    assert sorted(found.result()) == ["a", "b", "c", "d"]
    (victim,) = [key for key, node in begun() if node == lost.node_id]
    assert Counter(key for key, _ in begun()) == {**dict.fromkeys("abcd", 1), victim: 2}
    assert new.node_id in {node for _, node in begun()}


def test_a_share_of_a_gpu_bounds_how_many_cells_are_on_it(two_nodes, tmp_path):
    large = join(two_nodes, cpus=3)  # more than are to be on its GPU

    def at_once(folder, share, count):
        """How many cells were on a GPU at most, if all wait for `count` on one, and what they were given."""
        folder.mkdir()

        def work(key, out):
            node = ray.get_runtime_context().get_node_id()
            (folder / f"{node}-{key}").touch()
            beside = len(list(folder.glob(f"{node}-*")))
            if beside >= count:
                (folder / "met").touch()
            wait_until((folder / "met").exists)
            (folder / f"{node}-{key}").unlink()
            return beside, ray.get_runtime_context().get_assigned_resources()

        answers = dict(results(two_nodes, work, "abcdefgh", tmp_path, share)).values()
        return max(beside for beside, _ in answers), [given for _, given in answers]

    try:
        for share, count in ((1.0, 1), (0.5, 2)):
            assert at_once(tmp_path / str(share), share, count) == (count, [{"CPU": 1, "GPU": share}] * 8)
    finally:
        leave(two_nodes, large)


def ask(address, folder, four_done):
    """Run the sixteen cells on a cluster until the fourth of those that start from an Original is done."""
    engine = OnCluster(address)

    def paused(each, cells):
        for count, found in enumerate(each(cells), start=1):
            if count == 4:
                four_done.set()
                signal.pause()
            yield found

    @contextlib.contextmanager
    def start(*args):
        with engine.start(*args) as each:
            yield functools.partial(paused, each)

    engine_that_pauses = SimpleNamespace(device_of_data=engine.device_of_data, start=start)
    run_cells(SIXTEEN, folder, device="cpu", jobs=2, engine=engine_that_pauses)


@pytest.mark.fault(
    "the process that asked a cluster is killed",
    "the same command goes on; no finished cell runs again",
)
def test_the_process_that_asked_is_killed_and_another_goes_on_and_finished_cells_stay(two_nodes, in_process, tmp_path):
    four_done = forks.Event()
    first = started(ask, two_nodes.address, tmp_path, four_done)
    wait_until(four_done.is_set)
    first.kill()
    first.join()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert len(before) == 2 + 4  # two Originals
    run_cells(SIXTEEN, tmp_path, device="cpu", engine=OnCluster(two_nodes.address))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert content(tmp_path) == content(in_process)


@pytest.mark.fault(
    "no cluster answers at the address",
    "one line, status 1",
)
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])  # nothing there, or no client's server
def test_no_cluster_at_an_address_is_one_line(address, tmp_path):
    status, line = answer(asked_in_vain, address, str(tmp_path))
    assert status == 1 and line.startswith(f"falw: no Ray cluster at '{address}': ")
    assert names(tmp_path) == []
