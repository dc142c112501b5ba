"""The references are complete, or say what could not be confirmed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pybtex.database import BibliographyData, parse_file


@pytest.fixture(scope="module")
def papers(root: Path) -> BibliographyData:
    return parse_file(str(root / "course" / "papers.bib"))


def test_every_paper_can_be_found(papers: BibliographyData) -> None:
    assert len(papers.entries) >= 15
    for key, entry in papers.entries.items():
        fields = entry.fields
        assert fields["title"] and entry.persons["author"], key
        assert re.fullmatch(r"(19|20)\d\d", fields["year"]), key
        unconfirmed = fields.get("note", "").startswith("not confirmed: ")
        assert "eprint" in fields or "doi" in fields or unconfirmed, f"{key} has neither DOI nor arXiv number"
        if "eprint" in fields:
            assert re.fullmatch(r"\d{4}\.\d{4,5}", fields["eprint"]) and fields["archiveprefix"] == "arXiv", key
        if "doi" in fields:
            assert re.fullmatch(r"10\.\d{4,9}/\S+", fields["doi"]), key
        if entry.type in ("article", "inproceedings"):
            assert fields.get("journal") or fields.get("booktitle"), f"{key} names no venue"


def test_no_paper_stands_twice(papers: BibliographyData) -> None:
    for field in ("eprint", "doi", "title"):
        values = [entry.fields[field].lower() for entry in papers.entries.values() if field in entry.fields]
        assert len(values) == len(set(values)), field


def test_every_author_has_a_family_and_a_given_name(papers: BibliographyData) -> None:
    for key, entry in papers.entries.items():
        for person in entry.persons["author"]:
            assert person.last_names and person.first_names, f"{key}: {person}"
