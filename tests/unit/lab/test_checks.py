"""Bad input is one clear sentence that names the argument, what was given and what is accepted."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciviz.lab import checks

BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: checks.check_positive(width=-3), ValueError, "width must be a finite number greater than 0, got -3."),
    (lambda: checks.check_positive(width=0), ValueError, "got 0."),
    (lambda: checks.check_positive(lr=float("nan")), ValueError, "got nan."),
    (lambda: checks.check_positive(lr=float("inf")), ValueError, "got inf."),
    (lambda: checks.check_positive(lr="0.1"), TypeError, "lr must be a number, got '0.1' (str)."),
    (lambda: checks.check_positive(lr=True), TypeError, "(bool)"),
    (
        lambda: checks.check_nonnegative(beta=-1e-9),
        ValueError,
        "beta must be a finite number of at least 0, got -1e-09.",
    ),
    (lambda: checks.check_int(1, width=0), ValueError, "width must be an integer of at least 1, got 0."),
    (lambda: checks.check_int(1, 8, depth=9), ValueError, "depth must be an integer from 1 to 8, got 9."),
    (lambda: checks.check_int(1, width=2.0), TypeError, "width must be an integer of at least 1, got 2.0 (float)."),
    (lambda: checks.check_int(0, width=True), TypeError, "got True (bool)."),
    (
        lambda: checks.check_choice(["relu", "erf"], activation="rleu"),
        ValueError,
        "activation must be one of 'relu', 'erf', got 'rleu'. Did you mean 'relu'?",
    ),
    (lambda: checks.check_choice(["relu", "erf"], activation="swish"), ValueError, "got 'swish'."),
    (
        lambda: checks.check_finite(X=torch.tensor([[0.0, float("nan")], [float("inf"), 1.0]])),
        ValueError,
        "X must hold finite numbers only, got 2 of 4 that are not (first at index (0, 1)).",
    ),
    (
        lambda: checks.check_finite(y=np.array([1.0, -np.inf])),
        ValueError,
        "got 1 of 2 that are not (first at index (1,)).",
    ),
    (lambda: checks.check_ndim(2, X=torch.zeros(3)), ValueError, "X must have 2 dimensions, got 1 (shape (3,))."),
    (lambda: checks.check_ndim(1, y=torch.zeros(3, 1)), ValueError, "y must have 1 dimension, got 2 (shape (3, 1))."),
    (
        lambda: checks.check_same_last_dim(query=torch.zeros(1, 3), patterns=torch.zeros(5, 4)),
        ValueError,
        "query and patterns must have the same last dimension, got shapes query (1, 3), patterns (5, 4).",
    ),
    (
        lambda: checks.check_same_length(X=torch.zeros(4, 2), y=np.zeros(3)),
        ValueError,
        "X and y must have the same first dimension, got shapes X (4, 2), y (3,).",
    ),
    (
        lambda: checks.check_same_shape(a=torch.zeros(4, 2), b=torch.zeros(2, 4)),
        ValueError,
        "a and b must have the same shape, got shapes a (4, 2), b (2, 4).",
    ),
]


@pytest.mark.parametrize(("call", "kind", "words"), BAD)
def test_bad_input_is_one_sentence(call: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert words in message
    assert "\n" not in message and message.endswith((".", "?")) and len(message) < 160


def test_good_input_passes() -> None:
    checks.check_positive(a=1, b=0.5, c=np.float32(2), d=torch.tensor(3.0))
    checks.check_nonnegative(a=0, b=0.0)
    checks.check_int(0, 5, a=0, b=5, c=np.int64(3))
    checks.check_int(1, a=10**12)
    checks.check_choice({"a": 1}, which="a")
    checks.check_finite(a=torch.ones(2), b=np.zeros(0), c=torch.tensor([1, 2]))
    checks.check_ndim(0, a=torch.tensor(1.0))
    checks.check_same_last_dim(a=torch.zeros(2, 3), b=np.zeros(3))
    checks.check_same_length(a=torch.zeros(2, 3), b=np.zeros(2))
    checks.check_same_shape(a=torch.zeros(2, 3), b=np.zeros((2, 3)))


def test_first_wrong_argument_is_named() -> None:
    with pytest.raises(ValueError, match=re.escape("b must be")):
        checks.check_positive(a=1.0, b=-1.0, c=-2.0)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_positive_takes_exactly_the_positive(value: float) -> None:
    if 0 < value < float("inf"):
        checks.check_positive(value=value)
    else:
        with pytest.raises(ValueError):
            checks.check_positive(value=value)


@given(st.integers(-5, 5), st.integers(-3, 0), st.integers(0, 3))
def test_int_takes_exactly_its_range(value: int, low: int, high: int) -> None:
    if low <= value <= high:
        checks.check_int(low, high, value=value)
    else:
        with pytest.raises(ValueError):
            checks.check_int(low, high, value=value)
