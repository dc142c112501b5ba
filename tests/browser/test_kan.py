"""The explorers of networks with learnt edges by hand: an edge is clicked, tabbed to, pruned and fixed; sliders; a run stopped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest

from tests.browser.explorer import drawn, empty_paths, press, shown, until, violations
from tests.browser.jupyter import Notebook, opened

pytestmark = pytest.mark.browser

SETUP = """
import torch
from sciviz.kan.explorer import explore_graph, explore_scaling, explore_splines
from sciviz.kan.networks import KAN
from sciviz.kan.training import train

X = 2 * torch.rand(80, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
y = X[:, :1] ** 2 + torch.sin(3 * X[:, 1:])
network = KAN([2, 3, 1], seed=0, num_cells=3, dtype=torch.float64)
train(network, X, y, num_steps=8);
"""


@pytest.fixture(scope="module")
def notebook(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    cells = [SETUP, 'explore_graph(network, X=X, y=y, inputs=["x", "y"])', "explore_splines()", "explore_scaling()"]
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    with opened(browser, tmp_path_factory.mktemp("kan"), made) as found:
        yield found


def test_an_edge_is_clicked_tabbed_to_pruned_and_fixed(notebook: Notebook) -> None:
    panel, keyboard = shown(notebook.panel("From curves to a formula")), notebook.page.keyboard
    edges = panel.locator("[data-edge]")
    assert edges.count() == 9

    def title() -> str:
        return str(panel.locator(".gtitle").text_content())

    def error() -> str:
        return re.search(r"Error on these data \(RMSE\): ([\d.e+-]+)", panel.inner_text()).group(1)  # type: ignore[union-attr]

    def focused() -> str | None:
        found: str | None = panel.page.evaluate("document.activeElement.getAttribute('data-edge')")
        return found

    edges.nth(1).click()
    until(panel, title, lambda text: text.startswith("Edge 2, x → h2"))
    assert edges.nth(1).get_attribute("aria-pressed") == "true"
    assert panel.get_by_label("Edge", exact=True).evaluate("list => list.selectedOptions[0].text").startswith("2:")

    # By keys alone from here on, and where the focus is can be seen.
    keyboard.press("Tab")
    assert focused() == "2"
    until(panel, title, lambda text: text.startswith("Edge 3, x → h3"))
    assert float(edges.nth(2).evaluate("edge => parseFloat(getComputedStyle(edge).outlineWidth)")) >= 2
    keyboard.press("ArrowRight")
    assert focused() == "3"
    until(panel, title, lambda text: text.startswith("Edge 4, y → h1"))
    assert "learnt, score" in edges.nth(3).get_attribute("aria-label")

    before = error()
    panel.get_by_role("button", name="Prune edge").focus()
    keyboard.press("Enter")
    pruned = until(panel, error, lambda now: now != before)
    assert "pruned" in edges.nth(3).get_attribute("aria-label")
    until(panel, title, lambda text: "pruned" in text)
    status = panel.locator("[role=status]").inner_text
    until(panel, status, lambda text: f"Edge 4 pruned: error {before} → {pruned}." in text)
    panel.get_by_role("button", name="Undo").focus()
    keyboard.press("Space")
    until(panel, error, lambda now: now == before)

    # A form is looked at in the list, then chosen.
    edges.nth(0).focus()
    until(panel, title, lambda text: text.startswith("Edge 1, "))
    forms = panel.get_by_label("Form", exact=True)
    offered = forms.locator("option").all_text_contents()
    assert "suggested" in offered[0]
    forms.select_option(index=next(n for n, text in enumerate(offered) if text.startswith("tanh,")))
    until(panel, title, lambda text: "tanh fits with R²" in text)
    panel.get_by_role("button", name="Fix edge to this form").click()
    until(panel, panel.inner_text, lambda text: "tanh(" in text and "φ1(" not in text)
    assert "fixed to tanh" in edges.nth(0).get_attribute("aria-label")
    assert panel.locator("[role=alert]").count() == 0 and empty_paths(panel) == []


def test_sliders_of_the_spline(notebook: Notebook) -> None:
    panel = shown(notebook.panel("A spline is a sum of bumps"))
    for label, changed in (("Grid cells", "12 bases of order 3"), ("Order", "13 bases of order 4")):
        assert press(panel, panel.get_by_label(label).first, "ArrowRight") is not None
        until(panel, lambda: panel.locator(".gtitle").text_content(), lambda text, new=changed: text.startswith(new))
    assert panel.locator("[role=alert]").count() == 0 and empty_paths(panel) == []


def test_points_appear_as_they_are_trained_and_a_run_is_stopped(notebook: Notebook) -> None:
    panel = shown(notebook.panel("More parameters, less error"))
    markers = panel.locator(".scatterlayer .points path")
    assert markers.count() == 0
    panel.get_by_role("button", name="Train").click()
    until(panel, markers.count, lambda count: count >= 1)
    panel.get_by_role("button", name="Stop").click()
    until(panel, panel.inner_text, lambda text: "Stopped. What is trained stays." in text)
    count = markers.count()
    assert 1 <= count < 10
    # The kernel answers all the while, and another order has points of its own.
    press(panel, panel.get_by_label("Spline order").first, "ArrowLeft")
    until(panel, lambda: panel.locator(".gtitle").text_content(), lambda text: "slope −3" in text)
    until(panel, markers.count, lambda now: now == 0)
    assert panel.locator("[role=alert]").count() == 0


def test_accessibility(notebook: Notebook) -> None:
    for title in ("From curves to a formula", "A spline is a sum of bumps", "More parameters, less error"):
        assert drawn(shown(notebook.panel(title)))
    found = violations(notebook.page, ".sciviz-panel")
    assert [f"{one['rule']} at {one['target']}: {one['html']}" for one in found] == []
