"""A small canvas on which a reader draws a digit or hides a part of one, by pointer, by keys, or by selector and sliders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

__all__ = ["HIDDEN", "DigitCanvas"]

SIDE = 8
HIDDEN = -1.0
TOOLS = {"ink": 1.0, "paper": 0.0, "hide": HIDDEN}


class _Pixels(anywidget.AnyWidget):
    """The pixels themselves: drawn on with a pointer, or with the arrow keys and the space bar."""

    _esm = Path(__file__).with_name("canvas.js").read_text(encoding="utf-8")
    value: Any = traitlets.List().tag(sync=True)
    brush = traitlets.Int(0).tag(sync=True)  # which of TOOLS, in their order
    row = traitlets.Int(0).tag(sync=True)
    column = traitlets.Int(0).tag(sync=True)


class DigitCanvas(widgets.HBox):  # type: ignore[misc]
    """A control of a `Panel` whose `value` is a tuple of 64 pixels: ink from 0 to 1, or `HIDDEN`.

    Parameters
    ----------
    images
        Pictures to start from, (num, 64) in [0, 1].
    hidden_rows
        How many of the lower rows are hidden at first.

    Raises
    ------
    ValueError
        If there is no picture.
    TraitError
        If the value is not 64 pixels.

    >>> canvas = DigitCanvas([[0.0] * 64], hidden_rows=1)
    >>> canvas.value.count(HIDDEN)
    8
    >>> canvas.tool.value = "ink"
    >>> canvas.apply.click()
    >>> canvas.value[0]
    1.0
    """

    value: Any = traitlets.Tuple()

    def __init__(self, images: Sequence[Sequence[float]], *, hidden_rows: int = 4) -> None:
        self._images = [tuple(float(v) for v in image) for image in images]
        if not self._images:
            raise ValueError("images must hold at least one picture, got none.")
        style = {"description_width": "initial"}
        wide = widgets.Layout(width="auto", min_width="200px")
        starts = [("Blank sheet", -1)] + [(f"Stored digit {n + 1}", n) for n in range(len(self._images))]
        self.start = widgets.Dropdown(options=starts, value=0, description="Start from", style=style, layout=wide)
        self.cover = widgets.IntSlider(hidden_rows, 0, SIDE, description="Rows hidden", style=style, layout=wide)
        self.tool = widgets.Dropdown(
            options=[("Draw ink", "ink"), ("Erase", "paper"), ("Hide", "hide")],
            description="Brush",
            style=style,
            layout=wide,
        )
        self.row, self.column = (
            widgets.IntSlider(1, 1, SIDE, description=label, style=style, layout=wide) for label in ("Row", "Column")
        )
        self.apply = widgets.Button(description="Set this pixel", layout=widgets.Layout(width="auto"))
        self.pixels = _Pixels()
        right = widgets.Box(
            [self.start, self.cover, self.tool, self.row, self.column, self.apply],
            layout=widgets.Layout(flex_flow="row wrap", align_items="center", max_width="760px"),
        )
        super().__init__([self.pixels, right], layout=widgets.Layout(align_items="center"))
        self._moving = False
        self._restart()
        self.observe(self._show, names="value")
        self.pixels.observe(self._take, names="value")
        for control in (self.start, self.cover):
            control.observe(self._restart, names="value")
        self.apply.on_click(self._set_pixel)
        self._links = [
            traitlets.link((slider, "value"), (self.pixels, name), transform=(lambda v: v - 1, lambda v: v + 1))
            for slider, name in ((self.row, "row"), (self.column, "column"))
        ]
        # In the page and not by way of the kernel: the first stroke after a choice is the new brush's, however slow the kernel.
        self._links.append(widgets.jslink((self.tool, "index"), (self.pixels, "brush")))
        self._show()

    @traitlets.validate("value")
    def _check(self, proposal: Any) -> tuple[float, ...]:
        pixels = tuple(float(v) for v in proposal["value"])
        if len(pixels) != SIDE * SIDE or not all(math.isfinite(v) for v in pixels):
            raise traitlets.TraitError(f"a drawing must be {SIDE * SIDE} finite numbers, got {len(pixels)}")
        if any(v != HIDDEN and not 0 <= v <= 1 for v in pixels):
            raise traitlets.TraitError("a pixel must lie between 0 and 1, or be hidden (-1)")
        return pixels

    def _restart(self, _change: Any = None) -> None:
        """Take the chosen picture, and hide its lower rows."""
        image = (0.0,) * SIDE * SIDE if self.start.value < 0 else self._images[self.start.value]
        seen = SIDE * (SIDE - self.cover.value)
        self.value = image[:seen] + (HIDDEN,) * (SIDE * SIDE - seen)

    def _show(self, _change: Any = None) -> None:
        self._moving = True
        try:
            self.pixels.value = list(self.value)
        finally:
            self._moving = False

    def _take(self, change: Any) -> None:
        if not self._moving:
            self.value = tuple(change["new"])

    def _set_pixel(self, _button: Any) -> None:
        pixels = list(self.value)
        pixels[SIDE * (self.row.value - 1) + self.column.value - 1] = TOOLS[self.tool.value]
        self.value = tuple(pixels)
