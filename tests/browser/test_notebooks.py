"""Notebooks as a reader has them: real JupyterLab, real Chromium, Run All, and explorers moved by keyboard.

Screenshots and times lie in `test-artefacts/` afterwards.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sciviz.lab.places import tutorials_dir
from tests.browser.explorer import drawn, empty_paths, handles, press, violations
from tests.browser.jupyter import Notebook, jupyter_lab
from tests.notebooks import lint, toys

ARTEFACTS = lint.ROOT / "test-artefacts"
pytestmark = pytest.mark.browser

EXPLORER = """
import numpy as np
from sciviz.lab.panel import Choices, Literal


def wave(
    frequency: Annotated[float, Range(0.5, 4.0, step=0.1, unit="Hz", play=True)] = 1.0,
    width: Annotated[int, Range(16, 256, log=True, label="Width")] = 64,
    kind: Annotated[Literal["sine", "cosine"], Choices("Kind")] = "sine",
    mapped: Annotated[bool, Choices("As a map")] = False,
):
    x = np.linspace(0, 1, width)
    return x, (np.sin if kind == "sine" else np.cos)(2 * np.pi * frequency * x), frequency, mapped


def draw(state):
    x, y, frequency, mapped = state
    fig = theme.figure(title=f"A wave of {frequency:.1f} Hz", alt=f"A wave of {frequency:.1f} Hz.", x="x", y="y", height=300)
    if mapped:
        return theme.add_heatmap(fig, y[None, :], x, signed=True, title="height")
    theme.add_theory(fig, x, np.zeros_like(x), "rest")
    return theme.add_measurement(fig, x, y, "wave", low=y - 0.1, high=y + 0.1, active=True)


Panel(wave, draw, title="Wave", hint="Move it.", describe=lambda state: f"The wave has {state[2]:.1f} Hz.")
"""


class InTheBrowser:
    """The tests; a class with a `source` is made of it for each notebook below."""

    source: Path

    @pytest.fixture(scope="class")
    @classmethod
    def notebook(cls, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
        folder = tmp_path_factory.mktemp("lab")
        # The folder as a reader has it: what lies beside the notebook, and its links, too.
        for path in cls.source.parent.iterdir():
            if path.is_file():
                shutil.copy(path, folder)
        with jupyter_lab(folder) as address:
            opened = Notebook(browser, address, cls.source.name)
            opened.run_all(timeout=400)
            yield opened
            opened.close()

    @pytest.fixture(scope="class")
    @classmethod
    def panels(cls, notebook: Notebook) -> list[Any]:
        found = notebook.page.locator(".sciviz-panel")
        for index in range(found.count()):
            found.nth(index).scroll_into_view_if_needed()
            found.nth(index).locator(".js-plotly-plot .main-svg").first.wait_for(timeout=20_000)
        return [found.nth(index) for index in range(found.count())]

    def test_no_cell_failed(self, notebook: Notebook) -> None:
        assert notebook.failed_cells() == []

    def test_screenshots(self, notebook: Notebook, panels: list[Any]) -> None:
        folder = ARTEFACTS / "screenshots" / self.source.stem
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        notebook.page.screenshot(path=folder / "page.png")
        for index, panel in enumerate(panels):
            panel.screenshot(path=folder / f"explorer-{index}.png")
        assert len(list(folder.iterdir())) == 1 + len(panels)

    def test_every_explorer_is_drawn(self, panels: list[Any]) -> None:
        expected = len(lint.code_cells(lint.read(self.source), "explorer"))
        assert len(panels) == expected
        for panel in panels:
            assert panel.locator(".js-plotly-plot").count() == 1
            assert len([shape for shape in drawn(panel) if shape]) > 0
            assert empty_paths(panel) == []

    def test_figures_are_drawn_and_described(self, notebook: Notebook) -> None:
        page = notebook.page
        for index in range((plots := page.locator(".js-plotly-plot")).count()):
            plots.nth(index).scroll_into_view_if_needed()
            plots.nth(index).locator(".main-svg").first.wait_for(timeout=20_000)
        outside = page.locator(".js-plotly-plot:not(.sciviz-panel *)").count()
        assert page.locator(".sciviz-description").count() == outside

    def test_sliders_move_the_curves(self, panels: list[Any]) -> None:
        """By keyboard: focus the handle, press an arrow key, and the curve has another path."""
        times = []
        for panel in panels:
            title = panel.locator(".sciviz-title").inner_text()
            moved = {}
            for index in range(handles(panel).count()):
                handle = handles(panel).nth(index)
                name = handle.get_attribute("aria-label")
                # At its upper end a handle can only go back.
                seconds = press(panel, handle, "ArrowRight", timeout=15)
                if seconds is None:
                    seconds = press(panel, handle, "ArrowLeft", timeout=15)
                moved[name] = seconds
                times.append({"explorer": title, "control": name, "seconds": seconds})
            assert moved and all(seconds is not None for seconds in moved.values()), (title, moved)
            assert panel.locator("[role=alert]").count() == 0
            assert empty_paths(panel) == []
        folder = ARTEFACTS / "times"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.source.stem}.json").write_text(json.dumps(times, indent=1) + "\n")

    def test_explorers_are_named_for_screen_readers(self, panels: list[Any]) -> None:
        for panel in panels:
            assert panel.get_attribute("role") == "group" and panel.get_attribute("aria-label")
            plot = panel.locator(".js-plotly-plot")
            assert plot.get_attribute("role") == "figure" and (plot.get_attribute("aria-label") or "").strip()
            for index in range(handles(panel).count()):
                assert handles(panel).nth(index).get_attribute("aria-label")

    def test_accessibility(self, notebook: Notebook, panels: list[Any]) -> None:
        if not panels:
            pytest.skip("this notebook has no explorer")
        found = violations(notebook.page, ".sciviz-panel")
        assert [
            f"{violation['rule']} ({violation['impact']}) at {violation['target']}: {violation['html']}"
            for violation in found
        ] == []

    def test_nothing_leaves_the_machine(self, notebook: Notebook) -> None:
        assert notebook.outside == []

    def test_page_raised_no_error(self, notebook: Notebook) -> None:
        assert notebook.errors == []


for _name in ("00_start_here", "01_ntk"):
    if (_path := tutorials_dir() / f"{_name}.ipynb").is_file():
        globals()[f"Test_{_name}"] = type(f"Test_{_name}", (InTheBrowser,), {"source": _path, "__module__": __name__})


class TestToy(InTheBrowser):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def written(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        notebook = toys.small(EXPLORER)
        notebook.cells[-1].metadata["tags"] = ["explorer"]
        cls.source = toys.write(notebook, tmp_path_factory.mktemp("toy") / "toy.ipynb")

    def test_other_controls_by_keyboard(self, notebook: Notebook, panels: list[Any]) -> None:
        (panel,) = panels
        page = notebook.page
        before = drawn(panel)
        panel.locator("select").focus()
        page.keyboard.press("ArrowDown")
        page.wait_for_timeout(500)
        assert panel.locator("select").input_value() == "cosine"
        assert panel.locator("select").evaluate("select => select === document.activeElement"), (
            "JupyterLab took the key"
        )
        page.wait_for_timeout(700)
        assert (changed := drawn(panel)) != before
        panel.get_by_role("checkbox", name="As a map").focus()
        page.keyboard.press("Space")
        panel.locator(".heatmaplayer image, .hm image").first.wait_for(state="attached")
        page.keyboard.press("Space")
        panel.locator(".scatterlayer path.js-line").first.wait_for(state="attached")
        page.wait_for_timeout(500)
        assert drawn(panel) == changed
