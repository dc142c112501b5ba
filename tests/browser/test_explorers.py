"""Every explorer of every wing by keyboard: each slider moves what is drawn, nothing turns into no number, no barrier is found.

How long a reader waits from the key to the frame that shows the answer is left in `test-artefacts/times/`, and each explorer's
picture after its moves in `test-artefacts/screenshots/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest

from tests.browser.explorer import drawn, empty_paths, handles, press, shown, violations
from tests.browser.jupyter import Notebook, opened
from tests.browser.test_notebooks import ARTEFACTS
from tests.notebooks.explorers import explorers

pytestmark = pytest.mark.browser
KEYS = ("ArrowRight", "ArrowLeft") * 3
NAMES = list(explorers())
WINGS = sorted({name.split(".")[0] for name in NAMES})


GIVEN = """panel => panel.querySelector('.js-plotly-plot').data.map((trace, number) =>
  [`${number} ${trace.type} ${trace.name}`, ['x', 'y', 'z'].filter(name => trace[name] != null).join('')])"""


def given(panel: Any) -> dict[str, str]:
    """Return which of x, y and z each trace of the page has."""
    return dict(panel.evaluate(GIVEN))


class EveryExplorer:
    """The tests; a class with a `wing` is made of it for each wing below, which finds its explorers by itself."""

    wing: str

    @pytest.fixture(scope="class")
    @classmethod
    def notebook(cls, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
        cells = [f"from sciviz.{cls.wing} import explorer", *(f"explorer.{name}()" for name in cls.functions())]
        made = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        with opened(browser, tmp_path_factory.mktemp(cls.wing), made) as found:
            yield found

    @classmethod
    def functions(cls) -> list[str]:
        return [name.split(".")[1] for name in NAMES if name.startswith(f"{cls.wing}.")]

    def panels(self, notebook: Notebook) -> dict[str, Any]:
        found = notebook.page.locator(".sciviz-panel")
        assert found.count() == len(self.functions())
        return {name: shown(found.nth(index)) for index, name in enumerate(self.functions())}

    def test_every_slider_moves_what_is_drawn(self, notebook: Notebook) -> None:
        times, pictures = [], ARTEFACTS / "screenshots" / self.wing
        for name, panel in self.panels(notebook).items():
            shown(panel)
            assert any(drawn(panel))
            at_first = given(panel)
            moves = list(self.moves(panel))
            assert moves, f"{name} has nothing to move"
            for control, seconds in moves:
                times += [
                    {"explorer": f"{self.wing}.{name}", "control": control, "seconds": each} for each in seconds or []
                ]
            assert [control for control, seconds in moves if seconds is None] == [], name
            assert panel.locator("[role=alert]").count() == 0
            assert empty_paths(panel) == []
            pictures.mkdir(parents=True, exist_ok=True)
            panel.screenshot(path=pictures / f"{name}.png")
            # What a message leaves out must not be lost on the page.
            for key, names in given(panel).items():
                assert names == at_first.get(key, names), (name, key)
        folder = ARTEFACTS / "times"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.wing}.json").write_text(json.dumps(times, indent=1) + "\n")

    def moves(self, panel: Any) -> Iterator[tuple[str, list[float] | None]]:
        """Press keys on each slider, or, where there is none, on what else takes keys; yield how long each took.

        None stands for a slider that moved nothing.
        """
        for index in range(handles(panel).count()):
            handle = handles(panel).nth(index)
            found = self.seconds(panel, handle, KEYS)
            if found is None:
                found = self.seconds(panel, handle, KEYS, words=True)
            if found is None:
                found = self.elsewhere(panel, handle)
            yield handle.get_attribute("aria-label"), found
        if handles(panel).count() == 0:
            for number in (0, 2, 4):
                edge = panel.locator("[data-edge]").nth(number)
                yield f"edge {number + 1}", self.seconds(panel, edge, ("ArrowRight",))

    def seconds(self, panel: Any, handle: Any, keys: tuple[str, ...], *, words: bool = False) -> list[float] | None:
        canvas = panel.locator("canvas[aria-label]")
        cursor = canvas.first.get_attribute("aria-label") if canvas.count() else None
        found = []
        for number, key in enumerate(keys):
            # At its upper end a handle can only go back.
            took = press(panel, handle, key, timeout=2, words=words)
            panel.page.wait_for_timeout(150)
            if took is not None:
                found.append(took)
            elif cursor is not None and canvas.first.get_attribute("aria-label") != cursor:
                # A slider may move the cursor of a canvas, and nothing else.
                return []
            if not found and number == 1:
                break
        return found or None

    def elsewhere(self, panel: Any, handle: Any) -> list[float] | None:
        """Some sliders speak in one setting of a list alone: look for it."""
        lists = panel.locator(".sciviz-controls select")
        for number in range(lists.count()):
            chosen = lists.nth(number)
            at_first = chosen.evaluate("list => list.selectedIndex")
            for option in range(chosen.locator("option").count()):
                chosen.select_option(index=option)
                panel.page.wait_for_timeout(500)
                if handle.is_visible() and (found := self.seconds(panel, handle, KEYS[:4])) is not None:
                    return found
            chosen.select_option(index=at_first)
            panel.page.wait_for_timeout(500)
        return None

    def test_accessibility(self, notebook: Notebook) -> None:
        self.panels(notebook)
        found = violations(notebook.page, ".sciviz-panel")
        assert [f"{one['rule']} at {one['target']}: {one['html']}" for one in found] == []


for _wing in WINGS:
    globals()[f"Test_{_wing}"] = type(
        f"Test_{_wing}", (EveryExplorer,), {"wing": _wing, "__module__": __name__, "__doc__": f"Those of {_wing}."}
    )
