"""Tutorials are found by number, wing, stem or path."""

from __future__ import annotations

from pathlib import Path

import pytest

from sciviz.lab import places
from sciviz.lab.places import find_tutorial, tutorials


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("00_start_here", "01_ntk", "02_rectified_flow", "06_neural_ode", "notes", "10_x"):
        (tmp_path / f"{name}.ipynb").write_text("{}")
    (tmp_path / "03_kan.py").write_text("")
    monkeypatch.setattr(places, "tutorials_dir", lambda: tmp_path)
    return tmp_path


def test_tutorials_in_their_order(folder: Path) -> None:
    assert [(found.number, found.wing, found.stem) for found in tutorials()] == [
        (1, "ntk", "01_ntk"),
        (2, "flow", "02_rectified_flow"),
        (6, "ode", "06_neural_ode"),
        (10, "x", "10_x"),
    ]


@pytest.mark.parametrize("name", ["2", "02", "flow", "rectified_flow", "02_rectified_flow"])
def test_every_name_of_a_tutorial(folder: Path, name: str) -> None:
    assert find_tutorial(name).path == folder / "02_rectified_flow.ipynb"


def test_path_of_a_tutorial_is_that_tutorial(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_tutorial(str(folder / "01_ntk.ipynb")).number == 1
    monkeypatch.chdir(folder)
    assert find_tutorial("01_ntk.ipynb").wing == "ntk"


def test_notebook_of_ones_own(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    own = tmp_path_factory.mktemp("own") / "mine.ipynb"
    own.write_text("{}")
    found = find_tutorial(str(own))
    assert (found.path, found.number, found.wing, found.stem) == (own.resolve(), None, "", "mine")


@pytest.mark.parametrize("name", ["", "7", "0", "ntkk", "tutorials", "nothing"])
def test_unknown_name_is_one_sentence(folder: Path, name: str) -> None:
    with pytest.raises(ValueError) as caught:
        find_tutorial(name)
    message = str(caught.value)
    assert message.startswith("tutorial must be one of 'ntk', '01_ntk', 'flow'") and "\n" not in message
    if name == "ntkk":
        assert message.endswith("Did you mean 'ntk'?")


def test_path_without_a_file(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"tutorial must be a notebook that exists, got 'no/where\.ipynb'"):
        find_tutorial("no/where.ipynb")


def test_folders_of_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "sciviz"
    (package / "_course").mkdir(parents=True)
    monkeypatch.setattr(places, "_PACKAGE", package)
    monkeypatch.setattr(places, "_CHECKOUT", tmp_path)
    assert places.course_dir() == package / "_course"
    assert places.tutorials_dir() == tmp_path / "tutorials"
    assert places.checkout_dir() is None
    (tmp_path / "tutorials").mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    assert places.checkout_dir() == tmp_path
