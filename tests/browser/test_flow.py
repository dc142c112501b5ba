"""Tutorial 2 by hand: the end of a line is dragged, particles are moved in time, digits are made in one step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from sciviz.lab.places import tutorials_dir
from tests.browser.explorer import drawn, places, press, shown, trace, until
from tests.browser.jupyter import Notebook, cells_of, opened

pytestmark = pytest.mark.browser
WANTED = ("parameters", "setup", "explore-crossing", "explore-particles", "digits-train", "explore-digits")


@pytest.fixture(scope="module")
def notebook(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """The tutorial's own cells that show the explorers, and what they need."""
    cells = cells_of(tutorials_dir() / "02_rectified_flow.ipynb", WANTED)
    with opened(browser, tmp_path_factory.mktemp("flow"), cells) as found:
        yield found


def points(panel: Any, name: str) -> list[list[float]]:
    one = trace(panel, name)
    return [list(pair) for pair in zip(one["x"], one["y"], strict=True)]


def slider(panel: Any, name: str) -> Any:
    return panel.get_by_role("slider", name=name, exact=True)


def said(panel: Any) -> str:
    """Return the line under the figure."""
    text: str = panel.locator("[role=status]").last.inner_text()
    return text


def number(pattern: str, panel: Any) -> float:
    found = re.search(pattern, said(panel))
    assert found, said(panel)
    return float(found.group(1))


def test_the_end_of_a_line_is_dragged(notebook: Notebook) -> None:
    panel, mouse = shown(notebook.panel("Two lines cross")), notebook.page.mouse

    def trace(name: str) -> Any:
        return points(panel, name)

    targets, sources, path = trace("targets"), trace("sources"), trace("follows the mean from source 1")
    assert path[-1][1] < 0, "the lines cross, and the flow rewires them: the lower source ends at the lower target"
    # The targets trade places: the lines no longer cross, and the flow follows them.
    for point, goal in ((targets[0], (1.0, -1.0)), (targets[1], (1.0, 0.7))):
        (x, y), (to_x, to_y) = places(panel, [point, goal])
        mouse.move(x, y)
        mouse.down()
        mouse.move(to_x, to_y, steps=8)
        mouse.up()
        panel.page.wait_for_timeout(300)
    moved = until(panel, lambda: trace("targets"), lambda found: abs(found[1][1] - 0.7) < 0.06)
    assert moved[0] == pytest.approx([1.0, -1.0], abs=0.06)
    assert trace("sources") == sources, "only what was taken has moved"
    after = until(panel, lambda: trace("follows the mean from source 1"), lambda found: found != path)
    assert after[-1][1] == pytest.approx(moved[0][1], abs=0.1), "now source 1 goes to the end of its own line"
    assert "source 1 comes nearest to target 1, source 2 to target 2" in said(panel)

    # The same end by its slider, from the keyboard.
    panel.get_by_label("Move").select_option(label="Point 3")
    before = trace("targets")
    assert press(panel, slider(panel, "x₁"), "ArrowLeft") is not None
    assert until(panel, lambda: trace("targets"), lambda found: found[0][0] < before[0][0])[1] == before[1]

    # And in time: the two moving points go on along the paths, which stay.
    now, path = trace("now"), trace("follows the mean from source 1")
    assert press(panel, slider(panel, "Time"), "ArrowRight") is not None
    later = until(panel, lambda: trace("now"), lambda found: found != now)
    assert all(new[0] > old[0] for new, old in zip(later, now, strict=True))
    assert trace("follows the mean from source 1") == path
    assert panel.locator("[role=alert]").count() == 0


def test_particles_are_moved_in_time_and_reflowed(notebook: Notebook) -> None:
    panel = shown(notebook.panel("Particles on their way"))

    def particles() -> Any:
        return points(panel, "particles")

    # Home: all are at the source; End: all have arrived.
    assert press(panel, slider(panel, "Time"), "Home") is not None
    start = until(panel, particles, lambda found: max(abs(x) for x, _ in found) < 4.5)
    target = points(panel, "target")
    assert press(panel, slider(panel, "Time"), "End") is not None
    end = until(panel, particles, lambda found: found != start)
    assert points(panel, "target") == target
    # The eight modes leave the middle empty.
    assert sum(x * x + y * y < 1 for x, y in end) < sum(x * x + y * y < 1 for x, y in start) / 2

    # One step of the first flow falls short; one step of the second does not.
    distance, straightness = r"target: ([\d.]+\d)", r"S = ([\d.e-]+\d)"
    many, bent = number(distance, panel), number(straightness, panel)
    assert press(panel, slider(panel, "Euler steps"), "Home") is not None
    one = until(panel, lambda: number(distance, panel), lambda found: found != many)
    assert press(panel, slider(panel, "Reflows"), "ArrowRight") is not None
    reflowed = until(panel, lambda: number(distance, panel), lambda found: found != one)
    assert one > 3 * many and reflowed < one / 2
    assert number(straightness, panel) < bent / 3

    # Another target.
    before = drawn(panel)
    panel.get_by_label("To", exact=True).select_option(label="two moons")
    until(panel, lambda: points(panel, "target"), lambda found: found != target)
    assert drawn(panel) != before
    assert panel.locator("[role=alert]").count() == 0


def test_digits_are_made_in_one_step(notebook: Notebook) -> None:
    panel = shown(notebook.panel("Digits from noise"))
    difference = r"differ by ([\d.]+\d)"
    two = number(difference, panel)
    assert press(panel, slider(panel, "Steps"), "Home") is not None
    one = until(panel, lambda: number(difference, panel), lambda found: found != two)
    assert one > two, "one step is farther from fifty than two are"
    panel.get_by_label("Path", exact=True).select_option(label="after reflow")
    assert until(panel, lambda: number(difference, panel), lambda found: found != one) < one
    assert panel.locator("[role=alert]").count() == 0
