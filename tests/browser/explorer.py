"""What a test does with an explorer in the browser: find its curves and points, move its controls by keyboard, wait, scan it."""

from __future__ import annotations

import re
import time
from typing import Any

# Everything that plotly draws for data: lines, fills, bars, dots, and heat maps as pictures.
_DRAWN = """panel => [...panel.querySelectorAll(
  '.js-plotly-plot .scatterlayer path, .js-plotly-plot .barlayer path, .js-plotly-plot .shapelayer path, ' +
  '.js-plotly-plot .contourlayer path')].map(path => path.getAttribute('d') + (path.getAttribute('transform') || ''))
  .concat([...panel.querySelectorAll('.js-plotly-plot .heatmaplayer image, .js-plotly-plot .hm image')]
  .map(image => image.getAttribute('href') || image.getAttribute('xlink:href')))"""

# The words in a figure; where a line always runs from corner to corner, its numbers alone change.
_WRITTEN = "panel => [...panel.querySelectorAll('.js-plotly-plot svg text')].map(text => text.textContent)"

_WATCH = (
    "words => { window.scivizSeconds = null; const drawn = words ? "
    + _WRITTEN
    + " : "
    + _DRAWN
    + """;
  const handle = document.activeElement, panel = handle.closest('.sciviz-panel');
  const look = () => JSON.stringify(drawn(panel));
  const before = look();
  handle.addEventListener('keydown', () => {
    const began = performance.now();
    const check = () => {
      if (look() !== before) window.scivizSeconds = (performance.now() - began) / 1000;
      else if (performance.now() - began < 30000) requestAnimationFrame(check);
    };
    requestAnimationFrame(check);
  }, { once: true, capture: true });
}"""
)

_TRACE = """(panel, name) => {
  const trace = panel.querySelector('.js-plotly-plot')._fullData.find(each => each.name === name);
  return { x: [...(trace.x || [])], y: [...(trace.y || [])], z: [...(trace.z || [])].map(row => [...row]) };
}"""
_PLACES = """(panel, points) => {
  const plot = panel.querySelector('.js-plotly-plot');
  const box = plot.getBoundingClientRect(), layout = plot._fullLayout, scale = box.width / layout.width || 1;
  return points.map(([x, y]) => [box.left + scale * (layout.xaxis._offset + layout.xaxis.d2p(x)),
                                 box.top + scale * (layout.yaxis._offset + layout.yaxis.d2p(y))]);
}"""


def shown(panel: Any) -> Any:
    """Scroll to a panel, wait until its figure is drawn, and return it."""
    panel.scroll_into_view_if_needed()
    panel.locator(".js-plotly-plot .main-svg").first.wait_for()
    return panel


def trace(panel: Any, name: str) -> dict[str, Any]:
    """Return the numbers that plotly draws as the trace of that name."""
    found: dict[str, Any] = panel.evaluate(_TRACE, name)
    return found


def places(panel: Any, points: Any) -> list[list[float]]:
    """Return where on the page points of the figure lie."""
    found: list[list[float]] = panel.evaluate(_PLACES, points)
    return found


def until(panel: Any, look: Any, test: Any) -> Any:
    """Look again and again until what is seen passes the test; return it."""
    for _ in range(150):
        if test(found := look()):
            return found
        panel.page.wait_for_timeout(100)
    raise AssertionError(f"It is still {str(found)[:300]}.")


def drawn(panel: Any) -> list[str]:
    """Return the shape of everything that is drawn in a panel."""
    found: list[str] = panel.evaluate(_DRAWN)
    return found


def empty_paths(panel: Any) -> list[str]:
    """Return shapes with a coordinate that is no number."""
    shapes = [shape for shape in drawn(panel) if shape and not shape.startswith("data:")]
    return [shape[:80] for shape in shapes if re.search(r"NaN|Infinity|undefined", shape)]


def handles(panel: Any) -> Any:
    """Return the handles of the sliders that can be reached."""
    return panel.locator(".sciviz-controls [role=slider]")


def press(panel: Any, handle: Any, key: str, timeout: float = 20, *, words: bool = False) -> float | None:
    """Press a key on a handle and wait for another drawing; return the seconds it took, None if none came.

    With `words`, wait for other words in the figure.
    """
    look = _WRITTEN if words else _DRAWN
    before = panel.evaluate(look)
    handle.focus()
    page = panel.page
    # The time is taken in the page, from the key to the frame in which a shape differs.
    page.evaluate(_WATCH, words)
    page.keyboard.press(key)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if panel.evaluate(look) != before:
            page.wait_for_timeout(50)
            seconds: float | None = page.evaluate("window.scivizSeconds")
            return seconds
        page.wait_for_timeout(50)
    return None


def violations(page: Any, context: str) -> list[dict[str, Any]]:
    """Scan part of a page with axe-core; return the serious and critical violations, one a place."""
    from axe_playwright_python.sync_playwright import Axe

    result = Axe().run(page, context=context, options={"resultTypes": ["violations"]})
    return [
        {
            "rule": violation["id"],
            "impact": violation["impact"],
            "target": str(node["target"][-1]),
            "html": node["html"],
        }
        for violation in result.response["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
