"""Write the list of the package's files into README.md, two pages of the book and `falw`'s docstring: `make contents`.

The order is that of `falw._HOME`, the words are the first lines of the docstrings. In a page the list lies between two
marks; the rest of the page stays as it is.
"""

import ast
import textwrap
from collections.abc import Sequence
from pathlib import Path

import falw

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- written by make contents -->\n\n", "\n<!-- end -->\n"
MODULES = [*falw._HOME, "__main__"]
EVENING = MODULES[: MODULES.index("audit") + 1]  # the core; behind it lie architectures, loaders, checks, the store

# Fields with a function as their default: they would be shown with that function's docstring.
EXCLUDED = {"train": "target, forget_loss, retain_loss", "methods": "targets, forget_loss, retain_loss, alpha"}

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


def file_table(modules: Sequence[str] = MODULES) -> str:
    """A row for each file and folder of the package."""
    names = {module: str(path_of(module)).removesuffix("__init__.py") for module in modules}
    rows = [f"| `{name}` | {summary(module)} |" for module, name in names.items()]
    return "\n".join(["| file | what it holds |", "| :-- | :-- |", *rows]) + "\n"


def short_table() -> str:
    """The core file by file, and the folders."""
    return file_table([*EVENING, *(m for m in MODULES if path_of(m).name == "__init__.py"), "__main__"])


def api_sections() -> str:
    """A section for each file, which Sphinx fills with its docstrings."""
    lines = {module: f"   :exclude-members: {names}\n" for module, names in EXCLUDED.items()}
    modules = [module for module in falw._HOME if path_of(module).name != "__init__.py"]
    return "\n".join(API.format(module=module, excluded=lines.get(module, "")) for module in modules)


def lines(module: str) -> int:
    """How many lines a module has, docstrings and all."""
    return len((ROOT / path_of(module)).read_text().splitlines())


def reading_path() -> str:
    """The files of the core, each with its number of lines."""
    files = [f"- {module}.py, {lines(module)} lines: {summary(module)}" for module in EVENING]
    return "\n".join(textwrap.fill(file, 120, subsequent_indent="  ") for file in files)


MARKDOWN = (BEGIN, END)
PAGES = {
    "README.md": (short_table, MARKDOWN),
    "book/intro.md": (file_table, MARKDOWN),
    "book/api.md": (api_sections, MARKDOWN),
    "falw/__init__.py": (reading_path, ("(`make contents` writes the list):\n\n", "\n\nNames are loaded")),
}


def filled(page: str) -> str:
    """The text of a page with its contents, written anew, between its marks."""
    contents, (begin, end) = PAGES[page]
    before, marked, rest = (ROOT / page).read_text().partition(begin)
    _, ended, after = rest.partition(end)
    assert marked and ended, f"{page} without the two marks"
    return before + begin + contents() + end + after


if __name__ == "__main__":
    for name in PAGES:
        (ROOT / name).write_text(filled(name))
