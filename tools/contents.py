"""Write the list of the package's files into README.md and two pages of the book: `make contents`.

The order is that of `falw._HOME`, the words are the first lines of the docstrings. In a page the list lies between two
marks; the rest of the page stays as it is.
"""

import ast
from pathlib import Path

import falw

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- written by make contents -->\n\n", "\n<!-- end -->\n"
MODULES = [*falw._HOME, "__main__"]

# Fields with a function as their default: they would be shown with that function's docstring.
EXCLUDED = {"train": "target, forget_loss", "methods": "targets, forget_loss, alpha"}

API = """## falw.{module}

```{{eval-rst}}
.. automodule:: falw.{module}
   :members:
{excluded}   :member-order: bysource
```
"""


def path_of(module: str) -> Path:
    """The file of a module, from the top of the repository."""
    path = Path("falw", *module.split("."))
    package = path / "__init__.py"
    return package if (ROOT / package).exists() else path.with_suffix(".py")


def summary(module: str) -> str:
    """The first line of a module's docstring as a cell of a table, without its full stop."""
    docstring = ast.get_docstring(ast.parse((ROOT / path_of(module)).read_text()))
    return docstring.splitlines()[0].removesuffix(".").replace("|", r"\|")


def table() -> str:
    """A row for each file and folder of the package."""
    names = {module: str(path_of(module)).removesuffix("__init__.py") for module in MODULES}
    rows = [f"| `{name}` | {summary(module)} |" for module, name in names.items()]
    return "\n".join(["| file | what it holds |", "| :-- | :-- |", *rows]) + "\n"


def reference() -> str:
    """A section for each file, which Sphinx fills with its docstrings."""
    lines = {module: f"   :exclude-members: {names}\n" for module, names in EXCLUDED.items()}
    modules = [module for module in falw._HOME if path_of(module).name != "__init__.py"]
    return "\n".join(API.format(module=module, excluded=lines.get(module, "")) for module in modules)


PAGES = {"README.md": table, "book/intro.md": table, "book/api.md": reference}


def filled(page: str, contents: str) -> str:
    """A page with these contents between its marks."""
    before, marked, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    assert marked and ended, "a page without the two marks"
    return before + BEGIN + contents + END + after


if __name__ == "__main__":
    for name, written in PAGES.items():
        path = ROOT / name
        path.write_text(filled(path.read_text(), written()))
