"""A page of feedback for each student: nothing that they wrote is ever more than text on it."""

from __future__ import annotations

import base64
import functools
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from sciviz.coursework.gradebook import Marks
from sciviz.coursework.source import Assignment


def clean(text: object) -> str:
    """Return text in which what cannot be seen, or turns the reading direction, is spelt out; not yet escaped.

    >>> clean(f"a{chr(0x202E)}b") == "a" + chr(92) + "u202eb"
    True
    """
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co")
        else char.encode("unicode_escape").decode("ascii")
        for char in str(text)
    )


def number(value: float) -> str:
    """Return points with at most two decimals.

    >>> number(2.0), number(2.125)
    ('2', '2.12')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")


@functools.cache
def template(name: str) -> jinja2.Template:
    """Return one of the templates beside this file; all that goes into it is escaped."""
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(name)


def style() -> dict[str, Markup]:
    """Return the style sheet and its digest, the only style that a page allows."""
    text = Path(__file__).with_name("feedback.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"style": Markup(text), "style_hash": Markup(digest)}


def _together(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the cases of a question with those that are told the same as one, and how many they are."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for case in cases:
        key = (case["label"], case["message"], case["fraction"])
        found.setdefault(key, {**case, "count": 0})["count"] += 1
    return list(found.values())


def feedback_page(assignment: Assignment, record: Mapping[str, Any], marks: Marks) -> str:
    """Return the page of one student."""
    points = {asked.id: asked.points for asked in assignment.questions}
    questions = [
        {
            **question,
            "cases": _together(question["cases"]),
            "answer": question.get("answer", ""),
            "heading": assignment.heading(question["id"]),
            "points": points[question["id"]],
            "now": marks.scores[question["id"]],
            "comment": marks.comments.get(question["id"], ""),
        }
        for question in record["questions"]
        if question["id"] in points
    ]
    errors = [
        {"number": place, "error": cell["error"], "source": cell["source"][:4000]}
        for place, cell in enumerate(record["cells"], 1)
        if cell["error"]
    ][:50]
    return template("feedback.html.jinja").render(
        title=assignment.title,
        student=clean(record["student"]),
        **style(),
        score=marks.score,
        final=marks.final,
        total=sum(points.values()),
        penalty=marks.penalty,
        days_late=marks.days_late,
        free_days=marks.free_days,
        extension=marks.extension,
        waiting=marks.waiting,
        open_points=sum(points[name] for name in marks.waiting),
        by_hand=marks.by_hand,
        problem=record["problem"],
        questions=questions,
        errors=errors,
        clean=clean,
        number=number,
    )


def write_feedback(folder: Path, assignment: Assignment, record: Mapping[str, Any], marks: Marks) -> Path:
    """Write a student's page to `folder/STUDENT/ASSIGNMENT/ASSIGNMENT.html`, as nbgrader lays it out."""
    path: Path = folder / record["student"] / assignment.name / f"{assignment.name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(feedback_page(assignment, record, marks), encoding="utf-8")
    part.replace(path)
    return path
