"""Submissions as they come: folders of students, one notebook each. Whose it is, the folder says, never the notebook."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sciviz.coursework.classroom import Person, clean_id

LARGEST = 150 * 2**20


class NotAccepted(Exception):
    """A file that is not opened; the message says why, as the end of “The notebook …”."""


@dataclass(frozen=True)
class Submission:
    """What one student handed in.

    Attributes
    ----------
    student
        From the folder or the class list.
    path
        The notebook; None if there is none to grade.
    problem
        Why there is none.
    remarks
        What the teacher should know.
    handed_in
        From nbgrader's `timestamp.txt`; None if nobody wrote it down.
    """

    student: str
    path: Path | None
    problem: str = ""
    remarks: tuple[str, ...] = ()
    handed_in: datetime | None = None


@dataclass(frozen=True)
class Found:
    """All submissions of a folder, and entries that belong to nobody."""

    submissions: tuple[Submission, ...]
    strangers: tuple[str, ...]


def find_submissions(folder: Path, assignment: str, people: Sequence[Person] = ()) -> Found:
    """Find the submissions in a folder.

    Known layouts: `STUDENT/*.ipynb`, nbgrader's `STUDENT/ASSIGNMENT/*.ipynb`, and `STUDENT.ipynb`. With a class list, STUDENT is an
    id or what the column `folder` says; other entries are strangers.

    Raises
    ------
    ValueError
        If the folder is not there.
    """
    if not folder.is_dir():
        raise ValueError(f"submissions must be a folder, got {str(folder)!r}.")
    found: dict[str, Submission] = {}
    strangers: list[str] = []
    with os.scandir(folder) as scan:
        entries = sorted(scan, key=lambda entry: os.fsencode(entry.name))
    for entry in entries:
        name = entry.name
        if name.startswith("."):
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if not is_folder and not entry.is_symlink() and not name.endswith(".ipynb"):
            continue
        shown = ascii(name)[1:-1]
        student = _student(name if is_folder else name.removesuffix(".ipynb"), people)
        if student is None:
            strangers.append(f"{shown}: {'not in the class list' if people else 'not a name that an id can have'}")
            continue
        if other := _same_person(student, found):
            strangers.append(f"{shown}: a second submission of {other}")
            continue
        if entry.is_symlink():
            found[student] = Submission(student, None, "it is a link to another place")
        elif is_folder:
            found[student] = _in_folder(Path(entry.path), student, assignment)
        else:
            found[student] = Submission(student, Path(entry.path))
    return Found(tuple(found.values()), tuple(strangers))


def _student(name: str, people: Sequence[Person]) -> str | None:
    composed = unicodedata.normalize("NFC", name)
    if people:
        for person in people:
            if composed == person.folder or composed.casefold() == person.id.casefold():
                return person.id
        return None
    try:
        return clean_id(name)
    except ValueError:
        return None


def _same_person(student: str, found: dict[str, Submission]) -> str:
    """Return an id that looks the same, or nothing."""

    def skeleton(text: str) -> str:
        return unicodedata.normalize("NFKC", text).casefold()

    return next((other for other in found if skeleton(student) == skeleton(other)), "")


def _in_folder(folder: Path, student: str, assignment: str) -> Submission:
    inner = folder / assignment
    if not inner.is_symlink() and inner.is_dir():
        folder = inner
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        return Submission(student, None, f"its folder cannot be read ({error.strerror})")
    moment = _moment(folder / "timestamp.txt")
    books = [entry for entry in entries if entry.name.endswith(".ipynb") and not entry.name.startswith(".")]
    if not books:
        others = ", ".join(ascii(entry.name)[1:-1][:60] for entry in entries[:5]) or "nothing"
        return Submission(student, None, f"there is no notebook in the folder (found: {others})", handed_in=moment)
    plain = [entry for entry in books if not entry.is_symlink()]
    if not plain:
        return Submission(student, None, "it is a link to another place", handed_in=moment)
    named = [entry for entry in plain if entry.name == f"{assignment}.ipynb"]
    chosen = named[0] if named else max(plain, key=lambda entry: entry.stat(follow_symlinks=False).st_mtime)
    remarks = []
    if len(books) > 1:
        remarks.append(f"{len(books)} notebooks were handed in; {ascii(chosen.name)[1:-1][:100]} was graded")
    return Submission(student, Path(chosen.path), "", tuple(remarks), moment)


def _moment(path: Path) -> datetime | None:
    from nbgrader.utils import parse_utc

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = parse_utc(file.read(200).decode("utf-8", "replace").strip())
    except (OSError, OverflowError, ValueError):
        return None
    return datetime.fromisoformat(found.isoformat()).replace(tzinfo=UTC)


def open_notebook(path: Path) -> int:
    """Open a notebook for reading, without following a link or waiting for a pipe.

    Raises
    ------
    NotAccepted
        If it is no plain file, or too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotAccepted(f"cannot be opened ({error.strerror})") from None
    status = os.fstat(descriptor)
    problem = ""
    if not stat.S_ISREG(status.st_mode):
        problem = "is no file"
    elif status.st_size > LARGEST:
        problem = f"has {status.st_size / 2**20:,.0f} MB, and {LARGEST / 2**20:,.0f} are accepted: clear its outputs"
    if problem:
        os.close(descriptor)
        raise NotAccepted(problem)
    return descriptor
