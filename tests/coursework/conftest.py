"""A class with a small assignment, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.coursework.toy import Toy, need_nbgrader, need_sandbox


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    need_nbgrader()
    return Toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def toy(made: Toy, tmp_path: Path) -> Toy:
    """The class with nothing handed in; grading needs the sandbox."""
    need_sandbox()
    return made.fresh(tmp_path)
