"""Counterparts of KANs: sizes that match, ensembles that equal their members, quadratic neurons and ReLinear."""

import pytest
import torch
from torch import nn

from sciviz.kan.activations import CATALOGUE, Cauchy, Elementwise, Snake, make_activation
from sciviz.kan.counterparts import (
    COUNTERPARTS,
    MLP,
    Ensemble,
    count_parameters,
    make_counterpart,
    make_linear,
    match_width,
)
from sciviz.kan.experiments.cauchy import heat_residual
from sciviz.kan.quadratic import QUADRATIC, QuadraticLinear, QuadraticNetwork, relinear_groups


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", COUNTERPARTS)
@pytest.mark.parametrize("num_parameters", [60, 500])
def test_counterparts_come_as_near_as_a_width_can(kind, num_parameters):
    network = make_counterpart(kind, 2, 1, num_parameters=num_parameters, depth=1, seed=0)
    step = {"relu": 4, "tanh": 4, "snake": 4, "cauchy": 7, "quadratic": 10}[kind]
    assert abs(count_parameters(network) - num_parameters) <= step / 2
    assert network(torch.zeros(3, 2)).shape == (3, 1)


def test_match_width_takes_the_nearest_and_refuses_the_impossible():
    def build(width: int) -> nn.Module:
        return MLP([2, width, width, 1], seed=0)

    sizes = {w: count_parameters(build(w)) for w in range(1, 40)}
    for wanted in (13, 100, 101, 555):
        found = match_width(build, wanted)
        assert abs(sizes[found] - wanted) == min(abs(v - wanted) for v in sizes.values())
    with pytest.raises(ValueError, match="num_parameters must be at least"):
        match_width(build, 2)
    with pytest.raises(ValueError, match="not reached"):
        match_width(lambda width: MLP([2, 2, 1], seed=0), 1000, most=64)


def test_same_seed_same_network_and_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two = MLP([2, 5, 1], "cauchy", seed=4), MLP([2, 5, 1], "cauchy", seed=4)
    QuadraticNetwork([2, 3, 1], seed=0)
    make_linear(2, 2, generator=generator())
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.layers[0].weight, MLP([2, 5, 1], seed=5).layers[0].weight)


@pytest.mark.parametrize(
    "bad", [lambda: MLP([2], seed=0), lambda: MLP([2, 3, 1], "tahn", seed=0), lambda: Ensemble([])]
)
def test_bad_input_is_refused(bad):
    with pytest.raises(ValueError):
        bad()


def networks(kind: str) -> list[nn.Module]:
    if kind == "quadratic":
        return [QuadraticNetwork([2, 4, 1], start="random", seed=s) for s in range(3)]
    return [MLP([2, 4, 1], kind, seed=s, a=1.0 + s) for s in range(3)]


@pytest.mark.parametrize("kind", ["tanh", "snake", "cauchy", "quadratic"])
def test_an_ensemble_gives_what_its_members_give(kind):
    nets = networks(kind)
    ensemble = Ensemble(nets)
    X = torch.randn(7, 2, generator=generator())
    torch.testing.assert_close(ensemble(X), torch.stack([net(X) for net in nets]))
    own = torch.randn(3, 7, 2, generator=generator())
    torch.testing.assert_close(ensemble(own), torch.stack([net(x) for net, x in zip(nets, own, strict=True)]))
    for i, net in enumerate(nets):
        torch.testing.assert_close(ensemble.member(i)(X), net(X))


def test_training_together_is_adam_on_each_alone():
    X = torch.linspace(-1, 1, 20)[:, None]
    y = torch.sin(3 * X)
    nets = [MLP([1, 6, 1], seed=s) for s in range(2)]
    ensemble = Ensemble(nets)
    losses = ensemble.fit(
        lambda step, w: (ensemble(X, w) - y).square().mean((1, 2)),
        num_steps=40,
        lr=[0.01, 0.02],
        decay=False,
        record_every=1,
    )
    assert losses.shape == (40, 2)
    for i, lr in enumerate((0.01, 0.02)):
        net = nets[i]
        optimizer = torch.optim.Adam(net.parameters(), lr=lr)
        for step in range(40):
            optimizer.zero_grad()
            loss = (net(X) - y).square().mean()
            torch.testing.assert_close(loss.detach(), losses[step, i], rtol=1e-3, atol=1e-6)
            loss.backward()
            optimizer.step()
        torch.testing.assert_close(ensemble.member(i)(X), net(X), rtol=1e-3, atol=1e-4)


def test_a_member_that_diverges_leaves_the_others_alone():
    X = torch.linspace(-1, 1, 20)[:, None]

    def run(rates):
        ensemble = Ensemble([MLP([1, 6, 1], "square", seed=s) for s in range(2)])

        def loss(step, w):
            value = (ensemble(X, w) - X).square().mean((1, 2))
            return torch.stack([value[0] * (float("inf") if rates[0] > 1 else 1.0), value[1]])

        ensemble.fit(loss, num_steps=10, lr=rates)
        return ensemble.weights

    healthy, sick = run([0.01, 0.01]), run([9.0, 0.01])
    assert not sick[0].isfinite().all()
    assert torch.equal(healthy[1], sick[1])


def test_scales_hold_parameters_back_and_after_projects():
    ensemble = Ensemble([QuadraticNetwork([2, 3, 1], seed=s) for s in range(2)])
    before = ensemble.parameters()
    X = torch.randn(9, 2, generator=generator())
    target = X.square().sum(1)

    def clip(weights):
        weights.clamp_(-0.5, 1.0)

    ensemble.fit(
        lambda step, w: (ensemble(X, w)[..., 0] - target).square().mean(1),
        num_steps=3,
        lr=0.1,
        scales=dict.fromkeys(QUADRATIC, 0.0),
        after=clip,
    )
    after = ensemble.parameters()
    for name in after:
        moved = not torch.equal(after[name], before[name])
        assert moved == (name.split(".")[-1] not in QUADRATIC), name
    assert ensemble.weights.max() <= 1.0 and ensemble.weights.min() >= -0.5


def test_quadratic_neuron_is_its_formula():
    layer = QuadraticLinear(3, 2, start="random", generator=generator())
    x = torch.randn(5, 3, generator=generator(1))
    for n in range(5):
        for k in range(2):
            r = layer.weight_r[k] @ x[n] + layer.bias_r[k]
            g = layer.weight_g[k] @ x[n] + layer.bias_g[k]
            want = r * g + layer.weight_b[k] @ x[n] ** 2 + layer.bias_b[k]
            torch.testing.assert_close(layer(x)[n, k], want)


def test_one_quadratic_neuron_with_relu_is_the_disc():
    from sciviz.kan.experiments.quadratic import disc

    network = QuadraticNetwork([2, 1, 1], seed=0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        layer = network.layers[0]
        layer.weight_b.fill_(-1.0)
        layer.bias_b.fill_(0.5)
        network.out.weight.fill_(4.0)
    X = 2 * torch.rand(50, 2, generator=generator()) - 1
    torch.testing.assert_close(network(X)[:, 0], disc(X))


def test_relinear_starts_as_a_relu_network_and_damps_what_is_quadratic():
    network = QuadraticNetwork([2, 4, 4, 1], start="relinear", seed=0)
    X = torch.randn(6, 2, generator=generator())
    h = X
    for layer in network.layers:
        h = torch.relu(nn.functional.linear(h, layer.weight_r, layer.bias_r))
    torch.testing.assert_close(network(X), network.out(h))
    groups = relinear_groups(network, 0.1, damping=0.01)
    assert [len(g["params"]) for g in groups] == [6, 8]
    assert groups[1]["lr"] == pytest.approx(0.001)
    assert sum(len(g["params"]) for g in groups) == len(list(network.parameters()))


def test_snake_and_cauchy_are_their_formulas():
    x = torch.linspace(-4, 4, 41, dtype=torch.float64)
    torch.testing.assert_close(Snake(a=2.0).double()(x), x + torch.sin(2 * x) ** 2 / 2)
    slope = torch.func.vmap(torch.func.grad(Snake(a=2.0).double()))(x)
    torch.testing.assert_close(slope, 1 + torch.sin(4 * x))
    assert slope.min() >= -1e-9
    layer = Cauchy(1, (2.0, -1.0, 0.5)).double()
    torch.testing.assert_close(layer(x[:, None])[:, 0], (2 * x - 1) / (x**2 + 0.25), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="a must be"):
        Snake(a=0.0)
    assert len(list(Snake(learn=True).parameters())) == 1 and not list(Snake().parameters())
    assert isinstance(make_activation("relu", 3), Elementwise) and "relu" in CATALOGUE


@pytest.mark.parametrize("kind", ["tanh", "cauchy"])
def test_heat_residual_is_autograds(kind):
    net = MLP([2, 5, 1], kind, seed=1).double()
    points = torch.rand(6, 2, generator=generator(), dtype=torch.float64)
    value, residual = heat_residual(kind, Ensemble([net]).parameters(), points, 0.3)

    def u(p):
        return net(p)[0]

    gradient = torch.stack([torch.func.grad(u)(p) for p in points])
    second = torch.stack([torch.func.hessian(u)(p) for p in points])
    torch.testing.assert_close(value[0], net(points)[:, 0])
    torch.testing.assert_close(residual[0], gradient[:, 1] - 0.3 * second[:, 0, 0])
