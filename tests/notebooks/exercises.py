"""Exercises without a kernel: a notebook's parameters, setup and exercise cells, with an answer put in.

The solution is read from the cell tagged `solution` that follows; two typical wrong answers to each exercise lie in
`answers/STEM.toml`:

    [[exercise]]
    title = "1. Double"            # as `run.exercise` is given it
    wrong = ['''
    def double(number): ...        # code that replaces what the reader fills in
    ''', '''...''']
"""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sciviz.lab.runtime import Exercise
from tests.notebooks import lint

ANSWERS = Path(__file__).with_name("answers")


@dataclass(frozen=True)
class Task:
    """One exercise: the cells before its check, the check, and the solution's code."""

    title: str
    stubs: tuple[str, ...]
    check: str
    solution: str


def tasks(notebook: Any) -> list[Task]:
    found: list[Task] = []
    stubs: list[str] = []
    check: str | None = None
    for cell in notebook.cells:
        if "exercise" in lint.tags(cell) and cell.cell_type == "code":
            calls = lint._method_calls(cell, "run", "exercise")
            if calls:
                check, title = cell.source, ast.literal_eval(calls[-1].args[0])
            else:
                stubs.append(cell.source)
        elif "solution" in lint.tags(cell) and check is not None:
            blocks = re.findall(r"```python\n(.*?)```", cell.source, re.DOTALL)
            found.append(Task(title, tuple(stubs), check, "\n".join(blocks)))
            stubs, check = [], None
    return found


def prepare(notebook: Any) -> dict[str, Any]:
    """Return the names that a reader has when they come to the exercises: parameters and setup, nothing else."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for tag in ("parameters", "setup"):
        for cell in lint.code_cells(notebook, tag):
            exec(compile(cell.source, f"<{tag}>", "exec"), names)
    return names


def attempt(task: Task, names: dict[str, Any], answer: str = "") -> Exercise:
    """Run an exercise's cells with an answer put in after the stub; return what the check says."""
    scope = dict(names)
    for place, source in enumerate([*task.stubs, answer]):
        exec(compile(source, f"<exercise {task.title}, part {place}>", "exec"), scope)
    tree = ast.parse(task.check)
    last = tree.body.pop()
    if not isinstance(last, ast.Expr):
        raise AssertionError(f"Exercise {task.title}: the check must be the last expression of its cell.")
    exec(compile(tree, "<check>", "exec"), scope)
    result = eval(compile(ast.Expression(last.value), "<check>", "eval"), scope)
    assert isinstance(result, Exercise), f"Exercise {task.title}: the check must be a call of run.exercise."
    return result


def read_answers(text: str) -> dict[str, list[str]]:
    return {entry["title"]: entry["wrong"] for entry in tomllib.loads(text).get("exercise", [])}


def answers(stem: str) -> dict[str, list[str]]:
    path = ANSWERS / f"{stem}.toml"
    return read_answers(path.read_text(encoding="utf-8")) if path.is_file() else {}


def problems(task: Task, names: dict[str, Any], wrong: list[str]) -> list[str]:
    """Say what is not as it should be: untouched, with the solution, with the two wrong answers."""
    found = []
    untouched = attempt(task, names)
    if untouched.status != "untried":
        found.append(f"Exercise {task.title}: untouched, it must say so, but it says {untouched.status!r}.")
    if not task.solution.strip():
        found.append(f"Exercise {task.title}: its solution holds no python block.")
    else:
        solved = attempt(task, names, task.solution)
        if solved.status != "right":
            found.append(f"Exercise {task.title}: its own solution is {solved.status}: {solved.message}")
    if len(wrong) < 2:
        found.append(f"Exercise {task.title}: two typical wrong answers are needed, found {len(wrong)}.")
    said = []
    for place, code in enumerate(wrong):
        result = attempt(task, names, code)
        if result.status != "wrong":
            found.append(f"Exercise {task.title}: wrong answer {place + 1} counts as {result.status}.")
        said.append(result.message)
    if len(set(said)) < len(said):
        found.append(f"Exercise {task.title}: two wrong answers get the same message: {said[0]}")
    return found
