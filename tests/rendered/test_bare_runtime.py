"""A chapter in a bare runtime: an environment with only what a hosted one brings, and the chapter's own first cell.

The environment is made of links to packages that are installed here, so nothing large is downloaded. The setup cell
runs as it stands; git is told to find the repository's address on this disk, in a clone that has the release.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent.parent
BROUGHT = ["torch", "numpy", "matplotlib", "ipywidgets", "scikit-learn", "ipykernel", "pip", "setuptools"]


def closure(names):
    """The distributions that these need, and those that those need."""
    found = {}
    todo = [Requirement(name) for name in names]
    while todo:
        wanted = todo.pop()
        try:
            dist = importlib.metadata.distribution(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        key = (dist.name, tuple(sorted(wanted.extras)))
        if key not in found:
            found[key] = dist
            needs = map(Requirement, dist.requires or [])
            extras = ["", *wanted.extras]
            todo += [r for r in needs if not r.marker or any(r.marker.evaluate({"extra": e}) for e in extras)]
    return found.values()


@pytest.fixture
def bare(tmp_path_factory):
    """Its interpreter, and a folder for it to work in; a chapter finds what another has installed."""
    home = tmp_path_factory.mktemp("runtime")
    venv.create(home / "env", with_pip=False, symlinks=True)
    python = home / "env" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    target = home / "env" / "lib" / version / "site-packages"
    for dist in closure(BROUGHT):
        for file in dist.files or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (target / top).exists():
                (target / top).symlink_to(Path(dist.locate_file(top)).resolve())
    (home / "content").mkdir()
    return python, home / "content"


def run(python, code, **options):
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, **options).stdout


def torch_of(python):
    return run(python, "import torch; print(torch.__version__, torch.__file__)")


def released(tag, home):
    """A clone of this repository in which what is checked out is the release."""
    clone = home / "released.git"
    if not clone.exists():
        subprocess.run(["git", "clone", "--quiet", "--bare", ROOT, clone], check=True)
        subprocess.run(["git", "-C", clone, "tag", "--force", tag], check=True, stdout=subprocess.DEVNULL)
    return clone


@pytest.mark.parametrize("chapter", ["06-balance-factor", "10-your-own-data"])
def test_a_chapter_installs_itself_runs_and_leaves_torch_alone(chapter, bare, monkeypatch):
    python, content = bare
    before = torch_of(python)
    found = run(python, "import importlib.util as u; print([n for n in ('torchvision', 'nbformat') if u.find_spec(n)])")
    assert found == "[]\n", "the runtime is not bare"

    spec = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}
    kernels = content.parent / "share" / "kernels" / "bare"
    kernels.mkdir(parents=True, exist_ok=True)
    (kernels / "kernel.json").write_text(json.dumps({**spec, "display_name": "bare"}))
    monkeypatch.setenv("JUPYTER_PATH", str(content.parent / "share"))
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    clone = released(repository["branch"], content.parent)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{clone.as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", repository["url"])
    monkeypatch.setenv("PATH", f"{python.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PYTHONPATH", raising=False)

    notebook = nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4)
    resources = {"metadata": {"path": content}}
    NotebookClient(notebook, timeout=None, startup_timeout=300, kernel_name="bare", resources=resources).execute()

    assert torch_of(python) == before
    said = "".join(output.text for output in notebook.cells[1].outputs if output.output_type == "stream")
    assert f"falw {repository['branch'].removeprefix('v')} torch {before.split()[0].partition('+')[0]}" in said
    assert str(content.parent) in run(python, "import falw; print(falw.__file__)", cwd=content)
