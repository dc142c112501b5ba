"""A starting point is taken with the mouse and dragged: the trajectory follows, and plotly does not zoom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.browser.explorer import drawn
from tests.browser.jupyter import Notebook, jupyter_lab

pytestmark = pytest.mark.browser

SOURCE = "from sciviz.ode import explorer\nexplorer.explore_solver()"
PLACE = """
() => {
  const plot = document.querySelector(".sciviz-panel .js-plotly-plot");
  const box = plot.getBoundingClientRect(), layout = plot._fullLayout;
  const scale = box.width / layout.width || 1;
  const at = ([x, y]) => [box.left + scale * (layout.xaxis._offset + layout.xaxis.d2p(x)),
                          box.top + scale * (layout.yaxis._offset + layout.yaxis.d2p(y))];
  return { range: [...layout.xaxis.range, ...layout.yaxis.range], at: POINTS.map(at) };
}"""


def test_a_point_is_dragged(browser: Any, tmp_path: Path) -> None:
    from sciviz.ode import explorer

    starts = next(control for control in explorer.explore_solver().controls.values() if hasattr(control, "x_range"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SOURCE)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(notebook, tmp_path / "drag.ipynb")
    with jupyter_lab(tmp_path) as address:
        page = Notebook(browser, address, "drag.ipynb")
        page.run_all()
        assert page.failed_cells() == []
        panel = page.page.locator(".sciviz-panel").first
        panel.scroll_into_view_if_needed()
        points = [list(map(float, point)) for point in starts.value]
        before = page.page.evaluate(PLACE.replace("POINTS", str(points)))
        paths = drawn(panel)
        x, y = before["at"][0]
        page.page.mouse.move(x, y)
        page.page.mouse.down()
        page.page.mouse.move(x + 30, y - 20, steps=6)
        page.page.mouse.up()
        page.page.wait_for_timeout(1500)
        after = page.page.evaluate(PLACE.replace("POINTS", str(points)))
        assert drawn(panel) != paths
        assert after["range"] == pytest.approx(before["range"])
        assert page.errors == [] and page.outside == []
        page.close()
