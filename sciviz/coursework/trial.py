"""Try an assignment as its author means it: solution, untouched copy and every catalogued mistake, in the sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sciviz.coursework.classroom import PRACTICE_SECRET, generator
from sciviz.coursework.grading import Attempt, Job, grade, grade_question, handed_out
from sciviz.coursework.release import released_text
from sciviz.coursework.sandbox import Crash, Room
from sciviz.coursework.source import Assignment, solution_of
from sciviz.coursework.visible import seed_of

_FEWEST_WRONG = 5


@dataclass(frozen=True)
class Trial:
    """One submission that was tried.

    Attributes
    ----------
    problem
        Empty if it got what it should.
    """

    variant: str
    name: str
    problem: str
    record: dict[str, Any]


def solved(assignment: Assignment, released: str, replaced: dict[str, str] | None = None) -> str:
    """Return a students' copy with the solutions put in, as a file's text.

    Parameters
    ----------
    replaced
        The text of answer cells to put in instead, by question.
    """
    notebook = json.loads(released)
    for cell in notebook["cells"]:
        ours = cell["metadata"].get("sciviz", {})
        if ours.get("role") == "answer":
            question = ours["question"]
            cell["source"] = (replaced or {}).get(question) or solution_of(assignment.notebook, question)
    return json.dumps(notebook)


def variants_to_try(assignment: Assignment, draws: int) -> list[tuple[str, dict[str, Any], str]]:
    """Return the practice variant and some drawn ones, each with a name and a seed's key."""
    found = [("practice", dict(assignment.checks.practice), "practice")]
    for place in range(draws):
        drawn = assignment.checks.draw(generator(PRACTICE_SECRET, "trial", assignment.name, str(place)))
        found.append((f"draw {place + 1}", drawn, f"key-{place}"))
    return found


def try_assignment(
    assignment: Assignment, *, draws: int = 1, unsafe: bool = False, questions: tuple[str, ...] = ()
) -> Iterator[Trial]:
    """Grade the solution (full marks), the untouched copy (none) and every catalogued mistake (what its line says).

    Parameters
    ----------
    draws
        Graded variants to try besides the practice one. Mistakes are tried in the practice variant and the first drawn one.
    questions
        Try only these questions' mistakes.
    """
    for name, question in assignment.checks.questions.items():
        if len(question.wrong) < _FEWEST_WRONG:
            raise ValueError(
                f"{assignment.name}: question {name} needs {_FEWEST_WRONG} wrong answers, has {len(question.wrong)}."
            )
    with Room(assignment.hidden, assignment.limits, unsafe=unsafe) as room:
        for place, (label, variant, key) in enumerate(variants_to_try(assignment, draws)):
            released = released_text(assignment, variant, key)
            if set(variant) != set(assignment.checks.practice):
                raise ValueError(f"{assignment.name}: draw gives {sorted(variant)}, PRACTICE has others.")

            def attempt(text: str, variant: dict[str, Any] = variant, key: str = key, released: str = released) -> Any:
                seeded = {**variant, "seed": seed_of("ada", key)}
                job = Job(assignment, handed_out(json.loads(released)), seeded, PRACTICE_SECRET, "ada")
                return _graded(job, room, text)

            right = attempt(solved(assignment, released))
            yield Trial(label, "solution", _unlike(right, dict.fromkeys(assignment.checks.questions, 1.0)), right)
            untouched = attempt(released)
            yield Trial(
                label, "untouched copy", _unlike(untouched, dict.fromkeys(assignment.checks.questions, 0.0)), untouched
            )
            if place > 1:
                continue
            yield from _mistakes(assignment, label, variant, key, released, room, questions)


def _mistakes(
    assignment: Assignment,
    label: str,
    variant: dict[str, Any],
    key: str,
    released: str,
    room: Room,
    questions: tuple[str, ...],
) -> Iterator[Trial]:
    """Put one mistake after the other in the solution's place, in one process: the author's own code needs no walls between."""
    seeded = {**variant, "seed": seed_of("ada", key)}
    job = Job(assignment, handed_out(json.loads(released)), seeded, PRACTICE_SECRET, "ada")
    asked_by_id = {asked.id: asked for asked in assignment.questions}
    with _opened(solved(assignment, released)) as descriptor, Attempt(job, room, descriptor, patient=True) as attempt:
        attempt.begin()
        for name, question in assignment.checks.questions.items():
            for wrong in question.wrong if not questions or name in questions else ():
                asked = asked_by_id[name]
                with contextlib.suppress(Crash):
                    attempt.replace(asked.answers, wrong.source)
                record = {
                    "problem": attempt.problem,
                    "remarks": attempt.remarks,
                    "cells": [],
                    "questions": [grade_question(asked, job, attempt)],
                }
                yield Trial(label, f"{name}: {wrong.name}", _unlike(record, {name: wrong.fraction}), record)
                with contextlib.suppress(Crash):
                    attempt.replace(asked.answers, solution_of(assignment.notebook, name))


@contextlib.contextmanager
def _opened(text: str) -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trial.ipynb")
        path.write_text(text, encoding="utf-8")
        descriptor = os.open(path, os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _graded(job: Job, room: Room, text: str) -> dict[str, Any]:
    with _opened(text) as descriptor:
        return grade(job, room, descriptor)


def _unlike(record: dict[str, Any], expected: dict[str, float]) -> str:
    """Say which question got another share of its points than expected, and why; empty if none did."""
    said = [record["problem"]] if record["problem"] else []
    said += [remark for remark in record["remarks"] if "judge failed" in remark or "setup" in remark]
    for question in record["questions"]:
        share = question["score"] / question["points"]
        wanted = expected.get(question["id"])
        if wanted is not None and abs(share - wanted) > 1e-4:
            lines = {f"{case['label']}: {case['message']}" for case in question["cases"] if case["fraction"] != wanted}
            said.append(
                f"{question['id']} got {share:.3g} of its points, not {wanted:.3g} ({'; '.join(sorted(lines))[:300]})"
            )
    if said:
        said += [f"cell failed: {cell['error']}" for cell in record["cells"] if cell["error"]][:2]
    return "; ".join(said)
