"""B-splines against SciPy's, against sums and derivatives known beforehand, and at the edges of what they accept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from sciviz.kan import splines

ORDERS = range(6)


def uneven(num_cells: int, order: int, seed: int = 0) -> torch.Tensor:
    """Knots from -1 to 2 with cells of different widths."""
    widths = 0.2 + torch.rand(num_cells, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    inner = torch.cat([torch.zeros(1, dtype=torch.float64), widths.cumsum(0) / widths.sum()])
    return splines.extend_knots(3 * inner - 1, order)


def points(knots: torch.Tensor, order: int) -> torch.Tensor:
    """Points in the grid, on each of its knots, and beyond its ends."""
    some = torch.rand(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3 - 1
    last = len(knots) - order - 1
    return torch.cat([some, knots[order:last], torch.tensor([-1.7, -1.0001, 2.0001, 2.5], dtype=torch.float64)])


def scipy_bases(x: torch.Tensor, knots: torch.Tensor, order: int, derivative: int) -> np.ndarray:
    number = len(knots) - order - 1
    found = []
    for one in range(number):
        spline = BSpline(knots.numpy(), np.eye(number)[one], order, extrapolate=True)
        found.append((spline.derivative(derivative) if derivative else spline)(x.numpy()))
    return np.stack(found, 1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("num_cells", [1, 4, 37])
@pytest.mark.parametrize("kind", ["even", "even, general path", "uneven"])
def test_bases_and_derivatives_are_scipys(order: int, num_cells: int, kind: str) -> None:
    knots = (
        uneven(num_cells, order)
        if kind == "uneven"
        else splines.make_knots(-1.0, 2.0, num_cells, order, dtype=torch.float64)
    )
    x = points(knots, order)
    for derivative in range(order + 1):
        first, value = splines.local_bases(x[:, None], knots[None], order, derivative=derivative, even=kind == "even")
        ours = splines.spread(first, value, num_cells + order)[:, 0].numpy()
        wanted = scipy_bases(x, knots, order, derivative)
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-12 * max(1.0, abs(wanted).max()))


@pytest.mark.parametrize("order", ORDERS)
def test_bases_are_a_partition_of_unity_and_not_negative(order: int) -> None:
    knots = uneven(7, order)
    x = torch.linspace(-1, 2, 101, dtype=torch.float64)[:, None]
    _, value = splines.local_bases(x, knots[None], order)
    assert float((value.sum(-1) - 1).abs().max()) < 1e-14
    assert float(value.min()) >= 0


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("even", [True, False])
def test_gradients(order: int, even: bool) -> None:
    knots = splines.make_knots(-1.0, 2.0, 5, order, dtype=torch.float64)[None]
    # Not at knots, where the highest derivatives jump.
    x = torch.linspace(-0.93, 1.88, 9, dtype=torch.float64)[:, None].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: splines.local_bases(x, knots, order, even=even)[1], x)
    if order > 1:
        assert torch.autograd.gradgradcheck(lambda x: splines.local_bases(x, knots, order, even=even)[1], x)


def test_derivatives_beyond_the_order_vanish() -> None:
    knots = splines.make_knots(0.0, 1.0, 4, 2)[None]
    assert not splines.local_bases(torch.rand(5, 1), knots, 2, derivative=3)[1].any()


@given(
    order=st.integers(0, 5),
    cells=st.integers(1, 90),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    batch=st.integers(0, 7),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_local_sums_are_plain_sums(order: int, cells: int, inputs: int, outputs: int, batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, batch, inputs, generator=generator, dtype=torch.float64)
    knots = splines.make_knots(0.0, 1.0, cells, order, dtype=torch.float64).expand(2, inputs, -1)
    coef = torch.randn(2, inputs, cells + order, outputs, generator=generator, dtype=torch.float64)
    found = []
    for add in (splines.sum_plain, splines.sum_local):
        own_x, own_coef = x.clone().requires_grad_(), coef.clone().requires_grad_()
        y = add(*splines.local_bases(own_x, knots, order), own_coef)
        assert y.shape == (2, batch, outputs)
        weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape)
        grads = torch.autograd.grad((y * weights).sum(), [own_x, own_coef], materialize_grads=True)
        found.append([y, *grads])
    for plain, local in zip(*found, strict=True):
        torch.testing.assert_close(local, plain, rtol=1e-10, atol=1e-11 * cells)


def test_local_sums_have_second_derivatives() -> None:
    knots = splines.make_knots(0.0, 1.0, 6, 3, dtype=torch.float64)[None]
    coef = torch.randn(1, 9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    x = torch.tensor([[0.11], [0.52], [0.93]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, c: splines.sum_local(*splines.local_bases(x, knots, 3), c), (x, coef))


def test_only_what_is_not_zero_gets_a_gradient() -> None:
    knots = splines.make_knots(0.0, 1.0, 100, 3)[None]
    coef = torch.zeros(1, 103, 1, requires_grad=True)
    splines.sum_local(*splines.local_bases(torch.tensor([[0.5]]), knots, 3), coef).sum().backward()
    assert coef.grad is not None and int((coef.grad != 0).sum()) <= 4


def test_fit_recovers_a_spline_and_survives_cells_without_data() -> None:
    knots = uneven(6, 3)
    coef = torch.randn(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.linspace(-1, 2, 200, dtype=torch.float64)
    y = splines.evaluate_spline(x, knots, coef, 3)
    matrix = splines.design_matrix(x[:, None], knots[None], 3)[:, 0]
    torch.testing.assert_close(splines.fit_coefficients(matrix, y[:, None])[:, 0], coef, rtol=1e-6, atol=1e-6)
    half = splines.fit_coefficients(matrix[:60], y[:60, None])
    assert bool(half.isfinite().all())
    torch.testing.assert_close(matrix[:60] @ half, y[:60, None], rtol=1e-5, atol=1e-5)


def test_derivative_of_a_spline_is_scipys() -> None:
    knots = uneven(6, 4)
    coef = torch.randn(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.linspace(-1, 2, 50, dtype=torch.float64)
    wanted = BSpline(knots.numpy(), coef.numpy(), 4).derivative(2)(x.numpy())
    np.testing.assert_allclose(
        splines.evaluate_spline(x, knots, coef, 4, derivative=2).numpy(), wanted, rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: splines.make_knots(0.0, 1.0, 0, 3), "num_cells"),
        (lambda: splines.make_knots(0.0, 1.0, 3, 6), "order"),
        (lambda: splines.make_knots(1.0, 1.0, 3, 2), "high must be above low"),
        (lambda: splines.fit_coefficients(torch.zeros(3, 2), torch.zeros(4, 1)), "as many rows"),
        (
            lambda: splines.evaluate_spline(torch.zeros(2, 1), torch.zeros(4), torch.zeros(2), 1),
            "x must have 1 dimension",
        ),
    ],
)
def test_bad_input_is_one_sentence(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
