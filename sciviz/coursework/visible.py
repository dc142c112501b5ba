"""What a student's notebook uses: the seed that is theirs, and visible checks. Imports nothing heavy."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any


def seed_of(student: str, seed_key: str = "practice") -> int:
    """Return the seed that belongs to a student: no two have the same numbers to copy.

    Parameters
    ----------
    student
        The id that the teacher knows the student by; capitals and blanks around it do not matter.
    seed_key
        The class's; it stands in the notebook. It is made from the teacher's secret, which it does not tell.

    >>> seed_of("ada") == seed_of(" Ada "), seed_of("ada") == seed_of("alan")
    (True, False)
    """
    digest = hmac.new(seed_key.encode(), student.strip().casefold().encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:4], "big") % 2**31


def check(question: str, answer: Any, checks: Sequence[tuple[Callable[[Any], Any], str]]) -> None:
    """Try an answer against visible checks, and say the first hint whose test is not met.

    Parameters
    ----------
    question
        Its id.
    answer
        What the student wrote: a function or a value, or a tuple of several.
    checks
        Pairs of a test (`answer -> truth`) and what to say if it is not met.

    Raises
    ------
    AssertionError
        With the hint; nbgrader counts a check that raises as not passed.

    >>> check("half", lambda x: x / 2, [(lambda f: f(4) == 2, "half of four is two")])
    half: the visible checks pass. Hidden ones follow when it is graded.
    """
    for test, hint in checks:
        try:
            good = bool(test(answer))
        except NotImplementedError:
            raise AssertionError(f"{question}: Not answered yet. Write your code in the cell above.") from None
        except Exception as error:
            if answer is None or answer is ...:
                raise AssertionError(f"{question}: Not answered yet. Write your code in the cell above.") from None
            raise AssertionError(f"{question}: your code raised {type(error).__name__}: {error}") from error
        if not good:
            if answer is None or answer is ...:
                raise AssertionError(f"{question}: Not answered yet. Write your code in the cell above.")
            raise AssertionError(f"{question}: {hint}")
    print(f"{question}: the visible checks pass. Hidden ones follow when it is graded.")
