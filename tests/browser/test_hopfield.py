"""Tutorial 4 by hand: a digit is drawn on its canvas, by mouse and by keys, and a pattern is dragged over the landscape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import nbformat
import pytest

from sciviz.lab.places import tutorials_dir
from tests.browser.explorer import drawn
from tests.browser.jupyter import Notebook, jupyter_lab

pytestmark = pytest.mark.browser

TRACE = """(panel, name) => {
  const trace = panel.querySelector('.js-plotly-plot')._fullData.find(each => each.name === name);
  return { x: [...(trace.x || [])], y: [...(trace.y || [])], z: [...(trace.z || [])].map(row => [...row]) };
}"""
PLACES = """(panel, points) => {
  const plot = panel.querySelector('.js-plotly-plot');
  const box = plot.getBoundingClientRect(), layout = plot._fullLayout, scale = box.width / layout.width || 1;
  return points.map(([x, y]) => [box.left + scale * (layout.xaxis._offset + layout.xaxis.d2p(x)),
                                 box.top + scale * (layout.yaxis._offset + layout.yaxis.d2p(y))]);
}"""


@pytest.fixture(scope="module")
def notebook(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """The tutorial's own cells that show the two explorers, and what they need."""
    folder = tmp_path_factory.mktemp("hopfield")
    whole = nbformat.read(tutorials_dir() / "04_hopfield.ipynb", as_version=4)
    wanted = ("parameters", "setup", "explore-surface", "explore-digits")
    whole.cells = [cell for cell in whole.cells if cell.id in wanted]
    assert [cell.id for cell in whole.cells] == list(wanted)
    nbformat.write(whole, folder / "short.ipynb")
    with jupyter_lab(folder) as address:
        opened = Notebook(browser, address, "short.ipynb")
        opened.run_all()
        assert opened.failed_cells() == []
        yield opened
        assert opened.errors == [] and opened.outside == []
        opened.close()


def ready(notebook: Notebook, index: int) -> Any:
    panel = notebook.page.locator(".sciviz-panel").nth(index)
    panel.scroll_into_view_if_needed()
    panel.locator(".js-plotly-plot .main-svg").first.wait_for()
    return panel


def until_trace(panel: Any, name: str, test: Any) -> dict[str, Any]:
    for _ in range(100):
        found: dict[str, Any] = panel.evaluate(TRACE, name)
        if test(found):
            return found
        panel.page.wait_for_timeout(100)
    raise AssertionError(f"{name} is still {found}")


def test_a_digit_is_drawn_on_the_canvas(notebook: Notebook) -> None:
    panel, mouse = ready(notebook, 1), notebook.page.mouse
    canvas = panel.locator("canvas")
    before = drawn(panel)
    cue = panel.evaluate(TRACE, "cue")["z"]
    assert all(value == 0.35 for row in cue[4:] for value in row), "the lower half is hidden at first"
    box = canvas.bounding_box()

    def pixel(row: int, column: int) -> tuple[float, float]:
        return box["x"] + (column + 0.5) * box["width"] / 8, box["y"] + (row + 0.5) * box["height"] / 8

    # A stroke over six hidden pixels, and one click apart from it.
    mouse.move(*pixel(6, 1))
    mouse.down()
    mouse.move(*pixel(6, 6), steps=25)
    mouse.up()
    mouse.click(*pixel(4, 3))
    after = until_trace(panel, "cue", lambda found: found["z"][4][3] == 1 and found["z"][6][6] == 1)["z"]
    expected = [list(row) for row in cue]
    expected[6][1:7], expected[4][3] = [1] * 6, 1
    assert after == expected
    assert "row 5, column 4: ink" in canvas.get_attribute("aria-label")
    assert drawn(panel) != before, "the memory answers another cue"

    # With another brush, by keys alone: the click gave the canvas the focus.
    panel.get_by_label("Brush").select_option(label="Hide")
    canvas.focus()
    for key in ("ArrowUp", "ArrowRight", "Space"):
        notebook.page.keyboard.press(key)
    assert cue[3][4] != 0.35
    expected[3][4] = 0.35
    hidden = until_trace(panel, "cue", lambda found: found["z"][3][4] == 0.35)["z"]
    assert hidden == expected
    assert "row 4, column 5: hidden" in canvas.get_attribute("aria-label")
    assert panel.locator("[role=alert]").count() == 0


def test_a_pattern_is_dragged_over_the_landscape(notebook: Notebook) -> None:
    panel, mouse = ready(notebook, 0), notebook.page.mouse
    first = panel.evaluate(TRACE, "patterns")
    points = list(zip(first["x"], first["y"], strict=True))
    energy = panel.evaluate(TRACE, "energy")["z"]
    target = (points[4][0] + 0.5, points[4][1] + 0.4)
    (x, y), (to_x, to_y) = panel.evaluate(PLACES, [points[4], target])
    mouse.move(x, y)
    mouse.down()
    mouse.move(to_x, to_y, steps=8)
    mouse.up()
    moved = until_trace(panel, "patterns", lambda found: abs(found["x"][4] - target[0]) < 0.06)
    assert moved["y"][4] == pytest.approx(target[1], abs=0.06)
    # The one that was taken, and no other; and the landscape moved with it.
    assert [p for i, p in enumerate(zip(moved["x"], moved["y"], strict=True)) if i != 4] == points[:4]
    assert panel.evaluate(TRACE, "energy")["z"] != energy
    assert panel.get_by_label("Move").input_value() == panel.get_by_label("Move").locator("option").nth(
        4
    ).get_attribute("value")
