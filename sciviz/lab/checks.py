"""Input checks that name the argument, what was given and what is accepted.

Every public function of the package checks its arguments with these, so that a mistake is one clear
sentence wherever it is made. They know torch tensors and NumPy arrays by what they can do, and import neither.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in value.shape)


def check_positive(**values: float) -> None:
    """Raise unless every named number is finite and greater than zero.

    Raises
    ------
    TypeError
        If a value is not a real number.
    ValueError
        If a value is not finite or not greater than zero.

    >>> check_positive(beta=2.0)
    >>> check_positive(beta=-1)
    Traceback (most recent call last):
    ...
    ValueError: beta must be a finite number greater than 0, got -1.
    """
    for name, value in values.items():
        if not (math.isfinite(_real(name, value)) and value > 0):
            raise ValueError(f"{name} must be a finite number greater than 0, got {value!r}.")


def check_nonnegative(**values: float) -> None:
    """Raise unless every named number is finite and at least zero.

    Raises
    ------
    TypeError
        If a value is not a real number.
    ValueError
        If a value is not finite or is negative.

    >>> check_nonnegative(bias_variance=0.0)
    """
    for name, value in values.items():
        if not (math.isfinite(_real(name, value)) and value >= 0):
            raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}.")


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__}).")
    return float(value)


def check_int(low: int, high: int | None = None, **values: int) -> None:
    """Raise unless every named value is an integer in [low, high] (no upper limit if `high` is None).

    Raises
    ------
    TypeError
        If a value is not an integer.
    ValueError
        If a value is outside the range.

    >>> check_int(1, width=64)
    >>> check_int(1, width=-3)
    Traceback (most recent call last):
    ...
    ValueError: width must be an integer of at least 1, got -3.
    """
    accepted = f"of at least {low}" if high is None else f"from {low} to {high}"
    for name, value in values.items():
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{name} must be an integer {accepted}, got {value!r} ({type(value).__name__}).")
        if value < low or (high is not None and value > high):
            raise ValueError(f"{name} must be an integer {accepted}, got {value!r}.")


def check_choice(accepted: Iterable[str], **values: str) -> None:
    """Raise unless every named value is one of the accepted words; the nearest one is suggested.

    Raises
    ------
    ValueError
        If a value is none of the accepted ones.

    >>> check_choice(["relu", "erf"], activation="rleu")
    Traceback (most recent call last):
    ...
    ValueError: activation must be one of 'relu', 'erf', got 'rleu'. Did you mean 'relu'?
    """
    words = list(accepted)
    for name, value in values.items():
        if value not in words:
            near = difflib.get_close_matches(str(value), words, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{name} must be one of {', '.join(map(repr, words))}, got {value!r}.{hint}")


def check_finite(**arrays: Any) -> None:
    """Raise unless every named tensor or array holds finite numbers only.

    Raises
    ------
    ValueError
        If an entry is NaN or infinite; the message counts them and names the first.

    >>> import torch
    >>> check_finite(X=torch.tensor([0.0, float("nan")]))
    Traceback (most recent call last):
    ...
    ValueError: X must hold finite numbers only, got 1 of 2 that are not (first at index (1,)).
    """
    for name, array in arrays.items():
        # One test for torch and NumPy alike, and one that NumPy does not warn of: NaN compares as false.
        bad = ~(abs(array) < math.inf)
        count = int(bad.sum())
        if count:
            first = tuple(int(i) for i in (bad.argwhere() if hasattr(bad, "argwhere") else _argwhere(bad))[0])
            total = math.prod(_shape(array))
            raise ValueError(
                f"{name} must hold finite numbers only, got {count} of {total} that are not (first at index {first})."
            )


def _argwhere(mask: Any) -> Any:
    import numpy as np

    return np.argwhere(np.asarray(mask))


def check_ndim(ndim: int, **arrays: Any) -> None:
    """Raise unless every named tensor has `ndim` dimensions.

    Raises
    ------
    ValueError
        If a tensor has another number of dimensions.

    >>> import torch
    >>> check_ndim(2, X=torch.zeros(3))
    Traceback (most recent call last):
    ...
    ValueError: X must have 2 dimensions, got 1 (shape (3,)).
    """
    for name, array in arrays.items():
        if len(_shape(array)) != ndim:
            raise ValueError(
                f"{name} must have {ndim} dimension{'s' if ndim != 1 else ''}, "
                f"got {len(_shape(array))} (shape {_shape(array)})."
            )


def _check_same(what: str, measure: Any, arrays: dict[str, Any]) -> None:
    seen = {name: measure(array) for name, array in arrays.items()}
    if len(set(seen.values())) > 1:
        names = " and ".join(arrays)
        got = ", ".join(f"{name} {_shape(array)}" for name, array in arrays.items())
        raise ValueError(f"{names} must have the same {what}, got shapes {got}.")


def check_same_last_dim(**arrays: Any) -> None:
    """Raise unless all named tensors agree in their last dimension.

    Raises
    ------
    ValueError
        If they differ.

    >>> import torch
    >>> check_same_last_dim(query=torch.zeros(1, 3), patterns=torch.zeros(5, 4))
    Traceback (most recent call last):
    ...
    ValueError: query and patterns must have the same last dimension, got shapes query (1, 3), patterns (5, 4).
    """
    _check_same("last dimension", lambda array: _shape(array)[-1:], arrays)


def check_same_length(**arrays: Any) -> None:
    """Raise unless all named tensors agree in their first dimension.

    Raises
    ------
    ValueError
        If they differ.

    >>> import torch
    >>> check_same_length(X=torch.zeros(4, 2), y=torch.zeros(4))
    """
    _check_same("first dimension", lambda array: _shape(array)[:1], arrays)


def check_same_shape(**arrays: Any) -> None:
    """Raise unless all named tensors have the same shape.

    Raises
    ------
    ValueError
        If they differ.

    >>> import torch
    >>> check_same_shape(a=torch.zeros(4, 2), b=torch.zeros(4, 2))
    """
    _check_same("shape", _shape, arrays)
