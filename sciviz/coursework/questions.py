"""What the checks of an assignment are written with: cases, questions, and a comparison that says what is wrong."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Verdict = tuple[float, str]


class Case:
    """One thing that the grader asks of a student's answer.

    Attributes
    ----------
    weight
        Its share of the question's points, relative to the other cases.
    seconds
        Time limit; None for the assignment's own.
    label
        What the feedback calls it.
    """

    weight: float
    seconds: float | None
    label: str

    def request(self) -> dict[str, Any]:
        """Return what is sent to the sandbox."""
        raise NotImplementedError


class Call(Case):
    """Call the student's function.

    >>> Call("kernel", 1.0, depth=2).request()["kwargs"]
    {'depth': 2}
    """

    def __init__(
        self,
        name: str,
        /,
        *args: Any,
        weight: float = 1.0,
        seconds: float | None = None,
        label: str = "",
        **kwargs: Any,
    ) -> None:
        self.name, self.args, self.kwargs = name, args, kwargs
        self.weight, self.seconds, self.label = weight, seconds, label

    def request(self) -> dict[str, Any]:
        """Return what is sent to the sandbox."""
        return {"kind": "call", "name": self.name, "args": list(self.args), "kwargs": self.kwargs}


class Value(Case):
    """Look at the student's variable."""

    def __init__(self, name: str, /, *, weight: float = 1.0, seconds: float | None = None, label: str = "") -> None:
        self.name = name
        self.weight, self.seconds, self.label = weight, seconds, label

    def request(self) -> dict[str, Any]:
        """Return what is sent to the sandbox."""
        return {"kind": "value", "name": self.name}


class Program(Case):
    """Run source of ours in the sandbox, beside the student's names, and look at its variable `result`.

    Parameters
    ----------
    source
        Sees the student's names and `data`; what it assigns is its own.
    data
        Arrays, numbers, strings, by the name that the source uses.
    """

    def __init__(
        self, source: str, /, *, weight: float = 1.0, seconds: float | None = None, label: str = "", **data: Any
    ) -> None:
        self.source, self.data = source, data
        self.weight, self.seconds, self.label = weight, seconds, label

    def request(self) -> dict[str, Any]:
        """Return what is sent to the sandbox."""
        return {"kind": "program", "source": self.source, "data": self.data}


@dataclass(frozen=True)
class Wrong:
    """A mistake that students really make: the text of the whole answer cell, and the share of the points it gets."""

    name: str
    source: str
    fraction: float


@dataclass(frozen=True)
class Mistake:
    """What a typical mistake returns, the share of the points it gets, and what is said of it."""

    value: Any
    fraction: float
    message: str


@dataclass(frozen=True)
class Question:
    """The hidden checks of one question.

    Attributes
    ----------
    inputs
        `(rng, variant) → cases`.
    reference
        `(case, variant) → the right value`.
    judge
        `(answer, case, variant) → (fraction, message)`; without it `compare` with `rtol` and `atol`.
    in_place
        The share of its marks that an answer keeps which changes its input.
    """

    inputs: Callable[[np.random.Generator, dict[str, Any]], Sequence[Case]]
    reference: Callable[[Any, dict[str, Any]], Any]
    judge: Callable[[Any, Any, dict[str, Any]], Verdict] | None = None
    wrong: Sequence[Wrong] = ()
    rtol: float = 1e-6
    atol: float = 1e-9
    in_place: float = 0.5


@dataclass(frozen=True)
class Checks:
    """The check module of an assignment, loaded."""

    practice: dict[str, Any]
    draw: Callable[[np.random.Generator], dict[str, Any]]
    questions: dict[str, Question] = field(default_factory=dict)


def load_checks(path: Path) -> Checks:
    """Load `NAME.py` of an assignment. It is the teacher's own code and runs with the teacher's rights.

    Raises
    ------
    ValueError
        If it lacks one of its names.
    """
    name = f"_sciviz_checks_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ValueError(f"the assignment's checks must lie in {path}, where there is no file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    missing = [word for word in ("PRACTICE", "draw", "QUESTIONS") if not hasattr(module, word)]
    if missing:
        raise ValueError(f"{path.name} must define {', '.join(missing)}.")
    return Checks(dict(module.PRACTICE), module.draw, dict(module.QUESTIONS))


def compare(
    answer: Any, right: Any, *, rtol: float = 1e-6, atol: float = 1e-9, mistakes: Sequence[Mistake] = ()
) -> Verdict:
    """Compare an answer with the right value, and say what kind of mistake it is without quoting a number.

    Parameters
    ----------
    answer
        What came back from the sandbox.
    right
        Number, array, tensor, string, truth value, or a tuple, list or dict of them.
    rtol, atol
        An entry counts as right within `atol + rtol · |right|`.
    mistakes
        Typical mistakes, the one that fits best first.

    >>> compare([1.0, 2.0], np.array([1.0, 2.0]))
    (1.0, 'Right.')
    >>> compare(np.eye(2) * 3, np.eye(2), mistakes=[Mistake(np.eye(2) * 3, 0.5, "The scale is missing.")])
    (0.5, 'The scale is missing.')
    """
    if _same(answer, right, rtol, atol):
        return 1.0, "Right."
    for mistake in mistakes:
        if _same(answer, mistake.value, rtol, atol):
            return mistake.fraction, mistake.message
    return 0.0, _difference(answer, right, rtol, atol)


def _plain(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _numbers(value: Any) -> np.ndarray[Any, Any] | None:
    """Return a value as an array of numbers, or None if it is none."""
    value = _plain(value)
    if value is None or isinstance(value, (str, bytes, Mapping)):
        return None
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        return None
    return array if array.dtype.kind in "biufc" else None


def _same(answer: Any, right: Any, rtol: float, atol: float) -> bool:
    right = _plain(right)
    if isinstance(right, Mapping):
        return (
            isinstance(answer, Mapping)
            and set(answer) == set(right)
            and all(_same(answer[name], value, rtol, atol) for name, value in right.items())
        )
    if isinstance(right, tuple):
        return (
            isinstance(answer, (tuple, list))
            and len(answer) == len(right)
            and all(_same(a, r, rtol, atol) for a, r in zip(answer, right, strict=True))
        )
    if right is None or isinstance(right, str):
        return type(answer) is type(right) and bool(answer == right)
    got, wanted = _numbers(answer), _numbers(right)
    if got is None or wanted is None or got.shape != wanted.shape:
        return False
    if wanted.dtype.kind == "b" and got.dtype.kind != "b":
        return False
    with np.errstate(all="ignore"):
        return bool(np.allclose(got, wanted, rtol=rtol, atol=atol, equal_nan=True))


def _difference(answer: Any, right: Any, rtol: float, atol: float) -> str:
    right = _plain(right)
    if answer is None and right is not None:
        return "Nothing was returned. Is there a return at the end?"
    if isinstance(right, tuple):
        if not isinstance(answer, (tuple, list)) or len(answer) != len(right):
            return f"{len(right)} values are wanted, as a tuple."
        wrong = [i for i, (a, r) in enumerate(zip(answer, right, strict=True), 1) if not _same(a, r, rtol, atol)]
        return f"Of the {len(right)} values, number {', '.join(map(str, wrong))} is wrong."
    if isinstance(right, Mapping):
        if not isinstance(answer, Mapping) or set(answer) != set(right):
            return f"A dict with the keys {', '.join(sorted(right))} is wanted."
        wrong_keys = [name for name, value in right.items() if not _same(answer[name], value, rtol, atol)]
        return f"The value of {', '.join(wrong_keys)} is wrong."
    if right is None or isinstance(right, str):
        return "The value is wrong." if type(answer) is type(right) else "The value is of the wrong type."
    got, wanted = _numbers(answer), _numbers(right)
    if wanted is None or got is None:
        return f"Numbers are wanted, not {type(answer).__name__}."
    if got.ndim != wanted.ndim:
        return f"The result has {got.ndim} dimensions and should have {wanted.ndim}."
    if got.shape != wanted.shape:
        if got.shape == wanted.shape[::-1]:
            return "The result has the right sizes in the wrong order: rows and columns are exchanged."
        return "The result has the right number of dimensions, but not the right sizes."
    if wanted.dtype.kind == "b" and got.dtype.kind != "b":
        return "Truth values are wanted."
    if wanted.dtype.kind in "iufc" and got.dtype.kind in "iufc":
        with np.errstate(all="ignore"):
            if not np.isfinite(got).all() and np.isfinite(wanted).all():
                return "The result holds NaN or infinite numbers. Which step overflows, or divides by zero?"
            if wanted.size > 1 and np.abs(wanted).max() > 0:
                factor = np.vdot(wanted, got) / np.vdot(wanted, wanted)
                if abs(factor) > 1e-12 and np.allclose(got, factor * wanted, rtol=max(rtol, 1e-6), atol=atol):
                    return (
                        "All entries are wrong by one and the same factor. Which constant is missing, or there twice?"
                    )
            if wanted.ndim == 2 and wanted.shape[0] == wanted.shape[1] and np.allclose(got, wanted.T, rtol, atol):
                return "Rows and columns are exchanged."
            if np.allclose(got, wanted, rtol=max(1e3 * rtol, 1e-3), atol=1e3 * atol):
                return "Nearly right, but not to the digits that are asked for. Is it computed in float32?"
    return "The numbers are wrong."
