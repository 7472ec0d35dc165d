"""The same explorers with a kernel: a notebook in JupyterLab, whose sliders are moved in a browser."""

import re
import subprocess
import sys

import nbformat
import pytest
from built import ROOT
from waiting import wait_until

START = f"""
import torch

import falw
from falw import methods, report, widgets

records = falw.read_records({str(ROOT / "results" / "cpu" / "textures")!r})
records = [r for r in records if (r["setting"]["gamma"], r["setting"]["cap"]) == (0.5, "spill")]
p = torch.rand(3, 8)
stats = [falw.class_stats(q, torch.arange(8) % 2, 2) for q in p]
trace = methods.Trace(torch.arange(8) % 2, p, p, 2 * p, torch.arange(8) % 2, p, stats)
"""
EXPLORERS = [
    "widgets.forget_set()",
    "widgets.weight()",
    "widgets.balance()",
    'widgets.deviations(records, ["rl", "salun"])',
    'widgets.benchmark({"half": report.table(records), "again": report.table(records)[:9]})',
    'widgets.trajectory(trace, {"head": 0, "tail": 1})',
]


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab that serves one notebook with an explorer a cell."""
    cells = [nbformat.v4.new_code_cell(source) for source in (START.strip(), *EXPLORERS)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "n.ipynb")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    command += ["--IdentityProvider.token=secret", f"--ServerApp.root_dir={tmp_path}"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    log = tmp_path / "log"
    with open(log, "w") as said, subprocess.Popen(command, stderr=said, cwd=tmp_path) as server:
        try:
            wait_until(lambda: address(log) or server.poll() is not None)
            assert address(log), log.read_text()
            yield f"{address(log)}lab/tree/n.ipynb?token=secret"
        finally:
            server.terminate()


def address(log):
    """Where a JupyterLab says that it is, once it has said so."""
    found = re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())
    return found and found.group(0)


def test_every_explorers_slider_moves_and_the_kernel_answers(lab, visit):
    page = visit(lab, offline=False)
    page.wait_for_selector(".jp-Notebook .cm-content")
    page.get_by_text("(ipykernel) | Idle").wait_for()  # a cell run before that is dropped
    page.locator(".jp-Notebook .cm-content").first.click()
    for _ in range(len(EXPLORERS) + 1):
        page.keyboard.press("Shift+Enter")
    for k, source in enumerate(EXPLORERS, start=1):
        cell = page.locator(".jp-Notebook .jp-CodeCell").nth(k)
        picture, said = cell.locator("img").first, cell.locator(".widget-readout").first
        picture.wait_for()
        picture.scroll_into_view_if_needed()
        before, text = picture.get_attribute("src"), said.inner_text()
        cell.locator(".noUi-handle").first.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            """([k, old]) => {
                const image = document.querySelectorAll(".jp-Notebook .jp-CodeCell")[k].querySelector("img");
                return image && image.src !== old;
            }""",
            arg=[k, before],
        )
        assert said.inner_text() != text, source
