"""Work of the size of a GPU, with its floor counted: what must pass through memory, and what must be computed.

On a CPU the same program runs at sizes that suit it. Contestants get the device and the sizes; they return nothing, since copying
what they computed back is not part of the work: `more` looks at a part of it afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from registry import Floor, Outcome, Size, Target, Workload

AIM = Target(
    "", 1.0, "aim_over_share", says="60% of the device's memory rate, or 40% of its arithmetic where that is the floor"
)


class Held:
    """The work, and a look at what it left on the device."""

    def __init__(self, work: Callable[[], Any], look: Callable[[Any], Outcome]) -> None:
        self.work, self.look, self.kept = work, look, None

    def __call__(self) -> Outcome:
        self.kept = None  # else two results would lie in memory at a time
        self.kept = self.work()
        return {}

    def more(self) -> Outcome:
        """Return what the judge looks at, as arrays."""
        return {name: np.asarray(value.detach().cpu()) for name, value in self.look(self.kept).items()}


# ------------------------------------------------------------------------------------------------- the kernel's trace


def _widths(size: Size) -> tuple[int, ...]:
    return (784, size["width"], size["width"], 10)


def _network(size: Size, device: str) -> Any:
    import torch
    from torch import nn

    draw = np.random.default_rng(0)
    parts: list[Any] = []
    for a, b in pairwise(_widths(size)):
        linear = nn.Linear(a, b, device=device)
        weight = (draw.standard_normal((b, a)) * (2 / a) ** 0.5).astype(np.float32)
        with torch.no_grad():
            linear.weight.copy_(torch.as_tensor(weight))
            linear.bias.zero_()
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def _samples(size: Size, device: str) -> Any:
    import torch

    return torch.as_tensor(np.random.default_rng(1).standard_normal((size["points"], 784)).astype(np.float32)).to(
        device
    )


def _kernel_floor(size: Size, _: Outcome) -> Floor:
    """Every pair of points once: the kernel is symmetric. The last layer's sensitivities are the identity and cost nothing."""
    n, widths = size["points"], _widths(size)
    pairs = n * (n + 1) / 2
    activations = sum(widths[:-1])
    sensitivities = widths[-1] * sum(widths[1:-1])
    products = sum(a * b for a, b in pairwise(widths))
    passes = 2 * n * (products + widths[-1] * (products - widths[0] * widths[1]))
    weights = 4 * products
    return Floor(4 * n * n + weights, 2 * pairs * (activations + sensitivities) + passes)


def _judge_kernel(outcomes: dict[str, Outcome], size: Size) -> dict[str, dict[str, float]]:
    from sciviz.ntk import empirical_ntk

    X = _samples(size, "cpu")[:8].double()
    # The Jacobians themselves, in twice the precision.
    truth = empirical_ntk(
        _network(size, "cpu").double(), X, method="jacobian", output="trace", memory_limit_bytes=2**33
    )
    wanted = truth.numpy()
    return {
        name: {"relative_error": float(np.abs(kept["kernel"] - wanted).max() / np.abs(wanted).max())}
        for name, kept in outcomes.items()
    }


ntk = Workload(
    "large/ntk",
    "trace of the empirical kernel, 784-{width}-{width}-10, {points:,} points, float32",
    _judge_kernel,
    sizes={"cuda": {"points": 8192, "width": 4096}, "cpu": {"points": 512, "width": 512}},
    floor=_kernel_floor,
    targets=(AIM,),
    not_alike="The Jacobians of all points would not fit anywhere: that row is for 32 points.",
)


@ntk.contestant("sciviz")
def _(device: str, size: Size):
    from sciviz.ntk import empirical_ntk

    network, X = _network(size, device), _samples(size, device)
    limit = 2**33 if device == "cuda" else 2**30
    return Held(
        lambda: empirical_ntk(network, X, output="trace", memory_limit_bytes=limit),
        lambda kernel: {"kernel": kernel[:8, :8]},
    )


@ntk.contestant("torch.func Jacobians, 32 points", package="torch", alike=False)
def _(device: str, size: Size):
    from torch.func import functional_call, jacrev, vmap

    network, X = _network(size, device), _samples(size, device)[:32]
    params = {name: value.detach() for name, value in network.named_parameters()}

    def single(params: Any, x: Any) -> Any:
        return functional_call(network, params, (x[None],))[0]

    def work() -> Any:
        jacobian = vmap(jacrev(single), (None, 0), chunk_size=8)(params, X)
        return sum(value.flatten(1) @ value.flatten(1).T for value in jacobian.values()) / 10

    return Held(work, lambda kernel: {"kernel": kernel[:8, :8]})


# ---------------------------------------------------------------------------------------------- many spiking neurons


def _currents(size: Size, device: str) -> Any:
    import torch

    few = (np.random.default_rng(0).random((size["steps"], 512)) * 0.2).astype(np.float32)
    return torch.as_tensor(few).to(device).repeat(1, size["neurons"] // 512).requires_grad_()


def _spiking_floor(size: Size, _: Outcome) -> Floor:
    """Forwards: read the current, write spikes and membrane. Backwards: read the membrane, write the gradient."""
    cells = size["steps"] * size["neurons"]
    return Floor(5 * 4 * cells, 12 * cells)


def _judge_spikes(outcomes: dict[str, Outcome], size: Size) -> dict[str, dict[str, float]]:
    import torch

    from sciviz.snn import Surrogate
    from sciviz.snn.neurons import lif_step

    # Step by step, with torch's own gradients, in the same precision: another would move spikes.
    current = _currents({**size, "neurons": 512}, "cpu")
    state, spikes = None, []
    for now in current:
        step = lif_step(now, state, decay=0.95, surrogate=Surrogate("arctan", 2.0))
        state = step.state
        spikes.append(step.spikes)
    fired = torch.stack(spikes)
    (gradient,) = torch.autograd.grad(fired.sum(), current)
    wanted = gradient.numpy()
    return {
        name: {
            "other_spikes": float(np.mean(kept["spikes"] != fired.detach().numpy())),
            "gradient_difference": float(np.linalg.norm(kept["gradient"] - wanted) / np.linalg.norm(wanted)),
        }
        for name, kept in outcomes.items()
    }


def _spiking_work(current: Any, spikes_of: Callable[[Any], Any]) -> Held:
    import torch

    one = torch.ones((), device=current.device)

    def work() -> Any:
        spikes = spikes_of(current)
        (gradient,) = torch.autograd.grad(spikes, current, one.expand_as(spikes))
        return spikes, gradient

    return Held(work, lambda kept: {"spikes": kept[0][:, :512], "gradient": kept[1][:, :512]})


spiking = Workload(
    "large/spiking",
    "leaky neurons, {steps:,} steps × {neurons:,}, forward and backward, float32",
    _judge_spikes,
    sizes={"cuda": {"steps": 1000, "neurons": 65536}, "cpu": {"steps": 250, "neurons": 8192}},
    floor=_spiking_floor,
    targets=(
        replace(
            AIM,
            why="Time is a loop in Python: a step is several operations of torch, each with a start of its own, and each reads "
            "and writes again what the one before it wrote. One kernel over all steps would be needed; spikingjelly has one "
            "for GPUs.",
        ),
    ),
    not_alike="snntorch differentiates its reset as well, which makes its gradient another one.",
)


@spiking.contestant("sciviz")
def _(device: str, size: Size):
    from sciviz.snn import Surrogate, lif

    surrogate = Surrogate("arctan", 2.0)
    return _spiking_work(_currents(size, device), lambda current: lif(current, decay=0.95, surrogate=surrogate).spikes)


@spiking.contestant("spikingjelly", "torch")
def _(device: str, size: Size):
    from spikingjelly.activation_based import functional, neuron, surrogate

    # On a GPU it takes its own fused kernels by itself.
    node = neuron.LIFNode(
        tau=20.0, decay_input=False, v_threshold=1.0, v_reset=None, surrogate_function=surrogate.ATan(alpha=2.0),
        detach_reset=True, step_mode="m",
    ).to(device)  # fmt: skip

    def spikes_of(current: Any) -> Any:
        functional.reset_net(node)
        return node(current)

    return _spiking_work(_currents(size, device), spikes_of)


@spiking.contestant("snntorch", "torch")
def _(device: str, size: Size):
    import snntorch
    import torch
    from snntorch import surrogate

    def spikes_of(current: Any) -> Any:
        cell = snntorch.Leaky(
            beta=0.95, spike_grad=surrogate.atan(alpha=2.0), reset_mechanism="subtract", reset_delay=False
        ).to(current.device)
        membrane, fired = cell.init_leaky(), []
        for now in current:
            spikes, membrane = cell(now, membrane)
            fired.append(spikes)
        return torch.stack(fired)

    return _spiking_work(_currents(size, device), spikes_of)


# ------------------------------------------------------------------------------------------------ among many patterns

QUERIES, DIMENSION, BETA = 64, 64, 1.0


def _memory(size: Size, device: str) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator(device).manual_seed(0)
    signs = torch.randint(0, 2, (size["stored"], DIMENSION), generator=generator, device=device, dtype=torch.int8)
    patterns = signs.float().mul_(2).sub_(1)
    cues = patterns[:QUERIES].clone()
    cues[:, DIMENSION // 2 :] = 0
    return patterns, cues


def _retrieval_floor(size: Size, _: Outcome) -> Floor:
    """Read the patterns once; a product with each query for its score, and one for the mean."""
    stored = size["stored"]
    return Floor(4 * stored * DIMENSION, 2 * 2 * stored * DIMENSION * QUERIES)


def _retrieval_work(device: str, size: Size, retrieve: Callable[[Any, Any], Any]) -> Held:
    patterns, cues = _memory(size, device)

    def look(answer: Any) -> Outcome:
        import torch

        # The definition in twice the precision, two queries at a time so that the scores stay small.
        truth = torch.cat(
            [
                sum(
                    torch.softmax((BETA * pair.double() @ patterns.double().T), -1)[:, part] @ patterns[part].double()
                    for part in torch.arange(len(patterns), device=device).split(2**22)
                )
                for pair in cues[:4].split(2)
            ]
        )
        return {"answer": answer[:4], "truth": truth, "right": (answer.sign() == patterns[:QUERIES]).all(-1)}

    return Held(lambda: retrieve(patterns, cues), look)


def _judge_retrieval(outcomes: dict[str, Outcome], size: Size) -> dict[str, dict[str, float]]:
    return {
        name: {
            "largest_error": float(np.abs(kept["answer"] - kept["truth"]).max()),
            "found": float(kept["right"].mean()),
        }
        for name, kept in outcomes.items()
    }


retrieval = Workload(
    "large/retrieval",
    "one step among {stored:,} stored patterns, d = 64, 64 half-masked queries, float32",
    _judge_retrieval,
    sizes={"cuda": {"stored": 10_000_000}, "cpu": {"stored": 200_000}},
    floor=_retrieval_floor,
    targets=(AIM,),
)


@retrieval.contestant("sciviz")
def _(device: str, size: Size):
    from sciviz.hopfield import retrieve_blocked

    return _retrieval_work(device, size, lambda patterns, cues: retrieve_blocked(patterns, cues, BETA))


@retrieval.contestant("scaled_dot_product_attention", package="torch")
def _(device: str, size: Size):
    import torch

    def retrieve(patterns: Any, cues: Any) -> Any:
        q, k = cues[None, None], patterns[None, None]
        return torch.nn.functional.scaled_dot_product_attention(q, k, k, scale=BETA)[0, 0]

    return _retrieval_work(device, size, retrieve)


@retrieval.contestant("plain softmax", package="torch")
def _(device: str, size: Size):
    import torch

    return _retrieval_work(device, size, lambda patterns, cues: torch.softmax(BETA * cues @ patterns.T, -1) @ patterns)


# ------------------------------------------------------------------------------------------------- a layer of splines


def _layer_floor(size: Size, _: Outcome) -> Floor:
    """Four cubic splines of eight are not zero, and the base function beside them: forwards, for the weights, for the inputs."""
    edges = size["width"] ** 2
    bytes_ = 4 * (2 * 9 * edges + 4 * size["batch"] * size["width"])
    return Floor(bytes_, 3 * 2 * size["batch"] * edges * (4 + 1))


def _spread_inputs(size: Size, device: str) -> Any:
    import torch

    X = np.random.default_rng(0).uniform(-1, 1, (size["batch"], size["width"])).astype(np.float32)
    return torch.as_tensor(X).to(device).requires_grad_()


def _judge_spline_layer(outcomes: dict[str, Outcome], size: Size) -> dict[str, dict[str, float]]:
    from scipy.interpolate import BSpline

    figures = {}
    for name, kept in outcomes.items():
        X = kept["X"].astype(float)
        wanted = (X / (1 + np.exp(-X))) @ kept["base"].astype(float)
        for i, (knots, coef) in enumerate(zip(kept["knots"].astype(float), kept["coef"].astype(float), strict=True)):
            wanted += BSpline.design_matrix(X[:, i], knots, 3) @ coef
        figures[name] = {"layer_error": float(np.abs(kept["y"] - wanted).max() / np.abs(wanted).max())}
    return figures


splines = Workload(
    "large/splines",
    "layer of cubic splines, {width} → {width}, 5 cells, batch {batch:,}, forward and backward, float32",
    _judge_spline_layer,
    sizes={"cuda": {"width": 1024, "batch": 8192}, "cpu": {"width": 128, "batch": 1024}},
    floor=_layer_floor,
    targets=(
        replace(
            AIM,
            why="At this size more than half of the time goes to the values of the splines and to spreading them over the "
            "grid, and the product takes all eight bases, of which four are zero.",
        ),
    ),
)


def _step(model: Any, X: Any, weights: Callable[[], Outcome]) -> Held:
    def work() -> Any:
        model.zero_grad()
        X.grad = None
        y = model(X)
        y.square().mean().backward()
        return y

    return Held(work, lambda y: {"X": X[:4], "y": y[:4], **weights()})


@splines.contestant("sciviz")
def _(device: str, size: Size):
    import torch

    from sciviz.kan import KANLayer

    width = size["width"]
    layer = KANLayer(width, width, num_cells=5, generator=torch.Generator().manual_seed(0)).to(device)

    def weights() -> Outcome:
        coef, base = layer.weights()
        return {"coef": coef, "base": base, "knots": layer.basis.knots.expand(width, -1)}

    return _step(layer, _spread_inputs(size, device), weights)


@splines.contestant("pykan", "torch")
def _(device: str, size: Size):
    from kan import KAN

    width = size["width"]
    model = KAN(width=[width, width], grid=5, k=3, seed=0, auto_save=False, device=device)
    model.speed()
    layer = model.act_fun[0]

    def weights() -> Outcome:
        # Their sum is over mask · (scale_base · silu + scale_sp · spline); inputs first, as ours.
        return {
            "coef": (layer.coef * (layer.mask * layer.scale_sp)[..., None]).permute(0, 2, 1),
            "base": layer.mask * layer.scale_base,
            "knots": layer.grid,
        }

    return _step(model, _spread_inputs(size, device), weights)


# -------------------------------------------------------------------------------------------------- many trajectories

TOLERANCE, TIMES = 1e-5, 200


def _starts(size: Size, device: str) -> tuple[Any, Any]:
    import torch

    y0 = 2 * np.random.default_rng(0).standard_normal((size["trajectories"], 2))
    return torch.as_tensor(y0).to(device), torch.linspace(0, 10, TIMES, dtype=torch.float64, device=device)


def _oscillate(t: Any, y: Any) -> Any:
    import torch

    position, speed = y[..., :1], y[..., 1:]
    return torch.cat([speed, 2 * (1 - position**2) * speed - position], -1)


def _trajectory_floor(size: Size, outcome: Outcome) -> Floor:
    """Write the outputs; a step of Tsit5 is 21 products and sums for its stages and 7 for its error, a component, and 6 slopes."""
    n = size["trajectories"]
    steps = float(outcome["steps"]) * n
    return Floor(8 * 2 * n * TIMES, steps * (2 * 2 * (21 + 7) + 6 * 6) + n * TIMES * 2 * 8, "float64")


def _judge_trajectories(outcomes: dict[str, Outcome], size: Size) -> dict[str, dict[str, float]]:
    from scipy.integrate import solve_ivp

    few = min(256, size["trajectories"])

    def slope(_: float, y: np.ndarray) -> np.ndarray:
        position, speed = y.reshape(2, -1)
        return np.concatenate([speed, 2 * (1 - position**2) * speed - position])

    y0 = _starts(size, "cpu")[0][:few].numpy()
    times = np.linspace(0, 10, TIMES)
    truth = solve_ivp(slope, (0, 10), y0.T.ravel(), method="DOP853", t_eval=times, rtol=1e-12, atol=1e-12).y
    truth = truth.reshape(2, -1, TIMES).transpose(2, 1, 0)
    return {name: {"error": float(np.abs(kept["y"] - truth).max())} for name, kept in outcomes.items()}


trajectories = Workload(
    "large/trajectories",
    "Van der Pol, μ = 2, {trajectories:,} trajectories, t ≤ 10, 200 outputs, tolerance 1e-5, float64",
    _judge_trajectories,
    sizes={"cuda": {"trajectories": 100_000}, "cpu": {"trajectories": 4000}},
    floor=_trajectory_floor,
    targets=(
        replace(
            AIM,
            why="A step is a few dozen operations on small tensors, each a call and a pass through memory; the floor counts "
            "none of that. Compiled (`CompiledField`) a step is one loop.",
        ),
    ),
    not_alike="torchdiffeq takes one step size for the whole batch; torchode and ours one a trajectory.",
)


@trajectories.contestant("sciviz")
def _(device: str, size: Size):
    from sciviz.ode import solve

    y0, t = _starts(size, device)
    return Held(
        lambda: solve(_oscillate, y0, t, method="tsit5", rtol=TOLERANCE, atol=TOLERANCE),
        lambda kept: {"y": kept.y[:, :256], "steps": (kept.stats.accepted + kept.stats.rejected).double().mean()},
    )


@trajectories.contestant("torchdiffeq", "torch")
def _(device: str, size: Size):
    from torchdiffeq import odeint

    y0, t = _starts(size, device)
    return Held(
        lambda: odeint(_oscillate, y0, t, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5"),
        lambda y: {"y": y[:, :256]},
    )


@trajectories.contestant("torchode", "torch")
def _(device: str, size: Size):
    import torch
    import torchode

    y0, t = _starts(size, device)
    term = torchode.ODETerm(_oscillate)
    control = torchode.IntegralController(atol=TOLERANCE, rtol=TOLERANCE, term=term)
    solver = torchode.AutoDiffAdjoint(torchode.Tsit5(term=term), control).to(device)
    problem = torchode.InitialValueProblem(y0=y0, t_eval=t.expand(len(y0), -1))

    def work() -> Any:
        with torch.no_grad():
            return solver.solve(problem).ys

    return Held(work, lambda y: {"y": y.transpose(0, 1)[:, :256]})


WORKLOADS = [ntk, spiking, retrieval, splines, trajectories]
