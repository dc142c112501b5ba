"""Parameters of a notebook: read from its cell, checked before anything runs."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sciviz.reports.parameters import Parameter, check_parameters, parameters_help, parse_parameters, read_parameters
from tests.notebooks import toys

CELL = """
# What may be changed
seed: int = 0  # which draw [0..100]
rate: float = 1e-3  # step size [1e-5..0.1]
shift: float = -0.5  # offset [-1..1.5]
kind: str = "a"  # what is drawn {a, bb, c c}
loud: bool = False  # say more
widths: list = [16, 64]  # hidden units
"""


def known() -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in parse_parameters(CELL)}


def test_what_a_cell_states() -> None:
    found = known()
    assert list(found) == ["seed", "rate", "shift", "kind", "loud", "widths"]
    assert found["rate"] == Parameter("rate", "float", 1e-3, "step size", 1e-5, 0.1, ())
    assert (found["shift"].default, found["shift"].low, found["shift"].high) == (-0.5, -1.0, 1.5)
    assert found["kind"].choices == ("a", "bb", "c c") and found["kind"].meaning == "what is drawn"
    assert found["widths"].default == [16, 64]
    assert [parameter.accepted for parameter in found.values()] == [
        "an integer from 0 to 100",
        "a number from 1e-05 to 0.1",
        "a number from -1 to 1.5",
        "one of a, bb, c c",
        "true or false",
        "a list",
    ]


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("seed", "7", 7),
        ("seed", 7, 7),
        ("rate", "1e-4", 1e-4),
        ("rate", 0.01, 0.01),
        ("shift", 1, 1.0),
        ("kind", "c c", "c c"),
        ("loud", "true", True),
        ("loud", "No", False),
        ("loud", True, True),
        ("loud", 0, False),
        ("widths", "[1, 2]", [1, 2]),
        ("widths", [3], [3]),
    ],
)
def test_good_values(name: str, given: Any, value: Any) -> None:
    result = check_parameters(list(known().values()), {name: given})
    assert result == {name: value} and type(result[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("seed", "x", "parameter seed takes an integer from 0 to 100, got 'x'."),
        ("seed", "1.5", "parameter seed takes an integer from 0 to 100, got '1.5'."),
        ("seed", 1.0, "parameter seed takes an integer from 0 to 100, got 1.0."),
        ("seed", True, "parameter seed takes an integer from 0 to 100, got True."),
        ("seed", None, "parameter seed takes an integer from 0 to 100, got None."),
        ("seed", "-1", "parameter seed takes an integer from 0 to 100, got '-1'."),
        ("seed", 101, "parameter seed takes an integer from 0 to 100, got 101."),
        ("rate", "fast", "parameter rate takes a number from 1e-05 to 0.1, got 'fast'."),
        ("rate", "nan", "parameter rate takes a number from 1e-05 to 0.1, got 'nan'."),
        ("rate", math.inf, "parameter rate takes a number from 1e-05 to 0.1, got inf."),
        ("rate", False, "parameter rate takes a number from 1e-05 to 0.1, got False."),
        ("kind", "b", "parameter kind takes one of a, bb, c c, got 'b'. Did you mean 'bb'?"),
        ("kind", 3, "parameter kind takes one of a, bb, c c, got 3."),
        ("loud", "maybe", "parameter loud takes true or false, got 'maybe'."),
        ("loud", 2, "parameter loud takes true or false, got 2."),
        ("widths", "open('x')", "parameter widths takes a list, got \"open('x')\"."),
        ("widths", "[1,", "parameter widths takes a list, got '[1,'."),
        ("widths", "3", "parameter widths takes a list, got '3'."),
        ("sede", 1, "there is no parameter 'sede'; the nearest are seed."),
        ("zzz", 1, "there is no parameter 'zzz'; the nearest are seed, rate, shift, kind, loud, widths."),
    ],
)
def test_bad_values_are_one_sentence(name: str, given: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_parameters(list(known().values()), {name: given})
    assert str(caught.value) == message


numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(categories=("L", "N"), include_characters="_-. "), min_size=1, max_size=9).map(str.strip)


@given(numbers, numbers, numbers)
def test_float_roundtrip(default: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    (found,) = parse_parameters(f"rate: float = {default!r}  # how fast [{low!r}..{high!r}]")
    assert (found.default, found.low, found.high, found.meaning) == (default, low, high, "how fast")
    for value in (low, high):
        assert found.read(value) == value and found.read(repr(value)) == value


@given(st.integers(), st.integers(), st.integers())
def test_int_roundtrip(value: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    (found,) = parse_parameters(f"width: int = {value}  # units [{low}..{high}]")
    if float(low) <= value <= float(high):
        assert found.read(str(value)) == value
    elif not low <= value <= high:
        with pytest.raises(ValueError, match="parameter width takes an integer from"):
            found.read(value)


@given(st.lists(words.filter(bool), min_size=1, max_size=4, unique=True))
def test_choices_roundtrip(choices: list[str]) -> None:
    (found,) = parse_parameters(f"kind: str = {choices[0]!r}  # which {{{', '.join(choices)}}}")
    assert found.choices == tuple(choices)
    assert [found.read(choice) for choice in choices] == choices


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os", "line 1 is something else"),
        ("seed = 0", "line 1 is something else"),
        ("seed: int", "line 1 is something else"),
        ("seed: int = 0\nwidth: int = 2 * 8", "line 2 computes something"),
        ("x: float = float('inf')", "line 1 computes something"),
        ("run.seed: int = 3", "line 1 is something else"),
    ],
)
def test_cell_of_anything_but_literals(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"A parameters cell holds typed literals only, {message}"):
        parse_parameters(source)


def test_cell_that_is_not_python(tmp_path: Path) -> None:
    notebook = toys.small()
    notebook.cells[0].source = "seed: int ="
    with pytest.raises(ValueError, match="line 1 is not Python"):
        read_parameters(toys.write(notebook, tmp_path / "a.ipynb"))


def test_notebook_that_cannot_be_read(tmp_path: Path) -> None:
    for name, content in (
        ("text.ipynb", b"not json"),
        ("bytes.ipynb", b"\xff\xfe"),
        ("list.ipynb", b"[1]"),
        ("old.ipynb", b"{}"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="is not a notebook that can be read"):
            read_parameters(tmp_path / name)
    with pytest.raises(ValueError, match="is not a notebook that can be read"):
        read_parameters(tmp_path / "missing.ipynb")


@pytest.mark.parametrize("count", [0, 2])
def test_notebook_without_one_parameters_cell(tmp_path: Path, count: int) -> None:
    notebook = toys.small()
    for cell in notebook.cells:
        cell.metadata["tags"] = ["parameters"] if count else []
    with pytest.raises(ValueError, match=f"must have one cell tagged 'parameters', found {count}"):
        read_parameters(toys.write(notebook, tmp_path / "a.ipynb"))


def test_help_for_the_terminal() -> None:
    lines = parameters_help(list(known().values())).splitlines()
    assert lines[0].split() == ["name", "type", "default", "meaning"]
    assert lines[2].split(maxsplit=3) == ["rate", "float", "0.001", "step size; a number from 1e-05 to 0.1"]
    assert lines[4].startswith("kind    str    'a'") and lines[4].endswith("what is drawn; one of a, bb, c c")


def test_papermill_tells_type_default_and_meaning(toy: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "papermill", "--help-notebook", str(toy)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    for line in (
        "seed: int (default 0) which random draw [0..4294967295]",
        'profile: str (default "quick") how much is run {quick, full}',
        "steep: float (default 2.0) slope of the line [0.1..10]",
        "shift: bool (default False) lift the line by one",
    ):
        assert line in said, done.stdout
