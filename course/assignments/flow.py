"""Hidden checks of the assignment on rectified flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sciviz.coursework.questions import Call, Case, Mistake, Program, Question, Value, Wrong, compare

PRACTICE = {
    "source_power": 2.0,
    "target_power": 1.0,
    "stage": 0.5,
    "certainty": 0.9,
    "start_correlation": 0.2,
}
Array = np.ndarray[Any, Any]


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Draw a class's curves, its solver, and its targets."""
    return {
        "source_power": float(rng.choice([1.5, 2.5, 3.0])),
        "target_power": float(rng.choice([1.0, 1.5, 2.0])),
        "stage": float(rng.choice([0.6, 0.75, 0.8])),
        "certainty": float(rng.choice([0.8, 0.85, 0.95])),
        "start_correlation": float(rng.choice([0.1, 0.3, 0.4])),
    }


# --- curve: the interpolant and its rate ------------------------------------------------------------------------------


def coefficients(t: Any, variant: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Return α, β and their rates."""
    a, b = variant["source_power"], variant["target_power"]
    return (1 - t) ** a, t**b, -a * (1 - t) ** (a - 1), b * t ** (b - 1)


def curve(t: Any, x0: Array, x1: Array, variant: dict[str, Any]) -> tuple[Array, Array]:
    """Return place and rate."""
    t = np.asarray(t, dtype=np.float64)[..., None]
    alpha, beta, alpha_rate, beta_rate = coefficients(t, variant)
    return alpha * x0 + beta * x1, alpha_rate * x0 + beta_rate * x1


def curve_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Case]:
    """One time for all; one for each; both ends; a single pair in float32."""

    def ends(num: int) -> tuple[Array, Array]:
        return rng.standard_normal((num, 3)), rng.standard_normal((num, 3)) + 2

    single = [x.astype(np.float32) * np.float32(1e20) for x in ends(1)]
    return [
        Call("curve", rng.uniform(0.2, 0.8), *ends(5), weight=2.0, label="one time"),
        Call("curve", rng.uniform(0.2, 0.8, 4), *ends(4), weight=2.0, label="a time for each pair"),
        Call("curve", np.array([0.0, 1.0]), *ends(2), label="the two ends of time"),
        Call("curve", rng.uniform(0.2, 0.8), *single, label="one pair, float32, large"),
    ]


def curve_reference(case: Call, variant: dict[str, Any]) -> tuple[Array, Array]:
    """Return place and rate."""
    t, x0, x1 = case.args
    return curve(t, np.asarray(x0, np.float64), np.asarray(x1, np.float64), variant)


def curve_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for one of the two; a quarter for ends that are exchanged."""
    t, x0, x1 = case.args
    place, rate = curve_reference(case, variant)
    full = compare(
        answer,
        (place, rate),
        rtol=1e-5,
        mistakes=[
            Mistake(curve(t, x1, x0, variant), 0.25, "Source and target are exchanged: at time 0 the curve is at x₀."),
        ],
    )
    if full[0] > 0 or not isinstance(answer, (tuple, list)) or len(answer) != 2:
        return full
    if compare(answer[0], place, rtol=1e-5)[0] == 1:
        return 0.5, "The place is right, its rate is not: differentiate both coefficients by t."
    if compare(answer[1], rate, rtol=1e-5)[0] == 1:
        return 0.5, "The rate is right, the place is not."
    return full


_CURVE = """
def curve(t, x0, x1):
    t = {times}
    {before}
    place = {place}
    rate = {rate}
    return {result}
"""


def _curve(**changed: str) -> str:
    parts = {
        "times": "np.asarray(t, dtype=np.float64)[..., None]",
        "before": "a, b = source_power, target_power",
        "place": "(1 - t) ** a * x0 + t**b * x1",
        "rate": "b * t ** (b - 1) * x1 - a * (1 - t) ** (a - 1) * x0",
        "result": "place, rate",
    }
    return _CURVE.format(**(parts | changed))


CURVE_WRONG = [
    # At the ends of time a straight line is where the curve is: half of one share of six.
    Wrong("straight lines", _curve(place="(1 - t) * x0 + t * x1", rate="x1 - x0 + 0 * t"), 0.5 / 6),
    Wrong("the rate of straight lines", _curve(rate="x1 - x0 + 0 * t"), 0.5),
    Wrong("sign of the source", _curve(rate="b * t ** (b - 1) * x1 + a * (1 - t) ** (a - 1) * x0"), 0.5),
    Wrong("powers that do not come down", _curve(rate="t ** (b - 1) * x1 - (1 - t) ** (a - 1) * x0"), 0.5),
    Wrong("ends exchanged", _curve(before="a, b, x0, x1 = source_power, target_power, x1, x0"), 0.25),
    # One time for all, and a single pair, are right: three shares of six.
    Wrong("times along the coordinates", _curve(times="np.asarray(t, dtype=np.float64)"), 0.5),
    Wrong("only the place", _curve(result="place"), 0.0),
    Wrong(
        "in place",
        _curve(rate="b * t ** (b - 1) * x1 - a * (1 - t) ** (a - 1) * x0\n    x0 *= 0.5"),
        0.5,
    ),
]


# --- mean-velocity: the conditional mean for finitely many data -------------------------------------------------------


def line_weights(t: float, x: Array, data: Array, variant: dict[str, Any]) -> Array:
    """Return how much each data point's curve counts at each place."""
    alpha, beta, _, _ = coefficients(t, variant)
    exponent = -0.5 * (((x[:, None, :] - beta * data) / alpha) ** 2).sum(axis=2)
    weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def mean_velocity(t: float, x: Array, data: Array, variant: dict[str, Any]) -> Array:
    """Return E[rate | place]."""
    alpha, beta, alpha_rate, beta_rate = coefficients(t, variant)
    end = line_weights(t, x, data, variant) @ data
    return alpha_rate * (x - beta * end) / alpha + beta_rate * end


def velocity_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Case]:
    """Places among the data and far away, a data point twice, one data point, and the beginning of time."""
    data, x = rng.standard_normal((5, 2)), 0.5 * rng.standard_normal((4, 2))
    away = 1e3 * np.array([[1.0, 0.3], [-0.5, 1.0], [0.2, -1.0]])
    return [
        Call("line_weights", 0.4, x, data, label="weights"),
        Call("line_weights", 0.9, away, data, label="weights far from all data"),
        Call("line_weights", 0.4, x[:3], data[[0, 1, 1, 2]], label="weights, a data point twice"),
        Call("line_weights", 0.0, x, data, label="weights at time 0"),
        Call("mean_velocity", 0.4, x, data, weight=2.0, label="velocity"),
        Call("mean_velocity", 0.3, x[:1], data[:1], label="velocity, one data point"),
    ]


def velocity_reference(case: Call, variant: dict[str, Any]) -> Array:
    """Return weights or velocities."""
    return (line_weights if case.name == "line_weights" else mean_velocity)(*case.args, variant)


_VELOCITY = """
def line_weights(t, x, data):
    alpha, beta = (1 - t) ** source_power, t ** target_power
    {before}
    start = (x[:, None, :] - beta * data[None, :, :]) / alpha
    exponent = {exponent}
    weights = {weights}
    return {normalised}

def mean_velocity(t, x, data):
    alpha, beta = (1 - t) ** source_power, t ** target_power
    alpha_rate, beta_rate = -source_power * (1 - t) ** (source_power - 1), target_power * t ** (target_power - 1)
    end = {end}
    return {velocity}
"""


def _velocity(**changed: str) -> str:
    parts = {
        "before": "",
        "exponent": "-0.5 * (start**2).sum(axis=2)",
        "weights": "np.exp(exponent - exponent.max(axis=1, keepdims=True))",
        "normalised": "weights / weights.sum(axis=1, keepdims=True)",
        "end": "line_weights(t, x.copy(), data) @ data",
        "velocity": "alpha_rate * (x - beta * end) / alpha + beta_rate * end",
    }
    return _VELOCITY.format(**(parts | changed))


# Shares of seven: weights, far, twice, at time 0; velocity (two), with one data point.
VELOCITY_WRONG = [
    Wrong("exponentials that underflow", _velocity(weights="np.exp(exponent)"), 6 / 7),
    Wrong("not normalised", _velocity(weights="np.exp(exponent)", normalised="weights"), 0.0),
    # Far away, at time 0 and with one data point the spread does not matter.
    Wrong("variance for its root", _velocity(exponent="-0.5 * alpha * (start**2).sum(axis=2)"), 3 / 7),
    Wrong("all weigh the same", _velocity(weights="np.ones_like(exponent)"), 2 / 7),
    Wrong("the nearest only", _velocity(weights="(exponent == exponent.max(axis=1, keepdims=True)) * 1.0",
                                        normalised="np.eye(len(data))[exponent.argmax(axis=1)]"), 2 / 7),
    Wrong("the mean end, not the mean rate", _velocity(velocity="end"), 4 / 7),
    Wrong("from the place straight to the end", _velocity(velocity="end - x"), 4 / 7),
    Wrong(
        "data first",
        _velocity(
            normalised="(weights / weights.sum(axis=1, keepdims=True)).T", end="line_weights(t, x.copy(), data).T @ data"
        ),
        3 / 7,
    ),
    # Three calls for weights keep half; at time 0 nothing changes, and the velocity hands a copy on.
    Wrong(
        "in place",
        _velocity(before="x /= alpha; data = data / alpha; alpha = 1.0"),
        5.5 / 7,
    ),
]  # fmt: skip


# --- follow: a two-stage solver and the straightness of its paths -----------------------------------------------------


def follow(
    velocity: Callable[[float, Array], Array],
    x: Array,
    num_steps: int,
    end: float,
    stage: float,
    *,
    late: bool = True,
    order: int = 2,
) -> Array:
    """Return the path of the two-stage method; its second look without the time's step, or none at all."""
    h, path = end / num_steps, [np.array(x, dtype=np.float64)]
    for step in range(num_steps):
        t, now = step * h, path[-1]
        first = velocity(t, now)
        second = velocity(t + stage * h * late, now + stage * h * first)
        path.append(now + h * (first if order == 1 else (1 - 0.5 / stage) * first + 0.5 / stage * second))
    return np.stack(path)


def straightness(path: Array) -> float:
    """Return the mean squared distance of the speeds from the mean speed."""
    path = np.asarray(path, dtype=np.float64)
    speeds = np.diff(path, axis=0) * (len(path) - 1)
    return float(((path[-1] - path[0] - speeds) ** 2).sum(axis=2).mean())


_FOLLOW_PROGRAM = """
import numpy as np
given = x.copy()
path = follow(lambda t, z: z @ matrix + np.sin(3 * t + z) + t**2, given, num_steps{end})
result = {{"path": path, "kept": bool((given == x).all())}}
"""


def follow_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Case]:
    """Several steps, one step of one sample, part of the way; paths at random, straight, and too large for float32."""

    def program(num: int, num_steps: int, end: float, label: str, weight: float = 1.0) -> Case:
        given = "" if end == 1 else f", end={end}"
        return Program(
            _FOLLOW_PROGRAM.format(end=given),
            weight=weight,
            label=label,
            x=rng.standard_normal((num, 2)),
            matrix=rng.standard_normal((2, 2)),
            num_steps=num_steps,
        )

    path = rng.standard_normal((6, 4, 3)).cumsum(axis=0)
    straight = np.linspace(0, 1, 5)[:, None, None] * np.concatenate([rng.standard_normal((2, 3)), np.zeros((1, 3))])
    large = (rng.standard_normal((3, 1, 2)) * 1e25).astype(np.float32)
    return [
        program(5, 7, 1.0, "a path", 3.0),
        program(1, 1, 1.0, "one step of one sample"),
        program(3, 4, 0.5, "a path to half of the time"),
        Call("straightness", path, weight=2.0, label="straightness"),
        Call("straightness", straight, label="straight paths, and one that rests"),
        Call("straightness", large, label="straightness in float32, large"),
    ]


def _followed(case: Program, variant: dict[str, Any], **changed: Any) -> Array:
    matrix, x, num_steps = (case.data[name] for name in ("matrix", "x", "num_steps"))
    end = 0.5 if "end=0.5" in case.source else 1.0
    stage = changed.pop("stage", variant["stage"])
    return follow(lambda t, z: z @ matrix + np.sin(3 * t + z) + t**2, x, num_steps, end, stage, **changed)


def follow_reference(case: Case, variant: dict[str, Any]) -> Any:
    """Return the path, or its straightness."""
    if isinstance(case, Call):
        return straightness(case.args[0])
    assert isinstance(case, Program)
    return {"path": _followed(case, variant), "kept": True}


def follow_judge(answer: Any, case: Case, variant: dict[str, Any]) -> tuple[float, str]:
    """A quarter for Euler's method, half for a path that is nearly it, or for starting points that were changed."""
    if isinstance(case, Call):
        right = follow_reference(case, variant)
        dims = case.args[0].shape[-1]
        mean = Mistake(right / dims, 0.5, "Add over the coordinates; average over samples and steps only.")
        return compare(answer, right, rtol=1e-5, mistakes=[mean])
    assert isinstance(case, Program)
    right = _followed(case, variant)
    fraction, message = compare(
        answer["path"],
        right,
        mistakes=[
            Mistake(right[1:], 0.5, "The start belongs to the path."),
            Mistake(_followed(case, variant, late=False), 0.5, "The second look happens later: its time is t + c h."),
            Mistake(_followed(case, variant, order=1), 0.25, "This is Euler's method: the second look does not count."),
            Mistake(_followed(case, variant, stage=1.0), 0.25, "This is the rule with c = 1. Which c is asked for?"),
        ],
    )
    if fraction > 0 and not answer["kept"]:
        return fraction / 2, f"{message} But the starting points that were given have changed: work on a copy."
    return fraction, message


_FOLLOW = """
def follow(velocity, x, num_steps, end=1.0):
    h = {h}
    path = [{first_place}]
    for step in range(num_steps):
        t, now = step * h, path[-1]
        first = velocity(t, now)
        second = velocity({second})
        {move}
    return np.stack({path})

def straightness(path):
    {convert}
    speeds = {speeds}
    return {mean}
"""


def _follow(**changed: str) -> str:
    parts = {
        "h": "end / num_steps",
        "first_place": "np.array(x, dtype=np.float64)",
        "second": "t + stage * h, now + stage * h * first",
        "move": "path.append(now + h * ((1 - 0.5 / stage) * first + 0.5 / stage * second))",
        "path": "path",
        "convert": "path = np.asarray(path, dtype=np.float64)",
        "speeds": "np.diff(path, axis=0) * (len(path) - 1)",
        "mean": "((path[-1] - path[0] - speeds) ** 2).sum(axis=2).mean()",
    }
    return _FOLLOW.format(**(parts | changed))


# Shares of nine: a path (three), one step, half of the time; straightness (two), straight paths, large ones.
FOLLOW_WRONG = [
    Wrong("Euler's method", _follow(move="path.append(now + h * first)"), (5 * 0.25 + 4) / 9),
    Wrong("second look at the old time", _follow(second="t, now + stage * h * first"), (5 * 0.5 + 4) / 9),
    Wrong(
        "the average of both ends",
        _follow(second="t + h, now + h * first", move="path.append(now + h * (first + second) / 2)"),
        (5 * 0.25 + 4) / 9,
    ),
    Wrong("without its start", _follow(path="path[1:]"), (5 * 0.5 + 4) / 9),
    Wrong("always to the end of time", _follow(h="1.0 / num_steps"), 8 / 9),
    Wrong("steps of length one", _follow(h="1.0"), (1 + 4) / 9),
    Wrong(
        "in place",
        _follow(
            first_place="x.copy()",
            move="now = now + h * ((1 - 0.5 / stage) * first + 0.5 / stage * second); x[:] = now; path.append(now)",
        ),
        (5 * 0.5 + 4) / 9,
    ),
    Wrong("mean over coordinates", _follow(mean="((path[-1] - path[0] - speeds) ** 2).mean()"), (5 + 1.5 + 1) / 9),
    Wrong("differences are no speeds", _follow(speeds="np.diff(path, axis=0)"), 5 / 9),
    Wrong("float32 overflow", _follow(convert=""), 8 / 9),
    Wrong(
        "the mean before the square",
        _follow(mean="(((path[-1] - path[0] - speeds).mean(axis=(0, 1))) ** 2).sum()"),
        6 / 9,
    ),
]


# --- decision-time: an explorer question, from the student's own data -------------------------------------------------


def own_numbers(variant: dict[str, Any]) -> tuple[Array, Array, float, float]:
    """Return the student's data, point of noise, and two spreads, as the setup cell draws them."""
    rng = np.random.default_rng(variant["seed"])
    angles = (np.arange(6) + rng.uniform(-0.25, 0.25, 6)) * np.pi / 3
    data = 1.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    start = rng.standard_normal((1, 2))
    return data, start, float(rng.uniform(0.5, 0.9)), float(rng.uniform(1.2, 2.0))


def decision_step(variant: dict[str, Any]) -> int:
    """Return the first step at which one data point's weight exceeds the target."""
    data, start, _, _ = own_numbers(variant)
    path = follow(lambda t, x: mean_velocity(t, x, data, variant), start, 180, 0.9, variant["stage"])
    for step, place in enumerate(path):
        if line_weights(0.005 * step, place, data, variant).max() > variant["certainty"]:
            return step
    raise ValueError("the target must be reached before the end of the path.")


def decision_judge(answer: Any, case: Value, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks one step off."""
    step = decision_step(variant)
    return compare(
        answer,
        0.005 * step,
        mistakes=[
            Mistake(0.005 * (step - 1), 0.5, "One time too early: the weight must exceed the target."),
            Mistake(0.005 * (step + 1), 0.5, "One time too late. Does your count begin at time 0?"),
            Mistake(step, 0.25, "This is the number of the step. Which time belongs to it?"),
        ],
    )


_DECISION = """
_path = follow(lambda t, x: mean_velocity(t, x, own_data), own_start, 180, end=0.9)
_largest = np.array([line_weights(0.005 * k, place, own_data).max() for k, place in enumerate(_path)])
_first = int(np.argmax(_largest > certainty))
decision_time = {value}
"""
DECISION_WRONG = [
    Wrong("one step late", _DECISION.format(value="0.005 * (_first + 1)"), 0.5),
    Wrong("one step early", _DECISION.format(value="0.005 * (_first - 1)"), 0.5),
    Wrong("the step, not the time", _DECISION.format(value="_first"), 0.25),
    Wrong("as text", _DECISION.format(value="str(0.005 * _first)"), 0.0),
    Wrong("the end of the path", "decision_time = 0.9", 0.0),
    Wrong("the weight, not the time", _DECISION.format(value="float(_largest[_first])"), 0.0),
    Wrong("not a number", "decision_time = float('nan')", 0.0),
]


# --- few-steps: an experiment over steps and correlations -------------------------------------------------------------


def few_step_error(num_steps: int, correlation: float, variant: dict[str, Any]) -> float:
    """Return the error of Euler's method between two Gaussians that are paired with a correlation."""
    _, _, sigma_0, sigma_1 = own_numbers(variant)
    scale, both = 1.0, correlation * sigma_0 * sigma_1
    for step in range(num_steps):
        t = step / num_steps
        variance = (1 - t) ** 2 * sigma_0**2 + t**2 * sigma_1**2 + 2 * t * (1 - t) * both
        covariance = t * sigma_1**2 - (1 - t) * sigma_0**2 + (1 - 2 * t) * both
        scale *= 1 + covariance / variance / num_steps
    return abs(scale - sigma_1 / sigma_0) * sigma_0


def error_slope(correlation: float, variant: dict[str, Any]) -> float:
    """Return the slope of log error against log steps."""
    steps = [8, 16, 32, 64]
    errors = [few_step_error(k, correlation, variant) for k in steps]
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def steps_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Case]:
    """Few and many steps, pairs at random, correlated, against each other, and perfectly matched."""
    return [
        Call("few_step_error", 1, 0.0, label="one step, random pairs"),
        Call("few_step_error", 4, float(rng.uniform(0.3, 0.7)), label="four steps"),
        Call("few_step_error", 16, float(rng.uniform(-0.6, -0.3)), label="sixteen steps, negative correlation"),
        Call("few_step_error", 3, 1.0, label="matched pairs"),
        Call("error_slope", variant["start_correlation"], weight=2.0, label="slope"),
    ]


def steps_reference(case: Call, variant: dict[str, Any]) -> float:
    """Return the error or the slope."""
    if case.name == "error_slope":
        return error_slope(case.args[0], variant)
    return few_step_error(*case.args, variant)


def steps_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for errors in another unit."""
    right = steps_reference(case, variant)
    _, _, sigma_0, sigma_1 = own_numbers(variant)
    if case.name == "error_slope":
        mistakes = [
            Mistake(-right, 0.5, "The error falls: the slope is negative."),
            Mistake(2 * right, 0.5, "Twice the slope: is this the squared error?"),
        ]
    else:
        mistakes = [
            Mistake(right**2, 0.5, "This is the mean square; its root is asked for."),
            Mistake(right / sigma_0, 0.5, "X₀ has the spread sigma_0, not 1."),
            Mistake(right / sigma_1, 0.5, "The error is asked for, not its ratio to sigma_1."),
        ]
    return compare(answer, right, rtol=1e-5, atol=1e-8, mistakes=mistakes)


_STEPS = """
def few_step_error(num_steps, correlation):
    scale, both = 1.0, correlation * sigma_0 * sigma_1
    for step in range(num_steps):
        t = {t}
        variance = (1 - t) ** 2 * sigma_0**2 + t**2 * sigma_1**2 + {variance}
        covariance = t * sigma_1**2 - (1 - t) * sigma_0**2 + {covariance}
        scale {move}
    return {error}

def error_slope(correlation):
    steps = [8, 16, 32, 64]
    errors = [few_step_error(k, correlation) for k in steps]
    return {slope}
"""


def _steps(**changed: str) -> str:
    parts = {
        "t": "step / num_steps",
        "variance": "2 * t * (1 - t) * both",
        "covariance": "(1 - 2 * t) * both",
        "move": "*= 1 + covariance / variance / num_steps",
        "error": "abs(scale - sigma_1 / sigma_0) * sigma_0",
        "slope": "np.polyfit(np.log(steps), np.log(errors), 1)[0]",
    }
    return _STEPS.format(**(parts | changed))


# Shares of six: one step, four, sixteen, matched pairs, slope (two).
STEPS_WRONG = [
    Wrong("pairs always random", _steps(variance="0", covariance="0"), 1 / 6),
    Wrong("correlation only in the variance", _steps(covariance="0"), 1 / 6),
    Wrong("time at the end of the step", _steps(t="(step + 1) / num_steps"), 0.0),
    Wrong("mean square", _steps(error="(scale - sigma_1 / sigma_0) ** 2 * sigma_0**2"), (3 * 0.5 + 1 + 1) / 6),
    Wrong("relative to the data", _steps(error="abs(scale - sigma_1 / sigma_0) * sigma_0 / sigma_1"), 4.5 / 6),
    Wrong("noise of spread one", _steps(error="abs(scale - sigma_1 / sigma_0)"), 4.5 / 6),
    Wrong("slope with the wrong sign", _steps(slope="-np.polyfit(np.log(steps), np.log(errors), 1)[0]"), 5 / 6),
    Wrong("slope without logarithms", _steps(slope="np.polyfit(steps, errors, 1)[0]"), 4 / 6),
    Wrong("axes exchanged", _steps(slope="np.polyfit(np.log(errors), np.log(steps), 1)[0]"), 4 / 6),
    Wrong("no error at all", _steps(move="= sigma_1 / sigma_0"), 1 / 6),
]

QUESTIONS = {
    "curve": Question(curve_inputs, curve_reference, curve_judge, CURVE_WRONG),
    "mean-velocity": Question(velocity_inputs, velocity_reference, None, VELOCITY_WRONG),
    "follow": Question(follow_inputs, follow_reference, follow_judge, FOLLOW_WRONG),
    "decision-time": Question(
        lambda rng, variant: [Value("decision_time")],
        lambda case, variant: 0.005 * decision_step(variant),
        decision_judge,
        DECISION_WRONG,
    ),
    "few-steps": Question(steps_inputs, steps_reference, steps_judge, STEPS_WRONG),
}
