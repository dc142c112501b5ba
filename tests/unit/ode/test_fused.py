"""Small layers as loops: the same numbers as the matrix library's, and only where the function allows it."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sciviz.ode import CompiledField, solve
from sciviz.ode.fused import SmallLayers, batch_last, fuse, gains, quick_tanh

SHAPES = [(16, 3, 5), (17, 2, 64), (40, 9, 11), (33, 1, 7), (100, 12, 1)]
SLACK = {torch.float32: 2e-6, torch.float64: 1e-13}


@pytest.fixture(autouse=True)
def _the_same_numbers_each_time() -> None:
    torch.manual_seed(0)


def network(width: int, hidden: int, dtype: torch.dtype) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width, bias=False)).to(dtype)


def spellings(model: nn.Sequential) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    first, second = model[0].weight.t(), model[2].weight.t()
    bias = model[0].bias
    return {
        "module": lambda t, y: model(y),
        "addmm": lambda t, y: torch.mm(torch.tanh(torch.addmm(bias, y, first)), second),
        "@": lambda t, y: (y @ first + bias).tanh() @ second,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("rows", "width", "hidden"), SHAPES)
def test_layers_as_loops_are_the_layers(rows: int, width: int, hidden: int, dtype: torch.dtype) -> None:
    y, t = torch.randn(rows, width, dtype=dtype), torch.zeros(rows, 1, dtype=dtype)
    for name, func in spellings(network(width, hidden, dtype)).items():
        plain, loops = func(t, y), fuse(func)(t, batch_last(y))
        assert torch.allclose(plain, loops, rtol=SLACK[dtype], atol=SLACK[dtype]), name
        assert loops.stride() == (1, rows)
        assert gains(func, t, y, plain), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("rows", "width", "hidden"), SHAPES)
def test_a_solve_with_them_is_the_plain_one(rows: int, width: int, hidden: int, dtype: torch.dtype) -> None:
    model, y0, t = network(width, hidden, dtype), torch.randn(rows, width, dtype=dtype), torch.linspace(0, 2, 5)
    with torch.no_grad():
        fused = CompiledField(lambda t, y: model(y), backend="eager")
        plain, loops = (solve(func, y0, t, rtol=1e-5, atol=1e-5).y for func in (lambda t, y: model(y), fused))
    assert next(iter(fused._steps))[-1], "no layer was found"
    # In single precision a step may come out another one by the last digit of its error.
    assert torch.allclose(plain, loops, rtol=0, atol=2e-5 if dtype == torch.float32 else 1e-11)


def test_quick_tanh_is_right_to_a_few_units_in_the_last_place_at_all_sizes() -> None:
    x = torch.cat([torch.logspace(-30, 1.5, 20001), torch.tensor([0.0, float("inf")])])
    x = torch.cat([x, -x])
    exact = x.double().tanh()
    assert bool(((quick_tanh(x) - exact).abs() <= 4e-7 * exact.abs()).all())
    assert quick_tanh(torch.tensor([float("nan")])).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_what_relies_on_how_a_row_lies_in_memory_stays_as_it_is(dtype: torch.dtype) -> None:
    model, y, t = network(4, 8, dtype), torch.randn(20, 4, dtype=dtype), torch.zeros(20, 1, dtype=dtype)

    def turned(t: Tensor, y: Tensor) -> Tensor:
        pairs = torch.view_as_complex(model(y).unflatten(1, (2, 2)))
        return torch.view_as_real(1j * pairs).flatten(1)

    assert not gains(turned, t, y, turned(t, y))
    assert not gains(lambda t, y: -y, t, y, -y), "has no layers"
    wide = network(4, 2000, dtype)
    assert not gains(lambda t, y: wide(y), t, y, wide(y)), "its layers are not small"
    with torch.no_grad():
        end = torch.linspace(0, 1, 3)
        found = [solve(func, y, end).y for func in (turned, CompiledField(turned, backend="eager"))]
    assert torch.allclose(*found, atol=1e-6)


def test_a_view_of_a_layer_is_taken() -> None:
    model, y, t = network(4, 8, torch.float32), torch.randn(20, 4), torch.zeros(20, 1)

    def viewed(t: Tensor, y: Tensor) -> Tensor:
        return model(y).view(-1, 2, 2).flip(2).view(20, 4).view(torch.int32).view(torch.float32)

    with SmallLayers():
        assert torch.allclose(viewed(t, batch_last(y)), viewed(t, y), atol=1e-6)


def test_gradients_take_the_matrix_library() -> None:
    model, y0, t = network(3, 8, torch.float64), torch.randn(20, 3, dtype=torch.float64), torch.linspace(0, 1, 3)
    field = CompiledField(lambda t, y: model(y), backend="eager")
    found = []
    for func in (lambda t, y: model(y), field):
        model.zero_grad()
        (solve(func, y0, t).y ** 2).sum().backward()
        found.append(torch.cat([value.grad.flatten() for value in model.parameters()]))
    assert torch.allclose(*found, rtol=1e-10)
    assert [key[-1] for key in field._steps] == [False]


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_for_real() -> None:
    model, t = network(3, 10, torch.float32), torch.linspace(0, 2, 5)
    field = CompiledField(lambda t, y: model(y))
    settings = {"method": "heun_euler", "rtol": 1e-4, "atol": 1e-4}
    with torch.no_grad():
        for stretch in (1.0, 1.5):
            y0 = torch.randn(24, 3)
            plain, loops = (solve(func, y0, stretch * t, **settings).y for func in (lambda t, y: model(y), field))
            assert torch.allclose(plain, loops, atol=1e-4)
    assert [key[-1] for key in field._steps] == [True]
