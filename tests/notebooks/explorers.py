"""Explorers without a browser: every control at its ends and its default, and thirty random combinations."""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Callable, Iterator
from typing import Any

import ipywidgets as widgets
import numpy as np

import sciviz
from sciviz.lab import theme
from sciviz.lab.panel import Panel

RANDOM_COMBINATIONS = 30


def explorers() -> dict[str, Callable[[], Any]]:
    """Return every `explore_*` of every wing that has an explorer, by "wing.name"."""
    found = {}
    for module in pkgutil.iter_modules(sciviz.__path__):
        if not module.ispkg:
            continue
        names = {part.name for part in pkgutil.iter_modules([str(path) for path in _paths(module)])}
        if "explorer" not in names:
            continue
        loaded = importlib.import_module(f"sciviz.{module.name}.explorer")
        for name in sorted(vars(loaded)):
            value = getattr(loaded, name)
            if name.startswith("explore_") and callable(value) and value.__module__ == loaded.__name__:
                found[f"{module.name}.{name}"] = value
    return found


def _paths(module: pkgutil.ModuleInfo) -> list[str]:
    spec = module.module_finder.find_spec(f"sciviz.{module.name}", None)  # type: ignore[call-arg]
    return list((spec and spec.submodule_search_locations) or [])


def panels(widget: Any) -> Iterator[Panel]:
    """Yield the panel that an explorer is, or those it holds."""
    if isinstance(widget, Panel):
        yield widget
        return
    for child in getattr(widget, "children", ()):
        yield from panels(child)


def positions(control: Any) -> list[Any]:
    """Return a control's lowest, present and highest value, or all of its choices; only the present one if it has no range."""
    if isinstance(control, (widgets.Dropdown, widgets.ToggleButtons, widgets.RadioButtons, widgets.Select)):
        return [value for _, value in control._options_full]
    if isinstance(control, widgets.SelectionSlider):
        values = [value for _, value in control._options_full]
        return list(dict.fromkeys([values[0], control.value, values[-1]]))
    if isinstance(control, (widgets.Checkbox, widgets.ToggleButton)):
        return [False, True]
    if hasattr(control, "min") and hasattr(control, "max"):
        return list(dict.fromkeys([control.min, control.value, control.max]))
    return [control.value]


def pick(control: Any, chance: random.Random) -> Any:
    """Return a random value of a control."""
    if isinstance(control, widgets.SelectionSlider):
        return chance.choice([value for _, value in control._options_full])
    if isinstance(control, widgets.IntSlider):
        return chance.randrange(control.min, control.max + 1, control.step)
    if isinstance(control, widgets.FloatSlider):
        steps = round((control.max - control.min) / control.step)
        return min(control.min + chance.randint(0, steps) * control.step, control.max)
    return chance.choice(positions(control))


def _not_numbers(values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind in "fc":
        return ~np.isfinite(array)
    if array.dtype.kind != "O":
        return np.zeros(array.shape, dtype=bool)
    return np.array(
        [value is None or (isinstance(value, float) and not np.isfinite(value)) for value in array.flat], dtype=bool
    ).reshape(array.shape)


def drawing_problems(panel: Panel) -> list[str]:
    """Say what is wrong with what a panel shows right now."""
    found = []
    if panel.last_error is not None:
        found.append(f"raised {type(panel.last_error).__name__}: {panel.last_error}")
    try:
        alt = theme.alt_text(panel.figure)
        if panel._names.alt != alt:
            found.append("tells a screen reader of another drawing")
    except ValueError:
        found.append("has no alt text")
    points = 0
    for trace in panel.figure.data:
        if trace.visible is False:
            continue
        bad = {}
        for name in ("x", "y", "z"):
            values = getattr(trace, name, None)
            if values is not None:
                points += np.asarray(values).size
                bad[name] = _not_numbers(values)
        # Where both coordinates are missing a line has a gap on purpose; where one is, a number was lost.
        gap = bad["x"] & bad["y"] if "z" not in bad and len(bad) == 2 and bad["x"].shape == bad["y"].shape else False
        for name, where in bad.items():
            if (where & ~np.asarray(gap)).any():
                found.append(f"draws what is no finite number in {name} of {trace.name!r}")
    if not points:
        found.append("draws nothing")
    return found


def drive(panel: Panel, seed: int = 0) -> list[str]:
    """Move every control of a panel; return what went wrong, and at which setting."""
    start = dict(panel.values)
    chance = random.Random(seed)
    settings = [start]
    settings += [{**start, name: value} for name, control in panel.controls.items() for value in positions(control)]
    for _ in range(RANDOM_COMBINATIONS):
        settings.append({name: pick(control, chance) for name, control in panel.controls.items()})
    found = []
    for setting in settings:
        try:
            panel.set(**setting)
            wrong = drawing_problems(panel)
        except Exception as error:
            wrong = [f"raised {type(error).__name__}: {error}"]
        found += [f"{panel.title!r} {problem}, at {setting}." for problem in wrong]
    panel.set(**start)
    return found
