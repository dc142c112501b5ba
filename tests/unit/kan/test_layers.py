"""Layers and networks: families behind one interface, grids that follow and extend, ensembles, variance, extrapolation."""

from __future__ import annotations

import copy

import pytest
import torch

from sciviz.kan.bases import BASES, BSplines, Fourier, Rational
from sciviz.kan.layers import KANLayer
from sciviz.kan.networks import KAN, BatchedMLP


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand(*shape, generator=generator(seed), dtype=torch.float64) - 1


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("base", ["silu", None])
def test_every_family_has_the_same_interface(basis: str, base: str | None) -> None:
    model = KAN([2, 4, 1], seed=0, basis=basis, base=base, learn_scales=True, members=3, dtype=torch.float64)
    x = uniform(9, 2)
    y = model(x)
    assert y.shape == (3, 9, 1)
    assert model(x[:0]).shape == (3, 0, 1)
    values = model.activations(x)
    torch.testing.assert_close(model[1].edges(values[1]).sum(-2), y)
    y.sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    torch.testing.assert_close(model.member(1)(x), y[1])
    assert model.num_active() == sum(p.numel() for p in model.member(0).parameters())


@pytest.mark.parametrize("basis", BASES)
def test_following_data_keeps_the_function_or_reports_the_difference(basis: str) -> None:
    layer = KANLayer(2, 3, basis=basis, generator=generator()).double()
    x = uniform(400, 2) * 0.8
    before = layer.edges(x)
    reported = layer.follow(x, blend=0.5)
    after = layer.edges(x)
    assert abs(float((after - before).detach().abs().max()) - reported) < 1e-9
    if basis in ("bspline", "rational"):
        assert reported < 0.1


@pytest.mark.parametrize("order", range(6))
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 2, 5)])
def test_any_order_any_size(order: int, sizes: tuple[int, int, int]) -> None:
    inputs, outputs, cells = sizes
    layer = KANLayer(inputs, outputs, generator=generator(), num_cells=cells, order=order)
    assert layer(torch.linspace(-3, 3, 11)[:, None].expand(11, inputs)).isfinite().all()
    assert layer(torch.zeros(0, inputs)).shape == (0, outputs)


def test_extension_keeps_the_function() -> None:
    x = uniform(300, 2)
    model = KAN([2, 3, 1], seed=0, num_cells=4, dtype=torch.float64)
    model.follow(x, blend=1.0)
    before = model(x)
    assert model.extend(12, x) < 1e-5  # every old knot is a new one
    assert model[0].basis.num_bases == 15
    assert float((model(x) - before).abs().max().detach()) < 1e-4
    coarse = copy.deepcopy(model)
    reported = coarse.extend(5, x)
    assert reported > 1e-4  # fewer cells cannot hold what was there, and that is said


def test_a_grid_follows_quantiles() -> None:
    basis = BSplines(1, num_cells=4).double()
    x = uniform(1000, 1) ** 3
    basis.follow(x, blend=0.0)
    inner = basis.knots[0, 3:8]
    shares = [float((x <= knot).double().mean()) for knot in inner]
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1.0], abs=0.01)
    basis.follow(torch.zeros(50, 1, dtype=torch.float64), blend=0.02)
    assert bool((basis.knots.diff() > 0).all())


@pytest.mark.parametrize("extrapolation", ["linear", "polynomial", "zero"])
def test_extrapolation_is_what_it_says(extrapolation: str) -> None:
    layer = KANLayer(1, 1, base=None, generator=generator(), extrapolation=extrapolation).double()
    x = torch.tensor([[1.0], [1.5], [2.0], [2.5]], dtype=torch.float64)
    y = layer(x)[:, 0].detach()
    second = y.diff().diff()
    if extrapolation == "zero":
        assert not y[1:].any()
    elif extrapolation == "linear":
        assert float(second.abs().max()) < 1e-12
        inside = torch.tensor([[1.0 - 1e-6]], dtype=torch.float64)
        slope = float((layer(x[:1]) - layer(inside)).detach()) / 1e-6
        assert float(y[1] - y[0]) / 0.5 == pytest.approx(slope, rel=1e-4)
    else:
        assert float(second.abs().max()) > 1e-3
        assert abs(float(second.diff())) > 0 and abs(float(y.diff().diff().diff().diff().sum())) < 1e-9


@pytest.mark.parametrize("extrapolation", ["linear", "polynomial"])
def test_gradients_inside_and_outside_the_grid(extrapolation: str) -> None:
    layer = KANLayer(2, 2, generator=generator(), extrapolation=extrapolation).double()
    x = torch.tensor([[-1.7, 0.13], [0.51, 1.4], [-0.33, 0.77]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


def test_rational_functions_are_shared_in_groups() -> None:
    basis = Rational(6, num_groups=2)
    assert sum(p.numel() for p in basis.parameters()) == 2 * (6 + 4)
    with torch.no_grad():
        basis.numerator[1] *= 2
    values = basis.values(torch.full((1, 6), 0.7))[0, :, 0]
    assert values[:3].unique().numel() == 1 and values[3:].unique().numel() == 1
    assert float(values[3]) == pytest.approx(2 * float(values[0]))


def test_fourier_need_not_agree_at_the_ends() -> None:
    u = torch.linspace(-1, 1, 101, dtype=torch.float64)[:, None]
    values = Fourier(1, num_waves=12).double().values(u)[:, 0]
    # The values at both ends of a line can be fitted, which a series of the range's own period could not.
    solution = torch.linalg.lstsq(values, u).solution
    assert float((values @ solution - u).abs().max()) < 1e-3


@pytest.mark.parametrize("basis", ["bspline", "chebyshev", "fourier", "radial", "rational"])
def test_the_start_keeps_the_variance(basis: str) -> None:
    torch.manual_seed(0)
    x = uniform(500, 64) * (1 if basis != "rational" else 3)
    model = KAN([64, 64, 64, 64], seed=1, basis=basis, dtype=torch.float64)
    sizes = [float(v.square().mean()) for v in model.activations(x)]
    assert all(0.4 < after / sizes[0] < 2.5 for after in sizes[1:]), sizes


def test_members_are_independent_and_differ() -> None:
    x = uniform(20, 2)
    model = KAN([2, 3, 1], seed=0, members=3, dtype=torch.float64)
    y = model(x)
    assert float((y[0] - y[1]).abs().max()) > 1e-3
    with torch.no_grad():
        model[0].coef[2] += 1.0
    changed = model(x)
    assert torch.equal(changed[:2], y[:2]) and not torch.equal(changed[2], y[2])
    assert BatchedMLP([2, 5, 1], seed=0, members=3, dtype=torch.float64)(x).shape == (3, 20, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KAN([2], seed=0), "widths"),
        (lambda: KAN([2, 0, 1], seed=0), "width"),
        (lambda: KAN([2, 1], seed=0, basis="splines"), "basis"),
        (lambda: KAN([2, 1], seed=0, extrapolation="flat"), "extrapolation"),
        (lambda: KAN([2, 1], seed=0)(torch.zeros(3, 4)), "2 features"),
        (lambda: Rational(5, num_groups=2), "num_groups"),
    ],
)
def test_bad_input_is_one_sentence(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


def test_only_splines_extend() -> None:
    with pytest.raises(TypeError, match="Chebyshev"):
        KAN([1, 1], seed=0, basis="chebyshev").extend(10, torch.zeros(2, 1))
