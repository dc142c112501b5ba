"""A small assignment that needs no torch, and submissions of it: graded in a fraction of a second."""

from __future__ import annotations

import copy
import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from sciviz.coursework.classroom import Classroom, generator, init_class, read_class
from sciviz.coursework.gradebook import open_gradebook
from sciviz.coursework.release import released_text
from sciviz.coursework.source import complete

CHECKS = """
import numpy as np
from sciviz.coursework.questions import Call, Mistake, Question, Value, Wrong, compare

PRACTICE = {"gain": 2.0}

def draw(rng):
    return {"gain": float(rng.choice([3.0, 5.0]))}

def scale_inputs(rng, variant):
    return [Call("scale", rng.standard_normal(4), label="four numbers"), Call("scale", np.zeros(1), label="nought")]

def scale_judge(answer, case, variant):
    right = variant["gain"] * case.args[0]
    return compare(answer, right, mistakes=[Mistake(case.args[0], 0.25, "The gain is missing.")])

QUESTIONS = {
    "scale": Question(scale_inputs, None, scale_judge, wrong=[
        Wrong("no gain", "def scale(x):\\n    return x.copy()", (0.25 + 1) / 2),
        Wrong("in place", "def scale(x):\\n    x *= gain\\n    return x", 0.75),
        Wrong("sum", "def scale(x):\\n    return (gain * x).sum()", 0.0),
        Wrong("prints", "def scale(x):\\n    print(gain * x)", 0.0),
        Wrong("raises", "def scale(x):\\n    raise IndexError", 0.0),
        Wrong("ends the process", "def scale(x):\\n    import os; os._exit(1)", 0.0),
    ]),
    "where": Question(
        lambda rng, variant: [Call("where", rng.permutation(6) < 3)],
        lambda case, variant: np.argwhere(case.args[0]),
        wrong=[Wrong(str(n), f"def where(mask):\\n    return {n}", 0.0) for n in range(5)],
    ),
    "number": Question(
        lambda rng, variant: [Value("number")],
        lambda case, variant: variant["seed"] % 1000,
        wrong=[Wrong(str(n), f"number = {-1 - n}", 0.0) for n in range(5)],
    ),
}
"""
SOLUTIONS = {
    "scale": "def scale(x):\n    return gain * x",
    "where": "def where(mask):\n    return np.argwhere(mask)",
    "number": "number = seed % 1000",
}
POINTS = {"scale": 4.0, "where": 2.0, "number": 1.0, "why": 3.0}
LIMITS = {"cell": 2, "call": 1, "total": 15, "memory_mb": 500}
HIDDEN_ANSWER = "sciviz.lab.checks._argwhere"


def write_source(folder: Path) -> Path:
    """Write the assignment `toy`."""
    folder.mkdir(parents=True, exist_ok=True)

    def cell(source: str, **ours: Any) -> Any:
        return new_code_cell(source, metadata={"sciviz": ours})

    def answer(question: str, name: str, hidden: tuple[str, ...] = ()) -> Any:
        head, _, body = SOLUTIONS[question].partition("\n")
        if body:
            text = f"{head}\n    ### BEGIN SOLUTION\n{body}\n    ### END SOLUTION"
        else:
            text = f"{name} = None\n### BEGIN SOLUTION\n{head}\n### END SOLUTION"
        meta = {"role": "answer", "question": question, "answers": [name], "hidden": list(hidden)}
        return cell(text, **meta, points=POINTS[question])

    cells = [
        new_markdown_cell("# Toy"),
        cell('student = "your id"', role="student"),
        cell('seed_key = "practice"\ngain = 2.0', role="variant"),
        cell(
            "import numpy as np\nfrom sciviz.coursework import check, seed_of\nseed = seed_of(student, seed_key)",
            role="setup",
        ),
        new_markdown_cell(
            "## 1. Scale (4 points)\n\nScale by {{gain}}.",
            metadata={"sciviz": {"role": "question", "question": "scale"}},
        ),
        answer("scale", "scale"),
        cell(
            'check("scale", scale, [(lambda f: f(np.ones(2))[0] == gain, "times the gain")])',
            role="check",
            question="scale",
        ),
        answer("where", "where", (HIDDEN_ANSWER,)),
        cell('check("where", where, [(lambda f: len(f(np.ones(2))) == 2, "both")])', role="check", question="where"),
        answer("number", "number"),
        cell('check("number", number, [(lambda n: n >= 0, "not negative")])', role="check", question="number"),
        new_markdown_cell(
            "Why?\n\n### BEGIN SOLUTION\nBecause.\n\nRubric: 3 for because.\n### END SOLUTION",
            metadata={"sciviz": {"role": "manual", "question": "why", "points": POINTS["why"]}},
        ),
    ]
    for place, each in enumerate(cells):
        each["id"] = f"cell-{place}"
    notebook = new_notebook(cells=cells, metadata={"sciviz": {"title": "Toy", "limits": LIMITS}})
    complete(notebook)
    nbformat.write(notebook, folder / "toy.ipynb")
    (folder / "toy.py").write_text(CHECKS, encoding="utf-8")
    return folder


class Toy:
    """A class with the toy assignment, and ways to hand in."""

    def __init__(self, folder: Path) -> None:
        source = write_source(folder / "source")
        self.classroom: Classroom = init_class(folder / "class", ["toy"], source=source, title="A class")
        self.submitted = folder / "submitted"
        self.submitted.mkdir()
        self.assignment = self.classroom.assignment("toy")
        # nbgrader takes seconds to make an empty gradebook: once for all tests.
        with open_gradebook(self.classroom):
            pass
        self.released = released_text(self.assignment, self.classroom.variant("toy"), self.classroom.seed_key)

    def fresh(self, folder: Path) -> Toy:
        """Return the same class in another folder, without submissions and results."""
        other = copy.copy(self)
        shutil.copytree(self.classroom.folder, folder / "class")
        other.classroom = read_class(folder / "class")
        other.assignment = other.classroom.assignment("toy")
        other.submitted = folder / "submitted"
        other.submitted.mkdir()
        return other

    def notebook(self, answers: dict[str, str] | None = None, why: str = "") -> Any:
        """Return a students' copy, with the right answers or others."""
        found = nbformat.reads(self.released, as_version=4)
        for cell in found.cells:
            ours = cell.metadata.get("sciviz", {})
            if ours.get("role") == "answer":
                cell.source = {**SOLUTIONS, **(answers or {})}[ours["question"]]
            if ours.get("role") == "manual" and why:
                cell.source = why
        return found

    def untouched(self) -> Any:
        return nbformat.reads(self.released, as_version=4)

    def path(self, student: str) -> Path:
        path = self.submitted / student / "toy.ipynb"
        path.parent.mkdir(exist_ok=True)
        return path

    def hand_in(self, student: str, notebook: Any) -> Path:
        path = self.path(student)
        path.write_text(notebook if isinstance(notebook, str) else json.dumps(notebook), encoding="utf-8")
        return path

    def hidden_input(self, student: str) -> np.ndarray:
        """Return the first hidden input of the question `scale`."""
        rng = generator(self.classroom.secret, "inputs", "toy", "scale", student)
        return self.assignment.checks.questions["scale"].inputs(rng, self.classroom.variant("toy", student))[0].args[0]


def scores(record: dict[str, Any]) -> dict[str, float]:
    return {question["id"]: question["score"] for question in record["questions"]}


def messages(record: dict[str, Any], question: str) -> list[str]:
    (found,) = [q for q in record["questions"] if q["id"] == question]
    return [case["message"] for case in found["cases"]]


FULL = {"scale": 4.0, "where": 2.0, "number": 1.0, "why": 0.0}


REQUIRED = os.environ.get("SCIVIZ_REQUIRE_SANDBOX") == "1"


def need(found: object, what: str) -> None:
    """Skip a test that lacks something, unless all must be there."""
    if not found:
        (pytest.fail if REQUIRED else pytest.skip)(f"{what}{' (SCIVIZ_REQUIRE_SANDBOX=1)' if REQUIRED else ''}")


def need_nbgrader() -> None:
    """Skip where there is no nbgrader, unless it must be there."""
    need(find_spec("nbgrader"), 'coursework needs  pip install "sciviz[coursework]"')


def need_sandbox() -> None:
    """Skip where there is no bubblewrap, unless it must be there."""
    from sciviz.coursework import sandbox

    reason = sandbox._no_bubblewrap()
    need(not reason, f"no sandbox: {reason}")


def sandboxed(within: Path) -> list[int]:
    """Return the processes of sandboxes whose shared files lie in a folder, and of nobody else's that may run beside them."""
    found = []
    for process in psutil.process_iter():
        try:
            mounts = Path(f"/proc/{process.pid}/mountinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if f"{within}/" in mounts:
            found.append(process.pid)
    return found
