"""Copy MathJax out of an installed package into the book: python tools/vendor.py INSTALLED DESTINATION."""

import os
import shutil
import sys
from pathlib import Path

ENTRY = "tex-mml-chtml.js"


def main() -> int:
    """0 when DESTINATION holds the script and its fonts."""
    installed, destination = map(Path, sys.argv[1:])
    script = next(installed.rglob(ENTRY), None)
    if script is None:
        print(f"no {ENTRY} under {installed}; the book would need another source of MathJax", file=sys.stderr)
        return 1
    part = destination.with_name("." + destination.name)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    shutil.copy(script, part / ENTRY)
    shutil.copytree(script.parent / "output", part / "output")
    os.replace(part, destination)
    return 0


if __name__ == "__main__":
    sys.exit(main())
