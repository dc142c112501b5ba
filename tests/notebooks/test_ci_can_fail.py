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
    changed = toys.good()
    toys.cell(changed, "check").outputs[0].text = "the two ways differ\n"
    bare = toys.small("1 / 0")
    bare.cells.remove(toys.cell(bare, "setup"))
    notebooks = {
        "good": toys.good(),
        "raises": bare,
        "changed": changed,
        "claim_fails": toys.small(CLAIM.format(holds=False, more="")),
        "claim_holds": toys.small(CLAIM.format(holds=True, more=', expected="fails", why="w"')),
        "explorer": toys.small(EXPLORER + "\npanel = Panel(width, draw, title='Toy')", "panel.set(width=8)"),
    }
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
    ("name", "words"),
    [
        ("raises", "ZeroDivisionError: division by zero"),
        ("changed", "the two ways differ"),
        ("claim_fails", "toy-line/slope fails, but is expected to hold"),
        ("claim_holds", "toy-line/slope holds, but is expected to fail"),
        ("explorer", "ZeroDivisionError: eight is too wide"),
        ("test_driver", "ZeroDivisionError: eight is too wide"),
    ],
)
def test_broken_turns_red(ran: Run, name: str, words: str) -> None:
    failures = [message for state, message in ran.results[name] if state == "failure"]
    assert len(failures) == 1, ran.said
    assert words in failures[0]
