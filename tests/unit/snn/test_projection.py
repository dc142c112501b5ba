import pytest
import torch

from sciviz.snn.projection import captured_energy, hebbian_step, learn_lateral, principal_energy, project_out


def traces(seed=0, rank=5, size=20):
    g = torch.Generator().manual_seed(seed)
    strengths = torch.logspace(0.5, -1, rank)
    return (torch.randn(400, rank, generator=g) * strengths) @ torch.randn(rank, size, generator=g)


def test_hebbian_learning_finds_pcas_subspace():
    X = traces()
    lateral = learn_lateral(X, 3, generator=torch.Generator().manual_seed(0))
    assert float(captured_energy(X, lateral) / principal_energy(X, 3)) > 0.99
    assert torch.allclose(lateral @ lateral.T, torch.eye(3), atol=0.05)


def test_new_neurons_take_what_old_ones_leave():
    first, second = traces(0, rank=3), traces(1, rank=3)
    g = torch.Generator().manual_seed(0)
    old = learn_lateral(first, 3, generator=g)
    both = learn_lateral(second, 3, old=old, generator=g)
    assert torch.equal(both[:3], old)
    assert float(captured_energy(second, both)) > 0.99 > 0.9 > float(captured_energy(second, old))


def test_projected_changes_leave_old_answers_alone():
    old, new = traces(0, rank=3), traces(1, rank=3)
    lateral = torch.linalg.qr(torch.linalg.svd(old, full_matrices=False).Vh[:3].T).Q.T
    change = project_out(torch.randn(4, 400) @ new, lateral)
    assert float((old @ change.T).abs().max()) < 1e-2 * float((new @ change.T).abs().max())


def test_principal_directions_are_at_rest():
    X = traces()
    lateral = torch.linalg.svd(X, full_matrices=False).Vh[:3].contiguous()
    assert torch.allclose(hebbian_step(lateral, X, lr=0.1), lateral, atol=1e-4)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="num_neurons"):
        learn_lateral(torch.randn(10, 4), 5, generator=torch.Generator())
    with pytest.raises(ValueError, match="last dimension"):
        project_out(torch.ones(2, 3), torch.ones(1, 4))
