"""What `import falw` costs and loads."""

import importlib
import json
import subprocess
import sys

import pytest

import falw

HEAVY = {"torchvision", "matplotlib", "ipywidgets", "sklearn", "pandas", "ray"}


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
    assert fresh("import numpy") >= {"numpy"}


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
