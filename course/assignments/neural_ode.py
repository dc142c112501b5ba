"""Hidden checks of the assignment on solvers of differential equations and their gradients."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from sciviz.coursework.questions import Call, Mistake, Program, Question, Value, Wrong, compare

Array = np.ndarray[Any, Any]

# Three stages of order three, and four of order four: none has Euler's limit of stability.
_TABLES: list[tuple[list[list[float]], list[float], list[float]]] = [
    ([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [-1.0, 2.0, 0.0]], [1 / 6, 2 / 3, 1 / 6], [0.0, 0.5, 1.0]),
    ([[0.0, 0.0, 0.0], [1 / 3, 0.0, 0.0], [0.0, 2 / 3, 0.0]], [0.25, 0.0, 0.75], [0.0, 1 / 3, 2 / 3]),
    ([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.25, 0.25, 0.0]], [1 / 6, 1 / 6, 2 / 3], [0.0, 1.0, 0.5]),
    ([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.75, 0.0]], [2 / 9, 1 / 3, 4 / 9], [0.0, 0.5, 0.75]),
    (
        [[0.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]],
        [1 / 6, 1 / 3, 1 / 3, 1 / 6],
        [0.0, 0.5, 0.5, 1.0],
    ),
    (
        [[0.0, 0.0, 0.0, 0.0], [1 / 3, 0.0, 0.0, 0.0], [-1 / 3, 1.0, 0.0, 0.0], [1.0, -1.0, 1.0, 0.0]],
        [0.125, 0.375, 0.375, 0.125],
        [0.0, 1 / 3, 2 / 3, 1.0],
    ),
]
PRACTICE = {
    "table_A": _TABLES[0][0],
    "table_b": _TABLES[0][1],
    "table_c": _TABLES[0][2],
    "loss_scale": 1.5,
    "end_time": 8.0,
}


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Draw a class's constants."""
    A, b, c = _TABLES[1 + int(rng.integers(len(_TABLES) - 1))]
    return {
        "table_A": A,
        "table_b": b,
        "table_c": c,
        "loss_scale": float(rng.choice([0.75, 2.0, 3.0])),
        "end_time": float(rng.choice([6.0, 7.0, 10.0])),
    }


# --- rk-step: one step ------------------------------------------------------------------------------------------------


def rk_step(f: Any, t: float, y: Any, h: float, A: Any, b: Any, c: Any) -> Any:
    """Return the state after one step."""
    slopes: list[Any] = []
    for row, node in zip(A, c, strict=True):
        stage = y
        for weight, slope in zip(row, slopes, strict=False):
            stage = stage + h * weight * slope
        slopes.append(f(t + node * h, stage))
    for weight, slope in zip(b, slopes, strict=True):
        y = y + h * weight * slope
    return y


_FIELDS = """
import numpy

def field(name):
    return {
        "driven": lambda t, y: numpy.sin(3 * t) * y - 0.3 * y * y + t,
        "autonomous": lambda t, y: numpy.cos(y) - 0.5 * y,
    }[name]
"""
_ASK_STEP = (
    _FIELDS
    + """
inside, calls = field(name), []

def f(t, y):
    calls.append(t)
    return inside(t, y)

before = numpy.array(y)
new = rk_step(f, t, y, h, A, b, c)
result = {"y": new, "calls": len(calls), "kept": bool(numpy.array_equal(before, y))}
"""
)


def step_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Program]:
    """Tables with random numbers, so that each is noticed; a number, a matrix, integers; one stage; no step."""

    def case(name: str, y: Any, stages: int, weight: float, label: str, **more: Any) -> Program:
        A = np.tril(rng.uniform(0.3, 1.0, (stages, stages)), -1)
        b, c = rng.uniform(0.3, 1.0, stages), np.concatenate([[0.0], rng.uniform(0.4, 1.0, stages - 1)])
        b = np.ones(1) if stages == 1 else b
        given = {"t": float(rng.uniform(0.5, 2)), "h": float(rng.uniform(0.2, 0.4)), "A": A, "b": b, "c": c} | more
        return Program(_ASK_STEP, weight=weight, label=label, name=name, y=y, **given)

    listed = {"A": [[0.0, 0.0], [0.7, 0.0]], "b": [0.2, 0.6], "c": [0.0, 0.8]}
    return [
        case("driven", rng.standard_normal(3), 4, 3.0, "four stages"),
        case("driven", float(rng.uniform(1, 2)), 2, 1.0, "a number, the table in lists", **listed),
        case("autonomous", rng.standard_normal((2, 3)), 3, 1.0, "a matrix"),
        case("driven", rng.standard_normal(2), 1, 1.0, "one stage"),
        case("driven", rng.standard_normal(2), 3, 1.0, "no step", h=0.0),
        case("driven", rng.integers(1, 5, 3), 3, 1.0, "integers"),
    ]


def step_right(case: Program, *, timed: bool = True) -> Any:
    """Return the new state; not `timed` is the mistake of taking all slopes at the step's beginning."""
    scope: dict[str, Any] = {}
    exec(_FIELDS, scope)
    data = case.data
    c = data["c"] if timed else np.zeros(len(data["c"]))
    return rk_step(scope["field"](data["name"]), data["t"], data["y"], data["h"], data["A"], data["b"], c)


def step_judge(answer: Any, case: Program, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for slopes at the wrong times, three quarters if f is called too often, half in place."""
    late = Mistake(step_right(case, timed=False), 0.5, "Each slope is taken at a time of its own, t + cᵢ h.")
    fraction, message = compare(answer["y"], step_right(case), rtol=1e-9, mistakes=[late])
    if fraction > 0 and answer["calls"] > len(case.data["b"]):
        fraction, message = 0.75 * fraction, f"{message} But f is called more often than there are stages."
    if fraction > 0 and not answer["kept"]:
        fraction, message = 0.5 * fraction, f"{message} But your function changes what it is given: work on a copy."
    return fraction, message


_STEP = """
def rk_step(f, t, y, h, A, b, c):
    A, b, c = np.asarray(A), np.asarray(b), np.asarray(c)
    slopes = []
    stage = y
    for i in range(len(b)):
        stage = {stage}
        slopes.append(f({time}, stage))
    {last}
"""


def _step(**changed: str) -> str:
    parts = {
        "stage": "y + h * sum(A[i, j] * slopes[j] for j in range(i))",
        "time": "t + c[i] * h",
        "last": "return y + h * sum(weight * slope for weight, slope in zip(b, slopes))",
    }
    return _STEP.format(**(parts | changed))


# Eight shares, four stages have three. One stage, and no step, need neither A nor c: two shares.
STEP_WRONG = [
    Wrong("all slopes at t", _step(time="t"), (3 * 0.5 + 0.5 + 1 + 1 + 1 + 0.5) / 8),
    Wrong("stages pile up", _step(stage="stage + h * sum(A[i, j] * slopes[j] for j in range(i))"), 3 / 8),
    Wrong("no h in the stages", _step(stage="y + sum(A[i, j] * slopes[j] for j in range(i))"), 2 / 8),
    Wrong("the last slope alone", _step(last="return y + h * slopes[-1]"), 2 / 8),
    Wrong("the mean of the slopes", _step(last="return y + h * sum(slopes) / len(b)"), 2 / 8),
    Wrong("no h in the sum", _step(last="return y + sum(w * k for w, k in zip(b, slopes))"), 0.0),
    Wrong("Euler's step", "def rk_step(f, t, y, h, A, b, c):\n    return y + h * f(t, y)\n", 2 / 8),
    Wrong(
        "every slope anew",
        "def rk_step(f, t, y, h, A, b, c):\n"
        "    def slope(i):\n"
        "        return f(t + c[i] * h, y + h * sum(A[i][j] * slope(j) for j in range(i)))\n"
        "    return y + h * sum(b[i] * slope(i) for i in range(len(b)))\n",
        (7 * 0.75 + 1) / 8,
    ),
    # A number cannot be changed in place, no step changes nothing, and integers hold no fractions.
    Wrong(
        "in place",
        _step(last="y += h * sum(w * k for w, k in zip(b, slopes)); return y"),
        (1.5 + 1 + 0.5 + 0.5 + 1) / 8,
    ),
]


# --- measured-order: convergence --------------------------------------------------------------------------------------


def order_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Call]:
    """Methods of order 0 to 4, and one whose times do not fit its stages."""
    node = float(rng.uniform(0.4, 0.9))
    two = np.array([[0.0, 0.0], [node, 0.0]]), np.array([1 - 1 / (2 * node), 1 / (2 * node)]), np.array([0.0, node])
    three = [np.array(part) for part in _TABLES[1 + int(rng.integers(3))]]
    four = [np.array(part) for part in _TABLES[4 + int(rng.integers(2))]]
    return [
        Call("measured_order", np.zeros((1, 1)), np.ones(1), np.zeros(1), label="Euler's method"),
        Call("measured_order", *two, label="a method of order 2"),
        Call("measured_order", *three, label="a method of order 3"),
        Call("measured_order", *four, label="a method of order 4"),
        Call("measured_order", two[0], two[1], np.zeros(2), weight=2.0, label="times that do not fit"),
        Call("measured_order", two[0], 0.9 * two[1], two[2], label="a method that does not converge"),
    ]


_ORDERS = {
    "Euler's method": 1,
    "a method of order 2": 2,
    "a method of order 3": 3,
    "a method of order 4": 4,
    "times that do not fit": 1,
    "a method that does not converge": 0,
}


def order_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for the order of one step's error, or the wrong sign."""
    right = float(_ORDERS[case.label])
    mistakes = []
    # There a 2 may also be the order of the same stages at the right times.
    if case.label != "times that do not fit":
        said = "This is the order of one step's error. At a fixed time there are 1/h of them."
        mistakes.append(Mistake(right + 1, 0.5, said))
    if right:
        mistakes.append(Mistake(-right, 0.5, "The sign: the error falls as the step does."))
    fraction, message = compare(answer, right, rtol=0, atol=0.25, mistakes=mistakes)
    if fraction == 0 and case.label == "times that do not fit":
        message = "Your equation does not notice that the times of the stages are wrong: does it depend on time?"
    return fraction, message


_ORDER = """
def measured_order(A, b, c):
    def error(num_steps):
        y, h = 1.0, {length} / num_steps
        for n in range({number}):
            y = rk_step(lambda t, y: {field}, n * h, y, h, A, b, c)
        return abs(y - {exact})
    return {result}
"""


def _order(**changed: str) -> str:
    parts = {
        "length": "1.0",
        "number": "num_steps",
        "field": "-2 * t * y ** 2 + y - 1 / (1 + t ** 2)",
        "exact": "0.5",
        "result": "np.log2(error(40) / error(80))",
    }
    return _ORDER.format(**(parts | changed))


# Seven shares, the times that do not fit have two.
ORDER_WRONG = [
    Wrong(
        "the error of one step",
        _order(number="1", exact="1 / (1 + (1.0 / num_steps) ** 2)", field="-y * y * (1 + t) + 0.5 * t * t")
        .replace("1 / (1 + (1.0 / num_steps) ** 2)", "exact(1.0 / num_steps)")
        .replace(
            "    def error(num_steps):",
            "    def exact(end):\n"
            "        y = 1.0\n"
            "        for n in range(50):\n"
            "            y = rk_step(lambda t, y: -y * y * (1 + t) + 0.5 * t * t, n * end / 50, y, end / 50, *table4)\n"
            "        return y\n"
            "    table4 = ([[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 1, 0]], [1/6, 1/3, 1/3, 1/6], [0, 0.5, 0.5, 1])\n"
            "    def error(num_steps):",
        )
        .replace("error(40) / error(80)", "error(12) / error(24)"),
        5 * 0.5 / 7,
    ),
    Wrong("the wrong sign", _order(result="np.log2(error(80) / error(40))"), (6 * 0.5 + 1) / 7),
    Wrong("an equation without time", _order(field="-y", exact="np.exp(-1.0)"), 5 / 7),
    Wrong("the number of stages", "def measured_order(A, b, c):\n    return len(b)", 4 / 7),
    Wrong("not over the logarithm of the steps", _order(result="np.log(error(40) / error(80))"), 1 / 7),
    Wrong("as text", _order(result="str(np.log2(error(40) / error(80)))"), 0.0),
    Wrong("always Euler's", "def measured_order(A, b, c):\n    return 1.0", (1 + 2 + 0.5) / 7),
    Wrong("the error itself", _order(result="error(80)"), 1 / 7),
]


# --- adjoint: a gradient backward in time -----------------------------------------------------------------------------

_EQUATIONS = """
import numpy

def equation(name):
    return {
        "growth": (lambda t, y, p: p * y * (1 - y), lambda t, y, p: p * (1 - 2 * y), lambda t, y, p: y * (1 - y)),
        "driven": (
            lambda t, y, p: p * numpy.sin(t) - y * y * y + p * y,
            lambda t, y, p: -3 * y * y + p,
            lambda t, y, p: numpy.sin(t) + y,
        ),
        "decay": (lambda t, y, p: -p * y, lambda t, y, p: -p, lambda t, y, p: -y),
        "forgets": (
            lambda t, y, p: -p * (y - numpy.sin(t)) - y * y * y,
            lambda t, y, p: -p - 3 * y * y,
            lambda t, y, p: -(y - numpy.sin(t)),
        ),
    }[name]
"""
_ASK_ADJOINT = (
    _EQUATIONS
    + """
result = adjoint(*equation(name), theta, y0, target, end, 1000)
result = [float(value) for value in result]
"""
)


def adjoint_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Program]:
    """A driven and a decaying equation, no time at all, an equation that forgets, and a start that stays."""

    def case(name: str, theta: float, y0: float, end: float, weight: float, label: str) -> Program:
        target = float(rng.uniform(2.5, 3.5))
        return Program(_ASK_ADJOINT, weight=weight, label=label, name=name, theta=theta, y0=y0, target=target, end=end)

    near = rng.uniform(0.4, 0.8, 4)
    return [
        case("driven", float(near[0]), float(near[1]), 2.0, 5.0, "a driven equation"),
        case("decay", float(near[2]), float(1 + near[3]), 1.5, 2.0, "a decay"),
        case("driven", 0.5, 0.7, 0.0, 1.0, "no time"),
        case("forgets", 20.0, float(near[1]), 3.0, 1.0, "an equation that forgets"),
        case("growth", float(near[0]), 0.0, 2.0, 1.0, "a start that stays where it is"),
    ]


def adjoint_reference(case: Program, variant: dict[str, Any]) -> tuple[float, float, float]:
    """Return loss and derivatives, by the sensitivities forward in time: another way than the one that is asked for."""
    from scipy.integrate import solve_ivp

    scope: dict[str, Any] = {}
    exec(_EQUATIONS, scope)
    data = case.data
    f, by_y, by_theta = scope["equation"](data["name"])
    theta, scale = data["theta"], variant["loss_scale"]

    def sensitivities(t: float, state: Array) -> list[float]:
        y, to_start, to_theta = state
        slope = by_y(t, y, theta)
        return [f(t, y, theta), slope * to_start, slope * to_theta + by_theta(t, y, theta)]

    start = [data["y0"], 1.0, 0.0]
    if data["end"] == 0:
        y, to_start, to_theta = start
    else:
        span = (0.0, data["end"])
        y, to_start, to_theta = solve_ivp(sensitivities, span, start, method="DOP853", rtol=1e-10, atol=1e-12).y[:, -1]
    pull = 2 * scale * (y - data["target"])
    return scale * (y - data["target"]) ** 2, pull * to_start, pull * to_theta


def adjoint_judge(answer: Any, case: Program, variant: dict[str, Any]) -> tuple[float, str]:
    """A tenth of the marks for the loss, 45 percent for each derivative; half of that to one digit less."""
    right = adjoint_reference(case, variant)
    if not isinstance(answer, (list, tuple)) or len(answer) != 3:
        return 0.0, "Three numbers are wanted: the loss, and its derivatives by y0 and by theta."
    earned, said = 0.0, []
    names = ("the loss", "the derivative by y0", "the derivative by theta")
    for got, wanted, name, part in zip(answer, right, names, (0.1, 0.45, 0.45), strict=True):
        if compare(got, wanted, rtol=1.5e-3, atol=1e-6)[0] == 1:
            earned += part
        elif compare(got, wanted, rtol=2e-2, atol=1e-6)[0] == 1:
            earned += part / 2
            said.append(f"{name} is only roughly right: is the way there and back of second order?")
        elif name.endswith("theta") and compare(got, -wanted, rtol=1.5e-3)[0] == 1:
            said.append(f"{name} has the wrong sign")
        else:
            said.append(f"{name} is wrong")
    if not said:
        return 1.0, "Right."
    return round(earned, 6), f"Here {', '.join(said)}."


_ADJOINT = """
def adjoint(f, df_dy, df_dtheta, theta, y0, target, end, num_steps):
    h = end / num_steps
    y = [y0]
    for n in range(num_steps):
        y.append(rk_step(lambda t, y: f(t, y, theta), n * h, y[-1], h, table_A, table_b, table_c))
    {back}
    a, total = {begin}, 0.0
    for n in reversed(range(num_steps)):
        first = a * df_dy((n + 1) * h, y[n + 1], theta)
        second = (a + h * first) * df_dy(n * h, y[n], theta)
        new = {new}
        total += {total}
        a = new
    return {result}
"""


def _adjoint(**changed: str) -> str:
    parts = {
        "back": "",
        "begin": "2 * loss_scale * (y[-1] - target)",
        "new": "a + h / 2 * (first + second)",
        "total": "h / 2 * (a * df_dtheta((n + 1) * h, y[n + 1], theta) + new * df_dtheta(n * h, y[n], theta))",
        "result": "loss_scale * (y[-1] - target) ** 2, a, total",
    }
    return _ADJOINT.format(**(parts | changed))


# Ten shares: five the driven equation, two the decay. Without time the derivative by theta is zero, where the equation forgets
# that by y0, and from a start that stays that by theta again.
_LITTLE = 0.55
ADJOINT_WRONG = [
    Wrong(
        "the wrong sign",
        _adjoint(total="-h / 2 * (a * df_dtheta((n + 1) * h, y[n + 1], theta) + new * df_dtheta(n * h, y[n], theta))"),
        (8 * _LITTLE + 2) / 10,
    ),
    Wrong("no factor 2", _adjoint(begin="loss_scale * (y[-1] - target)"), (7 * 0.1 + 3 * _LITTLE) / 10),
    Wrong("no scale", _adjoint(begin="2 * (y[-1] - target)"), (7 * 0.1 + 3 * _LITTLE) / 10),
    Wrong("the adjoint stands still", _adjoint(new="a"), (7 * 0.1 + 1 + 0.1 + _LITTLE) / 10),
    Wrong(
        "the adjoint decays where it grows",
        _adjoint(new="a - h / 2 * (first + (a - h * first) * df_dy(n * h, y[n], theta))"),
        (7 * 0.1 + 1 + 0.1 + _LITTLE) / 10,
    ),
    Wrong("derivatives exchanged", _adjoint(result="loss_scale * (y[-1] - target) ** 2, total, a"), (10 * 0.1) / 10),
    Wrong(
        "runs the state backwards",
        _adjoint(
            back="""y = y[-1:]
    for n in range(num_steps):
        y.append(rk_step(lambda t, y: f(t, y, theta), end - n * h, y[-1], -h, table_A, table_b, table_c))
    y = y[::-1]"""
        ),
        (9 + 0.1) / 10,
    ),
    Wrong(
        "the integral without its step",
        _adjoint(total="a * df_dtheta((n + 1) * h, y[n + 1], theta)"),
        (8 * _LITTLE + 1 + _LITTLE) / 10,
    ),
    Wrong(
        "no derivatives", _adjoint(result="loss_scale * (y[-1] - target) ** 2, 0.0, 0.0"), (7 * 0.1 + 3 * _LITTLE) / 10
    ),
    Wrong("the loss alone", _adjoint(result="loss_scale * (y[-1] - target) ** 2"), 0.0),
]


# --- largest-step: an explorer question -------------------------------------------------------------------------------


def own_system(variant: dict[str, Any]) -> tuple[Array, float, Array]:
    """Return what the setup cell draws: the three eigenvalues, the oscillator's damping and start."""
    rng = np.random.default_rng(variant["seed"])
    fast, slow, turning = rng.uniform(20, 40), rng.uniform(4, 8), rng.uniform(2, 8)
    rng.standard_normal((3, 3))
    damping = rng.uniform(1, 3)
    return (
        np.array([-fast, -slow + 1j * turning, -slow - 1j * turning]),
        damping,
        np.array([rng.uniform(0.5, 2.0), 0.0]),
    )


def largest_step(variant: dict[str, Any]) -> float:
    """Return the step from which on the method's polynomial leaves the unit circle at one of the eigenvalues."""
    eigenvalues = own_system(variant)[0]
    table = variant["table_A"], variant["table_b"], variant["table_c"]
    low, high = 0.0, 1.0
    while high - low > 1e-7:
        h = (low + high) / 2
        factors = rk_step(lambda t, y: eigenvalues * y, 0.0, np.ones(3, dtype=complex), h, *table)
        low, high = (h, high) if np.abs(factors).max() <= 1 else (low, h)
    return low


def largest_judge(answer: Any, case: Value, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for a rough search, a quarter for Euler's limit."""
    right = largest_step(variant)
    fast = -own_system(variant)[0][0].real
    fraction, message = compare(answer, right, rtol=0.012)
    if fraction == 1:
        return fraction, message
    if compare(answer, right, rtol=0.06)[0] == 1:
        return 0.5, "Nearly: search more finely, with more steps."
    return compare(
        answer,
        right,
        rtol=0.012,
        mistakes=[
            Mistake(2 / fast, 0.25, "This is the limit of Euler's method; yours has another polynomial."),
            Mistake(right * fast, 0.25, "This is h times the fastest rate; the step is asked for."),
        ],
    )


_LARGEST = """
def stable(h):
    matrix = rk_step(lambda t, y: own_matrix @ y, 0.0, np.eye(3), h, table_A, table_b, table_c)
    return np.abs(np.linalg.eigvals(matrix)).max() <= 1
low, high = 0.0, 1.0
while high - low > 1e-6:
    h = (low + high) / 2
    low, high = (h, high) if stable(h) else (low, h)
rates = -np.linalg.eigvals(own_matrix).real
largest_step = {value}
"""
LARGEST_WRONG = [
    Wrong("Euler's limit", _LARGEST.format(value="2 / rates.max()"), 0.25),
    Wrong("h times the rate", _LARGEST.format(value="low * rates.max()"), 0.25),
    Wrong("four percent off", _LARGEST.format(value="low * 0.96"), 0.5),
    Wrong("the slow rate", _LARGEST.format(value="2.5 / rates.min()"), 0.0),
    Wrong("one over the rate", _LARGEST.format(value="1 / rates.max()"), 0.0),
    Wrong("twice as large", _LARGEST.format(value="2 * low"), 0.0),
    Wrong("as text", _LARGEST.format(value="str(low)"), 0.0),
]


# --- cost: an experiment ----------------------------------------------------------------------------------------------

_TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def _pair_21(f: Any, t: float, y: Array, h: float) -> tuple[Array, Array, int]:
    k1 = f(t, y)
    k2 = f(t + h, y + h * k1)
    return y + h / 2 * (k1 + k2), h / 2 * (k2 - k1), 2


def _pair_32(f: Any, t: float, y: Array, h: float) -> tuple[Array, Array, int]:
    k1 = f(t, y)
    k2 = f(t + h / 2, y + h / 2 * k1)
    k3 = f(t + 3 * h / 4, y + 3 * h / 4 * k2)
    new = y + h / 9 * (2 * k1 + 3 * k2 + 4 * k3)
    return new, h * (k2 / 12 + k3 / 9 - 5 * k1 / 72 - f(t + h, new) / 8), 4


def _evaluations(pair: Any, order: int, f: Any, y: Array, end: float, tolerance: float) -> int:
    t, h, count = 0.0, 0.01, 0
    while end - t > 1e-12:
        h = min(h, end - t)
        new, estimate, spent = pair(f, t, y, h)
        count += spent
        error = float(np.sqrt(np.mean((estimate / (tolerance * (1 + np.maximum(np.abs(y), np.abs(new))))) ** 2)))
        if error <= 1:
            t, y = t + h, new
        h = h * min(5.0, max(0.2, 0.9 * max(error, 1e-10) ** (-1 / order)))
    return count


@functools.lru_cache(maxsize=16)
def _cost(seed: int, end: float) -> tuple[tuple[int, ...], ...]:
    _, damping, start = own_system({"seed": seed})

    def field(t: float, y: Array) -> Array:
        return np.array([y[1], damping * (1 - y[0] * y[0]) * y[1] - y[0]])

    pairs = ((_pair_21, 2), (_pair_32, 3))
    return tuple(tuple(_evaluations(*pair, field, start, end, tol) for tol in _TOLERANCES) for pair in pairs)


def cost_reference(case: Value, variant: dict[str, Any]) -> Any:
    """Return the two exponents, or how many times fewer evaluations the higher order needs at the tightest tolerance."""
    counts = np.array(_cost(variant["seed"], variant["end_time"]))
    if case.name == "cost_exponents":
        return -np.polyfit(np.log(_TOLERANCES), np.log(counts).T, 1)[0]
    return float(counts[0, -1] / counts[1, -1])


def cost_judge(answer: Any, case: Value, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for a sign, an order, an inverse; for the ratio at the wrong tolerance, or upside down."""
    right = cost_reference(case, variant)
    if case.name == "cost_exponents":
        return compare(
            answer,
            right,
            rtol=0,
            atol=0.01,
            mistakes=[
                Mistake(
                    -right, 0.5, "The sign: the count goes like tolerance to the power −x, and both x are positive."
                ),
                Mistake(right[::-1], 0.5, "The pair of order 2 comes first."),
                Mistake(1 / right, 0.5, "These are nearly the orders; the exponents are one over them."),
            ],
        )
    loosest = _cost(variant["seed"], variant["end_time"])
    return compare(
        answer,
        right,
        rtol=2e-3,
        mistakes=[
            Mistake(1 / right, 0.5, "This is the ratio upside down."),
            Mistake(loosest[0][0] / loosest[1][0], 0.5, "This is the ratio at the loosest tolerance."),
        ],
    )


_COST = """
counts = np.array([
    [solve_adaptive(pair, {order}, own_field, own_start, end_time, tolerance)[1] for tolerance in tolerances]
    for pair, order in {pairs}
])
cost_exponents = {exponents}
saving = {saving}
"""


def _cost_wrong(**changed: str) -> str:
    parts = {
        "order": "order",
        "pairs": "((pair_21, 2), (pair_32, 3))",
        "exponents": "[float(-np.polyfit(np.log(tolerances), np.log(count), 1)[0]) for count in counts]",
        "saving": "float(counts[0, -1] / counts[1, -1])",
    }
    return _COST.format(**(parts | changed))


# Three shares, the exponents have two.
COST_WRONG = [
    Wrong(
        "the sign",
        _cost_wrong(exponents="[float(np.polyfit(np.log(tolerances), np.log(count), 1)[0]) for count in counts]"),
        2 / 3,
    ),
    Wrong(
        "the orders",
        _cost_wrong(exponents="[float(-1 / np.polyfit(np.log(tolerances), np.log(count), 1)[0]) for count in counts]"),
        2 / 3,
    ),
    Wrong(
        "order 3 first",
        _cost_wrong(
            exponents="[float(-np.polyfit(np.log(tolerances), np.log(count), 1)[0]) for count in counts[::-1]]"
        ),
        2 / 3,
    ),
    Wrong(
        "the logarithm of the tolerance alone",
        _cost_wrong(exponents="[float(-np.polyfit(np.log(tolerances), count, 1)[0]) for count in counts]"),
        1 / 3,
    ),
    Wrong("what theory says", _cost_wrong(exponents="[1 / 2, 1 / 3]"), 1 / 3),
    Wrong("the ratio upside down", _cost_wrong(saving="float(counts[1, -1] / counts[0, -1])"), 2.5 / 3),
    Wrong("the loosest tolerance", _cost_wrong(saving="float(counts[0, 0] / counts[1, 0])"), 2.5 / 3),
    Wrong("a number of evaluations", _cost_wrong(saving="int(counts[1].min())"), 2 / 3),
    Wrong("as text", _cost_wrong(exponents="'one half, one third'", saving="'nine'"), 0.0),
]

QUESTIONS = {
    "rk-step": Question(step_inputs, lambda case, variant: step_right(case), step_judge, STEP_WRONG),
    "measured-order": Question(order_inputs, lambda case, variant: _ORDERS[case.label], order_judge, ORDER_WRONG),
    "adjoint": Question(adjoint_inputs, adjoint_reference, adjoint_judge, ADJOINT_WRONG),
    "largest-step": Question(
        lambda rng, variant: [Value("largest_step")],
        lambda case, variant: largest_step(variant),
        largest_judge,
        LARGEST_WRONG,
    ),
    "cost": Question(
        lambda rng, variant: [
            Value("cost_exponents", weight=2.0, label="the two exponents"),
            Value("saving", label="what the higher order saves"),
        ],
        cost_reference,
        cost_judge,
        COST_WRONG,
    ),
}
