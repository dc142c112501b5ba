import pytest
import torch

from sciviz.snn.liquid import adapt_liquid, branching_factor, make_liquid, run_liquid


def liquid(num=3, **more):
    return make_liquid([torch.Generator().manual_seed(s) for s in range(num)], num_neurons=20, num_inputs=6, **more)


def rain(time=200, seed=0, share=0.3):
    return (torch.rand(time, 3, 6, generator=torch.Generator().manual_seed(seed)) < share).float()


def test_plasticity_is_its_formula():
    start, inputs = liquid(), rain(30)
    adapted = adapt_liquid(
        start, inputs, astrocyte=torch.zeros(3, dtype=torch.bool), potentiation=0.02, depression=0.01
    )
    size, v, x, s = start.weight[0].abs(), torch.zeros(20), torch.zeros(20), torch.zeros(20)
    for t in range(30):
        v = 0.9 * v + start.entry[0] @ inputs[t, 0] + (size * start.sign[0]) @ s
        s = (v >= 1).float()
        v = v * (1 - s)
        size = (size + 0.02 * torch.outer(s, x) - 0.01 * torch.outer(x, s)).clamp(0, 0.4) * start.joined[0]
        x = 0.8 * x + s
    assert s.shape == (20,) and float((size - start.weight[0].abs()).abs().max()) > 0.01
    assert torch.allclose(adapted.liquid.weight[0], size * start.sign[0], atol=1e-5)


def test_without_plasticity_a_liquid_stays_and_runs_alike_in_both_forms():
    start, inputs = liquid(), rain(40)
    adapted = adapt_liquid(start, inputs, astrocyte=torch.zeros(3, dtype=torch.bool), potentiation=0.0, depression=0.0)
    assert torch.allclose(adapted.liquid.weight, start.weight)
    assert torch.allclose(run_liquid(start, inputs[:, :, None])[:, :, 0].mean(-1), adapted.activity)


def test_the_astrocyte_holds_a_liquid_that_runs_away_without_it():
    start = make_liquid([torch.Generator().manual_seed(s) for s in range(3)], num_neurons=100, num_inputs=64)
    inputs = (torch.rand(1500, 3, 64, generator=torch.Generator().manual_seed(0)) < 0.075).float()
    alone, held = (adapt_liquid(start, inputs, astrocyte=torch.full((3,), gated)) for gated in (False, True))
    assert (alone.activity[-100:].mean(0) > 0.5).all()
    assert (held.activity[-100:].mean(0) < 0.25).all()
    assert torch.allclose(alone.depression, torch.tensor(0.01))
    assert (held.depression[-100:].mean(0) > 0.01).all()


def test_one_spike_has_as_many_children_as_it_has_synapses_that_suffice():
    start = liquid(1, inhibitory=0.0)
    strong = start._replace(weight=1.5 * start.joined.float())
    silent = torch.zeros(30, 1, 2000, 6)
    found = branching_factor(strong, silent, generator=torch.Generator().manual_seed(0))
    assert float(found) == pytest.approx(float(start.joined.float().sum() / 20), rel=0.05)
    weak = start._replace(weight=0.5 * start.joined.float())
    assert float(branching_factor(weak, silent, generator=torch.Generator().manual_seed(0))) == 0.0


def test_daleian_signs_and_no_self_synapses():
    start = liquid()
    assert (start.weight.diagonal(dim1=1, dim2=2) == 0).all()
    assert ((start.weight[:, :, :4] <= 0).all()) and ((start.weight[:, :, 4:] >= 0).all())


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="num_neurons"):
        make_liquid([torch.Generator()], num_neurons=0, num_inputs=1)
    with pytest.raises(ValueError, match="kick_at"):
        branching_factor(liquid(), rain(5)[:, :, None], generator=torch.Generator(), kick_at=9)
