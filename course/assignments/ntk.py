"""Hidden checks of the assignment on the neural tangent kernel."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from sciviz.coursework.questions import Call, Mistake, Program, Question, Value, Wrong, compare

PRACTICE = {
    "weight_variance": 2.0,
    "bias_variance": 0.1,
    "target_correlation": 0.9,
    "loss_scale": 0.5,
    "lr": 0.4,
    "num_steps": 20,
}


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Draw a class's constants."""
    return {
        "weight_variance": float(rng.choice([1.6, 1.8, 2.2, 2.4])),
        "bias_variance": float(rng.choice([0.05, 0.15, 0.2])),
        "target_correlation": float(rng.choice([0.88, 0.92, 0.94])),
        # One half would hide the factor that a square's derivative brings, and is the practice's.
        "loss_scale": float(rng.choice([0.25, 0.75, 1.0])),
        "lr": float(rng.choice([0.2, 0.3, 0.5])),
        "num_steps": int(rng.choice([15, 25, 30])),
    }


Array = np.ndarray[Any, Any]

# --- relu-step: one step of the recursion -----------------------------------------------------------------------------


def relu_step(kernel: Any, variant: dict[str, Any], *, scale: float = 1.0, bias: bool = True) -> Array:
    """Return the next layer's kernel: K' = C_W E[relu(u) relu(v)] + C_b for (u, v) ~ N(0, K)."""
    kernel = np.asarray(kernel, dtype=np.float64)
    norm = np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))
    cosine = np.clip(np.divide(kernel, norm, out=np.zeros_like(kernel), where=norm > 0), -1, 1)
    angle = np.arccos(cosine)
    moment = norm * (np.sin(angle) + (math.pi - angle) * cosine) / (2 * math.pi)
    return scale * variant["weight_variance"] * moment + (variant["bias_variance"] if bias else 0.0)


def step_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Call]:
    """Random covariances, one point alone, equal points, a point at zero, and numbers too large for float32's squares."""
    X = rng.standard_normal((5, 3))
    one = rng.uniform(0.5, 2.0, (1, 1))
    equal = np.full((2, 2), rng.uniform(0.5, 2.0))
    nought = X[:3].copy()
    nought[1] = 0.0
    return [
        Call("relu_step", X @ X.T, weight=3.0, label="five points"),
        Call("relu_step", X[:3] @ X[:3].T * 1e25, label="large inputs"),
        Call("relu_step", one, label="one point"),
        Call("relu_step", equal, label="two equal points"),
        Call("relu_step", nought @ nought.T, label="a point at zero"),
        Call("relu_step", (X[:2] @ X[:2].T * 1e25).astype(np.float32), label="large inputs in float32"),
    ]


def step_reference(case: Call, variant: dict[str, Any]) -> Array:
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
    cosine = np.clip(kernel / {divided}, -1, 1)
    angle = np.arccos(cosine)
    moment = norm * (np.sin(angle) + {first} * cosine) / ({divisor} * np.pi)
    {result}
"""


def _step(**changed: str) -> str:
    parts = {
        "dtype": "np.float64",
        "norm": "np.sqrt(np.outer(np.diag(kernel), np.diag(kernel)))",
        "divided": "np.where(norm > 0, norm, 1)",
        "first": "(np.pi - angle)",
        "divisor": "2",
        "result": "return weight_variance * moment + bias_variance",
    }
    return _STEP.format(**(parts | changed))


STEP_WRONG = [
    Wrong("twice the moment", _step(divisor="1"), 0.5),
    # Beside large numbers the bias is nothing: those two cases, two shares of eight, are right without it.
    Wrong("no bias", _step(result="return weight_variance * moment"), (6 * 0.5 + 2) / 8),
    Wrong("no constants", _step(result="return moment"), 0.25),
    Wrong("angle for its complement", _step(first="angle"), 0.0),
    Wrong("variances not under a root", _step(norm="np.outer(np.diag(kernel), np.diag(kernel))"), 0.0),
    Wrong("prints and does not return", _step(result="print(weight_variance * moment + bias_variance)"), 0.0),
    Wrong("divides by zero", _step(divided="norm"), 7 / 8),
    # Of eight shares five points have three; where float32 overflows, those two cases are lost.
    Wrong("float32 overflow", _step(dtype="np.float32"), 6 / 8),
    Wrong(
        "keeps the input's float32",
        _step(dtype="kernel.dtype"),
        7 / 8,
    ),
    Wrong(
        "in place",
        _step(result="kernel[:] = weight_variance * moment + bias_variance; return kernel"),
        # A float32 input was copied on the way.
        (7 * 0.5 + 1) / 8,
    ),
]


# --- layers-needed: an explorer question, from the student's own seed -------------------------------------------------


def own_data(variant: dict[str, Any]) -> tuple[float, Array, Array]:
    """Return what the setup cell draws: the start's correlation, points and targets."""
    rng = np.random.default_rng(variant["seed"])
    start = float(rng.uniform(-0.6, 0.3))
    angles = 2 * np.pi * np.arange(8) / 8 + rng.uniform(0, 0.7)
    return start, math.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], axis=1), rng.standard_normal((8, 1))


def layers_needed(variant: dict[str, Any]) -> int:
    """Return the first layer at which the two points' correlation exceeds the target."""
    start = own_data(variant)[0]
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


# --- empirical-kernel: gradients of a real network --------------------------------------------------------------------

# Built in the sandbox and, with the same numbers, in the grader.
_NETWORK = """
import torch
from torch import nn


class Unused(nn.Module):
    # Has a parameter that its output does not depend on.
    def __init__(self, inside):
        super().__init__()
        self.inside, self.spare = inside, nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x):
        return self.inside(x)


def build(kind, numbers):
    if kind == "convolution":
        network = nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2))
    else:
        network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3 if kind == "outputs" else 1))
    network = network.double()
    place = 0
    with torch.no_grad():
        for parameter in network.parameters():
            count = parameter.numel()
            parameter.copy_(torch.as_tensor(numbers[place : place + count]).reshape(parameter.shape))
            place += count
    return Unused(network) if kind == "spare" else network
"""
_ASK_KERNEL = (
    _NETWORK
    + """
network = build(kind, numbers)
before = [parameter.detach().clone() for parameter in network.parameters()]
kernel = empirical_kernel(network, X, Z)
clean = all(p.grad is None and torch.equal(p, b) for p, b in zip(network.parameters(), before))
result = {"kernel": kernel.detach() if hasattr(kernel, "detach") else kernel, "clean": clean}
"""
)


def kernel_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Program]:
    """Networks with one and several outputs, a convolution, a spare parameter; one point, equal and zero points."""
    import torch

    def case(kind: str, X: Array, Z: Array, weight: float, label: str) -> Program:
        numbers = rng.standard_normal(60)
        return Program(
            _ASK_KERNEL,
            weight=weight,
            label=label,
            kind=kind,
            numbers=numbers,
            X=torch.from_numpy(X),
            Z=torch.from_numpy(Z),
        )

    points = rng.standard_normal((7, 4))
    equal = np.repeat(points[:1], 3, axis=0)
    equal[2] = 0.0
    return [
        case("plain", points[:3], points[3:], 2.0, "one output"),
        case("outputs", points[:4], points[4:], 2.0, "three outputs"),
        case("convolution", points[:2], points[4:], 1.0, "a convolution"),
        case("spare", points[:2], points[2:5], 1.0, "a parameter that does nothing"),
        case("plain", points[:1], points[1:2], 1.0, "one point"),
        case("plain", equal, equal, 1.0, "equal points, and one at zero"),
    ]


def _jacobians(case: Program) -> tuple[Array, Array, Array]:
    """Return both Jacobians, (points, outputs, parameters), and which parameters belong to biases."""
    import torch

    scope: dict[str, Any] = {}
    exec(_NETWORK, scope)
    network = scope["build"](case.data["kind"], case.data["numbers"])
    parameters = list(network.parameters())

    def jacobian(points: Any) -> Array:
        output = network(points)
        rows = []
        for value in output.flatten():
            found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
            rows.append(torch.cat([part.flatten() for part in parts]))
        stacked: Array = torch.stack(rows).reshape(*output.shape, -1).numpy()
        return stacked

    bias = np.concatenate([np.full(p.numel(), p.ndim == 1) for p in parameters])
    return jacobian(case.data["X"]), jacobian(case.data["Z"]), bias


def kernel_reference(case: Program, variant: dict[str, Any]) -> Array:
    """Return the mean over outputs of the gradients' scalar products."""
    first, second, _ = _jacobians(case)
    table: Array = np.einsum("nop,mop->nm", first, second) / first.shape[1]
    return table


def kernel_judge(answer: Any, case: Program, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for a sum over outputs, without biases, exchanged points, or a network that is left changed."""
    first, second, bias = _jacobians(case)
    outputs = first.shape[1]
    table = np.einsum("nop,mop->nm", first, second)
    weights = np.einsum("nop,mop->nm", first[..., ~bias], second[..., ~bias])
    summed = first.sum(1) @ second.sum(1).T
    kernel = answer["kernel"] if isinstance(answer, dict) else answer
    fraction, message = compare(
        kernel,
        table / outputs,
        rtol=1e-5,
        mistakes=[
            Mistake(table, 0.5, "The kernel is the mean over outputs, not the sum."),
            Mistake(weights / outputs, 0.5, "Biases are parameters too."),
            Mistake((table / outputs).T, 0.5, "Rows are the points of X, columns those of Z."),
            Mistake(summed, 0.25, "Each output has a gradient of its own: the sum of the outputs has another."),
            Mistake(
                summed / outputs, 0.25, "Each output has a gradient of its own: the sum of the outputs has another."
            ),
        ],
    )
    if fraction > 0 and not answer["clean"]:
        return fraction / 2, f"{message} But the network is left changed, in its parameters or their .grad."
    return fraction, message


_KERNEL = """
def empirical_kernel(network, X, Z):
    parameters = {parameters}
    def jacobian(points):
        output = network(points)
        rows = []
        for value in {values}:
            found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused={unused})
            rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found)]))
        return torch.stack(rows).reshape(len(points), -1, sum(p.numel() for p in parameters))
    first, second = jacobian(X), jacobian({second})
    return {result}
"""


def _kernel(**changed: str) -> str:
    parts = {
        "parameters": "list(network.parameters())",
        "values": "output.flatten()",
        "unused": "True",
        "second": "Z",
        "result": 'torch.einsum("nop,mop->nm", first, second) / first.shape[1]',
    }
    return _KERNEL.format(**(parts | changed))


_BACKWARD = """
def empirical_kernel(network, X, Z):
    def jacobian(points):
        rows = []
        for value in network(points).flatten():
            {clear}
            value.backward(retain_graph=True)
            rows.append(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in network.parameters()]))
        return torch.stack(rows).reshape(len(points), -1, len(rows[0]))
    first, second = jacobian(X), jacobian(Z)
    {last}
    return torch.einsum("nop,mop->nm", first, second) / first.shape[1]
"""

KERNEL_WRONG = [
    # One output: four of six cases, five shares of eight.
    Wrong("sum over outputs", _kernel(result='torch.einsum("nop,mop->nm", first, second)'), (5 + 3 * 0.5) / 8),
    Wrong("gradient of the sum of outputs", _kernel(values="output.sum(1)"), (5 + 3 * 0.25) / 8),
    # A spare parameter of one dimension is left out as well, and does not matter.
    Wrong("weights only", _kernel(parameters="[p for p in network.parameters() if p.ndim > 1]"), 0.5),
    # One point with one point is one number, and a kernel of points with themselves is symmetric.
    Wrong(
        "points exchanged",
        _kernel(result='torch.einsum("nop,mop->mn", first, second) / first.shape[1]'),
        (6 * 0.5 + 2) / 8,
    ),
    Wrong("a parameter that does nothing", _kernel(unused="False"), 7 / 8),
    Wrong("only among X", _kernel(second="X"), 1 / 8),
    Wrong("a table of parameters", _kernel(result="first[:, 0].T @ second[: len(first), 0]"), 0.0),
    Wrong("mean over parameters", _kernel(result='torch.einsum("nop,mop->nm", first, second) / first.shape[2]'), 0.0),
    Wrong("gradients pile up", _BACKWARD.format(clear="pass", last="network.zero_grad()"), 0.0),
    Wrong("leaves .grad behind", _BACKWARD.format(clear="network.zero_grad()", last=""), 0.5),
]


# --- outputs-at: gradient flow in closed form -------------------------------------------------------------------------


def flow(
    args: tuple[Any, ...], variant: dict[str, Any], *, factor: float = 2.0, mean: bool = True, follow: bool = True
) -> tuple[Array, Array]:
    """Return the outputs at time t on the training points and elsewhere."""
    t, kernel, cross, y, start, start_cross, lr = args
    eigenvalues, eigenvectors = np.linalg.eigh(kernel)
    rate = factor * variant["loss_scale"] * lr / (len(y) if mean else 1)
    error = eigenvectors.T @ (start - y)
    left = eigenvectors @ (np.exp(-rate * eigenvalues * t) * error)
    zero = np.abs(eigenvalues) <= 1e-12 * np.abs(eigenvalues).max()
    safe = np.where(zero, 1.0, eigenvalues)
    moved = np.where(zero, rate * t, -np.expm1(-rate * safe * t) / safe)
    return y + left, (start_cross if follow else 0.0) - cross @ (eigenvectors @ (moved * error))


def flow_inputs(rng: np.random.Generator, variant: dict[str, Any]) -> list[Call]:
    """Random kernels, time zero, one point, two equal points with different targets, and a long time."""

    def case(features: Array, others: int, t: float, weight: float, label: str) -> Call:
        more = rng.standard_normal((others, features.shape[1]))
        count = len(features)
        y, start, cross = rng.standard_normal(count), rng.standard_normal(count), rng.standard_normal(others)
        lr = float(rng.uniform(0.05, 0.4))
        return Call(
            "outputs_at", t, features @ features.T, more @ features.T, y, start, cross, lr, weight=weight, label=label
        )

    features = rng.standard_normal((5, 8))
    return [
        case(features, 3, float(rng.uniform(1, 4)), 5.0, "five points"),
        case(features, 2, 0.0, 1.0, "time zero"),
        case(features[:1], 2, 2.0, 1.0, "one point"),
        case(features[[0, 1, 1]], 2, 3.0, 1.0, "two equal points"),
        case(features[:3], 1, 1e4, 1.0, "a long time"),
    ]


def flow_judge(answer: Any, case: Call, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for a wrong rate or a forgotten start elsewhere; half for the training points alone."""
    args = case.args
    right = flow(args, variant)
    fraction, message = compare(
        answer,
        right,
        rtol=1e-6,
        atol=1e-8,
        mistakes=[
            Mistake(
                flow(args, variant, mean=False), 0.5, "The loss is a mean over the points: n is missing from the rate."
            ),
            Mistake(flow(args, variant, factor=1.0), 0.5, "The derivative of the square brings a factor 2."),
            Mistake(flow(args, {"loss_scale": 1.0}), 0.5, "The loss has a scale: it belongs into the rate."),
            Mistake(
                flow(args, variant, follow=False), 0.5, "The other points start from their own outputs, not from zero."
            ),
            Mistake((right[1], right[0]), 0.5, "The training points come first."),
        ],
    )
    if fraction == 0 and isinstance(answer, (tuple, list)) and len(answer) == 2:
        only, _ = compare(answer[0], right[0], rtol=1e-6, atol=1e-8)
        if only == 1.0:
            return 0.5, "Right on the training points, wrong at the others."
    return fraction, message


_FLOW = """
def outputs_at(t, kernel, cross, y, start, start_cross, lr):
    {before}
    eigenvalues, eigenvectors = np.linalg.eigh(kernel)
    rate = {rate}
    error = eigenvectors.T @ (start - y)
    left = eigenvectors @ (np.exp(-rate * eigenvalues * t) * error)
    safe = np.where(np.abs(eigenvalues) > 1e-12 * np.abs(eigenvalues).max(), eigenvalues, np.inf)
    moved = np.where(np.isinf(safe), rate * t, -np.expm1(-rate * safe * t) / safe)
    {after}
    return {result}
"""


def _flow(**changed: str) -> str:
    parts = {
        "before": "",
        "rate": "2 * loss_scale * lr / len(y)",
        "after": "",
        "result": "y + left, start_cross - cross @ (eigenvectors @ (moved * error))",
    }
    return _FLOW.format(**(parts | changed))


FLOW_WRONG = [
    # At time zero and after a long time the rate does not matter, and for one point n is 1.
    Wrong("n missing", _flow(rate="2 * loss_scale * lr"), (5 * 0.5 + 1 + 1 + 0.5 + 1) / 9),
    Wrong("no factor 2", _flow(rate="loss_scale * lr / len(y)"), (5 * 0.5 + 1 + 0.5 + 0.5 + 1) / 9),
    Wrong("elsewhere from zero", _flow(result="y + left, -cross @ (eigenvectors @ (moved * error))"), 0.5),
    Wrong("others first", _flow(result="start_cross - cross @ (eigenvectors @ (moved * error)), y + left"), 0.5),
    Wrong(
        "exponential of each entry",
        "def outputs_at(t, kernel, cross, y, start, start_cross, lr):\n"
        "    rate = 2 * loss_scale * lr / len(y)\n"
        "    left = np.exp(-rate * kernel * t) @ (start - y)\n"
        "    return y + left, start_cross - cross @ np.linalg.solve(kernel, (start - y) - left)\n",
        1 / 9,
    ),
    Wrong(
        "inverts the kernel",
        "def outputs_at(t, kernel, cross, y, start, start_cross, lr):\n"
        "    w, V = np.linalg.eigh(kernel)\n"
        "    left = V @ (np.exp(-2 * loss_scale * lr / len(y) * w * t) * (V.T @ (start - y)))\n"
        "    return y + left, start_cross - cross @ (V @ ((V.T @ ((start - y) - left)) / np.where(abs(w) < 1e-9, 0.0, w)))\n",
        # Two equal points: the training points alone are right.
        (8 + 0.5) / 9,
    ),
    Wrong(
        "eigenvectors transposed",
        _flow(after="left = eigenvectors.T @ (np.exp(-rate * eigenvalues * t) * (eigenvectors @ (start - y)))"),
        3 / 9,
    ),
    Wrong("in place", _flow(before="start -= y; start += y; y -= 1e-12"), 0.5),
    Wrong(
        "one array",
        _flow(result="np.concatenate([y + left, start_cross - cross @ (eigenvectors @ (moved * error))])"),
        0.0,
    ),
    Wrong(
        "one large step",
        "def outputs_at(t, kernel, cross, y, start, start_cross, lr):\n"
        "    move = 2 * loss_scale * lr / len(y) * t * (start - y)\n"
        "    return start - kernel @ move, start_cross - cross @ move\n",
        1 / 9,
    ),
]


# --- drift: an experiment ---------------------------------------------------------------------------------------------

_WIDTHS = (32, 64, 128, 256, 512)


@functools.lru_cache(maxsize=8)
def _drift_table(
    seed: int, loss_scale: float, lr: float, num_steps: int, members: int, relative: bool
) -> tuple[float, ...]:
    """Return the mean drift for each width: the student's networks, all members at once, gradients by hand."""
    from sciviz.ntk import make_mlp

    _, X, y = own_data({"seed": seed})
    means = []
    for width in _WIDTHS:
        networks = [
            make_mlp(
                input_dim=2,
                width=width,
                depth=1,
                seed=(seed + 1000 * member + width) % 2**31,
                activation="tanh",
                bias_variance=0.5,
                bias="first",
            ).double()
            for member in range(members)
        ]
        W, b, a = (
            np.stack([dict(network.named_parameters())[name].detach().numpy() for network in networks])
            for name in ("0.weight", "0.bias", "2.weight")
        )
        first, bias, last = math.sqrt(1 / 2), math.sqrt(0.5), math.sqrt(1 / width)

        def parts(W: Array, b: Array, a: Array, scale: tuple[float, float, float] = (first, bias, last)) -> Any:
            hidden = np.tanh(scale[0] * X @ W.transpose(0, 2, 1) + scale[1] * b[:, None])
            return hidden, scale[2] * a * (1 - hidden**2)

        def kernel(W: Array, b: Array, a: Array, scale: tuple[float, float] = (last, bias)) -> Array:
            hidden, slope = parts(W, b, a)
            table: Array = scale[0] ** 2 * hidden @ hidden.transpose(0, 2, 1)
            return table + slope @ slope.transpose(0, 2, 1) * (X @ X.T / 2 + scale[1] ** 2)

        before = kernel(W, b, a)
        for _ in range(num_steps):
            hidden, slope = parts(W, b, a)
            pull = 2 * loss_scale / len(X) * (last * hidden @ a.transpose(0, 2, 1) - y)
            back = pull * slope
            W, b, a = (
                W - lr * first * back.transpose(0, 2, 1) @ X,
                b - lr * bias * back.sum(1),
                a - lr * last * pull.transpose(0, 2, 1) @ hidden,
            )
        change = np.linalg.norm(kernel(W, b, a) - before, axis=(1, 2))
        means.append(float(np.mean(change / np.linalg.norm(before, axis=(1, 2)) if relative else change)))
    return tuple(means)


def drift_table(variant: dict[str, Any], *, members: int = 8, relative: bool = True, **changed: Any) -> Array:
    """Return the mean drift for each width."""
    used = {name: variant[name] for name in ("seed", "loss_scale", "lr", "num_steps")} | changed
    return np.array(_drift_table(**used, members=members, relative=relative))


def slope(drifts: Array) -> float:
    """Return the slope of the logarithm against the width's."""
    return float(np.polyfit(np.log(_WIDTHS), np.log(drifts), 1)[0])


def drift_reference(case: Value, variant: dict[str, Any]) -> Any:
    """Return the drifts, or their exponent."""
    return drift_table(variant) if case.name == "drifts" else slope(drift_table(variant))


def drift_judge(answer: Any, case: Value, variant: dict[str, Any]) -> tuple[float, str]:
    """Half the marks for drifts that lack one step of the recipe, and for an exponent that is only roughly right."""
    right = drift_reference(case, variant)
    if case.name == "drifts":
        return compare(
            answer,
            right,
            rtol=1e-3,
            mistakes=[
                Mistake(drift_table(variant, relative=False), 0.5, "The drift is relative to the first kernel's norm."),
                Mistake(
                    drift_table(variant, members=1),
                    0.5,
                    "These are the drifts of one network each, not the mean of eight.",
                ),
                Mistake(drift_table(variant, loss_scale=0.5), 0.5, "The loss has the scale of question 4."),
                Mistake(
                    drift_table(variant, loss_scale=8 * variant["loss_scale"]),
                    0.5,
                    "The loss is a mean over the points.",
                ),
                Mistake(right[::-1], 0.5, "Give them in the order of the widths."),
            ],
        )
    return compare(
        answer,
        right,
        rtol=0,
        # A fit to the mean of the logarithms differs by this much.
        atol=0.03,
        mistakes=[
            Mistake(-right, 0.5, "The sign: does the drift grow with the width, or fall?"),
            Mistake(1 / right, 0.25, "This is the slope with the two axes exchanged."),
        ],
    )


_DRIFT = """
def drift(width, member):
    network = own_network(width, member)
    before = {before}
    for _ in range({steps}):
        loss = {loss}
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients):
                parameter -= lr * gradient
    after = {after}
    return {change}
drifts = [{mean} for width in widths]
drift_exponent = {exponent}
"""


def _drift(**changed: str) -> str:
    parts = {
        "before": "empirical_kernel(network, own_X, own_X)",
        "steps": "num_steps",
        "loss": "loss_scale * (network(own_X) - own_y).square().mean()",
        "after": "empirical_kernel(network, own_X, own_X)",
        "change": "float((after - before).norm() / before.norm())",
        "mean": "float(np.mean([drift(width, member) for member in range(8)]))",
        "exponent": "float(np.polyfit(np.log(widths), np.log(drifts), 1)[0])",
    }
    return _DRIFT.format(**(parts | changed))


DRIFT_WRONG = [
    Wrong("positive exponent", _drift(exponent="-float(np.polyfit(np.log(widths), np.log(drifts), 1)[0])"), 0.75),
    Wrong("logarithm of the width alone", _drift(exponent="float(np.polyfit(np.log(widths), drifts, 1)[0])"), 0.5),
    Wrong(
        "eight numbers a width",
        _drift(
            mean="[drift(width, member) for member in range(8)]",
            exponent="float(np.polyfit(np.log(widths), np.log(drifts).mean(1), 1)[0])",
        ),
        0.5,
    ),
    Wrong("widest first", _drift() + "drifts = drifts[::-1]\ndrift_exponent = -drift_exponent\n", 0.5),
    Wrong("squared norms", _drift(change="float(((after - before).norm() / before.norm()) ** 2)"), 0.0),
    Wrong(
        "weights, not kernels",
        _drift(
            before="torch.cat([p.detach().clone().flatten() for p in network.parameters()])",
            after="torch.cat([p.detach().flatten() for p in network.parameters()])",
        ),
        0.0,
    ),
    Wrong("never trains", _drift(steps="0"), 0.0),
    Wrong("a guess", "drifts = [0.5, 0.4, 0.3, 0.2, 0.1]\ndrift_exponent = -0.5", 0.0),
    Wrong("as text", _drift() + "drifts, drift_exponent = str(drifts), str(drift_exponent)\n", 0.0),
]

QUESTIONS = {
    "relu-step": Question(step_inputs, step_reference, step_judge, STEP_WRONG),
    "layers-needed": Question(
        lambda rng, variant: [Value("depth_needed")],
        lambda case, variant: layers_needed(variant),
        layers_judge,
        LAYERS_WRONG,
    ),
    "empirical-kernel": Question(kernel_inputs, kernel_reference, kernel_judge, KERNEL_WRONG),
    "outputs-at": Question(flow_inputs, lambda case, variant: flow(case.args, variant), flow_judge, FLOW_WRONG),
    "drift": Question(
        lambda rng, variant: [
            Value("drifts", label="the drift at each width"),
            Value("drift_exponent", label="its exponent"),
        ],
        drift_reference,
        drift_judge,
        DRIFT_WRONG,
    ),
}
