"""From learnt curves to a formula: suggest a function for each edge, fix it, refit, and write the network as SymPy.

Each function f of a library is fitted to an edge's curve as c · f(a x + b) + d [kan-liu, §2.5.1]: (a, b) by a search that
zooms in, (c, d) by linear regression at each of its points. Suggestions are ranked by

    log2(1 - R² + 10⁻⁷) + complexity:      one unit of complexity must at least halve what is left unexplained.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciviz.kan.networks import KAN
from sciviz.kan.pruning import _check_single, scores
from sciviz.kan.training import History, levenberg_marquardt
from sciviz.lab.checks import check_choice, check_ndim, check_same_length


@dataclass(frozen=True)
class Form:
    """A function of the library: for tensors, for SymPy, how complex it counts, and where it is defined."""

    function: Callable[[Tensor], Tensor]
    symbol: Callable[[Any], Any]
    complexity: float
    defined: Callable[[Tensor], Tensor] = lambda u: torch.isfinite(u)


_TINY = 1e-6
LIBRARY: dict[str, Form] = {
    "0": Form(torch.zeros_like, lambda u: sympy.Integer(0), 0),
    "x": Form(lambda u: u, lambda u: u, 1),
    "x^2": Form(lambda u: u**2, lambda u: u**2, 2),
    "x^3": Form(lambda u: u**3, lambda u: u**3, 3),
    "x^4": Form(lambda u: u**4, lambda u: u**4, 3),
    "1/x": Form(lambda u: 1 / u, lambda u: 1 / u, 2, lambda u: u.abs() > _TINY),
    "1/x^2": Form(lambda u: 1 / u**2, lambda u: 1 / u**2, 3, lambda u: u.abs() > _TINY),
    "sqrt": Form(lambda u: u.clamp_min(0).sqrt(), sympy.sqrt, 2, lambda u: u >= 0),
    "exp": Form(lambda u: u.clamp_max(60).exp(), sympy.exp, 2, lambda u: u < 60),
    "log": Form(lambda u: u.clamp_min(_TINY).log(), sympy.log, 2, lambda u: u > _TINY),
    "abs": Form(torch.abs, sympy.Abs, 3),
    "sin": Form(torch.sin, sympy.sin, 2),
    "tanh": Form(torch.tanh, sympy.tanh, 3),
    "gaussian": Form(lambda u: torch.exp(-(u**2)), lambda u: sympy.exp(-(u**2)), 3),
}


@dataclass(frozen=True)
class Suggestion:
    """One function fitted to an edge as c · f(a x + b) + d."""

    name: str
    a: float
    b: float
    c: float
    d: float
    r2: float
    complexity: float

    @property
    def rank(self) -> float:
        """What suggestions are sorted by; lower is better."""
        return math.log2(max(1 - self.r2, 0.0) + 1e-7) + self.complexity


def fit_form(x: Float[Tensor, " batch"], y: Float[Tensor, " batch"], name: str, *, rounds: int = 10) -> Suggestion:
    """Fit c · f(a x + b) + d to a curve.

    Raises
    ------
    ValueError
        If the name is not in the library, or points and values differ in number.

    >>> x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    >>> round(fit_form(x, 3 * torch.sin(2 * x + 0.5), "sin").r2, 6)
    1.0
    """
    check_choice(LIBRARY, name=name)
    check_ndim(1, x=x, y=y)
    check_same_length(x=x, y=y)
    form = LIBRARY[name]
    x, y = x.detach().double(), y.detach().double()
    if len(x) > 100:
        pick = torch.linspace(0, len(x) - 1, 100).long()
        order = x.argsort()[pick]
        x, y = x[order], y[order]
    total = float((y - y.mean()).square().sum())
    mean = float(y.mean())
    if name == "0" or total <= 1e-24 * len(y):
        # A constant is explained by a constant, and by nothing else.
        return Suggestion(name, 1.0, 0.0, 0.0, mean, 1.0 if total <= 1e-24 * len(y) else 0.0, form.complexity)
    if name == "x":
        c = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum().clamp_min(1e-300))
        rest = y - y.mean() - c * (x - x.mean())
        return Suggestion(name, 1.0, 0.0, c, mean - c * float(x.mean()), 1 - float(rest.square().sum()) / total, 1)
    # On x scaled to [-1, 1], so that one range of a and b suits every edge.
    middle, half = float(x.max() + x.min()) / 2, max(float(x.max() - x.min()) / 2, 1e-12)
    u = (x - middle) / half
    centre, width = (0.0, 0.0), 10.0
    best = (-math.inf, 1.0, 0.0, 0.0, mean)
    count = 41
    for _ in range(rounds):
        steps = torch.linspace(-1, 1, count, dtype=torch.float64) * width
        a, b = (centre[0] + steps)[:, None, None], (centre[1] + steps)[None, :, None]
        inner = a * u + b
        valid = form.defined(inner).all(-1)
        values = form.function(inner)
        away = values - values.mean(-1, keepdim=True)
        square = away.square().sum(-1)
        along = (away * (y - mean)).sum(-1)
        r2 = torch.where(valid & (square > 1e-12), along.square() / (square * total), -1.0).nan_to_num(nan=-1.0)
        place = int(r2.argmax())
        i, j = divmod(place, count)
        if float(r2[i, j]) > best[0]:
            c = float(along[i, j] / square[i, j])
            best = (float(r2[i, j]), float(a[i, 0, 0]), float(b[0, j, 0]), c, mean - c * float(values[i, j].mean()))
        centre = best[1:3]
        # The next window holds the best point's neighbours, with room to walk along a narrow valley.
        width, count = width * (0.12 if count == 41 else 0.35), 17
    r2_best, a_best, b_best, c_best, d_best = best
    slope = a_best / half
    return Suggestion(name, slope, b_best - slope * middle, c_best, d_best, r2_best, form.complexity)


def suggest_curve(x: Tensor, y: Tensor, *, names: Sequence[str] = ()) -> list[Suggestion]:
    """Fit every function of the library to a curve; best first.

    >>> x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    >>> suggest_curve(x, (x - 1).square())[0].name
    'x^2'
    """
    return sorted((fit_form(x, y, name) for name in names or LIBRARY), key=lambda suggestion: suggestion.rank)


@torch.no_grad()
def suggest(
    model: KAN, layer: int, i: int, o: int, X: Float[Tensor, "batch in"], *, names: Sequence[str] = ()
) -> list[Suggestion]:
    """Fit every function of the library to an edge's curve on data; best first.

    Raises
    ------
    ValueError
        If the network is an ensemble, or there is no such edge.

    >>> X = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    >>> len(suggest(KAN([1, 1], seed=0, dtype=torch.float64), 0, 0, 0, X)) == len(LIBRARY)
    True
    """
    x, y = edge_curve(model, layer, i, o, X)
    return suggest_curve(x, y, names=names)


@torch.no_grad()
def edge_curve(model: KAN, layer: int, i: int, o: int, X: Float[Tensor, "batch in"]) -> tuple[Tensor, Tensor]:
    """Return an edge's inputs on data, in rising order, and its function's values there."""
    _check_single(model)
    if not (0 <= layer < len(model.layers) and 0 <= i < model.widths[layer] and 0 <= o < model.widths[layer + 1]):
        raise ValueError(f"There is no edge ({layer}, {i}, {o}) in a network of widths {model.widths}.")
    before = model.activations(X)[layer]
    order = before[:, i].argsort()
    return before[order, i], model[layer].edges(before)[order, i, o]


class FormulaEdge(nn.Module):
    """An edge fixed to c · f(a x + b) + d, whose four numbers stay learnable.

    >>> edge = FormulaEdge(Suggestion("x^2", 2.0, 0.0, 1.0, 1.0, 1.0, 2))
    >>> edge(torch.tensor([1.0, 2.0])).tolist()
    [5.0, 17.0]
    """

    def __init__(self, suggestion: Suggestion, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.name = suggestion.name
        self.a, self.b, self.c, self.d = (
            nn.Parameter(torch.tensor(value, dtype=dtype))
            for value in (suggestion.a, suggestion.b, suggestion.c, suggestion.d)
        )

    def forward(self, x: Float[Tensor, "... batch"]) -> Float[Tensor, "... batch"]:
        """Return the formula's values."""
        a, b, c, d = (number[..., None] for number in (self.a, self.b, self.c, self.d))
        return c * LIBRARY[self.name].function(a * x + b) + d


def fix_edge(
    model: KAN, layer: int, i: int, o: int, form: str | Suggestion, X: Float[Tensor, "batch in"]
) -> Suggestion:
    """Fix an edge of a network to a function of the library, fitted to the curve that it has on data.

    >>> X = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    >>> model = KAN([1, 1], seed=0, dtype=torch.float64)
    >>> fix_edge(model, 0, 0, 0, "x^2", X).name
    'x^2'
    """
    x, y = edge_curve(model, layer, i, o, X)
    suggestion = fit_form(x, y, form) if isinstance(form, str) else form
    edges = model[layer]
    edges.switch_off(i, o)
    edges.fixed[f"{i}_{o}"] = FormulaEdge(suggestion, edges.coef.dtype).to(edges.coef.device)
    return suggestion


def refit(model: KAN, X: Tensor, y: Tensor, *, num_steps: int = 30) -> History:
    """Fit what is left to learn: the four numbers of each fixed edge, and the splines of the others."""
    return levenberg_marquardt(model, X, y, num_steps=num_steps)


def make_symbolic(
    model: KAN,
    X: Float[Tensor, "batch in"],
    y: Float[Tensor, "batch out"],
    *,
    names: Sequence[str] = (),
    num_steps: int = 30,
) -> tuple[KAN, list[tuple[int, int, int, Suggestion]]]:
    """Return a copy in which every edge is fixed to its best suggestion, the most important edges first, and refitted.

    Returns
    -------
    The network, and for each fixed edge its layer, input, output and suggestion.
    """
    model = copy.deepcopy(model)
    importance = scores(model, X).edges
    todo = [(layer, i, o) for layer in range(len(model.layers)) for i, o in model[layer].active().nonzero().tolist()]
    todo.sort(key=lambda edge: -float(importance[edge[0]][edge[1], edge[2]]))
    chosen = []
    for layer, i, o in todo:
        if (i, o) not in model[layer].fixed_edges():
            best = fix_edge(model, layer, i, o, suggest(model, layer, i, o, X, names=names)[0], X)
            chosen.append((layer, i, o, best))
            refit(model, X, y, num_steps=max(1, num_steps // 3))
    refit(model, X, y, num_steps=num_steps)
    return model, chosen


def formula(model: KAN, variables: Sequence[str] = (), *, digits: int | None = None) -> list[Any]:
    """Return one SymPy expression for each output of a network whose edges are all fixed or pruned.

    Parameters
    ----------
    variables
        Names of the inputs; x1, x2, … if left out.
    digits
        Round to these significant digits, and write what is then a simple multiple of π as one. None keeps all digits.

    Raises
    ------
    ValueError
        If an edge still carries a learnt curve; it names the first.

    >>> X = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    >>> model = KAN([1, 1], seed=0, dtype=torch.float64)
    >>> _ = levenberg_marquardt(model, X, 2 * X**2 - 1, num_steps=5)
    >>> formula(make_symbolic(model, X, 2 * X**2 - 1)[0], ["x"], digits=4)
    [2*x**2 - 1]
    """
    _check_single(model)
    names = list(variables) or [f"x{n + 1}" for n in range(model.widths[0])]
    if len(names) != model.widths[0]:
        raise ValueError(f"variables must name {model.widths[0]} inputs, got {names}.")
    nodes = [sympy.Symbol(name) for name in names]
    for index in range(len(model.layers)):
        layer = model[index]
        fixed, active = layer.fixed_edges(), layer.active()
        sums = []
        for o in range(layer.num_outputs):
            total = sympy.Integer(0)
            for i in range(layer.num_inputs):
                edge = fixed.get((i, o))
                if edge is not None:
                    total += _expression(edge, nodes[i])
                elif bool(active[i, o]):
                    raise ValueError(f"Edge ({index}, {i}, {o}) still carries a learnt curve: fix it, or prune it.")
            sums.append(sympy.expand(total) if digits is not None else total)
        nodes = sums
    return nodes if digits is None else [_tidy(node, digits) for node in nodes]


def _expression(edge: Any, node: Any) -> Any:
    a, b, c, d = (sympy.Float(float(number.detach()), 17) for number in (edge.a, edge.b, edge.c, edge.d))
    return c * LIBRARY[edge.name].symbol(a * node + b) + d


def _tidy(expression: Any, digits: int) -> Any:
    """Join constant factors, drop what rounding makes zero, and recognise simple multiples of π and small fractions."""
    expression = sympy.expand(expression, power_base=True, power_exp=True)
    tolerance = 10.0 ** (-digits + 1)

    def simple(number: Any) -> Any:
        value = float(number)
        if abs(value) < tolerance:
            return sympy.Integer(0)
        for unit in (sympy.Integer(1), sympy.pi):
            for bottom in (1, 2, 3, 4):
                top = round(value / float(unit) * bottom)
                # A large number lies near some fraction always; that says nothing.
                if 0 < abs(top) <= 99 and abs(value - top * float(unit) / bottom) < tolerance * abs(value):
                    return sympy.Rational(top, bottom) * unit
        return sympy.Float(value, digits)

    return expression.xreplace({number: simple(number) for number in expression.atoms(sympy.Float)})


def formula_difference(model: KAN, X: Float[Tensor, "batch in"]) -> float:
    """Return the largest difference between a network and its own formula, on points.

    >>> X = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    >>> model = KAN([1, 1], seed=0, dtype=torch.float64)
    >>> _ = fix_edge(model, 0, 0, 0, "sin", X)
    >>> formula_difference(model, X) < 1e-12
    True
    """
    names = [f"x{n + 1}" for n in range(model.widths[0])]
    columns = X.detach().double().cpu().numpy()
    with torch.no_grad():
        values = model(X).double().cpu().numpy()
    worst = 0.0
    for output, expression in enumerate(formula(model)):
        function = sympy.lambdify(names, expression, "numpy")
        worst = max(worst, float(abs(function(*columns.T) - values[:, output]).max()))
    return worst
