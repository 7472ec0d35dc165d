"""What the code never does: run text or a pickle, open a shell or an archive, use a network unasked, name a machine."""

import ast
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

from falw.lab.records import read_predictions

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
SOURCES = [path for folder in ("falw", "tools", "benchmarks") for path in sorted((ROOT / folder).glob("*.py"))]

# Code that is run from text, from a pickle or by a shell, and archives, whose entries may be named ../x

NEVER = {"eval", "exec", "compile", "__import__", "execfile"}
NEVER_OF = {
    "os": {"system", "popen", "execv", "execl", "spawnl", "spawnv"},
    "subprocess": {"getoutput", "getstatusoutput"},
    "shutil": {"unpack_archive", "make_archive"},
    "joblib": {"load"},
    "yaml": {"load", "unsafe_load", "full_load"},
    "pd": {"read_pickle"},
    "pandas": {"read_pickle"},
    "torch": {"hub"},
}
NOT_IMPORTED = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "tarfile", "zipfile", "code", "pty"}


def is_true(node):
    return isinstance(node, ast.Constant) and node.value is True


def unsafe(source):
    """What a source does that it should not, as lines of text."""
    found, modules = [], {}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name.split(".")[0]: alias.name.split(".")[0] for alias in node.names}
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in NOT_IMPORTED]
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")[0]
            bad = NEVER_OF.get(module, set())
            found += [module] if module in NOT_IMPORTED else []
            found += [f"{module}.{alias.name}" for alias in node.names if alias.name in bad]
            if module == "torch" and any(alias.name == "load" for alias in node.names):
                found.append("torch.load under another name")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in NEVER and isinstance(node.ctx, ast.Load):
            found.append(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id, node.value.id)
            if node.attr in NEVER_OF.get(module, set()) or (module == "builtins" and node.attr in NEVER):
                found.append(f"{module}.{node.attr}")
        if isinstance(node, ast.Call):
            options = {k.arg: k.value for k in node.keywords}
            if "shell" in options and not (
                isinstance(options["shell"], ast.Constant) and options["shell"].value is False
            ):
                found.append("shell=")
            if "allow_pickle" in options:
                found.append("allow_pickle=")
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            module = getattr(getattr(node.func, "value", None), "id", "")
            if name == "load" and modules.get(module, module) == "torch" and not is_true(options.get("weights_only")):
                found.append("torch.load without weights_only=True")
    return found


def cells(path):
    """The code of a notebook; what is for IPython, after % or !, is left out."""
    code = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    return "\n".join(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source) for source in code)


def test_no_source_or_chapter_runs_text_a_pickle_a_shell_or_opens_an_archive():
    found = [(path.name, unsafe(path.read_text())) for path in SOURCES]
    found += [(path.name, unsafe(cells(path))) for path in CHAPTERS]
    assert len(found) > 30 and [(name, what) for name, what in found if what] == []


def test_every_kind_is_noticed():
    for source in (
        "eval('1')",
        "exec(open('configurator.py').read())",
        "f = eval",
        "import builtins\nbuiltins.exec('1')",
        "__import__('os')",
        "import os\nos.system('ls')",
        "import os as o\no.popen('ls')",
        "from os import system",
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('f')",
        "import torch as t\nt.load('f', weights_only=False)",
        "import torch\ntorch.load('f', weights_only=x)",
        "from torch import load",
        "import numpy as np\nnp.load('f', allow_pickle=True)",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "run('ls', shell=x)",
        "import tarfile",
        "from zipfile import ZipFile",
        "import shutil\nshutil.unpack_archive('a.zip')",
        "import joblib\njoblib.load('f')",
    ):
        assert unsafe(source), source


def test_what_only_looks_like_it_is_not():
    for source in (
        "model.eval()",
        "'eval(x)'  # exec",
        "import re\nre.compile('a')",
        "import torch\ntorch.load('f', weights_only=True)",
        "import subprocess\nsubprocess.run(['ls'])",
        "import json\njson.load(f)",
    ):
        assert unsafe(source) == [], source


@pytest.mark.fault("a file of probabilities holds a pickle", "refused, nothing is run")
def test_probabilities_are_read_without_a_pickle(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "trap",))

    np.savez(tmp_path / "k.npz", forget_p=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_predictions({"key": "k"}, tmp_path)
    assert not (tmp_path / "trap").exists()


# The network

OFFLINE = """
import json, socket, sys
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
{code}
print("ASKED", json.dumps(asked))
"""
RUN = ["run", "--classes", "4", "--per-class", "12", "--size", "8", "--jobs", "1", "--device", "cpu", "--epochs", "1"]
RUN += ["--original-epochs", "1", "--methods", "ft,rl+falw"]


def asked_for(code, tmp_path):
    """The addresses that a fresh process tried to reach, and what it printed."""
    program = OFFLINE.replace("{code}", code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    said, _, addresses = done.stdout.rpartition("ASKED ")
    return json.loads(addresses), said


@pytest.mark.fault("there is no network", "everything but the download of cifar10 and cifar100 works")
def test_nothing_but_a_download_by_name_uses_the_network(tmp_path):
    records = ROOT / "results" / "cpu" / "textures"
    code = f"""
[getattr(falw, name) for name in falw.__all__]
load_dataset("textures", per_class=4); load_dataset("digits", per_class=4)
assert main({[*RUN, "--out", "out"]!r}) == 0
assert main(["table", "out"]) == 0
assert main(["report", {str(records)!r}, "--grid", "table3"]) == 0
assert main(["bench", "table2", "--seeds", "1", "--out", "bench", "--dry-run", "--device", "cpu"]) == 0
assert main(["methods"]) == 0 and main(["datasets"]) == 0
assert main(["run", "--dataset", "folder:nowhere", "--out", "none"]) == 2
assert main(["run", "--dataset", "tiny-imagenet", "--root", ".", "--out", "none"]) == 2
"""
    addresses, said = asked_for(code, tmp_path)
    assert addresses == [] and "| ft |" in said and "rl+falw" in said


@pytest.mark.fault("cifar10 is asked for and there is no network", "one line that names the way out, status 2")
def test_a_download_by_name_does(tmp_path):
    code = """assert main(["run", "--dataset", "cifar10", "--root", ".", "--methods", "ft", "--out", "out"]) == 2"""
    addresses, _ = asked_for(code, tmp_path)
    assert addresses and not (tmp_path / "out").exists()


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
