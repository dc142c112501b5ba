"""Exercises: untouched they say so, the solution passes, two typical wrong answers get two different messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from sciviz.lab.places import tutorials
from tests.notebooks import exercises, lint, toys

TASKS = [(tutorial.path, task.title) for tutorial in tutorials() for task in exercises.tasks(lint.read(tutorial.path))]


@pytest.mark.parametrize(("path", "title"), TASKS, ids=[f"{path.stem}-{title}" for path, title in TASKS])
def test_exercise(path: Path, title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    notebook = lint.read(path)
    task = next(task for task in exercises.tasks(notebook) if task.title == title)
    wrong = exercises.answers(path.stem).get(title, [])
    assert exercises.problems(task, exercises.prepare(notebook), wrong) == []


@pytest.mark.parametrize("tutorial", tutorials(), ids=lambda tutorial: tutorial.stem)
def test_answers_belong_to_an_exercise(tutorial) -> None:
    known = {task.title for task in exercises.tasks(lint.read(tutorial.path))}
    assert set(exercises.answers(tutorial.stem)) <= known


# The harness itself, on the toy


def _toy_problems(wrong: list[str] | None = None, **sources: str) -> list[str]:
    notebook = toys.good()
    for name, source in sources.items():
        toys.cell(notebook, name.replace("_", "-")).source = source
    (task,) = exercises.tasks(notebook)
    given = exercises.read_answers(toys.ANSWERS)[task.title] if wrong is None else wrong
    return exercises.problems(task, exercises.prepare(notebook), given)


def test_good_exercise() -> None:
    assert _toy_problems() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exercise_1": "def double(number):\n    return 2 * number"}, "untouched"),
        ({"exercise_1_solution": "```python\ndef double(number):\n    return number\n```"}, "own solution is wrong"),
        ({"exercise_1_solution": "Think."}, "no python block"),
        ({"wrong": []}, "two typical wrong answers"),
        ({"wrong": ["def double(number):\n    return 2 * number"] * 2}, "counts as right"),
        ({"wrong": ["def double(number):\n    return number + 2"] * 2}, "same message"),
    ],
    ids=["solved already", "wrong solution", "no solution", "no answers", "answers that are right", "one message"],
)
def test_bad_exercise_is_caught(change: dict, words: str) -> None:
    assert words in " ".join(_toy_problems(**change))


def test_answer_that_raises_gets_a_message() -> None:
    notebook = toys.good()
    (task,) = exercises.tasks(notebook)
    result = exercises.attempt(task, exercises.prepare(notebook), "def double(number):\n    return number.twice()")
    assert result.status == "wrong"
    # The hint is for an answer that is wrong, not for one that never came.
    assert "AttributeError" in result.message and "Twice nothing" not in result.message


def test_exercise_that_needs_the_lesson_is_caught() -> None:
    """Exercise cells rest on parameters and setup alone, so that they can be handed out on their own."""
    notebook = toys.good()
    toys.cell(notebook, "exercise-1").source = "heights = line.height\n\ndef double(number):\n    return ..."
    (task,) = exercises.tasks(notebook)
    with pytest.raises(NameError, match="line"):
        exercises.attempt(task, exercises.prepare(notebook))
