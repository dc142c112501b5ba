"""The catalogue: each stated identity is exact, and the matcher finds disguises it has not been told of."""

import math

import numpy as np
import pytest
import torch

from sciviz.kan.activations import (
    CATALOGUE,
    NamedActivation,
    affine_match,
    find_duplicates,
    identity_text,
    match_catalogue,
    stated_pairs,
)

X = torch.linspace(-8, 8, 3001, dtype=torch.float64)


def test_the_catalogue_is_large_finite_and_has_a_formula_for_each():
    assert len(CATALOGUE) >= 40
    for name, entry in CATALOGUE.items():
        assert entry.name == name and entry.formula
        assert entry.function(X).isfinite().all(), name
        assert entry.function(X.float()).dtype == torch.float32, name


@pytest.mark.parametrize("name", [n for n, e in CATALOGUE.items() if e.same_as])
def test_stated_identities_are_exact(name):
    other, a, b, c, d = CATALOGUE[name].same_as
    assert other in CATALOGUE and a != 0 and c != 0
    torch.testing.assert_close(
        CATALOGUE[name].function(X), c * CATALOGUE[other].function(a * X + b) + d, rtol=1e-12, atol=1e-12
    )
    assert identity_text(name).startswith(f"{name}(x) = ")


def test_known_functions_are_what_they_are_called():
    values = {n: CATALOGUE[n].function(X) for n in CATALOGUE}
    torch.testing.assert_close(values["SELU"], torch.nn.functional.selu(X))
    torch.testing.assert_close(values["CELU"], torch.nn.functional.celu(X, 2.0))
    torch.testing.assert_close(values["Mish"], torch.nn.functional.mish(X))
    torch.testing.assert_close(values["tanh shrinkage"], torch.nn.functional.tanhshrink(X))
    torch.testing.assert_close(values["softplus"], torch.nn.functional.softplus(X))
    torch.testing.assert_close(values["probit"], torch.special.ndtr(X))


SMOOTH = [
    "sigmoid",
    "erf",
    "arctan",
    "softplus",
    "SiLU",
    "Mish",
    "Gaussian",
    "sine",
    "x + sin x",
    "ELU",
    "relu",
    "hard tanh",
]


@pytest.mark.parametrize("name", SMOOTH)
def test_the_matcher_undoes_a_disguise_that_is_on_no_grid(name):
    g = CATALOGUE[name].function
    rng = np.random.default_rng(len(name))
    a, b, c, d = rng.uniform(0.7, 1.6), rng.uniform(-1, 1), rng.uniform(0.5, 3), rng.uniform(-2, 2)
    match = affine_match(lambda x: c * g(a * x + b) + d, g)
    assert match.error < 1e-6
    fitted = match.c * g(match.a * X + match.b) + match.d
    torch.testing.assert_close(fitted, c * g(a * X + b) + d, atol=1e-5, rtol=1e-5)


def test_found_pairs_are_those_stated():
    found = [duplicate.names for duplicate in find_duplicates()]
    assert found == stated_pairs()
    assert len(found) >= 15


def test_one_direction_is_no_proof():
    few = {n: CATALOGUE[n] for n in ("relu", "ReLU6", "identity", "tanh")}
    matches = match_catalogue(few)
    assert matches["relu", "ReLU6"].error < 1e-9
    assert matches["identity", "tanh"].error < 1e-6
    assert ("ReLU6", "relu") not in matches or matches["ReLU6", "relu"].error > 1e-3
    assert find_duplicates(few) == []


def test_close_is_not_the_same():
    few = {n: CATALOGUE[n] for n in ("GELU", "GELU, tanh form", "quick GELU", "erf", "tanh")}
    assert find_duplicates(few) == []
    assert len(find_duplicates(few, tolerance=0.02)) >= 3


def test_a_users_own_function_is_matched():
    mine = {
        "mine": NamedActivation("mine", "", lambda x: 3 / (1 + torch.exp(-2.2 * x + 0.3))),
        "tanh": CATALOGUE["tanh"],
    }
    (duplicate,) = find_duplicates(mine)
    assert duplicate.names == ("mine", "tanh")
    assert abs(duplicate.forward.a) == pytest.approx(1.1) and "g(" in str(duplicate.forward)


def test_bad_input():
    with pytest.raises(ValueError, match="low must be less"):
        affine_match(torch.tanh, torch.sin, low=1.0, high=1.0)
    with pytest.raises(ValueError, match="activation"):
        identity_text("rleu")
    assert identity_text("relu") == ""
    assert affine_match(lambda x: torch.full_like(x, math.pi), torch.tanh).error == pytest.approx(0.0, abs=1e-12)
