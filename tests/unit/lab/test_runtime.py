"""A run: its seed, device and profile, what it collects, and its stamp."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import sciviz
from sciviz.lab import runtime
from sciviz.lab.runtime import Exercise, RecordedDataset, harvest_datasets, start

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"seed": -1}, ValueError, "seed must be an integer from 0 to 4294967295, got -1."),
        ({"seed": 2**32}, ValueError, "got 4294967296."),
        ({"seed": 1.5}, TypeError, "got 1.5 (float)."),
        ({"seed": True}, TypeError, "got True (bool)."),
        ({"profile": "fast"}, ValueError, "profile must be one of 'quick', 'full', got 'fast'."),
        ({"profile": "quik"}, ValueError, "Did you mean 'quick'?"),
        ({"device": "gpu"}, ValueError, "device must be one of 'auto', 'cpu', 'cuda', got 'gpu'."),
        pytest.param({"device": "cuda"}, RuntimeError, "torch finds no CUDA device on this machine", marks=NO_CUDA),
    ],
)
def test_bad_input_is_one_sentence(arguments: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        start(**arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def _draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_same_seed_same_draws() -> None:
    start(seed=5)
    first = _draws()
    start(seed=5)
    assert _draws() == first
    start(seed=6)
    assert all(a != b for a, b in zip(_draws(), first, strict=True))


def test_numpy_integer_is_a_seed() -> None:
    assert type(start(seed=np.int64(3)).seed) is int


def test_deterministic_algorithms_only_on_request() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    try:
        start()
        assert torch.are_deterministic_algorithms_enabled() == before
        start(deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(before)


def test_pick_follows_the_profile() -> None:
    assert start(profile="quick").pick(quick=1, full=2) == 1
    assert start(profile="full").pick(quick=1, full=2) == 2


def test_cpu_is_taken_where_it_is_asked_for() -> None:
    assert start(device="cpu").device == torch.device("cpu")
    assert start(device="auto").device.type == ("cuda" if torch.cuda.is_available() else "cpu")


RECORD = {
    "toy/part": {
        "gpu": {
            "measured": 0.51234,
            "spread": 0.02,
            "criterion": "below 1",
            "hardware": "cuda (a card)",
            "date": "2026-01-02",
        },
        "quick": {
            "says": "it falls",
            "criterion": "below 1",
            "measured": 0.5,
            "outcome": "holds",
            "expected": "holds",
            "why": "",
            "spread": None,
            "seeds": 3,
            "profile": "quick",
            "device": "cpu",
        },
    }
}


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime._claims, "load_record", lambda: {"claims": RECORD})


def test_gpu_says_why_and_shows_the_record(record: None, capsys: pytest.CaptureFixture[str]) -> None:
    run = start(device="cpu")
    assert run.gpu("a million points", record="toy/part") is False
    said = capsys.readouterr().out
    assert "this cell needs one: a million points" in said
    assert "cuda (a card), 2026-01-02): 0.512 ± 0.020; criterion: below 1" in said


def test_gpu_says_what_is_pending(record: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert start(device="cpu").gpu("much", record="toy/other") is False
    assert "pending" in capsys.readouterr().out
    start(device="cpu").gpu("much")
    assert "record" not in capsys.readouterr().out


def test_gpu_is_quiet_where_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    run = start(device="cpu")
    run.device = torch.device("cuda")
    assert run.gpu("a million points") is True
    assert capsys.readouterr().out == ""


def test_recall(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {**RECORD["toy/part"]["quick"], "date": "2026-01-02"}
    monkeypatch.setattr(runtime._claims, "load_record", lambda: {"claims": {"toy/part": {"quick": entry}}})
    run = start()
    claim = run.recall("toy/part")
    assert claim is not None and (claim.source, claim.measured, claim.seeds) == ("record", 0.5, 3)
    assert run.claims == [claim]
    assert "(record)" in run.claims_table()._html()
    assert run.recall("toy/none") is None
    assert "no committed record yet" in capsys.readouterr().out
    assert run.claims == [claim]


def test_claim_remembers_where_it_was_measured(lenient: None) -> None:
    run = start(profile="full", device="cpu")
    claim = run.claim("toy/part", says="s", measured=torch.tensor(0.5), holds=np.bool_(True), criterion="c", seeds=3)
    assert (claim.profile, claim.device, claim.measured, claim.outcome) == ("full", "cpu", 0.5, "holds")
    assert run.claims == [claim]


def test_surprising_claim_is_kept_before_it_raises(strict: None) -> None:
    run = start()
    with pytest.raises(AssertionError, match="toy/part fails"):
        run.claim("toy/part", says="s", measured=1.0, holds=False, criterion="c")
    assert [claim.outcome for claim in run.claims] == ["fails"]


# Data sets travel in a cell's output


def _dataset() -> xr.Dataset:
    dataset = xr.Dataset(
        {
            "error": (("seed", "step"), [[1.0, np.nan, np.inf], [-0.0, 1e-300, 2.0]]),
            "count": ("seed", np.array([1, 2], dtype=np.int32)),
            "good": ("seed", [True, False]),
        },
        {"seed": [0, 1], "step": [0.1, 0.2, 0.3], "method": ("seed", ["Euler", "Rückwärts → é"])},
        {"note": "α ≤ β", "size": 3},
    )
    dataset.error.attrs = {"long_name": "test error", "units": "1"}
    dataset.step.attrs = {"long_name": "step", "units": "s"}
    return dataset


def _notebook(*values: Any) -> dict[str, Any]:
    outputs = [{"output_type": "display_data", "data": value._repr_mimebundle_()} for value in values]
    return {"cells": [{"cell_type": "markdown"}, {"cell_type": "code", "outputs": outputs}]}


def test_dataset_survives_the_notebook() -> None:
    dataset = _dataset()
    found = harvest_datasets(_notebook(RecordedDataset("errors", dataset)))
    assert list(found) == ["errors"]
    xr.testing.assert_identical(found["errors"].as_numpy(), dataset)
    assert found["errors"].attrs["note"] == "α ≤ β"
    assert found["errors"].error.dtype == np.float64 and found["errors"]["count"].dtype == np.int32


def test_last_dataset_of_a_name_counts() -> None:
    first, last = xr.Dataset({"a": 1}), xr.Dataset({"a": 2})
    found = harvest_datasets(_notebook(RecordedDataset("one", first), RecordedDataset("one", last)))
    assert int(found["one"].a) == 2


def test_record_returns_its_dataset_and_says_what_it_is() -> None:
    run, dataset = start(), _dataset()
    assert run.record("errors", dataset) is dataset
    assert run.datasets == {"errors": dataset}
    line = RecordedDataset("errors", dataset)._repr_mimebundle_()["text/plain"]
    assert line == "Data set errors: error, count, good over seed 2, step 3"


@pytest.mark.parametrize("name", ["", "Two words", "1st", "a/b", "a-b"])
def test_name_of_a_dataset(name: str) -> None:
    with pytest.raises(ValueError, match="name must be lower-case letters, digits and underscores"):
        start().record(name, xr.Dataset())


# Exercises


def test_exercise_untried() -> None:
    def never(f: Any) -> bool:
        raise AssertionError("must not be called")

    run = start()
    for answer in (None, ..., lambda x: ..., lambda x: None):
        result = run.exercise("1. Double", answer, [(lambda f: f(1) == 2 if callable(f) else never(f), "hint")])
        assert result.status == "untried" and "Not tried yet" in result.message


def test_exercise_says_the_first_thing_that_is_wrong() -> None:
    run = start()
    tests = [(lambda f: f(1) == 2, "one"), (lambda f: f(3) == 6, "two")]
    assert run.exercise("1", lambda x: x, tests).message == "one"
    assert run.exercise("1", lambda x: 2, tests).message == "two"
    assert run.exercise("1", lambda x: 2 * x, tests).status == "right"


def test_exercise_never_raises() -> None:
    run = start()
    result = run.exercise("1", lambda x: 1 / 0, [(lambda f: f(1), "Divide by something else.")])
    assert result.status == "wrong"
    # The hint is for an answer that is wrong, not for one that never came.
    assert result.message == "Your code raised ZeroDivisionError: division by zero."
    result = run.exercise("2", 3.0, [(lambda x: x[0] == 1, "It is a list.")])
    assert result.status == "wrong" and "TypeError" in result.message


def test_exercise_takes_a_check_that_returns_an_array_scalar() -> None:
    run = start()
    assert run.exercise("1", torch.ones(3), [(lambda x: torch.all(x == 1), "h")]).status == "right"
    assert run.exercise("1", torch.zeros(3), [(lambda x: torch.all(x == 1), "h")]).status == "wrong"


def test_exercise_is_shown_escaped() -> None:
    shown = Exercise("1 < 2", "wrong", "<b>no</b>")._repr_mimebundle_()
    assert "&lt;b&gt;no&lt;/b&gt;" in shown["text/html"] and "1 &lt; 2" in shown["text/html"]
    assert shown["text/plain"] == "✗ 1 < 2: <b>no</b>"


# The stamp


def test_stamp() -> None:
    stamp = start(seed=3, device="cpu").stamp()
    assert (stamp.seed, stamp.profile, stamp.device) == (3, "quick", "cpu")
    assert stamp.versions["torch"] == torch.__version__.split("+")[0] or stamp.versions["torch"] == torch.__version__
    assert stamp.wall_seconds >= 0
    assert stamp.threads == torch.get_num_threads()
    assert stamp.peak_memory_mb is None or stamp.peak_memory_mb > 50
    bundle = stamp._repr_mimebundle_()
    assert bundle["application/vnd.sciviz.stamp+json"] == stamp.as_dict()
    assert "Seed, profile, device: 3, quick, cpu" in bundle["text/plain"]


def test_stamp_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **kwargs: Any) -> Any:
        raise FileNotFoundError("git")

    monkeypatch.setattr(runtime.subprocess, "run", missing)
    assert runtime.commit() is None
    monkeypatch.setattr(runtime, "checkout_dir", lambda: None)
    assert "not a checkout" in start().stamp()._repr_mimebundle_()["text/plain"]


def test_import_loads_no_torch() -> None:
    code = "import sys, sciviz; print(sorted({'torch', 'numpy', 'plotly', 'xarray', 'ipywidgets'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_package_names_what_it_has() -> None:
    assert set(sciviz.__all__) == set(dir(sciviz))
    assert sciviz.start is start
    with pytest.raises(AttributeError, match="no attribute 'begin'"):
        _ = sciviz.begin
