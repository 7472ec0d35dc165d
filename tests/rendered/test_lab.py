"""The same explorers with a kernel: a notebook in JupyterLab, whose slider is moved in a browser."""

import re
import subprocess
import sys

import nbformat
import pytest


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab that serves one notebook with one explorer."""
    cells = [nbformat.v4.new_code_cell("from falw import widgets\n\nwidgets.balance()")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "n.ipynb")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    command += ["--IdentityProvider.token=secret", f"--ServerApp.root_dir={tmp_path}"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    for line in server.stderr:
        if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
            break
    yield f"{found.group(0)}lab/tree/n.ipynb?token=secret"
    server.terminate()
    server.communicate(timeout=60)


def test_a_slider_moves_and_the_kernel_answers(lab, visit):
    page = visit(lab, offline=False)
    page.wait_for_selector(".jp-Notebook .cm-content", timeout=60_000)
    page.get_by_text("(ipykernel) | Idle").wait_for(timeout=60_000)  # a cell run before that is dropped
    page.locator(".jp-Notebook .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    picture = page.locator(".jp-OutputArea img").first
    picture.wait_for(timeout=120_000)
    handle = page.locator(".noUi-handle").first
    before, text = picture.get_attribute("src"), page.locator(".widget-readout").first.inner_text()
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "old => document.querySelector('.jp-OutputArea img')?.src.includes(old) === false",
        arg=before[-200:],
        timeout=60_000,
    )
    assert page.locator(".widget-readout").first.inner_text() != text
