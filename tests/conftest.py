"""What all tests share."""

from __future__ import annotations

import pytest
from hypothesis import settings

# The same examples on every run: a test that fails must fail again when it is looked into.
settings.register_profile("sciviz", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("sciviz")


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CI runs: what surprises, raises."""
    monkeypatch.setenv("SCIVIZ_STRICT", "1")


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reader runs: what surprises is shown, and the notebook goes on."""
    monkeypatch.setenv("SCIVIZ_STRICT", "0")
