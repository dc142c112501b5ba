"""The Mittag-Leffler function against closed forms and recursions; the layer against the activations it equals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciviz.kan.counterparts import MLP, Ensemble
from sciviz.kan.mittag_leffler import (
    SHAPES,
    MittagLefflerActivation,
    family,
    gated_mittag_leffler,
    mittag_leffler_function,
)

X = torch.linspace(-8, 8, 401, dtype=torch.float64)


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_closed_forms():
    close(mittag_leffler_function(X, 1.0), X.exp())
    close(mittag_leffler_function(-X.square(), 2.0), X.cos())
    close(mittag_leffler_function(X.square(), 2.0), X.cosh())
    close(mittag_leffler_function(-X.abs(), 0.0), 1 / (1 + X.abs()))
    away = X[X.abs() > 0.1]
    close(mittag_leffler_function(away, 1.0, 2.0), torch.expm1(away) / away)
    # E_{1/2}(-x) = exp(x²) erfc(x)
    close(mittag_leffler_function(-X.abs(), 0.5), torch.special.erfcx(X.abs()))


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 1.9), st.floats(0.3, 3.0), st.floats(-8.0, 4.0))
def test_the_recursion_in_beta(alpha, beta, z):
    """E_{α,β}(z) = 1/Γ(β) + z E_{α,α+β}(z), and z^(1/α) kept where the series has terms enough."""
    if z > 0 and z ** (1 / alpha) > 20:
        z = 20**alpha * 0.5
    x = torch.tensor([z], dtype=torch.float64)
    right = 1 / math.gamma(beta) + z * mittag_leffler_function(x, alpha, alpha + beta)
    torch.testing.assert_close(mittag_leffler_function(x, alpha, beta), right, rtol=1e-7, atol=1e-7)


def test_gradients():
    z = torch.linspace(-5, 3, 9, dtype=torch.float64, requires_grad=True)
    alpha, beta = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.3, 1.2))
    assert torch.autograd.gradcheck(lambda z, a, b: mittag_leffler_function(z, a, b), (z, alpha, beta))


@pytest.mark.parametrize("name", list(SHAPES))
def test_shapes_equal_their_activations(name):
    close(gated_mittag_leffler(X, SHAPES[name]), SHAPES[name].function(X), 1e-8)


def test_the_layer_interpolates_its_table_and_goes_on_beyond_it():
    layer = MittagLefflerActivation("ELU", num_knots=321)
    x = torch.linspace(-7.9, 7.9, 1001)
    assert (layer(x) - torch.nn.functional.elu(x)).abs().max() < 1e-3
    assert layer(torch.tensor([20.0])).item() == pytest.approx(20.0, abs=1e-3)
    assert layer(torch.zeros(0, 3)).shape == (0, 3)
    layer(x).sum().backward()
    assert layer.free.grad.isfinite().all() and layer.free.grad.abs().min() > 0


def test_alpha_stays_in_its_range_whatever_a_step_does():
    layer = MittagLefflerActivation("softsign")
    for raw in (-0.5, 0.0, 1.3, 2.4, 3.1):
        layer.free.data[0] = raw
        assert 0 <= layer.alpha.item() <= 2
        assert layer(torch.linspace(-8, 8, 9)).isfinite().all()


def test_the_layer_in_an_ensemble():
    nets = [MLP([3, 4, 2], lambda width: MittagLefflerActivation("softsign"), seed=s) for s in range(2)]
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Ensemble(nets)(x), torch.stack([net(x) for net in nets]))
    assert not list(MittagLefflerActivation("ELU", learn=False).parameters())


def test_family_and_bad_input():
    assert family("ELU", torch.tensor([1.0]), torch.tensor([2.0]), X)[0].allclose(torch.nn.functional.elu(X), atol=1e-8)
    with pytest.raises(ValueError, match="alpha"):
        mittag_leffler_function(X, 2.5)
    with pytest.raises(ValueError, match="beta"):
        mittag_leffler_function(X, 1.0, 0.0)
    with pytest.raises(ValueError, match="alpha must be greater than 0"):
        mittag_leffler_function(X, 0.0)
    with pytest.raises(ValueError, match="start"):
        MittagLefflerActivation("Elu")
