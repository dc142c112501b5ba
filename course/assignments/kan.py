"""Hidden checks of the assignment on Kolmogorov-Arnold networks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from sciviz.coursework.questions import Call, Case, Mistake, Program, Question, Value, Wrong, compare

PRACTICE = {"order": 3, "beyond": "hold", "target_error": 1e-4}
Array = np.ndarray[Any, Any]


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Draw a class's order, what its splines do outside the grid, and its target."""
    return {
        "order": int(rng.choice([2, 4])),
        "beyond": str(rng.choice(["hold", "zero", "zero"])),
        "target_error": float(rng.choice([3e-5, 5e-5, 2e-4, 3e-4])),
    }


# --- bases: the recursion ---------------------------------------------------------------------------------------------


def bspline_bases(x: Array, knots: Array, degree: int) -> Array:
    """Return all bases of a degree."""
    x = np.asarray(x, dtype=np.float64)[:, None]
    bases = ((knots[:-1] <= x) & (x < knots[1:])).astype(np.float64)
    bases[x[:, 0] == knots[-1], np.flatnonzero(knots[:-1] < knots[1:])[-1]] = 1.0
    for d in range(1, degree + 1):
        width = knots[d:] - knots[:-d]
        share = np.divide(1.0, width, out=np.zeros_like(width), where=width > 0)
        bases = (x - knots[: -d - 1]) * share[:-1] * bases[:, :-1] + (knots[d + 1 :] - x) * share[1:] * bases[:, 1:]
    return bases


def even_knots(low: float, high: float, num_cells: int, order: int) -> Array:
    """Return even knots, continued on both sides, as the setup cell does."""
    place = np.arange(-order, num_cells + order + 1) / num_cells
    return low * (1 - place) + high * place


def bases_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Case]:
    """Uneven and even knots, points outside, repeated knots with and without the last point, points on knots."""
    uneven = 0.7 + np.cumsum(rng.uniform(0.2, 1.0, 11))
    even = np.arange(9.0) - 3.5
    order = variant["order"]
    inner = np.sort(rng.uniform(1.2, 1.8, 3))
    clamped = np.concatenate([np.full(order + 1, 1.0), inner, np.full(order + 1, 2.0)])
    on_knots = np.array([even[2], even[4], rng.uniform(-3, 3)])
    return [
        Call("bspline_bases", rng.uniform(uneven[0], uneven[-1], 30), uneven, 3, weight=2.0, label="uneven knots"),
        Call(
            "bspline_bases", np.append(rng.uniform(-3, 3, 5), [-9.0, 9.0]), even, 2, label="even knots, points outside"
        ),
        Call("bspline_bases", rng.uniform(1.05, 1.95, 1), clamped, order, label="repeated knots, one point"),
        Call("bspline_bases", np.append(rng.uniform(1.05, 1.95, 3), 2.0), clamped, order, label="the last knot"),
        Call("bspline_bases", on_knots, even, 0, label="order 0, points on knots"),
    ]


def bases_reference(case: Call, variant: dict[str, Any]) -> Array:
    """Return the bases."""
    return bspline_bases(*case.args)


_BASES = """
def bspline_bases(x, knots, degree):
    {before}
    x = np.asarray(x, dtype=np.float64)[:, None]
    bases = ({cells}).astype(np.float64)
    {last}
    for d in range({orders}):
        left, right = {left}, {right}
        rising = {rising}
        falling = {falling}
        bases = rising * bases[:, :-1] + falling * bases[:, 1:]
    return {result}

def _over(above, below):
    return np.where(below == 0, 0.0, above / np.where(below == 0, 1.0, below))
"""


def _bases(**changed: str) -> str:
    parts = {
        "before": "",
        "cells": "(knots[:-1] <= x) & (x < knots[1:])",
        "last": "bases[x[:, 0] == knots[-1], np.flatnonzero(knots[:-1] < knots[1:])[-1]] = 1.0",
        "orders": "1, degree + 1",
        "left": "(knots[d:] - knots[:-d])[:-1]",
        "right": "(knots[d:] - knots[:-d])[1:]",
        "rising": "_over(x - knots[: -d - 1], left)",
        "falling": "_over(knots[d + 1 :] - x, right)",
        "result": "bases",
    }
    return _BASES.format(**(parts | changed))


# Shares of six: uneven (two), even, repeated, the last knot, order 0.
BASES_WRONG = [
    Wrong("one denominator for both", _bases(right="(knots[d:] - knots[:-d])[:-1]"), 2 / 6),
    Wrong(
        "nought by nought", _bases(rising="(x - knots[: -d - 1]) / left", falling="(knots[d + 1 :] - x) / right"), 4 / 6
    ),
    Wrong("half-open to the last", _bases(last=""), 5 / 6),
    Wrong("closed on both sides", _bases(cells="(knots[:-1] <= x) & (x <= knots[1:])", last=""), 5 / 6),
    Wrong("the last cell even if empty", _bases(last="bases[x[:, 0] == knots[-1], -1] = 1.0"), 5 / 6),
    Wrong("one order too few", _bases(orders="1, degree"), 1 / 6),
    Wrong("rises only", _bases(falling="0 * x"), 1 / 6),
    Wrong("falls with the wrong sign", _bases(falling="_over(x - knots[d + 1 :], right)"), 1 / 6),
    Wrong("transposed", _bases(result="bases.T"), 0.0),
    Wrong("in place", _bases(before="x -= knots[0]; knots -= knots[0]"), 0.5),
]


# --- layer: a KAN's layer ---------------------------------------------------------------------------------------------


def silu(x: Array) -> Array:
    """Return x / (1 + e^-x)."""
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-x))


def splines(X: Array, knots: Array, coef: Array, variant: dict[str, Any]) -> Array:
    """Return the splines' part of a layer."""
    order = variant["order"]
    inside = np.clip(X, knots[order], knots[-order - 1])
    bases = bspline_bases(inside.ravel(), knots, order).reshape(*X.shape, -1)
    if variant["beyond"] == "zero":
        bases = bases * (inside == X)[..., None]
    return np.einsum("nib,iob->no", bases, coef)


def layer_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Case]:
    """Samples on the grid and beyond, a single edge, and large numbers in float32."""
    order = variant["order"]

    def case(num: int, num_in: int, num_out: int, X: Array, scale: float, label: str, weight: float = 1.0) -> Case:
        coef = rng.standard_normal((num_in, num_out, 5 + order))
        base = rng.uniform(0.5, 1.5, (num_in, num_out))
        return Call("kan_layer", X, even_knots(-scale, scale, 5, order), coef, base, weight=weight, label=label)

    far = rng.uniform(-1, 1, (4, 3))
    far[0], far[1, 1], far[2] = 1.25, -1.15, 7.0
    large = (rng.uniform(-1, 1, (4, 2)) * 900).astype(np.float32)
    large[0], large[1] = 950, -950
    return [
        case(6, 3, 2, rng.uniform(-1, 1, (6, 3)), 1.0, "samples on the grid", 2.0),
        case(4, 3, 2, far, 1.0, "samples beyond the grid"),
        case(1, 1, 1, rng.uniform(-1, 1, (1, 1)), 1.0, "one sample, one edge"),
        case(4, 2, 3, large, 1000.0, "large inputs, float32"),
    ]


def layer_reference(case: Call, variant: dict[str, Any]) -> Array:
    """Return the layer's outputs."""
    X, knots, coef, base = case.args
    X = np.asarray(X, dtype=np.float64)
    return silu(X) @ base + splines(X, knots, coef, variant)


def layer_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for a missing part, or a mean for a sum."""
    X, knots, coef, base = case.args
    X = np.asarray(X, dtype=np.float64)
    right, spline = layer_reference(case, variant), splines(X, knots, coef, variant)
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-X))
    return compare(
        answer,
        right,
        mistakes=[
            Mistake(spline, 0.5, "The base is missing."),
            Mistake(silu(X) @ base, 0.25, "The splines are missing."),
            Mistake(right / X.shape[1], 0.5, "A node adds its edges; it does not take their mean."),
            Mistake(sigmoid @ base + spline, 0.5, "The base is silu, the input times its sigmoid."),
        ],
    )


_LAYER = """
def kan_layer(X, knots, coef, base_weight):
    {convert}
    low, high = knots[order], knots[-order - 1]
    base = {silu}
    outside = (X < low) | (X > high)
    inside = {inside}
    bases = bspline_bases(inside.ravel(), knots, order).reshape(*X.shape, -1)
    if {zero}:
        bases = bases * ~outside[..., None]
    return {result}
"""


def _layer(**changed: str) -> str:
    parts = {
        "convert": "X = np.asarray(X, dtype=np.float64)",
        "silu": "X / (1 + np.exp(-X))",
        "inside": "np.clip(X, low, high)",
        "zero": 'beyond == "zero"',
        "result": 'base @ base_weight + np.einsum("nib,iob->no", bases, coef)',
    }
    return _LAYER.format(**(parts | changed))


# Shares of five: on the grid (two), beyond, one edge, large inputs.
LAYER_WRONG = [
    Wrong("no base", _layer(result='np.einsum("nib,iob->no", bases, coef)'), 0.5),
    Wrong("no splines", _layer(result="base @ base_weight"), 0.25),
    # With a single edge mean and sum are one.
    Wrong(
        "mean over the inputs",
        _layer(result='(base @ base_weight + np.einsum("nib,iob->no", bases, coef)) / X.shape[1]'),
        3 / 5,
    ),
    Wrong("sigmoid for silu", _layer(silu="1 / (1 + np.exp(-X))"), 0.5),
    Wrong("exponentials that overflow", _layer(silu="X * np.exp(X) / (1 + np.exp(X))"), 4 / 5),
    Wrong("nothing done beyond the grid", _layer(inside="X", zero="False"), 4 / 5),
    Wrong("the other convention", _layer(zero='beyond == "hold"'), 4 / 5),
    Wrong(
        "the base held, too",
        _layer(convert="X = np.clip(np.asarray(X, dtype=np.float64), knots[order], knots[-order - 1])"),
        4 / 5,
    ),
    Wrong("outputs before inputs", _layer(result='base @ base_weight + np.einsum("nib,oib->no", bases, coef)'), 1 / 5),
    Wrong(
        "one matrix for all bases",
        _layer(result="base @ base_weight + bases.reshape(len(X), -1) @ coef.reshape(-1, coef.shape[1])"),
        1 / 5,
    ),
    # What is beyond the grid is clipped for the caller, too.
    Wrong("in place", _layer(convert="", inside="np.clip(X, low, high, out=X)"), 4.5 / 5),
]


# --- extend: a finer grid that remembers ------------------------------------------------------------------------------


def extend_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Case]:
    """A grid that holds the old one, others finer and coarser, samples that occur twice, and too few samples."""
    order = variant["order"]

    def case(x: Array, cells: int, new_cells: int, label: str, weight: float = 1.0) -> Case:
        # Descending: a function that sorts its samples in place is found out.
        x, coef = np.sort(x)[::-1].copy(), rng.standard_normal(cells + order)
        knots, new = even_knots(-1.0, 1.0, cells, order), even_knots(-1.0, 1.0, new_cells, order)
        return Call("extend_grid", x, knots, coef, new, weight=weight, label=label)

    many = rng.uniform(-1, 1, 80)
    return [
        case(many, 4, 8, "a grid with all the old knots"),
        case(many, 4, 7, "a finer grid", 2.0),
        case(rng.uniform(-1, 1, 50), 9, 5, "a coarser grid"),
        case(np.concatenate([many[:40], many[:9], many[:9]]), 8, 3, "samples that occur more than once"),
        case(rng.uniform(-1, -0.7, 3), 3, 12, "fewer samples than bases"),
    ]


def extend_reference(case: Call, variant: dict[str, Any]) -> Array:
    """Return one of the best coefficient vectors."""
    x, knots, coef, new = case.args
    order = variant["order"]
    best: Array = np.linalg.lstsq(bspline_bases(x, new, order), bspline_bases(x, knots, order) @ coef, rcond=None)[0]
    return best


def extend_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """Compare what the new splines are at the samples: where many coefficients are best, any will do."""
    x, _, _, new = case.args
    right = extend_reference(case, variant)
    got = np.asarray(answer)
    if got.shape != right.shape or got.dtype.kind not in "iuf" or not np.isfinite(got).all():
        return compare(answer, right)
    bases = bspline_bases(x, new, variant["order"])
    fraction, _ = compare(bases @ got, bases @ right, rtol=1e-5, atol=1e-7)
    return (1.0, "Right.") if fraction == 1 else (0.0, "The new spline is not as close to the old one as it can be.")


_EXTEND = """
def extend_grid(x, knots, coef, new_knots):
    {before}
    old, new = bspline_bases({at}, knots, order), bspline_bases({at}, new_knots, order)
    return {result}
"""


def _extend(**changed: str) -> str:
    parts = {"before": "", "at": "x", "result": "np.linalg.lstsq(new, old @ coef, rcond=None)[0]"}
    return _EXTEND.format(**(parts | changed))


# Shares of six: all old knots, finer (two), coarser, twice, few.
EXTEND_WRONG = [
    Wrong(
        "coefficients interpolated",
        _extend(result="np.interp(np.linspace(0, len(coef) - 1, new.shape[1]), np.arange(len(coef)), coef)"),
        0.0,
    ),
    Wrong("values, not coefficients", _extend(result="old @ coef"), 0.0),
    Wrong("normal equations", _extend(result="np.linalg.inv(new.T @ new) @ new.T @ (old @ coef)"), 5 / 6),
    Wrong("fitted at the knots", _extend(at="new_knots[order : len(new_knots) - order]"), 0.0),
    Wrong("projected, not fitted", _extend(result="new.T @ (old @ coef) / len(x)"), 0.0),
    Wrong(
        "a heavy ridge",
        _extend(result="np.linalg.solve(new.T @ new + 0.1 * np.eye(new.shape[1]), new.T @ (old @ coef))"),
        0.0,
    ),
    Wrong("every sample once", _extend(at="np.unique(x)"), 5 / 6),
    Wrong(
        "padded with noughts", _extend(result="np.resize(np.append(coef, np.zeros(new.shape[1])), new.shape[1])"), 0.0
    ),
    Wrong("in place", _extend(before="x.sort()"), 0.5),
]


# --- scaling: an experiment over grid sizes and orders ----------------------------------------------------------------

POINTS = np.linspace(0, 1, 1001)


@functools.lru_cache(maxsize=1000)
def _projected(num_cells: int, degree: int) -> tuple[Array, Array]:
    bases = bspline_bases(POINTS, even_knots(0.0, 1.0, num_cells, degree), degree)
    return bases, np.linalg.pinv(bases)


def residual(values: Array, num_cells: int, degree: int) -> Array:
    """Return what the best spline leaves of a function's values at the points."""
    bases, inverse = _projected(num_cells, degree)
    return values - bases @ (inverse @ values)


def error_exponent(values: Array, degree: int, how: Callable[[Array], Any]) -> float:
    """Return minus the slope of log error against log cells."""
    sizes = [12, 24, 48, 96]
    errors = [float(how(residual(values, cells, degree))) for cells in sizes]
    return float(-np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def rms(values: Array) -> Any:
    """Return the root mean square."""
    return np.sqrt(np.mean(values**2))


def own_numbers(variant: dict[str, Any]) -> tuple[float, float, float]:
    """Return frequency, phase and kink of the student's functions, as the setup cell draws them."""
    rng = np.random.default_rng(variant["seed"])
    frequency, phase = rng.uniform(1.0, 2.0), rng.uniform(0, 2 * np.pi)
    # A third of the way through a cell of all four grids: at the end of a cell a kink would do no harm.
    kink = (rng.integers(4, 8) + rng.integers(1, 3) / 3) / 12 + rng.uniform(-0.001, 0.001)
    return float(frequency), float(phase), float(kink)


def own_values(variant: dict[str, Any]) -> Array:
    """Return the student's smooth function at the points."""
    frequency, phase, _ = own_numbers(variant)
    return np.exp(np.sin(2 * np.pi * frequency * POINTS + phase))


_WAVE = "lambda x: np.cos(rate * x)"
_POLYNOMIAL = "lambda x: 1 + rate * x - x**2"
_OWN = "lambda x: np.exp(np.sin(2 * np.pi * frequency * x + phase))"
_KINK = "lambda x: np.abs(x - kink)"


def scaling_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Case]:
    """A wave, a polynomial that is a spline, a grid of one cell, and exponents of smooth and kinked functions."""
    error = "import numpy as np\nresult = spline_error({function}, num_cells, degree)"
    exponent = "import numpy as np\nresult = [error_exponent({function}, degree) for degree in degrees]"
    rate = float(rng.uniform(7, 9))
    frequency, phase, kink = own_numbers(variant)
    return [
        Program(error.format(function=_WAVE), rate=rate, num_cells=10, degree=3, label="a wave"),
        Program(error.format(function=_POLYNOMIAL), rate=rate, num_cells=4, degree=2, label="a polynomial"),
        Program(error.format(function=_WAVE), rate=rate, num_cells=1, degree=1, label="one cell"),
        Program(
            exponent.format(function=_OWN),
            frequency=frequency,
            phase=phase,
            degrees=[1, 2, 3],
            weight=2.0,
            label="your function's exponents",
        ),
        Program(exponent.format(function=_KINK), kink=kink, degrees=[1, 3], label="the kinked function's exponents"),
    ]


def _values(case: Program) -> Array:
    data = case.data
    if "rate" in data:
        rate = data["rate"]
        return np.cos(rate * POINTS) if _WAVE in case.source else 1 + rate * POINTS - POINTS**2
    if "kink" in data:
        return np.abs(POINTS - data["kink"])
    return np.exp(np.sin(2 * np.pi * data["frequency"] * POINTS + data["phase"]))


def scaling_reference(case: Program, variant: dict[str, Any], how: Callable[[Array], Any] = rms) -> Any:
    """Return the error, or the exponents."""
    if "degrees" in case.data:
        return np.array([error_exponent(_values(case), degree, how) for degree in case.data["degrees"]])
    return how(residual(_values(case), case.data["num_cells"], case.data["degree"]))


def scaling_judge(answer: Any, case: Program, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for another measure of the error, or another sign."""
    right = scaling_reference(case, variant)
    mistakes = []
    if "degrees" in case.data:
        sizes = np.array([12, 24, 48, 96])
        mistakes = [
            Mistake(-right, 0.5, "The exponent's size is asked for: minus the slope."),
            Mistake(2 * right, 0.5, "Twice the exponents: are these of the squared error?"),
            Mistake(
                [
                    -np.polyfit(np.log(sizes + k), np.log([rms(residual(_values(case), n, k)) for n in sizes]), 1)[0]
                    for k in case.data["degrees"]
                ],
                0.5,
                "Fit against the number of cells, not of bases.",
            ),
        ]
    elif right > 1e-8:
        mistakes = [
            Mistake(right**2, 0.5, "This is the mean square; its root is asked for."),
            Mistake(
                np.abs(residual(_values(case), case.data["num_cells"], case.data["degree"])).max(),
                0.5,
                "This is the largest error; the root mean square is asked for.",
            ),
        ]
    return compare(answer, right, rtol=1e-4, atol=1e-9, mistakes=mistakes)


_SCALING = """
def spline_error(function, num_cells, degree):
    knots = {knots}
    bases = bspline_bases(points, knots, degree)
    coef = np.linalg.lstsq(bases, function(points), rcond=None)[0]
    left = bases @ coef - function(points)
    return {error}

def error_exponent(function, degree):
    sizes = [12, 24, 48, 96]
    errors = [spline_error(function, cells, degree) for cells in sizes]
    return {exponent}
"""


def _scaling(**changed: str) -> str:
    parts = {
        "knots": "even_knots(0.0, 1.0, num_cells, degree)",
        "error": "np.sqrt(np.mean(left**2))",
        "exponent": "-np.polyfit(np.log(sizes), np.log(errors), 1)[0]",
    }
    return _SCALING.format(**(parts | changed))


# Shares of six: a wave, a polynomial, one cell, own exponents (two), the kink's.
SCALING_WRONG = [
    Wrong("mean square", _scaling(error="np.mean(left**2)"), 3.5 / 6),
    Wrong("the largest error", _scaling(error="np.abs(left).max()"), 2 / 6),
    Wrong("the slope's sign", _scaling(exponent="np.polyfit(np.log(sizes), np.log(errors), 1)[0]"), 4.5 / 6),
    Wrong("no logarithms", _scaling(exponent="-np.polyfit(sizes, errors, 1)[0]"), 3 / 6),
    Wrong(
        "against the number of bases",
        _scaling(exponent="-np.polyfit(np.log(np.add(sizes, degree)), np.log(errors), 1)[0]"),
        4.5 / 6,
    ),
    Wrong("axes exchanged", _scaling(exponent="-np.polyfit(np.log(errors), np.log(sizes), 1)[0]"), 3 / 6),
    Wrong("one cell too many", _scaling(knots="even_knots(0.0, 1.0, num_cells + 1, degree)"), 1 / 6),
    Wrong("knots that are not continued", _scaling(knots="np.linspace(0, 1, num_cells + 1)"), 0.0),
    Wrong("the sum, not the mean", _scaling(error="np.sqrt(np.sum(left**2))"), 4 / 6),
]


# --- cells: an explorer question, from the student's own function -----------------------------------------------------


def cells_needed(variant: dict[str, Any]) -> int:
    """Return the smallest grid whose error is below the target."""
    values = own_values(variant)
    for cells in range(1, 300):
        if rms(residual(values, cells, variant["order"])) < variant["target_error"]:
            return cells
    raise ValueError("the target must be within reach.")


def cells_reference(case: Value, variant: dict[str, Any]) -> int:
    """Return the cells, or the width that costs as much."""
    cells = cells_needed(variant)
    return cells if case.name == "cells_needed" else (cells + variant["order"]) // 3


def cells_judge(answer: Any, case: Value, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks one off."""
    right = cells_reference(case, variant)
    if case.name == "cells_needed":
        mistakes = [
            Mistake(right - 1, 0.5, "One cell too few: the error must be below the target."),
            Mistake(right + 1, 0.5, "It is below the target with one cell fewer, too."),
        ]
    else:
        mistakes = [Mistake(right + 1, 0.5, "This network has more parameters than the edge.")]
    return compare(answer, right, mistakes=mistakes)


_CELLS = """
_first = next(n for n in range(1, 400) if spline_error(own_function, n, order) < target_error)
cells_needed = {cells}
fair_width = {width}
"""


def _cells(**changed: str) -> str:
    return _CELLS.format(**({"cells": "_first", "width": "(_first + order) // 3"} | changed))


# Shares of three: the cells (two), the width.
CELLS_WRONG = [
    Wrong("one too few", _cells(cells="_first - 1"), 2 / 3),
    Wrong("one too many", _cells(cells="_first + 1"), 2 / 3),
    Wrong("bases for cells", _cells(cells="_first + order"), 1 / 3),
    Wrong("rounded up", _cells(width="(_first + order) // 3 + 1"), 2.5 / 3),
    Wrong("as many units as parameters", _cells(width="_first + order + 1"), 2 / 3),
    Wrong("a power of two", "cells_needed = 512\nfair_width = 170", 0.0),
    Wrong("the error, not the cells", _cells(cells="spline_error(own_function, _first, order)", width="None"), 0.0),
    Wrong("as text", _cells(cells="str(_first)", width="str((_first + order) // 3)"), 0.0),
]

QUESTIONS = {
    "bases": Question(bases_inputs, bases_reference, None, BASES_WRONG),
    "layer": Question(layer_inputs, layer_reference, layer_judge, LAYER_WRONG),
    "extend": Question(extend_inputs, extend_reference, extend_judge, EXTEND_WRONG),
    "scaling": Question(scaling_inputs, scaling_reference, scaling_judge, SCALING_WRONG),
    "cells": Question(
        lambda rng, variant: [Value("cells_needed", weight=2.0), Value("fair_width")],
        cells_reference,
        cells_judge,
        CELLS_WRONG,
    ),
}
