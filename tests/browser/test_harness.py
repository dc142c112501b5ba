"""A browser test never passes by not running where it must run."""

from __future__ import annotations

import pytest

from tests.browser import jupyter


def test_without_chromium_a_test_skips_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jupyter, "CHROMIUM", None)
    monkeypatch.delenv("SCIVIZ_REQUIRE_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs Chromium"):
        jupyter.need_chromium()


def test_without_chromium_ci_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jupyter, "CHROMIUM", None)
    monkeypatch.setenv("SCIVIZ_REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="SCIVIZ_REQUIRE_BROWSER=1"):
        jupyter.need_chromium()


def test_with_chromium_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jupyter, "CHROMIUM", "/usr/bin/chromium")
    jupyter.need_chromium()
