"""Training, pruning and formulas: each against what is known beforehand."""

from __future__ import annotations

import math

import pytest
import sympy
import torch

from sciviz.kan.layers import KANLayer
from sciviz.kan.networks import KAN, BatchedMLP
from sciviz.kan.pruning import prune_edges, prune_nodes, scores
from sciviz.kan.symbolic import (
    LIBRARY,
    fit_form,
    fix_edge,
    formula,
    formula_difference,
    make_symbolic,
    suggest_curve,
)
from sciviz.kan.training import jacobian, levenberg_marquardt, regularization, rmse, train


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


def target(X: torch.Tensor) -> torch.Tensor:
    return torch.exp(torch.sin(math.pi * X[:, :1]) + X[:, 1:] ** 2)


@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize("kind", ["bspline", "rational", "mlp", "fixed edge"])
def test_jacobian_is_autograds(members: int | None, kind: str) -> None:
    if kind == "fixed edge" and members:
        pytest.skip("formulas are fixed in single networks")
    X = uniform(6, 2)
    y = torch.zeros(6, 2, dtype=torch.float64)
    model: KAN | BatchedMLP
    if kind == "mlp":
        model = BatchedMLP([2, 3, 2], seed=0, members=members, dtype=torch.float64)
    else:
        basis = kind if kind in ("bspline", "rational") else "bspline"
        model = KAN([2, 3, 2], seed=0, basis=basis, members=members, dtype=torch.float64)
    if kind == "fixed edge":
        assert isinstance(model, KAN)
        fix_edge(model, 0, 1, 2, "sin", X)
    residuals, rows = jacobian(model, X, y)
    outputs = model(X).reshape(members or 1, -1)
    for member in range(members or 1):
        for row in range(outputs.shape[1]):
            grads = torch.autograd.grad(
                outputs[member, row], list(model.parameters()), retain_graph=True, materialize_grads=True
            )
            wanted = torch.cat([g.reshape(members or 1, -1)[member] for g in grads])
            found = rows.reshape(members or 1, outputs.shape[1], -1)[member, row]
            torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(residuals.reshape(outputs.shape), outputs.detach())


def test_members_train_as_if_alone() -> None:
    X = uniform(80, 2)
    together = KAN([2, 2, 1], seed=3, members=2, num_cells=3, dtype=torch.float64)
    alone = together.member(1)
    both = train(together, X, target(X), num_steps=6, follow=(2,))
    one = train(alone, X, target(X), num_steps=6, follow=(2,))
    torch.testing.assert_close(both.loss[:, 1], one.loss[:, 0], rtol=1e-6, atol=1e-9)


def test_least_squares_is_solved_in_a_step_where_it_is_linear() -> None:
    X = uniform(50, 1)
    model = KAN([1, 1], seed=0, base=None, dtype=torch.float64)
    levenberg_marquardt(model, X, X.exp(), num_steps=25)
    matrix = model[0].basis.values(X)[:, 0]
    best = torch.linalg.lstsq(matrix, X.exp()).solution
    assert float(rmse(model, X, X.exp())) == pytest.approx(
        float((matrix @ best - X.exp()).square().mean().sqrt()), rel=1e-3
    )


def test_loss_never_rises_and_the_fit_is_good() -> None:
    X, T = uniform(1000, 2), uniform(500, 2, seed=1)
    model = KAN([2, 5, 1], seed=0, dtype=torch.float64)
    history = train(model, X, target(X), num_steps=30, test=(T, target(T)))
    assert bool((history.loss.diff(dim=0) <= 1e-15).all())
    assert history.test_loss is not None and float(history.test_loss[-1]) ** 0.5 < 4.2e-3


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
def test_gradient_methods_learn(method: str) -> None:
    X = uniform(100, 1)
    model = KAN([1, 1], seed=0, dtype=torch.float64)
    steps = 3 if method == "lbfgs" else 200
    history = train(model, X, X.sin(), method=method, num_steps=steps, lr=None if method == "lbfgs" else 0.05)
    assert float(history.loss[-1]) < 1e-4 < float(history.loss[0])


def test_residuals_may_differentiate() -> None:
    X = torch.linspace(0, 1, 21, dtype=torch.float64)[:, None]

    def residual(function, x, y):  # type: ignore[no-untyped-def]
        x = x.detach().requires_grad_()
        u = function(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return torch.cat([slope - u, (function(torch.zeros_like(x)) - 1)], -1)  # u' = u, u(0) = 1

    model = KAN([1, 1], seed=0, num_cells=6, low=0.0, members=2, dtype=torch.float64)
    levenberg_marquardt(model, X, X, num_steps=10, residual=residual)
    assert float((model(X) - X.exp()).abs().max()) < 1e-3


def test_regularization_is_the_sum_it_says() -> None:
    X = uniform(30, 2)
    model = KAN([2, 2], seed=0, dtype=torch.float64)
    norms = model[0].edges(X).abs().mean(0)
    shares = norms / norms.sum()
    y, penalty = regularization(model, X, entropy=2.0)
    assert float(penalty) == pytest.approx(float(norms.sum() - 2 * (shares * shares.log()).sum()), rel=1e-9)
    torch.testing.assert_close(y, model(X))


def test_what_cannot_be_trained_so_says_so() -> None:
    X = uniform(10, 2)
    with pytest.raises(ValueError, match="line search"):
        train(KAN([2, 1], seed=0, members=2), X, X[:, :1], method="lbfgs")
    with pytest.raises(ValueError, match="lamb"):
        train(KAN([2, 1], seed=0), X, X[:, :1], lamb=0.1)
    with pytest.raises(ValueError, match="method"):
        train(KAN([2, 1], seed=0), X, X[:, :1], method="sgd")


# ------------------------------------------------------------------------------------------------------------ pruning


def zero_edge(layer: KANLayer, i: int, o: int) -> None:
    with torch.no_grad():
        layer.coef[i, :, o] = 0
        if layer.base_weight is not None:
            layer.base_weight[i, o] = 0


def test_pruning_finds_what_does_nothing_and_keeps_the_outputs() -> None:
    X = uniform(50, 2)
    model = KAN([2, 4, 1], seed=0, dtype=torch.float64)
    zero_edge(model[0], 0, 1)
    zero_edge(model[1], 3, 0)
    found = scores(model, X)
    assert float(found.edges[0][0, 1]) == 0 and float(found.nodes[1][3]) == 0
    fewer = prune_edges(model, X, threshold=1e-6)
    assert float(fewer[0].active()[0, 1]) == 0 and float(fewer[0].active()[1, 1]) == 1
    torch.testing.assert_close(fewer(X), model(X))
    small = prune_nodes(model, X, threshold=1e-6)
    assert small.widths == [2, 3, 1]
    torch.testing.assert_close(small(X), model(X))
    assert small.num_active() < model.num_active()


def test_edges_that_are_kept_keep_their_functions() -> None:
    X = uniform(50, 2)
    model = KAN([2, 4, 1], seed=0, dtype=torch.float64, learn_scales=True)
    edges = scores(model, X).edges[1][:, 0]
    threshold = float(edges.sort().values[1:3].mean())
    kept = [n for n in range(4) if float(scores(model, X).nodes[1][n]) >= threshold]
    small = prune_nodes(model, X, threshold=threshold)
    torch.testing.assert_close(small[0].edges(X), model[0].edges(X)[..., kept])
    values = model.activations(X)[1]
    torch.testing.assert_close(small[1].edges(values[:, kept]), model[1].edges(values)[:, kept])


def test_pruned_edges_stay_away_in_training() -> None:
    X = uniform(60, 2)
    model = KAN([2, 1], seed=0, dtype=torch.float64)
    model[0].switch_off(1, 0)
    train(model, X, target(X), num_steps=5)
    assert torch.equal(model(X), model(X * torch.tensor([1.0, 0.3], dtype=torch.float64)))


# ----------------------------------------------------------------------------------------------------------- formulas

SHIFTED = {
    name: (1.7, 0.4 if name not in ("log", "sqrt", "1/x", "1/x^2") else 3.0, -2.0, 0.5)
    for name in LIBRARY
    if name not in ("0",)
}


@pytest.mark.parametrize("name", SHIFTED)
def test_each_function_is_found_again(name: str) -> None:
    a, b, c, d = SHIFTED[name]
    x = torch.linspace(-1, 1, 201, dtype=torch.float64)
    y = c * LIBRARY[name].function(a * x + b) + d
    best = fit_form(x, y, name)
    assert best.r2 > 1 - 1e-6
    fitted = best.c * LIBRARY[name].function(best.a * x + best.b) + best.d
    assert float((fitted - y).abs().max()) < 5e-3 * float(y.abs().max())


@pytest.mark.parametrize("name", ["x", "x^2", "exp", "sin", "log"])
def test_the_simplest_that_fits_ranks_first(name: str) -> None:
    x = torch.linspace(0.2, 3, 150, dtype=torch.float64)
    assert suggest_curve(x, 1.5 * LIBRARY[name].function(2 * x) - 0.3)[0].name == name


def test_a_constant_is_explained_by_a_constant_alone() -> None:
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)
    found = suggest_curve(x, torch.full_like(x, 3.0))
    assert found[0].name == "0" and found[0].d == 3.0


def test_functions_are_not_used_where_they_are_not_defined() -> None:
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    found = fit_form(x, x.sin(), "log")
    assert bool((found.a * x + found.b > 0).all())


def test_formula_is_the_network() -> None:
    X, fresh = uniform(300, 2), uniform(200, 2, seed=5)
    model = KAN([2, 1, 1], seed=0, num_cells=6, dtype=torch.float64)
    train(model, X, target(X), num_steps=30, follow=(2, 6), blend=1.0)
    symbolic, chosen = make_symbolic(model, X, target(X))
    assert {edge[:3]: edge[3].name for edge in chosen} == {(0, 0, 0): "sin", (0, 1, 0): "x^2", (1, 0, 0): "exp"}
    assert formula_difference(symbolic, fresh) < 1e-10
    assert float(rmse(symbolic, fresh, target(fresh))) < 1e-8
    x, y = sympy.symbols("x y")
    found = formula(symbolic, ["x", "y"], digits=4)[0]
    assert sympy.simplify(found - sympy.exp(sympy.sin(sympy.pi * x) + y**2)) == 0


def test_formula_needs_every_edge() -> None:
    X = uniform(30, 2)
    model = KAN([2, 1], seed=0, dtype=torch.float64)
    fix_edge(model, 0, 0, 0, "sin", X)
    with pytest.raises(ValueError, match=r"\(0, 1, 0\)"):
        formula(model)
    model[0].switch_off(1, 0)
    assert str(formula(model)[0]).count("sin") == 1
    with pytest.raises(ValueError, match="variables"):
        formula(model, ["x"])
    with pytest.raises(ValueError, match="no edge"):
        fix_edge(model, 0, 2, 0, "sin", X)
    with pytest.raises(ValueError, match="ensemble"):
        formula(KAN([2, 1], seed=0, members=2))
