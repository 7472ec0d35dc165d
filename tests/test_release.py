"""The repository's address and the release stand in many places and say one thing; and what GitHub runs."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager

import falw

ROOT = Path(__file__).resolve().parent.parent
NEW = "https://github.com/Ann-Other/long-tail.2"


@pytest.fixture(scope="module")
def tool():
    """tools/address.py as a module, and with it its neighbour."""
    sys.path.insert(0, str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location("address", ROOT / "tools" / "address.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(ROOT / "tools"))
    return module


def tracked():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [name for name in names.split("\0") if name and not name.startswith("results/") and (ROOT / name).exists()]


@pytest.fixture
def copy(tmp_path):
    """The tree without its records."""
    for name in tracked():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def test_every_place_says_the_same_address_and_release(tool):
    now = tool.current()
    assert now["version"] == falw.__version__
    for name in tool.TEXTS:
        text = (ROOT / name).read_text()
        assert now["url"] in text, name
        assert set(re.findall(r"(https://github\.com/[\w-]+/\w+)", text)) == {now["url"]}, name
        assert set(re.findall(r"\bv(\d+\.\d+\.\d+)", text)) <= {now["version"]}, name
    for path in (ROOT / "book").glob("*.ipynb"):
        assert tool.code_cells(nbformat.read(path, as_version=4))[0].source == tool.SETUP.format(**now), path.name
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == falw.__version__


def test_the_command_changes_every_place_and_no_notebook_needs_a_run(tool, copy):
    old = tool.current(copy)
    executed = {p.name for p in copy.glob("book/*.ipynb") if tool.is_executed(nbformat.read(p, as_version=4))}
    changed = tool.write(NEW, "9.8.7", copy)
    assert tool.current(copy) == tool.parts(NEW, "9.8.7")
    holding = {name for name in tracked() if old["url"].encode() in (ROOT / name).read_bytes()}
    assert holding == set(changed) >= {*tool.TEXTS}
    for name in tracked():
        left = (copy / name).read_bytes()
        assert f"{old['owner']}/{old['name']}".encode() not in left, name
        assert f"{old['lower']}.github.io".encode() not in left, name
        assert f"v{old['version']}".encode() not in left, name
    assert f"{NEW}/actions/workflows/tests.yml" in (copy / "README.md").read_text()
    assert "https://ann-other.github.io/long-tail.2" in (copy / "README.md").read_text()
    again = {p.name for p in copy.glob("book/*.ipynb") if tool.is_executed(nbformat.read(p, as_version=4))}
    assert again == executed and tool.write(NEW, "9.8.7", copy) == []
    assert sorted(tool.write(old["url"], old["version"], copy)) == sorted(changed)
    assert all((copy / name).read_bytes() == (ROOT / name).read_bytes() for name in changed)


def test_an_address_that_holds_the_old_one_is_written_once(tool):
    old, new = tool.parts("https://github.com/a/b", "1.2.0"), tool.parts("https://github.com/a/b-c", "1.2.1")
    text = "cff-version: 1.2.0\nversion: 1.2.0\nsee https://github.com/a/b/x, https://github.com/a/bc"
    assert tool.rewritten(text, old, new) == (
        "cff-version: 1.2.0\nversion: 1.2.1\nsee https://github.com/a/b-c/x, https://github.com/a/bc"
    )


@pytest.mark.fault("what is no address of a repository, for `make address`", "refused in one line; nothing is written")
def test_what_is_no_address_is_refused(tool, monkeypatch, capsys):
    for wrong in (
        "",
        "falw",
        "github.com/a/b",
        "http://github.com/a/b",
        "https://github.com/a",
        "https://gitlab.com/a/b",
    ):
        with pytest.raises(
            ValueError, match=f"^'{wrong}' is no address of a repository: give https://github.com/OWNER"
        ):
            tool.parts(wrong, "1.0.0")
    for wrong in (
        "https://github.com/a/b/",
        "https://github.com/a/b.git",
        "https://github.com/a b/c",
        "https://github.com/-a/b",
    ):
        monkeypatch.setattr(sys, "argv", ["address.py", wrong])
        assert tool.main() == 2 and "is no address" in capsys.readouterr().err


def test_the_first_cell_is_silent_here_and_elsewhere_keeps_torch(tool, capsys):
    source = tool.SETUP.format(**tool.current())
    assert "torch" not in next(line for line in source.splitlines() if "pip install" in line and "%" in line[:5])

    class Shell:
        """Where a line that starts with ! or % would go."""

        def __getattr__(self, name):
            pytest.fail(f"the cell runs {name}")

    exec(TransformerManager().transform_cell(source), {"get_ipython": Shell})  # noqa: S102, as a kernel would
    assert capsys.readouterr() == ("", "")


def test_workflows_run_targets_that_are_there_on_two_pythons_and_stop_what_is_outdated():
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")}
    targets = re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(files) == {"book", "tests"}
    for flow in files.values():
        assert flow["concurrency"]["cancel-in-progress"] is True and flow["permissions"] == {"contents": "read"}
        steps = [step for job in flow["jobs"].values() for step in job["steps"]]
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
        ran = [step["run"].split()[:2] for step in steps if "run" in step]
        assert all(made == "make" and target in targets for made, target in ran)
    pythons = files["tests"]["jobs"]["pytest"]["strategy"]["matrix"]["python"]
    assert len(pythons) == 2 and f'requires-python = ">={pythons[0]}"' in (ROOT / "pyproject.toml").read_text()
    assert files["book"]["jobs"]["deploy"]["if"] == "github.event_name == 'push'"  # and pushes are those to main
    assert files["book"][True]["push"] == {"branches": ["main"]}  # YAML reads `on` as true
