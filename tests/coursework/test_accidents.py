"""What students do without meaning to: each gets the marks that the answers are worth, and a reason for the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from sciviz.coursework.batch import Graded, grade_batch
from tests.coursework.toy import FULL, SOLUTIONS, Toy, messages, need_sandbox, scores


def role(cell: Any, wanted: str, question: str = "") -> bool:
    ours = cell.metadata.get("sciviz", {})
    return ours.get("role") == wanted and question in ("", ours.get("question"))


def answer(book: Any, question: str) -> Any:
    return next(cell for cell in book.cells if role(cell, "answer", question))


def duplicated(toy: Toy) -> Any:
    book = toy.notebook()
    for cell in [cell for cell in book.cells if cell.cell_type == "code"]:
        book.cells.insert(book.cells.index(cell), nbformat.from_dict(dict(cell)))
    return book


def stub_left_below(toy: Toy) -> Any:
    book = toy.notebook()
    book.cells += [cell for cell in toy.untouched().cells if role(cell, "answer")]
    return book


def split(toy: Toy) -> Any:
    book = toy.notebook({"number": "helper = seed\nnumber = helper % 1000"})
    cell = answer(book, "number")
    place = book.cells.index(cell)
    book.cells[place : place + 1] = [new_code_cell(line) for line in cell.source.split("\n")]
    return book


def merged(toy: Toy) -> Any:
    book = toy.notebook()
    code = "\n\n".join(cell.source for cell in book.cells if cell.cell_type == "code")
    book.cells = [book.cells[0], new_code_cell(code)]
    return book


def only_the_answers(toy: Toy) -> Any:
    book = toy.notebook()
    book.cells = [cell for cell in book.cells if role(cell, "answer")]
    return book


def reordered(toy: Toy) -> Any:
    book = toy.notebook({"number": "number = helper(seed)"})
    book.cells.append(new_code_cell("def helper(x):\n    return x % 1000"))
    book.cells.reverse()
    return book


def wrong_cells(toy: Toy) -> Any:
    book = toy.untouched()
    for cell in book.cells:
        if role(cell, "answer", "number"):
            cell.source = SOLUTIONS["scale"] + "\n\n" + SOLUTIONS["where"]
        if role(cell, "check", "where"):
            cell.source = SOLUTIONS["number"]
    return book


def by_colab(toy: Toy) -> Any:
    book = json.loads(json.dumps(toy.notebook()))
    book["metadata"] = {
        "colab": {"name": "toy.ipynb", "provenance": []},
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
    }
    book["nbformat_minor"] = 0
    for cell in book["cells"]:
        cell.pop("id", None)
        cell["metadata"] = {"id": "aB3", "colab": {"base_uri": "https://localhost:8080/"}, "outputId": "x"}
        cell["source"] = cell["source"].splitlines(keepends=True)
    return book


def by_vscode(toy: Toy) -> Any:
    book = json.loads(json.dumps(toy.notebook()))
    book["metadata"] = {
        "kernelspec": {"name": ".venv", "display_name": ".venv"},
        "language_info": {"version": "3.13.1"},
    }
    for cell in book["cells"]:
        cell["metadata"] = {"vscode": {"languageId": "python"}}
        cell["source"] = cell["source"].replace("\n", "\r\n") + "\n"
    return book


def wrong_kernel(toy: Toy) -> Any:
    book = toy.notebook()
    book.metadata["kernelspec"] = {"name": "ir", "display_name": "R", "language": "R"}
    return book


def with_magics(toy: Toy) -> Any:
    book = toy.notebook()
    book.cells.insert(0, new_code_cell("%load_ext autoreload\n%autoreload 2\n!pip install numpy\nscale?"))
    answer(book, "scale").source = "%%time\n" + SOLUTIONS["scale"]
    return book


def hundred_megabytes_of_output(toy: Toy) -> Any:
    book = toy.notebook()
    answer(book, "scale")["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 100_000_000}]
    return book


def asks_for_input(toy: Toy) -> Any:
    book = toy.notebook()
    book.cells.insert(2, new_code_cell("name = input('Your name? ')"))
    return book


def prints_in_a_loop(toy: Toy) -> Any:
    book = toy.notebook({"scale": "def scale(x):\n    for n in range(5_000):\n        print(n)\n    return gain * x"})
    book.cells.append(new_code_cell("for n in range(200_000):\n    print('again and again', n)"))
    return book


def error_at_the_end(toy: Toy) -> Any:
    book = toy.notebook()
    answer(book, "scale").source += "\n\nprint(scale(undefined_name))\n"
    book.cells.append(new_code_cell("1 / 0"))
    book.cells.append(new_code_cell("this is no Python"))
    return book


def own_constants(toy: Toy) -> Any:
    # Trying another gain at the end changes nothing in what is asked.
    book = toy.notebook()
    book.cells.append(new_code_cell("gain = 100.0\nstudent = 'someone else'\nscale(np.ones(2))"))
    return book


def own_id_with_a_slip(toy: Toy) -> Any:
    book = toy.notebook()
    for cell in book.cells:
        if role(cell, "student"):
            cell.source = 'student = "A. Lovelace"'
    return book


def old_format(toy: Toy) -> Any:
    cells = [
        {"cell_type": "code", "input": cell.source.splitlines(keepends=True), "language": "python", "metadata": {}}
        for cell in toy.notebook().cells
        if cell.cell_type == "code"
    ]
    return {"worksheets": [{"cells": cells}], "metadata": {}, "nbformat": 3, "nbformat_minor": 0}


def ends_the_process_once(toy: Toy) -> Any:
    book = toy.notebook()
    book.cells.append(new_code_cell("import os\nos._exit(0)"))
    return book


def numbers_drawn_without_a_seed(toy: Toy) -> Any:
    book = toy.notebook()
    book.cells.insert(4, new_code_cell("np.random.seed(0)\nx = np.random.rand(10)\nx.sort()"))
    return book


ALL_RIGHT: list[Callable[[Toy], Any]] = [
    duplicated, stub_left_below, split, merged, only_the_answers, reordered, wrong_cells, by_colab, by_vscode, wrong_kernel,
    with_magics, hundred_megabytes_of_output, asks_for_input, prints_in_a_loop, error_at_the_end, own_constants,
    own_id_with_a_slip, old_format, ends_the_process_once, numbers_drawn_without_a_seed,
]  # fmt: skip

# What a slip costs, and what is said of it.
COSTS: dict[str, tuple[dict[str, str], dict[str, float], str, str]] = {
    "in-place": ({"scale": "def scale(x):\n    x *= gain\n    return x"}, {"scale": 3.0}, "scale", "work on a copy"),
    "no-return": ({"scale": "def scale(x):\n    gain * x"}, {"scale": 0.0}, "scale", "Is there a return at the end?"),
    "raises": ({"scale": "def scale(x):\n    return x[10]"}, {"scale": 0.0}, "scale", "raised IndexError"),
    "too-slow": (
        {"where": "def where(mask):\n    while True: pass"},
        {"where": 0.0},
        "where",
        "longer than its 1 seconds",
    ),
    "misspelt": ({"where": "def whree(mask):\n    return np.argwhere(mask)"}, {"where": 0.0}, "where", "defines where"),
    "syntax": ({"number": "number = = 3"}, {"number": 0.0}, "number", "defines number"),
    "a-function": ({"number": "def number():\n    return seed % 1000"}, {"number": 0.0}, "number", "no number, array"),
    "one-gain-for-all": (
        {"scale": "def scale(x):\n    return 7 * gain * x"},
        {"scale": 2.0},
        "scale",
        "one and the same factor",
    ),
    "a-list": ({"scale": "def scale(x):\n    return [gain * v for v in x]"}, {}, "scale", "Right."),
}


@pytest.fixture(scope="module")
def graded(made: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, Graded]:
    need_sandbox()
    toy = made.fresh(tmp_path_factory.mktemp("accidents"))
    for make in ALL_RIGHT:
        toy.hand_in(make.__name__, make(toy))
    for name, (answers, *_) in COSTS.items():
        toy.hand_in(name, toy.notebook(answers))
    toy.hand_in("untouched", toy.untouched())
    toy.hand_in("why", toy.notebook(why="Because it scales."))
    (toy.submitted / "flat.ipynb").write_text(json.dumps(toy.notebook()))
    (toy.submitted / "two" / "toy").mkdir(parents=True)
    (toy.submitted / "two" / "toy" / "toy (1).ipynb").write_text(json.dumps(toy.notebook()))
    (toy.submitted / "two" / "toy" / "toy.ipynb").write_text(json.dumps(toy.untouched()))
    (toy.submitted / "empty").mkdir()
    (toy.submitted / "zipped").mkdir()
    (toy.submitted / "zipped" / "toy.zip").write_bytes(b"PK")
    (toy.submitted / "README.txt").write_text("from the learning platform")
    return toy, grade_batch(toy.classroom, "toy", toy.submitted, workers=2, progress=False)


@pytest.mark.parametrize("make", ALL_RIGHT, ids=lambda make: make.__name__)
def test_right_answers_keep_their_marks(graded: tuple[Toy, Graded], make: Callable[[Toy], Any]) -> None:
    record = graded[1].records[make.__name__]
    assert scores(record) == FULL, record


@pytest.mark.parametrize("name", list(COSTS))
def test_a_slip_costs_what_it_should_and_is_told(graded: tuple[Toy, Graded], name: str) -> None:
    _, lost, question, said = COSTS[name]
    record = graded[1].records[name]
    assert scores(record) == {**FULL, **lost}
    assert said in " ".join(messages(record, question))


def test_untouched_copy_gets_nothing(graded: tuple[Toy, Graded]) -> None:
    record = graded[1].records["untouched"]
    assert set(scores(record).values()) == {0.0}
    assert messages(record, "scale") == ["Not answered: no cell that could be run defines scale."] * 2


def test_cells_that_failed_are_told_with_line(graded: tuple[Toy, Graded]) -> None:
    errors = [cell["error"] for cell in graded[1].records["error_at_the_end"]["cells"] if cell["error"]]
    assert "NameError in line 4: name 'undefined_name' is not defined" in errors
    assert "ZeroDivisionError in line 1: division by zero" in errors
    assert any(error.startswith("SyntaxError in line 1") for error in errors)
    asked = [cell["error"] for cell in graded[1].records["asks_for_input"]["cells"] if cell["error"]]
    assert "input() cannot be answered" in asked[0]


def test_what_is_not_there_is_told(graded: tuple[Toy, Graded]) -> None:
    records = graded[1].records
    assert records["empty"]["problem"] == "There is no notebook in the folder (found: nothing)."
    assert "found: toy.zip" in records["zipped"]["problem"]
    assert scores(records["flat"]) == FULL
    assert set(scores(records["two"]).values()) == {0.0}, "the one with the assignment's name counts"
    assert "2 notebooks were handed in; toy.ipynb was graded" in records["two"]["remarks"]
    assert (
        "the notebook gives the id 'a. lovelace'; what counts is the folder" in records["own_id_with_a_slip"]["remarks"]
    )
    assert graded[1].failed == {}
    assert graded[1].strangers == ()


def test_written_answers_are_kept(graded: tuple[Toy, Graded]) -> None:
    (why,) = [q for q in graded[1].records["why"]["questions"] if q["id"] == "why"]
    assert why["answer"] == "Because it scales."
    (colab,) = [q for q in graded[1].records["by_colab"]["questions"] if q["id"] == "why"]
    assert colab["answer"] == "", "an untouched one is none"


def test_written_answer_without_its_mark_is_found(toy: Toy) -> None:
    book = json.loads(json.dumps(toy.notebook(why="Why?\n\nIt scales.")))
    for cell in book["cells"]:
        cell["metadata"] = {}
    book["cells"].append(new_markdown_cell("something else"))
    toy.hand_in("ada", book)
    record = grade_batch(toy.classroom, "toy", toy.submitted, progress=False).records["ada"]
    assert next(q for q in record["questions"] if q["id"] == "why")["answer"] == "Why?\n\nIt scales."


def test_hidden_inputs_are_each_students_own(graded: tuple[Toy, Graded]) -> None:
    toy, _ = graded
    assert toy.hidden_input("ada").tolist() == toy.hidden_input("ada").tolist()
    assert toy.hidden_input("ada").tolist() != toy.hidden_input("zoe").tolist()


def test_a_file_that_vanishes_loses_nobody_else(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.hand_in("ada", toy.notebook())
    gone = toy.hand_in("gone", toy.notebook())
    from sciviz.coursework import batch

    run = batch._run

    def remove_first(*args: Any) -> None:
        Path(gone).unlink()
        run(*args)

    monkeypatch.setattr(batch, "_run", remove_first)
    done = grade_batch(toy.classroom, "toy", toy.submitted, progress=False)
    assert scores(done.records["ada"]) == FULL
    assert "cannot be opened" in done.records["gone"]["problem"]
