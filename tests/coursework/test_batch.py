"""A batch resumes, keeps what the teacher did by hand, and is read by nbgrader's own tools."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from sciviz.cli import main
from sciviz.coursework.batch import grade_batch, kept_records
from sciviz.coursework.classroom import Policy, clean_id, init_class, read_class
from sciviz.coursework.gradebook import open_gradebook, penalty_of
from sciviz.coursework.overview import look_alikes, shingles
from sciviz.coursework.submissions import find_submissions
from sciviz.coursework.visible import seed_of
from tests.coursework.toy import FULL, SOLUTIONS, Toy, scores, write_source


def grade(toy: Toy, *more: str) -> int:
    return main(["course", "grade", "toy", str(toy.submitted), "--class", str(toy.classroom.folder), *more])


def table(toy: Toy) -> dict[str, dict[str, str]]:
    with (toy.classroom.folder / "grades-toy.csv").open(encoding="utf-8", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def page(toy: Toy, student: str) -> str:
    return (toy.classroom.folder / "feedback" / student / "toy" / "toy.html").read_text(encoding="utf-8")


def with_people(toy: Toy, *lines: str) -> None:
    text = "\n".join(["id,first_name,last_name,email,folder", *lines])
    (toy.classroom.folder / "students.csv").write_text(text + "\n", encoding="utf-8")
    toy.classroom = read_class(toy.classroom.folder)


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_nothing_is_graded_twice(toy: Toy) -> None:
    for student in ("ada", "zoe"):
        toy.hand_in(student, toy.notebook())
    assert grade_batch(toy.classroom, "toy", toy.submitted, progress=False).fresh == 2
    again = grade_batch(toy.classroom, "toy", toy.submitted, progress=False)
    assert (again.fresh, len(again.records)) == (0, 2)
    toy.hand_in("zoe", toy.notebook({"scale": "def scale(x): return 0 * x"}))
    third = grade_batch(toy.classroom, "toy", toy.submitted, progress=False)
    assert third.fresh == 1
    assert scores(third.records["zoe"])["scale"] == 2.0
    checks = toy.classroom.folder / "assignments" / "toy.py"
    checks.write_text(checks.read_text() + "\n# other checks\n")
    assert grade_batch(read_class(toy.classroom.folder), "toy", toy.submitted, progress=False).fresh == 2


def test_a_damaged_result_is_made_again(toy: Toy) -> None:
    toy.hand_in("ada", toy.notebook())
    grade_batch(toy.classroom, "toy", toy.submitted, progress=False)
    (kept,) = (toy.classroom.folder / "results" / "toy").glob("*.json")
    kept.write_text(kept.read_text()[:100])
    done = grade_batch(toy.classroom, "toy", toy.submitted, progress=False)
    assert done.fresh == 1
    assert scores(done.records["ada"]) == FULL


def test_killed_half_way_it_goes_on(toy: Toy) -> None:
    slow = "import time\ntime.sleep(0.5)\n" + SOLUTIONS["number"]
    for place in range(8):
        toy.hand_in(f"student-{place:02}", toy.notebook({"number": slow}))
    command = [sys.executable, "-m", "sciviz.cli", "course", "grade", "toy", str(toy.submitted)]
    process = subprocess.Popen([*command, "--class", str(toy.classroom.folder)], stderr=subprocess.DEVNULL)
    folder = toy.classroom.folder / "results" / "toy"
    end = time.monotonic() + 60
    while len(list(folder.glob("*.json"))) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    inside = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(inside, timeout=10)
    assert alive == [], "workers and sandboxes end with the batch"
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert 3 <= len(kept) < 8
    assert grade(toy) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "what was done is left as it is"
    records = kept_records(toy.classroom, "toy")
    assert len(records) == 8
    assert all(scores(record) == FULL for record in records.values())
    assert len(table(toy)) == 8


def test_checks_that_end_the_worker_lose_one_submission(toy: Toy) -> None:
    checks = toy.classroom.folder / "assignments" / "toy.py"
    trap = "def scale_judge(answer, case, variant):\n    import os\n    if (answer == 13).any(): os._exit(1)\n"
    checks.write_text(checks.read_text().replace("def scale_judge(answer, case, variant):\n", trap))
    for student in ("ada", "mia", "zoe"):
        toy.hand_in(student, toy.notebook())
    toy.hand_in("bob", toy.notebook({"scale": "def scale(x): return x * 0 + 13"}))
    assert grade(toy) == 1
    rows = table(toy)
    assert "the grading process ended" in rows["bob"]["remarks"]
    assert all(float(rows[student]["score"]) == 7 for student in ("ada", "mia", "zoe"))


def test_a_judge_that_raises_costs_nobody_else(toy: Toy) -> None:
    checks = toy.classroom.folder / "assignments" / "toy.py"
    checks.write_text(checks.read_text().replace('right = variant["gain"]', 'right = 1 / 0 * variant["gain"]'))
    toy.hand_in("ada", toy.notebook())
    record = grade_batch(read_class(toy.classroom.folder), "toy", toy.submitted, progress=False).records["ada"]
    assert scores(record) == {**FULL, "scale": 0.0}
    assert any("the judge failed: ZeroDivisionError" in remark for remark in record["remarks"])


# --- what the teacher did by hand -------------------------------------------------------------------------------------


def test_marks_and_comments_by_hand_stay(toy: Toy) -> None:
    toy.hand_in("ada", toy.notebook(why="Because it scales."))
    assert grade(toy) == 0
    assert table(toy)["ada"]["waits_for_you"] == "why"
    assert "waits for your teacher" in page(toy, "ada")
    with open_gradebook(toy.classroom) as book:
        grades = book.find_grade("why", "toy", "toy", "ada")
        assert grades.needs_manual_grade
        grades.manual_score, grades.needs_manual_grade = 2.5, False
        book.find_grade("scale-check", "toy", "toy", "ada").manual_score = 3.5
        book.find_comment("why", "toy", "toy", "ada").manual_comment = "Good <b>point</b>."
        book.db.commit()
    assert grade(toy) == 0
    row = table(toy)["ada"]
    assert (row["score"], row["question why"], row["question scale"], row["waits_for_you"]) == ("9", "2.5", "3.5", "")
    assert "Good &lt;b&gt;point&lt;/b&gt;." in page(toy, "ada")
    assert "given by hand" in page(toy, "ada")

    toy.hand_in("ada", toy.notebook({"number": "number = 0"}, why="Because it scales, twice."))
    assert grade(toy) == 0
    row = table(toy)["ada"]
    assert row["question why"] == "2.5", "the earlier mark stands until the teacher looks again"
    assert row["waits_for_you"] == "why"
    assert grade(toy) == 0
    assert table(toy)["ada"]["waits_for_you"] == "why", "also after another run"
    assert row["question number"] == "0"


def test_late_days_and_extensions(toy: Toy) -> None:
    due = toy.classroom.due["toy"]
    assert due is not None
    days = {"early": -1.0, "within": 0.001, "one": 0.5, "five": 4.5, "never": 30.0, "unknown": None}
    for student, late in days.items():
        path = toy.hand_in(student, toy.notebook())
        if late is not None:
            moment = due + timedelta(days=late)
            path.with_name("timestamp.txt").write_text(f"{moment:%Y-%m-%d %H:%M:%S.%f} UTC")
    assert grade(toy) == 0
    rows = table(toy)
    assert {s: (r["days_late"], r["penalty"], r["score"]) for s, r in rows.items()} == {
        "early": ("0", "0", "7"),
        "within": ("0", "0", "7"),
        "one": ("1", "0", "7"),
        "five": ("5", "1.4", "5.6"),
        "never": ("30", "7", "0"),
        "unknown": ("0", "0", "7"),
    }
    assert "less 1.4 for 5 days late, 3 of them free." in page(toy, "five")
    assert main(["course", "extend", "toy", "never", "31", "--class", str(toy.classroom.folder)]) == 0
    assert grade(toy) == 0
    assert table(toy)["never"]["score"] == "7"
    assert grade(toy) == 0
    assert table(toy)["never"]["score"] == "7", "an extension stays"
    assert main(["course", "extend", "toy", "nobody", "1", "--class", str(toy.classroom.folder)]) == 2


@pytest.mark.parametrize(
    ("days", "free", "expected"),
    [(0, 3, (0.0, 0)), (2, 3, (0.0, 2)), (4, 3, (1.0, 3)), (7, 0, (7.0, 0)), (8, 3, (10.0, 0)), (5, 5, (0.0, 5))],
)
def test_penalty(days: int, free: int, expected: tuple[float, int]) -> None:
    assert penalty_of(Policy(), days, free, 10.0) == pytest.approx(expected)


def test_class_list_decides_who_is_who(toy: Toy) -> None:
    with_people(
        toy, "ada,Ada,Lovelace,ada@example.org,Ada Lovelace_1234_assignsubmission_file_", "zoë,Zoë,Z,,", "mia,Mia,M,,"
    )
    toy.hand_in("Ada Lovelace_1234_assignsubmission_file_", toy.notebook())
    toy.hand_in("Zoe\u0308", toy.notebook())
    toy.hand_in("stranger", toy.notebook())
    assert grade(toy) == 0
    rows = table(toy)
    assert {name: row["score"] for name, row in rows.items()} == {"ada": "7", "zoë": "7", "mia": "0"}
    assert rows["mia"]["remarks"] == "nothing handed in"
    found = find_submissions(toy.submitted, "toy", toy.classroom.people)
    assert found.strangers == ("stranger: not in the class list",)


# --- nbgrader ---------------------------------------------------------------------------------------------------------


def nbgrader(
    toy: Toy, *arguments: str, folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "nbgrader", *arguments]
    environment = {**os.environ, "PATH": path, **variables}
    where = folder or toy.classroom.folder
    return subprocess.run(command, cwd=where, capture_output=True, text=True, env=environment)


def test_nbgrader_exports_our_gradebook(toy: Toy) -> None:
    with_people(toy, "ada,Ada,Lovelace,ada@example.org,", "zoe,Zoe,Z,,")
    toy.hand_in("ada", toy.notebook())
    assert grade(toy) == 0
    done = nbgrader(toy, "export", "--to", "out.csv")
    assert done.returncode == 0, done.stderr
    with (toy.classroom.folder / "out.csv").open() as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert (rows["ada"]["score"], rows["ada"]["max_score"], rows["ada"]["last_name"]) == ("7.0", "10.0", "Lovelace")
    assert rows["zoe"]["score"] == "0.0"


def test_nbgrader_makes_the_same_release_from_our_source(toy: Toy) -> None:
    """The instructor's notebook is nbgrader's too: its own command makes the students' copy, but for the stubs."""
    assert main(["course", "release", "--class", str(toy.classroom.folder)]) == 0
    done = nbgrader(toy, "generate_assignment", "toy", "--CourseDirectory.release_directory=theirs")
    assert done.returncode == 0, done.stderr

    def compared(folder: str) -> list[tuple[str, dict[str, Any]]]:
        notebook = nbformat.read(toy.classroom.folder / folder / "toy" / "toy.ipynb", as_version=4)
        return [
            (
                re.sub(r"\n\s*raise NotImplementedError\(\)", "", cell.source),
                {name: value for name, value in cell.metadata.get("nbgrader", {}).items() if name != "checksum"},
            )
            for cell in notebook.cells
        ]

    assert compared("theirs") == compared("release")
    # It wrote into the gradebook too, and what we write goes on fitting.
    toy.hand_in("ada", toy.notebook(why="Because it scales."))
    assert grade(toy) == 0
    assert table(toy)["ada"]["score"] == "7"


def test_formgrader_finds_what_we_graded(toy: Toy) -> None:
    from nbgrader.apps.api import NbGraderAPI
    from traitlets.config import Config

    assert main(["course", "release", "--class", str(toy.classroom.folder)]) == 0
    toy.hand_in("ada", toy.notebook(why="Because it scales."))
    toy.hand_in("zoe", toy.untouched())
    assert grade(toy) == 0
    config = Config()
    config.CourseDirectory.root = str(toy.classroom.folder)
    config.CourseDirectory.db_url = toy.classroom.database
    tables = NbGraderAPI(config=config)
    assignment = tables.get_assignment("toy")
    assert (assignment["name"], assignment["max_score"], assignment["max_written_score"]) == ("toy", 10.0, 3.0)
    rows = {row["student"]: row for row in tables.get_submissions("toy")}
    assert [rows["ada"][name] for name in ("score", "code_score", "written_score")] == [7.0, 7.0, 0.0]
    assert (rows["ada"]["needs_manual_grade"], rows["zoe"]["needs_manual_grade"]) == (True, False)
    assert all(row["autograded"] for row in rows.values())
    assert (toy.classroom.folder / "autograded" / "ada" / "toy" / "toy.ipynb").is_file()


def test_nbgrader_validates_the_release(toy: Toy) -> None:
    untouched = toy.submitted.parent / "untouched.ipynb"
    untouched.write_text(json.dumps(toy.untouched()))
    solved = toy.submitted.parent / "solved.ipynb"
    solved.write_text(json.dumps(toy.notebook(why="Because it scales.")))
    done = nbgrader(toy, "validate", str(untouched), str(solved))
    first, _, second = re.sub(r"\x1b\[[\d;]*m", "", done.stdout).partition(
        "Success! Your notebook passes all the tests."
    )
    assert "Not answered yet" in first, done.stdout + done.stderr
    assert second.strip() == "", "the solved one is the second"
    assert "VALIDATION FAILED ON 4 CELL(S)" in first, done.stdout


@pytest.mark.slow
def test_nbgraders_exchange_hands_out_and_collects(toy: Toy) -> None:
    """What JupyterHub's students and teachers do: release, fetch, submit, collect; then our grade reads what was collected."""
    assert main(["course", "release", "--class", str(toy.classroom.folder)]) == 0
    exchange, home = toy.submitted.parent / "exchange", toy.submitted.parent / "home"
    exchange.mkdir(mode=0o777)
    exchange.chmod(0o777)
    home.mkdir()
    where = [f"--Exchange.root={exchange}", "--course=class"]
    who = {"JUPYTERHUB_USER": "ada", "USER": "ada"}

    def step(command: str, folder: Path, *more: str) -> None:
        done = nbgrader(toy, command, "toy", *where, *more, folder=folder, **who)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    step("release_assignment", toy.classroom.folder)
    step("fetch_assignment", home, f"--Exchange.cache={home / 'cache'}")
    (home / "toy" / "toy.ipynb").write_text(json.dumps(toy.notebook(why="Because it scales.")))
    step("submit", home, f"--Exchange.cache={home / 'cache'}")
    step("collect", toy.classroom.folder)
    toy.submitted = toy.classroom.folder / "submitted"
    (collected,) = toy.submitted.iterdir()
    assert (collected / "toy" / "timestamp.txt").is_file()
    assert grade(toy) == 0
    row = table(toy)[collected.name]
    assert (row["score"], row["waits_for_you"]) == ("7", "why")


# --- the class --------------------------------------------------------------------------------------------------------


def test_init_makes_a_class_with_a_fresh_secret(toy: Toy, tmp_path: Path) -> None:
    source = write_source(tmp_path / "own")
    one, other = (init_class(tmp_path / name, ["toy"], source=source) for name in ("one", "other"))
    assert one.secret != other.secret
    assert one.seed_key != other.seed_key
    assert stat.S_IMODE((one.folder / "secret.key").stat().st_mode) == 0o600
    assert "secret.key" in (one.folder / ".gitignore").read_text()
    assert one.variants["toy"]["gain"] in (3.0, 5.0)
    with pytest.raises(ValueError, match="new or empty folder"):
        init_class(tmp_path / "one", ["toy"], source=source)
    assert one.variant("toy", "ada")["seed"] == seed_of("Ada ", one.seed_key)
    assert one.variant("toy", "ada")["seed"] != other.variant("toy", "ada")["seed"]


def test_the_secret_is_in_no_released_file(toy: Toy) -> None:
    assert main(["course", "release", "--class", str(toy.classroom.folder)]) == 0
    text = (toy.classroom.folder / "release" / "toy" / "toy.ipynb").read_text(encoding="utf-8")
    assert toy.classroom.secret.decode() not in text
    assert toy.classroom.seed_key in text
    assert f"gain = {toy.classroom.variants['toy']['gain']}" in text
    assert f"Scale by {toy.classroom.variants['toy']['gain']}." in text
    assert "BEGIN SOLUTION" not in text
    assert "Rubric" not in text
    assert "hidden" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 'x'\n[policy]\nlate_dais = 3\n", "the policy knows"),
        ("name = \n", "cannot be read"),
        ("[[assignment]]\nname = 'nothing'\n", "no variants of 'nothing'"),
        ("[[assignment]]\nname = 'toy'\ndue = 'soon'\n", "due must be a date"),
    ],
)
def test_settings_that_are_not_accepted(toy: Toy, text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    (toy.classroom.folder / "class.toml").write_text(text)
    assert grade(toy) == 2
    assert said in capsys.readouterr().err


def test_due_dates_are_utc(toy: Toy) -> None:
    due = toy.classroom.due["toy"]
    assert due is not None
    assert due.tzinfo == UTC
    assert due > datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "..", ".hidden", "=1", "a\u202eb", "a\x00b", "x" * 101, "a\nb", "ada "]
)
def test_ids_that_are_not_accepted(name: str) -> None:
    with pytest.raises(ValueError, match="a student's id must be"):
        clean_id(name)


def test_grading_refuses_without_a_sandbox(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sciviz.coursework import sandbox

    monkeypatch.setattr(sandbox, "_no_bubblewrap", lambda: "it is not installed")
    toy.hand_in("ada", toy.notebook())
    assert grade(toy) == 2
    said = capsys.readouterr().err
    assert "needs bubblewrap" in said
    assert "with your own rights" in said
    with open_gradebook(toy.classroom) as book:
        assert book.students == []
    assert grade(toy, "--unsafe") == 0
    assert "with your own rights" in capsys.readouterr().err
    assert table(toy)["ada"]["score"] == "7"


# --- how it went ------------------------------------------------------------------------------------------------------

COPIED = """
def scale(values):
    # my own idea
    total = []
    for index, entry in enumerate(values):
        if index >= 0 and entry is not None:
            total.append(gain * entry + 0.0)
    return np.array(total)
"""
RENAMED = """
def scale(x):
    result = []
    for i, v in enumerate(x):
        if i >= 0 and v is not None:
            result.append(gain * v + 0.0)
    return np.array(result)  # mine
"""
OTHER = """
def scale(x):
    out = np.empty_like(x)
    np.multiply(x, gain, out=out)
    while out.ndim > 1: out = out.reshape(-1)
    assert out.shape == x.shape, (out.shape, x.shape)
    return out.astype(float)
"""


def test_report_names_two_that_are_alike(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    toy.hand_in("ada", toy.notebook({"scale": COPIED}))
    toy.hand_in("bob", toy.notebook({"scale": RENAMED, "number": "number = 5"}))
    toy.hand_in("mia", toy.notebook({"scale": OTHER}))
    toy.hand_in("zoe", toy.untouched())
    assert grade(toy) == 0
    capsys.readouterr()
    assert main(["course", "report", "toy", "--class", str(toy.classroom.folder)]) == 0
    said = capsys.readouterr().out
    assert re.findall(r"Look at these two: (\w+) and (\w+)", said) == [("ada", "bob")]
    assert "no proof" in said
    assert re.search(r"scale\s+4\s+3\s+4\s+25%\s+75%", said)
    assert "1 × The numbers are wrong." in said


def test_handed_out_code_makes_nobody_alike(toy: Toy) -> None:
    from sciviz.coursework.grading import handed_out

    released = handed_out(json.loads(toy.released))
    cell = {"kind": "code", "ours": False, "error": ""}
    given = "\n".join(each.source for each in released if each.role == "setup")
    records: dict[str, Any] = {name: {"cells": [{**cell, "source": given}], "questions": []} for name in ("ada", "bob")}
    assert look_alikes(records, released) == []


def test_shingles_survive_what_is_no_python() -> None:
    assert shingles("def broken(:\n  '''") != [] or shingles("a b c d e f") != []
    assert shingles("") == []


# --- sizes ------------------------------------------------------------------------------------------------------------


def hand_in_many(toy: Toy, count: int) -> None:
    """Variations: right, wrong in several ways, slow, broken, untouched."""
    kinds: list[dict[str, str] | None] = [
        {},
        {"scale": COPIED},
        {"scale": "def scale(x):\n    return x.copy()"},
        {"where": "def where(mask):\n    return np.nonzero(mask)"},
        {"number": "number = (seed + 1) % 1000"},
        {"scale": "def scale(x):\n    raise ValueError"},
        {"number": "import os\nos._exit(0)"},
        None,
    ]
    for place in range(count):
        answers = kinds[place % len(kinds)]
        book = toy.untouched() if answers is None else toy.notebook({k: f"{v}\n# {place}" for k, v in answers.items()})
        toy.hand_in(f"student-{place:03}", book)


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_a_class(toy: Toy, count: int) -> None:
    hand_in_many(toy, count)
    done = grade_batch(toy.classroom, "toy", toy.submitted, workers=2, progress=False)
    assert (done.fresh, done.failed) == (count, {})
    totals = [sum(scores(record).values()) for record in done.records.values()]
    expected = [7.0, 7.0, 3.0 + 2.5, 5.0, 6.0, 3.0, 6.0, 0.0]
    # One without the gain is right where the input is nought; the other case has a quarter.
    assert totals == [expected[place % 8] for place in range(count)]
    # What grading itself holds in memory does not grow with the class.
    assert psutil.Process().memory_info().rss < 2e9
    assert grade_batch(toy.classroom, "toy", toy.submitted, progress=False).fresh == 0
