"""The grid: what the command line may say, what names a point, and in which order points run."""

from __future__ import annotations

import copy
import heapq
import math
import random
from typing import Any

import pytest

from sciviz.reports.grid import (
    Durations,
    check_grid,
    imports_of,
    key_of,
    notebook_digest,
    package_digest,
    parse_grid,
    points_of,
    wings_of,
)
from sciviz.reports.parameters import parse_parameters
from tests.notebooks import toys

KNOWN = parse_parameters(
    "width: int = 64  # hidden units [1..4096]\nlr: float = 0.1  # step [0..1]\nseed: int = 0  # draw\n"
    'name: str = "a"  # any word\nkind: str = "relu"  # which {relu, erf}\nflag: bool = False  # on or off\n'
    "sizes: list = [1]  # a list\n"
)


def axes(*words: str, **fixed: Any) -> dict[str, list[Any]]:
    return check_grid(KNOWN, parse_grid(KNOWN, words), fixed)


def test_axes_as_the_command_line_gives_them() -> None:
    assert axes("width=64,256", "seed=0:3", "lr=0.1,1e-3", "flag=true,false", "kind=relu,erf") == {
        "width": [64, 256],
        "seed": [0, 1, 2],
        "lr": [0.1, 0.001],
        "flag": [True, False],
        "kind": ["relu", "erf"],
    }
    assert axes("seed=8:0:-3") == {"seed": [8, 5, 2]}
    assert axes("name=['a,b', \"it's\", 'x\\ny', '∑']") == {"name": ["a,b", "it's", "x\ny", "∑"]}
    # Only a number is counted: a word may look like this.
    assert axes("name=0:3") == {"name": ["0:3"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["width"], "--grid takes NAME=VALUES"),
        (["=3"], "--grid takes NAME=VALUES"),
        (["width=1", "width=2"], "--grid width is given twice"),
        (["wdith=1"], "no parameter 'wdith'; the nearest are width"),
        (["width=0:0"], "axis width holds no value"),
        (["width=0:9:0"], "steps of 0"),
        (["width=0:99999999"], "more than a million"),
        (["width=4,wide"], "parameter width takes an integer from 1 to 4096, got 'wide'"),
        (["width=0:3"], "parameter width takes an integer from 1 to 4096, got 0"),
        (["kind=relu,tanh"], "parameter kind takes one of relu, erf, got 'tanh'"),
        (["width=4,4"], "axis width holds 4 twice"),
        (["name=[1"], "a list that is not Python"),
        (["sizes=[[1],[2]]"], "axis sizes takes numbers, words or true and false"),
        ([], "a sweep needs at least one axis"),
    ],
)
def test_an_axis_that_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        axes(*words)


def test_an_axis_is_not_fixed_too() -> None:
    with pytest.raises(ValueError, match="width is given both"):
        check_grid(KNOWN, {"width": [1]}, {"width": 2})
    with pytest.raises(ValueError, match="axis name takes a list"):
        check_grid(KNOWN, {"name": "abc"}, {})


def test_points_are_the_whole_product() -> None:
    points = points_of({"a": [1, 2], "b": ["x", "y", "z"]})
    assert len(points) == 6 and points[0] == {"a": 1, "b": "x"} and points[-1] == {"a": 2, "b": "z"}


def test_key_follows_from_content_and_nothing_else() -> None:
    key = key_of("n", "0.1", {"a": 1, "b": "x"})
    assert key == key_of("n", "0.1", {"b": "x", "a": 1})
    others = [("m", "0.1", {"a": 1, "b": "x"}), ("n", "0.2", {"a": 1, "b": "x"}), ("n", "0.1", {"a": 2, "b": "x"})]
    others += [("n", "0.1", {"a": "1", "b": "x"}), ("n", "0.1", {"a": True, "b": "x"})]
    assert len({key, *(key_of(*other) for other in others)}) == len(others) + 1
    # Whatever a value holds, a name of a file stays a name.
    assert key_of("n", "0.1", {"a": "../../up\n'\""}).isalnum()


def test_notebook_is_known_by_its_code() -> None:
    notebook = toys.good()
    before = notebook_digest(notebook)
    prose, code, moved = (copy.deepcopy(notebook) for _ in range(3))
    toys.cell(prose, "idea").source += " Mended."
    toys.cell(prose, "figure").execution_count = 7
    assert notebook_digest(prose) == before
    toys.cell(code, "line").source += "\n"
    moved.cells = moved.cells[::-1]
    assert len({before, notebook_digest(code), notebook_digest(moved)}) == 3


def test_package_is_known_by_what_measures(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from sciviz.reports import grid

    notebook = toys.small("import sciviz\nsciviz.flow.fit()")
    assert wings_of(notebook) == ("flow", "ode")
    drawn = ("ode/figures.py", "ode/experiments/explorer.py")
    for name in (
        "lab/fit.py",
        "ode/solvers.py",
        "ode/experiments/robust.py",
        "ntk/kernels.py",
        "reports/grid.py",
        *drawn,
    ):
        path = tmp_path / "sciviz" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a = 1")
    monkeypatch.setattr(grid, "__file__", str(tmp_path / "sciviz" / "reports" / "grid.py"))
    before = package_digest(("ode",))
    for name in ("ntk/kernels.py", "reports/grid.py", *drawn):
        (tmp_path / "sciviz" / name).write_text("a = 2")
        assert package_digest(("ode",)) == before
    (tmp_path / "sciviz" / "ode" / "solvers.py").write_text('"""Words."""\n\na = 1  # and more')
    assert package_digest(("ode",)) == before
    seen = {before}
    for name in ("lab/fit.py", "ode/solvers.py", "ode/experiments/robust.py"):
        (tmp_path / "sciviz" / name).write_text("a = 2")
        seen.add(package_digest(("ode",)))
    assert len(seen) == 4


def test_kernels_have_imported_what_the_notebook_names_and_nothing_else() -> None:
    assert imports_of("print(1)", ()) == ("numpy",)
    # A word within another one names nothing.
    assert imports_of("recorded = my_experiments_too", ()) == ("numpy",)
    found = imports_of("import torch\nfrom sciviz.ode import figures\nrun.record('a', ds)\nimport mine", ("ode",))
    assert {"torch", "xarray", "plotly.graph_objects", "sciviz.ode"} <= set(found)
    assert not {"ipywidgets", "scipy", "mine"} & set(found)


def ends(order: list[int], seconds: list[float], workers: int) -> list[float]:
    """When each worker ends, if whoever is free takes the next."""
    free = [0.0] * workers
    for place in order:
        heapq.heappush(free, heapq.heappop(free) + seconds[place])
    return free


def test_workers_end_together() -> None:
    grid = {"kind": ["fast", "slow"], "width": [16, 64, 256, 1024], "seed": list(range(4))}
    points = points_of(grid)
    noise = random.Random(0)
    seconds = [
        0.01 * p["width"] * (5 if p["kind"] == "slow" else 1) * math.exp(noise.gauss(0.0, 0.2)) + 1 for p in points
    ]
    guess = Durations(grid)
    for place in range(0, len(points), 5):
        guess.add(points[place], seconds[place])
    order = guess.longest_first(points)
    assert sorted(order) == list(range(len(points)))
    as_they_come, ordered = ends(list(range(len(points))), seconds, 4), ends(order, seconds, 4)
    ideal = sum(seconds) / 4
    assert max(ordered) <= 1.05 * ideal < max(as_they_come)


def test_before_anything_is_known_wide_is_slow() -> None:
    guess = Durations({"width": [16, 1024, 64], "seed": [5, 1]})
    points = points_of({"width": [16, 1024, 64], "seed": [5, 1]})
    assert [points[i]["width"] for i in guess.longest_first(points)] == [1024, 1024, 64, 64, 16, 16]
    for point in points:
        guess.add(point, 1000.0 / point["width"])
    assert [points[i]["width"] for i in guess.longest_first(points)] == [16, 16, 64, 64, 1024, 1024]
