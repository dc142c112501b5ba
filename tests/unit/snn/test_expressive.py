import math

import pytest
import torch

from sciviz.snn.experiments.expressive import dendrite
from sciviz.snn.expressive import make_elm, memory_decays, run_elm


def elm(num=2):
    generators = [torch.Generator().manual_seed(s) for s in range(num)]
    return make_elm(generators, num_inputs=6, num_branches=3, num_memories=4, num_hidden=5, num_outputs=2)


def test_sequence_form_is_the_equations_step_by_step():
    p, X = elm(), torch.rand(12, 2, 3, 6)
    decay = memory_decays(4, 1.0, 30.0).expand(2, 1, -1)
    ours = run_elm(p, X, decay, synapse_decay=0.6, gain=5.0, every_step=True)
    for member in range(2):
        s, m = torch.zeros(3, 6), torch.zeros(3, 4)
        for t in range(12):
            s = 0.6 * s + p.synapses[member] * X[t, member]
            b = s.reshape(3, 3, 2).sum(-1)
            kept = decay[member] * m
            hidden = torch.relu(b @ p.from_branches[member] + kept @ p.from_memory[member] + p.hidden_bias[member])
            change = torch.tanh(hidden @ p.to_memory[member] + p.memory_bias[member])
            m = kept + 5.0 * (1 - decay[member]) * change
            y = m @ p.readout[member] + p.output_bias[member]
            assert torch.allclose(ours[t, member], y, atol=1e-5)
    assert torch.allclose(run_elm(p, X, decay), ours[-1])


def test_gradients_pass_gradcheck():
    p = elm(1)
    p = type(p)(*((t.double() + 0.01).requires_grad_() for t in p))
    X, decay = torch.rand(5, 1, 2, 6, dtype=torch.float64), torch.full((1, 1, 4), 0.9, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *q: run_elm(type(p)(*q), X, decay).square().sum(), tuple(p))


def test_slow_memories_hold_and_fast_ones_forget():
    decays = memory_decays(2, 1.0, 100.0)
    assert float(decays[0] ** 50) < 1e-12
    assert float(decays[1] ** 50) == pytest.approx(math.exp(-0.5), rel=1e-4)


def test_dendrite_prefers_spikes_on_one_branch():
    together, apart = torch.zeros(60, 1, 32), torch.zeros(60, 1, 32)
    together[5, 0, :4] = 1
    together[6:9, 0, :4] = 1
    apart[5:9, 0, [0, 8, 16, 24]] = 1
    quiet = dendrite(torch.zeros(60, 1, 32))
    assert float((dendrite(together) - quiet).sum()) > 1.2 * float((dendrite(apart) - quiet).sum())


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="divide num_inputs"):
        make_elm([torch.Generator()], num_inputs=5, num_branches=2, num_memories=1, num_hidden=1, num_outputs=1)
