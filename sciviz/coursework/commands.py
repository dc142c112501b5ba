"""The command `sciviz course`."""

from __future__ import annotations

import argparse
import sys
from datetime import date
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add `course` and its own commands to the command `sciviz`."""
    course = commands.add_parser(
        "course",
        help="hand out assignments and grade what comes back",
        description="For the teacher: make a class, release assignments, grade submissions, look at how it went. "
        'Needs  pip install "sciviz[coursework]"  and, for grading, bubblewrap.',
    )
    inner = course.add_subparsers(required=True, metavar="COMMAND")

    init = inner.add_parser("init", help="make a class of your own", description="Make a class in a new folder.")
    init.add_argument("folder", metavar="DIR")
    init.add_argument("assignments", nargs="*", metavar="ASSIGNMENT", help="which of the course's (default: all)")
    init.add_argument("--name", default="", help="of the class (default: the folder's)")
    init.add_argument(
        "--start", type=date.fromisoformat, metavar="DATE", help="of the first assignment (default: today)"
    )
    init.add_argument("--from", dest="source", metavar="DIR", help="a folder of assignments of your own")
    init.set_defaults(run=_init)

    release = inner.add_parser(
        "release",
        help="make the students' copies",
        description="Make the students' copies of assignments, with your class's constants. Outside a class: the practice copies.",
    )
    release.add_argument("assignments", nargs="*", metavar="ASSIGNMENT", help="default: all")
    release.add_argument("--class", dest="folder", default=".", metavar="DIR", help="your class (default: this folder)")
    release.add_argument(
        "-o", "--out", metavar="DIR", help="where to (default: release/ in the class, or in the course)"
    )
    release.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a copy is not up to date")
    release.set_defaults(run=_release)

    grade = inner.add_parser(
        "grade",
        help="grade a folder of submissions",
        description="Grade a folder of submissions (STUDENT/NOTEBOOK.ipynb, or STUDENT.ipynb) into the class's gradebook, a CSV "
        "and pages of feedback. What is graded already is kept; marks, comments and extensions given by hand stay.",
    )
    grade.add_argument("assignment")
    grade.add_argument("submissions", metavar="SUBMISSIONS_DIR")
    grade.add_argument("--class", dest="folder", default=".", metavar="DIR", help="your class (default: this folder)")
    grade.add_argument("--workers", type=int, metavar="N", help="how many at a time (default: this machine's cores)")
    grade.add_argument(
        "--unsafe", action="store_true", help="run the students' code without a sandbox, with your own rights"
    )
    grade.set_defaults(run=_grade)

    report = inner.add_parser(
        "report",
        help="show how an assignment went",
        description="Show how each question went, what was said most often, and pairs of submissions to look at; "
        "also as a page, report/ASSIGNMENT.html in the class.",
    )
    report.add_argument("assignment")
    report.add_argument("--class", dest="folder", default=".", metavar="DIR", help="your class (default: this folder)")
    report.add_argument(
        "--least", type=float, default=0.8, metavar="LIKENESS", help="from which a pair is named (default: 0.8)"
    )
    report.set_defaults(run=_report)

    extend = inner.add_parser("extend", help="give a student more time", description="Give a student more time.")
    extend.add_argument("assignment")
    extend.add_argument("student")
    extend.add_argument("days", type=float)
    extend.add_argument("--class", dest="folder", default=".", metavar="DIR", help="your class (default: this folder)")
    extend.set_defaults(run=_extend)

    check = inner.add_parser(
        "check",
        help="try an assignment that you write",
        description="Try an assignment: its solution, the untouched copy and every catalogued mistake, in the sandbox.",
    )
    check.add_argument("assignments", nargs="*", metavar="ASSIGNMENT", help="default: all")
    check.add_argument("--folder", metavar="DIR", help="where they lie (default: the course's own)")
    check.add_argument("--fix", action="store_true", help="fill in nbgrader's metadata first")
    check.add_argument(
        "--draws", type=int, default=1, metavar="N", help="graded variants to try besides the practice one"
    )
    check.add_argument("--unsafe", action="store_true", help="without a sandbox")
    check.set_defaults(run=_check)


def _init(options: argparse.Namespace) -> int:
    from sciviz.coursework.classroom import init_class

    made = init_class(
        Path(options.folder),
        options.assignments,
        title=options.name,
        start=options.start,
        source=Path(options.source) if options.source else None,
    )
    print(f"{made.folder}: a class with {', '.join(made.variants)}")
    print("  class.toml    dates, policy, database: edit them")
    print("  students.csv  your class list: fill it in")
    print(
        "  secret.key    what hidden inputs are drawn from: keep a copy, show it to nobody (.gitignore leaves it out)"
    )
    print("Next:  cd there,  sciviz course release")
    return 0


def _release(options: argparse.Namespace) -> int:
    from sciviz.coursework.classroom import read_class
    from sciviz.coursework.release import release, released_text, write_source
    from sciviz.coursework.source import assignment_names, read_assignment
    from sciviz.lab.places import course_dir

    folder = Path(options.folder)
    in_class = (folder / "class.toml").is_file()
    stale = []
    if not in_class and options.folder != ".":
        read_class(folder)
    classroom = read_class(folder) if in_class else None
    target = Path(options.out) if options.out else (classroom.folder if classroom else course_dir()) / "release"
    for name in options.assignments or (list(classroom.variants) if classroom else assignment_names()):
        assignment = classroom.assignment(name) if classroom else read_assignment(name)
        variant = classroom.variant(name) if classroom else None
        key = classroom.seed_key if classroom else "practice"
        path = target / name / f"{name}.ipynb"
        if options.check:
            text = released_text(assignment, variant, key)
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
                print(f"{path} differs from what its source gives")
        else:
            print(release(assignment, target, variant, key))
            if classroom is not None and variant is not None:
                write_source(assignment, classroom.folder / "source", variant, key)
    return int(bool(stale))


def _grade(options: argparse.Namespace) -> int:
    import json

    from sciviz.coursework.batch import grade_batch, write_csv
    from sciviz.coursework.classroom import read_class
    from sciviz.coursework.feedback import write_feedback
    from sciviz.coursework.gradebook import record, write_autograded
    from sciviz.coursework.grading import handed_out
    from sciviz.coursework.release import released_text
    from sciviz.coursework.sandbox import UNSAFE

    if options.workers is not None and options.workers < 1:
        raise ValueError(f"workers must be at least 1, got {options.workers}.")
    if options.unsafe:
        print(f"sciviz: {UNSAFE}", file=sys.stderr)
    classroom = read_class(Path(options.folder))
    name = options.assignment
    done = grade_batch(classroom, name, Path(options.submissions), workers=options.workers, unsafe=options.unsafe)
    assignment = classroom.assignment(name)
    text = released_text(assignment, classroom.variant(name), classroom.seed_key)
    released = handed_out(json.loads(text))
    marks = record(classroom, assignment, released, done.records)
    rows = []
    total = sum(asked.points for asked in assignment.questions)
    for student, found in done.records.items():
        own = marks[student]
        write_feedback(classroom.folder / "feedback", assignment, found, own)
        write_autograded(classroom.folder / "autograded", name, text, found)
        rows.append(
            {
                "student": student,
                "assignment": name,
                "score": own.final,
                "max_score": total,
                "without_penalty": own.score,
                "days_late": own.days_late,
                "penalty": own.penalty,
                **{f"question {asked}": score for asked, score in own.scores.items()},
                "waits_for_you": " ".join(own.waiting),
                "remarks": "; ".join([*filter(None, [found["problem"]]), *found["remarks"]]),
            }
        )
    without = [
        person.id for person in classroom.people if person.id not in done.records and person.id not in done.failed
    ]
    rows += [
        {"student": student, "assignment": name, "score": 0.0, "max_score": total, "remarks": "nothing handed in"}
        for student in without
    ]
    rows += [
        {"student": student, "assignment": name, "max_score": total, "remarks": f"not graded: {why}"}
        for student, why in done.failed.items()
    ]
    columns = ["student", "assignment", "score", "max_score", "without_penalty", "days_late", "penalty"]
    columns += [f"question {asked.id}" for asked in assignment.questions] + ["waits_for_you", "remarks"]
    table = classroom.folder / f"grades-{name}.csv"
    write_csv(table, rows, columns)
    kept = len(done.records) - done.fresh
    print(f"{name}: {len(done.records)} submissions, {done.fresh} graded now, {kept} as before, {done.seconds:.0f} s")
    waiting = sum(bool(own.waiting) for own in marks.values())
    if waiting:
        print(
            f"  {waiting} have answers that wait for you: nbgrader's formgrader shows them, and the next `grade` takes your marks"
        )
    for line in done.strangers:
        print(f"  not graded: {line}")
    for student, why in done.failed.items():
        print(f"  not graded: {student}: {why}")
    print(f"  {table}\n  {classroom.folder / 'feedback'}")
    return int(bool(done.failed))


def _report(options: argparse.Namespace) -> int:
    import json

    from sciviz.coursework.batch import kept_records
    from sciviz.coursework.classroom import read_class
    from sciviz.coursework.gradebook import current_scores, waiting_for_teacher
    from sciviz.coursework.grading import handed_out
    from sciviz.coursework.overview import (
        common_messages,
        distribution,
        distribution_text,
        look_alikes,
        overview_page,
    )
    from sciviz.coursework.release import released_text

    classroom = read_class(Path(options.folder))
    assignment = classroom.assignment(options.assignment)
    records = kept_records(classroom, assignment.name)
    if not records:
        raise ValueError(f"nothing of {assignment.name} has been graded yet.")
    print(f"{assignment.title}: {len(records)} submissions\n")
    scores = current_scores(classroom, assignment, records)
    print(distribution_text(distribution(assignment, scores)))
    for question, said in common_messages(records).items():
        print(f"\n{question}, said most often:")
        for text, count in said:
            print(f"  {count:>4} × {text}")
    released = handed_out(json.loads(released_text(assignment, classroom.variant(assignment.name), classroom.seed_key)))
    pairs = look_alikes(records, released, least=options.least)
    print()
    for pair in pairs:
        print(
            f"Look at these two: {pair.one} and {pair.other} (likeness {pair.likeness:.2f}; usual here {pair.usual:.2f})"
        )
    if not pairs:
        print("No two submissions are alike enough to be named.")
    else:
        print(
            "Likeness is no proof: short answers to one question are alike by themselves, and partners may have been allowed."
        )
    waiting = waiting_for_teacher(classroom, assignment, records)
    missing = sum(person.id not in records for person in classroom.people)
    path = classroom.folder / "report" / f"{assignment.name}.html"
    path.parent.mkdir(exist_ok=True)
    page = overview_page(assignment, classroom.name, records, scores, pairs, missing=missing, waiting=waiting)
    part = path.with_name(f".{path.name}.part")
    part.write_text(page, encoding="utf-8")
    part.replace(path)
    print(f"\n{path}")
    return 0


def _extend(options: argparse.Namespace) -> int:
    from sciviz.coursework.classroom import read_class
    from sciviz.coursework.gradebook import extend
    from sciviz.coursework.release import need_nbgrader

    need_nbgrader()
    due = extend(read_class(Path(options.folder)), options.assignment, options.student, options.days)
    print(f"{options.assignment} is due for {options.student} on {due:%Y-%m-%d %H:%M} UTC." if due else "Noted.")
    return 0


def _check(options: argparse.Namespace) -> int:
    from sciviz.coursework.source import assignment_names, read_assignment
    from sciviz.coursework.trial import try_assignment

    folder = Path(options.folder) if options.folder else None
    failed = 0
    for name in options.assignments or assignment_names(folder):
        assignment = read_assignment(name, folder, fix=options.fix)
        points = sum(asked.points for asked in assignment.questions)
        print(f"{name}: {len(assignment.questions)} questions, {points:g} points")
        for trial in try_assignment(assignment, draws=options.draws, unsafe=options.unsafe):
            failed += bool(trial.problem)
            mark = "✗" if trial.problem else "✓"
            print(f"  {mark} {trial.variant}, {trial.name}{f': {trial.problem}' if trial.problem else ''}", flush=True)
    return int(bool(failed))
