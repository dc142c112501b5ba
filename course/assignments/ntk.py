"""Hidden checks of the assignment on the neural tangent kernel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sciviz.coursework.questions import Call, Mistake, Question, Value, Wrong, compare

PRACTICE = {"weight_variance": 2.0, "bias_variance": 0.1, "target_correlation": 0.9}


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Draw a class's constants."""
    return {
        "weight_variance": float(rng.choice([1.6, 1.8, 2.2, 2.4])),
        "bias_variance": float(rng.choice([0.05, 0.15, 0.2])),
        "target_correlation": float(rng.choice([0.88, 0.92, 0.94])),
    }


# --- relu-step: one step of the recursion -----------------------------------------------------------------------------


def relu_step(kernel: Any, variant: dict[str, Any], *, scale: float = 1.0, bias: bool = True) -> np.ndarray[Any, Any]:
    """Return the next layer's kernel: K' = C_W E[relu(u) relu(v)] + C_b for (u, v) ~ N(0, K)."""
    kernel = np.asarray(kernel, dtype=np.float64)
    norm = np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))
    cosine = np.clip(np.divide(kernel, norm, out=np.zeros_like(kernel), where=norm > 0), -1, 1)
    angle = np.arccos(cosine)
    moment = norm * (np.sin(angle) + (math.pi - angle) * cosine) / (2 * math.pi)
    return scale * variant["weight_variance"] * moment + (variant["bias_variance"] if bias else 0.0)


def step_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Call]:
    """Random covariances, one point alone, two equal points, and numbers too large for float32's squares."""
    X = rng.standard_normal((5, 3))
    one = rng.uniform(0.5, 2.0, (1, 1))
    equal = np.full((2, 2), rng.uniform(0.5, 2.0))
    return [
        Call("relu_step", X @ X.T, weight=3.0, label="five points"),
        Call("relu_step", X[:3] @ X[:3].T * 1e25, label="large inputs"),
        Call("relu_step", one, label="one point"),
        Call("relu_step", equal, label="two equal points"),
    ]


def step_reference(case: Call, variant: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return the closed form."""
    return relu_step(case.args[0], variant)


def step_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for a missing constant."""
    (kernel,) = case.args
    right = step_reference(case, variant)
    return compare(
        answer,
        right,
        rtol=1e-5,
        mistakes=[
            Mistake(relu_step(kernel, variant, scale=2.0), 0.5, "E[relu(u)²] is half the variance, not the variance."),
            Mistake(relu_step(kernel, variant, bias=False), 0.5, "The bias adds to every layer's kernel."),
            Mistake(
                relu_step(kernel, variant, bias=False) / variant["weight_variance"],
                0.25,
                "The weights' variance and the bias are missing: this is E[relu(u) relu(v)] alone.",
            ),
        ],
    )


_STEP = """
import numpy as np
def relu_step(kernel):
    kernel = np.asarray(kernel, dtype={dtype})
    norm = {norm}
    cosine = np.clip(kernel / norm, -1, 1)
    angle = np.arccos(cosine)
    moment = norm * (np.sin(angle) + {first} * cosine) / ({divisor} * np.pi)
    {result}
"""


def _step(**changed: str) -> str:
    parts = {
        "dtype": "np.float64",
        "norm": "np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))",
        "first": "(np.pi - angle)",
        "divisor": "2",
        "result": "return weight_variance * moment + bias_variance",
    }
    return _STEP.format(**(parts | changed))


STEP_WRONG = [
    Wrong("twice the moment", _step(divisor="1"), 0.5),
    # Beside large numbers the bias is nothing: that case, one share of six, is right without it.
    Wrong("no bias", _step(result="return weight_variance * moment"), (5 * 0.5 + 1) / 6),
    Wrong("no constants", _step(result="return moment"), 0.25),
    Wrong("angle for its complement", _step(first="angle"), 0.0),
    Wrong("variances not under a root", _step(norm="np.outer(np.diag(kernel), np.diag(kernel))"), 0.0),
    Wrong("prints and does not return", _step(result="print(weight_variance * moment + bias_variance)"), 0.0),
    # Of six shares five points have three; where float32 overflows, that case alone is lost.
    Wrong("float32 overflow", _step(dtype="np.float32"), 5 / 6),
    Wrong(
        "in place",
        _step(result="kernel[:] = weight_variance * moment + bias_variance; return kernel"),
        0.5,
    ),
]


# --- layers-needed: an explorer question, from the student's own seed -------------------------------------------------


def start_correlation(variant: dict[str, Any]) -> float:
    """Return the correlation that the student's own two points begin with."""
    return float(np.random.default_rng(variant["seed"]).uniform(-0.6, 0.3))


def layers_needed(variant: dict[str, Any]) -> int:
    """Return the first layer at which the two points' correlation exceeds the target."""
    start = start_correlation(variant)
    kernel = np.array([[1.0, start], [start, 1.0]])
    for layer in range(1, 1000):
        kernel = relu_step(kernel, variant)
        if kernel[0, 1] / kernel[0, 0] > variant["target_correlation"]:
            return layer
    raise ValueError("the target must be below the fixed point.")


def layers_judge(answer: Any, case: Value, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks one layer off."""
    right = layers_needed(variant)
    return compare(
        answer,
        right,
        mistakes=[
            Mistake(right - 1, 0.5, "One layer too few: the correlation must exceed the target."),
            Mistake(right + 1, 0.5, "One layer too many. Does your count begin at the inputs?"),
        ],
    )


_LAYERS = """
def correlation_after(layers, start):
    kernel = np.array([[1.0, start], [start, 1.0]])
    for _ in range(layers):
        kernel = relu_step(kernel)
    return kernel[0, 1] / kernel[0, 0]
depth_needed = {value}
"""
_FIRST = "next(n for n in range(1, 1000) if correlation_after(n, {start}) > {target})"
_OWN = {"start": "start", "target": "target_correlation"}
LAYERS_WRONG = [
    Wrong("counts from nought", _LAYERS.format(value=_FIRST.format(**_OWN) + " - 1"), 0.5),
    Wrong("counts the inputs", _LAYERS.format(value=_FIRST.format(**_OWN) + " + 1"), 0.5),
    Wrong("as text", _LAYERS.format(value=f"str({_FIRST.format(**_OWN)})"), 0.0),
    Wrong("a guess", "depth_needed = 60", 0.0),
    Wrong("the correlation, not the layer", _LAYERS.format(value="correlation_after(3, start)"), 0.0),
    Wrong("not a number", "depth_needed = float('nan')", 0.0),
]

QUESTIONS = {
    "relu-step": Question(step_inputs, step_reference, step_judge, STEP_WRONG),
    "layers-needed": Question(
        lambda rng, variant: [Value("depth_needed")],
        lambda case, variant: layers_needed(variant),
        layers_judge,
        LAYERS_WRONG,
    ),
}
