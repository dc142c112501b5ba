"""What the syllabus, the glossary and the teacher's guide name is there."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import nbformat
import pytest

from sciviz.coursework.classroom import Policy
from sciviz.coursework.commands import add_commands
from sciviz.coursework.source import assignment_names
from sciviz.lab.places import course_dir, find_tutorial, tutorials

COURSE = course_dir()
DOCUMENTS = ("syllabus.md", "teaching.md", "glossary.md", "release/README.md")
NUMBERS = {tutorial.number: tutorial for tutorial in tutorials()}


def text(name: str) -> str:
    return (COURSE / name).read_text(encoding="utf-8")


def words(path: Path) -> str:
    source = " ".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    return source.casefold().replace("-", " ")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    targets = {to for to in re.findall(r"\]\(([^)#]+)\)", text(name)) if "://" not in to}
    # The syllabus names all six assignments, also while one is being written; test_assignments.py looks for those that are.
    targets = {to for to in targets if not re.fullmatch(r"release/\w+/\w+\.ipynb", to)}
    assert [to for to in sorted(targets) if not ((COURSE / name).parent / to).exists()] == []


def weeks() -> list[list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text("syllabus.md").splitlines()]
    return [row for row in rows if row[0].isdigit()]


def test_syllabus_has_twelve_weeks_and_all_that_is_to_read() -> None:
    assert [int(week) for week, *_ in weeks()] == list(range(1, 13))
    keys = set(re.findall(r"^@\w+\{([^,]+),", text("papers.bib"), re.MULTILINE))
    read = [key for _, _, reading, *_ in weeks() for key in re.findall(r"`([\w-]+)`", reading)]
    assert set(read) == keys, "each paper of the course once"
    assert len(read) == len(set(read))


def test_syllabus_gives_each_method_two_weeks_and_hands_in_its_assignment() -> None:
    named = [re.findall(r"\[`(\w+)`\]", row[4]) for row in weeks()]
    assert [len(names) for names in named] == [0, 1] * 6
    assert [find_tutorial(names[0]).number for names in named if names] == sorted(NUMBERS)
    assert set(assignment_names()) <= {name for names in named for name in names}


@pytest.mark.parametrize("number", sorted(NUMBERS))
def test_sections_that_are_to_be_run_are_there(number: int) -> None:
    first, second = (row[3] for row in weeks()[2 * number - 2 : 2 * number])
    assert f"tutorials/{NUMBERS[number].stem}.ipynb" in first
    headings = "\n".join(
        cell.source for cell in nbformat.read(NUMBERS[number].path, as_version=4).cells if cell.cell_type == "markdown"
    )
    sections = [int(found) for found in re.findall(r"^## (\d+) ·", headings, re.MULTILINE)]
    begin, end = map(int, re.findall(r"sections (\d+) to (\d+)", first)[0])
    (again,) = map(int, re.findall(r"from section (\d+)", second))
    assert (begin, again) == (1, end + 1)
    assert again < max(sections)


def test_late_policy_is_the_one_that_a_class_begins_with() -> None:
    policy = Policy()
    said = f"{ {3: 'three'}[policy.late_days] } free days over the whole term, then a { {0.1: 'tenth'}[policy.late_penalty] }"
    assert said in text("syllabus.md").replace("\n", " ")
    assert policy.late_limit == 7
    assert "nothing after a week" in text("syllabus.md").replace("\n", " ")


def test_glossary_is_in_order_and_its_words_are_the_tutorials() -> None:
    terms = re.findall(r"^- \*\*(.+?)\*\* \((\d)\): \S", text("glossary.md"), re.MULTILINE)
    assert len(terms) == text("glossary.md").count("\n- ") >= 50
    assert [term for term, _ in terms] == sorted({term for term, _ in terms}, key=str.casefold)
    books = {number: words(tutorial.path) for number, tutorial in NUMBERS.items()}
    for term, number in terms:
        assert term.casefold().replace("-", " ") in books.get(int(number), ""), f"{term} is not in tutorial {number}"


def test_commands_of_the_guide_are_commands() -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    lines = re.findall(r"^sciviz (course [^#\n]+)", text("teaching.md"), re.MULTILINE)
    assert {line.split()[1] for line in lines} == {"init", "release", "grade", "report", "extend", "check"}
    for line in lines:
        assert parser.parse_args(shlex.split(line)).run
