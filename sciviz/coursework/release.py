"""Students' copies, made from the instructor's notebook by nbgrader's own steps, the same on every run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat

from sciviz.coursework.source import BEGIN, Assignment, complete, role

_IN_FUNCTION = "# YOUR CODE HERE\nraise NotImplementedError()"
_AT_TOP = "# YOUR CODE HERE"
_KEPT = ("role", "question", "answers")


def need_nbgrader() -> None:
    """Raise unless nbgrader is installed.

    Raises
    ------
    RuntimeError
        With what to install.
    """
    try:
        import nbgrader  # noqa: F401
    except ImportError:
        raise RuntimeError('coursework needs nbgrader: install it with  pip install "sciviz[coursework]"') from None


def student_copy(assignment: Assignment, variant: Mapping[str, Any] | None = None, seed_key: str = "practice") -> Any:
    """Return the notebook that students get.

    Parameters
    ----------
    variant
        The class's constants; the practice ones if None.
    seed_key
        What a student's seed is made with, besides the id.
    """
    need_nbgrader()
    from nbgrader.preprocessors import CheckCellMetadata, ClearOutput, ClearSolutions, ComputeChecksums, LockCells

    constants = dict(assignment.checks.practice if variant is None else variant)
    notebook = deepcopy(assignment.notebook)
    complete(notebook)
    put_variant(notebook, constants, seed_key)
    resources: dict[str, Any] = {"language": "python"}
    for index, cell in enumerate(notebook.cells):
        if role(cell) in ("answer", "manual"):
            # A stub that raises stops Run All; it can only be inside a function that nobody has called yet.
            stub = _IN_FUNCTION if re.search(rf"^[ \t]+{re.escape(BEGIN)}", cell.source, re.MULTILINE) else _AT_TOP
            step = ClearSolutions(code_stub={"python": stub})
            step.preprocess_cell(cell, resources, index)
        ours = cell.metadata.pop("sciviz", None)
        if ours:
            cell.metadata["sciviz"] = nbformat.from_dict({name: ours[name] for name in _KEPT if name in ours})
    for step in (LockCells(), ClearOutput(), CheckCellMetadata(), ComputeChecksums()):
        notebook, resources = step.preprocess(notebook, resources)
    notebook.metadata["sciviz"] = nbformat.from_dict({"assignment": assignment.name, "title": assignment.title})
    return notebook


def put_variant(notebook: Any, constants: Mapping[str, Any], seed_key: str) -> None:
    """Write a variant's constants into the variant cell and wherever Markdown asks for one, in place.

    Raises
    ------
    ValueError
        If Markdown asks for a constant that the variant has not.
    """
    for cell in notebook.cells:
        if role(cell) == "variant":
            cell.source = "\n".join(
                f"{name} = {value!r}" for name, value in {"seed_key": seed_key, **constants}.items()
            )
        elif cell.cell_type == "markdown":
            asked = set(re.findall(r"\{\{(\w+)\}\}", cell.source))
            if unknown := asked - set(constants):
                raise ValueError(f"cell {cell.id} asks for {sorted(unknown)}, which no variant sets.")
            cell.source = re.sub(r"\{\{(\w+)\}\}", lambda match: str(constants[match[1]]), cell.source)


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def release(
    assignment: Assignment, folder: Path, variant: Mapping[str, Any] | None = None, seed_key: str = "practice"
) -> Path:
    """Write a students' copy to `folder/NAME/NAME.ipynb`, as nbgrader lays it out, and return its path."""
    path = folder / assignment.name / f"{assignment.name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(released_text(assignment, variant, seed_key), encoding="utf-8")
    part.replace(path)
    return path


def write_source(assignment: Assignment, folder: Path, variant: Mapping[str, Any], seed_key: str) -> Path:
    """Write the instructor's notebook with a class's constants to `folder/NAME/NAME.ipynb`, where formgrader looks for it."""
    notebook = deepcopy(assignment.notebook)
    complete(notebook)
    put_variant(notebook, variant, seed_key)
    path = folder / assignment.name / f"{assignment.name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(str(nbformat.writes(notebook)).rstrip("\n") + "\n", encoding="utf-8")
    part.replace(path)
    return path


def released_text(assignment: Assignment, variant: Mapping[str, Any] | None = None, seed_key: str = "practice") -> str:
    """Return a students' copy as the file's text."""
    notebook = student_copy(assignment, variant, seed_key)
    nbformat.validate(notebook)
    return str(nbformat.writes(notebook)).rstrip("\n") + "\n"
