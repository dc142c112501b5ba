"""Neural ODEs: many small trajectories, a small network, and the adjoint's memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from registry import Outcome, Target, Workload

TOLERANCE = 1e-5


def _starts() -> np.ndarray:
    return 2 * np.random.default_rng(0).standard_normal((256, 2))


def _judge_van_der_pol(outcomes: dict[str, Outcome]) -> dict[str, dict[str, float]]:
    from scipy.integrate import solve_ivp

    def slope(_: float, y: np.ndarray) -> np.ndarray:
        position, speed = y.reshape(2, -1)
        return np.concatenate([speed, 2 * (1 - position**2) * speed - position])

    times = np.linspace(0, 10, 200)
    truth = solve_ivp(slope, (0, 10), _starts().T.ravel(), method="DOP853", t_eval=times, rtol=1e-12, atol=1e-12).y
    truth = truth.reshape(2, -1, 200).transpose(2, 1, 0)
    return {name: {"error": float(np.abs(kept["y"] - truth).max())} for name, kept in outcomes.items()}


_EAGER = (
    "A step is a few dozen operations on small tensors, and what torch takes to start each is most of their cost; compiled they "
    "are one loop, see below."
)
_LOOSER = "sciviz, compiled, tolerance 2e-5"
van_der_pol = Workload(
    "ode/van-der-pol",
    "Van der Pol, μ = 2, 256 trajectories, t ≤ 10, 200 outputs, tolerance 1e-5, float64",
    _judge_van_der_pol,
    targets=(
        Target("torchdiffeq", 0.25, says="at least 4 times as fast as torchdiffeq", why=_EAGER),
        Target("", 2.8e-3, "error", says="error at most 2.8e-3"),
        Target("torchdiffeq", 0.25, ours="sciviz, compiled", says="the same, compiled"),
        Target("diffrax", 1.0, ours="sciviz, compiled", says="no slower than diffrax, both warm"),
        Target("diffrax", 1.0, ours=_LOOSER, says="no slower than diffrax at twice its tolerance"),
        Target("diffrax", 1.0, "error", ours=_LOOSER, says="and then with no larger an error"),
    ),
    not_alike="torchdiffeq takes one step size for the whole batch; torchode, diffrax and ours one a trajectory. diffrax and ours "
    "(compiled) run compiled code.",
)


def _torch_field() -> Any:
    import torch

    def field(t: Any, y: Any) -> Any:
        position, speed = y[..., :1], y[..., 1:]
        return torch.cat([speed, 2 * (1 - position**2) * speed - position], -1)

    return field


def _torch_setting() -> tuple[Any, Any, Any]:
    import torch

    return _torch_field(), torch.as_tensor(_starts()), torch.linspace(0, 10, 200, dtype=torch.float64)


@van_der_pol.contestant("sciviz")
def _():
    from sciviz.ode import solve

    field, y0, t = _torch_setting()
    return lambda: {"y": solve(field, y0, t, method="tsit5", rtol=TOLERANCE, atol=TOLERANCE).y}


def _compiled_oscillator(tolerance: float) -> Any:
    from sciviz.ode import CompiledField, solve

    field, y0, t = _torch_setting()
    compiled = CompiledField(field)
    return lambda: {"y": solve(compiled, y0, t, method="tsit5", rtol=tolerance, atol=tolerance).y}


@van_der_pol.contestant("sciviz, compiled", package="sciviz")
def _():
    return _compiled_oscillator(TOLERANCE)


@van_der_pol.contestant(_LOOSER, package="sciviz")
def _():
    return _compiled_oscillator(2e-5)


@van_der_pol.contestant("torchdiffeq", "torch")
def _():
    from torchdiffeq import odeint

    field, y0, t = _torch_setting()
    return lambda: {"y": odeint(field, y0, t, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")}


@van_der_pol.contestant("torchode", "torch")
def _():
    import torch
    import torchode

    field, y0, t = _torch_setting()
    term = torchode.ODETerm(field)
    method = torchode.Tsit5(term=term)
    solver = torchode.AutoDiffAdjoint(method, torchode.IntegralController(atol=TOLERANCE, rtol=TOLERANCE, term=term))
    problem = torchode.InitialValueProblem(y0=y0, t_eval=t.expand(256, -1))

    def run() -> Outcome:
        with torch.no_grad():
            return {"y": solver.solve(problem).ys.transpose(0, 1)}

    return run


@van_der_pol.contestant("diffrax", "jax")
def _():
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def field(t: Any, y: Any, args: Any) -> Any:
        return jnp.stack([y[1], 2 * (1 - y[0] ** 2) * y[1] - y[0]])

    times = jnp.linspace(0, 10, 200)
    y0 = jnp.asarray(_starts())

    @jax.jit
    def whole(y0: Any) -> Any:
        def one(y: Any) -> Any:
            return diffrax.diffeqsolve(
                diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, 10.0, None, y, saveat=diffrax.SaveAt(ts=times),
                stepsize_controller=diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE),
            ).ys  # fmt: skip

        return jax.vmap(one, out_axes=1)(y0)

    return lambda: {"y": whole(y0).block_until_ready()}


# ------------------------------------------------------------------------------------------------------ small network


def _weights() -> list[np.ndarray]:
    draw = np.random.default_rng(1)
    return [draw.standard_normal((4, 32)) / 2, np.zeros(32), draw.standard_normal((32, 4)) / 32**0.5, np.zeros(4)]


def _network_starts() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((256, 4))


def _judge_network(outcomes: dict[str, Outcome]) -> dict[str, dict[str, float]]:
    import torch

    from sciviz.ode import solve

    weights = [torch.as_tensor(value).requires_grad_() for value in _weights()]
    y0 = torch.as_tensor(_network_starts())
    t = torch.tensor([0.0, 10.0], dtype=torch.float64)
    end = solve(
        lambda t, y: torch.tanh(y @ weights[0] + weights[1]) @ weights[2] + weights[3], y0, t, rtol=1e-11, atol=1e-11
    ).y[-1]
    (end**2).mean().backward()
    gradient = torch.cat([value.grad.flatten() for value in weights]).numpy()
    figures = {}
    for name, kept in outcomes.items():
        figures[name] = {"error": float(np.abs(kept["end"] - end.detach().numpy()).max())}
        if "gradient" in kept:
            figures[name]["gradient_error"] = float(
                np.linalg.norm(kept["gradient"] - gradient) / np.linalg.norm(gradient)
            )
    return figures


def _torch_network(grad: bool, solve: Any) -> Any:
    import torch

    w1, b1, w2, b2 = (torch.as_tensor(value, dtype=torch.float32).requires_grad_(grad) for value in _weights())
    y0 = torch.as_tensor(_network_starts(), dtype=torch.float32)
    t = torch.tensor([0.0, 10.0])

    def field(t: Any, y: Any) -> Any:
        return torch.addmm(b2, torch.tanh(torch.addmm(b1, y, w1)), w2)

    def run() -> Outcome:
        if not grad:
            with torch.no_grad():
                return {"end": solve(field, y0, t)}
        for value in (w1, b1, w2, b2):
            value.grad = None
        end = solve(field, y0, t)
        (end**2).mean().backward()
        return {"end": end.detach(), "gradient": torch.cat([value.grad.flatten() for value in (w1, b1, w2, b2)])}

    return run


_SHARED = "sciviz, one step for the batch, tolerance 2e-6"


def _register(work: Workload, grad: bool) -> None:
    @work.contestant("sciviz")
    def _():
        from sciviz.ode import solve

        return _torch_network(grad, lambda f, y, t: solve(f, y, t, method="dopri5", rtol=1e-6, atol=1e-6).y[-1])

    def compiled_by(tolerance: float) -> Any:
        from sciviz.ode import CompiledField, solve

        kept: dict[Any, CompiledField] = {}

        def compiled(f: Any, y: Any, t: Any) -> Any:
            field = kept.setdefault(f, CompiledField(f))
            return solve(field, y, t, method="dopri5", rtol=tolerance, atol=tolerance).y[-1]

        return _torch_network(grad, compiled)

    def shared_by(tolerance: float) -> Any:
        from sciviz.ode import solve

        return _torch_network(
            grad,
            lambda f, y, t: solve(f, y, t, method="dopri5", rtol=tolerance, atol=tolerance, per_sample=False).y[-1],
        )

    @work.contestant("sciviz, compiled", package="sciviz")
    def _():
        return compiled_by(1e-6)

    @work.contestant("sciviz, compiled, tolerance 4e-6", package="sciviz")
    def _():
        return compiled_by(4e-6)

    @work.contestant("sciviz, one step for the batch", package="sciviz")
    def _():
        return shared_by(1e-6)

    @work.contestant(_SHARED, package="sciviz")
    def _():
        return shared_by(2e-6)

    @work.contestant("torchdiffeq", "torch")
    def _():
        from torchdiffeq import odeint

        return _torch_network(grad, lambda f, y, t: odeint(f, y, t, rtol=1e-6, atol=1e-6, method="dopri5")[-1])

    @work.contestant("torchode", "torch")
    def _():
        import torchode

        def solve(field: Any, y: Any, t: Any) -> Any:
            term = torchode.ODETerm(field)
            control = torchode.IntegralController(atol=1e-6, rtol=1e-6, term=term)
            solver = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), control)
            return solver.solve(torchode.InitialValueProblem(y0=y, t_eval=t.expand(256, -1))).ys[:, -1]

        return _torch_network(grad, solve)

    @work.contestant("diffrax", "jax")
    def _():
        import diffrax
        import jax
        import jax.numpy as jnp

        weights = [jnp.asarray(value, jnp.float32) for value in _weights()]
        y0 = jnp.asarray(_network_starts(), jnp.float32)

        def field(t: Any, y: Any, weights: Any) -> Any:
            return jnp.tanh(y @ weights[0] + weights[1]) @ weights[2] + weights[3]

        def end(weights: Any, y0: Any) -> Any:
            def one(y: Any) -> Any:
                return diffrax.diffeqsolve(
                    diffrax.ODETerm(field), diffrax.Dopri5(), 0.0, 10.0, None, y, weights,
                    stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
                ).ys[-1]  # fmt: skip

            return jax.vmap(one)(y0)

        if not grad:
            forward = jax.jit(end)
            return lambda: {"end": forward(weights, y0).block_until_ready()}

        @jax.jit
        def both(weights: Any, y0: Any) -> Any:
            def loss(weights: Any) -> Any:
                value = end(weights, y0)
                return (value**2).mean(), value

            (_, value), gradient = jax.value_and_grad(loss, has_aux=True)(weights)
            return value, jnp.concatenate([part.ravel() for part in gradient])

        def run() -> Outcome:
            value, gradient = both(weights, y0)
            return {"end": value.block_until_ready(), "gradient": gradient.block_until_ready()}

        return run


_FORWARD = (
    "The network's evaluations by themselves, 128 with shared steps, take 3.6 of 6.2 ms (torchdiffeq's 110: 3.1 of 10.4, with an "
    "error 2.4 times ours): what the solver adds is a third of what torchdiffeq adds."
)
_BACKWARD = (
    "The network's evaluations and their gradient by themselves take 9.5 ms with shared steps and 12 ms with steps of a "
    "sample's own; half of torchdiffeq's time is 10.5."
)
_COMPILED = (
    "diffrax is one program from the first step to the last. Ours comes back to Python every four steps: of its time the "
    "arithmetic is about a fifth, torch's dispatch of seven calls as much again, the rest what surrounds them."
)
_UNLIKE = (
    "float32. torchdiffeq takes one step size for the whole batch, the others one a trajectory; diffrax and ours (compiled) "
    "run compiled code."
)


def _network_targets(error: str, why: str, why_compiled: str = "") -> tuple[Target, ...]:
    shared = "sciviz, one step for the batch"
    return (
        Target("torchdiffeq", 0.5, says="at least twice as fast as torchdiffeq", why=why),
        Target("torchdiffeq", 0.5, ours=shared, says="the same with steps shared as theirs are", why=why),
        Target("torchdiffeq", 1.0, error, says=f"{error.replace('_', ' ')} no larger"),
        Target("torchdiffeq", 0.5, ours=_SHARED, says="the same with shared steps at twice their tolerance", why=why),
        Target("torchdiffeq", 1.0, error, ours=_SHARED, says=f"and then with {error.replace('_', ' ')} no larger"),
        Target(
            "diffrax",
            1.2,
            ours="sciviz, compiled",
            says="compiled within 1.2 times diffrax, both warm",
            why=why_compiled,
        ),
    )


network_forward = Workload(
    "ode/network-forward",
    "MLP 4-32-4, batch 256, t ≤ 10, tolerance 1e-6, forward",
    _judge_network,
    targets=_network_targets("error", _FORWARD, _COMPILED),
    not_alike=_UNLIKE,
)
network_both = Workload(
    "ode/network-backward",
    "MLP 4-32-4, batch 256, t ≤ 10, tolerance 1e-6, forward and backward",
    _judge_network,
    targets=_network_targets("gradient_error", _BACKWARD),
    not_alike=_UNLIKE,
)
_register(network_forward, False)
_register(network_both, True)


# ------------------------------------------------------------------------------------------------------------ adjoint


def _judge_adjoint(outcomes: dict[str, Outcome]) -> dict[str, dict[str, float]]:
    best = outcomes["sciviz, all steps"]["gradient"]
    return {
        name: {
            "gradient_error": float(np.linalg.norm(kept["gradient"] - best) / np.linalg.norm(best)),
            "bytes_saved_t10": float(kept["saved"][0]),
            "bytes_saved_t100": float(kept["saved"][1]),
        }
        for name, kept in outcomes.items()
    }


def _adjoint(solve: Any) -> Any:
    import torch

    w1, b1, w2, b2 = (torch.as_tensor(value).requires_grad_() for value in _weights())
    y0 = torch.as_tensor(_network_starts())

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.ParameterList([w1, b1, w2, b2])

        def forward(self, t: Any, y: Any) -> Any:
            a, b, c, d = self.weights
            return torch.addmm(d, torch.tanh(torch.addmm(b, y, a)), c)

    field = Field().double()

    def run() -> Outcome:
        saved = []
        gradient = None
        for end in (10.0, 100.0):
            kept: dict[int, int] = {}
            field.zero_grad()

            def keep(tensor: Any, kept: dict[int, int] = kept) -> Any:
                kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                last = solve(field, y0, torch.tensor([0.0, end], dtype=torch.float64))
            (last**2).mean().backward()
            saved.append(sum(kept.values()))
            if end == 10.0:
                gradient = torch.cat([value.grad.flatten() for value in field.weights])
        return {"saved": np.array(saved), "gradient": gradient}

    return run


adjoint = Workload(
    "ode/adjoint",
    "the same network by the adjoint, t ≤ 10 and t ≤ 100, tolerance 1e-6, float64: memory kept for the way back",
    _judge_adjoint,
    targets=(
        Target("torchdiffeq", 1.0, "bytes_saved_t100", says="memory kept at any length no larger than torchdiffeq's"),
        Target("torchdiffeq", 1.0, "gradient_error", says="gradient error no larger"),
    ),
    rounds=5,
)


@adjoint.contestant("sciviz")
def _():
    from sciviz.ode import solve

    return _adjoint(lambda f, y, t: solve(f, y, t, method="dopri5", rtol=1e-6, atol=1e-6, gradient="adjoint").y[-1])


@adjoint.contestant("torchdiffeq", "torch")
def _():
    from torchdiffeq import odeint_adjoint

    return _adjoint(lambda f, y, t: odeint_adjoint(f, y, t, rtol=1e-6, atol=1e-6, method="dopri5")[-1])


@adjoint.contestant("sciviz, all steps", package="sciviz")
def _():
    from sciviz.ode import solve

    return _adjoint(lambda f, y, t: solve(f, y, t, method="dopri5", rtol=1e-10, atol=1e-10).y[-1])


WORKLOADS = [van_der_pol, network_forward, network_both, adjoint]
