import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciviz.hopfield import (
    KINDS,
    classify_fixed_points,
    critical_load,
    exponential_capacity,
    false_match_rate,
    faultless_capacity,
    glass,
    glass_temperature,
    mean_field,
    one_step_error_bound,
    phase_diagram,
    retrieve,
    separation,
    union_false_match_rate,
    zero_temperature_overlap,
)


@given(st.integers(1, 30), st.integers(1, 12), st.floats(0.01, 100), st.floats(0, 0.5), st.integers(0, 10**6))
def test_no_update_errs_by_more_than_the_bound(stored, d, beta, noise, seed):
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(stored, d, generator=generator, dtype=torch.float64)
    cue = X + noise * torch.randn(stored, d, generator=generator, dtype=torch.float64)
    error = (retrieve(X, cue, beta) - X).norm(dim=-1)
    assert (error <= one_step_error_bound(X, cue, beta) + 1e-9).all()


def test_the_bound_says_something_where_patterns_stand_apart():
    X = torch.eye(5, dtype=torch.float64)
    assert one_step_error_bound(X, X, 20.0).max() < 1e-6
    assert one_step_error_bound(X, X, 1e-3).max() == 2.0  # and never more than the ball's diameter


def test_separation_of_one_and_of_duplicates():
    assert separation(torch.ones(1, 3)).item() == math.inf
    assert separation(torch.ones(2, 3)).tolist() == [0.0, 0.0]


def test_kinds_by_how_many_patterns_share_the_attention():
    X = torch.cat([torch.eye(8, dtype=torch.float64) * 3, torch.eye(8, dtype=torch.float64) * 3])
    pair = X[:1]
    found = [classify_fixed_points(X, state, beta) for state, beta in ((pair, 5.0), (X.mean(0, keepdim=True), 1.0))]
    assert [KINDS[int(f.kind)] for f in found] == ["metastable", "global"]
    assert found[0].num_patterns.item() == 2
    assert KINDS[int(classify_fixed_points(X[:1], X[:1], 1.0).kind)] == "single"


def test_critical_loads_of_the_literature():
    # 0.138 of Amit, Gutfreund and Sompolinsky; at order n > 2 erf(x)^(n-1)/x is largest, written out here again.
    assert critical_load() == pytest.approx(0.1379, abs=2e-4)
    x = torch.linspace(0.1, 4, 100_000, dtype=torch.float64)
    for n in (3, 4, 5):
        best = float((torch.erf(x) ** (n - 1) / x).max())
        assert critical_load(n) == pytest.approx(best**2 / 2 / math.factorial(n - 1), rel=2e-3)


def test_overlap_at_zero_temperature_solves_its_equation():
    for n, load in ((3, 0.05), (4, 0.02)):
        m = float(zero_temperature_overlap(torch.tensor([load]), n)[0])
        assert m == pytest.approx(math.erf(m ** (n - 1) / math.sqrt(2 * load * math.factorial(n - 1))), abs=1e-4)
    cold = mean_field(torch.tensor([0.08]), torch.tensor([0.05])).overlap
    assert float(cold) == pytest.approx(float(zero_temperature_overlap(torch.tensor([0.08]))[0]), abs=2e-3)


def test_mean_field_solution_is_a_stationary_point_of_the_free_energy():
    # f(m) with q and r at their own stationary values has its derivative zero at the solution: m = E tanh.
    load, temperature = torch.tensor([0.06]), torch.tensor([0.3])
    found = mean_field(load, temperature)
    r = found.order / (1 - (1 - found.order) / temperature) ** 2
    z = torch.randn(2_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    field = torch.tanh((found.overlap + (load * r).sqrt() * z) / temperature)
    assert float(field.mean()) == pytest.approx(float(found.overlap), abs=1e-3)
    assert float((field**2).mean()) == pytest.approx(float(found.order), abs=1e-3)


def test_phase_diagram_has_the_known_corners():
    found = phase_diagram(torch.tensor([0.002, 0.045, 0.056, 0.13, 0.145]))
    assert float(found.retrieval[0]) == pytest.approx(0.91, abs=0.05)  # towards one at no load
    assert found.dominant[1] > 0 and found.dominant[2] == 0  # the ground state up to 0.051
    assert found.retrieval[3] > 0 and found.retrieval[4] == 0
    assert (found.dominant <= found.retrieval).all() and (found.retrieval <= found.glass).all()


def test_glass_of_three_and_four_spins():
    assert glass_temperature(3) == pytest.approx(0.6514, abs=2e-3)
    # Towards infinite order the random energy model: 1 / (2 sqrt(ln 2)).
    assert glass_temperature(15) == pytest.approx(1 / (2 * math.sqrt(math.log(2))), abs=2e-3)
    cold = 0.5 * glass_temperature(4)
    symmetric, broken = glass(4, cold, broken=False), glass(4, cold, broken=True)
    assert symmetric.entropy < -0.1 and 0 <= broken.entropy < 0.05
    # Replica symmetry breaking raises the free energy (a maximum in the order parameters).
    assert broken.free_energy > symmetric.free_energy and 0 < broken.breaking < 1


def test_glass_entropy_is_minus_the_slope_of_the_free_energy():
    for broken in (False, True):
        low, middle, high = (glass(4, t, broken=broken) for t in (0.3499, 0.35, 0.3501))
        slope = (high.free_energy - low.free_energy) / 2e-4
        assert middle.entropy == pytest.approx(-slope, abs=1e-5)


def test_capacities_grow_as_stated():
    assert faultless_capacity(4, 200) / faultless_capacity(4, 100) == pytest.approx(8 * math.log(100) / math.log(200))
    sizes = [exponential_capacity(d, 4.0, radius=2.0) for d in (50, 100, 150)]
    assert sizes[2] / sizes[1] == pytest.approx(sizes[1] / sizes[0], rel=0.2) and sizes[1] / sizes[0] > 1000


def test_false_matches_by_counting_all_codes():
    synapses = {0, 1, 2}
    codes = list(itertools.combinations(range(7), 4))
    for threshold in range(4):
        share = sum(len(synapses & set(code)) >= threshold for code in codes) / len(codes)
        assert false_match_rate(7, 4, 3, threshold) == pytest.approx(share)
    assert union_false_match_rate(100, 10, 5, 3, 4) > false_match_rate(100, 10, 5, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_field(torch.tensor([0.1]), torch.tensor([0.0])), "greater than 0"),
        (lambda: glass(2, 0.3, broken=True), "interaction"),
        (lambda: false_match_rate(10, 11, 3, 2), "active"),
        (lambda: one_step_error_bound(torch.eye(2), torch.eye(3), 1.0), "same shape"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
