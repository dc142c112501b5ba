import math

import pytest
import torch
from torch.func import functional_call, grad, vmap

from sciviz.ntk import (
    ACTIVATIONS,
    PARAMETRISATIONS,
    Activation,
    ScaledLinear,
    apply_ensemble,
    ensemble_layers,
    ensemble_member,
    init_ensemble,
    layer_scales,
    lr_scales,
    make_mlp,
    parameter_groups,
)

SHAPE = {"input_dim": 3, "width": 8, "depth": 2, "output_dim": 2, "bias_variance": 0.3}


def samples(n=5, d=3, seed=0, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_ntk_parametrisation_is_the_formula_of_the_paper():
    network = make_mlp(**SHAPE, activation="tanh", weight_variance=1.7, seed=3, dtype=torch.float64)
    p, X = dict(network.named_parameters()), samples(dtype=torch.float64)
    h = math.sqrt(1.7 / 3) * X @ p["0.weight"].T + math.sqrt(0.3) * p["0.bias"]
    for layer in ("2", "4"):
        h = math.sqrt(1.7 / 8) * torch.tanh(h) @ p[f"{layer}.weight"].T + math.sqrt(0.3) * p[f"{layer}.bias"]
    torch.testing.assert_close(network(X), h)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
@pytest.mark.parametrize("bias_variance", [0.0, 0.3])
def test_the_ensemble_is_its_members_and_functional_call(activation, parametrisation, bias_variance):
    shape = SHAPE | {"bias_variance": bias_variance}
    network, params = init_ensemble(
        3, **shape, activation=activation, parametrisation=parametrisation, seed=0, dtype=torch.float64
    )
    X = samples(dtype=torch.float64)
    outputs = apply_ensemble(network, params, X)
    for i in range(3):
        torch.testing.assert_close(ensemble_member(network, params, i)(X), outputs[i])
        torch.testing.assert_close(functional_call(network, {k: v[i] for k, v in params.items()}, (X,)), outputs[i])
    own = torch.stack([X, 2 * X, -X])
    torch.testing.assert_close(apply_ensemble(network, params, own)[1], ensemble_member(network, params, 1)(2 * X))


def test_members_differ_and_the_same_seed_repeats():
    _, one = init_ensemble(2, **SHAPE, seed=5)
    _, two = init_ensemble(2, **SHAPE, seed=5)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["0.weight"][0], one["0.weight"][1])
    assert not torch.equal(one["0.weight"], init_ensemble(2, **SHAPE, seed=6)[1]["0.weight"])


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    make_mlp(**SHAPE, seed=1)
    ScaledLinear(3, 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_backward_pass_gives_each_member_its_own_gradient():
    network, params = init_ensemble(3, **SHAPE, activation="erf", seed=0, dtype=torch.float64)
    X = samples(dtype=torch.float64)
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    apply_ensemble(network, leaves, X).square().sum().backward()
    alone = ensemble_member(network, params, 2)
    alone(X).square().sum().backward()
    for name, value in alone.named_parameters():
        torch.testing.assert_close(leaves[name].grad[2], value.grad)
    per_member = vmap(grad(lambda p: functional_call(network, p, (X,)).square().sum()))(params)
    torch.testing.assert_close(per_member["2.weight"], leaves["2.weight"].grad)


def test_outputs_of_all_parametrisations_have_the_same_law_but_mup_shrinks_them():
    X = samples(1)
    size = {}
    for name in PARAMETRISATIONS:
        network, params = init_ensemble(
            4000, input_dim=3, width=64, depth=2, weight_variance=2.0, parametrisation=name, seed=0
        )
        size[name] = float(apply_ensemble(network, params, X).square().mean())
        hidden = float(ensemble_layers(network, params, X)[1].square().mean())
        assert hidden == pytest.approx(2 * float(X.square().sum()) / 3, rel=0.05)
    assert size["ntk"] == pytest.approx(size["standard"], rel=0.15)
    assert size["mup"] == pytest.approx(size["ntk"] / 64, rel=0.15)


@pytest.mark.parametrize(("name", "exponent"), [("mup", 0.0), ("ntk", -0.5), ("standard", -0.5)])
def test_one_step_of_training_moves_features_as_the_parametrisation_promises(name, exponent):
    X, y = samples(8), samples(8, 1, seed=1)
    changes = []
    for width in (64, 1024):
        network, params = init_ensemble(
            4, input_dim=3, width=width, depth=2, activation="tanh", parametrisation=name, seed=0
        )
        scale = lr_scales(network)
        before = ensemble_layers(network, params, X)[1]
        for _ in range(3):
            leaves = {key: value.clone().requires_grad_() for key, value in params.items()}
            loss = (apply_ensemble(network, leaves, X) - y).square().mean(dim=(1, 2)).sum()
            gradients = torch.autograd.grad(loss, list(leaves.values()))
            params = {
                key: (value - 0.2 * scale[key] * gradient).detach()
                for (key, value), gradient in zip(leaves.items(), gradients, strict=True)
            }
        changes.append(float((ensemble_layers(network, params, X)[1] - before).square().mean().sqrt()))
    assert math.log(changes[1] / changes[0]) / math.log(16) == pytest.approx(exponent, abs=0.12)


def test_parameter_groups_hold_every_parameter_once_with_its_rate():
    network = make_mlp(**SHAPE, parametrisation="standard", seed=0)
    groups = parameter_groups(network, lr=0.8)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in network.parameters())
    assert {g["lr"] for g in groups} == {0.1}


def test_biases_stand_where_they_are_asked_for():
    count = {bias: len(dict(make_mlp(**SHAPE, bias=bias, seed=0).named_parameters())) for bias in ("all", "first")}
    assert count == {"all": 6, "first": 4}
    assert len(dict(make_mlp(**SHAPE | {"bias_variance": 0.0}, seed=0).named_parameters())) == 3


def test_scaled_linear_agrees_with_itself_on_any_number_of_axes():
    layer = ScaledLinear(3, 2, weight_multiplier=0.5, bias_multiplier=2.0)
    with torch.no_grad():
        layer.weight.normal_(generator=torch.Generator().manual_seed(0))
        layer.bias.fill_(1.0)
    X = samples()
    torch.testing.assert_close(layer(X), 0.5 * X @ layer.weight.T + 2)
    torch.testing.assert_close(layer(X.view(1, 5, 3))[0], layer(X))
    torch.testing.assert_close(layer(X[0]), layer(X)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": -3}, "width must be an integer of at least 1, got -3"),
        ({"depth": 0}, "depth must be an integer of at least 1"),
        ({"activation": "rleu"}, "activation must be one of .* Did you mean 'relu'"),
        ({"parametrisation": "nkt"}, "parametrisation must be one of"),
        ({"weight_variance": 0.0}, "weight_variance must be a finite number greater than 0"),
        ({"bias_variance": -1.0}, "bias_variance must be a finite number of at least 0"),
        ({"bias": "none"}, "bias must be one of"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
    ],
)
def test_bad_settings_get_one_sentence(change, message):
    with pytest.raises(ValueError, match=message):
        make_mlp(**(SHAPE | {"seed": 0} | change))


def test_bad_inputs_get_one_sentence():
    network, params = init_ensemble(2, **SHAPE, seed=0)
    with pytest.raises(ValueError, match="X must have as many features as the network has inputs"):
        apply_ensemble(network, params, torch.zeros(5, 4))
    with pytest.raises(ValueError, match="X must have one block for each of the 2 members"):
        apply_ensemble(network, params, torch.zeros(3, 5, 3))
    with pytest.raises(ValueError, match="X must have 2 dimensions"):
        apply_ensemble(network, params, torch.zeros(3))
    with pytest.raises(ValueError, match="params must hold the ensemble's tensors"):
        apply_ensemble(network, {"0.weight": params["0.weight"]}, torch.zeros(5, 3))
    with pytest.raises(ValueError, match="index must be an integer from 0 to 1"):
        ensemble_member(network, params, 2)
    with pytest.raises(ValueError, match="activation must be one of"):
        Activation("swish2")
    with pytest.raises(ValueError, match="layer must be an integer from 0 to 2"):
        layer_scales("ntk", layer=3, depth=2, width=8, fan_in=8)
