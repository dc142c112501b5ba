"""Models: shapes, gradients, and the theorem that each rests on."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from sciviz.ode.models import (
    Affine,
    AugmentedNeuralODE,
    ContinuousFlow,
    DeepEquilibrium,
    EquilibriumField,
    GatedRecurrent,
    LatentODE,
    LiquidCell,
    NeuralCDE,
    NeuralODE,
    ResidualStack,
    SubhomogeneousField,
    VectorField,
    anderson,
    control_path,
    divergence,
    integrate_to_steady_state,
    solve_through,
    thompson_distance,
)
from sciviz.ode.signatures import SignatureLasso, signature, signature_multiplications, signature_size


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def series(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    times = torch.rand(3, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).sort(dim=1).values
    visible = torch.rand(3, 6, 2, generator=torch.Generator().manual_seed(seed + 1)) > 0.3
    return times, randn(3, 6, 2, seed=seed + 2), visible


# ------------------------------------------------------------------------------------------------------- ensembles


def test_a_member_of_an_ensemble_is_the_model_of_its_seed() -> None:
    y, together = randn(4, 3), VectorField(3, width=5, seed=[7, 8]).double()
    both = together(0.3, y.expand(2, 4, 3))
    for n, seed in enumerate((7, 8)):
        torch.testing.assert_close(both[n], VectorField(3, width=5, seed=seed).double()(0.3, y))


@pytest.mark.parametrize("kind", ["gru", "latent", "cde"])
def test_series_models_are_the_same_alone_and_in_an_ensemble(kind: str) -> None:
    make = {
        "gru": lambda seed: GatedRecurrent(2, width=5, seed=seed),
        "latent": lambda seed: LatentODE(2, num_latent=3, width=5, seed=seed),
        "cde": lambda seed: NeuralCDE(2, num_hidden=3, width=5, seed=seed),
    }[kind]
    times, X, visible = series()
    alone = make(4).double()(times, X, visible)
    both = make([3, 4]).double()(times.expand(2, 3, 6), X.expand(2, 3, 6, 2), visible.expand(2, 3, 6, 2))
    torch.testing.assert_close(both[1], alone)


def test_members_have_their_own_steps() -> None:
    layer = NeuralODE(lambda t, y: -torch.tensor([1.0, 30.0]).double().view(2, 1, 1) * y, rtol=1e-6, atol=1e-8)
    found = layer.integrate(torch.ones(2, 4, 1, dtype=torch.float64), compact=False)
    slow, fast = found.stats.evaluations.tolist()
    assert fast > slow


# ------------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("gradient", ["solver", "adjoint", "checkpoint"])
def test_neural_ode_gradient(gradient: str) -> None:
    field = VectorField(2, width=4, seed=0).double()
    layer = NeuralODE(field, method="tsit5", rtol=1e-10, atol=1e-10, gradient=gradient)
    assert gradcheck(layer, (randn(3, 2).requires_grad_(),), atol=1e-6)


def test_residual_stack_and_augmented_gradient() -> None:
    field = VectorField(2, width=4, seed=0).double()
    assert gradcheck(ResidualStack(field, num_steps=3), (randn(3, 2).requires_grad_(),))
    layer = AugmentedNeuralODE(VectorField(3, width=4, seed=0).double(), num_extra=1, method="rk4", num_steps=3)
    assert gradcheck(layer, (randn(3, 2).requires_grad_(),))


@pytest.mark.parametrize("kind", ["linear", "rectilinear", "hermite"])
def test_cde_gradient(kind: str) -> None:
    times, X, visible = series()
    model = NeuralCDE(2, num_hidden=3, width=4, kind=kind, seed=0).double()
    assert gradcheck(lambda X: model(times, X, visible), (X.requires_grad_(),))


def test_latent_ode_gradient() -> None:
    times, X, visible = series()
    model = LatentODE(2, num_latent=3, width=4, seed=0).double()
    assert gradcheck(lambda X: model(times, X, visible), (X.requires_grad_(),))
    loss = model.loss(times, X, visible, visible, noise=0.1, generator=torch.Generator().manual_seed(0))
    assert loss.shape == () and bool(loss.isfinite())


def test_liquid_gradient() -> None:
    cell = LiquidCell(2, width=3, seed=0).double()
    assert gradcheck(lambda inputs: cell(inputs, dt=0.2), (randn(4, 2, 2).requires_grad_(),))


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_flow_gradient(trace: str) -> None:
    flow = ContinuousFlow(
        VectorField(2, width=4, seed=0).double(), num_features=2, trace=trace, method="rk4", num_steps=2
    )
    assert gradcheck(lambda x: flow.log_prob(x, torch.Generator().manual_seed(0)), (randn(3, 2).requires_grad_(),))


@pytest.mark.parametrize("solver", ["anderson", "plain", "ode"])
def test_equilibrium_gradient_equals_the_unrolled_one(solver: str) -> None:
    field = EquilibriumField(3, width=4, norm=0.8, seed=0).double()
    layer = DeepEquilibrium(field, width=4, solver=solver, tol=1e-12, max_iterations=2000)
    x, weights = randn(5, 3).requires_grad_(), randn(5, 4, seed=3)
    wanted = [x, *field.parameters()]
    implicit = torch.autograd.grad((layer(x) * weights).sum(), wanted)
    z, g = torch.zeros(5, 4, dtype=torch.float64), field.bind(x)
    for _ in range(200):
        z = g(z)
    unrolled = torch.autograd.grad((z * weights).sum(), wanted)
    for mine, exact in zip(implicit, unrolled, strict=True):
        torch.testing.assert_close(mine, exact, rtol=1e-8, atol=1e-9)
    assert layer.vjps > 0 and bool((layer.evaluations > 0).all())


# ------------------------------------------------------------------------------------------------ residual → ODE


def test_residual_stack_is_eulers_method() -> None:
    field, y = VectorField(2, width=6, seed=0).double(), randn(4, 2)
    ode = NeuralODE(field, method="euler", num_steps=5, duration=2.0)
    torch.testing.assert_close(ResidualStack(field, num_steps=5, duration=2.0)(y), ode(y))


def test_a_flow_on_the_line_keeps_the_order_of_points() -> None:
    layer = NeuralODE(VectorField(1, width=16, seed=3, scale=4.0).double(), rtol=1e-8, atol=1e-9)
    assert bool((layer(torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]).diff(dim=0) > 0).all())


# ---------------------------------------------------------------------------------------------------------- flow


def test_divergence_exact_and_fast_agree_with_the_jacobian() -> None:
    for seed in (0, [0, 1]):
        field = VectorField(3, width=5, depth=2, seed=seed).double()
        y = randn(2, 4, 3) if isinstance(seed, list) else randn(4, 3)
        value, trace = field.with_divergence(0.2, y)
        slow_value, slow_trace = divergence(field, 0.2, y)
        torch.testing.assert_close(value, slow_value)
        torch.testing.assert_close(trace, slow_trace)
    field, y = VectorField(3, width=5, seed=0).double(), randn(4, 3)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda y: field(0.2, y[None])[0]))(y)
    torch.testing.assert_close(field.with_divergence(0.2, y)[1], jacobian.diagonal(dim1=1, dim2=2).sum(-1))


def test_hutchinson_is_unbiased() -> None:
    field, y = VectorField(3, width=5, seed=0).double(), randn(1, 3).expand(20_000, 3)
    noise = torch.randint(0, 2, y.shape, generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    _, random = divergence(field, 0.0, y, noise)
    _, exact = divergence(field, 0.0, y[:1])
    random, exact = random.detach(), exact.detach()
    assert abs(float(random.mean() - exact)) < 4 * float(random.std()) / math.sqrt(len(y))


def test_the_density_of_a_flow_integrates_to_one() -> None:
    flow = ContinuousFlow(VectorField(2, width=8, seed=0).double(), num_features=2, rtol=1e-6, atol=1e-8)
    axis = torch.linspace(-8, 8, 121, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mass = flow.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    assert abs(float(mass) - 1) < 1e-3


def test_the_density_of_a_linear_flow_is_gaussian() -> None:
    flow = ContinuousFlow(lambda t, y: 0.5 * y, num_features=2, rtol=1e-8, atol=1e-10)
    x = randn(5, 2)
    scale = math.exp(0.5)
    exact = torch.distributions.Normal(0.0, scale).log_prob(x).sum(-1)
    torch.testing.assert_close(flow.log_prob(x), exact, rtol=1e-6, atol=1e-7)
    drawn = flow.sample(4000, generator=torch.Generator().manual_seed(0))
    assert abs(float(drawn.std()) - scale) < 0.05


# -------------------------------------------------------------------------------------------------------- series


def test_solve_through_gives_each_sample_its_own_times() -> None:
    times = torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).sort(dim=1).values
    z0 = randn(3, 2)
    path = solve_through(lambda t, z: torch.cos(t) * z, z0, times, num_steps=8)
    exact = z0[:, None] * (times.sin() - times[:, :1].sin()).exp()[..., None]
    torch.testing.assert_close(path, exact, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", ["linear", "rectilinear", "hermite"])
def test_a_control_path_goes_through_the_data_and_its_derivative_is_its_own(kind: str) -> None:
    times, X, _ = series()
    path = control_path(times, X, kind=kind)
    both = torch.cat([times[..., None], X], dim=-1)
    torch.testing.assert_close(path.knots[:, list(path.observation)], both)
    for piece in range(path.knots.shape[1] - 1):
        for s in (0.0, 1.0):
            torch.testing.assert_close(path(piece, s), path.knots[:, piece + int(s)])
        step = 1e-6
        slope = (path(piece, 0.4 + step) - path(piece, 0.4 - step)) / (2 * step)
        torch.testing.assert_close(path.derivative(piece, 0.4), slope, rtol=1e-6, atol=1e-8)


def test_a_hermite_path_has_a_continuous_derivative() -> None:
    times, X, _ = series()
    path, gap = control_path(times, X, kind="hermite"), times.diff(dim=1)
    for piece in range(4):
        before = path.derivative(piece, 1.0) / gap[:, piece, None]
        after = path.derivative(piece + 1, 0.0) / gap[:, piece + 1, None]
        torch.testing.assert_close(before, after)


def test_missing_values_are_filled_from_what_is_visible() -> None:
    times = torch.tensor([[0.0, 1.0, 3.0, 4.0]])
    X = torch.tensor([[[0.0], [9.0], [6.0], [9.0]]])
    visible = torch.tensor([[[True], [False], [True], [False]]])
    assert control_path(times, X, visible, kind="linear").knots[0, :, 1].tolist() == [0.0, 2.0, 6.0, 6.0]
    ahead = control_path(times, X, visible, kind="rectilinear")
    assert ahead.knots[0, list(ahead.observation), 1].tolist() == [0.0, 0.0, 6.0, 6.0]
    nothing = control_path(times, X, torch.zeros_like(visible), kind="hermite")
    assert nothing.knots[0, :, 1].tolist() == [0.0] * 4


def test_what_is_hidden_does_not_reach_the_models() -> None:
    times, X, visible = series()
    other = torch.where(visible, X, torch.full_like(X, 99.0))
    for model in (
        GatedRecurrent(2, width=4, seed=0).double(),
        LatentODE(2, num_latent=3, width=4, seed=0).double(),
        NeuralCDE(2, num_hidden=3, width=4, seed=0).double(),
    ):
        torch.testing.assert_close(model(times, X, visible), model(times, other, visible))


def test_a_rectilinear_cde_does_not_look_ahead() -> None:
    times, X, _ = series()
    model = NeuralCDE(2, num_hidden=3, width=4, kind="rectilinear", seed=0).double()
    changed = X.clone()
    changed[:, 4:] += 5
    torch.testing.assert_close(model(times, X)[:, :4], model(times, changed)[:, :4])


# -------------------------------------------------------------------------------------------------------- liquid


@pytest.mark.parametrize("gate", ["sigmoid", "relu"])
@pytest.mark.parametrize("size", [1.0, 1e6])
def test_liquid_states_stay_between_zero_and_their_amplitude(gate: str, size: float) -> None:
    cell = LiquidCell(2, width=16, gate=gate, amplitude=2.0, seed=0).double()
    x = cell(size * randn(50, 4, 2), dt=0.3)
    zero = torch.zeros_like(cell.amplitude)
    assert bool((x >= torch.minimum(cell.amplitude, zero) - 1e-9).all())
    assert bool((x <= torch.maximum(cell.amplitude, zero) + 1e-9).all())


def test_euler_steps_with_an_unbounded_gate_leave_the_bound() -> None:
    cell = LiquidCell(2, width=16, gate="relu", seed=0).double()
    x = cell(1e3 * randn(20, 4, 2), dt=0.3, solver="euler")
    assert float(x.detach().abs().nan_to_num(nan=1e9).max()) > 1e3


def test_fused_and_euler_steps_agree_as_steps_shrink() -> None:
    cell, inputs = LiquidCell(2, width=8, seed=0).double(), randn(1, 1, 2)
    gaps = []
    for n in (50, 100):
        same = inputs.expand(n, 1, 2)
        gaps.append(float((cell(same, dt=1 / n)[-1] - cell(same, dt=1 / n, solver="euler")[-1]).abs().max()))
    assert gaps[1] < 0.6 * gaps[0]


# ---------------------------------------------------------------------------------------------------- equilibria


def test_subhomogeneous_layers_contract_in_thompsons_metric() -> None:
    for norm in (1.0, 1000.0):
        g = SubhomogeneousField(3, width=8, mu=0.7, norm=norm, seed=0).double().bind(randn(1, 3).abs())
        a, b = randn(50, 8, seed=1).exp(), randn(50, 8, seed=2).exp()
        assert bool((thompson_distance(g(a), g(b)) <= 0.7 * thompson_distance(a, b) + 1e-12).all())


def test_anderson_is_faster_than_plain_iteration_and_finds_the_same() -> None:
    g = EquilibriumField(3, width=10, norm=0.95, seed=0).double().bind(0.1 * randn(6, 3))
    start = torch.zeros(6, 10, dtype=torch.float64)
    with torch.no_grad():
        fast, few = anderson(g, start, tol=1e-9)
        slow, many = anderson(g, start, tol=1e-9, memory=1, max_iterations=2000)
    torch.testing.assert_close(fast, slow, rtol=1e-6, atol=1e-7)
    assert few < many


def test_a_steady_state_is_reached_with_each_samples_own_effort() -> None:
    rates = torch.tensor([[1.0], [5.0], [1.0]], dtype=torch.float64)
    start = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)
    z, evaluations, time = integrate_to_steady_state(lambda z: rates * (1 - z), start, tol=1e-6)
    torch.testing.assert_close(z, torch.ones_like(z), rtol=1e-5, atol=1e-5)
    assert evaluations[2] == 1 and time[2] == 0 and time[1] < time[0]


def test_a_cycle_has_no_steady_state() -> None:
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    with pytest.raises(RuntimeError, match="No steady state within 50 steps"):
        integrate_to_steady_state(lambda z: z @ turn, torch.ones(1, 2), max_num_steps=50)


def test_an_iteration_that_does_not_converge_says_so() -> None:
    with pytest.raises(RuntimeError, match="did not reach tol=1e-06 within 20 evaluations"):
        anderson(lambda z: -z + 1, torch.zeros(1, 2), memory=1, max_iterations=20)
    with pytest.raises(RuntimeError, match="left the finite numbers"):
        anderson(lambda z: z * z + 2, torch.full((1, 2), 9.0), memory=1, max_iterations=200)


# ---------------------------------------------------------------------------------------------------- signatures


def test_signature_of_two_pieces_is_the_tensor_product() -> None:
    path = randn(2, 7, 3)
    levels = lambda s: (s[..., :3], s[..., 3:12].unflatten(-1, (3, 3)))  # noqa: E731
    (a1, a2), (b1, b2) = levels(signature(path[:, :4], 2)), levels(signature(path[:, 3:], 2))
    c1, c2 = levels(signature(path, 2))
    torch.testing.assert_close(c1, a1 + b1)
    torch.testing.assert_close(c2, a2 + b2 + a1[..., :, None] * b1[..., None, :])


def test_signature_obeys_the_shuffle_identity_and_ignores_speed() -> None:
    path = randn(4, 6, 2)
    terms = signature(path, 3)
    first, second = terms[..., :2], terms[..., 2:6].unflatten(-1, (2, 2))
    torch.testing.assert_close(first[..., 0] * first[..., 1], second[..., 0, 1] + second[..., 1, 0])
    middle = torch.stack([path[:, :-1], path[:, :-1] + 0.3 * path.diff(dim=1)], dim=2).flatten(1, 2)
    torch.testing.assert_close(signature(torch.cat([middle, path[:, -1:]], dim=1), 3), terms)


def test_signature_stream_ends_with_the_signature() -> None:
    path = randn(3, 5, 2)
    stream = signature(path, 3, stream=True)
    assert stream.shape == (3, 5, signature_size(2, 3)) and bool((stream[:, 0] == 0).all())
    torch.testing.assert_close(stream[:, -1], signature(path, 3))
    torch.testing.assert_close(stream[:, 2], signature(path[:, :3], 3))
    assert gradcheck(lambda p: signature(p, 3), (path.requires_grad_(),))


def test_lasso_recovers_a_linear_functional_of_the_signature() -> None:
    path = torch.cat([torch.linspace(0, 1, 9, dtype=torch.float64).expand(40, 9)[..., None], randn(40, 9, 1)], dim=-1)
    y = (2 * signature(path, 2, stream=True)[..., 1:2] - signature(path, 2, stream=True)[..., 3:4]) + 0.5
    model = SignatureLasso(depth=2).fit(path[:30], y[:30], torch.ones(30, 9, dtype=torch.bool))
    error = (model.predict(path[30:]) - y[30:]).square().mean() / y[30:].var()
    assert float(error) < 1e-3
    assert model.multiplications > signature_multiplications(2, 2) * 30 * 8


# ------------------------------------------------------------------------------------------------------ mistakes


def test_mistakes_are_one_clear_sentence() -> None:
    with pytest.raises(ValueError, match="y must have 3 features in its last dimension"):
        VectorField(3, seed=0)(0.0, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="seed must be an integer or a non-empty list"):
        Affine(2, 2, seed=[])
    with pytest.raises(ValueError, match="generator is needed"):
        ContinuousFlow(VectorField(2, seed=0), num_features=2, trace="hutchinson").log_prob(torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"trace must be one of .* Did you mean 'hutchinson'"):
        ContinuousFlow(VectorField(2, seed=0), num_features=2, trace="hutchison")
    with pytest.raises(ValueError, match=r"kind must be one of .* Did you mean 'linear'"):
        control_path(torch.zeros(1, 2), torch.zeros(1, 2, 1), kind="liner")
    with pytest.raises(ValueError, match="times must have one entry for each observation"):
        control_path(torch.zeros(1, 3), torch.zeros(1, 2, 1))
    with pytest.raises(ValueError, match="x must not be negative"):
        SubhomogeneousField(1, seed=0).bind(torch.tensor([[-1.0]]))
    with pytest.raises(ValueError, match="a must be positive in every entry"):
        thompson_distance(torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match="at least 2 times"):
        signature(torch.zeros(1, 2), 2)
    with pytest.raises(ValueError, match="at least 5 paths"):
        SignatureLasso().fit(torch.zeros(3, 2, 2), torch.zeros(3, 2, 1), torch.ones(3, 2, dtype=torch.bool))
