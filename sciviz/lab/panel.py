"""The base of every explorer: controls from typed parameters → a data set → a figure, redrawn as the reader moves.

An explorer is two plain functions and a `Panel` around them: `compute(**values) -> data` and `draw(data) -> Figure`.
The panel builds one keyboard-operable control for each parameter of `compute`, drops stale updates, says that it is
working on what takes longer, shows errors in place, and keeps a table of what is drawn for those who cannot see it.
"""

from __future__ import annotations

import asyncio
import html
import inspect
import os
import time
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import anywidget
import ipywidgets as widgets
import plotly.graph_objects as go
import traitlets

from sciviz.lab import theme
from sciviz.lab.claims import is_strict
from sciviz.lab.frames import with_slider

__all__ = ["Annotated", "Choices", "Literal", "Panel", "Range", "sweep"]


@dataclass(frozen=True)
class Range:
    """A number's range, as the annotation of a parameter: `width: Annotated[int, Range(16, 4096, log=True)] = 256`.

    Attributes
    ----------
    low, high
        Both ends can be chosen.
    step
        The distance of two values; by default 1 for integers and a fiftieth of the range for others.
    log
        Move through powers of two (integers) or through equal ratios (others).
    label, unit
        What the control is called, and the unit shown after its value.
    play
        Add an animate button that moves the control from its low to its high end.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False
    label: str = ""
    unit: str = ""
    play: bool = False


@dataclass(frozen=True)
class Choices:
    """A label, and names for the values, of a `Literal` or `bool` parameter."""

    label: str = ""
    names: Mapping[Any, str] | None = None


class _Names(anywidget.AnyWidget):
    """Gives the panel and its controls the names that a screen reader says; draws nothing.

    ipywidgets draws a slider's label beside it but does not tie the two together.
    """

    _esm = """
    function render({ model, el }) {
      el.style.display = "none";
      const name = () => {
        const panel = el.closest(".sciviz-panel");
        if (!panel) return;
        panel.setAttribute("role", "group");
        panel.setAttribute("aria-label", model.get("title"));
        for (const box of panel.querySelectorAll(".widget-inline-hbox")) {
          const label = box.querySelector(".widget-label");
          // A checkbox has its words in a label of its own, and an empty one (a zero-width space) before it.
          const text = label ? label.textContent.replace(/\\u200b/g, "").trim() : "";
          if (!text) continue;
          for (const part of box.querySelectorAll("[role=slider], [contenteditable], input, select"))
            if (part.getAttribute("aria-label") !== text) part.setAttribute("aria-label", text);
          const readout = box.querySelector(".widget-readout");
          const handle = box.querySelector("[role=slider]");
          if (readout && handle && handle.getAttribute("aria-valuetext") !== readout.textContent)
            handle.setAttribute("aria-valuetext", readout.textContent);
          if (readout && readout.isContentEditable) readout.setAttribute("role", "textbox");
        }
        // The arrow, space and letter keys of a control are its own: JupyterLab would move to another cell, or delete one.
        // It asks the element that has the focus, not what it stands in.
        for (const part of panel.querySelectorAll(".sciviz-controls :is([role=slider], select, input, button)"))
          part.setAttribute("data-lm-suppress-shortcuts", "true");
        for (const box of panel.querySelectorAll(".widget-play")) {
          const label = box.parentElement.querySelector(".widget-label");
          const text = label ? ": " + label.textContent : "";
          [...box.querySelectorAll("button")].forEach((button, i) =>
            button.setAttribute("aria-label", (["Play or pause", "Stop", "Repeat"][i] || "Animate") + text));
        }
        for (const plot of panel.querySelectorAll(".js-plotly-plot")) {
          // A FigureWidget is drawn before its panel has a width, and asks for one only when the window changes.
          if (!plot.dataset.fitted) { plot.dataset.fitted = "1"; window.dispatchEvent(new Event("resize")); }
          // Not an image: its tools are buttons, and an image has nothing in it that can be reached.
          plot.setAttribute("role", "figure");
          for (const drawing of plot.querySelectorAll(".main-svg")) drawing.setAttribute("aria-hidden", "true");
          plot.setAttribute("aria-label", model.get("alt"));
        }
        for (const link of panel.querySelectorAll(".modebar-btn")) {
          link.setAttribute("role", "button");
          link.setAttribute("aria-label", link.getAttribute("data-title") || "figure tool");
        }
      };
      let waiting = false;
      const later = () => { if (!waiting) { waiting = true; setTimeout(() => { waiting = false; name(); }, 200); } };
      const watcher = new MutationObserver(later);
      const begin = setInterval(() => {
        const panel = el.closest(".sciviz-panel");
        if (!panel) return;
        clearInterval(begin);
        name();
        watcher.observe(panel, { childList: true, subtree: true, characterData: true });
      }, 100);
      model.on("change:alt", later);
      return () => { clearInterval(begin); watcher.disconnect(); };
    }
    export default { render };
    """
    title = traitlets.Unicode().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)


_STYLE = f"""<style>
.sciviz-panel {{ background: {theme.CARD}; color: {theme.INK}; border: 1px solid #dcd9d0; border-radius: 8px;
  padding: 12px 16px; max-width: 1100px; box-sizing: border-box; }}
.sciviz-panel .widget-label, .sciviz-panel .widget-readout, .sciviz-panel .widget-html-content,
.sciviz-panel .jupyter-widget-Collapse-header {{ color: {theme.INK} !important; }}
.sciviz-panel .widget-inline-hbox .widget-label {{ width: auto; min-width: 0; max-width: none; text-align: left; }}
.sciviz-panel .sciviz-title {{ font-size: 16px; font-weight: 600; }}
.sciviz-panel .sciviz-controls {{ gap: 4px 22px; }}
.sciviz-panel .widget-checkbox, .sciviz-panel .widget-checkbox * {{ color: {theme.INK}; }}
.sciviz-panel .jupyter-widget-Collapse-header {{ background: #f1eee6 !important; border-color: #dcd9d0; }}
.sciviz-panel .jupyter-widget-Collapse-contents, .sciviz-panel .jupyter-widget-Accordion-child,
.sciviz-panel .lm-Accordion-child {{ background: {theme.CARD}; border-color: #dcd9d0; }}
.sciviz-panel .widget-play button {{ background: #f1eee6; color: {theme.INK}; }}
.sciviz-panel select, .sciviz-panel input {{ background-color: #fff; color: {theme.INK}; }}
.sciviz-panel :focus-visible {{ outline: 3px solid {theme.ACTIVE}; outline-offset: 2px; }}
.sciviz-panel .noUi-connect {{ background: {theme.ACTIVE}; }}
.sciviz-busy {{ opacity: 0; animation: sciviz-show 0s linear 0.3s forwards; }}
@keyframes sciviz-show {{ to {{ opacity: 1; }} }}
@media (prefers-reduced-motion: no-preference) {{
  .sciviz-busy::after {{ content: "…"; animation: sciviz-blink 1s steps(2) infinite; }}
}}
@keyframes sciviz-blink {{ 50% {{ opacity: 0.2; }} }}
</style>"""


class Panel(widgets.VBox):  # type: ignore[misc]
    """An explorer: move a control, and the figure follows.

    Parameters
    ----------
    compute
        `compute(**values)` → whatever `draw` draws, usually a data set. Its parameters become the controls: their types
        say which (`Annotated[int, Range(…)]`, `Literal[…]`, `bool`), their defaults where they start.
    draw
        `draw(data)` → a figure of `sciviz.lab.theme`, with alt text.
    title
        What the reader explores.
    describe
        `describe(data)` → one or two sentences with the numbers of the moment; read aloud by screen readers.
    hint
        What to try.
    controls
        Widgets with a `value`, by parameter name, that take the place of the control the panel would build
        (an anywidget to drag points on, say).
    ranges
        Ranges by parameter name, where they are only known when the panel is made; an annotation's own range is the
        usual place.

    Raises
    ------
    TypeError
        If a parameter of `compute` has no default, or a type that no control is known for.

    >>> def compute(width: Annotated[int, Range(16, 64, log=True)] = 32) -> int:
    ...     return width
    >>> def draw(width: int) -> theme.Figure:
    ...     return theme.add_data(theme.figure(title="One dot", alt="One dot."), [width], [1])
    >>> panel = Panel(compute, draw, title="Width")
    >>> panel.set(width=64)
    >>> panel.figure.data[0].x.tolist()
    [64]
    """

    def __init__(
        self,
        compute: Callable[..., Any],
        draw: Callable[[Any], Any],
        *,
        title: str,
        describe: Callable[[Any], str] | None = None,
        hint: str = "",
        controls: Mapping[str, Any] | None = None,
        ranges: Mapping[str, Range] | None = None,
    ) -> None:
        self._compute, self._draw, self._describe = compute, draw, describe
        self.title = title
        self.last_error: BaseException | None = None
        self.last_seconds = 0.0
        self.updates = 0
        self._dirty = False
        self._held = False
        self._timer: asyncio.TimerHandle | None = None
        self.controls: dict[str, Any] = {}
        self._played: set[str] = set()
        boxes = []
        given = dict(controls or {})
        kinds = typing.get_type_hints(compute, include_extras=True)
        for name, parameter in inspect.signature(compute).parameters.items():
            if name in given:
                self.controls[name] = given[name]
                boxes.append(given[name])
                continue
            control, box = _control(name, kinds.get(name), parameter.default, (ranges or {}).get(name))
            self.controls[name] = control
            boxes.append(box)
            if box is not control:
                self._played.add(name)
        for control in self.controls.values():
            control.observe(self._changed, names="value")
        self._status = widgets.HTML()
        self._status.add_class("sciviz-status")
        self._numbers = widgets.HTML()
        self._fold = widgets.Accordion(children=[self._numbers], selected_index=None)
        self._fold.set_title(0, "Description and numbers of what is drawn")
        self._fold.observe(lambda _: self._write_numbers(), names="selected_index")
        data, figure = self._first()
        # FigureWidget keeps the layout it is given whole; set afterwards, parts of it can be lost.
        self.figure = go.FigureWidget(figure)
        self.figure._config = {"responsive": True, "displaylogo": False}
        self._drawn = _properties(figure)
        self._names = _Names(title=title, alt=theme.alt_text(figure))
        head = f"{_STYLE}<div class='sciviz-title'>{html.escape(title)}</div>"
        if hint:
            head += f"<div style='color:{theme.MUTED};font-size:13px'>{html.escape(hint)}</div>"
        controls_box = widgets.Box(boxes, layout=widgets.Layout(flex_flow="row wrap", align_items="center"))
        controls_box.add_class("sciviz-controls")
        super().__init__([widgets.HTML(head), controls_box, self.figure, self._status, self._fold, self._names])
        self.add_class("sciviz-panel")
        self._say(data)

    @property
    def values(self) -> dict[str, Any]:
        """What the controls are set to, by parameter name."""
        return {name: control.value for name, control in self.controls.items()}

    def set(self, **values: Any) -> None:
        """Set controls and redraw at once, as a reader would by hand.

        Raises
        ------
        ValueError
            If there is no such control, or it does not take the value.
        """
        # Several controls are one move: what lies between may be a setting that nobody asked for.
        self._held = True
        try:
            for name, value in values.items():
                if name not in self.controls:
                    raise ValueError(
                        f"{name} must be one of {', '.join(self.controls)}: this panel has no such control."
                    )
                try:
                    self.controls[name].value = value
                except traitlets.TraitError as error:
                    raise ValueError(f"{name} does not take {value!r}: {error}") from None
        finally:
            self._held = False
        self.flush()

    def flush(self) -> None:
        """Redraw now if a control changed since the last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._dirty:
            self._dirty = False
            self._redraw()

    def frames(self, name: str | None = None) -> theme.Figure:
        """Return a figure with a slider over one control, drawn beforehand, that needs no kernel to be moved.

        A report shows it in place of the panel where the panel's cell is tagged `frames`.

        Parameters
        ----------
        name
            The control; the one with an animate button, or else the first slider, if None. The others stay as they are.

        Raises
        ------
        ValueError
            If there is no such control, or it has no positions to move through.
        """
        movable = {known: found for known, control in self.controls.items() if (found := _positions(control))}
        order = sorted(movable, key=lambda known: known not in self._played)
        chosen = name if name is not None else next(iter(order), None)
        if chosen not in movable:
            raise ValueError(
                f"name must be a slider of this panel ({', '.join(movable) or 'it has none'}), got {name!r}."
            )
        others = self.values

        def draw(value: Any) -> Any:
            return self._draw(self._compute(**{**others, chosen: value}))

        label = str(self.controls[chosen].description or chosen)
        return with_slider(draw, movable[chosen], label=label, start=others[chosen])

    def _ipython_display_(self) -> None:
        from IPython.display import display, publish_display_data

        # A report has no kernel behind it, and shows what moves without one.
        if os.environ.get("SCIVIZ_FRAMES") == "1":
            display(self.frames())
        else:
            publish_display_data(self._repr_mimebundle_())

    def _first(self) -> tuple[Any, Any]:
        # Errors on first sight are the author's, not the reader's: they are raised.
        began = time.perf_counter()
        data = self._compute(**self.values)
        figure = self._draw(data)
        theme.alt_text(figure)
        self.last_seconds = time.perf_counter() - began
        return data, figure

    def _changed(self, _change: Any) -> None:
        self._dirty = True
        if self._held:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        # Messages that wait in the kernel's queue are read before this timer fires, so that of many moves of a slider
        # only the newest is drawn. One timer at a time: a steady stream of moves must not put it off for ever.
        if self._timer is None:
            self._timer = loop.call_later(0.01, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self.flush()

    def _redraw(self) -> None:
        self._status.value = f"<span class='sciviz-busy' style='color:{theme.MUTED}'>working</span>"
        began = time.perf_counter()
        try:
            data = self._compute(**self.values)
            figure = self._draw(data)
            self._update(figure)
            self._say(data)
        except Exception as error:
            self.last_error = error
            message = f"{type(error).__name__}: {error}"
            self._status.value = (
                f"<div role='alert' style='color:#8c1d18;background:#fdecea;padding:6px 10px;border-radius:4px'>"
                f"<strong>This setting could not be drawn.</strong> {html.escape(message)}"
                f"<details><summary>Where</summary><pre style='color:#8c1d18;background:#fdecea'>"
                f"{html.escape(traceback.format_exc())}</pre></details></div>"
            )
            if is_strict():
                raise
            return
        self.last_error = None
        self.last_seconds = time.perf_counter() - began
        self.updates += 1

    def _say(self, data: Any) -> None:
        text = self._describe(data) if self._describe else ""
        self._status.value = (
            f"<div role='status' aria-live='polite' style='color:{theme.INK}'>{html.escape(text)}</div>"
        )
        self._write_numbers()

    def _write_numbers(self) -> None:
        if self._fold.selected_index is None:
            return
        alt = html.escape(theme.alt_text(self.figure))
        self._numbers.value = f"<p>{alt}</p>{theme.rows_html(theme.drawn(self.figure))}"

    def _update(self, figure: Any) -> None:
        """Bring the drawn figure to the new one, sending only what differs."""
        alt = theme.alt_text(figure)
        new = _properties(figure)
        kinds = [trace["type"] for trace in new["data"]]
        layout = {
            name: value
            for name, value in new["layout"].items()
            if name != "template" and not _same(self._drawn["layout"].get(name), value)
        }
        layout |= {name: None for name in self._drawn["layout"] if name not in new["layout"]}
        if kinds == [trace["type"] for trace in self._drawn["data"]]:
            # A message makes plotly draw once, so there is one a kind of trace, with the layout in the last.
            kinds_changed: dict[str, list[tuple[Any, dict[str, Any]]]] = {}
            for trace, before, after in zip(self.figure.data, self._drawn["data"], new["data"], strict=True):
                changed: dict[str, Any] = {name: None for name in before if name not in after}
                changed |= {name: value for name, value in after.items() if not _same(before.get(name), value)}
                if changed:
                    kinds_changed.setdefault(trace.type, []).append((trace, changed))
            messages = list(kinds_changed.values()) or [[]]
            for number, members in enumerate(messages, start=1):
                with self.figure.batch_update():
                    for trace, changed in members:
                        trace.update(changed, overwrite=True)
                    if layout and number == len(messages):
                        self.figure.layout.update(layout, overwrite=True)
                    _name_for_all(self.figure)
        else:
            self.figure.data = []
            self.figure.add_traces(list(figure.data))
            with self.figure.batch_update():
                self.figure.layout.update(layout, overwrite=True)
        self._drawn = new
        self._names.alt = alt


def _name_for_all(figure: Any) -> None:
    """Have the message that is being put together name the same properties for all of its traces.

    Plotly's widget takes what it is not told of a trace (a heat map's y) for removed.
    """
    edits: dict[int, dict[str, Any]] = figure._batch_trace_edits
    named = {name for edit in edits.values() for name in edit}
    for number, edit in edits.items():
        for name in named - edit.keys():
            value = figure.data[number][name]
            edit[name] = value.to_plotly_json() if hasattr(value, "to_plotly_json") else value


def _positions(control: Any) -> list[tuple[str, Any]]:
    """Return text and value of each position of a slider; none of any other kind of control."""
    if isinstance(control, widgets.SelectionSlider):
        return [(str(text), value) for text, value in control.options]
    if isinstance(control, (widgets.IntSlider, widgets.FloatSlider)):
        kind, count = type(control.value), round((control.max - control.min) / control.step)
        values = [kind(control.min + i * control.step) for i in range(count + 1)]
        return [(f"{value:,}" if kind is int else f"{value:.3g}", value) for value in values]
    return []


def _properties(figure: Any) -> dict[str, Any]:
    # Asked as a whole, a figure encodes its arrays in base64, and they could not be compared or set.
    return {"data": [trace.to_plotly_json() for trace in figure.data], "layout": figure.layout.to_plotly_json()}


def _same(before: Any, after: Any) -> bool:
    if hasattr(before, "shape") or hasattr(after, "shape"):
        import numpy as np

        if before is None or after is None:
            return False
        one, other = np.asarray(before), np.asarray(after)
        # NaN is a gap in a line, and equal to the same gap.
        return np.array_equal(one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f")
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(_same(before[name], after[name]) for name in after)
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        return len(before) == len(after) and all(map(_same, before, after))
    return bool(before == after)


def _control(name: str, annotation: Any, default: Any, extent: Range | None) -> tuple[Any, Any]:
    """Build the control of one parameter; return what carries its value, and what is shown."""
    if default is inspect.Parameter.empty:
        raise TypeError(f"Parameter {name} needs a default: it is where its control starts.")
    kind: Any = annotation
    extra: Range | Choices | None = extent
    if get_origin(annotation) is Annotated:
        kind, *extras = get_args(annotation)
        extra = extra or next((part for part in extras if isinstance(part, (Range, Choices))), None)
    label = getattr(extra, "label", "") or name.replace("_", " ").capitalize()
    # Room for the label and the number beside a track that can still be moved.
    layout = widgets.Layout(width="auto", min_width=f"{250 + 8 * len(label)}px")
    style = {"description_width": "initial"}
    if get_origin(kind) is Literal:
        names: Mapping[Any, str] = (extra.names if isinstance(extra, Choices) else None) or {}
        options = [(str(names.get(value, value)), value) for value in get_args(kind)]
        control = widgets.Dropdown(
            options=options,
            value=default,
            description=label,
            style=style,
            layout=widgets.Layout(width="auto"),
        )
        return control, control
    if kind is bool:
        control = widgets.Checkbox(value=default, description=label, indent=False, layout=widgets.Layout(width="auto"))
        return control, control
    if kind in (int, float) and isinstance(extra, Range):
        if extra.log:
            values = _log_values(kind, extra)
            nearest = min(values, key=lambda value: abs(value - default))
            options = [(f"{value:,}" if kind is int else f"{value:.3g}", value) for value in values]
            options = [(f"{text} {extra.unit}".strip(), value) for text, value in options]
            control = widgets.SelectionSlider(
                options=options, value=nearest, description=label, style=style, layout=layout
            )
        else:
            step = extra.step or (1 if kind is int else (extra.high - extra.low) / 50)
            make = widgets.IntSlider if kind is int else widgets.FloatSlider
            settings: dict[str, Any] = {} if kind is int else {"readout_format": ".3g"}
            control = make(
                value=default,
                min=kind(extra.low),
                max=kind(extra.high),
                step=kind(step),
                description=f"{label} ({extra.unit})" if extra.unit else label,
                style=style,
                layout=layout,
                **settings,
            )
        return control, _with_play(control, label) if extra.play else control
    raise TypeError(
        f"Parameter {name} must be Literal[…], bool, or Annotated[int or float, Range(…)] to have a control, "
        f"got {annotation!r}."
    )


def _log_values(kind: type, extra: Range) -> list[Any]:
    if kind is int:
        values, value = [], int(extra.low)
        while value <= extra.high:
            values.append(value)
            value *= 2
        if values[-1] < extra.high:
            values.append(int(extra.high))
        return values
    count = int(extra.step) if extra.step else 41
    ratio = extra.high / extra.low
    # The last one is the end itself, not what rounding makes of it.
    return [*(extra.low * ratio ** (i / (count - 1)) for i in range(count - 1)), extra.high]


def _with_play(control: Any, label: str) -> Any:
    last = (
        len(control.options) - 1 if hasattr(control, "options") else round((control.max - control.min) / control.step)
    )
    play = widgets.Play(min=0, max=last, interval=120, tooltip=f"Animate {label}", description=f"Animate {label}")

    def move(change: Any) -> None:
        index = change["new"]
        if hasattr(control, "options"):
            control.value = control.options[index][1]
        else:
            control.value = type(control.value)(control.min + index * control.step)

    play.observe(move, names="value")
    return widgets.HBox([play, control], layout=widgets.Layout(align_items="center"))


def sweep(
    function: Callable[..., Any], settings: Sequence[Mapping[str, Any]], *, label: str = "Preparing the explorer"
) -> list[Any]:
    """Compute what an explorer moves over, once, with a progress bar.

    Parameters
    ----------
    function
        Called once with each of `settings` as its arguments.

    >>> sweep(lambda width: 2 * width, [{"width": 1}, {"width": 2}])
    [2, 4]
    """
    from tqdm.auto import tqdm

    return [function(**setting) for setting in tqdm(settings, desc=label, leave=False)]
