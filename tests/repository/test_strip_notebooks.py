"""The hook that strips notebooks keeps what nbval compares, and changes nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output


@pytest.fixture(scope="module")
def hook(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("strip_notebooks")


def result(text: str, count: int) -> nbformat.NotebookNode:
    return new_output("execute_result", {"text/plain": text}, execution_count=count)


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """A notebook as JupyterLab leaves it after Run All."""
    run = {"execution": {"iopub.status.busy": "2026-01-01"}, "collapsed": False}
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("1 + 1", execution_count=7, outputs=[result("2", 7)], metadata=run),
        new_code_cell(
            "print(2)\n3",
            execution_count=8,
            outputs=[new_output("stream", text="2\n"), result("3", 8)],
            metadata={"tags": ["nbval-check-output"], **run},
        ),
        new_code_cell("width = 8  # hidden units", metadata={"tags": ["parameters"]}),
    ]
    metadata = {
        "kernelspec": {"name": "my-env", "display_name": "my env", "language": "python"},
        "language_info": {"name": "python", "version": "3.12.1"},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2, "version_minor": 0}},
        "papermill": {"duration": 3.0},
        "sciviz": {"budget": {"seconds": 90}},
    }
    path = tmp_path / "ran.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def test_only_checked_outputs_stay(hook: ModuleType, notebook: Path) -> None:
    before = nbformat.read(notebook, as_version=4)
    assert hook.main([str(notebook)]) == 1, "a hook that changed a file has not passed"
    after = nbformat.read(notebook, as_version=4)
    nbformat.validate(after)
    _, plain, checked, parameters = after.cells
    assert (plain.outputs, plain.execution_count) == ([], None)
    assert (parameters.outputs, parameters.execution_count) == ([], None)
    assert checked.execution_count == 1
    assert checked.outputs[0].text == "2\n"
    assert (checked.outputs[1].data["text/plain"], checked.outputs[1].execution_count) == ("3", 1)
    assert [cell.id for cell in after.cells] == [cell.id for cell in before.cells]
    assert [cell.source for cell in after.cells] == [cell.source for cell in before.cells]
    assert checked.metadata == {"tags": ["nbval-check-output"]}
    assert plain.metadata == {}
    assert after.metadata == {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "sciviz": {"budget": {"seconds": 90}},
    }


def test_twice_is_once(hook: ModuleType, notebook: Path) -> None:
    hook.main([str(notebook)])
    once = notebook.read_bytes()
    assert hook.main([str(notebook)]) == 0
    assert notebook.read_bytes() == once
    assert once.endswith(b"}\n")


def test_check_names_the_notebook_and_writes_nothing(
    hook: ModuleType, notebook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = notebook.read_bytes()
    assert hook.main(["--check", str(notebook)]) == 1
    assert "ran.ipynb: needs stripping" in capsys.readouterr().out
    assert notebook.read_bytes() == before
    hook.main([str(notebook)])
    assert hook.main(["--check", str(notebook)]) == 0


def test_missing_and_repeated_ids_are_made_stable(hook: ModuleType, tmp_path: Path) -> None:
    # Older notebooks have no ids, and a cell copied by hand brings its id along.
    cells = [dict(new_code_cell(source)) for source in "abc"]
    cells[0]["id"] = cells[1]["id"] = "same"
    del cells[2]["id"]
    raw = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    made = []
    for name in ("first.ipynb", "second.ipynb"):
        (tmp_path / name).write_text(json.dumps(raw))
        hook.main([str(tmp_path / name)])
        made.append([cell.id for cell in nbformat.read(tmp_path / name, as_version=4).cells])
    assert made[0] == made[1]
    assert made[0][0] == "same"
    assert len(set(made[0])) == 3


def test_committed_notebooks_are_stripped(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "tools/strip_notebooks.py", "--check"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
