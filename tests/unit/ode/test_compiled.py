"""A compiled step takes the same steps as the plain loop, forward and backward, and says what it does not take."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor

from sciviz.ode import METHODS, CompiledField, StepLimitError, solve, stepping
from sciviz.ode.compiled import STRIDE


def field(t: Tensor, y: Tensor) -> Tensor:
    return torch.sin(3 * t) * y.roll(1, -1) - torch.tanh(y)


def start(dtype: torch.dtype = torch.float64, rows: int = 6) -> Tensor:
    return torch.randn(rows, 2, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("count", [2, 9], ids=["end", "dense"])
@pytest.mark.parametrize("end", [4.0, -4.0])
@pytest.mark.parametrize("method", ["tsit5", "dopri5", "bosh3"])
def test_the_step_as_one_function_is_the_plain_loop(method: str, end: float, count: int) -> None:
    t = torch.linspace(0, end, count, dtype=torch.float64)
    settings = {"method": method, "rtol": 1e-6, "atol": 1e-7, "max_step": 0.7}
    plain, one = (
        solve(field, start(), t, **settings),
        solve(CompiledField(field, backend="eager"), start(), t, **settings),
    )
    assert torch.allclose(plain.y, one.y, rtol=1e-11, atol=1e-11)
    assert plain.stats.evaluations.tolist() == one.stats.evaluations.tolist()
    assert plain.stats.rejected.tolist() == one.stats.rejected.tolist()
    # The last call may take attempts that nobody needs any more.
    spare = one.stats.calls - plain.stats.calls
    assert 0 <= spare < STRIDE * METHODS[method].evaluations_per_step


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_are_those_of_the_plain_loop(dtype: torch.dtype) -> None:
    module = torch.nn.Linear(2, 2).to(dtype)
    t = torch.linspace(0, 3, 4)

    def slope(t: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(module(y)) - y

    found = []
    for func in (slope, CompiledField(slope, backend="eager")):
        module.zero_grad()
        y0 = start(dtype).requires_grad_()
        (solve(func, y0, t).y ** 2).sum().backward()
        found.append(torch.cat([value.grad.flatten() for value in (y0, *module.parameters())]))
    slack = 1e-10 if dtype == torch.float64 else 1e-4
    assert torch.allclose(*found, rtol=slack, atol=slack)


def test_a_trial_step_that_is_not_finite_leaves_finite_gradients() -> None:
    def root(t: Tensor, y: Tensor) -> Tensor:
        return -torch.sqrt(y)

    y0 = torch.tensor([[1.0, 4.0], [9.0, 2.0]], dtype=torch.float64, requires_grad=True)
    settings = {"first_step": 10.0, "rtol": 1e-6, "atol": 1e-8}
    solution = solve(CompiledField(root, backend="eager"), y0, torch.tensor([0.0, 0.5]), **settings)
    solution.y[-1].sum().backward()
    # sqrt(y) falls by t / 2.
    exact = (y0.detach().sqrt() - 0.25) ** 2
    assert torch.allclose(solution.y[-1], exact, rtol=1e-5)
    assert torch.allclose(y0.grad, 1 - 0.25 / y0.detach().sqrt(), rtol=1e-4)


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_for_real() -> None:
    t = torch.linspace(0, 2, 5, dtype=torch.float64)
    compiled = CompiledField(field)
    plain = solve(field, start(), t, method="heun_euler", rtol=1e-4)
    first = solve(compiled, start(), t, method="heun_euler", rtol=1e-4)
    assert torch.allclose(plain.y, first.y, rtol=1e-9, atol=1e-9)
    # Another tolerance and other values need no new step.
    other = solve(compiled, start() + 1, t, method="heun_euler", rtol=1e-5)
    assert torch.allclose(solve(field, start() + 1, t, method="heun_euler", rtol=1e-5).y, other.y, rtol=1e-9, atol=1e-9)
    assert len(compiled._steps) == 1


@pytest.mark.parametrize(
    "settings", [{"per_sample": False}, {"gradient": "adjoint"}, {"method": "rk4"}], ids=["shared", "adjoint", "fixed"]
)
def test_what_is_not_compiled_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="CompiledField takes one tensor"):
        solve(CompiledField(field), start(), torch.tensor([0.0, 1.0]), **settings)


def test_events_and_recorded_steps_take_the_plain_loop() -> None:
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    solution = solve(CompiledField(field, backend="eager"), start(), t, record_steps=True)
    assert solution.steps is not None
    assert torch.allclose(solution.y, solve(field, start(), t).y, rtol=1e-12)


@pytest.mark.parametrize("count", [2, 9], ids=["end", "dense"])
def test_the_limit_of_steps_is_that_of_the_plain_loop(count: int) -> None:
    t = torch.linspace(0, 4, count, dtype=torch.float64)
    settings = {"method": "tsit5", "rtol": 1e-6, "atol": 1e-7}
    stats = solve(field, start(), t, **settings).stats
    needed = int((stats.accepted + stats.rejected).max())
    assert needed % STRIDE, "else the last steps are no special case"
    one = CompiledField(field, backend="eager")
    plain, enough = (solve(func, start(), t, max_num_steps=needed, **settings).y for func in (field, one))
    assert torch.allclose(plain, enough, rtol=1e-11, atol=1e-11)
    with pytest.raises(StepLimitError, match=f"max_num_steps={needed - 1}"):
        solve(one, start(), t, max_num_steps=needed - 1, **settings)


def test_a_chunk_of_the_history_is_no_multiple_of_the_steps_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    t = torch.linspace(0, 4, 30, dtype=torch.float64)
    plain = solve(field, start(), t, rtol=1e-8)
    for chunk in (1, 5, 9):
        monkeypatch.setattr(stepping, "CHUNK", chunk)
        assert torch.allclose(
            solve(CompiledField(field, backend="eager"), start(), t, rtol=1e-8).y, plain.y, rtol=1e-11
        )
