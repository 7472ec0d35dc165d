"""Execute notebooks in place: those whose stored outputs do not belong to their cells, or all of them.

A notebook counts as executed when its cells were run in order from the top without an error and the hash of their
sources, which is stored in its metadata, is still theirs.

    python tools/execute.py [--all | --check] [NOTEBOOK ...]      (no name: every notebook of book/)
"""

import argparse
import base64
import hashlib
import io
import os
import re
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

# What differs between two machines that compute the same: folders, first the one inside the other.
PLACES = [
    (re.escape(str(ROOT)) + r"(?![\w.-])", "."),
    (r"/\S*?/ipykernel_\d+/\d+\.py", "<cell>"),
    (re.escape(sys.prefix) + r"(?![\w.-])", "<python>"),
    (re.escape(str(Path.home())) + r"(?=/)", "~"),
]


def code_cells(notebook):
    """The code cells that are not empty."""
    return [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]


def sources_hash(notebook) -> str:
    """A hash of the code, cell by cell; text may change without a new run."""
    return hashlib.sha256("\0".join(c.source for c in code_cells(notebook)).encode()).hexdigest()[:16]


def is_executed(notebook) -> bool:
    """Whether the stored outputs are those of the cells as they are."""
    cells = code_cells(notebook)
    in_order = [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    failed = any(o.output_type == "error" for c in cells for o in c.outputs)
    return in_order and not failed and notebook.metadata.get("falw", {}).get("executed") == sources_hash(notebook)


def without_places(value, kind: str = ""):
    """The same output without this machine's folders; encoded pictures, which have none, are left alone."""
    if isinstance(value, dict):
        return type(value)((k, without_places(v, k)) for k, v in value.items())
    if isinstance(value, list):
        return [without_places(v, kind) for v in value]
    if isinstance(value, str) and kind not in ("image/png", "image/jpeg", "application/pdf"):
        for pattern, name in PLACES:
            value = re.sub(pattern, name, value)
    return value


def with_palette(encoded: str, most: float = 0.5) -> str:
    """A PNG, base64, in 256 colours: a third of the bytes for a figure, whose colours are few.

    It stays as it is where that would change a channel by more than `most` of 255 in the mean, as of photographs, or
    where something is transparent.
    """
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    if picture.mode == "P" or picture.convert("RGBA").getextrema()[3][0] < 255:
        return encoded
    full = picture.convert("RGB")
    few, file = full.quantize(256, dither=Image.Dither.NONE), io.BytesIO()
    change = np.abs(np.asarray(full, float) - np.asarray(few.convert("RGB"), float)).mean()
    few.save(file, "PNG", optimize=True)
    smaller = base64.b64encode(file.getvalue()).decode()
    return smaller if change <= most and len(smaller) < len(encoded) else encoded


def shrink_pictures(data) -> None:
    """Store the figure of an output, and those within its HTML, in few colours."""
    if "image/png" in data:
        data["image/png"] = with_palette(data["image/png"])
    if "text/html" in data:
        data["text/html"] = re.sub(
            r"(?<=data:image/png;base64,)[\w+/=]+", lambda found: with_palette(found[0]), data["text/html"]
        )


def execute(path: Path) -> None:
    """Run a notebook from the top in its own folder and replace it by the executed one, whole or not at all."""
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    resources = {"metadata": {"path": path.parent}}
    # As the tests' kernels have it: see conftest.py.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FALW_TUNED": ""}
    NotebookClient(notebook, timeout=1200, kernel_name="python3", resources=resources).execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
        if cell.cell_type == "code":
            cell.outputs = without_places(cell.outputs)
            for output in cell.outputs:
                output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)  # its kernel is gone
                shrink_pictures(output.get("data", {}))
                if output.output_type == "stream" and output.name == "stderr":
                    print(f"{path.name}: a cell writes to stderr: {output.text[:200]}")
    notebook.metadata.pop("widgets", None)
    notebook.metadata["falw"] = {"executed": sources_hash(notebook)}
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}  # knows ! and %
    part = path.with_name(f".{path.name}.part")
    nbformat.write(notebook, part)
    os.replace(part, path)
    print(f"{path.name}: executed in {time.perf_counter() - started:.0f} s")


def main() -> int:
    """0 when every notebook is executed at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="execute again what is executed already")
    parser.add_argument("--check", action="store_true", help="only say what is not executed")
    parser.add_argument("notebooks", nargs="*", type=Path)
    args = parser.parse_args()
    paths = args.notebooks or sorted((ROOT / "book").glob("*.ipynb"))
    if not paths:
        print("no notebooks in book/", file=sys.stderr)
        return 1
    todo = [p for p in paths if args.all or not is_executed(nbformat.read(p, as_version=4))]
    for path in todo:
        if args.check:
            print(f"{path}: not executed as it stands; run `make book`")
            continue
        try:
            execute(path)
        except CellExecutionError as error:
            print(f"{path} stays as it was: a cell failed\n{error}", file=sys.stderr)
            return 1
    return 1 if args.check and todo else 0


if __name__ == "__main__":
    sys.exit(main())
