"""What Binder would build, read from the Dockerfile that repo2docker writes (no docker is needed for that)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_dockerfile_has_each_step(clone: Path) -> None:
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-2000:]
    assert "Building conda environment for python=3.11" in output
    steps = [
        "COPY --chown=0:0 src/binder/requirements.txt ${REPO_DIR}/binder/requirements.txt",
        'pip install --no-cache-dir -r "binder/requirements.txt"',
        "chmod +x binder/postBuild",
        "RUN ./binder/postBuild",
    ]
    places = [output.find(step) for step in steps]
    assert -1 not in places, steps[places.index(-1)]
    assert places == sorted(places)
    # The sources are in the image before postBuild installs sciviz from them.
    assert output.find("COPY --chown=0:0 src/ ${REPO_DIR}/") < places[-1]


def test_binder_gets_the_small_torch(root: Path) -> None:
    lines = (root / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert "torch==2.13.0+cpu" in lines
    assert [line for line in lines if line.startswith("--")] == [
        "--extra-index-url https://" + "download." + "pytorch.org/whl/cpu"
    ]
    assert not [line for line in lines if line.startswith(("nvidia", "triton", "cuda")) or ";" in line.split("#")[0]]
