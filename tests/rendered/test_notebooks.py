"""The notebooks as JupyterLab shows them: text, equations and pictures in place of code, solutions folded."""

import re
import shutil

import nbformat
import pytest
from built import ROOT

CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))


@pytest.fixture(scope="module")
def shelf(serve_lab, tmp_path_factory):
    """The address of a JupyterLab that serves a copy of the book."""
    folder = tmp_path_factory.mktemp("shelf") / "book"
    shutil.copytree(ROOT / "book", folder, ignore=shutil.ignore_patterns("vendor"))
    return serve_lab(folder)


def cells_of(path, kind):
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_notebook_reads_in_jupyterlab_as_it_does_in_the_book(path, shelf, visit):
    page = visit(shelf(path.name), offline=False)
    texts, code = cells_of(path, "markdown"), cells_of(path, "code")
    shown = page.locator(".jp-MarkdownCell .jp-MarkdownOutput")
    for k in range(len(texts)):  # JupyterLab draws a cell when it comes into sight
        shown.nth(k).scroll_into_view_if_needed()
        shown.nth(k).locator(":scope > *").first.wait_for(state="attached")
    page.wait_for_function("() => !document.querySelector('.jp-MarkdownOutput')?.innerText.includes('$$')")

    equations = sum(len(re.findall(r"^\$\$$", c.source, re.M)) for c in texts) // 2
    page.wait_for_function(
        "n => document.querySelectorAll('.jp-MarkdownOutput mjx-container[display]').length === n", arg=equations
    )
    assert page.locator("mjx-merror").count() == 0
    words = "\n".join(shown.all_inner_texts())
    assert not re.search(r"\{[a-z:]+\}`|^(```|:::)|\\(frac|mathcal|text)\b", words, re.M)
    assert page.locator(".jp-MarkdownOutput img").evaluate_all("all => all.every(i => i.naturalWidth > 0)")

    folded = sum(c.source.count("<details>") for c in texts)
    assert page.locator(".jp-MarkdownOutput details:not([open])").count() == folded
    hidden = [c for c in code if c.metadata.get("jupyter", {}).get("source_hidden")]
    assert page.locator(".jp-CodeCell .jp-InputArea .jp-Placeholder, .jp-CodeCell .jp-InputPlaceholder").count() == len(
        hidden
    )
