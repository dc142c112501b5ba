import json
import math
import pathlib

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciviz.ntk import (
    CLOSED_FORM_ACTIVATIONS,
    apply_ensemble,
    dual_activation,
    ensemble_ntk,
    infinite_kernels,
    init_ensemble,
    kernel_recursion,
)
from sciviz.ntk import infinite as module_under_test

REFERENCE = json.loads((pathlib.Path(__file__).parent / "reference" / "neural_tangents.json").read_text())
VARIANCES = [(2.0, 0.0), (1.3, 0.4)]


def samples(n, d=3, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normalised_error(actual, expected, X1, X2, **kw):
    """Largest difference relative to the kernels' own size at the two points, √(K(x, x) K(x', x'))."""
    worst = 0.0
    for name in ("nngp", "ntk"):
        one = getattr(kernel_recursion(X1, **kw), name).diagonal()
        two = getattr(kernel_recursion(X2, **kw), name).diagonal()
        size = (one[:, None] * two[None, :]).sqrt()
        worst = max(worst, float(((getattr(actual, name) - getattr(expected, name)).abs() / size).max()))
    return worst


@pytest.mark.parametrize("case", REFERENCE["infinite"], ids=lambda c: f"{c['activation']}-{c['depth']}-{c['bias']}")
@pytest.mark.parametrize("function", [infinite_kernels, kernel_recursion])
def test_agrees_with_neural_tangents(case, function):
    X1, X2 = (torch.tensor(REFERENCE[name], dtype=torch.float64) for name in ("X1", "X2"))
    names = ("activation", "depth", "weight_variance", "bias_variance", "bias")
    kernels = function(X1, X2, **{name: case[name] for name in names})
    for name in ("nngp", "ntk"):
        expected = torch.tensor(case[name], dtype=torch.float64)
        torch.testing.assert_close(getattr(kernels, name), expected, rtol=1e-10, atol=1e-11)


def fifty_digits(x, y, depth, activation, weight_variance, bias_variance):
    """The recursion for one pair of points with 50 decimal digits, written independently of the package."""
    with mpmath.workdps(50):
        cw, cb = mpmath.mpf(weight_variance), mpmath.mpf(bias_variance)
        x, y = ([mpmath.mpf(v) for v in point.tolist()] for point in (x, y))

        def dual(a, b, c):
            if activation == "relu":
                if a == 0 or b == 0:
                    return mpmath.mpf(0), mpmath.mpf(1) / 4
                cosine = max(-1, min(1, c / mpmath.sqrt(a * b)))
                t = mpmath.acos(cosine)
                j = mpmath.sin(t) + (mpmath.pi - t) * cosine
                return mpmath.sqrt(a * b) * j / (2 * mpmath.pi), (mpmath.pi - t) / (2 * mpmath.pi)
            if activation == "erf":
                z = 2 * c / mpmath.sqrt((1 + 2 * a) * (1 + 2 * b))
                return (
                    2 / mpmath.pi * mpmath.asin(z),
                    4 / mpmath.pi / mpmath.sqrt((1 + 2 * a) * (1 + 2 * b) - 4 * c**2),
                )
            half = mpmath.exp(-(a + b) / 2)
            return half * mpmath.sinh(c), half * mpmath.cosh(c)

        def inner(u, v):
            return cw * mpmath.fsum(p * q for p, q in zip(u, v, strict=True)) / len(u) + cb

        a, b, c = inner(x, x), inner(y, y), inner(x, y)
        ntk = c
        for _ in range(depth):
            value, derivative = dual(a, b, c)
            a, b, c = cw * dual(a, a, a)[0] + cb, cw * dual(b, b, b)[0] + cb, cw * value + cb
            ntk = c + cw * derivative * ntk
        return float(c), float(ntk)


def difficult_points():
    """A point; itself, scaled, opposite; neighbours of these at distances from 1e-1 to 1e-13; one far away."""
    base = samples(1, 4, seed=1)[0]
    aside = samples(1, 4, seed=2)[0]
    near = [base + step * aside for step in (0.0, 1e-13, 1e-10, 1e-8, 1e-7, 1e-6, 1e-4, 1e-3, 1e-1)]
    return torch.stack([*near, 3.0 * base, -base, -base + 1e-7 * aside, -2 * base + 1e-4 * aside, aside])


@pytest.mark.parametrize("activation", CLOSED_FORM_ACTIVATIONS)
@pytest.mark.parametrize("variances", VARIANCES)
@pytest.mark.parametrize("depth", [1, 3, 12])
@pytest.mark.parametrize("split", [False, True])
def test_ten_digits_even_where_points_are_nearly_parallel_or_opposite(activation, variances, depth, split):
    points = difficult_points()
    kw = {"depth": depth, "activation": activation, "weight_variance": variances[0], "bias_variance": variances[1]}
    X1, X2 = (points, None) if not split else (points[:3], points)
    kernels = infinite_kernels(X1, X2, **kw)
    sizes = [fifty_digits(x, x, *kw.values()) for x in points]
    for i in range(0, len(X1), 2):
        for j in range(len(points)):
            exact = fifty_digits(X1[i], points[j], *kw.values())
            for kernel, value, own1, own2 in zip(kernels, exact, sizes[i], sizes[j], strict=True):
                assert abs(float(kernel[i, j]) - value) <= 1e-10 * math.sqrt(own1 * own2), (i, j)


def test_the_plain_form_loses_half_its_digits_there_as_it_says():
    points = difficult_points()[:9]
    kw = {"depth": 3, "activation": "relu", "weight_variance": 2.0, "bias_variance": 0.0}
    fast, plain = infinite_kernels(points, **kw), kernel_recursion(points, **kw)
    difference = float((fast.ntk - plain.ntk).abs().max() / fast.ntk.max())
    assert 1e-10 < difference < 1e-6


@pytest.mark.parametrize("activation", CLOSED_FORM_ACTIVATIONS)
@pytest.mark.parametrize("variances", VARIANCES)
@pytest.mark.parametrize("bias", ["all", "first"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 3), (6, 2, 5), (70, 1100, 9)])
def test_the_fast_form_is_the_plain_form(activation, variances, bias, shape):
    n1, n2, d = shape
    X1, X2 = samples(n1, d), samples(n2, d, seed=1) * torch.linspace(0.2, 3, n2, dtype=torch.float64)[:, None]
    kw = {"depth": 4, "activation": activation, "weight_variance": variances[0], "bias_variance": variances[1]}
    kw["bias"] = bias
    fast, plain = infinite_kernels(X1, X2, **kw), kernel_recursion(X1, X2, **kw)
    # One feature makes all points exactly parallel or opposite, where the plain form is good to half of the digits.
    assert normalised_error(fast, plain, X1, X2, **kw) <= (1e-7 if d == 1 else 1e-11)


@pytest.mark.parametrize("activation", CLOSED_FORM_ACTIVATIONS)
def test_the_kernel_of_points_with_themselves_is_symmetric_and_the_cross_kernel(activation, monkeypatch):
    X = samples(23, 4)
    kw = {"depth": 3, "activation": activation, "weight_variance": 1.5, "bias_variance": 0.2}
    alone = infinite_kernels(X, **kw)
    cross = infinite_kernels(X, X.clone(), **kw)
    monkeypatch.setattr(module_under_test, "_TILE_ENTRIES", 100)
    tiled = infinite_kernels(X, **kw)
    for name in ("nngp", "ntk"):
        assert torch.equal(getattr(alone, name), getattr(alone, name).T)
        torch.testing.assert_close(getattr(alone, name), getattr(cross, name), rtol=1e-13, atol=1e-14)
        torch.testing.assert_close(getattr(alone, name), getattr(tiled, name), rtol=1e-13, atol=1e-14)


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from(CLOSED_FORM_ACTIVATIONS), st.floats(0.0, 2.0))
@settings(max_examples=40, deadline=None)
def test_kernels_are_positive_semi_definite_and_the_tangent_kernel_dominates(seed, depth, activation, bias_variance):
    X = samples(8, 3, seed)
    kernels = infinite_kernels(X, depth=depth, activation=activation, bias_variance=bias_variance)
    for matrix in (kernels.nngp, kernels.ntk, kernels.ntk - kernels.nngp):
        assert float(torch.linalg.eigvalsh(matrix)[0]) >= -1e-12 * float(matrix.diagonal().max())


def test_relu_kernels_scale_with_the_inputs_where_there_is_no_bias():
    X = samples(6)
    one, two = infinite_kernels(X, depth=3), infinite_kernels(1e3 * X, depth=3)
    torch.testing.assert_close(two.ntk, 1e6 * one.ntk, rtol=1e-12, atol=0)


def test_a_point_at_the_origin_is_no_division_by_zero():
    X = torch.cat([torch.zeros(1, 3, dtype=torch.float64), samples(2)])
    kernels = infinite_kernels(X, depth=2, weight_variance=2.0)
    assert kernels.ntk[0].tolist() == [0.0, 0.0, 0.0]
    assert bool(infinite_kernels(X, depth=2, bias_variance=0.1).ntk.isfinite().all())


@pytest.mark.parametrize("activation", CLOSED_FORM_ACTIVATIONS)
def test_dual_activation_is_the_gaussian_expectation(activation):
    covariance = torch.tensor([[1.2, 0.5], [0.5, 0.7]], dtype=torch.float64)
    draws = samples(400_000, 2) @ torch.linalg.cholesky(covariance).T
    phi = {"relu": torch.relu, "erf": torch.erf, "sine": torch.sin}[activation]
    u = draws.clone().requires_grad_()
    (slope,) = torch.autograd.grad(phi(u).sum(), u)
    value, derivative = dual_activation(activation, covariance[0, 1], covariance[0, 0], covariance[1, 1])
    for exact, product in ((value, phi(draws).prod(1)), (derivative, slope.prod(1))):
        error = float(product.std()) / math.sqrt(len(product))
        assert abs(float(product.mean()) - float(exact)) <= 5 * error


@pytest.mark.parametrize("activation", CLOSED_FORM_ACTIVATIONS)
def test_nngp_is_the_covariance_of_wide_networks(activation):
    X = samples(3)
    kw = {"depth": 2, "activation": activation, "weight_variance": 1.5, "bias_variance": 0.2}
    network, params = init_ensemble(6000, input_dim=3, width=64, **kw, seed=0, dtype=torch.float64)
    outputs = apply_ensemble(network, params, X).squeeze(2)
    exact = infinite_kernels(X, **kw).nngp
    torch.testing.assert_close(outputs.T @ outputs / len(outputs), exact, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("activation", CLOSED_FORM_ACTIVATIONS)
def test_empirical_kernels_approach_the_limit_at_one_over_the_root_of_the_width(activation):
    X = samples(4)
    kw = {"depth": 1, "activation": activation, "weight_variance": 1.5, "bias_variance": 0.2}
    exact = infinite_kernels(X, **kw).ntk
    widths, errors = (64, 256, 1024), []
    for width in widths:
        network, params = init_ensemble(60, input_dim=3, width=width, **kw, seed=width, dtype=torch.float64)
        kernels = ensemble_ntk(network, params, X)
        errors.append(float((kernels - exact).square().mean().sqrt() / exact.abs().mean()))
    slope = math.log(errors[-1] / errors[0]) / math.log(widths[-1] / widths[0])
    assert slope == pytest.approx(-0.5, abs=0.08)
    # With one hidden layer the limit is the mean at every width.
    standard_error = kernels.std(0) / math.sqrt(len(kernels))
    assert bool(((kernels.mean(0) - exact).abs() <= 5 * standard_error).all())


def test_other_floating_types_are_computed_in_double_precision():
    X = samples(3).float()
    kernels = infinite_kernels(X, depth=1)
    assert kernels.ntk.dtype == torch.float64
    assert torch.equal(kernels.ntk, infinite_kernels(X.double(), depth=1).ntk)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "depth must be an integer of at least 1, got 0"),
        ({"activation": "tanh"}, "activation must be one of 'relu', 'erf', 'sine', got 'tanh'"),
        ({"weight_variance": -1.0}, "weight_variance must be a finite number greater than 0"),
        ({"bias_variance": float("nan")}, "bias_variance must be a finite number of at least 0"),
        ({"bias": "last"}, "bias must be one of"),
        ({"X1": torch.zeros(3)}, "X1 must have 2 dimensions"),
        ({"X2": torch.zeros(3, 5)}, "X1 and X2 must have the same last dimension"),
        ({"X1": torch.full((2, 3), math.inf)}, "X1 must hold finite numbers only"),
        ({"X2": torch.full((2, 3), math.nan)}, "X2 must hold finite numbers only"),
    ],
)
def test_bad_input_gets_one_sentence(change, message):
    for function in (infinite_kernels, kernel_recursion):
        with pytest.raises(ValueError, match=message):
            function(**({"X1": torch.ones(2, 3), "X2": torch.ones(4, 3), "depth": 1} | change))
