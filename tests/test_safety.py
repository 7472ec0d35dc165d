"""What the code never does: run text or a pickle, open a shell or an archive, use a network unasked, name a machine."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from falw.lab.records import read_predictions

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
SOURCES = [path for folder in ("falw", "tools", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]

# Code that is run from text, from a pickle or by a shell, and archives, whose entries may be named ../x. `make lint`
# looks for it in sources and chapters, by ruff's rules.

UNSAFE = """
eval("1")
exec(open("configurator.py").read())
import os; os.system("ls " + name)
import os; os.popen("ls " + name)
import subprocess; subprocess.run(name, shell=True)
import yaml; yaml.load(text)
import pandas; pandas.read_pickle(path)
import pickle
from pickle import loads
import marshal
import tarfile
from zipfile import ZipFile
import shutil; shutil.unpack_archive("a.zip")
import joblib; joblib.load(path)
import torch; torch.hub.load("a/b", "c")
"""


def test_lint_refuses_every_kind_in_the_package():
    command = [sys.executable, "-m", "ruff", "check", "--output-format", "json", "--stdin-filename", "falw/new.py", "-"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, input=UNSAFE)
    unsafe = [error for error in json.loads(done.stdout) if re.match("S|TID251", error["code"])]
    assert {error["location"]["row"] for error in unsafe} == {*range(2, UNSAFE.count("\n") + 1)}


def test_tensors_and_arrays_are_read_without_a_pickle():
    """Ruff has no settled rule for these."""
    code = [line for path in [*SOURCES, *CHAPTERS] for line in path.read_text().splitlines()]
    loads = [line for line in code if "torch.load(" in line]
    assert len(loads) > 1 and all("weights_only=True" in line for line in loads)
    assert not [line for line in code if "allow_pickle" in line]


@pytest.mark.fault("a file of probabilities holds a pickle", "refused, nothing is run")
def test_probabilities_are_read_without_a_pickle(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "trap",))

    np.savez(tmp_path / "k.npz", forget_p=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_predictions({"key": "k"}, tmp_path)
    assert not (tmp_path / "trap").exists()


# A process that has next to nothing

BARE = """
import json, socket, sys
sys.modules["ray"] = None  # any import of it fails
asked = []
connect = socket.socket.connect
def refuse(self, address):
    if self.family == socket.AF_UNIX:
        return connect(self, address)  # between processes of this machine
    asked.append(str(address))
    raise OSError("the network is down")
def no_name(host, *args, **how):
    asked.append(str(host))
    raise OSError("the network is down")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.socket.sendto = refuse
socket.getaddrinfo = socket.gethostbyname = no_name
import falw
from falw.__main__ import main
from falw.data import load_dataset
[getattr(falw, name) for name in falw.__all__]
load_dataset("textures", per_class=4); load_dataset("digits", per_class=4)
assert main({run} + ["--methods", "ft,rl+falw"]) == 0
assert main(["table", "out"]) == 0
assert main(["report", {records}, "--grid", "table3"]) == 0
assert main(["bench", "table2", "--seeds", "1", "--out", "bench", "--dry-run", "--device", "cpu"]) == 0
assert main(["methods"]) == 0 and main(["datasets"]) == 0
assert main(["run", "--dataset", "folder:nowhere", "--out", "none"]) == 2
assert main(["run", "--dataset", "tiny-imagenet", "--root", ".", "--out", "none"]) == 2
assert main({run} + ["--methods", "rl", "--engine", "ray"]) == 2
before = len(asked)
assert main(["run", "--dataset", "cifar10", "--root", ".", "--methods", "ft", "--out", "none"]) == 2
print("ASKED", json.dumps([asked[:before], asked[before:]]))
"""
RUN = ["run", "--classes", "4", "--per-class", "12", "--size", "8", "--jobs", "1", "--device", "cpu", "--epochs", "1"]
RUN += ["--original-epochs", "1", "--out", "out"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Where a process without network, home and Ray ran, how it ended, and whom it asked, for a download last."""
    folder = tmp_path_factory.mktemp("bare")
    program = BARE.replace("{run}", repr(RUN)).replace("{records}", repr(str(ROOT / "results" / "cpu" / "textures")))
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, done, *json.loads(done.stdout.rpartition("ASKED ")[2])


@pytest.mark.fault("there is no network", "everything but the download of cifar10 and cifar100 works")
def test_nothing_but_a_download_by_name_uses_the_network(bare):
    _, done, before, _ = bare
    assert before == [] and "| ft " in done.stdout and "rl+falw" in done.stdout


@pytest.mark.fault("cifar10 is asked for and there is no network", "one line that names the way out, status 2")
def test_a_download_by_name_does(bare):
    folder, done, _, for_download = bare
    assert for_download and not (folder / "none").exists()
    assert "give --root of a folder that has it" in done.stderr.splitlines()[-1]


@pytest.mark.fault("there is no home, and nothing that points to a cache", "a run needs neither")
def test_no_home_is_needed(bare):
    folder, done, *_ = bare
    assert "Traceback" not in done.stderr and len(list((folder / "out").glob("*.npz"))) == 6


@pytest.mark.fault("Ray is not installed", "everything else runs; asked for, one line that says what to install")
def test_without_ray_everything_else_runs_and_the_engine_says_what_to_install(bare):
    assert (
        "falw: engine 'ray' needs Ray, which is not installed: pip install 'falw[ray]'" in bare[1].stderr.splitlines()
    )


# Names of machines

PLACES = re.compile(r"(?<![\w.:/-])/(?:home|root|Users|tmp|work|workspace|mnt|media|opt|var|usr|srv|data)/[\w.-]+")
WINDOWS = re.compile(r"\b[A-Z]:\\+(?:Users|Documents)")


def machines():
    """How this machine may be named, and where the code and its user are, if that is too long to be a word."""
    names = {socket.gethostname(), socket.getfqdn(), os.path.expanduser("~"), str(ROOT)}
    return [name for name in names if len(name) > 6 and name != "localhost"]


def named(text):
    """What of a text names a place on a machine, or the machine."""
    found = PLACES.findall(text) + WINDOWS.findall(text)
    return found + [name for name in machines() if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)]


def without_pictures(path):
    """The text of a notebook without what is encoded in it."""
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            for kind in ("image/png", "image/jpeg", "application/pdf"):
                output.get("data", {}).pop(kind, None)
    return json.dumps(notebook, ensure_ascii=False)


def test_no_chapter_names_a_place_on_a_machine():
    found = {path.name: named(without_pictures(path)) for path in CHAPTERS}
    assert {name: what for name, what in found.items() if what} == {}


def test_no_record_or_text_does():
    paths = [*(ROOT / "results").rglob("*.json"), *(ROOT / "book").glob("*.md"), *(ROOT / "book").glob("*.yml")]
    paths += [*SOURCES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "_config.yml", ROOT / "Makefile"]
    paths += (ROOT / "tests").glob("*.md")
    assert len(paths) > 100
    assert [(path.name, named(path.read_text())) for path in paths if named(path.read_text())] == []


def test_a_place_is_noticed_and_an_address_or_a_relative_path_is_none():
    for text in ("/home/ann/falw", "File '/root/x.py'", "/tmp/tmpab12/x", "at C:\\Users\\ann", f"in {ROOT}/falw"):
        assert named(text), text
    for text in ("https://example.org/data/x", "./data/x", "FA/RA/TA", "train/<class>/*", "~/.cache"):
        assert named(text) == [], text
