"""A report: what a run leaves behind, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
import xarray as xr

from sciviz.reports import Report, report
from sciviz.reports.runner import without_widgets
from tests.notebooks import toys


def test_folder_holds_everything(made: Report) -> None:
    assert made.failure is None
    assert {path.name for path in made.folder.iterdir()} == {
        "report.html",
        "report.ipynb",
        "results.nc",
        "claims.json",
        "run.json",
    }
    assert not [path for path in made.folder.parent.iterdir() if path != made.folder]


def test_other_parameters_reach_the_notebook(made: Report) -> None:
    run = json.loads((made.folder / "run.json").read_text())
    assert run["parameters"] == {
        "seed": 7,
        "profile": "quick",
        "device": "auto",
        "points": 5,
        "steep": 3.0,
        "shift": True,
    }
    assert (run["tutorial"], run["seed"], run["failed"]) == ("toy", 7, None)
    with xr.open_datatree(made.folder / "results.nc", engine="h5netcdf") as tree:
        line = tree["line"].to_dataset().load()
    assert line.sizes == {"place": 5}
    assert line.height.values.tolist() == [1.0, 1.75, 2.5, 3.25, 4.0]
    assert line.height.attrs["units"] == "m"


def test_claims_are_kept(made: Report) -> None:
    kept = {claim["id"]: claim for claim in json.loads((made.folder / "claims.json").read_text())}
    assert set(kept) == {"toy-line/slope", "toy-line/end", "toy-line/middle"}
    assert kept["toy-line/slope"]["measured"] == pytest.approx(3.0)
    assert [claim.id for claim in made.claims] == list(kept)


def test_exercises_explorers_and_widgets_are_left_out(made: Report) -> None:
    notebook = nbformat.read(made.folder / "report.ipynb", as_version=4)
    nbformat.validate(notebook)
    ids = {cell.id for cell in notebook.cells}
    assert "line" in ids and not ids & {"explorer", "exercise-1", "exercise-1-check"}
    assert "widgets" not in notebook.metadata
    assert "widget-view" not in (made.folder / "report.ipynb").read_text()


def test_widget_state_is_not_stored() -> None:
    notebook = toys.good()
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    view = nbformat.v4.new_output(
        "display_data", data={"application/vnd.jupyter.widget-view+json": {}, "text/plain": "x"}
    )
    text = nbformat.v4.new_output("stream", text="kept")
    toys.cell(notebook, "line").outputs = [view, text]
    bare = without_widgets(notebook)
    assert toys.cell(bare, "line").outputs == [text] and "widgets" not in bare.metadata
    assert len(toys.cell(notebook, "line").outputs) == 2 and "widgets" in notebook.metadata


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("failing")
    notebook = toys.small(
        "import pathlib\npathlib.Path('beside.txt').write_text('made while running')\nprint('so far so good')",
        "import xarray as xr\nrun.record('kept', xr.Dataset({'a': 1}));",
        "raise RuntimeError('<b>lost</b> its way')",
        "print('never reached')",
    )
    heading = toys.make_cell("markdown", "heading", (), "# A notebook\n\n## Where it goes wrong")
    notebook.cells.insert(-2, heading)
    return report(str(toys.write(notebook, folder / "bad.ipynb")), out=folder / "out", progress=False)


def test_failure_is_told(failed: Report) -> None:
    assert failed.failure is not None
    assert failed.failure.section == "Where it goes wrong"
    assert failed.failure.error == "RuntimeError: <b>lost</b> its way"
    assert "raise RuntimeError" in failed.failure.source and "\x1b" not in failed.failure.traceback
    assert json.loads((failed.folder / "run.json").read_text())["failed"]["section"] == "Where it goes wrong"


def test_failure_keeps_what_was_done(failed: Report) -> None:
    page = (failed.folder / "report.html").read_text()
    assert "so far so good" in page and "never reached" not in page.replace("print(", "").split('role="alert"')[0]
    assert "&lt;b&gt;lost&lt;/b&gt;" in page and "<b>lost</b>" not in page
    assert (failed.folder / "beside.txt").read_text() == "made while running"
    with xr.open_datatree(failed.folder / "results.nc", engine="h5netcdf") as tree:
        assert int(tree["kept"].a) == 1


# What is refused, and leaves nothing behind


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("nothing must run")

    monkeypatch.setattr("sciviz.reports.runner.execute", execute)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"pionts": 5}, "there is no parameter 'pionts'; the nearest are points"),
        ({"points": 1}, "parameter points takes an integer from 2 to 100, got 1"),
        ({"profile": "fast"}, "parameter profile takes one of quick, full"),
    ],
)
def test_bad_parameter_runs_nothing(toy: Path, tmp_path: Path, never: None, parameters: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        report(str(toy), parameters, out=tmp_path / "deep" / "out", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_unknown_tutorial_runs_nothing(tmp_path: Path, never: None) -> None:
    with pytest.raises(ValueError, match="tutorial must be"):
        report("no-such-thing", out=tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_folder_of_something_else_is_refused(toy: Path, tmp_path: Path, never: None) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="out must be a new folder, an empty one or an earlier report"):
        report(str(toy), out=tmp_path, progress=False)
    with pytest.raises(ValueError, match="out must be a new folder"):
        report(str(toy), out=tmp_path / "precious.txt", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_run_that_breaks_off_leaves_the_earlier_report(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text("{}")

    def stop(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("sciviz.reports.runner.execute", stop)
    with pytest.raises(KeyboardInterrupt):
        report(str(toy), out=out, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and (out / "run.json").read_text() == "{}"
