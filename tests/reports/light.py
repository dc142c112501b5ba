"""Notebooks that start in a second, since they import neither torch nor sciviz, and ways to run sweeps as users do."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil

from sciviz.lab.claims import make_claim

SECONDS = float(os.environ.get("SCIVIZ_SLOWNESS", "4")) * 30

# What a claim and a data set look like in an output; written out, so that the notebook needs no import of ours.
_HEAD = """
import base64, io, json, os, pathlib, time
import numpy as np
from IPython.display import display

def claim(**measured):
    data = {"id": "light/number", "says": "a number", "criterion": "none", "measured": measured, "outcome": "holds"}
    display({"application/vnd.sciviz.claim+json": {**data, "source": "live"}, "text/plain": "claim"}, raw=True)

def dataset(name, **arrays):
    import xarray as xr
    made = xr.Dataset({key: (tuple(f"{key}_{i}" for i in range(np.ndim(v))), v) for key, v in arrays.items()})
    netcdf = base64.b64encode(bytes(made.to_netcdf(engine="h5netcdf"))).decode()
    display({"application/vnd.sciviz.dataset+json": {"name": name, "netcdf": netcdf}, "text/plain": name}, raw=True)

marks = pathlib.Path(marks_folder)
def mark(*words):
    path = marks / "-".join(map(str, words))
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\\n")
def wait_for(name):
    while not (marks / name).exists():
        time.sleep(0.02)
"""


def notebook(path: Path, *cells: str, parameters: str = "") -> Path:
    """Write a notebook with the parameters seed, width, text and marks_folder, and these cells under one heading each."""
    made = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    )
    head = f"""seed: int = 0  # which draw [0..1000]
width: int = 1  # how wide [1..4096]
text: str = ""  # any words
marks_folder: str = ""  # where the notebook tells that it ran
{parameters}"""
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    made.cells = [text("# Light", id="title"), code(head, id="parameters", metadata={"tags": ["parameters"]})]
    made.cells.append(code(_HEAD, id="head"))
    for place, source in enumerate(cells, start=1):
        made.cells += [text(f"## Part {place}", id=f"part-{place}"), code(source, id=f"cell-{place}")]
    nbformat.validate(made)
    nbformat.write(made, path)
    return path


def command(folder: Path, *words: Any, **options: Any) -> subprocess.Popen[str]:
    """Start `sciviz` as a user does, in a process group of its own, so that Ctrl-C can reach all of it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(scratch(folder)), **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-m", "sciviz.cli", *map(str, words)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def scratch(folder: Path) -> Path:
    """Return where a command keeps its temporary files."""
    made = folder / "scratch"
    made.mkdir(exist_ok=True)
    return made


def run(folder: Path, *words: Any, **options: Any) -> tuple[int, str, str]:
    """Run `sciviz` to its end; return its exit code and what it said."""
    process = command(folder, *words, **options)
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        end(process)
    return process.returncode, out, re.sub(r"[^\n]*\r", "", err)


def end(process: subprocess.Popen[Any]) -> None:
    """End a command and all that it started."""
    for victim in descendants(process.pid):
        with contextlib.suppress(psutil.Error):
            victim.kill()
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()


def descendants(pid: int) -> list[psutil.Process]:
    """Return the processes that a process started, and theirs."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def until(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Wait until a condition holds, and return what it said."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:.0f} s in vain: {what}")


def gone(pid: int) -> bool:
    """Return whether a process has ended (one that nobody waited for has, too)."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def marked(marks: Path, name: str) -> list[int]:
    """Return the processes that left a mark, in their order."""
    path = marks / name
    return [int(line) for line in path.read_text().splitlines()] if path.is_file() else []


def claim(**measured: float) -> dict[str, Any]:
    """Return a claim as a result holds it."""
    return make_claim("light/number", says="a number", criterion="none", measured=measured, holds=True).to_json()
