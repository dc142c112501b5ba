"""Arithmetic units: exact with whole weights, projected into their ranges, in any leading dimensions."""

import pytest
import torch

from sciviz.kan.arithmetic import NAU, NMU, AddMultiply, integer_distance


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_units_with_whole_weights_are_exact_anywhere():
    X = 100 * torch.randn(20, 4, generator=generator(), dtype=torch.float64)
    add, multiply = NAU(4, 1, generator=generator()).double(), NMU(4, 1, generator=generator()).double()
    with torch.no_grad():
        add.weight.copy_(torch.tensor([[1.0, 0.0, -1.0, 1.0]]))
        multiply.weight.copy_(torch.tensor([[0.0, 1.0, 1.0, 0.0]]))
    torch.testing.assert_close(add(X)[:, 0], X[:, 0] - X[:, 2] + X[:, 3])
    torch.testing.assert_close(multiply(X)[:, 0], X[:, 1] * X[:, 2])
    assert add.distance() == 0 and multiply.distance() == 0


def test_a_product_of_sums():
    unit = AddMultiply(4, generator=generator()).double()
    with torch.no_grad():
        unit.add.weight.copy_(torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]))
        unit.multiply.weight.fill_(1.0)
    X = torch.randn(9, 4, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(unit(X)[:, 0], (X[:, 0] + X[:, 1]) * (X[:, 2] + X[:, 3]))


@pytest.mark.parametrize(("kind", "low"), [(NAU, -1.0), (NMU, 0.0)])
def test_projection_and_regulariser(kind, low):
    unit = kind(3, 2, generator=generator())
    with torch.no_grad():
        unit.weight.copy_(torch.tensor([[-7.0, 0.3, 7.0], [0.5, 0.9, 0.1]]))
    unit.project()
    assert unit.weight.min() >= low and unit.weight.max() <= 1
    unit.distance().backward()
    # Downhill leads to the nearest whole number.
    assert unit.weight.grad[0, 1] > 0 and unit.weight.grad[1, 1] < 0


def test_distance_is_that_of_the_nearest_integer():
    weight = torch.linspace(-1, 1, 201, dtype=torch.float64)
    wanted = torch.minimum(weight.abs(), 1 - weight.abs())
    torch.testing.assert_close(integer_distance(weight), wanted)


def test_shapes_and_bad_sizes():
    assert NMU(3, 2, generator=generator())(torch.zeros(4, 5, 3)).shape == (4, 5, 2)
    assert NAU(3, 2, generator=generator())(torch.zeros(0, 3)).shape == (0, 2)
    with pytest.raises(ValueError, match="in_features"):
        NAU(0, 1, generator=generator())
