"""CI can fail: what is broken on purpose must turn a run of pytest red, with the settings of this repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest
import torch

from tests.notebooks import lint, toys

ROOT = lint.ROOT
CLAIM = 'run.claim("toy-line/slope", says="s", measured=1.0, holds={holds}, criterion="c"{more});'
EXPLORER = """
from sciviz.lab.panel import Panel, Range


def width(width: Annotated[int, Range(1, 8)] = 4) -> int:
    return width


def draw(width: int):
    if width == 8:
        raise ZeroDivisionError("eight is too wide")
    return theme.add_data(theme.figure(title="A dot", alt="A dot."), [width], [1])
"""
DRIVER = f"""
from typing import Annotated

from sciviz.lab import theme
from tests.notebooks.explorers import drive
{EXPLORER}

def test_explorer():
    assert drive(Panel(width, draw, title="Toy")) == []
"""


@dataclass(frozen=True)
class Run:
    """A run of pytest: its exit code, state and message of each test by file, and what it printed."""

    code: int
    results: dict[str, list[tuple[str, str]]]
    said: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of pytest, as CI runs it, over a good notebook and several that are broken."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / name, folder)
    broken = toys.small(
        "1 / 0",
        CLAIM.format(holds=False, more=""),
        CLAIM.format(holds=True, more=', expected="fails", why="w"'),
        EXPLORER + "\npanel = Panel(width, draw, title='Toy')",
        "panel.set(width=8)",
    )
    changed = toys.cell(toys.good(), "check")
    changed.outputs[0].text = "the two ways differ\n"
    broken.cells.append(changed)
    notebooks = {"good": toys.good(), "broken": broken}
    (folder / "tutorials").mkdir()
    for name, notebook in notebooks.items():
        toys.write(notebook, folder / "tutorials" / f"{name}.ipynb")
    (folder / "test_driver.py").write_text(DRIVER, encoding="utf-8")
    # The run must be strict by its own settings, not by what it inherits.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "SCIVIZ_"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadscope"]
    done = subprocess.run(
        [*command, "--junit-xml=results.xml", "--color=no", "tutorials", "test_driver.py"],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    said = done.stdout + done.stderr
    assert (folder / "results.xml").is_file(), said
    results: dict[str, list[tuple[str, str]]] = {}
    for case in ElementTree.parse(folder / "results.xml").iter("testcase"):
        file = case.get("classname", "").removeprefix("tutorials.").removesuffix(".ipynb")
        state, message = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                # Colours of the traceback, as XML can hold them.
                text = re.sub(r"(#x1B|\x1b)\[[\d;]*m", "", f"{child.get('message')}\n{child.text}")
                state, message = child.tag, text
        results.setdefault(file, []).append((state, message))
    return Run(done.returncode, results, said)


def test_exit_code(ran: Run) -> None:
    assert ran.code == 1, ran.said


def test_good_notebook_stays_green(ran: Run) -> None:
    """The others fail for their own reason only if this one passes; its gpu cell is skipped, and says why."""
    states = [state for state, _ in ran.results["good"]]
    assert len(states) == len(lint.code_cells(toys.good()))
    assert set(states) <= {"passed", "skipped"}
    skipped = [message for state, message in ran.results["good"] if state == "skipped"]
    assert all("needs a CUDA device, and torch finds none on this machine" in message for message in skipped)
    assert len(skipped) == (0 if torch.cuda.is_available() else 1)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (2, "ZeroDivisionError: division by zero"),
        (3, "toy-line/slope fails, but is expected to hold"),
        (4, "toy-line/slope holds, but is expected to fail"),
        (6, "ZeroDivisionError: eight is too wide"),
        (7, "the two ways differ"),
    ],
    ids=["a cell that raises", "a claim fails", "a claim holds", "an explorer raises", "an output changed"],
)
def test_broken_cell_turns_red(ran: Run, cell: int, words: str) -> None:
    state, message = ran.results["broken"][cell]
    assert state == "failure", ran.said
    assert words in message


def test_cells_between_stay_green(ran: Run) -> None:
    assert [state for state, _ in ran.results["broken"]].count("failure") == 5


def test_explorer_that_raises_is_found_by_the_driver(ran: Run) -> None:
    ((state, message),) = ran.results["test_driver"]
    assert state == "failure" and "ZeroDivisionError: eight is too wide" in message
