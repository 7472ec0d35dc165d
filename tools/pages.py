"""Sphinx extension: what the pages of this book need beyond Jupyter Book.

Docstrings of the package are plain text with `code` in backticks, and are shown as such: reStructuredText would read
`mean**2` and `|z|` as markup. The scripts of Thebe, which Jupyter Book adds to every page, are left out: they run cells
on a server that this book does not use, and declare a constant twice, which is an error on every page. And two things
are put right for readers who do not see or do not use a mouse.
"""

import re


def literal(app, what, name, obj, options, lines):
    """Rewrite the lines of one docstring in place: everything is escaped but code, blank lines and indentation."""
    if what == "class" and hasattr(obj, "_fields"):  # a NamedTuple's fields would say "Alias for field number 0"
        options.setdefault("exclude-members", set()).update(obj._fields)
    for k, line in enumerate(lines):
        body = line.lstrip()
        parts = re.split(r"(`[^`]+`)", body)
        texts = [f"`{p}`" if p.startswith("`") else re.sub(r"([*|_\\`])", r"\\\1", p) for p in parts]
        lines[k] = line[: len(line) - len(body)] + "".join(texts)


def without_thebe(app, pagename, templatename, context, doctree):
    """Take Thebe's scripts from one page."""
    scripts = context.get("script_files", [])
    context["script_files"] = [s for s in scripts if "thebe" not in f"{s} {getattr(s, 'attributes', '')}".lower()]


ACCESS = [
    # what scrolls sideways can be scrolled from the keyboard
    ('<div class="pst-scrollable-table-container">', '<div class="pst-scrollable-table-container" tabindex="0">'),
    # a "list" must hold list items, and the entries of a bibliography have a role of their own
    ('<div role="list" class="citation-list">', '<div class="citation-list">'),
]


def accessible(app, pagename, templatename, context, doctree):
    """Mend the HTML of one page."""
    for old, new in ACCESS:
        context["body"] = context.get("body", "").replace(old, new)
    # a number and its deviation stand on one line
    context["body"] = re.sub(r"(?<=\d) ± (?=\d)", "\u00a0±\u00a0", context["body"])


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", literal)
    app.connect("html-page-context", without_thebe, priority=900)
    app.connect("html-page-context", accessible, priority=900)
    return {"parallel_read_safe": True}
