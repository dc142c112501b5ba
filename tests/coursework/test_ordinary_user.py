"""The same walls when an ordinary user grades: run by root, these tests start others as a user who may nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.coursework.toy import need, need_sandbox

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "65534"


def as_nobody(arguments: list[str], home: Path) -> list[str]:
    """Return a command that runs Python as an ordinary user, who can reach this interpreter also if it lies in root's home."""
    binds: list[str] = []
    for path in {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), ROOT}:
        private = [up for up in path.parents if up != Path("/") and up.stat().st_mode & 0o005 != 0o005]
        for up in reversed(path.parents) if private else ():
            if up in private or any(up.is_relative_to(over) for over in private):
                binds += ["--perms", "755", "--tmpfs" if up in private else "--dir", str(up)]
        if private:
            binds += ["--ro-bind", str(path), str(path)]
    outer = ["bwrap", "--dev-bind", "/", "/", *binds, "--die-with-parent", "--chdir", str(ROOT)]
    drop = [
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ]
    variables = ["env", f"HOME={home}", f"TMPDIR={home}", "SCIVIZ_REQUIRE_SANDBOX=1", "PYTHONDONTWRITEBYTECODE=1"]
    return [*outer, "--", *drop, *variables, sys.executable, *arguments]


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_sandbox()
    if os.getuid() != 0:
        pytest.skip("run by an ordinary user, all the other tests show it")
    need(shutil.which("setpriv"), "setpriv is not installed")
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="sciviz-nobody-", dir="/var/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_the_catalogue_as_an_ordinary_user(home: Path) -> None:
    files = [f"tests/coursework/{name}" for name in ("test_hostile.py", "test_sandbox.py")]
    command = as_nobody(["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={home / 'pytest'}", *files], home)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout.splitlines()[-1]
