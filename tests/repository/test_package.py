"""The wheel carries the course, works without the checkout, and starts fast."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

WINGS = ("ntk", "flow", "kan", "hopfield", "snn", "ode")


def build(project: Path, kind: str = "wheel") -> zipfile.ZipFile:
    """Build as pip does, but with the hatchling that is here, so that no network is needed."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(project / "dist")]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (project / "dist").glob("*.whl")
    return zipfile.ZipFile(wheel)


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)


def test_wheel_carries_the_course(clone: Path, root: Path, tmp_path: Path) -> None:
    (clone / "tutorials" / ".ipynb_checkpoints").mkdir(parents=True)
    (clone / "tutorials" / ".ipynb_checkpoints" / "99_stray-checkpoint.ipynb").write_text("{}")
    with build(clone) as wheel:
        names = set(wheel.namelist())
        entry_points = wheel.read("sciviz-0.1.0.dist-info/entry_points.txt").decode()
        wheel.extractall(tmp_path / "site")
    assert {f"sciviz/_tutorials/{path.name}" for path in (clone / "tutorials").glob("*.ipynb")} <= names
    assert {"sciviz/py.typed", "sciviz/_course/papers.bib"} <= names
    assert {"sciviz/_course/assignments/ntk.ipynb", "sciviz/_course/assignments/ntk.py"} <= names
    assert {f"sciviz-0.1.0.dist-info/licenses/{name}" for name in ("LICENSE", "LICENSE-text")} <= names
    assert not [name for name in names if "stray" in name or name.startswith(("tests", "tools", "tutorials"))]

    assert entry_points == "[console_scripts]\nsciviz = sciviz.cli:main\n"
    code = "import sciviz, sciviz.cli; print(sciviz.__file__); assert callable(sciviz.cli.main)"
    done = python(code, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == tmp_path / "site" / "sciviz" / "__init__.py"


def test_wheel_builds_where_there_are_no_tutorials_yet(clone: Path) -> None:
    for path in [*(clone / "tutorials").glob("*.ipynb"), *(clone / "course").glob("*.*")]:
        path.unlink()
    with build(clone) as wheel:
        assert "sciviz/py.typed" in wheel.namelist()


def test_editable_install_reads_the_checkout(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Copies of the tutorials in an editable install would hide the reader's own changes.
    monkeypatch.chdir(clone)
    code = "from hatchling.build import build_editable; print(build_editable('dist'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next((clone / "dist").glob("*.whl"))) as wheel:
        assert not [name for name in wheel.namelist() if name.startswith("sciviz/")]
        assert str(clone) in wheel.read("_sciviz.pth").decode()


def test_import_is_light(root: Path) -> None:
    heavy = ["plotly", "xarray", "ipywidgets", "anywidget", "pandas", "sklearn", "scipy", "sympy", "papermill", "ot"]
    heavy += [f"sciviz.{wing}" for wing in WINGS]
    code = f"import sys, sciviz; print([name for name in {heavy!r} if name in sys.modules])"
    done = python(code, root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]", "imported by `import sciviz`, and should wait until they are used"
