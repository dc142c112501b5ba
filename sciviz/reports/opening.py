"""Put the tutorials where the user can change them, and open them in JupyterLab."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sciviz.lab.places import tutorials_dir

_RECORD = ".sciviz-tutorials.json"
START = "00_start_here.ipynb"


@dataclass(frozen=True)
class Copied:
    """What became of the tutorials in a folder of the user's, by file name.

    Attributes
    ----------
    new, renewed, same
        Put there; replaced, since the user had not changed the older one; already there.
    changed
        The user's own: left as they are.
    """

    folder: Path
    new: list[str]
    renewed: list[str]
    same: list[str]
    changed: list[str]


def copy_tutorials(folder: Path | str) -> Copied:
    """Copy the tutorials into a folder, and leave alone whatever the user has changed there.

    Raises
    ------
    ValueError
        If there is a file of that name, or this installation carries no tutorials.
    """
    target = Path(folder).resolve()
    if target.exists() and not target.is_dir():
        raise ValueError(f"DIR must be a folder, {str(target)!r} is a file.")
    sources = sorted(tutorials_dir().glob("[0-9][0-9]_*.ipynb"))
    if not sources:
        raise ValueError("this installation of sciviz carries no tutorials.")
    target.mkdir(parents=True, exist_ok=True)
    result = Copied(target, [], [], [], [])
    if target == tutorials_dir().resolve():
        result.same.extend(source.name for source in sources)
        return result
    record = _read(target / _RECORD)
    for source in sources:
        content, place = source.read_bytes(), target / source.name
        now, ours = _digest(content), record.get(source.name)
        # A link is not followed: what it points to may lie anywhere.
        if not os.path.lexists(place):
            group = result.new
        elif place.is_file() and not place.is_symlink() and (found := _digest(place.read_bytes())) in (now, ours):
            group = result.same if found == now else result.renewed
        else:
            result.changed.append(source.name)
            continue
        if group is not result.same:
            _write(place, content)
        group.append(source.name)
        record[source.name] = now
    _write(target / _RECORD, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    return result


def start_lab(folder: Path, arguments: Sequence[str] = ()) -> int:
    """Become JupyterLab in a folder, at the first page of the course; where the system cannot, return its exit code."""
    first = [START] if (folder / START).is_file() else []
    command = [sys.executable, "-m", "jupyterlab", *arguments, *first]
    if os.name != "posix":
        return subprocess.call(command, cwd=folder)
    sys.stdout.flush()
    os.chdir(folder)
    # In our place, so that Ctrl-C and every other signal is its own.
    os.execv(sys.executable, command)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, content: bytes) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(content)
    os.replace(scratch, path)
