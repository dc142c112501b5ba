"""A class of the teacher's own: schedule, assignments, policy, a secret and the variants drawn from it."""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from sciviz.coursework.source import Assignment, assignment_names, assignments_dir, read_assignment
from sciviz.coursework.visible import seed_of

PRACTICE_SECRET = b"practice"
_SETTINGS = "class.toml"


@dataclass(frozen=True)
class Policy:
    """What late work costs.

    Attributes
    ----------
    late_days
        Days that each student has free over the whole term.
    late_penalty
        Share of the score that each further day costs.
    late_limit
        Days after which nothing is given, free or not.
    """

    late_days: int = 3
    late_penalty: float = 0.1
    late_limit: int = 7


@dataclass(frozen=True)
class Person:
    """A line of the class list."""

    id: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Classroom:
    """A class, read from its folder."""

    folder: Path
    name: str
    secret: bytes
    due: dict[str, datetime | None]
    policy: Policy
    variants: dict[str, dict[str, Any]]
    database: str
    people: tuple[Person, ...]

    @property
    def seed_key(self) -> str:
        """What students' seeds are made with: derived from the secret, which it does not tell."""
        return derive(self.secret, "seeds").hex()[:24]

    def variant(self, assignment: str, student: str | None = None) -> dict[str, Any]:
        """Return an assignment's constants; with a student's seed if one is named."""
        found = dict(self.variants[assignment])
        return found if student is None else {**found, "seed": seed_of(student, self.seed_key)}

    def assignment(self, name: str) -> Assignment:
        """Read one of the class's assignments.

        Raises
        ------
        ValueError
            If the class has none of that name.
        """
        if name not in self.variants:
            raise ValueError(f"assignment must be one of the class's ({', '.join(self.variants)}), got {name!r}.")
        return read_assignment(name, self.folder / "assignments")


def derive(secret: bytes, *words: str) -> bytes:
    """Return bytes that depend on the secret and the words, and do not tell the secret."""
    return hmac.new(secret, "\0".join(words).encode(), hashlib.sha256).digest()


def generator(secret: bytes, *words: str) -> np.random.Generator:
    """Return a random generator that depends on the secret and the words.

    >>> a, b = (generator(b"secret", "ntk", who).random() for who in ("ada", "alan"))
    >>> a == b
    False
    """
    return np.random.default_rng(int.from_bytes(derive(secret, *words), "big"))


def clean_id(text: str) -> str:
    """Return an id as it is kept, in Unicode's composed form.

    Raises
    ------
    ValueError
        If it holds what cannot be seen, turns the reading direction, or cannot be a folder.

    >>> clean_id("Zoë")
    'Zoë'
    """
    found = unicodedata.normalize("NFC", text)
    odd = [char for char in found if unicodedata.category(char)[0] == "C" or char in '/\\:*?"<>|']
    if (
        odd
        or not found.strip()
        or found != found.strip()
        or len(found) > 100
        or found.startswith((".", "=", "@", "-", "+"))
    ):
        raise ValueError(
            f"a student's id must be 1 to 100 visible characters that can name a folder, got {ascii(text)[:120]}."
        )
    return found


def init_class(
    folder: Path,
    names: Sequence[str] = (),
    *,
    title: str = "",
    start: date | None = None,
    source: Path | None = None,
) -> Classroom:
    """Make a class in a new folder: a fresh secret, variants drawn from it, and copies of the chosen assignments.

    Parameters
    ----------
    names
        Assignments; all if none is named.
    start
        When the first is released; the others follow every two weeks.
    source
        Where assignments come from; the course's own if None.

    Raises
    ------
    ValueError
        If the folder holds anything, or an assignment is not there.
    """
    source = source or assignments_dir()
    known = assignment_names(source)
    chosen = list(names) or known
    for name in chosen:
        if name not in known:
            raise ValueError(f"assignment must be one of {', '.join(known)}, got {name!r}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"a class needs a new or empty folder, got {str(folder)!r}.")
    (folder / "assignments").mkdir(parents=True)
    secret = secrets.token_hex(32)
    descriptor = os.open(folder / "secret.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    variants = {}
    for name in chosen:
        for suffix in (".ipynb", ".py"):
            shutil.copyfile(source / f"{name}{suffix}", folder / "assignments" / f"{name}{suffix}")
        drawn = read_assignment(name, source).checks.draw(generator(secret.encode(), "variant", name))
        variants[name] = drawn
    (folder / "variants.json").write_text(json.dumps(variants, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / _SETTINGS).write_text(_settings(title or folder.resolve().name, chosen, start), encoding="utf-8")
    (folder / "students.csv").write_text("id,first_name,last_name,email,folder\n", encoding="utf-8")
    # The released copies are for students; all else that is made here tells grades or the secret.
    (folder / ".gitignore").write_text(
        "secret.key\ngradebook.db\nresults/\nfeedback/\nautograded/\nsubmitted/\nsource/\nreport/\ngrades-*.csv\n",
        encoding="utf-8",
    )
    # So that nbgrader's own commands, run here, find the same gradebook and folders.
    (folder / "nbgrader_config.py").write_text(
        f"c = get_config()  # noqa\nc.CourseDirectory.course_id = {re.sub(r'[^A-Za-z0-9_-]+', '-', title or folder.name)!r}\n",
        encoding="utf-8",
    )
    return read_class(folder)


def _settings(title: str, names: Sequence[str], start: date | None) -> str:
    begin = start or datetime.now(UTC).date()
    lines = [
        f"name = {json.dumps(title, ensure_ascii=False)}",
        "# Any address that SQLAlchemy knows, such as postgresql://user@host/base; empty: gradebook.db beside this file.",
        'database = ""',
        "",
        "[policy]",
        f"late_days = {Policy.late_days}       # free days that each student has over the whole term",
        f"late_penalty = {Policy.late_penalty}  # share of the score that each further day costs",
        f"late_limit = {Policy.late_limit}      # days after which nothing is given",
    ]
    for place, name in enumerate(names):
        opens = begin + timedelta(weeks=2 * place)
        due = datetime.combine(opens + timedelta(weeks=2), time(23, 59), UTC)
        lines += ["", "[[assignment]]", f'name = "{name}"', f"release = {opens}", f"due = {due:%Y-%m-%dT%H:%M:%SZ}"]
    return "\n".join(lines) + "\n"


def read_class(folder: Path) -> Classroom:
    """Read a class from its folder.

    Raises
    ------
    ValueError
        If the folder is no class, or a line of its files is not accepted.
    """
    path = folder / _SETTINGS
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} is no class: there is no {_SETTINGS}. `sciviz course init DIR` makes one.")
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} cannot be read: {error}.") from None
    unknown = set(said.get("policy", {})) - set(Policy.__dataclass_fields__)
    if unknown:
        raise ValueError(f"{path}: the policy knows {', '.join(Policy.__dataclass_fields__)}, got {sorted(unknown)}.")
    try:
        secret = (folder / "secret.key").read_text(encoding="ascii").strip().encode()
    except FileNotFoundError:
        raise ValueError(f"the class's secret must lie in {folder / 'secret.key'}, where there is no file.") from None
    if len(secret) < 32:
        raise ValueError(f"{folder / 'secret.key'} must hold at least 32 characters.")
    variants = json.loads((folder / "variants.json").read_text(encoding="utf-8"))
    entries = said.get("assignment", [])
    for entry in entries:
        if entry.get("name") not in variants:
            raise ValueError(f"{path}: there are no variants of {entry.get('name')!r} in variants.json.")
    database = said.get("database") or f"sqlite:///{(folder / 'gradebook.db').resolve()}"
    due = {entry["name"]: _moment(entry.get("due")) for entry in entries}
    return Classroom(
        folder.resolve(),
        str(said.get("name", folder.name)),
        secret,
        due,
        Policy(**said.get("policy", {})),
        {entry["name"]: variants[entry["name"]] for entry in entries},
        database,
        _people(folder / "students.csv"),
    )


def _moment(value: Any) -> datetime | None:
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time(23, 59))
    if value is None or isinstance(value, datetime):
        return value.astimezone(UTC) if value is not None and value.tzinfo else value and value.replace(tzinfo=UTC)
    raise ValueError(f"due must be a date and time such as 2026-10-01T23:59:00Z, got {value!r}.")


def _people(path: Path) -> tuple[Person, ...]:
    if not path.is_file():
        return ()
    found: list[Person] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            fields = {name: (row.get(name) or "").strip() for name in Person.__dataclass_fields__}
            if not any(fields.values()):
                continue
            try:
                fields["id"] = clean_id(fields["id"])
            except ValueError as error:
                raise ValueError(f"{path.name}, line {number}: {error}") from None
            found.append(Person(**fields))
    ids = [person.id.casefold() for person in found]
    if twice := sorted({i for i in ids if ids.count(i) > 1}):
        raise ValueError(f"{path.name} has {', '.join(twice)} more than once.")
    return tuple(found)
