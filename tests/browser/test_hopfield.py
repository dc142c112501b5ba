"""Tutorial 4 by hand: a digit is drawn on its canvas, by mouse and by keys, and a pattern is dragged over the landscape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sciviz.lab.places import tutorials_dir
from tests.browser.explorer import drawn, places, shown, trace, until
from tests.browser.jupyter import Notebook, cells_of, opened

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def notebook(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """The tutorial's own cells that show the explorers, and what they need."""
    cells = cells_of(
        tutorials_dir() / "04_hopfield.ipynb", ("parameters", "setup", "explore-surface", "explore-digits")
    )
    with opened(browser, tmp_path_factory.mktemp("hopfield"), cells) as found:
        yield found


def ready(notebook: Notebook, index: int) -> Any:
    return shown(notebook.page.locator(".sciviz-panel").nth(index))


def until_trace(panel: Any, name: str, test: Any) -> dict[str, Any]:
    found: dict[str, Any] = until(panel, lambda: trace(panel, name), test)
    return found


def test_a_digit_is_drawn_on_the_canvas(notebook: Notebook) -> None:
    panel, mouse = ready(notebook, 1), notebook.page.mouse
    canvas = panel.locator("canvas")
    before = drawn(panel)
    cue = trace(panel, "cue")["z"]
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
    first = trace(panel, "patterns")
    points = list(zip(first["x"], first["y"], strict=True))
    energy = trace(panel, "energy")["z"]
    target = (points[4][0] + 0.5, points[4][1] + 0.4)
    (x, y), (to_x, to_y) = places(panel, [points[4], target])
    mouse.move(x, y)
    mouse.down()
    mouse.move(to_x, to_y, steps=8)
    mouse.up()
    moved = until_trace(panel, "patterns", lambda found: abs(found["x"][4] - target[0]) < 0.06)
    assert moved["y"][4] == pytest.approx(target[1], abs=0.06)
    # The one that was taken, and no other; and the landscape moved with it.
    assert [p for i, p in enumerate(zip(moved["x"], moved["y"], strict=True)) if i != 4] == points[:4]
    assert trace(panel, "energy")["z"] != energy
    assert panel.get_by_label("Move").input_value() == panel.get_by_label("Move").locator("option").nth(
        4
    ).get_attribute("value")
