"""An assignment as its author wrote it: a notebook whose cells have roles, and the checks beside it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sciviz.coursework.questions import Checks, load_checks
from sciviz.lab.places import course_dir, tutorials

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
ROLES = ("student", "variant", "setup", "question", "answer", "check", "manual")
LIMITS = {"cell": 60.0, "call": 10.0, "total": 240.0, "memory_mb": 3000.0}
_LOCKED = ("variant", "setup", "question", "check")


@dataclass(frozen=True)
class Asked:
    """A question of an assignment.

    Attributes
    ----------
    answers
        Names that the student writes; empty if it is graded by hand.
    hidden
        What the sandbox hides.
    manual
        Whether it is graded by hand.
    """

    id: str
    points: float
    answers: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    manual: bool = False

    @property
    def grade_cell(self) -> str:
        """The nbgrader cell that holds its points."""
        return self.id if self.manual else f"{self.id}-check"


@dataclass(frozen=True)
class Assignment:
    """An assignment read from its two files."""

    name: str
    folder: Path
    notebook: Any
    checks: Checks
    questions: tuple[Asked, ...]
    limits: dict[str, float] = field(default_factory=lambda: dict(LIMITS))

    @property
    def title(self) -> str:
        """What students read above it."""
        return str(self.notebook.metadata.get("sciviz", {}).get("title", self.name))

    def heading(self, question: str) -> str:
        """Return the heading of a question as students read it, without its points; its id where it has none."""
        for cell in self.notebook.cells:
            if role(cell) in ("question", "manual") and cell.metadata.sciviz.get("question") == question:
                first = str(cell.source).lstrip().split("\n", 1)[0]
                if first.startswith("#") and "{{" not in first:
                    return re.sub(r"\s*\([^()]*points?\b[^()]*\)\s*$", "", first.lstrip("# ")).strip() or question
        return question

    @property
    def hidden(self) -> tuple[str, ...]:
        """All that the sandbox hides."""
        return tuple(sorted({name for asked in self.questions for name in asked.hidden}))


def role(cell: Any) -> str:
    """Return the role of a source cell; empty for an ordinary one."""
    return str(cell.metadata.get("sciviz", {}).get("role", ""))


def assignments_dir() -> Path:
    """Return the folder of the course's own assignments."""
    return course_dir() / "assignments"


def assignment_names(folder: Path | None = None) -> list[str]:
    """List the assignments of a folder (the course's own if None), those of the tutorials first and in their order."""
    folder = folder or assignments_dir()
    place = {name: own.number for own in tutorials() for name in (own.wing, own.stem.split("_", 1)[1])}
    found = [path.stem for path in folder.glob("*.ipynb") if path.with_suffix(".py").is_file()]
    return sorted(found, key=lambda name: (place.get(name) or len(place) + 1, name))


def read_assignment(name: str, folder: Path | None = None, *, fix: bool = False) -> Assignment:
    """Read an assignment and check that notebook and checks fit each other.

    Parameters
    ----------
    folder
        Where it lies; the course's own if None.
    fix
        Fill in nbgrader's metadata and write the notebook, if that changes it.

    Raises
    ------
    ValueError
        With one sentence for the first thing that is wrong.
    """
    folder = folder or assignments_dir()
    import nbformat

    path = folder / f"{name}.ipynb"
    if not path.is_file():
        known = ", ".join(assignment_names(folder)) or "none"
        raise ValueError(f"assignment must be one of those in {folder} ({known}), got {name!r}.")
    notebook = nbformat.read(path, as_version=4)
    if fix:
        before = nbformat.writes(notebook)
        complete(notebook)
        if nbformat.writes(notebook) != before:
            nbformat.write(notebook, path)
    checks = load_checks(folder / f"{name}.py")
    for cell in notebook.cells:
        # First: a slip here makes a question vanish, and all that is said after it would mislead.
        if role(cell) not in ("", *ROLES):
            raise ValueError(f"{name}: cell {cell.id}: the role must be one of {ROLES}, got {role(cell)!r}.")
    questions = _questions(name, notebook)
    _check(name, notebook, checks, questions)
    own = notebook.metadata.get("sciviz", {}).get("limits", {})
    return Assignment(name, folder, notebook, checks, questions, {**LIMITS, **own})


def complete(notebook: Any) -> None:
    """Write nbgrader's metadata (schema 3) from ours, in place."""
    import nbformat

    for cell in notebook.cells:
        ours = cell.metadata.get("sciviz", {})
        kind = role(cell)
        cell.metadata.pop("nbgrader", None)
        if kind in ("", "student"):
            continue
        question = ours.get("question", "")
        grade_id = {"question": f"{question}-task", "check": f"{question}-check"}.get(kind, question or kind)
        theirs: dict[str, Any] = {
            "grade": kind in ("check", "manual"),
            "grade_id": grade_id,
            "locked": kind in _LOCKED,
            "schema_version": 3,
            "solution": kind in ("answer", "manual"),
            "task": False,
        }
        if theirs["grade"]:
            theirs["points"] = _points(notebook, question)
        cell.metadata["nbgrader"] = nbformat.from_dict(theirs)


def _points(notebook: Any, question: str) -> float:
    for cell in notebook.cells:
        ours = cell.metadata.get("sciviz", {})
        if ours.get("question") == question and "points" in ours:
            return float(ours["points"])
    return 0.0


def _questions(name: str, notebook: Any) -> tuple[Asked, ...]:
    found = []
    for cell in notebook.cells:
        ours = cell.metadata.get("sciviz", {})
        if role(cell) in ("answer", "manual"):
            missing = [word for word in ("question", "points") if word not in ours]
            if missing:
                raise ValueError(
                    f"{name}: cell {cell.id} has the role {role(cell)!r} and must say {', '.join(missing)}."
                )
            found.append(
                Asked(
                    ours["question"],
                    float(ours["points"]),
                    tuple(ours.get("answers", ())),
                    tuple(ours.get("hidden", ())),
                    role(cell) == "manual",
                )
            )
    return tuple(found)


def _check(name: str, notebook: Any, checks: Checks, questions: tuple[Asked, ...]) -> None:
    """Raise for the first thing in which the two files do not fit."""
    ids = [asked.id for asked in questions]
    auto = {asked.id for asked in questions if not asked.manual}
    checked = {cell.metadata.sciviz.question for cell in notebook.cells if role(cell) == "check"}
    said: list[tuple[bool, str]] = [
        (not questions, "has no question."),
        (len(set(ids)) < len(ids), f"has a question twice: {', '.join(sorted({i for i in ids if ids.count(i) > 1}))}."),
        (auto != set(checks.questions), f"asks {sorted(auto)} in the notebook and judges {sorted(checks.questions)}."),
        (auto != checked, f"must have one check cell for each of {sorted(auto)}, has them for {sorted(checked)}."),
    ]
    for asked in questions:
        said.append(
            (not re.fullmatch(r"[A-Za-z0-9-]+", asked.id), f"question {asked.id!r}: letters, digits and - only.")
        )
        said.append((asked.points <= 0, f"question {asked.id}: points must be above 0."))
        said.append((not asked.manual and not asked.answers, f"question {asked.id} names no answers."))
    for cell in notebook.cells:
        kind = role(cell)
        marks = (cell.source.count(BEGIN), cell.source.count(END))
        said.append((marks[0] != marks[1], f"cell {cell.id}: {BEGIN!r} and {END!r} must come in pairs."))
        wants = kind in ("answer", "manual")
        said.append((wants and marks[0] == 0, f"cell {cell.id}: no solution between {BEGIN!r} and {END!r}."))
        said.append((not wants and marks[0] > 0, f"cell {cell.id}: a solution where students would read it."))
        expected = kind not in ("", "student")
        said.append(
            (expected and "nbgrader" not in cell.metadata, f"cell {cell.id}: `sciviz course check {name} --fix`.")
        )
    for kind in ("student", "variant", "setup"):
        count = sum(role(cell) == kind for cell in notebook.cells)
        said.append((count != 1, f"must have one cell of the role {kind!r}, has {count}."))
    for wrong, sentence in said:
        if wrong:
            raise ValueError(f"{name}: {sentence}")
    written = variant_of(notebook)
    if written != {"seed_key": "practice", **checks.practice}:
        raise ValueError(f"{name}: the variant cell must set seed_key and what PRACTICE holds, sets {written}.")


def variant_of(notebook: Any) -> dict[str, Any]:
    """Return the constants that the variant cell sets."""
    (cell,) = [cell for cell in notebook.cells if role(cell) == "variant"]
    return {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def solution_of(notebook: Any, question: str) -> str:
    """Return the text of a question's answer cell, solution included."""
    (cell,) = [
        cell for cell in notebook.cells if role(cell) == "answer" and cell.metadata.sciviz.get("question") == question
    ]
    return str(cell.source)
