"""`sciviz open`, and everything else from an installed wheel, where there is no checkout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest

from sciviz.lab import places
from sciviz.reports import opening
from sciviz.reports.opening import copy_tutorials
from tests.reports import light

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "source"
    made.mkdir()
    for name in ("00_start_here.ipynb", "01_one.ipynb", "02_two.ipynb"):
        (made / name).write_text(f"first {name}")
    monkeypatch.setattr(opening, "tutorials_dir", lambda: made)
    return made


def test_copies_and_keeps_what_the_user_changed(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "deep" / "mine"
    assert copy_tutorials(folder).new == [path.name for path in sorted(source.iterdir())]
    assert copy_tutorials(folder).same == [path.name for path in sorted(source.iterdir())]
    (folder / "01_one.ipynb").write_text("my own work")
    (folder / "notes.txt").write_text("notes")
    (source / "01_one.ipynb").write_text("second")
    (source / "02_two.ipynb").write_text("second")
    again = copy_tutorials(folder)
    assert (again.changed, again.renewed, again.same) == (["01_one.ipynb"], ["02_two.ipynb"], ["00_start_here.ipynb"])
    assert (folder / "01_one.ipynb").read_text() == "my own work" and (folder / "notes.txt").read_text() == "notes"
    assert (folder / "02_two.ipynb").read_text() == "second"
    # Also where the record of what was copied is lost.
    (folder / ".sciviz-tutorials.json").unlink()
    (source / "02_two.ipynb").write_text("third")
    assert copy_tutorials(folder).changed == ["01_one.ipynb", "02_two.ipynb"]


def test_a_file_of_that_name_from_elsewhere_is_not_touched(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (tmp_path / "elsewhere").write_text("first 01_one.ipynb")
    (folder / "01_one.ipynb").symlink_to(tmp_path / "elsewhere")
    (folder / "02_two.ipynb").mkdir()
    assert copy_tutorials(folder).changed == ["01_one.ipynb", "02_two.ipynb"]
    assert (tmp_path / "elsewhere").read_text() == "first 01_one.ipynb"


def test_what_cannot_be_opened_is_told(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        copy_tutorials(tmp_path / "file")
    for path in source.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="carries no tutorials"):
        copy_tutorials(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel in an environment that has our dependencies and not our checkout; return its `sciviz`."""
    folder = tmp_path_factory.mktemp("installed")
    for command in (
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        [sys.executable, "-m", "venv", "--without-pip", folder / "venv"],
    ):
        subprocess.run(list(map(str, command)), cwd=ROOT, check=True, capture_output=True)
    site = next((folder / "venv" / "lib").glob("python*")) / "site-packages"
    # The path alone: what makes our checkout importable there is not read.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    (wheel,) = folder.glob("*.whl")
    python = str(folder / "venv" / "bin" / "python")
    install = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--python", python, str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "venv" / "bin" / "sciviz"


def sciviz(installed: Path, folder: Path, *words: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [installed, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=light.SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_reports_sweeps_and_opens(installed: Path, tmp_path: Path) -> None:
    there = f"{installed.parent.parent}{os.sep}"
    code = "import sciviz, sciviz.lab.places as p; print(sciviz.__file__, p.tutorials_dir(), p.checkout_dir())"
    said = subprocess.run([installed.with_name("python"), "-c", code], cwd=tmp_path, capture_output=True, text=True)
    package, tutorials, checkout = said.stdout.split()
    assert package.startswith(there) and tutorials.startswith(there) and checkout == "None"

    carried = [tutorial.stem for tutorial in places.tutorials()]
    listed = sciviz(installed, tmp_path, "report", "--list")
    assert [line.split()[1] for line in listed.splitlines()] == carried
    assert "which random draw" in sciviz(installed, tmp_path, "report", carried[0], "--help")

    light.notebook(tmp_path / "light.ipynb", "claim(double=2.0 * seed)\ndataset('one', values=np.arange(3.0))")
    sciviz(installed, tmp_path, "report", "light.ipynb", "-p", "seed", "3", "-o", "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "light/number" in page
    said = sciviz(
        installed, tmp_path, "sweep", "light.ipynb", "--grid", "seed=0:2", "-o", "swept", "--workers", "1", "--cold"
    )
    assert (
        "2 points, 2 of them run now" in said and "2 points: 2 done" in (tmp_path / "swept" / "sweep.html").read_text()
    )

    sciviz(installed, tmp_path, "open", "mine", "--copy-only")
    copied = {path.name for path in (tmp_path / "mine").glob("*.ipynb")}
    assert copied == {path.name for path in places.tutorials_dir().glob("[0-9][0-9]_*.ipynb")}
    for path in (tmp_path / "mine").glob("*.ipynb"):
        nbformat.validate(nbformat.read(path, as_version=4))


def test_lab_starts_in_the_users_folder(tmp_path: Path) -> None:
    folders = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "RUNTIME", "DATA")}
    words = ["open", "mine", "--no-browser", "--lab=--allow-root", "--lab=--port=0", "--lab=--ip=127.0.0.1"]
    environment = {**os.environ, **folders, "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces")}
    with open(tmp_path / "log", "w") as log:
        command = [sys.executable, "-m", "sciviz.cli", *words]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        light.until(lambda: "is running at" in (tmp_path / "log").read_text(), "JupyterLab to start")
        assert f"local directory: {tmp_path / 'mine'}\n" in (tmp_path / "log").read_text()
        # What a browser is sent to.
        redirects = [path.read_text() for path in (tmp_path / "RUNTIME").glob("jpserver-*-open.html")]
        assert any("/lab/tree/00_start_here.ipynb" in text for text in redirects)
        process.send_signal(signal.SIGTERM)
        assert process.wait(light.SECONDS) == 0
    finally:
        light.end(process)
