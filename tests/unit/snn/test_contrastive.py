import pytest
import torch

from sciviz.snn.contrastive import HebbianWeights, contrastive_update, make_phases, make_weights, predict, settle


def weights(seed=0):
    return make_weights(5, 6, 3, generator=torch.Generator().manual_seed(seed))


def test_phases_are_signs_of_random_length_and_balanced_on_average():
    phases = make_phases("flexible", 400, 300, mean_length=4, generator=torch.Generator().manual_seed(0))
    assert phases.unique().tolist() == [-1.0, 1.0]
    assert abs(float(phases.mean())) < 0.02
    # A phase of length L is followed by one of the same sign half of the time: changes come every 2 · mean_length steps.
    changes = (phases[1:] != phases[:-1]).float().mean()
    assert float(changes) == pytest.approx(1 / 8, rel=0.05)


def test_rigid_update_is_the_textbooks_difference_of_settled_states():
    w, X, y = weights(), torch.rand(4, 5), torch.eye(3)[[0, 1, 2, 0]]
    phases = make_phases("rigid", 80, 4, mean_length=1, generator=torch.Generator())
    change = contrastive_update(w, X, y, phases, rigid=torch.tensor(True))
    drive = X @ w.incoming.T
    states = {}
    for name, held in (("free", torch.zeros(4, 1)), ("held", torch.ones(4, 1))):
        h, o = torch.sigmoid(drive), torch.full((4, 3), 0.5)
        for _ in range(60):
            h, o = settle(w, drive, h, o, held=held, target=y)
        states[name] = h, o
    (h, o), (hf, of) = states["held"], states["free"]
    assert torch.allclose(change.outgoing, (o.T @ h - of.T @ hf) / 4, atol=1e-5)
    assert torch.allclose(change.incoming, (h - hf).T @ X / 4, atol=1e-5)


def test_mean_of_random_schedules_points_where_the_rigid_update_does():
    w, X, y = weights(1), torch.rand(8, 5), torch.eye(3)[torch.arange(8) % 3]
    generator = torch.Generator().manual_seed(0)
    rigid = contrastive_update(
        w, X, y, make_phases("rigid", 60, 8, mean_length=1, generator=generator), rigid=torch.tensor(True)
    )
    copies = 400
    phases = make_phases("flexible", 60, 8 * copies, mean_length=3, generator=generator)
    mean = contrastive_update(w, X.repeat(copies, 1), y.repeat(copies, 1), phases)
    cosine = torch.nn.functional.cosine_similarity(mean.outgoing.flatten(), rigid.outgoing.flatten(), dim=0)
    assert cosine > 0.95


def test_order_of_phases_matters_little_and_no_error_means_no_change():
    w, X = weights(2), torch.rand(4, 5)
    y = predict(w, X, num_times=100)
    phases = make_phases("flexible", 60, 4, mean_length=3, generator=torch.Generator().manual_seed(0))
    balanced = torch.cat([phases, -phases])
    change = contrastive_update(w, X, y, balanced)
    assert all(float(c.abs().max()) < 1e-3 for c in change)
    assert isinstance(change, HebbianWeights)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="schedule must be one of"):
        make_phases("strict", 4, 1, mean_length=1, generator=torch.Generator())
    with pytest.raises(ValueError, match="mean_length"):
        make_phases("flexible", 4, 1, mean_length=0, generator=torch.Generator())
