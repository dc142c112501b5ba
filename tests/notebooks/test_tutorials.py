"""The lint, over every notebook of the course as it is committed."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from sciviz.lab.claims import code_hash, load_record
from sciviz.lab.places import course_dir, tutorials, tutorials_dir
from tests.notebooks import lint

NOTEBOOKS = sorted(tutorials_dir().glob("*.ipynb"))
TUTORIALS = {tutorial.path for tutorial in tutorials()}
by_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
    assert TUTORIALS.issubset(NOTEBOOKS)


@by_notebook
def test_lint(path: Path) -> None:
    checks = lint.committed(lint.read(path), tutorial=path in TUTORIALS)
    assert [f"{name}: {problem}" for name, problems in checks for problem in problems] == []


@by_notebook
def test_papers_are_in_the_bibliography(path: Path) -> None:
    bibliography = (course_dir() / "papers.bib").read_text(encoding="utf-8")
    papers = set(re.findall(r"^@\w+\{\s*([^,\s]+)\s*,", bibliography, re.MULTILINE))
    assert lint.cited_papers(lint.read(path), papers) == []


@by_notebook
def test_claims_have_a_record(path: Path) -> None:
    notebook, record = lint.read(path), load_record()
    # Older than the code is no failure: the claim was measured live, or will be before a release. It is said, though.
    for line in lint.stale_claims(lint.claim_ids(notebook), record, code_hash):
        warnings.warn(line, stacklevel=1)
    assert lint.recorded_claims(notebook, record) == []
