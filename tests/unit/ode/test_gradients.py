from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torchdiffeq
from torch import Tensor, nn

from sciviz.ode import NonFiniteDerivativeError, SolverError, solve

F64 = torch.float64


def line(start: float, end: float, count: int) -> Tensor:
    return torch.linspace(start, end, count, dtype=F64)


class Field(nn.Module):
    """A small network of state and time; each sample has its own time."""

    def __init__(self, seed: int, width: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(width, 4, generator=generator, dtype=F64))
        self.second = nn.Parameter(torch.randn(3, width, generator=generator, dtype=F64) / width**0.5)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(torch.cat([y, t], dim=1) @ self.first.T) @ self.second.T


def start(count: int = 5) -> Tensor:
    return torch.linspace(-1, 1, 3 * count, dtype=F64).view(count, 3).clone().requires_grad_()


def gradient_of(field: Field, y0: Tensor, t: Tensor, **how: object) -> tuple[Tensor, Tensor]:
    """The solution, and all gradients of one number that depends on every output, as one vector."""
    y = solve(field, y0, t, **how).y
    assert isinstance(y, Tensor)
    weights = torch.cos(torch.arange(y.numel(), dtype=F64)).view_as(y)
    parts = torch.autograd.grad((weights * y.sin()).sum(), [y0, *field.parameters()])
    return y.detach(), torch.cat([part.flatten() for part in parts])


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


ADAPTIVE = [("heun_euler", {}), ("bosh3", {}), ("dopri5", {"per_sample": False}), ("tsit5", {})]
FIXED = [("euler", {"num_steps": 12}), ("midpoint", {"step_size": 0.13}), ("rk4", {}), ("tsit5", {"num_steps": 7})]
TIMES = {"forward": line(0, 2, 7), "backward": line(1, -1, 2)}


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize(("method", "how"), ADAPTIVE + FIXED)
def test_checkpointed_gradient_is_that_of_the_solver(method: str, how: dict, times: str) -> None:
    field, y0, t = Field(0), start(), TIMES[times]
    y, exact = gradient_of(field, y0, t, method=method, rtol=1e-3, atol=1e-3, **how)
    same_y, same = gradient_of(field, y0, t, method=method, rtol=1e-3, atol=1e-3, gradient="checkpoint", **how)
    torch.testing.assert_close(same_y, y, rtol=1e-10, atol=1e-12)
    assert difference(same, exact) < 1e-10


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize(("method", "how"), [*ADAPTIVE, ("rk4", {"num_steps": 240})])
def test_adjoint_agrees_at_a_tight_tolerance(method: str, how: dict, times: str) -> None:
    field, y0, t = Field(1), start(), TIMES[times]
    tolerance = 1e-5 if method == "heun_euler" else 1e-9
    _, exact = gradient_of(field, y0, t, method=method, rtol=tolerance, atol=tolerance, **how)
    _, adjoint = gradient_of(field, y0, t, method=method, rtol=tolerance, atol=tolerance, gradient="adjoint", **how)
    assert difference(adjoint, exact) < 100 * tolerance


@pytest.mark.parametrize("method", ["euler", "midpoint", "rk4", "dopri5"])
@pytest.mark.parametrize("times", TIMES)
def test_reversible_gradient_is_exact_for_its_own_forward_pass(method: str, times: str) -> None:
    field, y0, t = Field(2), start(3), TIMES[times]
    how = {"method": method, "num_steps": 12, "gradient": "reversible"}
    _, exact = gradient_of(field, y0, t, **how)
    weights = torch.cos(torch.arange(len(t) * y0.numel(), dtype=F64)).view(len(t), *y0.shape)

    def loss() -> float:
        with torch.no_grad():
            return float((weights * solve(field, y0, t, **how).y.sin()).sum())

    place = 0
    for tensor in (y0, *field.parameters()):
        for i in (0, tensor.numel() // 2, tensor.numel() - 1):
            flat, step = tensor.data.view(-1), 1e-5
            flat[i] += step
            above = loss()
            flat[i] -= 2 * step
            below = loss()
            flat[i] += step
            assert math.isclose((above - below) / (2 * step), float(exact[place + i]), rel_tol=1e-6, abs_tol=1e-8)
        place += tensor.numel()


# The two copies of the state take about a thousand steps to forget their difference, and while the number of steps passes
# that, the error's constant changes; the order is seen on one side of it or the other.
@pytest.mark.parametrize(
    ("method", "order", "count"), [("euler", 1, 32), ("midpoint", 2, 2048), ("bosh3", 3, 64), ("rk4", 4, 256)]
)
def test_reversible_form_keeps_the_order(method: str, order: int, count: int) -> None:
    errors = []
    for steps in (count, 2 * count):
        y = solve(lambda t, y: y * torch.cos(t), torch.ones(1, dtype=F64), line(0, 3, 2), method=method,
                  num_steps=steps, gradient="reversible").y_end  # fmt: skip
        errors.append(abs(float(y[0]) - math.exp(math.sin(3))))
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.1


@pytest.mark.parametrize(
    "how",
    [
        {"method": "tsit5"}, {"method": "bosh3", "gradient": "checkpoint"}, {"method": "rk4", "gradient": "reversible"},
        {"method": "heun", "num_steps": 5}, {"method": "dopri5", "rtol": 1e-10, "atol": 1e-10, "gradient": "adjoint"},
    ],
)  # fmt: skip
def test_gradcheck(how: dict) -> None:
    matrix = torch.tensor([[0.1, -1.0], [0.8, -0.3]], dtype=F64, requires_grad=True)
    y0 = torch.tensor([[1.0, 0.0], [0.3, -0.5]], dtype=F64, requires_grad=True)
    t = line(0, 1, 5)
    # Step sizes are held constant in a gradient but would react to a difference quotient: prescribe the first and let a
    # loose tolerance leave the others at their upper limit.
    how = {"rtol": 1e-2, "atol": 1e-2, "first_step": 0.25, "max_step": 0.25, **how}

    def answer(y0: Tensor, matrix: Tensor) -> Tensor:
        y = solve(lambda t, y: torch.tanh(y @ matrix.T) + t, y0, t, params=[matrix], **how).y
        assert isinstance(y, Tensor)
        return y

    loose = how.get("gradient") == "adjoint"
    assert torch.autograd.gradcheck(answer, (y0, matrix), atol=1e-6 if loose else 1e-7, rtol=1e-5)


def test_second_derivatives_through_the_solver() -> None:
    y0 = torch.tensor([[0.4], [1.1]], dtype=F64, requires_grad=True)
    how = {"first_step": 0.25, "max_step": 0.25, "rtol": 1e-2, "atol": 1e-2}
    assert torch.autograd.gradgradcheck(lambda y0: solve(lambda t, y: -(y**2), y0, line(0, 1, 3), **how).y, (y0,))


@pytest.mark.parametrize("gradient", ["solver", "adjoint", "checkpoint"])
def test_gradient_of_a_closed_form(gradient: str) -> None:
    """y' = -k y: dy(t)/dy0 = exp(-kt), dy(t)/dk = -t y."""
    rate = torch.tensor(0.7, dtype=F64, requires_grad=True)
    y0 = torch.tensor([[2.0], [3.0]], dtype=F64, requires_grad=True)
    # The rate is found although nobody names it.
    y = solve(lambda t, y: -rate * y, y0, line(0, 2, 5), gradient=gradient, rtol=1e-10, atol=1e-10).y
    by_y0, by_rate = torch.autograd.grad(y[-1].sum(), [y0, rate])
    torch.testing.assert_close(by_y0, torch.full((2, 1), math.exp(-1.4), dtype=F64), rtol=1e-8, atol=0)
    torch.testing.assert_close(by_rate, torch.tensor(-10 * math.exp(-1.4), dtype=F64), rtol=1e-8, atol=0)


@pytest.mark.parametrize("gradient", ["adjoint", "checkpoint"])
def test_parameters_made_by_another_computation(gradient: str) -> None:
    seed = torch.tensor([0.2, -0.3], dtype=F64, requires_grad=True)
    y0 = torch.tensor([[1.0, 1.0]], dtype=F64)
    results = []
    for how in ("solver", gradient):
        rates = torch.exp(seed)
        y = solve(lambda t, y, rates=rates: -rates * y, y0, line(0, 1, 4), gradient=how, rtol=1e-9, atol=1e-9).y
        results.append(torch.autograd.grad(y.sum(), seed)[0])
    torch.testing.assert_close(results[1], results[0], rtol=1e-7, atol=0)


def test_gradient_with_respect_to_the_times() -> None:
    t = torch.tensor([0.3, 0.7, 1.5], dtype=F64, requires_grad=True)
    y0 = torch.tensor([[1.5]], dtype=F64, requires_grad=True)
    weights = torch.tensor([0.0, 2.0, 3.0], dtype=F64)
    y = solve(lambda t, y: y * torch.cos(t), y0, t, gradient="adjoint", rtol=1e-9, atol=1e-9).y
    (got,) = torch.autograd.grad((weights * y[:, 0, 0]).sum(), t)
    exact = t.detach().clone().requires_grad_()
    closed = 1.5 * torch.exp(torch.sin(exact) - torch.sin(exact[0]))
    (expected,) = torch.autograd.grad((weights * closed).sum(), exact)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-8)
    with pytest.raises(ValueError, match='respect to t need gradient="adjoint"'):
        solve(lambda t, y: -y, y0, t)


# --- memory -----------------------------------------------------------------------------------------------------------


def kept_bytes(compute: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass, each storage once."""
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept_alive = compute()
    del kept_alive
    return sum(seen.values())


def test_memory_of_adjoint_and_reversible_does_not_grow_with_the_steps() -> None:
    field, y0 = Field(3), start()

    def kept(gradient: str, steps: int) -> int:
        return kept_bytes(
            lambda: solve(field, y0, line(0, 5, 2), method="rk4", num_steps=steps, gradient=gradient).y_end
        )

    assert kept("adjoint", 10) == kept("adjoint", 200)
    assert kept("reversible", 10) == kept("reversible", 200)
    assert kept("solver", 200) > 15 * kept("solver", 10)
    y_and_parameters = 2 * y0.numel() * 8 + sum(p.numel() * 8 for p in field.parameters())
    assert kept("adjoint", 200) == y_and_parameters + 2 * 8


# --- where the adjoint differs ----------------------------------------------------------------------------------------


def test_adjoint_is_off_by_percents_at_a_loose_tolerance_and_checkpoints_are_not() -> None:
    errors = []
    for seed in range(5):
        field, y0, t = Field(seed), start(), line(0, 10, 2)
        how = {"rtol": 1e-3, "atol": 1e-3}
        _, exact = gradient_of(field, y0, t, **how)
        _, adjoint = gradient_of(field, y0, t, gradient="adjoint", **how)
        _, checkpoint = gradient_of(field, y0, t, gradient="checkpoint", **how)
        errors.append(difference(adjoint, exact))
        assert difference(checkpoint, exact) < 1e-9
    assert sorted(errors)[2] > 0.01, errors


def test_adjoint_fails_on_a_contracting_layer_run_to_rest() -> None:
    """The layer y' = d (tanh(W y + x) - y) forgets its start, fast in some directions and slowly in others.

    Backward in time the fast directions blow up long before the gradient along the slow ones has decayed.
    """
    rates, t, errors, tolerance = torch.tensor([0.5, 2.0, 5.0, 20.0], dtype=F64), line(0, 20, 2), [], 1e-6
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        weight = (torch.randn(4, 4, generator=generator, dtype=F64) / 4).requires_grad_()
        x = torch.randn(2, 4, generator=generator, dtype=F64)

        def layer(t: Tensor, y: Tensor, weight: Tensor = weight, x: Tensor = x) -> Tensor:
            return rates * (torch.tanh(y @ weight.T + x) - y)

        def by(gradient: str, layer: Callable[..., Tensor] = layer, weight: Tensor = weight) -> Tensor:
            how = {"gradient": gradient, "rtol": tolerance, "atol": tolerance}
            y = solve(layer, torch.zeros(2, 4, dtype=F64), t, **how).y_end
            assert isinstance(y, Tensor)
            return torch.autograd.grad(y.sum(), weight)[0]

        # At rest the implicit function theorem gives the gradient in closed form.
        with torch.no_grad():
            rest = torch.zeros(2, 4, dtype=F64)
            for _ in range(500):
                rest = torch.tanh(rest @ weight.T + x)
        gain = 1 - rest**2
        slopes = gain[:, :, None] * weight.detach() - torch.eye(4, dtype=F64)
        pull = torch.linalg.solve(-slopes.transpose(1, 2), torch.ones(2, 4, 1, dtype=F64))[..., 0]
        exact = (pull * gain).T @ rest
        assert difference(by("solver"), exact) < 5e-3
        assert difference(by("checkpoint"), exact) < 5e-3
        errors.append(difference(by("adjoint"), exact))
    assert min(errors) > 0.05, errors
    # Twice as long, and the state is on its way to overflow when the steps run out.
    with pytest.raises(SolverError, match=r"could not be integrated back in time .* gradient=\"checkpoint\""):
        how = {"rtol": tolerance, "atol": tolerance, "max_num_steps": 800}
        y = solve(layer, torch.zeros(2, 4, dtype=F64), 2 * t, gradient="adjoint", **how).y_end
        y.sum().backward()


def test_adjoint_error_is_no_larger_than_torchdiffeqs() -> None:
    ours, theirs = [], []
    for seed in range(5):
        field, y0, t = Field(seed), start(), line(0, 4, 2)
        _, exact = gradient_of(field, y0, t, rtol=1e-12, atol=1e-12)
        _, adjoint = gradient_of(field, y0, t, rtol=1e-6, atol=1e-6, gradient="adjoint", method="dopri5")
        y = torchdiffeq.odeint_adjoint(lambda t, y, f=field: f(t.expand(len(y), 1), y), y0, t, rtol=1e-6, atol=1e-6,
                                       adjoint_params=tuple(field.parameters()))  # fmt: skip
        weights = torch.cos(torch.arange(y.numel(), dtype=F64)).view_as(y)
        parts = torch.autograd.grad((weights * y.sin()).sum(), [y0, *field.parameters()])
        ours.append(math.log(difference(adjoint, exact)))
        theirs.append(math.log(difference(torch.cat([part.flatten() for part in parts]), exact)))
    assert sum(ours) / 5 <= sum(theirs) / 5 + 0.1, (ours, theirs)


# --- corners ----------------------------------------------------------------------------------------------------------


def test_gradients_of_event_time_and_state() -> None:
    """A ball dropped from height h with speed v: the gradients of when and how fast it lands, in closed form."""
    y0 = torch.tensor([[1.0, 0.5], [4.0, -1.0]], dtype=F64, requires_grad=True)
    gravity = torch.tensor(9.81, dtype=F64, requires_grad=True)

    def fall(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[:, 1], -gravity.expand(len(y))], dim=1)

    solution = solve(fall, y0, line(0, 3, 2), event=lambda t, y: y[:, 0], rtol=1e-9, atol=1e-9)
    landing = (y0[:, 1] + torch.sqrt(y0[:, 1] ** 2 + 2 * gravity * y0[:, 0])) / gravity
    speed = -torch.sqrt(y0[:, 1] ** 2 + 2 * gravity * y0[:, 0])
    for got, exact in ((solution.event_time, landing), (solution.event_state[:, 1], speed)):
        torch.testing.assert_close(got, exact, rtol=1e-10, atol=0)
        for one, other in zip(
            torch.autograd.grad(got.sum(), [y0, gravity], retain_graph=True),
            torch.autograd.grad(exact.sum(), [y0, gravity], retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
    with pytest.raises(ValueError, match='event needs gradient="solver"'):
        solve(fall, y0, line(0, 3, 2), event=lambda t, y: y[:, 0], gradient="adjoint")


def test_recorded_errors_can_be_part_of_a_loss() -> None:
    field, y0 = Field(4), start()
    solution = solve(field, y0, line(0, 3, 2), record_steps=True, rtol=1e-3, atol=1e-3)
    assert solution.steps is not None and solution.steps.error.requires_grad
    gradient = torch.autograd.grad(solution.steps.error[solution.steps.accepted].sum(), field.first)[0]
    assert bool(torch.isfinite(gradient).all()) and float(gradient.abs().max()) > 0


def test_gradients_begin_with_a_function_that_needs_them_only_later() -> None:
    rate = torch.tensor(0.5, dtype=F64, requires_grad=True)

    def late(t: Tensor, y: Tensor) -> Tensor:
        return -y if float(t.detach().max()) < 0.5 else -y * rate

    y = solve(late, torch.ones(1, 1, dtype=F64), line(0, 1, 2), max_step=0.1).y_end
    (gradient,) = torch.autograd.grad(y.sum(), rate)
    assert -1.0 < float(gradient) < -0.1


def test_no_graph_is_kept_where_none_is_wanted() -> None:
    field = Field(5)
    with torch.no_grad():
        assert not solve(field, start(), line(0, 1, 3)).y.requires_grad
    assert not solve(lambda t, y: -y, torch.ones(2, 1), torch.tensor([0.0, 1.0])).y.requires_grad
    for gradient in ("adjoint", "checkpoint"):
        y = solve(lambda t, y: -y, torch.ones(2, 1), torch.tensor([0.0, 1.0]), gradient=gradient).y
        assert not y.requires_grad


def test_refusals() -> None:
    y0 = torch.ones(2, 1, dtype=F64, requires_grad=True)
    with pytest.raises(ValueError, match="no solution between its steps"):
        solve(lambda t, y: -y, y0, line(0, 1, 4), num_steps=4, method="rk4", gradient="reversible")
    with pytest.raises(NonFiniteDerivativeError, match="sample 0"):
        solve(lambda t, y: y**3, 10 * y0, line(0, 9, 2), num_steps=50, method="rk4", gradient="reversible")
    with pytest.raises(ValueError, match='record_steps needs gradient="solver"'):
        solve(lambda t, y: -y, y0, line(0, 1, 2), record_steps=True, gradient="checkpoint")
