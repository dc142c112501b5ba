"""Tutorial 5 by hand: a membrane's current, a digit's raster, a pair of spikes that is dragged, delays that are moved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sciviz.lab.places import tutorials_dir
from tests.browser.explorer import drawn, places, press, shown, trace, until
from tests.browser.jupyter import Notebook, cells_of, opened

pytestmark = pytest.mark.browser

EXPLORERS = ("explore-neuron", "explore-raster", "explore-delays", "explore-stdp")
TITLE = "panel => panel.querySelector('.js-plotly-plot')._fullLayout.title.text"


@pytest.fixture(scope="module")
def notebook(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """The tutorial's own cells that show the explorers, and what they need."""
    cells = cells_of(tutorials_dir() / "05_snn.ipynb", ("parameters", "setup", *EXPLORERS))
    with opened(browser, tmp_path_factory.mktemp("snn"), cells) as found:
        yield found


def ready(notebook: Notebook, cell: str) -> Any:
    return shown(notebook.page.locator(".sciviz-panel").nth(EXPLORERS.index(cell)))


def slider(panel: Any, name: str) -> Any:
    return panel.locator(f".sciviz-controls [role=slider][aria-label^='{name}']").first


def test_more_current_makes_the_membrane_fire_more(notebook: Notebook) -> None:
    panel = ready(notebook, "explore-neuron")
    before = trace(panel, "membrane")["y"]
    title = panel.evaluate(TITLE)
    assert press(panel, slider(panel, "Size"), "PageUp") is not None
    after = until(panel, lambda: trace(panel, "membrane")["y"], lambda y: y != before)
    # The potential starts at rest; a larger current lifts its first step, and spikes come more often.
    assert after[0] > before[0]
    assert int(panel.evaluate(TITLE).split()[0]) > int(title.split()[0])
    panel.get_by_label("Current", exact=True).select_option(label="noise")
    drive = until(panel, lambda: trace(panel, "current")["y"], lambda y: len(set(y)) > 10)
    assert max(drive) > min(drive)
    assert panel.locator("[role=alert]").count() == 0


def test_another_digit_makes_other_spikes(notebook: Notebook) -> None:
    panel = ready(notebook, "explore-raster")
    picture, spikes = trace(panel, "picture")["z"], trace(panel, "hidden")
    assert panel.evaluate(TITLE).startswith("A 3,")
    assert press(panel, slider(panel, "Digit"), "ArrowRight") is not None
    until(panel, lambda: panel.evaluate(TITLE), lambda text: text.startswith("A 4,"))
    assert trace(panel, "picture")["z"] != picture
    assert trace(panel, "hidden") != spikes
    # A threshold far up: fewer hidden spikes, fewer operations.
    cost, count = trace(panel, "now")["x"][0], len(trace(panel, "hidden")["x"])
    assert press(panel, slider(panel, "Threshold"), "End") is not None
    until(panel, lambda: trace(panel, "now")["x"][0], lambda x: x < cost)
    assert len(trace(panel, "hidden")["x"]) < count
    assert panel.locator("[role=alert]").count() == 0


def test_a_pair_of_spikes_is_dragged_across(notebook: Notebook) -> None:
    panel, mouse = ready(notebook, "explore-stdp"), notebook.page.mouse
    first = trace(panel, "this pair")
    assert first["x"][0] > 0 and first["y"][0] > 0, "input first: growth"
    (x, y), (to_x, to_y) = places(panel, [[trace(panel, "spikes")["x"][1], 0.0], [20.0, 0.0]])
    mouse.move(x, y)
    mouse.down()
    mouse.move(to_x, to_y, steps=8)
    mouse.up()
    moved = until(panel, lambda: trace(panel, "this pair"), lambda found: found["x"][0] < -15)
    assert moved["y"][0] < 0
    weights = trace(panel, "weight")["y"]
    assert weights[-1] < weights[0] == 0.5
    assert panel.evaluate(TITLE).startswith("Output first")
    assert panel.locator("[role=alert]").count() == 0


def test_delays_bring_the_spikes_of_one_class_together(notebook: Notebook) -> None:
    panel = ready(notebook, "explore-delays")
    sent = trace(panel, "arrived")["x"]
    assert "miss one another" in panel.evaluate(TITLE)
    latest = max(sent)
    for channel, at in enumerate(sent):
        handle = slider(panel, f"Delay of channel {channel + 1}")
        for _ in range(int(latest - at)):
            handle.focus()
            notebook.page.keyboard.press("ArrowRight")
    arrived = until(panel, lambda: trace(panel, "arrived")["x"], lambda x: len(set(x)) == 1)
    assert arrived == [latest] * len(sent)
    assert "the neuron fires" in panel.evaluate(TITLE)
    before = drawn(panel)
    panel.get_by_label("Class shown").select_option(label="class 2")
    until(panel, lambda: drawn(panel), lambda shapes: shapes != before)
    assert "miss one another" in panel.evaluate(TITLE)
    assert panel.locator("[role=alert]").count() == 0
