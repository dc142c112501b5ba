"""Points that a reader drags in a panel's figure, or moves by a selector and two sliders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from sciviz.lab.checks import check_int

__all__ = ["DragPoints"]


class _Handles(anywidget.AnyWidget):
    """Listens to the pointer over the figure of its panel; draws nothing."""

    _esm = Path(__file__).with_name("drag.js").read_text(encoding="utf-8")
    value: Any = traitlets.List().tag(sync=True)
    selected = traitlets.Int(0).tag(sync=True)
    column = traitlets.Int(1).tag(sync=True)
    x_range: Any = traitlets.List().tag(sync=True)
    y_range: Any = traitlets.List().tag(sync=True)


class DragPoints(widgets.HBox):  # type: ignore[misc]
    """A control of a `Panel` whose `value` is a tuple of points (x, y), in the coordinates of the panel's figure.

    Points are dragged in the figure with mouse, pen or finger; the selector says which point the two sliders move.

    Parameters
    ----------
    points
        Where the points are at first.
    x_range, y_range
        (low, high): no point leaves them.
    column
        Which panel of the figure the points lie in, from 1.
    x_label, y_label
        Names of the two sliders.

    Raises
    ------
    ValueError
        If a range is not two finite numbers in rising order.
    TraitError
        If there is no point, or one is not two finite numbers within the ranges.

    >>> drag = DragPoints([(0.0, 1.0)], x_range=(-2.0, 2.0), y_range=(-2.0, 2.0))
    >>> drag.value = [(1.5, 1.0)]
    >>> drag.across.value
    1.5
    """

    value: Any = traitlets.Tuple()

    def __init__(
        self,
        points: Sequence[Sequence[float]],
        *,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        column: int = 1,
        x_label: str = "x",
        y_label: str = "y",
    ) -> None:
        check_int(1, column=column)
        for name, (low, high) in (("x_range", x_range), ("y_range", y_range)):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"{name} must be two finite numbers in rising order, got ({low!r}, {high!r}).")
        self.x_range, self.y_range = x_range, y_range
        self._moving = False
        names = [(f"Point {n + 1}", n) for n in range(len(points))]
        style = {"description_width": "initial"}
        self.selector = widgets.Dropdown(
            options=names or [("", 0)], description="Move", style=style, layout=widgets.Layout(width="auto")
        )
        self.across, self.up = (
            widgets.FloatSlider(
                min=low,
                max=high,
                # A power of ten, 100 to 1000 of them: round numbers, zero among them, can be reached.
                step=10.0 ** math.floor(math.log10((high - low) / 100)),
                value=low,
                description=label,
                readout_format=".3g",
                style=style,
                layout=widgets.Layout(width="auto", min_width="330px", flex="0 0 auto"),
            )
            for label, (low, high) in ((x_label, x_range), (y_label, y_range))
        )
        self.handles = _Handles(column=column, x_range=list(x_range), y_range=list(y_range))
        super().__init__(
            [self.selector, self.across, self.up, self.handles],
            layout=widgets.Layout(flex_flow="row wrap", align_items="center"),
        )
        self.value = points
        self.observe(self._spread, names="value")
        self.handles.observe(lambda change: self._take(change["new"]), names="value")
        self.handles.observe(self._point_at, names="selected")
        self.selector.observe(self._choose, names="value")
        for slider in (self.across, self.up):
            slider.observe(self._slide, names="value")
        self._spread()

    @traitlets.validate("value")
    def _check(self, proposal: Any) -> tuple[tuple[float, float], ...]:
        points = []
        for point in proposal["value"]:
            numbers = tuple(float(number) for number in point)
            if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
                raise traitlets.TraitError(f"each point must be two finite numbers, got {point!r}")
            for number, (low, high) in zip(numbers, (self.x_range, self.y_range), strict=True):
                if not low - 1e-9 <= number <= high + 1e-9:
                    raise traitlets.TraitError(f"{number:g} does not lie between {low:g} and {high:g}")
            points.append((numbers[0], numbers[1]))
        if not points:
            raise traitlets.TraitError("there must be at least one point")
        return tuple(points)

    def _take(self, points: Any) -> None:
        if not self._moving:
            self.value = tuple((float(x), float(y)) for x, y in points)

    def _point_at(self, change: Any) -> None:
        self.selector.value = min(int(change["new"]), len(self.value) - 1)

    def _choose(self, _change: Any) -> None:
        self.handles.selected = self.selector.value
        self._spread()

    def _spread(self, _change: Any = None) -> None:
        """Bring sliders and handles to the value, without being called back by them."""
        self._moving = True
        try:
            self.across.value, self.up.value = self.value[min(self.selector.value, len(self.value) - 1)]
            self.handles.value = [list(point) for point in self.value]
        finally:
            self._moving = False

    def _slide(self, _change: Any) -> None:
        if self._moving:
            return
        points = list(self.value)
        points[self.selector.value] = (self.across.value, self.up.value)
        self.value = tuple(points)
