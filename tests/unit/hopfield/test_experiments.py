import inspect
import math

import numpy as np
import pytest
import torch
import xarray as xr

from sciviz.hopfield import experiments as module_under_test
from sciviz.hopfield.experiments import (
    ClaimResult,
    attention_agreement,
    bag_pooling,
    bag_pooling_claim,
    classical_collapse,
    classical_phases,
    clustered_patterns,
    convex_hulls,
    dense_capacity,
    dense_capacity_claim,
    energy_surface,
    exponential_capacity_claim,
    false_matches,
    few_shot,
    fixed_points,
    fixed_points_claim,
    glass_entropies,
    hidden_digits,
    learning_from_examples,
    make_bags,
    modern_capacity,
    multitasking,
    one_step_claim,
    one_step_retrieval,
    retrieval_among_millions,
    retrieval_error,
    single_instance_claim,
    sparsey_codes,
)

TINY = {
    one_step_retrieval: {"num_seeds": 2, "num_stored": 100, "num_queries": 10},
    attention_agreement: {"num_seeds": 2, "num_stored": 20},
    retrieval_error: {"num_seeds": 2, "num_stored": 10},
    fixed_points: {"num_seeds": 1, "betas": [0.1, 8.0, 100.0]},
    classical_collapse: {"num_seeds": 2, "size": 50, "loads": (0.1, 0.2)},
    dense_capacity: {"num_seeds": 2, "sizes": (10, 14)},
    modern_capacity: {"num_seeds": 1, "dimensions": (4, 6), "most": 1000},
    classical_phases: {"loads": [0.05]},
    glass_entropies: {"temperatures": [0.5]},
    learning_from_examples: {
        "num_seeds": 2,
        "size": 20,
        "num_archetypes": 20,
        "num_examples": (5, 20),
        "num_queries": 5,
    },
    multitasking: {"num_seeds": 2, "size": 500, "dilutions": (0.0, 0.3)},
    false_matches: {"num_seeds": 1, "dimensions": (256, 2048), "num_codes": 100},
    sparsey_codes: {"num_seeds": 1, "num_stored": 20, "num_test": 20},
    bag_pooling: {"num_seeds": 2, "num_train": 16, "num_test": 16, "num_steps": 2, "batch_size": 8},
    few_shot: {"num_seeds": 2, "num_steps": 2, "num_test": 10, "record_every": 1},
    convex_hulls: {
        "num_seeds": 1,
        "num_steps": 2,
        "num_records": 2,
        "num_test": 10,
        "width": 8,
    },
    hidden_digits: {"num_seeds": 1, "num_stored": (4,), "num_queries": 4},
    retrieval_among_millions: {"num_stored": 5000, "num_queries": 8},
}
CLAIMS = {
    one_step_retrieval: ["one_step_claim", "classical_fails_claim"],
    attention_agreement: ["attention_claim"],
    retrieval_error: ["error_bound_claim"],
    fixed_points: ["fixed_points_claim"],
    classical_collapse: ["classical_capacity_claim"],
    dense_capacity: ["dense_capacity_claim"],
    modern_capacity: ["exponential_capacity_claim"],
    glass_entropies: ["glass_entropy_claim"],
    learning_from_examples: ["fourth_order_claim", "enough_examples_claim"],
    multitasking: ["hierarchical_claim", "parallel_claim", "undiluted_claim"],
    false_matches: ["match_rate_claim", "match_dimension_claim", "match_union_claim"],
    sparsey_codes: ["sparsey_similarity_claim", "sparsey_recognition_claim", "sparsey_class_claim"],
    bag_pooling: ["bag_pooling_claim", "single_instance_claim"],
    few_shot: ["learns_in_context_claim", "frozen_claim"],
    convex_hulls: ["pointer_accuracy_claim", "pointer_coverage_claim"],
}


@pytest.fixture(scope="module")
def tiny():
    return {f: f(**({"seed": 0} if "seed" in inspect.signature(f).parameters else {}), **kw) for f, kw in TINY.items()}


@pytest.mark.parametrize("experiment", list(TINY), ids=lambda f: f.__name__)
def test_everything_is_labelled(tiny, experiment):
    ds = tiny[experiment]
    assert ds.attrs["title"]
    for name, variable in ds.variables.items():
        assert {"long_name", "units"} <= set(variable.attrs), name
        if variable.dtype.kind == "f":
            assert np.isfinite(variable).all(), name
    assert set(ds.dims) <= set(ds.coords)
    for value in ds.attrs.values():
        assert isinstance(value, (str, int, float))


@pytest.mark.parametrize(
    "experiment", [f for f in TINY if "seed" in inspect.signature(f).parameters], ids=lambda f: f.__name__
)
def test_same_seed_same_numbers_and_no_global_state(tiny, experiment):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = experiment(seed=0, **TINY[experiment])
    assert torch.equal(torch.get_rng_state(), before)
    for name in set(again.data_vars) - {"seconds", "copy_seconds"}:
        xr.testing.assert_identical(again[name], tiny[experiment][name])


def test_claims_are_undecided_on_tiny_data_or_name_a_calculation(tiny):
    """What is too small to judge must not pass: only exact statements may be decided from it."""
    exact = {"attention_claim", "error_bound_claim", "glass_entropy_claim", "match_dimension_claim"}
    named = [name for names in CLAIMS.values() for name in names]
    assert sorted(named) == sorted(n for n in vars(module_under_test) if n.endswith("_claim"))
    for experiment, names in CLAIMS.items():
        for name in names:
            result = getattr(module_under_test, name)(tiny[experiment])
            assert isinstance(result, ClaimResult) and result.criterion
            assert name in exact or result.holds is None, name


def changed(ds, name, values):
    return ds.assign({name: ds[name].copy(data=np.broadcast_to(values, ds[name].shape))})


def test_one_step_claim_follows_its_criterion():
    ds = one_step_retrieval(seed=0, num_seeds=3, num_stored=1000, num_queries=20)
    for exact, holds in ((0.96, True), (0.94, False)):
        assert one_step_claim(changed(ds, "exact", exact)).holds is holds


def test_dense_capacity_claim_follows_its_criterion():
    ds = dense_capacity(seed=0, num_seeds=8, sizes=(8, 12, 16))
    n = ds["size"].values.astype(float)
    for power, holds in ((3.0, True), (2.0, False), (4.0, False)):
        result = dense_capacity_claim(changed(ds, "capacity", n**power))
        assert result.holds is holds and result.measured == pytest.approx(power)


def test_exponential_capacity_claim_tells_an_exponential_from_a_power():
    d = np.arange(8.0, 22, 2)
    noise = np.random.default_rng(0).normal(0, 0.02, (8, len(d)))
    coords = {"seed": np.arange(8), "dimension": d}
    for logs, holds in ((0.7 * d, True), (9 * np.log(d), None), (0.05 * d, False)):
        data = {"capacity": (("seed", "dimension"), np.exp(logs + noise)), "bound": ("dimension", np.zeros(len(d)))}
        assert exponential_capacity_claim(xr.Dataset(data, coords, {"most": 1e12})).holds is holds
        assert exponential_capacity_claim(xr.Dataset(data, coords, {"most": 1.0})).holds is None


def test_bag_claims_need_the_whole_interval(tiny):
    coords = {"seed": np.arange(6), "pooling": ["hopfield", "max", "mean"], "relevant": [1, 6]}
    noise = np.random.default_rng(0).normal(0, 0.01, (6, 1, 1))

    def dataset(several, single):
        auc = np.stack([np.broadcast_to(single, 3), np.broadcast_to(several, 3)], -1)[None] + np.zeros((6, 1, 1))
        auc = auc + noise * np.array([1.0, -1.0, -1.0])[None, :, None]
        return xr.Dataset({"auc": (("seed", "pooling", "relevant"), auc)}, coords)

    assert bag_pooling_claim(dataset([0.95, 0.9, 0.85], 0.99)).holds is True
    assert bag_pooling_claim(dataset([0.95, 0.951, 0.85], 0.99)).holds is None
    assert bag_pooling_claim(dataset([0.85, 0.95, 0.80], 0.99)).holds is False
    assert single_instance_claim(dataset(0.9, [0.98, 0.99, 0.9])).holds is True
    assert single_instance_claim(dataset(0.9, [0.98, 0.9, 0.9])).holds is False


def test_fixed_points_claim_at_its_own_size():
    ds = fixed_points(seed=3, num_seeds=3, betas=np.geomspace(0.1, 200, 9))
    assert fixed_points_claim(ds).holds is True
    assert fixed_points_claim(ds.isel(beta=slice(4, None))).holds is False  # without the hot end no global mean


def test_own_patterns_and_own_images():
    X, cluster = clustered_patterns(2, 5, 8, seed=0)
    ds = fixed_points(seed=0, betas=[0.05, 200.0], patterns=X, clusters=cluster)
    assert ds.sizes["seed"] == 1 and ds.share.sel(kind="global").isel(beta=0).item() == 1
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 4
    images = (torch.rand(4, 30, generator=generator)[y] + 0.3 * torch.rand(200, 30, generator=generator)) / 1.3
    assert sparsey_codes(seed=0, num_seeds=1, num_stored=40, num_test=50, X=images, y=y).accuracy.max() > 0.5
    found = hidden_digits(seed=0, num_seeds=1, num_stored=(4,), memories=("modern",), num_queries=4, X=images, y=y)
    assert found.fidelity.max() > 0.9
    few_shot(seed=0, num_seeds=1, num_steps=1, num_test=5, record_every=1, rules=("delta",), X=images, y=y)
    with pytest.raises(ValueError, match="together"):
        sparsey_codes(seed=0, X=images)


def test_bags_carry_their_label_in_marked_instances_only():
    X, y = make_bags(2000, relevant=6, seed=0)
    axes = torch.linalg.qr(torch.randn(16, 2, generator=torch.Generator().manual_seed(0))).Q
    marked = (X @ axes[:, 0]) > 2.5
    side = (X @ axes[:, 1]) * (2 * y - 1)[:, None]
    assert float(side[marked].mean()) > 0.5 and abs(float(side[~marked].mean())) < 0.05


def test_energy_surface_marks_fixed_points_where_the_energy_is_flat():
    ds = energy_surface([[1.0, 0.0], [0.9, 0.2], [-1.0, 0.0], [0.0, 1.0]], 12.0, num_grid=21)
    assert set(ds.point_kind.values) == {"single", "metastable"}
    assert ds.energy.dims == ("y", "x")
    lowest = ds.energy.where(ds.x < 0).argmin(["x", "y"])
    assert abs(float(ds.x[lowest["x"]]) + 1) < 0.15 and abs(float(ds.y[lowest["y"]])) < 0.15
    with pytest.raises(ValueError, match="two coordinates"):
        energy_surface(torch.ones(3, 3), 1.0)


def test_a_pooled_claim_has_a_spread_and_a_number_of_seeds():
    ds = attention_agreement(seed=0, num_seeds=2)
    result = module_under_test.attention_claim(ds)
    assert result.holds is True and result.seeds == 2
    assert module_under_test.attention_claim(ds + 1e-3).holds is False
    assert math.isnan(module_under_test._half_interval([1.0]))
