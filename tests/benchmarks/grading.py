"""Submissions a minute, beside nbgrader's own autograder on the same notebooks, same machine, in turns.

`python tests/benchmarks/grading.py [PART…] [--rounds 3] [--count 20]` writes results/grading.json and prints the table.
Two assignments: the tests' small one, whose answers cost nothing, so that it shows what grading itself costs, and one of the
course.
nbgrader runs the visible checks in a kernel with the teacher's rights; ours runs the hidden ones in the sandbox as well.

Then a class of the stated size is graded on two cores, killed half-way and begun again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from sciviz.coursework.batch import kept_records  # noqa: E402
from sciviz.coursework.classroom import init_class  # noqa: E402
from sciviz.coursework.release import released_text  # noqa: E402
from sciviz.coursework.source import assignments_dir  # noqa: E402
from sciviz.coursework.trial import solved  # noqa: E402
from tests.coursework.toy import write_source  # noqa: E402

ENVIRONMENT = {
    **os.environ,
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "PYTHONPATH": str(ROOT),
}
# How many of eight students hand in the solution, an untouched copy; the others make one of the catalogued mistakes.
RIGHT, UNTOUCHED = 4, 1


class Course:
    """A class of ours and a course of nbgrader's with the same submissions."""

    def __init__(self, folder: Path, name: str, source: Path, count: int) -> None:
        self.name = name
        self.classroom = init_class(folder / "ours", [name], source=source)
        self.submitted = folder / "submitted"
        assignment = self.classroom.assignment(name)
        released = released_text(assignment, self.classroom.variant(name), self.classroom.seed_key)
        mistakes: Iterator[tuple[str, str]] = iter(
            [
                (question, wrong.source)
                for question, asked in assignment.checks.questions.items()
                for wrong in asked.wrong
                if not any(word in wrong.source for word in ("os._exit", "while True"))
            ]
            * count
        )
        for place in range(count):
            text = solved(assignment, released)
            if place % 8 == RIGHT:
                text = released
            elif place % 8 > RIGHT:
                text = solved(assignment, released, dict([next(mistakes)]))
            # No two files are alike, so that nothing is kept by its content.
            notebook = json.loads(text)
            notebook["cells"][0]["source"] = f"Student {place}"
            path = self.submitted / f"student-{place:03}" / name / f"{name}.ipynb"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(notebook), encoding="utf-8")
        self.theirs = folder / "theirs"
        inside = self.theirs / "source" / name
        inside.mkdir(parents=True)
        shutil.copyfile(source / f"{name}.ipynb", inside / f"{name}.ipynb")
        shutil.copytree(self.submitted, self.theirs / "submitted")
        (self.theirs / "nbgrader_config.py").write_text("c = get_config()\nc.ExecutePreprocessor.timeout = 60\n")
        run([sys.executable, "-m", "nbgrader", "generate_assignment", name], self.theirs)

    def ours(self, workers: int) -> dict[str, float]:
        """Grade all afresh."""
        shutil.rmtree(self.classroom.folder / "results", ignore_errors=True)
        return run(self.command(workers), self.classroom.folder)

    def command(self, workers: int) -> list[str]:
        """Return the command that grades all."""
        grade = ["course", "grade", self.name, str(self.submitted), "--workers", str(workers)]
        return [sys.executable, "-m", "sciviz.cli", *grade]

    def nbgrader(self) -> dict[str, float]:
        """Let nbgrader grade all afresh."""
        return run([sys.executable, "-m", "nbgrader", "autograde", self.name, "--force"], self.theirs)


def run(command: list[str], folder: Path) -> dict[str, float]:
    """Run a command to its end; return its wall time and the most memory that it and all that it started held at once."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    peak, done = [0.0], threading.Event()
    watch = threading.Thread(target=_watch, args=(process.pid, peak, done))
    watch.start()
    said = process.communicate()[0].decode(errors="replace")
    wall = time.perf_counter() - began
    done.set()
    watch.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{said[-3000:]}")
    return {"seconds": wall, "peak_mb": peak[0]}


def _watch(pid: int, peak: list[float], done: threading.Event) -> None:
    while not done.wait(0.25):
        total = 0.0
        try:
            processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except psutil.Error:
            continue
        for process in processes:
            try:
                memory = process.memory_info()
            except psutil.Error:
                continue
            # Pages that processes share would count once for each.
            total += memory.rss - memory.shared
        peak[0] = max(peak[0], total / 2**20)


def side_by_side(name: str, source: Path, count: int, rounds: int) -> dict[str, Any]:
    """Grade the same submissions in all ways, in turns."""
    with tempfile.TemporaryDirectory() as scratch:
        course = Course(Path(scratch), name, source, count)
        ways = {
            "sciviz, 2 workers": lambda: course.ours(2),
            "sciviz, 1 worker": lambda: course.ours(1),
            "nbgrader autograde": course.nbgrader,
        }
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        loads = []
        for number in range(rounds):
            for way in [*list(ways)[number % 3 :], *list(ways)[: number % 3]]:
                loads.append(round(os.getloadavg()[0], 1))
                found[way].append(ways[way]())
                print(
                    f"{name}, round {number + 1}: {way}: {found[way][-1]['seconds']:.1f} s", file=sys.stderr, flush=True
                )
    theirs = [row["seconds"] for row in found["nbgrader autograde"]]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "submissions": count,
        "load_before_each": loads,
        "ways": {
            way: {
                "seconds": [round(row["seconds"], 2) for row in rows],
                "submissions_per_minute": round(60 * count / statistics.median(row["seconds"] for row in rows), 1),
                "times_as_fast_as_nbgrader": [
                    round(t / row["seconds"], 2) for t, row in zip(theirs, rows, strict=True)
                ],
                "peak_mb": round(max(row["peak_mb"] for row in rows)),
            }
            for way, rows in found.items()
        },
    }


def whole_class(count: int) -> dict[str, Any]:
    """Grade a class on two cores, killed half-way; nobody is graded twice."""
    with tempfile.TemporaryDirectory() as scratch:
        source = write_source(Path(scratch) / "source")
        course = Course(Path(scratch), "toy", source, count)
        results = course.classroom.folder / "results" / "toy"
        load, began = os.getloadavg()[0], time.perf_counter()
        process = subprocess.Popen(
            course.command(2),
            cwd=course.classroom.folder,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while len(list(results.glob("*.json"))) < count // 2 and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = time.perf_counter() - began
        kept = {path.name: path.stat().st_mtime_ns for path in results.glob("*.json")}
        after = run(course.command(2), course.classroom.folder)
        twice = [name for name, moment in kept.items() if (results / name).stat().st_mtime_ns != moment]
        again = run(course.command(2), course.classroom.folder)
        records = kept_records(course.classroom, "toy")
        reports = [record for record in records.values() if record["problem"]]
        return {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "submissions": count,
            "kept_when_killed": len(kept),
            "graded_twice": len(twice),
            "graded_in_all": len(records),
            "without_a_grade": len(reports),
            "seconds_until_killed": round(before, 1),
            "seconds_to_resume": round(after["seconds"], 1),
            "submissions_per_minute": round(60 * count / (before + after["seconds"])),
            "seconds_when_nothing_is_new": round(again["seconds"], 1),
            "peak_mb": round(after["peak_mb"]),
            "load_before": round(load, 1),
        }


def shown(found: dict[str, Any]) -> str:
    """Return the record as a table."""
    lines = []
    for name, row in found["assignments"].items():
        lines.append(
            f"{name}, {row['submissions']} submissions       a minute   as fast as nbgrader, by round     memory"
        )
        for way, numbers in row["ways"].items():
            ratios = ", ".join(f"{ratio:.2f}x" for ratio in numbers["times_as_fast_as_nbgrader"])
            lines.append(
                f"  {way:<28} {numbers['submissions_per_minute']:>8}   {ratios:<30} {numbers['peak_mb']:>5} MB"
            )
    if row := found.get("class"):
        lines += [
            f"{row['submissions']} on two cores, killed after {row['kept_when_killed']}, {row['graded_twice']} graded twice:",
            f"  {row['submissions_per_minute']} a minute, {row['peak_mb']} MB; "
            f"again, nothing new: {row['seconds_when_nothing_is_new']} s",
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print and keep the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", default=["toy", "course", "class"], help="toy, course, class (default: all)"
    )
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--class-size", type=int, default=300)
    parser.add_argument("--assignment", default="ntk", help="of the course")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "grading.json")
    options = parser.parse_args()
    # Parts that are not measured now stay as they were.
    found: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {"assignments": {}}
    found |= {
        "processor": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {name: version(name) for name in ("nbgrader", "torch", "numpy")},
    }
    if "toy" in options.parts:
        with tempfile.TemporaryDirectory() as scratch:
            source = write_source(Path(scratch))
            found["assignments"]["toy"] = side_by_side("toy", source, options.count, options.rounds)
    if "course" in options.parts:
        row = side_by_side(options.assignment, assignments_dir(), options.count, options.rounds)
        found["assignments"][options.assignment] = row
    if "class" in options.parts:
        found["class"] = whole_class(options.class_size)
    print(shown(found))
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
