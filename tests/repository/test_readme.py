"""The README promises what the code keeps."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted((ROOT / "tutorials").glob("*.ipynb")), ids=lambda path: path.stem)
def test_table_tells_each_tutorials_budget(path: Path) -> None:
    said = nbformat.read(path, as_version=4).metadata["sciviz"]
    rows = [line for line in README.splitlines() if f"(tutorials/{path.name})" in line and line.startswith("|")]
    assert len(rows) == 1
    assert said["title"] in rows[0]
    assert f"| {said['budget']['seconds']} s | {said['budget']['memory_mb'] / 1000:g} GB |" in rows[0]


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_commands_exist() -> None:
    for command in sorted(set(re.findall(r"`sciviz (\w+)", README))):
        done = subprocess.run([sys.executable, "-m", "sciviz.cli", command, "--help"], capture_output=True, text=True)
        assert done.returncode == 0, command
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_claims_that_do_not_hold_are_listed() -> None:
    record = json.loads((ROOT / "course" / "claims.json").read_text(encoding="utf-8"))["claims"]
    odd = {name for name, slots in record.items() if any(entry["outcome"] != "holds" for entry in slots.values())}
    assert {name for name in odd if f"`{name}`" not in README} == set()
