"""Where the tutorials and the course's records lie, in a checkout and in an installed wheel alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sciviz.lab.checks import check_choice

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parent


def _folder(name: str) -> Path:
    # A wheel carries the folder inside the package; a checkout has it beside the package.
    inside = _PACKAGE / f"_{name}"
    return inside if inside.is_dir() else _CHECKOUT / name


def tutorials_dir() -> Path:
    """Return the folder that holds the tutorials."""
    return _folder("tutorials")


def course_dir() -> Path:
    """Return the folder that holds the course's records (`claims.json`, `papers.bib`)."""
    return _folder("course")


def checkout_dir() -> Path | None:
    """Return the root of the checkout this package runs from, or None when it is installed from a wheel."""
    return _CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "tutorials").is_dir() else None


@dataclass(frozen=True)
class Tutorial:
    """One notebook of the course, or one of the reader's own.

    Attributes
    ----------
    path
        The notebook.
    number
        Its place in the course; None for a notebook of the reader's own.
    wing
        The sub-package it teaches (`ntk` in `01_ntk`); empty where there is none.
    """

    path: Path
    number: int | None
    wing: str

    @property
    def stem(self) -> str:
        """The file's name without its extension."""
        return self.path.stem


# The tutorial is named after the method, the wing after its shortest usual name; these are the ones that differ.
_WING_OF = {"rectified_flow": "flow", "neural_ode": "ode"}


def tutorials() -> list[Tutorial]:
    """List the tutorials of the course in their order (`00_start_here` is not one of them).

    >>> [tutorial.wing for tutorial in tutorials()][:1]
    ['ntk']
    """
    found = []
    for path in sorted(tutorials_dir().glob("[0-9][0-9]_*.ipynb")):
        number, name = path.stem.split("_", 1)
        if int(number) > 0:
            found.append(Tutorial(path, int(number), _WING_OF.get(name, name)))
    return found


def find_tutorial(name: str) -> Tutorial:
    """Find a tutorial by its number, wing, stem or path, or wrap a notebook of the reader's own.

    Raises
    ------
    ValueError
        If nothing in the course has that name and no notebook lies at that path.

    >>> find_tutorial("1").stem, find_tutorial("ntk").stem, find_tutorial("01_ntk").stem
    ('01_ntk', '01_ntk', '01_ntk')
    """
    known = tutorials()
    for tutorial in known:
        if re.fullmatch(r"\d+", name) and int(name) == tutorial.number:
            return tutorial
        if name in (tutorial.wing, tutorial.stem, tutorial.stem.split("_", 1)[1]):
            return tutorial
    path = Path(name)
    if path.suffix == ".ipynb":
        if not path.is_file():
            raise ValueError(f"tutorial must be a notebook that exists, got {name!r}, where there is no file.")
        same = [tutorial for tutorial in known if tutorial.path.resolve() == path.resolve()]
        return same[0] if same else Tutorial(path.resolve(), None, "")
    check_choice([word for tutorial in known for word in (tutorial.wing, tutorial.stem)], tutorial=name)
    raise AssertionError("unreachable")
