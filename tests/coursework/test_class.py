"""A class of twenty from beginning to end, by the commands that a teacher types; its pages looked at in a real browser."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest

from sciviz.cli import main
from sciviz.coursework.classroom import read_class
from sciviz.coursework.gradebook import open_gradebook
from tests.coursework import hostile
from tests.coursework.toy import SOLUTIONS, Toy, need_nbgrader, need_sandbox, write_source

LONG = "def scale(x):\n    raise ValueError('" + "W" * 400 + "')"
# What each of the first students hands in: the answers, and what they wrote under "Why?".
SOLVED: list[tuple[dict[str, str], str]] = [
    ({}, "Because it scales."),
    ({}, "The gain is one number for all entries, so the result is the input, longer or shorter."),
    ({"scale": "def scale(x):\n    return np.multiply(x, gain)"}, ""),
    ({"scale": "def scale(x):\n    result = 0 * x\n    result += gain * x\n    return result"}, "<b>Bold</b> & plain."),
    ({"where": "def where(mask):\n    return np.stack(np.nonzero(mask), axis=1)"}, ""),
    ({"number": "number = int(str(seed)[-3:])"}, "Because " * 2000),
    ({"scale": "def scale(x):\n    return x.copy()"}, ""),
    ({"scale": "def scale(x):\n    x *= gain\n    return x"}, ""),
    ({"where": "def where(mask):\n    return np.nonzero(mask)[0]"}, ""),
    ({"number": "number = seed % 1000 + 1"}, ""),
    ({"scale": "def scale(x):\n    gain * x"}, ""),
    ({"scale": LONG}, ""),
    ({"where": "def where(mask):\n    while True:\n        pass"}, "It would be faster with NumPy."),
    ({"number": "number = = 3"}, ""),
]
HOSTILE = ("always-equal", "reads-the-graders-files", "html-in-markdown", "broken-json")
MISSING = "student-19"


@dataclass
class Course:
    folder: Path
    said: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, code: int = 0) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert main(["course", *words]) == code, out.getvalue()
        self.said[words[0]] = out.getvalue()
        return out.getvalue()

    def page(self, student: str) -> Path:
        return self.folder / "class" / "feedback" / student / "toy" / "toy.html"

    @property
    def overview(self) -> Path:
        return self.folder / "class" / "report" / "toy.html"

    def table(self) -> dict[str, dict[str, str]]:
        with (self.folder / "class" / "grades-toy.csv").open(encoding="utf-8", newline="") as file:
            return {row["student"]: row for row in csv.DictReader(file)}


def names() -> list[str]:
    honest = [f"student-{place:02}" for place in range(len(SOLVED))]
    return [*honest, *HOSTILE, "untouched", MISSING]


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    need_nbgrader()
    need_sandbox()
    course = Course(tmp_path_factory.mktemp("course"))
    source, folder, submitted = write_source(course.folder / "source"), course.folder / "class", course.folder / "in"
    course.run("init", str(folder), "toy", "--name", "Learning machines, spring", "--from", str(source))
    people = ["id,first_name,last_name,email,folder", *(f"{name},First,Last,{name}@example.org," for name in names())]
    (folder / "students.csv").write_text("\n".join(people) + "\n", encoding="utf-8")
    course.run("release", "--class", str(folder))
    released = (folder / "release" / "toy" / "toy.ipynb").read_text(encoding="utf-8")

    def hand_in(student: str, answers: dict[str, str] | None, why: str = "") -> Path:
        notebook = nbformat.reads(released, as_version=4)
        for cell in notebook.cells if answers is not None else ():
            ours = cell.metadata.get("sciviz", {})
            if ours.get("role") == "answer":
                cell.source = {**SOLUTIONS, **answers}[ours["question"]]
            if ours.get("role") == "manual" and why:
                cell.source = why
        path = submitted / student / "toy.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook), encoding="utf-8")
        return path

    for place, (answers, why) in enumerate(SOLVED):
        hand_in(f"student-{place:02}", answers, why)
    hand_in("untouched", None)
    classroom = read_class(folder)
    toy = Toy.__new__(Toy)
    toy.classroom, toy.submitted, toy.released = classroom, submitted, released
    for name in HOSTILE:
        hostile.FILES[name](toy, name)
    due = classroom.due["toy"]
    assert due is not None
    late = due + timedelta(days=4.5)
    (submitted / "student-02" / "timestamp.txt").write_text(f"{late:%Y-%m-%d %H:%M:%S} UTC")
    course.run("grade", "toy", str(submitted), "--class", str(folder), "--workers", "2")
    with open_gradebook(classroom) as book:
        grade = book.find_grade("why", "toy", "toy", "student-01")
        grade.manual_score, grade.needs_manual_grade = 2.5, False
        comment = book.find_comment("why", "toy", "toy", "student-01")
        comment.manual_comment = "Well said. What of a gain below zero?"
        book.db.commit()
    course.run("grade", "toy", str(submitted), "--class", str(folder))
    course.run("report", "toy", "--class", str(folder))
    return course


def test_everybody_has_a_line_and_a_page(course: Course) -> None:
    table = course.table()
    assert set(table) == set(names())
    assert table[MISSING]["remarks"] == "nothing handed in"
    assert all(course.page(student).is_file() for student in table if student != MISSING)
    assert "0 graded now, 19 as before" in course.said["grade"]


def test_marks_are_what_the_answers_are_worth(course: Course) -> None:
    score = {student: float(row["score"]) for student, row in course.table().items()}
    right = ["student-00", "student-03", "student-04", "student-05"]
    assert [score[student] for student in right] == [7.0] * 4
    assert score["student-01"] == 9.5, "with what the teacher gave by hand"
    assert score["student-02"] == pytest.approx(7 - 2 * 0.7), "five days late, three of them free"
    assert [score[f"student-{n:02}"] for n in range(6, 14)] == [5.5, 6.0, 5.0, 6.0, 3.0, 3.0, 5.0, 6.0]
    assert [score[student] for student in (*HOSTILE, "untouched", MISSING)] == [0.0] * 6


def test_teacher_is_told_who_waits(course: Course) -> None:
    waiting = {student for student, row in course.table().items() if row["waits_for_you"]}
    assert waiting == {"student-00", "student-03", "student-05", "student-12", "html-in-markdown"}
    assert "5 have answers that wait for you" in course.said["grade"]


def test_report_says_how_it_went(course: Course) -> None:
    page = course.overview.read_text(encoding="utf-8")
    assert str(course.overview) in course.said["report"]
    assert "19 submissions, 1 of the class list without one" in page
    assert "<strong>5 wait for you</strong>" in page
    assert page.count('<svg viewBox="0 0 160 30"') == 5, "four questions and the whole"
    for link in re.findall(r'href="([^"]+)"', page):
        assert (course.overview.parent / link).resolve().is_file(), link
    assert "<script" not in page
    assert "The gain is missing." in page
    assert "<h3>1. Scale</h3>" in page, "as the notebook calls it"
    assert "<h2>1. Scale <" in course.page("student-00").read_text(encoding="utf-8")
    assert page.count(">waits</td>") == 5


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_pages_in_a_browser(course: Course, browser: Any, scheme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    try:
        for student in ("student-01", "student-02", "student-11", "html-in-markdown", ""):
            page = context.new_page()
            asked: list[str] = []
            complaints: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("console", lambda message, complaints=complaints: complaints.append(message.text))
            page.on("dialog", lambda dialog, complaints=complaints: complaints.append(dialog.message))
            page.goto((course.page(student) if student else course.overview).as_uri())
            assert len(asked) == 1, "the page asks for nothing"
            assert complaints == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width, "no line is wider than the window"
            style = "getComputedStyle(document.body)"
            ink, paper = (
                sum(map(int, re.findall(r"\d+", said)))
                for said in page.evaluate(f"[{style}.color, {style}.backgroundColor]")
            )
            assert (ink < paper) == (scheme == "light")
            page.close()
        if width == 360:
            page = context.new_page()
            for path in (course.page("student-05"), course.overview):
                page.goto(path.as_uri())
                # axe itself is a script, which the page's own rules would keep out.
                content = re.sub(
                    r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text(encoding="utf-8")
                )
                page.set_content(content)
                found = Axe().run(page)
                assert found.violations_count == 0, found.generate_report()
    finally:
        context.close()


@pytest.mark.browser
def test_on_paper_nothing_is_cut_off(course: Course, browser: Any) -> None:
    context = browser.new_context(viewport={"width": 700, "height": 900}, color_scheme="dark", offline=True)
    try:
        page = context.new_page()
        page.emulate_media(media="print")
        page.goto(course.page("student-05").as_uri())
        cut = "[...document.querySelectorAll('pre')].filter(e => e.scrollHeight > e.clientHeight + 1).length"
        assert page.evaluate(cut) == 0
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.emulate_media(media="screen")
        assert page.evaluate(cut) == 1, "on screen it is scrolled"
    finally:
        context.close()
