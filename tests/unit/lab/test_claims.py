"""Claims: their outcomes, what is said of them, and how they travel."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciviz.lab import claims
from sciviz.lab.claims import (
    CLAIM_MIME,
    Claim,
    ClaimError,
    ClaimsTable,
    check_close,
    decide,
    format_value,
    harvest_claims,
    make_claim,
    plain,
)

OUTCOME = {True: "holds", False: "fails", None: "undecided"}


def claim(id: str = "toy/part", **changes: Any) -> Claim:
    values: dict[str, Any] = {"says": "it falls", "criterion": "below 1", "measured": 0.5, "holds": True}
    return make_claim(id, **{**values, **changes})


@pytest.mark.parametrize(
    "holds", [True, False, None, np.bool_(True), np.bool_(False), torch.tensor(True), torch.tensor(False)]
)
def test_outcome(holds: Any) -> None:
    assert claim(holds=holds).outcome == OUTCOME[None if holds is None else bool(holds)]


@pytest.mark.parametrize("holds", [True, False, None])
@pytest.mark.parametrize("expected", ["holds", "fails", "undecided"])
def test_strict_raises_exactly_where_outcome_and_expectation_differ(holds: Any, expected: str, strict: None) -> None:
    made = claim(holds=holds, expected=expected, why="for a reason")
    surprising = OUTCOME[holds] != expected
    assert made.surprising == surprising
    if surprising:
        with pytest.raises(
            ClaimError, match=f"Claim toy/part {OUTCOME[holds]}, but is expected .*: measured 0.5, criterion"
        ):
            decide(made)
    else:
        assert decide(made) is made


@pytest.mark.parametrize("value", ["", "0", None])
def test_lenient_never_raises(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCIVIZ_STRICT", raising=False)
    if value is not None:
        monkeypatch.setenv("SCIVIZ_STRICT", value)
    assert decide(claim(holds=False)).surprising


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": "no-part"}, "id must be a paper's key, a slash and the part"),
        ({"id": "/part"}, "got '/part'"),
        ({"id": "paper/"}, "got 'paper/'"),
        ({"says": " "}, "says and criterion must both be sentences"),
        ({"criterion": ""}, "says and criterion must both be sentences"),
        ({"expected": "maybe"}, "expected must be one of"),
        ({"expected": "fails"}, "why must say why claim 'toy/part' is expected to be 'fails'"),
        ({"expected": "undecided", "why": " "}, "why must say why"),
    ],
)
def test_incomplete_claim(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="^" + words.replace("'", "'") if words.startswith("id") else words):
        claim(**changes)


def test_measurement_must_be_plain() -> None:
    with pytest.raises(TypeError, match="measured must be a number, a word, or several of them by name, got object"):
        claim(measured=object())


def test_plain_values() -> None:
    value = plain({"a": torch.tensor(0.5), "b": [np.float32(2), np.int64(3)], 3: (True, None, "x")})
    assert value == {"a": 0.5, "b": [2.0, 3.0], "3": [True, None, "x"]}
    json.dumps(value)


# How they travel

numbers = st.one_of(st.floats(), st.integers(-(10**9), 10**9), st.booleans(), st.text(max_size=8), st.none())
values = st.one_of(numbers, st.dictionaries(st.text(max_size=5), numbers, max_size=3), st.lists(numbers, max_size=3))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and a == b


@given(values, st.one_of(st.none(), st.floats(), st.text(max_size=5)))
def test_json_roundtrip(measured: Any, spread: Any) -> None:
    made = claim(measured=measured, spread=spread, holds=None, expected="undecided", why="w", seeds=3)
    text = json.dumps(made.to_json(), allow_nan=False)
    again = Claim.from_json(json.loads(text))
    assert _same(again.measured, made.measured) and _same(again.spread, made.spread)
    assert (again.id, again.outcome, again.why, again.seeds) == (made.id, made.outcome, made.why, made.seeds)


def _notebook(*made: Claim) -> dict[str, Any]:
    outputs = [{"output_type": "display_data", "data": json.loads(json.dumps(c._repr_mimebundle_()))} for c in made]
    return {"cells": [{"cell_type": "markdown", "source": ""}, {"cell_type": "code", "outputs": outputs}]}


def test_harvest_takes_the_last_live_claim_of_an_id() -> None:
    first, last = claim(measured=1.0), claim(measured=math.inf)
    recalled = Claim.from_json({**claim("toy/old").to_json(), "source": "record"})
    found = harvest_claims(_notebook(first, claim("toy/other"), recalled, last))
    assert [(c.id, c.measured) for c in found] == [("toy/part", math.inf), ("toy/other", 0.5)]


def test_bundle_holds_text_for_every_reader() -> None:
    bundle = claim(holds=False)._repr_mimebundle_()
    assert bundle["text/plain"] == "✗ toy/part: fails (unexpected); measured 0.5; criterion: below 1"
    assert bundle[CLAIM_MIME]["outcome"] == "fails"
    assert "Does not hold, though the course expects it to hold" in bundle["text/html"]


@pytest.mark.parametrize("holds", [True, False, None])
def test_html_escapes_what_it_is_given(holds: Any) -> None:
    nasty = "<script>alert('x')</script> & \"quotes\""
    made = claim(f"toy/{nasty}", says=nasty, criterion=nasty, measured=nasty, holds=holds, expected="fails", why=nasty)
    for shown in (made._html(), ClaimsTable([made])._html()):
        assert "<script>" not in shown
        assert "&lt;script&gt;" in shown


# The table and the record


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course of its own: a record, and a wing of two files."""
    (tmp_path / "course").mkdir()
    wing = tmp_path / "sciviz" / "toy"
    wing.mkdir(parents=True)
    (wing / "method.py").write_text("def f(x):\n    return x + 1\n")
    monkeypatch.setattr(claims, "course_dir", lambda: tmp_path / "course")
    claims.code_hash.cache_clear()
    yield tmp_path
    claims.code_hash.cache_clear()


def _write(root: Path, **profiles: dict[str, Any]) -> None:
    text = json.dumps({"claims": {"toy/part": profiles}})
    (root / "course" / "claims.json").write_text(text)


def _entry(profile: str, **changes: Any) -> dict[str, Any]:
    entry = {"measured": 0.25, "spread": None, "profile": profile, "date": "2026-01-02", "wing": "toy"}
    return {**entry, "code": claims.code_hash("toy"), **changes}


def test_no_record_yet(record: Path) -> None:
    assert claims.load_record() == {}
    assert claims.recorded_claim("toy/part") is None
    assert "none yet" in ClaimsTable([claim()])._html()


def test_fullest_record_is_shown(record: Path) -> None:
    _write(record, quick=_entry("quick"), full=_entry("full"))
    assert claims.recorded_claim("toy/part")["profile"] == "full"
    assert claims.recorded_claim("toy/part", "quick")["profile"] == "quick"
    assert claims.recorded_claim("toy/part", "gpu") is None
    assert "0.25 (full, 2026-01-02)" in ClaimsTable([claim()])._html()


def test_record_is_read_again_when_it_changes(record: Path) -> None:
    import os

    _write(record, quick=_entry("quick"))
    assert claims.recorded_claim("toy/part")["measured"] == 0.25
    _write(record, quick=_entry("quick", measured=0.75))
    os.utime(record / "course" / "claims.json", (1, 1))
    assert claims.recorded_claim("toy/part")["measured"] == 0.75


def test_record_older_than_the_code_is_marked(record: Path) -> None:
    _write(record, quick=_entry("quick", code="0123456789ab"))
    assert "older than the code" in ClaimsTable([claim()])._html()
    _write(record, quick=_entry("quick"))
    import os

    os.utime(record / "course" / "claims.json", (2, 2))
    assert "older than the code" not in ClaimsTable([claim()])._html()


def _hash_after(record: Path, name: str, text: str) -> tuple[str, str]:
    before = claims.code_hash("toy")
    (record / "sciviz" / "toy" / name).write_text(text)
    claims.code_hash.cache_clear()
    return before, claims.code_hash("toy")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("method.py", "# why\ndef f(x):  # because\n\n    return (x + 1)\n"),
        ("method.py", '"""What it holds."""\n\n\ndef f(x):\n    """Add one."""\n    return x + 1\n'),
        ("figures.py", "def plot(): ..."),
        ("explorer.py", "def explore(): ..."),
        ("__init__.py", "from .method import f"),
    ],
    ids=["comments", "docstrings", "figures", "explorer", "init"],
)
def test_code_hash_is_blind_to(record: Path, name: str, text: str) -> None:
    before, after = _hash_after(record, name, text)
    assert before == after


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("method.py", "def f(x):\n    return x + 2\n"),
        ("method.py", "def g(x):\n    return x + 1\n"),
        ("experiments.py", "def run(): ..."),
    ],
    ids=["a number", "a name", "experiments"],
)
def test_code_hash_sees(record: Path, name: str, text: str) -> None:
    before, after = _hash_after(record, name, text)
    assert before != after


def test_table_counts() -> None:
    table = ClaimsTable(
        [
            claim("toy/a", holds=False),
            claim("toy/a"),
            claim("toy/b", holds=False, expected="fails", why="w"),
            claim("toy/c", holds=None),
        ]
    )
    assert len(table) == 3
    assert table.summary() == "3 claims: 1 holds, 1 does not hold, 1 is undecided; unlike what the course expects: 1."
    assert ClaimsTable([]).summary() == "0 claims: none measured."


# Numbers as a person reads them


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (0.123456, None, "0.123"),
        (-0.49831, 0.021, "-0.498 ± 0.021"),
        (1234.5, 37.0, "1234 ± 37"),
        (12.345, 0.5, "12.35 ± 0.50"),
        (1.0, 1e-9, "1 ± 1e-09"),
        (0.0, None, "0"),
        (0.0, 0.0, "0"),
        (2, None, "2"),
        (math.inf, None, "never reached"),
        (-math.inf, 1.0, "minus infinity"),
        (math.nan, None, "nan"),
        (math.nan, 0.1, "nan ± 0.10"),
        (1.0, math.nan, "1"),
        (0.5, "95% interval [0.4, 0.6]", "0.5 (95% interval [0.4, 0.6])"),
        (True, None, "yes"),
        (False, None, "no"),
        ("diverged", None, "diverged"),
        (None, None, "not recorded yet"),
        ({"lazy": 12.5, "rich": 1.3}, None, "lazy 12.5, rich 1.3"),
        ({"lazy": True, "rich": math.inf}, None, "lazy yes, rich never reached"),
        ([1.0, 2.5], None, "1, 2.5"),
        ({"lazy": 12.512, "rich": 1.312}, {"lazy": 0.5, "rich": 0.02}, "lazy 12.51 ± 0.50, rich 1.312 ± 0.020"),
    ],
)
def test_format_value(value: Any, spread: Any, text: str) -> None:
    assert format_value(value, spread) == text


# check_close


def test_check_close_prints_the_largest_difference(capsys: pytest.CaptureFixture[str]) -> None:
    check_close(torch.tensor([1.0, 2.0]), np.array([1.0, 2.001]), rtol=1e-3, what="the two ways")
    assert capsys.readouterr().out == "the two ways agree: largest difference 0.001 (allowed 0 + 0.001 · |expected|)\n"


@pytest.mark.parametrize(
    ("actual", "expected", "words"),
    [
        (
            torch.zeros(2, 2),
            torch.tensor([[0.0, 0.0], [0.0, 1.0]]),
            "differ: 0 against 1 at index (1, 1), a difference of 1",
        ),
        (1.0, 2.0, "v differ: 1 against 2, a difference of 1 where 2e-05 is allowed"),
        (torch.zeros(3), torch.zeros(3, 1), "differ in shape: (3,) against (3, 1)"),
        (torch.tensor([float("nan")]), torch.zeros(1), "not finite"),
        (torch.zeros(1), torch.tensor([float("inf")]), "not finite"),
    ],
)
def test_check_close_says_where(actual: Any, expected: Any, words: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_close(actual, expected, what="v")
    assert words in str(caught.value)


def test_check_close_takes_tensors_with_gradients_and_nothing() -> None:
    check_close(torch.ones(2, requires_grad=True), torch.ones(2), what="v")
    check_close(torch.zeros(0), torch.zeros(0), what="v")
