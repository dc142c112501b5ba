"""Grade a folder of submissions: in parallel, with progress, and so that what is done is never done again."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sciviz.coursework import grading
from sciviz.coursework.classroom import Classroom, derive
from sciviz.coursework.release import need_nbgrader, released_text
from sciviz.coursework.sandbox import Room, SandboxError, need_bubblewrap
from sciviz.coursework.source import Assignment
from sciviz.coursework.submissions import NotAccepted, Submission, find_submissions, open_notebook

_CODE = ("grading.py", "inside.py", "wire.py", "questions.py", "sandbox.py", "hiding.py")


@dataclass
class Graded:
    """What a batch did.

    Attributes
    ----------
    records
        One a student, in the order of their ids.
    fresh
        How many were graded now; the others were kept.
    strangers
        Entries that belong to nobody.
    failed
        Submissions that the grader itself could not grade, and why: they have no grade, and are tried again next time.
    """

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    fresh: int = 0
    strangers: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def grade_batch(
    classroom: Classroom,
    name: str,
    submissions: Path,
    *,
    workers: int | None = None,
    unsafe: bool = False,
    progress: bool = True,
) -> Graded:
    """Grade all submissions in a folder, and keep each result as soon as it is there.

    Raises
    ------
    ValueError
        If the class has no such assignment, or the folder is not there.
    SandboxError
        If there is no sandbox and `unsafe` is not set.
    """
    need_nbgrader()
    if not unsafe:
        need_bubblewrap()
    began = time.monotonic()
    assignment = classroom.assignment(name)
    found = find_submissions(submissions, name, classroom.people)
    folder = classroom.folder / "results" / name
    folder.mkdir(parents=True, exist_ok=True)
    released = released_text(assignment, classroom.variant(name), classroom.seed_key)
    context = _context(classroom, assignment, released)
    done = Graded(strangers=found.strangers)
    waiting: list[tuple[Submission, str]] = []
    for submission in found.submissions:
        record, key = None, ""
        problem = submission.problem
        if submission.path is not None:
            try:
                descriptor = open_notebook(submission.path)
            except NotAccepted as error:
                problem = f"the notebook {error}"
            else:
                try:
                    content = grading.digest_of(descriptor)
                finally:
                    os.close(descriptor)
                key = hashlib.sha256(f"{context}\0{submission.student}\0{content}".encode()).hexdigest()
                record = _kept(folder, submission.student, key)
        if problem:
            record = grading.nothing_graded(assignment, submission.student, f"{problem[0].upper()}{problem[1:]}.")
            _keep(folder, record, "")
        if record is None:
            waiting.append((submission, key))
        else:
            done.records[submission.student] = record
    if waiting:
        private = [classroom.folder, submissions]
        with Room(assignment.hidden, assignment.limits, private=private, unsafe=unsafe) as room:
            start = {
                "class": str(classroom.folder),
                "assignment": name,
                "submissions": str(submissions.resolve()),
                "unsafe": unsafe,
                "released": [asdict(cell) for cell in grading.handed_out(json.loads(released))],
                "questions": [asdict(asked) for asked in assignment.questions],
                "limits": assignment.limits,
                "room": str(room.folder),
            }
            _run(start, waiting, folder, done, workers or os.cpu_count() or 1, progress)
    about = {submission.student: submission for submission in found.submissions}
    for student, record in done.records.items():
        submission = about[student]
        record["remarks"] = [*submission.remarks, *record["remarks"]]
        record["handed_in"] = submission.handed_in.isoformat() if submission.handed_in else None
    done.records = dict(sorted(done.records.items()))
    done.seconds = time.monotonic() - began
    return done


def _context(classroom: Classroom, assignment: Assignment, released: str) -> str:
    """Return a digest of all that a grade depends on besides the notebook."""
    here = Path(__file__).parent
    parts = [
        str(grading.FORMAT),
        released,
        (assignment.folder / f"{assignment.name}.py").read_text(encoding="utf-8"),
        json.dumps([assignment.limits, assignment.hidden, [asked.points for asked in assignment.questions]]),
        derive(classroom.secret, "context").hex(),
        *[(here / name).read_text(encoding="utf-8") for name in _CODE],
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _path(folder: Path, student: str) -> Path:
    # Two ids may differ in what a file system takes for the same.
    return folder / f"{student}-{hashlib.sha256(student.encode()).hexdigest()[:8]}.json"


def _kept(folder: Path, student: str, key: str) -> dict[str, Any] | None:
    try:
        kept = json.loads(_path(folder, student).read_text(encoding="utf-8"))
        return kept["record"] if kept["key"] == key and kept["record"]["student"] == student else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(folder: Path, record: dict[str, Any], key: str) -> None:
    """Write a result whole or not at all."""
    target = _path(folder, record["student"])
    descriptor, part = tempfile.mkstemp(dir=folder, prefix=".part-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"key": key, "record": record}, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, target)


def kept_records(classroom: Classroom, name: str) -> dict[str, dict[str, Any]]:
    """Return all results that are kept of an assignment, by student."""
    found = {}
    for path in sorted((classroom.folder / "results" / name).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = json.loads(path.read_text(encoding="utf-8"))["record"]
            found[record["student"]] = record
    return found


class _Worker:
    """A grading process, and what it is doing."""

    def __init__(self, start: dict[str, Any]) -> None:
        environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sciviz.coursework.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
        )
        self.job: tuple[Submission, str] | None = None
        self.ready = False
        self._waiting = b""
        self.send(start)

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def lines(self) -> Iterator[Any]:
        """Return the answers that have come; None at the end of the process."""
        assert self.process.stdout is not None
        part = os.read(self.process.stdout.fileno(), 1 << 16)
        if not part:
            yield None
            return
        *whole, self._waiting = (self._waiting + part).split(b"\n")
        for line in whole:
            yield json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        if self.job is not None:
            # Its sandbox ends with it.
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def _run(
    start: dict[str, Any],
    waiting: Sequence[tuple[Submission, str]],
    folder: Path,
    done: Graded,
    workers: int,
    progress: bool,
) -> None:
    from tqdm.auto import tqdm

    left = list(reversed(waiting))
    running: set[_Worker] = set()
    selector = selectors.DefaultSelector()
    bar = tqdm(
        total=len(waiting),
        desc=f"grading {start['assignment']}",
        unit="submission",
        disable=not progress,
        file=sys.stderr,
    )

    def begin() -> None:
        worker = _Worker(start)
        running.add(worker)
        assert worker.process.stdout is not None
        selector.register(worker.process.stdout, selectors.EVENT_READ, worker)

    def give(worker: _Worker) -> None:
        worker.job = left.pop() if left else None
        if worker.job is None:
            end(worker)
        else:
            submission = worker.job[0]
            worker.send({"student": submission.student, "path": str(submission.path)})

    def end(worker: _Worker) -> None:
        assert worker.process.stdout is not None
        selector.unregister(worker.process.stdout)
        running.discard(worker)
        worker.close()

    try:
        for _ in range(min(workers, len(waiting))):
            begin()
        while running:
            for event, _ in selector.select():
                worker: _Worker = event.data
                for message in worker.lines():
                    if message is None:
                        job, ready, worker.job = worker.job, worker.ready, None
                        end(worker)
                        if job is not None:
                            done.failed[job[0].student] = "the grading process ended; look at the assignment's checks"
                            bar.update()
                        if not ready:
                            raise SandboxError("grading could not begin: see what the grading process said above.")
                        if left:
                            begin()
                    elif "ready" in message:
                        worker.ready = True
                        give(worker)
                    else:
                        assert worker.job is not None
                        submission, key = worker.job
                        worker.job = None
                        record = message["record"]
                        if "failed" in record:
                            done.failed[submission.student] = record["failed"]
                        else:
                            _keep(folder, record, key)
                            done.records[submission.student] = record
                            done.fresh += 1
                        bar.update()
                        give(worker)
    finally:
        for worker in list(running):
            end(worker)
        bar.close()


def write_csv(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write a table for a learning platform; text that a spreadsheet would run as a formula is quoted."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(row.get(name, "")) for name in columns})
    part.replace(path)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.2f}"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
