"""Grade one submission: its cells run in the sandbox, its answers are judged here."""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sciviz.coursework.classroom import generator
from sciviz.coursework.questions import Case, Question, Value
from sciviz.coursework.sandbox import Crash, Room, Student
from sciviz.coursework.source import Asked, Assignment

FORMAT = 1
_JUDGE_SECONDS = 30.0
_MOST_STARTS = 6
_STOP_AFTER = 2
_BUILTIN = {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
}
_LIMIT = "took longer than its {:g} seconds"


@dataclass(frozen=True)
class Handed:
    """A cell of the students' copy as it was handed out."""

    role: str
    question: str
    source: str


def handed_out(released: Any) -> list[Handed]:
    """Return the cells of a students' copy that have a role."""
    return [
        # A file holds source as a list of lines, nbformat as one string.
        Handed(ours["role"], ours.get("question", ""), "".join(cell["source"]))
        for cell in released["cells"]
        if (ours := cell["metadata"].get("sciviz"))
    ]


@dataclass(frozen=True)
class Job:
    """What grading one submission needs besides the notebook.

    Attributes
    ----------
    released
        The students' copy, in the class's variant.
    variant
        The constants, and the student's own `seed`.
    """

    assignment: Assignment
    released: Sequence[Handed]
    variant: dict[str, Any]
    secret: bytes
    student: str


def grade(job: Job, room: Room, descriptor: int) -> dict[str, Any]:
    """Grade a notebook.

    Parameters
    ----------
    descriptor
        The open file.

    Returns
    -------
    A record of plain JSON: `questions` (points, score, and for each case its message), `cells` (what ran, what failed and
    why), `remarks` for the teacher.
    """
    began = time.monotonic()
    with Attempt(job, room, descriptor) as attempt:
        attempt.begin()
        questions = [grade_question(asked, job, attempt) for asked in job.assignment.questions]
        record = {
            "format": FORMAT,
            "student": job.student,
            "assignment": job.assignment.name,
            "questions": questions,
            "problem": attempt.problem,
            "remarks": attempt.remarks,
            "cells": attempt.cells,
            "seconds": round(time.monotonic() - began, 2),
        }
    return record


def nothing_graded(assignment: Assignment, student: str, problem: str) -> dict[str, Any]:
    """Return the record of a submission that has nothing to grade."""
    questions = [
        {"id": asked.id, "points": asked.points, "manual": asked.manual, "score": 0.0, "cases": [], "answer": ""}
        for asked in assignment.questions
    ]
    return {
        "format": FORMAT,
        "student": student,
        "assignment": assignment.name,
        "questions": questions,
        "problem": problem,
        "remarks": [],
        "cells": [],
        "seconds": 0.0,
    }


def plain_source(source: str) -> str:
    r"""Return source without what editors change: trailing blanks, empty lines at the ends, line endings.

    >>> plain_source("a  \r\nb\n\n")
    'a\nb'
    """
    return "\n".join(line.rstrip() for line in source.replace("\r\n", "\n").split("\n")).strip("\n")


class Attempt:
    """A student's process, begun anew where it ended: cells that end it are left out the next time."""

    def __init__(self, job: Job, room: Room, descriptor: int, *, patient: bool = False) -> None:
        self._job, self._room, self._descriptor = job, room, descriptor
        self._limits = room.limits
        # A trial asks far more of one process than a submission does.
        self._most_starts, self._patience = (1000, 100.0) if patient else (_MOST_STARTS, 1.0)
        self._deadline = time.monotonic() + self._patience * room.limits["total"]
        self._student: Student | None = None
        self._starts = 0
        self.problem = ""
        self.remarks: list[str] = []
        self.cells: list[dict[str, Any]] = []

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._student is not None:
            self._student.close()
            self._student = None

    def _seconds(self, limit: float) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Crash(f"took longer than {self._limits['total']:g} seconds in all")
        return min(limit, left)

    def _request(self, message: dict[str, Any], limit: float) -> dict[str, Any]:
        if self._student is None:
            raise Crash("could not be run")
        return self._student.request(message, seconds=self._seconds(limit))

    def begin(self) -> None:
        """Start, read the notebook the first time, and run its cells."""
        while not self.problem:
            self._stop()
            if self._starts >= self._most_starts:
                self.problem = "Your code ended the process that runs it again and again; what follows was not run."
                return
            self._starts += 1
            self._student = self._room.start(self._descriptor, patience=self._patience)
            try:
                if self._starts == 1:
                    self._read()
                if self._run_all():
                    return
            except Crash as error:
                self.problem = f"The notebook {error.reason}."
        self._stop()

    def _run_all(self) -> bool:
        """Run setup and cells; return whether that is all there is to do."""
        if not self.problem:
            self._prelude()
        if self.problem:
            return True
        done = self._run_cells()
        if done:
            # A student who tried other constants is asked about the assignment's.
            self._prelude(("student", "variant"))
        return done

    def replace(self, names: Sequence[str], source: str) -> None:
        """Forget some answers and run other source in their place, for trials of an assignment."""
        if self._student is None or not self._student.alive:
            # A mistake that ended the process has taken the others' solutions along.
            self.begin()
        forget = f"for name in {list(names)!r}:\n    globals().pop(name, None)"
        for text in (forget, source):
            self._request({"op": "run", "source": text, "name": "replaced", "trusted": True}, self._limits["cell"])

    def _read(self) -> None:
        reply = self._request({"op": "read", "descriptor": self._descriptor}, 60.0)
        if "cells" not in reply:
            said = reply.get("unreadable") or reply.get("error", {}).get("type", "")
            self.problem = f"The notebook cannot be read: {str(said)[:100]}."
            return
        released = {plain_source(cell.source): cell.role for cell in self._job.released}
        for cell in reply["cells"]:
            source = plain_source(str(cell["source"]))
            known = released.get(source, "")
            self.cells.append(
                {
                    "kind": str(cell["kind"]),
                    "source": source,
                    "grade_id": str(cell["grade_id"]),
                    # Stubs are as they were handed out, and what else is ours was run already.
                    "ours": known in ("student", "variant", "setup", "check", "answer", "question"),
                    "error": "",
                }
            )
        if reply.get("odd"):
            self.remarks.append(
                f"{int(reply['odd'])} cells are not as a notebook's are, or too long, and were left out"
            )
        for name in sorted(self._named() - {self._job.student.casefold()}):
            self.remarks.append(f"the notebook gives the id {ascii(name)[:60]}; what counts is the folder")

    def _named(self) -> set[str]:
        import re

        found = set()
        for cell in self.cells:
            if cell["kind"] == "code" and not cell["ours"]:
                found |= set(re.findall(r"^student\s*=\s*[\"']([^\"'\n]{1,100})[\"']", cell["source"], re.MULTILINE))
        return {name.strip().casefold() for name in found} - {"your id"}

    def _prelude(self, kinds: tuple[str, ...] = ("student", "variant", "setup")) -> None:
        for cell in self._job.released:
            if cell.role not in kinds:
                continue
            source = f"student = {self._job.student!r}" if cell.role == "student" else cell.source
            reply = self._request(
                {"op": "run", "source": source, "name": f"<{cell.role}>", "trusted": True}, self._limits["cell"]
            )
            if not reply.get("ok"):
                self.problem = "The assignment's own setup failed."
                self.remarks.append(f"the setup cell failed: {ascii(reply.get('error'))[:300]}")
                return

    def _run_cells(self) -> bool:
        """Run the student's cells; return False if one ended the process, and is left out the next time."""
        waiting = [i for i, cell in enumerate(self.cells) if self._runs(cell)]
        while waiting:
            again = []
            for index in waiting:
                cell = self.cells[index]
                try:
                    reply = self._request(
                        {"op": "run", "source": cell["source"], "name": f"cell {index + 1}", "trusted": False},
                        self._limits["cell"],
                    )
                except Crash as error:
                    cell["error"] = f"This cell {error.reason}."
                    cell["fatal"] = True
                    if time.monotonic() > self._deadline:
                        self.problem = f"The notebook took longer than {self._limits['total']:g} seconds in all."
                    return False
                error_told = reply.get("error")
                cell["error"] = "" if reply.get("ok") else self._cell_error(error_told)
                if isinstance(error_told, dict) and error_told.get("type") == "NameError":
                    again.append(index)
            # Cells in another order: one that missed a name may find it now.
            if len(again) == len(waiting):
                return True
            waiting = again
        return True

    @staticmethod
    def _runs(cell: Mapping[str, Any]) -> bool:
        return bool(cell["kind"] == "code" and cell["source"] and not cell["ours"] and not cell.get("fatal"))

    def _cell_error(self, told: Any) -> str:
        # No hidden input has reached the process yet: the student may read all that their code said.
        if not isinstance(told, dict):
            return "This cell failed."
        kind, message, line = str(told.get("type", ""))[:60], str(told.get("message", ""))[:300], told.get("line")
        if kind == "TimeLimit":
            return f"This cell {_LIMIT.format(self._limits['cell'])}."
        where = f" in line {line}" if type(line) is int and 0 < line < 100_000 else ""
        return f"{kind}{where}: {message}" if message else f"{kind}{where}"

    def ask(self, case: Case) -> dict[str, Any]:
        """Ask for one answer.

        Raises
        ------
        Crash
            If the process ended over it.
        """
        if self._student is None or not self._student.alive:
            self.begin()
        if self.problem:
            raise Crash("was not run")
        limit = case.seconds or self._limits["call"]
        return self._request({"op": "ask", "request": case.request()}, limit)


# --- questions --------------------------------------------------------------------------------------------------------


def grade_question(asked: Asked, job: Job, attempt: Attempt) -> dict[str, Any]:
    """Ask for all cases of a question and judge the answers."""
    record: dict[str, Any] = {"id": asked.id, "points": asked.points, "manual": asked.manual, "score": 0.0, "cases": []}
    if asked.manual:
        return {**record, **_manual(asked, job, attempt)}
    question = job.assignment.checks.questions[asked.id]
    rng = generator(job.secret, "inputs", job.assignment.name, asked.id, job.student)
    cases = list(question.inputs(rng, dict(job.variant)))
    total = sum(case.weight for case in cases)
    stopped, late, earned = "", 0, 0.0
    for case in cases:
        if attempt.problem and not stopped:
            stopped = attempt.problem
        if stopped:
            fraction, message, remark = 0.0, stopped, ""
        else:
            try:
                reply = attempt.ask(case)
            except Crash as error:
                fraction, remark = 0.0, ""
                message = attempt.problem or f"Your code {error.reason}."
                stopped = "Not run, because an earlier case of this question ended the process."
            else:
                fraction, message, remark = _judged(reply, case, question, job)
                late += _type(reply) == "TimeLimit"
                if late >= _STOP_AFTER:
                    stopped = "Not run, because two cases of this question took too long."
        if remark:
            attempt.remarks.append(f"{asked.id}: {remark}")
        earned += case.weight * fraction
        record["cases"].append({"label": case.label, "fraction": round(fraction, 6), "message": message})
    record["score"] = round(asked.points * earned / total, 6) if total else 0.0
    return record


def _type(reply: Mapping[str, Any]) -> str:
    told = reply.get("error")
    return str(told.get("type", "")) if isinstance(told, dict) else ""


def _judged(reply: Mapping[str, Any], case: Case, question: Question, job: Job) -> tuple[float, str, str]:
    """Return fraction, message for the student and remark for the teacher."""
    if "value" not in reply:
        return 0.0, _said_of_error(_type(reply), case, job), ""
    answer = reply["value"]
    if isinstance(case, Value) and answer is None:
        return 0.0, "Not answered yet.", ""
    try:
        with _alarm(_JUDGE_SECONDS):
            variant = dict(job.variant)
            if question.judge is not None:
                verdict = question.judge(answer, case, variant)
            else:
                from sciviz.coursework.questions import compare

                verdict = compare(answer, question.reference(case, variant), rtol=question.rtol, atol=question.atol)
        fraction, message = float(verdict[0]), str(verdict[1])
    except Exception as error:
        return 0.0, "Your answer could not be judged; your teacher is told.", f"the judge failed: {error!r:.200}"
    fraction = min(1.0, max(0.0, fraction)) if math.isfinite(fraction) else 0.0
    if reply.get("changed") is True and fraction > 0 and question.in_place < 1:
        fraction *= question.in_place
        message = f"{message} But your function changes what it is given: work on a copy."
    return fraction, message, ""


def _said_of_error(kind: str, case: Case, job: Job) -> str:
    """Say what went wrong. The student's own words stay inside: they may carry a hidden input out."""
    name = getattr(case, "name", "")
    if kind == "NotDefined":
        return f"Not answered: no cell that could be run defines {name}."
    if kind in ("NotImplementedError", "HiddenAnswer"):
        return "Not answered yet, or it asks the library for the answer, which is not there while this is graded."
    if kind == "TimeLimit":
        return f"Your code {_LIMIT.format(case.seconds or job.assignment.limits['call'])} on a hidden input."
    if kind == "Unsendable":
        return "The answer is no number, array, tensor, string, nor a list, tuple or dict of these, or it is too large."
    if kind in _BUILTIN:
        return (
            f"Your code raised {kind} on a hidden input. Try odd ones: one sample, equal points, zeros, large numbers."
        )
    return "Your code raised an exception on a hidden input."


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Let a judge take no longer, where signals can be had."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError("the judge took too long")

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _manual(asked: Asked, job: Job, attempt: Attempt) -> dict[str, Any]:
    """Return what was written for a question that is graded by hand."""
    (handed,) = [
        plain_source(cell.source) for cell in job.released if (cell.role, cell.question) == ("manual", asked.id)
    ]
    texts = [cell["source"] for cell in attempt.cells if cell["grade_id"] == asked.id and cell["source"] != handed]
    if not texts and not any(cell["grade_id"] == asked.id for cell in attempt.cells):
        # The cell lost its mark, as on some platforms: then by the heading that it begins with.
        head = handed.split("\n", 1)[0]
        texts = [
            cell["source"] for cell in attempt.cells if cell["source"].startswith(head) and cell["source"] != handed
        ]
    text = "\n\n".join(texts)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""
    return {"answer": text[:20_000], "digest": digest}


def digest_of(descriptor: int) -> str:
    """Return a digest of an open file's content."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    found = hashlib.sha256()
    while part := os.read(descriptor, 1 << 20):
        found.update(part)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return found.hexdigest()
