import pytest
import torch

from sciviz.snn.delays import delay_kernel, delayed_current


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_current_is_the_sum_over_past_spikes():
    spikes, weight, delay = (draw(20, 3, 4) > 0.7).double(), draw(5, 4, seed=1), 7 * draw(5, 4, seed=2)
    ours = delayed_current(spikes, weight, delay, width=0.8, num_taps=9)
    kernel = delay_kernel(delay, width=0.8, num_taps=9)
    direct = torch.zeros(20, 3, 5, dtype=torch.float64)
    for t in range(20):
        for tau in range(min(t, 8) + 1):
            direct[t] += spikes[t - tau] @ (weight * kernel[..., tau]).T
    assert torch.allclose(ours, direct, atol=1e-12)


def test_delay_gradient_is_that_of_finite_differences():
    spikes = (draw(15, 2, 3) > 0.6).double()
    weight, delay = draw(2, 3, seed=1).requires_grad_(), (1 + 4 * draw(2, 3, seed=2)).requires_grad_()

    def f(w, d):
        return delayed_current(spikes, w, d, width=1.2, num_taps=7).square().sum()

    assert torch.autograd.gradcheck(f, (weight, delay))


def test_a_narrow_kernel_shifts_and_nothing_comes_round_from_the_end():
    spikes = torch.zeros(10, 1, 1, dtype=torch.float64)
    spikes[8] = 1
    one = torch.ones(1, 1, dtype=torch.float64)
    current = delayed_current(spikes, one, 5 * one, width=0.05, num_taps=6)
    assert float(current.abs().max()) < 1e-12
    current = delayed_current(spikes, one, 1 * one, width=0.05, num_taps=6)
    assert int(current.argmax()) == 9


@pytest.mark.parametrize("width", [0.05, 1.0, 20.0])
def test_kernels_sum_to_one_wherever_the_delay_is(width):
    kernel = delay_kernel(torch.linspace(0, 9, 37, dtype=torch.float64), width=width, num_taps=10)
    assert torch.allclose(kernel.sum(-1), torch.ones(37, dtype=torch.float64))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="width must be"):
        delay_kernel(torch.ones(1), width=0.0, num_taps=3)
    with pytest.raises(ValueError, match="weight and delay"):
        delayed_current(torch.zeros(4, 1, 2), torch.ones(1, 2), torch.ones(1, 3), width=1.0, num_taps=3)
