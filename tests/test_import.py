"""What `import falw` costs and loads, and that modules import only from those above them."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import falw

HEAVY = {"torchvision", "matplotlib", "ipywidgets", "sklearn", "ray"}
PACKAGE = Path(falw.__file__).parent
PIPELINE = [
    *["files", "split", "weights", "metrics", "audit", "models", "data", "train", "methods"],
    *["engines", "bench", "report", "tune", "paper", "grids", "verdict", "plots", "widgets", "__main__"],
]


def fresh(code):
    """The packages outside the standard library that a line of code loads in a fresh interpreter."""
    program = f"""
import json, sys
before = set(sys.modules)
{code}
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(json.dumps(sorted(loaded - set(sys.stdlib_module_names))))"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_loads_nothing_but_the_package():
    assert fresh("import falw") == {"falw"}  # milliseconds, in the first cell of every notebook; torch takes seconds


def test_every_public_name_loads_without_anything_heavy():
    loaded = fresh("import falw; names = [getattr(falw, name) for name in falw.__all__]; assert names")
    assert "torch" in loaded and not loaded & HEAVY


def test_the_tests_above_can_fail():
    assert fresh("import sklearn") >= {"sklearn", "numpy"}


def test_every_public_name_is_the_one_of_its_module():
    assert len(set(falw.__all__)) == len(falw.__all__) > 0
    for name in falw.__all__:
        module = importlib.import_module(f"falw.{falw._MODULE[name]}")
        assert getattr(falw, name) is vars(module)[name]
        assert name in dir(falw)
        home = getattr(vars(module)[name], "__module__", module.__name__)
        assert not home.startswith("falw.") or home == module.__name__, f"{name} lives in {home}"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'falw' has no attribute 'nosuch'"):
        _ = falw.nosuch
    assert not hasattr(falw, "nosuch")


# The order of the modules


def imported(source, where="somewhere"):
    """The modules of falw that a source imports, at its top or in a function, or reaches by a name of the package."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("falw.")}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "falw":
            found |= {falw._MODULE.get(alias.name, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("falw."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{where} has a relative import, which this test does not follow")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "falw":
            found |= {falw._MODULE[node.attr]} if node.attr in falw._MODULE else set()
    return found


FILES = {path.stem: path for path in PACKAGE.glob("*.py")}


def test_every_module_has_its_place():
    assert set(FILES) == {"__init__", *PIPELINE}
    assert {*falw._MODULE.values()} <= set(FILES)


def test_a_module_imports_only_from_those_above_it():
    for place, name in enumerate(PIPELINE):
        below = imported(FILES[name].read_text(), name) - set(PIPELINE[:place])
        assert not below, f"{name} imports {below}"


def test_the_package_itself_imports_nothing_of_its_own():
    assert imported(FILES["__init__"].read_text()) == set()


def test_every_kind_of_import_is_noticed():
    for source in (
        "import falw.bench",
        "import falw.bench as b",
        "from falw.bench import run",
        "from falw import bench",
        "from falw import run_cell",
        "def f():\n    from falw.bench import run",
        "import falw\nfalw.run_cell",
    ):
        assert imported(source) == {"bench"}, source
