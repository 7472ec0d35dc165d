"""Write the repository's address and the release everywhere: `make address URL=https://github.com/OWNER/NAME`.

The address is the one in _config.yml, the release `falw.__version__`: without a URL only a new version is written. The
files of TEXTS hold both, as WRITTEN_AS, and the first code cell of a notebook is SETUP. That cell does nothing where
falw is installed: what is below it need not run again, and a notebook that was executed still is.
"""

import re
import sys
from pathlib import Path

import nbformat
import yaml
from execute import code_cells, is_executed, sources_hash

import falw

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ["README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "_config.yml", "book/running.md"]

# Colab, Pages and Actions are GitHub's, so the address is, too.
ADDRESS = re.compile(r"https://github\.com/([A-Za-z0-9]+(?:-[A-Za-z0-9]+)*)/(?!.*\.git$)([A-Za-z0-9_][\w.-]*)", re.A)

WRITTEN_AS = [
    "{url}",
    "{url}@v{version}",
    "{url}/blob/v{version}",
    "https://{lower}.github.io/{name}",
    "colab.research.google.com/github/{owner}/{name}/blob/v{version}",
    "branch: v{version}",
    "version: {version}",
    "falw-{version}-py3-none-any.whl",
]

SETUP = """\
# A fresh Colab runtime gets release v{version} and keeps its torch. Where the address does
# not answer: upload falw-{version}-py3-none-any.whl of `make wheel`, and %pip install it.
# Elsewhere this does nothing.
import importlib.metadata
import importlib.util
import sys

if importlib.util.find_spec("falw") is None:
    address = "{url}"
    !git -c advice.detachedHead=false clone --quiet --depth 1 -b v{version} {{address}}
    %cd {name}/book
    %pip install --quiet ..
    print(*(f"{{p}} {{importlib.metadata.version(p)}}" for p in ("falw", "torch")))
    print("Python", sys.version.split()[0])"""


def parts(url: str, version: str) -> dict[str, str]:
    """What WRITTEN_AS and SETUP are filled with; raises ValueError for what is no address of a repository."""
    found = ADDRESS.fullmatch(url)
    if not found:
        raise ValueError(f"'{url}' is no address of a repository: give https://github.com/OWNER/NAME")
    owner, name = found.groups()
    return {"url": url, "version": version, "owner": owner, "lower": owner.lower(), "name": name}


def current(root: Path = ROOT) -> dict[str, str]:
    """The parts as _config.yml has them."""
    repository = yaml.safe_load((root / "_config.yml").read_text())["repository"]
    return parts(repository["url"], repository["branch"].removeprefix("v"))


def rewritten(text: str, old: dict[str, str], new: dict[str, str]) -> str:
    """A text with every form of the old parts in the new ones; in one pass, as a new form may hold an old one."""
    forms = {form.format(**old): form.format(**new) for form in WRITTEN_AS}
    longest_first = sorted(forms, key=len, reverse=True)
    return re.sub(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])", lambda m: forms[m[0]], text)


def set_up(notebook, new: dict[str, str]) -> None:
    """Write the first code cell of a notebook; if it was executed, it is still."""
    executed = is_executed(notebook)
    code_cells(notebook)[0].source = SETUP.format(**new)
    if executed:
        notebook.metadata["falw"]["executed"] = sources_hash(notebook)


def write(url: str, version: str, root: Path = ROOT) -> list[str]:
    """Write address and release into the texts and notebooks below `root`; the names of the files that changed."""
    old, new, changed = current(root), parts(url, version), []
    for path in [*(root / name for name in TEXTS), *sorted((root / "book").glob("*.ipynb"))]:
        before = path.read_text()
        if path.suffix == ".ipynb":
            notebook = nbformat.reads(before, as_version=4)
            set_up(notebook, new)
            nbformat.write(notebook, path)
        else:
            path.write_text(rewritten(before, old, new))
        if path.read_text() != before:
            changed.append(str(path.relative_to(root)))
    return changed


def main() -> int:
    """0 when all of them say the same."""
    url = sys.argv[1] if len(sys.argv) > 1 else current()["url"]
    try:
        changed = write(url, falw.__version__)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{url}, release v{falw.__version__}: {len(changed)} files changed", *changed, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
