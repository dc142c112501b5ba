"""The record of claims: written whole, and never with what surprised."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest

from sciviz.lab.claims import make_claim
from sciviz.lab.places import Tutorial
from sciviz.reports import verification
from sciviz.reports.runner import Executed, Failure
from sciviz.reports.verification import update_record, verify
from tests.notebooks import toys

STAMP = {"seed": 0, "profile": "quick", "device": "cpu", "versions": {"torch": "2"}, "peak_memory_mb": 512.4}


def executed(*claims: Any, failure: Failure | None = None, stamp: dict[str, Any] | None = None) -> Executed:
    notebook = toys.good()
    toys.cell(notebook, "line").outputs = [
        nbformat.v4.new_output("display_data", data=claim._repr_mimebundle_()) for claim in claims
    ]
    return Executed(notebook, failure, 12.34, STAMP if stamp is None else stamp)


def claim(part: str, **changes: Any) -> Any:
    return make_claim(f"toy-line/{part}", **{"says": "s", "criterion": "c", "measured": 0.5, "holds": True, **changes})


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(verification, "course_dir", lambda: tmp_path)
    return tmp_path / "claims.json"


TUTORIAL = Tutorial(Path("01_toy.ipynb"), 1, "")


def test_record_of_a_claim(course: Path) -> None:
    update_record(course, TUTORIAL, executed(claim("slope", spread=0.1, seeds=3), claim("inf", measured=float("inf"))))
    record = json.loads(course.read_text())
    entry = record["claims"]["toy-line/slope"]["quick"]
    assert (entry["measured"], entry["spread"], entry["seeds"], entry["outcome"]) == (0.5, 0.1, 3, "holds")
    assert (entry["tutorial"], entry["seed"], entry["hardware"], entry["versions"]) == (
        "01_toy",
        0,
        "cpu",
        {"torch": "2"},
    )
    assert "id" not in entry and "source" not in entry and len(entry["date"]) == 10
    assert record["claims"]["toy-line/inf"]["quick"]["measured"] == "float:inf"
    assert record["tutorials"]["01_toy"]["quick"] == {
        "seconds": 12.3,
        "memory_mb": 512,
        "device": "cpu",
        "date": entry["date"],
    }


def test_profiles_and_devices_stand_side_by_side(course: Path) -> None:
    update_record(course, TUTORIAL, executed(claim("slope")))
    update_record(course, TUTORIAL, executed(claim("slope", profile="full", measured=0.6)))
    update_record(course, TUTORIAL, executed(claim("slope", device="cuda", measured=0.7)))
    update_record(course, TUTORIAL, executed(claim("other")))
    record = json.loads(course.read_text())["claims"]
    assert {slot: entry["measured"] for slot, entry in record["toy-line/slope"].items()} == {
        "quick": 0.5,
        "full": 0.6,
        "gpu": 0.7,
    }
    assert set(record) == {"toy-line/slope", "toy-line/other"}


def test_surprising_claim_is_not_written(course: Path) -> None:
    update_record(course, TUTORIAL, executed(claim("slope")))
    before = json.loads(course.read_text())["claims"]
    surprising = [claim("slope", holds=False), claim("new", expected="fails", why="w"), claim("unsure", holds=None)]
    update_record(course, TUTORIAL, executed(*surprising))
    assert json.loads(course.read_text())["claims"] == before


def test_record_is_replaced_whole(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed while it writes leaves the old record, not half of the new one."""
    update_record(course, TUTORIAL, executed(claim("slope")))
    before = course.read_text()

    def killed(source: Any, target: Any) -> None:
        assert json.loads(Path(source).read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        update_record(course, TUTORIAL, executed(claim("other")))
    assert course.read_text() == before


def test_record_does_not_change_for_nothing(course: Path) -> None:
    update_record(course, TUTORIAL, executed(claim("slope"), claim("b")))
    before = course.read_text()
    update_record(course, TUTORIAL, executed(claim("b"), claim("slope")))
    assert course.read_text() == before and before.endswith("}\n")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, toy: Path) -> Any:
    """Verify the toy with an outcome of the test's choice, without a kernel."""
    calls: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def verified(done: Executed, **options: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        def execute(tutorial: Tutorial, values: dict[str, Any], **more: Any) -> Executed:
            calls.append((values, more))
            return done

        monkeypatch.setattr(verification, "execute", execute)
        verify([str(toy)], **options)
        return calls

    return verified


def test_verify_writes(run: Any, course: Path) -> None:
    calls = run(executed(claim("slope")), profile="full", device="cpu")
    assert calls[0][0] == {"profile": "full", "device": "cpu"}
    assert course.is_file()


@pytest.mark.parametrize("options", [{"write": False}, {"seed": 3}])
def test_verify_writes_nothing(run: Any, course: Path, options: dict[str, Any]) -> None:
    calls = run(executed(claim("slope")), **options)
    assert not course.exists()
    assert calls[0][0].get("seed") == options.get("seed")


def test_failed_run_is_not_written(run: Any, course: Path) -> None:
    run(executed(claim("slope"), failure=Failure("s", "1/0", "ZeroDivisionError", "")))
    assert not course.exists()


def test_unknown_tutorial(course: Path) -> None:
    with pytest.raises(ValueError, match="tutorial must be"):
        verify(["nothing"])
