"""Figures of rectified, noisy and few-step flows: what they draw, and that the numbers in their words are the data's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sciviz.flow import experiments, figures
from sciviz.lab.theme import alt_text


@pytest.fixture(scope="module")
def rounds():
    return experiments.rectification(rounds=2, num_seeds=2, num_steps=20, num_points=60, euler_steps=(1, 4))


def test_rounds_have_a_panel_each_in_the_plane_and_in_time(rounds):
    words = [f"{value:.2g}" for value in rounds.straightness.isel(seed=0).values]
    assert all(word in alt_text(figures.plot_rounds(rounds)) for word in words)
    fig = figures.plot_rounds_in_time(rounds, num_particles=3)
    assert [trace.name for trace in fig.data] == ["paths of flow 1", "paths of flow 2"]
    # Three paths in one trace, with a gap between two.
    drawn = np.asarray(fig.data[1].y, dtype=float)
    expected = rounds.path.isel(round=1, axis=0).values[:3]
    np.testing.assert_allclose(np.stack(np.split(np.append(drawn, np.nan), 3))[:, :-1], expected)


def test_straightness_says_by_how_much_it_falls(rounds):
    mean = rounds.straightness.mean("seed").values
    fig = figures.plot_straightness(rounds)
    assert f"falls by a factor of {mean[0] / mean[1]:.2g};" in fig.layout.title.subtitle.text
    assert len(fig.data[1].x) == 4
    assert "falls" not in figures.plot_straightness(rounds.isel(round=[0])).layout.title.subtitle.text


def test_costs_and_errors(rounds):
    costs = figures.plot_costs(rounds)
    share = (rounds.transport_cost / rounds.transport_cost.sel(coupling="independent")).mean("seed")
    np.testing.assert_allclose(costs.data[1].y, share.sel(coupling="flow 1"))
    errors = figures.plot_errors(rounds)
    assert f"flow 1 {float(rounds.error.sel(euler_steps=1).mean('seed')[0]):.2f}" in alt_text(errors)


def test_a_crossing_tells_where_its_points_end():
    cross = experiments.crossing_lines([[-1, -1], [-1, 1]], [[1, 1], [1, -1]])
    fig = figures.plot_crossing(cross)
    end = cross.flow.values[0, -1]
    assert f"({end[0]:.2f}, {end[1]:.2f})" in alt_text(fig)
    assert end[1] < -0.9, "the lower source comes to the lower target"


def test_noisy_paths_and_their_ends():
    law = experiments.ode_and_sdes(num_seeds=2, num_points=60, num_steps=10, training_steps=0)
    assert [panel.text for panel in figures.plot_sde_paths(law).layout.annotations[:3]] == [
        "<b>ε = 0</b>",
        "<b>ε = 0.5</b>",
        "<b>ε = 2</b>",
    ]
    same = figures.plot_same_law(law)
    assert f"{float(law.floor.mean()):.3f}" in alt_text(same)


def test_digits_show_six_of_ten_at_each_number_of_steps():
    digits = experiments.few_steps(steps=(1, 2), num_samples=40, num_steps=5, width=16, num_pairs=10)
    fig = figures.plot_digits(digits)
    picture = np.asarray(fig.data[0].z)
    assert picture.shape == (2 * 9 - 1, 6 * 9 - 1)
    np.testing.assert_allclose(
        picture[9:17, 9:17], digits.image.isel(path=0, euler_steps=1, digit=1).values.reshape(8, 8)
    )
    distance = figures.plot_digit_distance(digits)
    assert f"{float(digits.floor.mean()):.2f}" in alt_text(distance)


def test_a_cloud_is_carried_and_comes_back():
    carried = experiments.transfer(num_steps=30, num_points=100)
    assert carried.attrs["round_trip"] < 1e-3
    np.testing.assert_allclose(carried.back, carried.start, atol=1e-3)
    fig = figures.plot_transfer(carried)
    assert f"{carried.attrs['error']:.2f}" in alt_text(fig)
    assert torch.isfinite(torch.tensor(carried.end.values)).all()
