"""Where the built book lies, and its pages."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SITE = (ROOT / "_build" / "html").resolve()
NOT_OURS = ("index.html", "genindex.html", "py-modindex.html")  # a redirection, and indexes that no page links to
PAGES = sorted(path for path in SITE.glob("*.html") if path.name not in NOT_OURS)
