"""What must be in the repository, and what must not."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

# Each is cut in two here, so that this file does not find itself.
MACHINE = "/wo|rk/ /ro|ot/ /fa|rm/ .py|env /opt/|wheels /opt/|pypi ../sha|red".replace("|", "").split()
CDN = "unp|kg.com jsde|livr cdn|js. cdn.|plot.ly esm|.sh fonts.goo|gleapis requirejs|.org".replace("|", "").split()
REGISTRY = "py|pi.org python|hosted.org registry.|npmjs download.|pytorch.org ana|conda.org".replace("|", "").split()
# PyTorch's own index of CPU builds is named where a reader, make or Binder needs it.
MAY_NAME_TORCH_INDEX = {"Makefile", "README.md", "binder/requirements.txt"}


def lines_with(patterns: list[str], files: list[Path], root: Path) -> list[str]:
    found = re.compile("|".join(map(re.escape, patterns)))
    hits = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        name = path.relative_to(root).as_posix()
        numbered = enumerate(text.splitlines(), 1)
        hits += [f"{name}:{number}: {line.strip()[:120]}" for number, line in numbered if found.search(line)]
    return hits


def test_no_path_of_a_machine(repository_files: list[Path], root: Path) -> None:
    assert lines_with(MACHINE, repository_files, root) == []


def test_nothing_is_loaded_from_outside(repository_files: list[Path], root: Path) -> None:
    # A test may name such a host, to make sure that nobody else does.
    files = [path for path in repository_files if "tests" not in path.relative_to(root).parts]
    assert lines_with(CDN, files, root) == []


def test_no_registry_is_named_but_where_it_must_be(repository_files: list[Path], root: Path) -> None:
    files = [path for path in repository_files if path.relative_to(root).as_posix() not in MAY_NAME_TORCH_INDEX]
    assert lines_with(REGISTRY, files, root) == []
    allowed = [path for path in repository_files if path.relative_to(root).as_posix() in MAY_NAME_TORCH_INDEX]
    others = [name for name in REGISTRY if not name.endswith("torch.org")]
    assert lines_with(others, allowed, root) == []


def test_the_search_itself_finds(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text(f"fine\nsee {MACHINE[0]}main\n")
    assert lines_with(MACHINE, [tmp_path / "notes.md"], tmp_path) == [f"notes.md:2: see {MACHINE[0]}main"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("LICENSE", ["MIT License", "WITHOUT WARRANTY OF ANY KIND"]),
        (
            "LICENSE-text",
            ["Creative Commons Attribution 4.0 International Public License", "Section 8 – Interpretation."],
        ),
    ],
)
def test_licences_are_whole(root: Path, name: str, words: list[str]) -> None:
    text = (root / name).read_text(encoding="utf-8")
    assert all(word in text for word in words)


@pytest.mark.parametrize("name", [".ci/run", "binder/postBuild"])
def test_scripts_are_executable_and_parse(root: Path, name: str) -> None:
    assert os.access(root / name, os.X_OK)
    assert subprocess.run(["bash", "-n", str(root / name)]).returncode == 0


def test_gitignore_hides_what_is_made_and_nothing_that_is_kept(root: Path) -> None:
    made = [
        ".venv/bin/python",
        "tutorials/.ipynb_checkpoints/01_ntk-checkpoint.ipynb",
        "sciviz/__pycache__/a.pyc",
        "out/ntk/page.html",
    ]
    made += [".hypothesis/x", ".mypy_cache/x", "dist/sciviz.whl", "test-artefacts/ntk.png"]
    kept = ["tutorials/01_ntk.ipynb", "course/claims.json", "binder/postBuild", ".ci/run", "requirements.lock"]
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    done = subprocess.run(command, cwd=root, input="\n".join(made + kept), capture_output=True, text=True)
    assert done.stdout.split() == made
    tracked = subprocess.run(
        ["git", "ls-files", "-ci", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True
    )
    assert tracked.stdout == ""
