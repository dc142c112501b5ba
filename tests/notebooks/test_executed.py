"""What must be true of every notebook after a run: with exercises and explorers in, and in strict mode.

Each notebook has a test class of its own, and is executed once for all tests in it: workers share out work by class.
nbval runs the notebooks as they stand; this run gives them another seed through papermill, so that a claim that holds for one
seed only is caught.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sciviz.lab.places import Tutorial, find_tutorial, tutorials_dir
from sciviz.reports.parameters import check_parameters, read_parameters
from sciviz.reports.runner import Executed, execute
from tests.notebooks import lint, toys

# How much slower than the machine that the budgets were taken on; a shared CI machine runs two workers on two cores.
SLOWNESS = float(os.environ.get("SCIVIZ_SLOWNESS", "1.5"))
OTHER_SEED = 1


def run(tutorial: Tutorial, **parameters: Any) -> Executed:
    values = check_parameters(read_parameters(tutorial.path), parameters)
    return execute(
        tutorial,
        values,
        folder=tutorial.path.parent,
        leave_out=frozenset(),
        strict=True,
        progress=False,
        cell_timeout=300,
    )


class AfterARun:
    """The tests; a class with a `path` is made of it for each notebook below."""

    path: Path

    @pytest.fixture(scope="class")
    @classmethod
    def source(cls) -> Any:
        return lint.read(cls.path)

    @pytest.fixture(scope="class")
    @classmethod
    def done(cls) -> Iterator[Executed]:
        yield run(find_tutorial(str(cls.path)), seed=OTHER_SEED)

    def test_no_cell_failed(self, done: Executed) -> None:
        assert done.failure is None, f"{done.failure.section}: {done.failure.error}"
        assert lint.failed_cells(done.notebook) == []

    def test_figures_are_described(self, done: Executed) -> None:
        assert lint.described_figures(done.notebook) == []

    def test_budget_is_kept(self, done: Executed, source: Any) -> None:
        memory = done.stamp.get("peak_memory_mb")
        declared = source.metadata.sciviz.budget
        assert lint.kept_budget(declared, done.seconds, memory, slowness=SLOWNESS) == []

    def test_claims_are_those_named(self, done: Executed, source: Any) -> None:
        assert lint.harvested_claims(source, done.claims) == []

    def test_parameters_arrived(self, done: Executed) -> None:
        assert done.stamp.get("seed") == OTHER_SEED
        assert done.stamp.get("profile") == "quick"


for _path in sorted(tutorials_dir().glob("*.ipynb")):
    _name = f"Test_{_path.stem}"
    globals()[_name] = type(_name, (AfterARun,), {"path": _path, "__module__": __name__, "__doc__": _path.name})


class TestToy(AfterARun):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def written(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.path = toys.write(toys.good(), tmp_path_factory.mktemp("toy") / "toy.ipynb")

    def test_exercise_and_explorer_ran(self, done: Executed) -> None:
        by_id = {cell.id: cell for cell in done.notebook.cells}
        assert "Not tried yet" in by_id["exercise-1-check"].outputs[0].data["text/plain"]
        assert "application/vnd.jupyter.widget-view+json" in by_id["explorer"].outputs[-1].data

    def test_gpu_cell_says_why_it_is_skipped(self, done: Executed) -> None:
        if done.stamp["device"] != "cpu":
            pytest.skip("this machine has a CUDA device, so the cell was not skipped")
        (output,) = next(cell for cell in done.notebook.cells if cell.id == "large").outputs
        assert "this cell needs one: a line of a billion points" in output.text
        assert "pending" in output.text

    def test_claims_came_along(self, done: Executed) -> None:
        found = {claim.id.split("/")[1]: claim for claim in done.claims}
        assert {name: claim.outcome for name, claim in found.items()} == {
            "slope": "holds",
            "end": "fails",
            "middle": "undecided",
        }
        assert found["slope"].measured == pytest.approx(2.0)
