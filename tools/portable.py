"""Sphinx extension: the text of notebooks, which every renderer shows, as MyST, which this build numbers and links.

JupyterLab and Colab show a directive or a role of MyST as raw code, so cells hold plain Markdown only, in a few forms
that this file reads. Nothing is written back: the notebooks stay as they are.

==============================================  =======================================================================
in a notebook                                   in the built book
==============================================  =======================================================================
`$$ ... \\tag{6} $$`                             the equation, with an anchor
`[Eq. 6](06-balance-factor.ipynb#eq-6)`         a link to that anchor
`[the figure](#fig-tau)`                        "Fig. 12", a link to the figure; `04-page.ipynb#fig-tau` on another page
`([Fan et al. 2024](references.bib#salun))`     a citation in brackets; without the outer brackets one in the text
`![words](static/drawing.svg)`, then `*words*`  a figure with alternative text, caption and the name `fig-drawing`
`> **Title.** words`                            a box
`<details><summary>Title</summary>`             a folded box
a cell with `"exercise": NAME` in its metadata  a numbered exercise with the title in bold
cells with the tag `solution` after it          its solution, folded
==============================================  =======================================================================
"""

import hashlib
import json
import re

import nbformat

CITED = r"\[[^]\n]+\]\(references\.bib#([\w-]+)\)"
FORMS = [
    (re.compile(r"^\$\$\n((?:(?!\$\$).)*?)\\tag\{(\w+)\}\n\$\$$", re.M | re.S), lambda m: equation(m[1], m[2])),
    (re.compile(r"\[([^]\n]+)\]\((?:[\w-]+\.ipynb)?#(eq-\w+)\)"), r"{ref}`\1 <\2>`"),
    (re.compile(r"\[[^]\n]+\]\((?:[\w-]+\.ipynb)?#(fig-[\w-]+)\)"), r"{numref}`\1`"),
    (re.compile(rf"\({CITED}\)"), r"{cite}`\1`"),
    (re.compile(CITED), r"{cite:t}`\1`"),
    (
        re.compile(r"^!\[([^]]+)\]\(((?:[\w-]+/)*([\w-]+)\.\w+)\)\n\n\*(.+?)\*$", re.M | re.S),
        "```{figure} \\2\n:name: fig-\\3\n:width: 440px\n:alt: \\1\n\n\\4\n```",
    ),
    (
        re.compile(r"^<details><summary>(.+?)</summary>\n\n(.*?)\n\n</details>$", re.M | re.S),
        r"`````{admonition} \1\n:class: dropdown\n\2\n`````",
    ),
    (re.compile(r"^> \*\*(.+?)\.\*\* ((?:.*\n?)(?:>.*\n?)*)", re.M), lambda m: box(m[1], m[2])),
]
TITLE = re.compile(r"\*\*Exercise: (.+?)\.\*\*\n(.*)", re.S)
DETAILS = re.compile(r"<details><summary>Solution</summary>\n\n(.*)\n\n</details>", re.S)
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.M | re.S)
RAW = re.compile(
    r"^\s*(?:```+|:::+)\{|\{[a-z]+(?::[a-z]+)*\}`|^\([\w-]+\)=$", re.M
)  # a directive, role or target of MyST


EQUATION = """(eq-{anchor})=
```{{math}}
:nowrap:
\\begin{{equation}}
{tex}\\tag{{{number}}}
\\end{{equation}}
```"""


def equation(tex: str, number: str) -> str:
    """A numbered equation below its anchor. Sphinx would split one of several lines, and a part takes no number."""
    return EQUATION.format(anchor=number.lower(), tex=tex, number=number)


def box(title: str, quoted: str) -> str:
    """A quote as an admonition."""
    body = "\n".join(line.removeprefix(">").removeprefix(" ") for line in quoted.strip().split("\n"))
    return f"````{{admonition}} {title}\n:class: note\n{body}\n````\n"


def to_myst(text: str) -> str:
    """The text of one cell, with the forms outside of code replaced."""
    code: list[str] = []

    def away(m):
        code.append(m[0])
        return f"\0{len(code) - 1}\0"

    text = CODE.sub(away, text)
    for pattern, new in FORMS:
        text = pattern.sub(new, text)
    return re.sub(r"\0(\d+)\0", lambda m: code[int(m[1])], text)


def text_cell(source: str) -> dict:
    """A cell of text."""
    return dict(nbformat.v4.new_markdown_cell(source, id=hashlib.sha256(source.encode()).hexdigest()[:8]))


def translate(notebook: dict) -> dict:
    """The notebook with its text as MyST, and each solution between a directive that starts it and one that ends it."""
    cells, exercise, inside = [], "", False
    for cell in notebook["cells"]:
        meta, source = cell["metadata"], "".join(cell["source"])
        solution = "solution" in meta.get("tags", [])
        if solution and not inside:
            cells.append(text_cell(f"````{{solution-start}} {exercise}\n:class: dropdown\n````"))
        if inside and not solution:
            cells.append(text_cell(f"% {exercise}\n````{{solution-end}}\n````"))
        inside = solution
        if cell["cell_type"] == "markdown":
            source = to_myst(DETAILS.sub(r"\1", source))
            if "exercise" in meta:
                exercise = meta["exercise"]
                title, body = TITLE.fullmatch(source).groups()
                source = f"````{{exercise}} {title}\n:label: {exercise}\n{body}\n````"
        cells.append({**cell, "source": source})
    assert not inside, "a solution is followed by a summary"
    return {**notebook, "cells": cells}


def on_read(app, docname, source):
    """Translate a notebook that Sphinx has read and not yet parsed."""
    if str(app.env.doc2path(docname)).endswith(".ipynb"):
        source[0] = json.dumps(translate(json.loads(source[0])))


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", on_read)
    return {"parallel_read_safe": True}
