"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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


# Not for the whole session: while playwright is on, an event loop runs in this thread, and tests of other modules would see it.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium; without one a test skips, or fails where SCIVIZ_REQUIRE_BROWSER=1."""
    from tests.browser.jupyter import chromium, need_chromium

    need_chromium()
    with chromium() as started:
        yield started
