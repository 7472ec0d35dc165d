"""The same explorers with a kernel: a notebook in JupyterLab, whose sliders are moved in a browser."""

import nbformat
import pytest
from built import ROOT

START = f"""
import pandas as pd
import torch

import falw
from falw.book import explorers, own_model
from falw.lab import tables, traces
from falw.metrics import Part

records = falw.records({str(ROOT / "results" / "cpu" / "textures")!r})
records = records.query("gamma == 0.5 and cap == 'spill'")
p = torch.rand(3, 8)
stats = [falw.class_stats(q, torch.arange(8) % 2, 2) for q in p]
own = pd.DataFrame({{"class": [0, 0, 0], "p": [0.1, 0.2, 0.3], "part": ["unseen", "unseen", "forget"]}})
trace = traces.Trace(torch.arange(8) % 2, p, p, 2 * p, torch.arange(8) % 2, p, stats)
parts = {{name: Part(torch.rand(8, 2), torch.arange(8) % 2) for name in ("retrain", "rl", "salun")}}
values = [(0.5, "all", 1.0), (0.5, "all", 5.0), (0.5, "tail", 1.0), (0.5, "tail", 5.0)]
values += [(2.0, *rest) for _, *rest in values]
alarms = [
    dict(line="rl", gamma=g, group=c, rate=rate, low=0, mean=k + 1, high=k + 2)
    for k, (g, c, rate) in enumerate(values)
]
"""
EXPLORERS = [
    "explorers.forget_set()",
    "explorers.weight()",
    "explorers.balance()",
    'explorers.deviations(records, ["rl", "salun"])',
    'explorers.benchmark({"half": tables.table(records), "again": tables.table(records)[:9]})',
    'explorers.trajectory(trace, {"head": 0, "tail": 1})',
    "explorers.false_alarms(alarms)",
    'explorers.two_models(parts, {"head": torch.tensor([0]), "tail": torch.tensor([1])})',
]
CELLS = [START.strip(), *EXPLORERS, "own_model.show(own)"]


@pytest.fixture
def lab(tmp_path, serve_lab):
    """The address of a notebook with an explorer a cell, in JupyterLab."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "n.ipynb")
    return serve_lab(tmp_path)("n.ipynb")


def test_every_explorers_control_moves_and_the_kernel_answers(lab, visit):
    page = visit(lab, offline=False)
    page.wait_for_selector(".jp-Notebook .cm-content")
    page.get_by_text("(ipykernel) | Idle").wait_for()  # a cell run before that is dropped
    page.locator(".jp-Notebook .cm-content").first.click()
    for _ in CELLS:
        page.keyboard.press("Shift+Enter")
    for k, source in enumerate(EXPLORERS, start=1):
        cell = page.locator(".jp-Notebook .jp-CodeCell").nth(k)
        before = picture_of(cell)
        text = cell.locator(".widget-readout").first.inner_text()
        cell.locator(".noUi-handle").first.focus()
        page.keyboard.press("ArrowRight")
        wait_for_another(page, k, before)
        assert cell.locator(".widget-readout").first.inner_text() != text, source
        lines = [line.bounding_box()["y"] for line in cell.locator(".widget-html-content span").all()]
        assert lines == sorted(set(lines)), f"{source}: lines of its formula run into each other"
    own = page.locator(".explorer.own.alive")  # this one is the page's own in JupyterLab, too
    own.wait_for()
    assert own.locator(".explorer-formula").inner_text().startswith("the example: 1 forgotten")
    own.locator("input[type=range]").focus()
    for key, text in (("ArrowRight", "0.16"), ("ArrowUp", "0.17"), ("ArrowDown", "0.16"), ("ArrowLeft", "0.15")):
        page.keyboard.press(key)
        assert own.locator("output").inner_text() == text, key


def picture_of(cell):
    """The picture of an explorer as it is now."""
    picture = cell.locator("img").first
    picture.wait_for()
    picture.scroll_into_view_if_needed()
    return picture.get_attribute("src")


def wait_for_another(page, k, before):
    """Until the picture of the k-th cell is not the one before."""
    page.wait_for_function(
        """([k, old]) => {
            const image = document.querySelectorAll(".jp-Notebook .jp-CodeCell")[k].querySelector("img");
            return image && image.src !== old;
        }""",
        arg=[k, before],
    )
