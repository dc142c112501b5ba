"""A real JupyterLab driven in a real Chromium: what the browser tests, and the tool that takes pictures, stand on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
]
SETTINGS = {
    # News asks a server outside; a windowed notebook leaves out of the page what is not in sight.
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
}


@contextlib.contextmanager
def jupyter_lab(root: Path, theme: str = "JupyterLab Light") -> Iterator[str]:
    """Serve `root` in JupyterLab on a free port of this machine; yield its address."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = Path(scratch, "settings")
        wanted = {**SETTINGS, "@jupyterlab/apputils-extension/themes.jupyterlab-settings": {"theme": theme}}
        for name, content in wanted.items():
            path = settings / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {
            **os.environ,
            "JUPYTERLAB_SETTINGS_DIR": str(settings),
            "JUPYTERLAB_WORKSPACES_DIR": str(Path(scratch, "workspaces")),
            "JUPYTER_CONFIG_DIR": str(Path(scratch, "config")),
            "JUPYTER_RUNTIME_DIR": str(Path(scratch, "runtime")),
            "IPYTHONDIR": str(Path(scratch, "ipython")),
        }
        log = Path(scratch, "log")
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--port-retries=0"]
        command += [
            "--allow-root",
            "--IdentityProvider.token=",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.root_dir={root}",
        ]
        command += ["--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
        with log.open("w") as written:
            server = subprocess.Popen(command, env=environment, stdout=written, stderr=subprocess.STDOUT)
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(600):
                if server.poll() is not None:
                    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/api/status", timeout=2):
                    break
                time.sleep(0.1)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


class Notebook:
    """One notebook open in JupyterLab, as a person has it before them.

    Attributes
    ----------
    page
        The playwright page.
    outside
        Addresses asked for that are not on this machine.
    errors
        Errors that the page raised.
    """

    def __init__(self, browser: Any, address: str, name: str, *, width: int = 1280, height: int = 1000) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="light")
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.outside: list[str] = []
        self.errors: list[str] = []
        local = (address, address.replace("http", "ws"), "data:", "blob:", "about:")
        self.page.on(
            "request", lambda request: None if request.url.startswith(local) else self.outside.append(request.url)
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{address}/lab/tree/{name}?reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        # Run All before the kernel is there runs nothing.
        self.page.wait_for_selector("text=/\\| Idle/", timeout=120_000)
        with contextlib.suppress(Exception):
            self.page.get_by_role("button", name="Collapse Toolbar").first.click(timeout=300)

    def run_all(self, timeout: float = 300) -> None:
        """Run all cells and wait until the last one is done."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_text("Run All Cells", exact=True).click()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.page.wait_for_timeout(500)
            prompts = self.page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
            if (
                prompts
                and not any("*" in text for text in prompts)
                and any(char.isdigit() for char in "".join(prompts))
            ):
                break
        else:
            raise TimeoutError(f"The notebook was not done after {timeout} s.")
        self.page.wait_for_timeout(1500)

    def failed_cells(self) -> list[str]:
        """Return the tracebacks shown."""
        found: list[str] = self.page.locator('.jp-OutputArea-output[data-mime-type*="error"]').all_inner_texts()
        return found

    def panel(self, title: str) -> Any:
        """Return the explorer with that title."""
        return self.page.locator(".sciviz-panel").filter(has=self.page.locator(".sciviz-title", has_text=title)).first

    def close(self) -> None:
        """Close the page."""
        self.context.close()


@contextlib.contextmanager
def opened(browser: Any, folder: Path, notebook: Any) -> Iterator[Notebook]:
    """Write a notebook, open it in JupyterLab and run it; afterwards the page must have raised nothing and asked nobody."""
    nbformat.write(notebook, folder / "short.ipynb")
    with jupyter_lab(folder) as address:
        found = Notebook(browser, address, "short.ipynb")
        found.run_all()
        assert found.failed_cells() == []
        yield found
        assert found.errors == [] and found.outside == []
        found.close()


def cells_of(path: Path, wanted: Sequence[str]) -> Any:
    """Return a notebook with those cells of it alone."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.id in wanted]
    assert [cell.id for cell in notebook.cells] == list(wanted)
    return notebook


def need_chromium() -> None:
    """Skip the test where there is no Chromium; fail it where SCIVIZ_REQUIRE_BROWSER=1."""
    import pytest

    if CHROMIUM is None:
        reason = "needs Chromium, and none of chromium, chromium-browser and google-chrome is on the PATH"
        if os.environ.get("SCIVIZ_REQUIRE_BROWSER") == "1":
            pytest.fail(f"{reason} (SCIVIZ_REQUIRE_BROWSER=1)")
        pytest.skip(reason)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium; yield playwright's browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()
