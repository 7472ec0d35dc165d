"""The lists of the package's files, and that every path that a text names is there."""

import ast
import importlib.util
import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

import falw

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("contents", ROOT / "tools" / "contents.py")
contents = importlib.util.module_from_spec(spec)
spec.loader.exec_module(contents)

TEXTS = sorted({*ROOT.glob("*.md"), *(ROOT / "book").glob("*.md"), *(ROOT / "tests").glob("*.md")})
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
NAMED = re.compile(r"`((?:benchmarks|book|falw|results|tests|tools)/[\w./-]*)`")


@pytest.mark.parametrize("page", contents.PAGES)
def test_the_list_of_files_is_what_their_docstrings_say(page):
    now, then = (re.sub(r"\d+ lines", "", text) for text in (contents.filled(page), (ROOT / page).read_text()))
    assert now == then, "run `make contents`"


def test_the_core_is_read_in_an_evening():
    """The numbers that it names may lag behind by a tenth, so that not every line is a change of two files."""
    said = {name: int(n) for name, n in re.findall(r"^- (\w+)\.py, (\d+) lines", falw.__doc__, re.M)}
    counted = {name: (ROOT / "falw" / f"{name}.py").read_text().count("\n") for name in said}
    assert list(said) == contents.EVENING and {"split", "weights", "train", "methods"} < {*said}
    assert said == pytest.approx(counted, rel=0.1), "run `make contents`"
    assert sum(counted.values()) <= 2200


def test_every_file_of_the_package_is_listed_once():
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "falw").rglob("*.py")} - {"falw/__init__.py"}
    listed = re.findall(r"^\| `(falw/.*?)` \|", (ROOT / "book" / "intro.md").read_text(), re.M)
    assert sorted(path + "__init__.py" * path.endswith("/") for path in listed) == sorted(files)


def test_a_file_says_in_one_line_what_it_holds():
    for module in contents.MODULES:
        first, *rest = (ROOT / contents.path_of(module)).read_text().splitlines()
        assert re.fullmatch(r'"""[A-Z`].+\.(""")?', first), module
        assert first.endswith('"""') or rest[0] == "", f"{module}: the first line goes on in the second"


def test_a_row_that_differs_is_written_anew_and_nothing_else(tmp_path, monkeypatch):
    page = f"Before.\n\n{contents.BEGIN}| old |\n{contents.END}\nAfter, | old | too.\n"
    (tmp_path / "page.md").write_text(page)
    monkeypatch.setattr(contents, "ROOT", tmp_path)
    monkeypatch.setitem(contents.PAGES, "page.md", (lambda: "| new |\n", contents.MARKDOWN))
    assert contents.filled("page.md") == page.replace("| old |\n", "| new |\n")


def text_of(path):
    """A text, or the text cells of a notebook."""
    if path.suffix == ".md":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_every_path_that_a_text_names_is_there():
    named = {(path.name, name) for path in [*TEXTS, *NOTEBOOKS] for name in NAMED.findall(text_of(path))}
    assert len(named) > 40
    assert sorted((text, name) for text, name in named if not (ROOT / name).exists()) == []


def test_the_links_of_the_texts_at_the_top_lead_somewhere():
    for path in ROOT.glob("*.md"):
        links = re.findall(r"\]\((?!https?:)([^)#\s]+)", path.read_text())
        assert [link for link in links if not (ROOT / link).exists()] == [], path.name


# A script's entry, the top of the repository, and what Sphinx calls an extension's entry.
SHARED_NAMES = {"main", "ROOT", "setup"}


def names_defined(path):
    """What a module defines at its top level, imports aside."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name))


def test_a_name_means_one_thing_in_the_package_the_benchmarks_and_the_tools():
    places = defaultdict(set)
    for path in (path for folder in ("falw", "benchmarks", "tools") for path in (ROOT / folder).rglob("*.py")):
        for name in names_defined(path):
            places[name].add(str(path.relative_to(ROOT)))
    twice = {name: paths for name, paths in places.items() if len(paths) > 1 and not re.fullmatch("__.*__", name)}
    assert {name: paths for name, paths in twice.items() if name not in SHARED_NAMES} == {}, "name one of them anew"
    assert set(twice) == SHARED_NAMES, "SHARED_NAMES lists a name that is no longer shared"


def test_attributes_of_the_package_are_its_names_and_no_paths():
    assert not [name for name in dir(falw) if "." in name]
