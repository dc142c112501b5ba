"""The course's own assignments: every solution passes in every variant, every catalogued mistake gets what its line says."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from sciviz.coursework.questions import Mistake, compare
from sciviz.coursework.release import released_text
from sciviz.coursework.source import assignment_names, assignments_dir, complete, read_assignment, solution_of
from sciviz.coursework.trial import try_assignment
from sciviz.coursework.visible import check
from sciviz.lab.places import course_dir
from tests.coursework.toy import need_nbgrader, need_sandbox, write_source

NAMES = assignment_names()


@pytest.fixture(autouse=True)
def nbgrader() -> None:
    need_nbgrader()


@pytest.mark.parametrize("name", NAMES)
def test_solutions_and_catalogued_mistakes_get_their_marks(name: str) -> None:
    need_sandbox()
    tried = list(try_assignment(read_assignment(name)))
    assert {f"{trial.variant}, {trial.name}": trial.problem for trial in tried if trial.problem} == {}
    assert len(tried) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_released_copies_are_what_the_sources_give(name: str) -> None:
    assignment = read_assignment(name)
    text = released_text(assignment)
    assert text == released_text(read_assignment(name)), "the same on every run"
    path = course_dir() / "release" / name / f"{name}.ipynb"
    assert path.read_text(encoding="utf-8") == text, f"run  sciviz course release {name}"
    assert "### BEGIN SOLUTION" not in text
    for asked in assignment.questions:
        if not asked.manual:
            body = solution_of(assignment.notebook, asked.id).split("### BEGIN SOLUTION")[1].split("### END")[0]
            longest = max(body.strip().splitlines(), key=len).strip()
            assert json.dumps(longest)[1:-1] not in text


@pytest.mark.parametrize("name", NAMES)
def test_sources_carry_nbgraders_metadata(name: str) -> None:
    notebook = nbformat.read(assignments_dir() / f"{name}.ipynb", as_version=4)
    before = nbformat.writes(notebook)
    complete(notebook)
    assert nbformat.writes(notebook) == before, f"run  sciviz course check {name} --fix"


def test_no_release_without_a_source() -> None:
    assert {path.parent.name for path in (course_dir() / "release").glob("*/*.ipynb")} == set(NAMES)


def edited(folder: Path, change: object) -> Path:
    write_source(folder)
    path = folder / "toy.ipynb"
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda nb: nb.cells.pop(6), "must have one check cell for each"),
        (lambda nb: nb.cells.pop(2), "one cell of the role 'variant'"),
        (lambda nb: nb.cells[5].metadata.sciviz.update(question="other"), "asks"),
        (lambda nb: nb.cells[5].metadata.sciviz.update(answers=[]), "names no answers"),
        (lambda nb: nb.cells[5].metadata.sciviz.update(points=0), "points must be above 0"),
        (lambda nb: nb.cells[5].metadata.sciviz.pop("points"), "must say points"),
        (lambda nb: nb.cells[5].metadata.sciviz.update(role="anwser"), "role must be one of"),
        (lambda nb: nb.cells[5].update(source="def scale(x): return x"), "no solution between"),
        (
            lambda nb: nb.cells[0].update(source="### BEGIN SOLUTION\nx\n### END SOLUTION"),
            "where students would read it",
        ),
        (lambda nb: nb.cells[5].update(source="### BEGIN SOLUTION\nx"), "must come in pairs"),
        (lambda nb: nb.cells[2].update(source='seed_key = "practice"\ngain = 3.0'), "the variant cell must set"),
        (lambda nb: nb.cells[5].metadata.pop("nbgrader"), "--fix"),
    ],
)
def test_what_is_wrong_with_a_source_is_said(tmp_path: Path, change: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_assignment("toy", edited(tmp_path, change))


def test_a_trial_notices_what_does_not_hold(tmp_path: Path) -> None:
    need_sandbox()
    folder = write_source(tmp_path)
    checks = folder / "toy.py"
    text = checks.read_text().replace('Wrong("sum", "def scale(x):\\n    return (gain * x).sum()", 0.0)',
                                      'Wrong("sum", "def scale(x):\\n    return (gain * x).sum()", 1.0)')  # fmt: skip
    assert text != checks.read_text()
    checks.write_text(text)
    problems = {
        trial.name: trial.problem for trial in try_assignment(read_assignment("toy", folder), draws=0) if trial.problem
    }
    assert list(problems) == ["scale: sum"]
    assert "got 0 of its points, not 1" in problems["scale: sum"]
    checks.write_text(checks.read_text().replace('right = variant["gain"]', "right = 3.3"))
    assert "solution" in {
        trial.name for trial in try_assignment(read_assignment("toy", folder), draws=0) if trial.problem
    }


def test_markdown_that_asks_for_an_unknown_constant(tmp_path: Path) -> None:
    def ask(notebook: nbformat.NotebookNode) -> None:
        notebook.cells[0].source = "{{unknown}}"

    with pytest.raises(ValueError, match="asks for"):
        released_text(read_assignment("toy", edited(tmp_path, ask)))


# --- what checks are written with ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "right", "said"),
    [
        (None, 1.0, "Is there a return"),
        ("1", 1.0, "Numbers are wanted"),
        ([1.0, 2.0], [[1.0], [2.0]], "1 dimensions and should have 2"),
        ([[1.0, 2.0]], [[1.0], [2.0]], "wrong order"),
        ([1.0], [1.0, 2.0], "not the right sizes"),
        ([1.0, float("nan")], [1.0, 2.0], "NaN or infinite"),
        ([3.0, 6.0], [1.0, 2.0], "one and the same factor"),
        ([[1.0, 2.0], [3.0, 4.0]], [[1.0, 3.0], [2.0, 4.0]], "exchanged"),
        ([1.0, 2.0001], [1.0, 2.0], "float32"),
        ((1.0, 2.0), (1.0, 3.0), "number 2 is wrong"),
        ((1.0,), (1.0, 3.0), "2 values are wanted"),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, "keys a, b"),
        ([1.0, 0.0], [True, False], "Truth values"),
        ("no", "yes", "The value is wrong"),
    ],
)
def test_compare_names_the_kind_of_mistake_and_no_number(answer: object, right: object, said: str) -> None:
    fraction, message = compare(answer, right)
    assert fraction == 0.0
    assert said in message
    assert compare(right, right)[0] == 1.0


def test_compare_knows_typical_mistakes() -> None:
    mistakes = [Mistake([2.0], 0.5, "twice"), Mistake([3.0], 0.25, "thrice")]
    assert compare([3.0], [1.0], mistakes=mistakes) == (0.25, "thrice")


def test_visible_check_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [(lambda f: f(2) == 4, "twice two is four")]
    check("double", lambda x: 2 * x, checks)
    assert "visible checks pass" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="double: twice two is four"):
        check("double", lambda x: x, checks)
    with pytest.raises(AssertionError, match="Not answered yet"):
        check("double", None, checks)
    with pytest.raises(AssertionError, match="raised KeyError"):
        check("double", lambda x: {}[x], checks)

    def stub(x: float) -> float:
        raise NotImplementedError

    with pytest.raises(AssertionError, match="Not answered yet"):
        check("double", stub, checks)
