"""The built book in headless Chromium. `make test-browser` builds it, sees to a browser, and runs this folder."""

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from waiting import wait_until

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def browser():
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert path, "no Chromium on the path: install your system's package, or run `make test-browser` as root"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open a page of the book and return it; what went wrong meanwhile is in `page.trouble`."""
    contexts = []

    def visit(path, scheme="light", width=1280, offline=True, **options):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=offline, **options
        )
        context.set_default_timeout(300_000)  # for what never comes; the browser's own 30 s may pass on a busy machine
        contexts.append(context)
        page = context.new_page()
        page.trouble = []
        page.on("console", lambda m: m.type == "error" and page.trouble.append(m.text))
        page.on("pageerror", lambda error: page.trouble.append(str(error)))
        page.on("requestfailed", lambda request: page.trouble.append(f"failed: {request.url}"))
        page.on("request", lambda r: r.url.startswith("http") and page.trouble.append(f"asked for: {r.url}"))
        page.goto(path.as_uri() if isinstance(path, Path) else path)
        page.evaluate("() => window.MathJax?.startup?.promise.then(() => null)")  # formulas are drawn after loading
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def serve_lab(tmp_path_factory):
    """Start a JupyterLab on a folder; the function that is returned gives the address of a file in it."""
    with contextlib.ExitStack() as servers:

        def serve(folder):
            log = tmp_path_factory.mktemp("lab") / "log"
            command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
            command += ["--IdentityProvider.token=secret", f"--ServerApp.root_dir={folder}"]
            command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
            said = servers.enter_context(open(log, "w"))  # a file, as a pipe that nobody reads fills up
            server = servers.enter_context(subprocess.Popen(command, stderr=said, cwd=folder))
            servers.callback(server.terminate)
            wait_until(lambda: address(log) or server.poll() is not None)
            assert address(log), log.read_text()
            return lambda name: f"{address(log)}doc/tree/{name}?token=secret"

        yield serve


def address(log):
    """Where a JupyterLab says that it is, once it has said so."""
    found = re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())
    return found and found.group(0)
