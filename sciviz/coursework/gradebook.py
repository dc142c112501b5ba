"""nbgrader's gradebook: what the grader found goes in, what the teacher did by hand stays."""

from __future__ import annotations

import contextlib
import html
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sciviz.coursework.classroom import Classroom, Policy
from sciviz.coursework.grading import Handed
from sciviz.coursework.source import Asked, Assignment

# A clock that is a little off, or an upload that takes a while, is not a day.
_GRACE_SECONDS = 300.0


@dataclass
class Marks:
    """A student's marks for an assignment, as they stand in the gradebook.

    Attributes
    ----------
    scores
        By question, with what the teacher gave by hand.
    comments
        The teacher's, by question.
    waiting
        Questions that wait for the teacher.
    by_hand
        Questions whose mark is the teacher's.
    penalty
        For late work; `score` is without it, `final` with it.
    free_days
        How many of the student's free days were spent on it.
    """

    scores: dict[str, float] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)
    penalty: float = 0.0
    days_late: int = 0
    free_days: int = 0
    extension: str = ""

    @property
    def score(self) -> float:
        """Without the penalty."""
        return sum(self.scores.values())

    @property
    def final(self) -> float:
        """With the penalty."""
        return max(0.0, self.score - self.penalty)


@contextlib.contextmanager
def open_gradebook(classroom: Classroom) -> Iterator[Any]:
    """Open the class's gradebook, made if it is not there."""
    from nbgrader.api import Gradebook
    from sqlalchemy.exc import SAWarning

    with warnings.catch_warnings():
        # nbgrader's own way of adding a submission; the teacher can do nothing about it.
        warnings.simplefilter("ignore", SAWarning)
        with _tools_on_path():
            book = Gradebook(classroom.database)
        try:
            yield book
        finally:
            book.close()


@contextlib.contextmanager
def _tools_on_path() -> Iterator[None]:
    """Let nbgrader find the command `alembic` that is installed beside it, also where the environment is not activated."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def record(
    classroom: Classroom, assignment: Assignment, released: list[Handed], records: Mapping[str, dict[str, Any]]
) -> dict[str, Marks]:
    """Write results into the gradebook and return how each student stands.

    Marks, comments and extensions given by hand are kept. A question graded by hand whose answer has changed since waits for
    the teacher again, with the earlier mark still in place.
    """
    with open_gradebook(classroom) as book:
        _describe(book, classroom, assignment, released)
        for person in classroom.people:
            known = {"first_name": person.first_name, "last_name": person.last_name, "email": person.email}
            book.update_or_create_student(person.id, **{name: value for name, value in known.items() if value})
        seen = _seen(classroom, assignment.name)
        for student, found in records.items():
            _write(book, assignment, student, found, seen.get(student, {}))
        book.db.commit()
        _remember(classroom, assignment.name, records)
        found_marks = {}
        for student in records:
            spent = _penalties(book, classroom, student)
            found_marks[student] = _marks(book, assignment, student)
            found_marks[student].free_days = spent.get(assignment.name, 0)
        book.db.commit()
    return found_marks


def _describe(book: Any, classroom: Classroom, assignment: Assignment, released: list[Handed]) -> None:
    name = assignment.name
    due = classroom.due.get(name)
    book.update_or_create_assignment(name, duedate=due.isoformat() if due else None)
    book.update_or_create_notebook(name, name)
    for asked in assignment.questions:
        written = next(cell for cell in released if cell.question == asked.id and cell.role in ("answer", "manual"))
        kind = "markdown" if asked.manual else "code"
        book.update_or_create_grade_cell(asked.grade_cell, name, name, max_score=asked.points, cell_type=kind)
        book.update_or_create_solution_cell(asked.id, name, name)
        book.update_or_create_source_cell(asked.id, name, name, source=written.source, cell_type=kind)
    wanted = {asked.grade_cell for asked in assignment.questions}
    for cell in book.find_notebook(name, name).grade_cells:
        if cell.name not in wanted:
            # A question that is no longer asked counts no more; what was given for it stays in the gradebook.
            cell.max_score = 0.0
    book.db.commit()


def _write(book: Any, assignment: Assignment, student: str, found: Mapping[str, Any], seen: Mapping[str, str]) -> None:
    name = assignment.name
    book.update_or_create_student(student)
    moment = {"timestamp": found["handed_in"]} if found.get("handed_in") else {}
    submission = book.update_or_create_submission(name, student, **moment)
    (notebook,) = [notebook for notebook in submission.notebooks if notebook.name == name]
    grades = {grade.name: grade for grade in notebook.grades}
    results = {question["id"]: question for question in found["questions"]}
    for asked in assignment.questions:
        grade = grades.get(asked.grade_cell) or _new_grade(book, asked, name, notebook)
        result = results[asked.id]
        if not asked.manual:
            grade.auto_score = float(result["score"])
            grade.needs_manual_grade = False
            continue
        answer = result.get("digest") or ""
        grade.auto_score = None if answer else 0.0
        if not answer:
            grade.needs_manual_grade = False
        elif grade.manual_score is None or seen.get(asked.id, answer) != answer:
            grade.needs_manual_grade = True


def _new_grade(book: Any, asked: Asked, name: str, notebook: Any) -> Any:
    from nbgrader.api import Grade

    # A question that was added after the first students had been graded.
    grade = Grade(cell=book.find_grade_cell(asked.grade_cell, name, name), notebook=notebook)
    book.db.add(grade)
    book.db.flush()
    return grade


def _comment(notebook: Any, question: str) -> Any:
    return next((comment for comment in notebook.comments if comment.name == question), None)


def _seen(classroom: Classroom, name: str) -> dict[str, dict[str, str]]:
    """Return which answers were there when the gradebook was last written, by student and question."""
    try:
        found = json.loads((classroom.folder / "results" / name / ".answers").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(classroom: Classroom, name: str, records: Mapping[str, dict[str, Any]]) -> None:
    seen = _seen(classroom, name)
    for student, found in records.items():
        seen[student] = {
            question["id"]: question["digest"] for question in found["questions"] if question.get("digest")
        }
    path = classroom.folder / "results" / name / ".answers"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(".answers.part")
    part.write_text(json.dumps(seen, ensure_ascii=False), encoding="utf-8")
    part.replace(path)


def late_days(seconds: float) -> int:
    """Return how many days late that is; each begun day counts, after a few minutes' grace.

    >>> late_days(200), late_days(3600), late_days(90_000)
    (0, 1, 2)
    """
    return max(0, math.ceil((seconds - _GRACE_SECONDS) / 86_400))


def penalty_of(policy: Policy, days: int, free: int, score: float) -> tuple[float, int]:
    """Return what late work costs, and how many of the student's free days it used up.

    >>> penalty_of(Policy(late_days=3, late_penalty=0.1, late_limit=7), days=5, free=3, score=10.0)
    (2.0, 3)
    """
    if days > policy.late_limit:
        return score, 0
    used = min(days, free)
    return min(score, score * policy.late_penalty * (days - used)), used


def _penalties(book: Any, classroom: Classroom, student: str) -> dict[str, int]:
    """Spend a student's free days on the assignments in the order in which they were due, and return where they went."""
    from nbgrader.api import MissingEntry

    spent: dict[str, int] = {}
    free = classroom.policy.late_days
    end = datetime.max.replace(tzinfo=UTC)
    for name in sorted(classroom.due, key=lambda name: classroom.due[name] or end):
        try:
            submission = book.find_submission(name, student)
        except MissingEntry:
            continue
        days = late_days(submission.total_seconds_late)
        for notebook in submission.notebooks:
            book.db.refresh(notebook)
            cost, used = penalty_of(classroom.policy, days, free, float(notebook.score or 0.0))
            notebook.late_submission_penalty = round(cost, 6) if cost else None
            free -= used
            spent[name] = spent.get(name, 0) + used
    return spent


def _marks(book: Any, assignment: Assignment, student: str) -> Marks:
    name = assignment.name
    submission = book.find_submission(name, student)
    (notebook,) = [notebook for notebook in submission.notebooks if notebook.name == name]
    found = Marks(
        penalty=float(notebook.late_submission_penalty or 0.0), days_late=late_days(submission.total_seconds_late)
    )
    if submission.extension:
        found.extension = str(submission.extension)
    grades = {grade.name: grade for grade in notebook.grades}
    for asked in assignment.questions:
        grade = grades[asked.grade_cell]
        found.scores[asked.id] = float(grade.score or 0.0)
        if grade.manual_score is not None:
            found.by_hand.append(asked.id)
        if grade.needs_manual_grade:
            found.waiting.append(asked.id)
        comment = _comment(notebook, asked.id)
        if comment is not None and comment.manual_comment:
            found.comments[asked.id] = str(comment.manual_comment)
    return found


def write_autograded(folder: Path, name: str, released: str, found: Mapping[str, Any]) -> None:
    """Write what nbgrader's formgrader shows of a submission: the students' copy with this student's answers, as text.

    Nothing else of the submission goes along, no output above all, and HTML in an answer is no HTML any more.
    """
    notebook = json.loads(released)
    answers = {question["id"]: question["answer"] for question in found["questions"] if question.get("answer")}
    for cell in notebook["cells"]:
        ours = cell["metadata"].get("sciviz", {})
        if ours.get("role") not in ("answer", "manual"):
            continue
        texts = [own["source"] for own in found["cells"] if own["grade_id"] == ours["question"]]
        text = answers.get(ours["question"]) or "\n\n".join(texts)
        if cell["cell_type"] == "markdown" and text:
            text = html.escape(text, quote=False).replace("![", "!\\[")
        if text:
            cell["source"] = text
    path = folder / found["student"] / name / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")
    part.replace(path)


def current_scores(
    classroom: Classroom, assignment: Assignment, records: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, float]]:
    """Return each student's points by question as the gradebook has them, or as they were graded where it has none."""
    from nbgrader.api import MissingEntry

    found = {}
    with open_gradebook(classroom) as book:
        for student, own in records.items():
            try:
                found[student] = _marks(book, assignment, student).scores
            except (MissingEntry, KeyError, ValueError):
                found[student] = {question["id"]: question["score"] for question in own["questions"]}
    return found


def waiting_for_teacher(
    classroom: Classroom, assignment: Assignment, records: Mapping[str, dict[str, Any]]
) -> dict[str, list[str]]:
    """Return the students of whom answers wait to be marked by hand, each with these questions."""
    from nbgrader.api import MissingEntry

    found = {}
    with open_gradebook(classroom) as book:
        for student in records:
            with contextlib.suppress(MissingEntry, KeyError, ValueError):
                if waiting := _marks(book, assignment, student).waiting:
                    found[student] = waiting
    return found


def extend(classroom: Classroom, assignment: str, student: str, days: float) -> datetime | None:
    """Give a student more time for an assignment, and return when it is due for them.

    Raises
    ------
    ValueError
        If the gradebook knows no submission of theirs yet and the class list does not know them.
    """
    known = {person.id for person in classroom.people}
    with open_gradebook(classroom) as book:
        if student not in known and student not in {found.id for found in book.students}:
            raise ValueError(f"student must be in the class list or the gradebook, got {student!r}.")
        if assignment not in classroom.variants:
            raise ValueError(f"assignment must be one of {', '.join(classroom.variants)}, got {assignment!r}.")
        due = classroom.due.get(assignment)
        book.update_or_create_assignment(assignment, duedate=due.isoformat() if due else None)
        book.update_or_create_student(student)
        submission = book.update_or_create_submission(assignment, student)
        submission.extension = timedelta(days=days)
        book.db.commit()
    return due + timedelta(days=days) if due else None
