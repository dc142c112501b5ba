import pytest
import torch

from sciviz.snn.equilibrium import (
    adjoint_errors,
    asymmetry,
    circle_nudges,
    contour_errors,
    error_cosine,
    exact_errors,
    homeostasis_gradient,
    jacobian,
    layered_mask,
    relax,
)


def network(seed=0, sizes=(6, 5, 3), scale=0.6):
    generator = torch.Generator().manual_seed(seed)
    mask = layered_mask(sizes).double()
    units = len(mask)
    weight = scale * torch.randn(units, units, generator=generator, dtype=torch.float64) / units**0.5 * mask
    drive = torch.randn(4, units, generator=generator, dtype=torch.float64)
    target = torch.rand(4, sizes[-1], generator=generator, dtype=torch.float64)
    return weight, drive, target


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_eight_nudges_give_the_exact_derivative_and_two_do_not(activation):
    weight, drive, target = network()
    state = relax(weight, drive, torch.zeros_like(drive), num_steps=200, activation=activation)
    exact, _ = exact_errors(weight, state, target, activation)

    def error(count):
        found = contour_errors(
            weight, drive, state, target, num_nudges=count, radius=0.2, num_steps=200, activation=activation
        )
        return float((found - exact).norm() / exact.norm())

    assert error(8) < 1e-4 < error(2)


def test_contour_equals_a_sum_over_the_whole_circle():
    weight, drive, target = network(1)
    state = relax(weight, drive, torch.zeros_like(drive), num_steps=200)
    nudges = circle_nudges(6, 0.3)
    whole = sum(
        relax(weight, drive, state + 0j, target=target, nudge=complex(b), num_steps=200) * (b.conj() / 0.3)
        for b in nudges
    )
    ours = contour_errors(weight, drive, state, target, num_nudges=6, radius=0.3, num_steps=200)
    assert torch.allclose(ours, -(whole / (6 * 0.3)).real, atol=1e-10)


def test_backpropagated_error_is_autograds_gradient_through_the_fixed_point():
    weight, drive, target = network(2)
    weight.requires_grad_()
    state = relax(weight, drive, torch.zeros_like(drive), num_steps=150)
    (0.5 * (state[:, -3:] - target).square().sum()).backward()
    state = state.detach()
    _, exact = exact_errors(weight.detach(), state, target)
    assert torch.allclose(weight.grad, exact.mT @ torch.tanh(state), atol=1e-9)
    assert torch.allclose(adjoint_errors(weight.detach(), state, target, num_steps=150), exact, atol=1e-9)


def test_jacobian_is_autograds():
    weight, drive, _ = network(3)
    state = drive[:1]

    def flow(u):
        return torch.tanh(u) @ weight.T - u

    assert torch.allclose(
        jacobian(weight, state)[0], torch.autograd.functional.jacobian(flow, state)[0, :, 0], atol=1e-12
    )


def test_homeostasis_gradient_is_autograds_and_descending_it_aligns_errors():
    weight, drive, target = network(4)
    weight.requires_grad_()
    matrix = jacobian(weight, drive)
    (0.5 * (matrix - matrix.mT).square().sum((-2, -1)).mean()).backward()
    assert torch.allclose(homeostasis_gradient(weight.detach(), drive), weight.grad, atol=1e-12)
    weight = weight.detach()
    before = asymmetry(weight, drive)
    cosine = []
    for _ in range(300):
        state = relax(weight, drive, torch.zeros_like(drive), num_steps=60)
        cosine.append(float(error_cosine(*(e[:, :-3] for e in exact_errors(weight, state, target)))))
        weight = weight - 0.1 * homeostasis_gradient(weight, state)
    assert asymmetry(weight, drive) < 0.2 * before
    assert cosine[-1] > cosine[0] + 0.3


def test_a_member_of_an_ensemble_is_computed_as_alone():
    pairs = [network(s) for s in range(3)]
    weight, drive, target = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    state = relax(weight, drive, torch.zeros_like(drive))
    together = contour_errors(weight, drive, state, target, num_nudges=4)
    alone = contour_errors(*(t[1] for t in (weight, drive, state, target)), num_nudges=4)
    assert torch.allclose(together[1], alone, atol=1e-12)


def test_mistakes_are_named():
    weight, drive, target = network()
    with pytest.raises(ValueError, match="num_nudges must be even"):
        contour_errors(weight, drive, drive, target, num_nudges=3)
    with pytest.raises(ValueError, match="activation must be one of"):
        relax(weight, drive, drive, activation="relu")
    with pytest.raises(ValueError, match="at least one layer"):
        layered_mask([])
