"""`make` installs once: what a second run, a touched file or a missing network may not do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

INSTALLS = "--constraint constraints.txt"


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "hatch_build.py"):
        shutil.copy2(root / name, tmp_path / name)
    return tmp_path


def plan(project: Path, target: str, *variables: str) -> str:
    """Return what make would run, without running it."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"
    }
    command = ["make", "--dry-run", target, *variables]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=True).stdout


def finish(project: Path, planned: str) -> None:
    """Leave the environment as if `planned` had been run."""
    (project / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    (project / ".venv" / "bin" / "python").touch()
    stamps = re.findall(r"^touch (.*)$", planned, flags=re.MULTILINE)
    assert stamps
    for stamp in " ".join(stamps).split():
        (project / stamp).touch()


@pytest.mark.parametrize("target", ["lab", "test"])
def test_second_run_installs_nothing(project: Path, target: str) -> None:
    first = plan(project, target)
    assert "-m venv .venv" in first
    assert INSTALLS in first
    finish(project, first)
    again = plan(project, target)
    assert INSTALLS not in again and "-m venv" not in again
    assert ("jupyterlab" if target == "lab" else "pytest") in again


def test_only_other_dependencies_install_again(project: Path) -> None:
    finish(project, plan(project, "test"))
    os.utime(project / "pyproject.toml")
    os.utime(project / "constraints.txt")
    pyproject = project / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + "\n[tool.another]\nsetting = 1\n")
    assert INSTALLS not in plan(project, "test")
    assert INSTALLS not in plan(project, "lab"), "the environment of the tests is enough to open the course"
    (project / "constraints.txt").write_text((project / "constraints.txt").read_text() + "another==1.0\n")
    assert INSTALLS in plan(project, "test")


def test_lab_takes_options(project: Path) -> None:
    assert "jupyterlab --no-browser --port=9999 tutorials/00_start_here.ipynb" in plan(
        project, "lab", "LAB_ARGS=--no-browser --port=9999"
    )


def test_tests_run_as_ci_runs_them(project: Path) -> None:
    planned = plan(project, "test")
    assert "SCIVIZ_STRICT=1" in planned
    for step in (
        "ruff check .",
        "ruff format --check .",
        "mypy --strict sciviz",
        "strip_notebooks.py --check",
        "lock.py --check",
    ):
        assert planned.index(step) < planned.index("pytest -n 2 --dist loadscope")


def test_an_old_python_is_told_so(project: Path) -> None:
    old = project / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(["make", "lab", f"PYTHON={old}"], cwd=project, capture_output=True, text=True)
    assert done.returncode != 0
    assert "sciviz needs Python 3.11 or newer" in done.stdout
