"""A process that grades one submission after the other; the batch talks to it in lines of JSON.

Should the assignment's own checks end this process, the batch loses one submission's grade, and says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Read what to grade, one line each, and write one line back."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # What a check prints is no answer.
    os.dup2(2, 1)
    # Ctrl-C reaches every process of the terminal; what ends this one is the end of the batch.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _serve(requests, answers)


def _serve(requests: Any, answers: int) -> None:
    from sciviz.coursework.classroom import read_class
    from sciviz.coursework.grading import Handed, Job, grade, nothing_graded
    from sciviz.coursework.questions import load_checks
    from sciviz.coursework.sandbox import Room, SandboxError
    from sciviz.coursework.source import Asked, Assignment
    from sciviz.coursework.submissions import NotAccepted, open_notebook

    start = json.loads(requests.readline())
    classroom = read_class(Path(start["class"]))
    name, folder = start["assignment"], classroom.folder / "assignments"
    questions = tuple(Asked(**asked) for asked in start["questions"])
    # Not read from the notebook again: the library for that takes longer to load than a grade takes.
    assignment = Assignment(name, folder, None, load_checks(folder / f"{name}.py"), questions, start["limits"])
    released = [Handed(**cell) for cell in start["released"]]
    private = [classroom.folder, Path(start["submissions"])]
    shared = Path(start["room"])
    with Room(assignment.hidden, assignment.limits, private=private, unsafe=start["unsafe"], folder=shared) as room:
        _say(answers, {"ready": True})
        for line in requests:
            request = json.loads(line)
            student = request["student"]
            job = Job(assignment, released, classroom.variant(assignment.name, student), classroom.secret, student)
            try:
                descriptor = open_notebook(Path(request["path"]))
                try:
                    reply = grade(job, room, descriptor)
                finally:
                    os.close(descriptor)
            except NotAccepted as error:
                reply = nothing_graded(assignment, student, f"The notebook {error}.")
            except SandboxError as error:
                reply = {"failed": str(error)}
            except Exception as error:
                reply = {"failed": f"the assignment's checks raised {error!r:.300}"}
            _say(answers, {"student": student, "record": reply})


def _say(pipe: int, message: dict[str, Any]) -> None:
    view = memoryview(json.dumps(message).encode() + b"\n")
    while view:
        view = view[os.write(pipe, view) :]


if __name__ == "__main__":
    main()
