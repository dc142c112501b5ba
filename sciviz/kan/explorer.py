"""Explorers of the Kolmogorov-Arnold wing: a network's edges under the knife, a spline and its bases, error by size."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import html
import inspect
import math
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import anywidget
import ipywidgets as widgets
import numpy as np
import sympy
import torch
import traitlets
from torch import Tensor

from sciviz.kan import bases, layers, networks, pruning, splines, training
from sciviz.kan.experiments import formula as formulas
from sciviz.kan.experiments import scaling
from sciviz.kan.experiments._common import sub_seeds
from sciviz.kan.experiments.edges import CURVES
from sciviz.kan.networks import KAN
from sciviz.kan.pruning import prune_nodes, scores
from sciviz.kan.symbolic import LIBRARY, Suggestion, fit_form, fix_edge, formula
from sciviz.kan.training import rmse, train
from sciviz.lab import cache, theme
from sciviz.lab.panel import Panel, Range

Array = np.ndarray[Any, Any]

# ------------------------------------------------------------------------------------------------ a network's edges

MOST_EDGES = 60
_WEAK = 0.05
_WRITTEN = {
    "0": "0",
    "x": "({})",
    "x^2": "({})²",
    "x^3": "({})³",
    "x^4": "({})⁴",
    "1/x": "1/({})",
    "1/x^2": "1/({})²",
    "sqrt": "√({})",
    "abs": "|{}|",
    "gaussian": "exp(−({})²)",
}


def _button(text: str) -> widgets.Button:
    # The card is light in a dark JupyterLab too, and so are the buttons on it.
    style = {"button_color": "#ebe7dc", "text_color": theme.INK}
    return widgets.Button(description=text, style=style, layout=widgets.Layout(width="auto"))


def _code() -> str:
    """Return a hash of the code that trains: a network of another program is not taken for its own."""
    parts = (bases, splines, layers, networks, pruning, training, formulas, scaling)
    return hashlib.sha256("".join(inspect.getsource(part) for part in parts).encode()).hexdigest()


def sparse_network(*, seed: int = 0, num_points: int = 300) -> tuple[KAN, Tensor, Tensor]:
    """Return a [2, 5, 1] network trained sparsely on exp(sin πx + y²), and its data; from the cache, or in seconds.

    Of three starts it is the one that needs the fewest hidden nodes, as in `experiments.formula.tell_story`.

    Raises
    ------
    ValueError
        If the seed is negative.
    """
    data_seed, *starts = sub_seeds(seed, 4)
    X = scaling.design_points(num_points, 2, seed=data_seed)
    y = scaling.exp_sin(X)

    def make() -> dict[str, Tensor]:
        from tqdm.auto import tqdm

        best: tuple[int, KAN] | None = None
        for start in tqdm(starts, desc="Training [2, 5, 1]", leave=False):
            model = formulas.train_sparse(X, y, seed=start)
            size = prune_nodes(model, X, threshold=_WEAK).widths[1]
            if best is None or size < best[0]:
                best = (size, model)
            if size == 1:
                break
        assert best is not None
        return dict(best[1].state_dict())

    model = KAN([2, 5, 1], seed=0, num_cells=3, dtype=torch.float64)
    model.load_state_dict(cache.kept("kan", {"seed": seed, "num_points": num_points}, make, code=_code()))
    return model, X, y


class EdgeEditor:
    """A network whose edges are pruned and fixed one by one, with all that is to be known of it, and a way back.

    Parameters
    ----------
    model
        One network; it is copied, not changed.
    X, y
        Data, (num, in) and (num, out): they give edges their curves and the network its error.
    inputs
        Names of the inputs; x1, x2, … if empty.

    Raises
    ------
    ValueError
        If the network is an ensemble or has more than 60 edges, or data and names do not fit it.

    >>> X = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    >>> editor = EdgeEditor(KAN([1, 2, 1], seed=0, dtype=torch.float64), X, X**2)
    >>> editor.prune(0)
    >>> editor.state(0), editor.state(1)
    ('pruned', 'learnt')
    >>> editor.undo()
    >>> editor.state(0)
    'learnt'
    """

    def __init__(self, model: KAN, X: Any, y: Any, *, inputs: Sequence[str] = ()) -> None:
        if model.members is not None:
            raise ValueError(f"network must be one network, got an ensemble of {model.members}: take its member(0).")
        widths = model.widths
        self.edges = [
            (layer, i, o)
            for layer in range(len(widths) - 1)
            for i in range(widths[layer])
            for o in range(widths[layer + 1])
        ]
        if len(self.edges) > MOST_EDGES:
            raise ValueError(f"network must have at most {MOST_EDGES} edges to be drawn, got {len(self.edges)}.")
        dtype = model[0].coef.dtype
        self.X, self.y = (torch.as_tensor(one, dtype=dtype).detach().cpu() for one in (X, y))
        for name, one, width in (("X", self.X, widths[0]), ("y", self.y, widths[-1])):
            if one.ndim != 2 or one.shape[1] != width or len(one) != len(self.X) or len(one) < 10:
                raise ValueError(
                    f"{name} must have shape (num, {width}) with num at least 10, the same for X and y, "
                    f"got {tuple(one.shape)}."
                )
            if not bool(one.isfinite().all()):
                raise ValueError(f"{name} must hold finite numbers only.")
        names = list(inputs) or [f"x{n + 1}" for n in range(widths[0])]
        if len(names) != widths[0]:
            raise ValueError(f"inputs must name {widths[0]} inputs, got {names}.")
        self.names = [names]
        for layer in range(1, len(widths) - 1):
            mark = "h" if len(widths) == 3 else f"h{layer}."
            self.names.append([f"{mark}{n + 1}" for n in range(widths[layer])])
        self.names.append(["f"] if widths[-1] == 1 else [f"f{n + 1}" for n in range(widths[-1])])
        self._start = copy.deepcopy(model).cpu()
        self._past: list[KAN] = []
        self.message = ""
        self._take(copy.deepcopy(self._start))

    def _take(self, model: KAN) -> None:
        """Make a network the present one, and look at it once."""
        self.model = model
        with torch.no_grad():
            values = model.activations(self.X)
            curves = []
            for layer in range(len(model.layers)):
                x, out = values[layer], model[layer].edges(values[layer])
                for i in range(model.widths[layer]):
                    order = x[:, i].argsort()
                    curves += [(x[order, i], out[order, i, o]) for o in range(model.widths[layer + 1])]
            found = scores(model, self.X).edges
        self.curves = curves
        self.score = [float(found[layer][i, o].nan_to_num(0.0)) for layer, i, o in self.edges]
        self.error = float(rmse(model, self.X, self.y))
        self.text = formula_text(model, self.names, X=self.X)
        self._suggested: dict[int, list[Suggestion]] = {}

    def state(self, edge: int) -> str:
        """Return "learnt", "fixed" or "pruned"."""
        layer, i, o = self.edges[edge]
        if (i, o) in self.model[layer].fixed_edges():
            return "fixed"
        return "learnt" if bool(self.model[layer].active()[i, o]) else "pruned"

    def form(self, edge: int) -> str:
        """Return what a fixed edge is fixed to, or nothing."""
        layer, i, o = self.edges[edge]
        return str(getattr(self.model[layer].fixed_edges().get((i, o)), "name", ""))

    def ends(self, edge: int) -> tuple[str, str]:
        """Return the names of the nodes that an edge joins."""
        layer, i, o = self.edges[edge]
        return self.names[layer][i], self.names[layer + 1][o]

    def suggestions(self, edge: int) -> list[Suggestion]:
        """Return every form of the library fitted to an edge's curve, best first."""
        if edge not in self._suggested:
            x, y = self.curves[edge]
            # A few points and rounds rank the forms, and leave a choice its fiftieth of a second.
            pick = torch.linspace(0, len(x) - 1, min(len(x), 40)).long()
            found = (fit_form(x[pick], y[pick], name, rounds=5) for name in LIBRARY)
            self._suggested[edge] = sorted(found, key=lambda one: one.rank)
        return self._suggested[edge]

    def _step(self, said: str, model: KAN) -> None:
        before = self.error
        self._past.append(self.model)
        self._take(model)
        self.message = f"{said}: error {_digits(before)} → {_digits(self.error)}."

    def prune(self, edge: int) -> None:
        """Take an edge out of its node's sum."""
        if self.state(edge) == "pruned":
            self.message = f"Edge {edge + 1} is pruned already."
            return
        model = copy.deepcopy(self.model)
        layer, i, o = self.edges[edge]
        model[layer].switch_off(i, o)
        self._step(f"Edge {edge + 1} pruned", model)

    def prune_weak(self, threshold: float = _WEAK) -> None:
        """Prune all edges that score below a threshold."""
        weak = [n for n, score in enumerate(self.score) if score < threshold and self.state(n) != "pruned"]
        if not weak:
            self.message = f"No edge scores below {threshold:g}."
            return
        model = copy.deepcopy(self.model)
        for n in weak:
            layer, i, o = self.edges[n]
            model[layer].switch_off(i, o)
        self._step(f"{len(weak)} edge{'s' if len(weak) > 1 else ''} scoring below {threshold:g} pruned", model)

    def fix(self, edge: int, name: str) -> None:
        """Fix an edge to a form of the library, fitted to the curve that it has."""
        if self.state(edge) == "pruned":
            self.message = f"Edge {edge + 1} is pruned: it has no curve to be fixed to."
            return
        model = copy.deepcopy(self.model)
        fix_edge(model, *self.edges[edge], name, self.X)
        self._step(f"Edge {edge + 1} fixed to {name}", model)

    def refit(self, num_steps: int = 15) -> None:
        """Train on what is left to learn: splines, and the four numbers of each fixed edge."""
        model = copy.deepcopy(self.model)
        train(model, self.X, self.y, num_steps=num_steps, follow=(2,), blend=1.0, follow_inputs=False)
        # New grids cost a little, and steps after them may not win it back.
        if float(rmse(model, self.X, self.y)) > self.error:
            model = copy.deepcopy(self.model)
            train(model, self.X, self.y, num_steps=num_steps)
        self._step(f"Refitted in {num_steps} steps", model)

    def undo(self) -> None:
        """Go back by one step."""
        if not self._past:
            self.message = "Nothing to undo."
            return
        before = self.error
        self._take(self._past.pop())
        self.message = f"One step back: error {_digits(before)} → {_digits(self.error)}."

    def restart(self) -> None:
        """Go back to the network as it was given."""
        self._past = []
        self._take(copy.deepcopy(self._start))
        self.message = f"As at the beginning: error {_digits(self.error)}."

    def drawing(self) -> dict[str, Any]:
        """Return what the graph draws, as plain numbers and words."""
        spans = [1e-12] * len(self.model.layers)
        middles = []
        for (layer, _, _), (_, y) in zip(self.edges, self.curves, strict=True):
            y = y.nan_to_num(0.0)
            low, high = float(y.min()), float(y.max())
            middles.append((low + high) / 2)
            spans[layer] = max(spans[layer], (high - low) / 2)
        drawn = []
        for n, ((layer, _, _), (x, y)) in enumerate(zip(self.edges, self.curves, strict=True)):
            pick = torch.linspace(0, len(x) - 1, 32).long()
            start, width = float(x[0]), max(float(x[-1] - x[0]), 1e-12)
            # One scale for a layer: what is flat adds little, and looks it.
            up = 0.5 + 0.5 * (y[pick].nan_to_num(0.0) - middles[n]) / spans[layer]
            points = torch.stack([(x[pick] - start) / width, up], 1).nan_to_num(0.5).clamp(0, 1)
            state, form = self.state(n), self.form(n)
            one, other = self.ends(n)
            said = f"fixed to {form}" if form else state
            drawn.append({
                "number": str(n + 1),
                "layer": layer,
                "source": self.edges[n][1],
                "target": self.edges[n][2],
                "curve": [[round(u, 3), round(v, 3)] for u, v in points.tolist()],
                "weight": round(min(max(self.score[n], 0.0), 1.0), 3),
                "state": state,
                "form": form,
                "label": f"Edge {n + 1}, from {one} to {other}: {said}, score {self.score[n]:.2f}",
            })  # fmt: skip
        return {"widths": list(self.model.widths), "names": self.names, "edges": drawn}


def formula_text(model: KAN, names: Sequence[Sequence[str]], *, X: Tensor | None = None, longest: int = 900) -> str:
    """Return the network as SymPy writes it, one line an output; edges that are not fixed stay functions φ1, φ2, ….

    Parameters
    ----------
    names
        Of the nodes of each layer, inputs first.
    X
        Points, (num, in), where a formula without φ is to give what the network gives: with four digits if these are
        enough, and with more where large numbers cancel.
    longest
        Characters of a line after which it is cut.

    >>> formula_text(KAN([2, 1], seed=0), [["x", "y"], ["f"]])
    'f(x, y) = φ1(x) + φ2(y)'
    """
    nodes = _nested(model, names, 4)
    stages = [model[index] for index in range(len(model.layers))]
    # What no output depends on counts too: the library's formula wants every edge fixed or pruned.
    learnt = any(int(layer.active().sum()) > len(layer.fixed_edges()) for layer in stages)
    # Multiplying out what is long takes for ever, and says less than its nested form.
    if not learnt and sum(int(node.count_ops()) for node in nodes) <= 40:
        tidy = formula(model, names[0], digits=4)
        # Factors of fifteen digits that cancel one another are no simpler than what they come from.
        nodes = nodes if re.search(r"\d{7}|e[+-]?\d\d", str(tidy)) else tidy
    if not learnt and X is not None:
        for digits in (6, 8, 12):
            if _says_the_same(nodes, names[0], model, X):
                break
            nodes = _nested(model, names, digits)
    lines = []
    for name, node in zip(names[-1], nodes, strict=True):
        text = str(node)
        cut = text if len(text) <= longest else f"{text[:longest]} …"
        lines.append(f"{name}({', '.join(names[0])}) = {cut}")
    return "\n".join(lines)


def _nested(model: KAN, names: Sequence[Sequence[str]], digits: int) -> list[Any]:
    nodes: list[Any] = [sympy.Symbol(name) for name in names[0]]
    number = 0
    for index in range(len(model.layers)):
        layer = model[index]
        fixed, active = layer.fixed_edges(), layer.active()
        sums = [sympy.Integer(0)] * layer.num_outputs
        for i in range(layer.num_inputs):
            for o in range(layer.num_outputs):
                number += 1
                if (i, o) in fixed:
                    edge: Any = fixed[i, o]
                    parts = (float(part.detach()) for part in (edge.a, edge.b, edge.c, edge.d))
                    a, b, c, d = (_rounded(part, digits) for part in parts)
                    sums[o] += c * LIBRARY[edge.name].symbol(a * nodes[i] + b) + d
                elif bool(active[i, o]):
                    sums[o] += sympy.Function(f"φ{number}")(nodes[i])
        nodes = sums
    return nodes


def _says_the_same(nodes: Sequence[Any], inputs: Sequence[str], model: KAN, X: Tensor) -> bool:
    some = X[:: max(1, len(X) // 50)]
    with torch.no_grad():
        values = model(some).double().numpy()
    columns = some.double().numpy().T
    with np.errstate(all="ignore"):
        for node, value in zip(nodes, values.T, strict=True):
            try:
                gap = sympy.lambdify(list(inputs), node, "numpy")(*columns) - value
            except Exception:  # an infinity, which no program can be made of
                return False
            if not np.all(np.abs(gap) <= 0.005 * max(float(np.ptp(value)), 1e-9)):
                return False
    return True


def _rounded(value: float, digits: int) -> Any:
    return sympy.Integer(0) if abs(value) < 10.0**-digits else sympy.Float(value, digits)


def _digits(error: float) -> str:
    return f"{error:#.3g}"


def _share(r2: float) -> str:
    # Not rounded up: what is written as 1 is 1 to all digits shown.
    return f"{math.floor(min(max(r2, 0.0), 1.0) * 1e5) / 1e5:.5f}"


def _written(one: Suggestion, variable: str) -> str:
    """Return c · f(a x + b) + d as a line of text."""

    def signed(value: float) -> str:
        return "" if abs(value) < 5e-4 else f" {'−' if value < 0 else '+'} {abs(value):.3g}"

    def plain(value: float) -> str:
        return f"{value:.3g}".replace("-", "−")

    if one.name == "0":
        return plain(one.d)
    inner = variable if one.name == "x" else f"{plain(one.a)} {variable}{signed(one.b)}"
    outer = inner if one.name == "x" else _WRITTEN.get(one.name, one.name + "({})").format(inner)
    return f"{plain(one.c)} {outer}{signed(one.d)}"


class _GraphView(anywidget.AnyWidget):
    """Draws the graph and says which edge is chosen; its `value` counts what was done to the network."""

    _esm = Path(__file__).with_name("graph.js").read_text(encoding="utf-8")
    graph: Any = traitlets.Dict().tag(sync=True)
    selected = traitlets.Int(0).tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)
    tones: Any = traitlets.Dict().tag(sync=True)
    value = traitlets.Int(0)


class _Chosen(NamedTuple):
    """What the graph explorer draws: one edge's curve, and a form fitted to it."""

    number: int
    ends: tuple[str, str]
    state: str
    form: str
    curve: tuple[Array, Array]
    fitted: Suggestion
    best: Suggestion
    error: float
    text: str
    message: str


class GraphPanel(Panel):
    """The panel of `explore_graph`: the graph, its controls and the formula on one side, the chosen edge on the other.

    Attributes
    ----------
    editor
        What is done to the network.
    buttons
        The buttons, by what they do: fix, prune, weak, refit, undo, restart.
    """

    def __init__(self, editor: EdgeEditor) -> None:
        self.editor = editor
        self._failed: Exception | None = None
        self.view = _GraphView(
            graph=editor.drawing(),
            selected=max(range(len(editor.edges)), key=lambda n: editor.score[n]),
            label=f"Network {editor.model.widths}, inputs below. Tab or arrow keys move from edge to edge.",
            tones={
                "ink": theme.INK,
                "muted": theme.MUTED,
                "grid": theme.GRID,
                "card": theme.CARD,
                "baseline": theme.BASELINE,
                "active": theme.ACTIVE,
                "measured": theme.color(0),
            },
        )
        self.view.layout.width = "100%"
        plain: dict[str, Any] = {"style": {"description_width": "initial"}, "layout": widgets.Layout(width="auto")}
        places = [(f"{n + 1}: {' → '.join(editor.ends(n))}", n) for n in range(len(editor.edges))]
        self.edge = widgets.Dropdown(options=places, value=self.view.selected, description="Edge", **plain)
        self.form = widgets.Dropdown(options=self._offers(), description="Form", **plain)
        self.edge.observe(self._choose, names="value")
        self.view.observe(lambda change: setattr(self.edge, "value", change["new"]), names="selected")

        def compute(network: int = 0, edge: int = 0, form: str = "") -> _Chosen:
            if self._failed is not None:
                failed, self._failed = self._failed, None
                raise failed
            offers = editor.suggestions(edge)
            x, y = editor.curves[edge]
            pick = torch.linspace(0, len(x) - 1, min(len(x), 120)).long()
            return _Chosen(
                edge + 1,
                editor.ends(edge),
                editor.state(edge),
                editor.form(edge),
                (x[pick].double().numpy(), y[pick].double().nan_to_num(0.0).numpy()),
                next(one for one in offers if one.name == form),
                offers[0],
                editor.error,
                editor.text,
                editor.message,
            )

        super().__init__(
            compute,
            _draw_edge,
            title="From curves to a formula",
            describe=_describe_edge,
            hint="Click an edge, or Tab to it. Prune the weak edges and refit. Then fix one edge to its best form, refit, "
            "and go on to the next, until no φ is left in the formula.",
            controls={"network": self.view, "edge": self.edge, "form": self.form},
        )
        names = {
            "fix": ("Fix edge to this form", lambda: editor.fix(self.edge.value, self.form.value)),
            "prune": ("Prune edge", lambda: editor.prune(self.edge.value)),
            "weak": (f"Prune all scoring below {_WEAK:g}", editor.prune_weak),
            "refit": ("Refit", editor.refit),
            "undo": ("Undo", editor.undo),
            "restart": ("Start again", editor.restart),
        }
        self.buttons: dict[str, Any] = {}
        for name, (text, do) in names.items():
            button = _button(text)
            button.on_click(lambda _, do=do: self._act(do))
            self.buttons[name] = button
        self._readout = widgets.HTML(layout=widgets.Layout(width="100%"))
        self._write()
        head, controls_box, figure, *rest = self.children
        row = widgets.Box(list(self.buttons.values()), layout=widgets.Layout(flex_flow="row wrap"))
        controls_box.children = (*controls_box.children, row, self._readout)
        # Side by side where there is room for both, one above the other where there is not.
        controls_box.layout = widgets.Layout(
            flex_flow="row wrap", align_items="center", align_content="flex-start", flex="1 1 430px", min_width="0"
        )
        # A column: it gives the figure its own width, where a row would ask the figure for one.
        side = widgets.VBox([figure], layout=widgets.Layout(flex="1 1 340px", min_width="0", overflow="hidden"))
        both = widgets.Box([controls_box, side], layout=widgets.Layout(flex_flow="row wrap", align_items="flex-start"))
        self.set_trait("children", (head, both, *rest))

    def _offers(self) -> list[tuple[str, str]]:
        offers = self.editor.suggestions(self.view.selected)
        said = [f"{one.name}, R² {_share(one.r2)}" for one in offers]
        return [(text + (" (suggested)" if n == 0 else ""), offers[n].name) for n, text in enumerate(said)]

    def _choose(self, change: Any) -> None:
        self.view.selected = change["new"]
        self.form.options = self._offers()

    def _act(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # shown in the panel, where all its errors are
            self._failed = error
        self.view.graph = self.editor.drawing()
        self.form.options = self._offers()
        self._write()
        self.view.value += 1

    def _write(self) -> None:
        lines = "<br>".join(html.escape(line) for line in self.editor.text.split("\n"))
        self._readout.value = (
            f"<div style='color:{theme.INK};line-height:1.45;margin-bottom:10px'>"
            f"<b>Error on these data (RMSE): {_digits(self.editor.error)}</b>"
            f"<div style='font-family:monospace;font-size:13px;overflow-wrap:anywhere'>{lines}</div></div>"
        )


def _describe_edge(now: _Chosen) -> str:
    return (
        f"Edge {now.number}, from {now.ends[0]} to {now.ends[1]}, is {'fixed to ' + now.form if now.form else now.state}. "
        f"Best form: {now.best.name}, R² {_share(now.best.r2)}. The network's error is {_digits(now.error)}. {now.message}"
    ).strip()


def _draw_edge(now: _Chosen) -> theme.Figure:
    where = f"Edge {now.number}, {now.ends[0]} → {now.ends[1]}"
    x, y = now.curve
    written = _written(now.fitted, now.ends[0])
    shown = now.state != "pruned"
    if not shown:
        title, subtitle = f"{where}: pruned", "It adds nothing to its node"
    elif now.form == now.fitted.name:
        title, subtitle = f"{where}: fixed to {now.form}", written
    else:
        title, subtitle = f"{where}: {now.fitted.name} fits with R² {_share(now.fitted.r2)}", f"Dashed: {written}"
    fig = theme.figure(
        title=f"{title}<br><span style='font-size:12.5px;color:{theme.MUTED}'>{subtitle}</span>",
        alt=f"The function of edge {now.number} against its input {now.ends[0]}, from {y.min():.3g} to {y.max():.3g}"
        + (
            f"; dashed, {written}, which fits it with R² {_share(now.fitted.r2)}." if shown else ". The edge is pruned."
        ),
        x=f"Input {now.ends[0]}",
        y=f"What the edge adds to {now.ends[1]}",
        height=380,
    )
    theme.add_measurement(fig, x, y, "", active=True)
    fig.data[-1].name = "edge"
    if shown:
        fitted = now.fitted
        with torch.no_grad():
            inner = LIBRARY[fitted.name].function(fitted.a * torch.tensor(x) + fitted.b)
        theme.add_theory(fig, x, (fitted.c * inner + fitted.d).nan_to_num(fitted.d).numpy(), "")
        fig.data[-1].name = fitted.name
    else:
        # Always two lines: what only changes is redrawn faster than what comes and goes.
        theme.add_theory(fig, x[:1], y[:1], "")
    fig.update_layout(
        margin={"r": 24, "t": 74}, title={"font": {"size": 14}, "xref": "container", "x": 0.03, "y": 0.97}
    )
    return fig


def explore_graph(
    network: KAN | None = None, *, X: Any = None, y: Any = None, inputs: Sequence[str] = (), seed: int = 0
) -> GraphPanel:
    """Explore a network drawn as a graph, with the learnt function on each edge: prune edges, fix them, read the formula.

    Parameters
    ----------
    network
        A trained network of at most 60 edges; [2, 5, 1], trained sparsely on exp(sin πx + y²), if None. It is copied.
    X, y
        The data it was trained on, (num, in) and (num, out): needed with a network of your own.
    inputs
        Names of the inputs.
    seed
        Of the network that is trained here.

    Returns
    -------
    A panel with the graph on one side and the chosen edge on the other. An edge is chosen by a click, by Tab, by arrow
    keys or in a list; its form is chosen in another, ranked by R² and complexity.

    Raises
    ------
    ValueError
        If a network comes without data, is an ensemble, is too large to be drawn, or does not fit its data.
    """
    if network is None:
        if X is not None or y is not None:
            raise ValueError("X and y are the data of a network of your own: give network too, or leave them out.")
        network, X, y = sparse_network(seed=seed)
        inputs = inputs or ("x", "y")
    elif X is None or y is None:
        raise ValueError("X and y must be given with a network of your own: its edges have their curves on data.")
    return GraphPanel(EdgeEditor(network, X, y, inputs=inputs))


# ---------------------------------------------------------------------------------------------- a spline and its bases


class _Spline(NamedTuple):
    """What the spline explorer draws."""

    x: Array
    target: Array
    fit: Array
    data: tuple[Array, Array]
    parts: Array
    knots: Array
    cells: int
    order: int
    basis: int
    support: tuple[float, float]
    misfit: float
    error: float


def explore_splines(*, seed: int = 0, function: Callable[[Tensor], Tensor] | None = None) -> Panel:
    """Explore a spline fitted to points: cells, order and noise, with the bases that it is the sum of drawn under it.

    Parameters
    ----------
    seed
        Draws the noise.
    function
        A curve of your own on [-1, 1], (num, 1) to (num, 1), as one more choice.

    Returns
    -------
    A panel with controls for the curve, grid cells, order, noise, and which basis is marked.

    Raises
    ------
    ValueError
        If your curve does not return finite numbers of the shape it is given.
    """
    curves = dict(CURVES)
    if function is not None:
        curves = {"your own": function, **curves}
    x = torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None]
    fine = torch.linspace(-1, 1, 241, dtype=torch.float64)[:, None]
    truth = {name: (curve(x), curve(fine)) for name, curve in curves.items()}
    for name, (values, _) in truth.items():
        if values.shape != x.shape or not bool(values.isfinite().all()):
            raise ValueError(
                f"function must return finite numbers of shape {tuple(x.shape)}, that of {name!r} does not."
            )
    draw = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    @lru_cache(maxsize=256)
    def bases_of(num_cells: int, order: int) -> tuple[Tensor, Tensor, Tensor]:
        knots = splines.make_knots(-1.0, 1.0, num_cells, order, dtype=torch.float64)
        at_data, at_fine = (splines.design_matrix(points, knots[None], order)[:, 0] for points in (x, fine))
        return at_data, at_fine, knots

    def compute(
        curve: str = "",
        num_cells: Annotated[int, Range(1, 40, label="Grid cells")] = 8,
        order: Annotated[int, Range(0, 5, label="Order")] = 3,
        noise: Annotated[float, Range(0.0, 0.5, step=0.05, label="Noise")] = 0.0,
        basis: Annotated[int, Range(1, 45, label="Marked basis")] = 5,
    ) -> _Spline:
        at_data, at_fine, knots = bases_of(num_cells, order)
        target = truth[curve]
        data = target[0] + noise * draw
        coef = splines.fit_coefficients(at_data, data)
        fit = at_fine @ coef
        which = min(basis, num_cells + order) - 1
        support = knots[[which, which + order + 1]].clamp(-1, 1).tolist()
        return _Spline(
            fine[:, 0].numpy(),
            target[1][:, 0].numpy(),
            fit[:, 0].numpy(),
            (x[:, 0].numpy(), data[:, 0].numpy()),
            torch.where(at_fine != 0, at_fine * coef[:, 0], torch.nan).T.numpy(),
            knots[order : order + num_cells + 1].numpy(),
            num_cells,
            order,
            which,
            (support[0], support[1]),
            float((at_data @ coef - data).square().mean().sqrt()),
            float((fit - target[1]).square().mean().sqrt()),
        )

    names = [(name.capitalize(), name) for name in curves]
    chosen = widgets.Dropdown(
        options=names, description="Curve", style={"description_width": "initial"}, layout=widgets.Layout(width="auto")
    )
    return Panel(
        compute,
        _draw_spline,
        title="A spline is a sum of bumps",
        describe=lambda now: (
            f"{now.cells} cells of order {now.order} make {len(now.parts)} bases. Error against the curve {now.error:#.2g}, "
            f"misfit to the points {now.misfit:#.2g}. Basis {now.basis + 1} acts from {now.support[0]:.2f} to "
            f"{now.support[1]:.2f} only."
        ),
        hint="Raise the order, then the number of cells. Then add noise, and find the number of cells that is too large.",
        controls={"curve": chosen},
    )


@lru_cache(maxsize=1)
def _spline_layout() -> dict[str, Any]:
    """What no move changes: plotly takes longer to check it than all the rest of a drawing takes."""
    fig = theme.figure(title="-", alt="-", height=480)
    axis = {key: value for key, value in fig.layout.xaxis.to_plotly_json().items() if key != "title"}
    other = {key: value for key, value in fig.layout.yaxis.to_plotly_json().items() if key != "title"}
    small = {"size": 12}
    fig.update_layout(
        xaxis={"range": [-1.02, 1.02], "showticklabels": False, "ticks": ""},
        xaxis2={
            **axis,
            "range": [-1.02, 1.02],
            "anchor": "y2",
            "title": {"text": "Input x", "standoff": 6, "font": small},
        },
        yaxis={"domain": [0.45, 1.0], "title": {"text": "Curve and spline", "font": small}},
        yaxis2={
            **other,
            "domain": [0.0, 0.38],
            "anchor": "x2",
            "title": {"text": "Bases × weights", "font": small},
        },
        margin={"r": 70, "b": 48},
    )
    kept: dict[str, Any] = fig.layout.to_plotly_json()
    return kept


def _draw_spline(now: _Spline) -> theme.Figure:
    layout = copy.deepcopy(_spline_layout())
    layout["title"]["text"] = f"{len(now.parts)} bases of order {now.order}: error {now.error:#.2g}"
    layout["meta"] = {
        "alt": f"Above: points, the curve they come from, dashed, and a spline of {now.cells} cells and order {now.order}, "
        f"which misses the curve by {now.error:.2g}. Below: the {len(now.parts)} weighted bases whose sum the spline is, and "
        f"the knots; basis {now.basis + 1} is marked."
    }
    band = {"type": "rect", "x0": now.support[0], "x1": now.support[1], "y0": 0, "y1": 1, "line": {"width": 0}}
    layout["shapes"] = [
        {**band, "xref": x, "yref": y, "fillcolor": theme.GRID, "layer": "below", "opacity": 0.55}
        for x, y in (("x", "y domain"), ("x2", "y2 domain"))
    ]
    fig = theme.Figure(layout=layout)
    theme.add_data(fig, *now.data, "points", tone=theme.BASELINE, size=5)
    theme.add_theory(fig, now.x, now.target, "")
    fig.data[-1].name = "curve"
    theme.add_measurement(fig, now.x, now.fit, "spline")
    # A basis is drawn where it is not zero: the others would hide the axis.
    there = np.isfinite(now.parts)
    theme.add_bundle(fig, np.where(there, now.x, np.nan), now.parts, "bases", column=2)
    mark = there[now.basis]
    theme.add_measurement(fig, now.x[mark], now.parts[now.basis][mark], "", active=True, column=2)
    fig.data[-1].name = "marked basis"
    for trace in fig.data[1:]:
        # Plotly leaves out points that it takes for needless, and a thin curve becomes a polygon.
        trace.line.simplify = False
    theme.add_data(fig, now.knots, np.zeros_like(now.knots), "knots", tone=theme.INK, column=2)
    fig.data[-1].marker = {"symbol": "line-ns", "size": 9, "line": {"width": 1.5, "color": theme.INK}}
    return fig


# ------------------------------------------------------------------------------------------- error against parameters

_CELLS = (3, 6, 12, 24, 48)
_SEEDS, _STARTS, _POINTS, _LAYERS = 3, 3, 400, 3
_KAN_STEPS, _MLP_STEPS = 15, 120
_ALL_STEPS = 15 + len(_CELLS) * (_KAN_STEPS + 20 + _MLP_STEPS)


class Point(NamedTuple):
    """One size of one network: which, its parameters, and its test error for each seed."""

    network: str
    parameters: int
    errors: Array


class _StoppedError(Exception):
    """The reader has pressed Stop."""


def scaling_points(
    target: scaling.Target, *, order: int, seed: int, step: Callable[[int], None] = lambda _: None
) -> Iterator[Point]:
    """Train a KAN [2, 1, 1] on finer and finer grids and perceptrons of the same sizes, and yield each when it is trained.

    Parameters
    ----------
    target
        A function of points (batch, 2) with values (batch, 1).
    order
        Of the splines.
    step
        Called with the number of steps done since the last call; what it raises ends the training.

    >>> next(scaling_points(scaling.exp_sin, order=3, seed=0)).parameters
    18
    """
    kan_seed, mlp_seed, data_seed, test_seed = sub_seeds(seed, 4)
    X, T = scaling.design_points(_POINTS, 2, seed=data_seed), scaling.draw_points(1000, 2, seed=test_seed)
    y, t = target(X), target(T)
    members = _SEEDS * _STARTS
    kan: Any = KAN([2, 1, 1], seed=kan_seed, num_cells=3, order=order, base=None, members=members, dtype=torch.float64)
    kan = scaling.best_starts(kan, X, y, _SEEDS, 15)
    step(15)
    sizes = []
    for place, cells in enumerate(_CELLS):
        if place:
            kan.extend(cells, X)
        train(kan, X, y, num_steps=_KAN_STEPS, report=lambda _: step(1))
        sizes.append(kan.num_active())
        yield Point("KAN", sizes[-1], rmse(kan, T, t).numpy())
    for size in sizes:
        widths = scaling.mlp_widths(size, _LAYERS)
        mlp: Any = networks.BatchedMLP(widths, seed=mlp_seed, members=members, dtype=torch.float64)
        mlp = scaling.best_starts(mlp, X, y, _SEEDS, 20)
        step(20)
        train(mlp, X, y, num_steps=_MLP_STEPS, damping=scaling.DAMPING, report=lambda _: step(1))
        yield Point("MLP", mlp.num_active(), rmse(mlp, T, t).numpy())


class _Run:
    """One run of a `Trainer`: how far it is, and whether it is to end."""

    def __init__(self) -> None:
        self.done = 0
        self.halt = threading.Event()
        self.task: asyncio.Task[None] | None = None

    def step(self, count: int) -> None:
        if self.halt.is_set():
            raise _StoppedError
        self.done += count


class Trainer(widgets.HBox):  # type: ignore[misc]
    """Two buttons and a bar: train in the background, watch, and stop. Its `value` counts the points that came.

    Parameters
    ----------
    begin
        `begin(step)` returns an iterator of points for what is set now; the iterator runs in another thread, and calls
        `step` as it goes.
    take
        Called with each point, in the kernel's own thread.
    total
        Steps of a whole run.

    >>> found = []
    >>> trainer = Trainer(lambda step: iter([1, 2]), found.append, total=2)
    >>> trainer.train.click()
    >>> found, trainer.said.value
    ([1, 2], 'All points are trained.')
    """

    value = traitlets.Int(0)

    def __init__(
        self, begin: Callable[[Callable[[int], None]], Iterator[Any]], take: Callable[[Any], None], *, total: int
    ) -> None:
        self._begin, self._take_point = begin, take
        self._run = _Run()
        self.failed: Exception | None = None
        self.train, self.stop = _button("Train"), _button("Stop")
        self.bar = widgets.IntProgress(0, 0, total, layout=widgets.Layout(width="160px"))
        self.said = widgets.Label("No point is trained yet.")
        super().__init__(
            [self.train, self.stop, self.bar, self.said],
            layout=widgets.Layout(flex_flow="row wrap", align_items="center", width="100%"),
        )
        self.train.on_click(lambda _: self.start())
        self.stop.on_click(lambda _: self.halt())

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task of the present run, where it is one in the background."""
        return self._run.task

    @property
    def busy(self) -> bool:
        """Whether a run is under way."""
        return self.task is not None and not self.task.done()

    def start(self) -> None:
        """Begin a run, in the background where there is an event loop; one that is under way goes on."""
        if self.busy and not self._run.halt.is_set():
            return
        self._run = run = _Run()
        self.failed = None
        points = self._begin(run.step)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._finish(self._all_at_once(points))
        else:
            self.said.value = "Training …"
            run.task = loop.create_task(self._in_background(points, run))

    def halt(self) -> None:
        """Stop after the step that is under way; what is trained stays."""
        self._run.halt.set()

    def reset(self, said: str) -> None:
        """Stop, and be as if there had been no run; `said` stands beside the bar."""
        self.halt()
        self._run = _Run()
        self.bar.value, self.said.value = 0, said

    def _all_at_once(self, points: Iterator[Any]) -> Exception | None:
        try:
            for point in points:
                self._keep(point)
        except Exception as error:
            return error
        return None

    async def _in_background(self, points: Iterator[Any], run: _Run) -> None:
        loop = asyncio.get_running_loop()
        failed: Exception | None = None
        while True:
            found = loop.run_in_executor(None, next, points, None)
            while not found.done():
                await asyncio.wait([found], timeout=0.1)
                if run is self._run:
                    self.bar.value = run.done
            try:
                point = found.result()
            except Exception as error:
                failed = error
                break
            if point is None or run.halt.is_set():
                failed = None if point is None else _StoppedError()
                break
            self._keep(point)
        # A run that another one has taken the place of has nothing more to say.
        if run is self._run:
            self._finish(failed)

    def _keep(self, point: Any) -> None:
        self._take_point(point)
        if isinstance(point, Point):
            self.said.value = f"{point.network} of {point.parameters} parameters is trained."
        self.value += 1

    def _finish(self, failed: Exception | None) -> None:
        self.bar.value = self._run.done
        if failed is None:
            self.said.value = "All points are trained."
        elif isinstance(failed, _StoppedError):
            self.said.value = "Stopped. What is trained stays."
        else:
            self.failed, self.said.value = failed, "The training failed."
            self.value += 1


class _Race(NamedTuple):
    """What the scaling explorer draws."""

    points: tuple[Point, ...]
    order: int
    slope: float | None
    line: tuple[Array, Array]


TARGETS: dict[str, scaling.Target] = {
    "exp(sin πx + y²)": scaling.exp_sin,
    "exp(|x| + y²), with a kink": lambda X: torch.exp(X[..., :1].abs() + X[..., 1:2].square()),
    "sin(3xy), another graph": lambda X: torch.sin(3 * X[..., :1] * X[..., 1:2]),
}
"""What the networks of `explore_scaling` learn: what a [2, 1, 1] network is made for, and two things that it is not."""


def explore_scaling(*, seed: int = 0, target: scaling.Target | None = None) -> Panel:
    """Explore error against parameters, of KANs and perceptrons, point by point as they are trained.

    Parameters
    ----------
    seed
        Draws points, weights and data.
    target
        A function of your own of points (num, 2) in [-1, 1]² with values (num, 1), as one more choice.

    Returns
    -------
    A panel with controls for function and spline order, and buttons that train and stop; `panel.trainer` is these.

    Raises
    ------
    ValueError
        If your function does not return finite numbers of shape (num, 1).
    """
    targets = dict(TARGETS)
    if target is not None:
        values = target(scaling.draw_points(50, 2, seed=0))
        if values.shape != (50, 1) or not bool(values.isfinite().all()):
            raise ValueError("target must return finite numbers of shape (num, 1) for points of shape (num, 2).")
        targets = {"your own": target, **targets}
    kept: dict[tuple[str, int], list[Point]] = {}
    running = [("", 0)]

    def begin(step: Callable[[int], None]) -> Iterator[Point]:
        running[0] = key = (panel.controls["target"].value, panel.controls["order"].value)
        kept[key] = []
        return scaling_points(targets[key[0]], order=key[1], seed=seed, step=step)

    def compute(
        trained: int = 0,
        target: str = "",
        order: Annotated[int, Range(1, 5, label="Spline order")] = 3,
    ) -> _Race:
        if trainer.failed is not None:
            failed, trainer.failed = trainer.failed, None
            raise failed
        points = tuple(kept.get((target, order), ()))
        kan = [(point.parameters, float(np.median(point.errors))) for point in points if point.network == "KAN"]
        slope = None
        if len(kan) > 1:
            (n1, e1), (n2, e2) = kan[-2:]
            slope = math.log(max(e2, 1e-300) / max(e1, 1e-300)) / math.log(n2 / n1)
        size, error = kan[-1] if kan else (3 * (_CELLS[0] + order), 0.1)
        reach = np.array([10.0, 200.0])
        return _Race(points, order, slope, (reach, error * (reach / size) ** -(order + 1.0)))

    trainer = Trainer(begin, lambda point: kept[running[0]].append(point), total=_ALL_STEPS)
    chosen = widgets.Dropdown(
        options=list(targets),
        description="Function",
        style={"description_width": "initial"},
        layout=widgets.Layout(width="auto"),
    )
    panel = ScalingPanel(
        compute,
        _draw_race,
        title="More parameters, less error – how much less?",
        describe=_describe_race,
        hint="Press Train and watch the points come. Then lower the order, and try the functions that the network is not "
        "made for.",
        controls={"trained": trainer, "target": chosen},
    )
    panel.trainer = trainer

    def moved(_change: Any) -> None:
        known = kept.get((chosen.value, panel.controls["order"].value))
        trainer.reset(f"{len(known)} points are trained." if known else "No point is trained yet.")

    for control in (chosen, panel.controls["order"]):
        control.observe(moved, names="value")
    return panel


class ScalingPanel(Panel):
    """The panel of `explore_scaling`.

    Attributes
    ----------
    trainer
        Its buttons, bar and task.
    """

    trainer: Trainer


def _describe_race(now: _Race) -> str:
    if not now.points:
        return f"No point is trained yet. Theory lets the error of splines of order {now.order} fall with slope −{now.order + 1}."
    said = []
    for name in ("KAN", "MLP"):
        mine = [point for point in now.points if point.network == name]
        if mine:
            last = mine[-1]
            said.append(f"{name}: error {float(np.median(last.errors)):.2g} at {last.parameters} parameters.")
    if now.slope is not None:
        said.append(f"Slope of the KAN's last two points {now.slope:.1f}, theory −{now.order + 1}.".replace("-", "−"))
    return " ".join(said)


def _draw_race(now: _Race) -> theme.Figure:
    if now.slope is None:
        title = f"Press Train; theory: slope −{now.order + 1}"
    else:
        title = f"KAN: slope {now.slope:.1f}, theory −{now.order + 1}".replace("-", "−")
    fig = theme.figure(
        title=title,
        alt=f"Test error against number of parameters on logarithmic axes, {len(now.points)} points. Dashed: slope "
        f"−{now.order + 1}. {_describe_race(now)}",
        x="Parameters",
        y="Test error (RMSE)",
        x_type="log",
        y_type="log",
        height=420,
    )
    theme.add_theory(fig, *now.line, f"slope −{now.order + 1}")
    for index, name in enumerate(("KAN", "MLP")):
        mine = [point for point in now.points if point.network == name]
        if mine:
            errors = np.maximum([point.errors for point in mine], 1e-16)
            theme.add_measurement(
                fig,
                [point.parameters for point in mine],
                np.median(errors, 1),
                name,
                low=errors.min(1),
                high=errors.max(1),
                index=index,
                markers=True,
            )
    return fig
