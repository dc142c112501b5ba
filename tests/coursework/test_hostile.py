"""None of the catalogue gains a mark or leaves a trace, and everybody else in the batch is graded."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sciviz.cli import main
from sciviz.coursework.batch import kept_records
from tests.coursework import hostile
from tests.coursework.toy import FULL, Toy, messages, need_sandbox, sandboxed, scores

HONEST = ("ada", "zoe")


@dataclass
class Batch:
    toy: Toy
    scratch: Path
    records: dict
    pages: dict[str, str]
    connected: list[object]
    code: int
    said: str


@contextlib.contextmanager
def listener() -> Iterator[tuple[int, list[object]]]:
    """Servers that a submission may try to reach."""
    connected: list[object] = []
    servers = [socket.create_server(("127.0.0.1", 0))]
    with contextlib.suppress(OSError):
        servers.append(socket.socket(socket.AF_UNIX))
        # Where another batch of the catalogue runs beside this one, it has the name already.
        servers[-1].bind("\0sciviz-canary")
        servers[-1].listen()

    def serve(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connected.append(server.accept())

    for server in servers:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
    try:
        yield servers[0].getsockname()[1], connected
    finally:
        for server in servers:
            server.close()


@pytest.fixture(scope="module")
def batch(made: Toy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Batch]:
    need_sandbox()
    toy = made.fresh(tmp_path_factory.mktemp("hostile"))
    for student in HONEST:
        toy.hand_in(student, toy.notebook())
    patch = pytest.MonkeyPatch()
    patch.setenv("SCIVIZ_TEST_SECRET", hostile.CANARY)
    # All that this batch makes for a while it makes here, so that what it leaves can be told from what others do meanwhile.
    scratch = tmp_path_factory.mktemp("scratch")
    patch.setattr(tempfile, "tempdir", str(scratch))
    patch.setenv("TMPDIR", str(scratch))
    log = scratch / "said"
    with listener() as (port, connected), log.open("w") as out, contextlib.redirect_stdout(out):
        hostile.hand_in_all(toy, port)
        code = main(
            ["course", "grade", "toy", str(toy.submitted), "--class", str(toy.classroom.folder), "--workers", "2"]
        )
    patch.undo()
    yield Batch(
        toy,
        scratch,
        kept_records(toy.classroom, "toy"),
        hostile.pages(toy.classroom.folder / "feedback"),
        connected,
        code,
        log.read_text(),
    )


def test_catalogue_is_long_enough() -> None:
    assert len(hostile.FILES) >= 30


def test_all_are_graded_and_nobody_is_lost(batch: Batch) -> None:
    assert batch.code == 0, batch.said
    assert set(batch.records) == {*hostile.FILES, *HONEST}
    assert set(batch.pages) == {*hostile.FILES, *HONEST}


@pytest.mark.parametrize("student", HONEST)
def test_honest_students_keep_their_marks(batch: Batch, student: str) -> None:
    assert scores(batch.records[student]) == FULL


@pytest.mark.parametrize("name", list(hostile.FILES))
def test_gains_no_mark(batch: Batch, name: str) -> None:
    record = batch.records[name]
    assert scores(record) == dict.fromkeys(FULL, 0.0), record
    # And a reason is given for each question.
    assert record["problem"] or all(messages(record, question) for question in ("scale", "where", "number"))


@pytest.mark.parametrize("name", list(hostile.FILES))
def test_sees_nothing_that_it_should_not(batch: Batch, name: str) -> None:
    record = batch.records[name]
    errors = "\n".join(cell["error"] for cell in record["cells"])
    assert "LOOT" not in errors
    said = [case["message"] for question in record["questions"] for case in question["cases"]] + record["remarks"]
    assert "LOOT" not in "\n".join([*said, record["problem"]])
    text = hostile.as_text(record) + batch.pages[name]
    assert batch.toy.classroom.secret.decode() not in text
    for value in batch.toy.hidden_input(name):
        assert f"{value:.5f}" not in text


@pytest.mark.parametrize("name", list(hostile.FILES))
def test_pages_run_nothing(batch: Batch, name: str) -> None:
    page = batch.pages[name]
    assert page.count("Content-Security-Policy") >= 1
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    tags = {tag.lower() for tag in re.findall(r"<\s*([a-zA-Z]+)", page)}
    assert not tags & {
        "script",
        "svg",
        "img",
        "iframe",
        "object",
        "embed",
        "link",
        "form",
        "base",
        "a",
        "video",
        "math",
    }
    assert len(re.findall(r"<meta", page)) == 4, "the page's own"
    assert len(re.findall(r"<style", page)) == 1
    assert not re.search(r"<[^>]*\son\w+\s*=", page)
    assert "\u202e" not in page


def test_html_is_shown_as_text(batch: Batch) -> None:
    page = batch.pages["html-in-markdown"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7*7 }}" in page
    assert "49" not in page
    shown = (batch.toy.classroom.folder / "autograded" / "html-in-markdown" / "toy" / "toy.ipynb").read_text()
    assert '"&lt;script&gt;' in shown


def test_nothing_is_left_on_the_machine(batch: Batch) -> None:
    for place in (
        Path("/tmp"),
        Path("/var/tmp"),
        Path("/dev/shm"),
        Path.home(),
        Path("/"),
        Path("/root"),
        batch.toy.submitted,
    ):
        with contextlib.suppress(PermissionError):
            assert not (place / hostile.CANARY).exists()
            assert not (place / "letter").exists()
    for place in map(Path, [*sys.path, sys.prefix, sys.base_prefix]):
        assert not (place / hostile.CANARY).exists()
    assert sandboxed(batch.scratch) == []
    assert [path.name for path in batch.scratch.iterdir()] == ["said"], "the shared files are removed"


def test_nothing_went_out(batch: Batch) -> None:
    assert batch.connected == []


def test_names_that_deceive_are_told_and_not_graded(batch: Batch) -> None:
    assert batch.said.count("not graded:") == len(hostile.STRANGE_NAMES)
    assert "\\u202e" in batch.said
    assert "\u202e" not in batch.said
    assert "second submission of ada" in batch.said


def test_table_runs_no_formula(batch: Batch) -> None:
    table = (batch.toy.classroom.folder / "grades-toy.csv").read_text(encoding="utf-8")
    cells = [cell.strip('"') for line in table.splitlines() for cell in line.split(",")]
    assert [cell for cell in cells if cell[:1] in ("=", "+", "@")] == []


def test_reasons_teach(batch: Batch) -> None:
    assert "not there while this is graded" in messages(batch.records["librarys-own-answer"], "where")[0]
    assert "took longer than its 2 seconds" in str(batch.records["endless-cell"]["cells"])
    assert (
        "too large" in str(batch.records["two-hundred-megabytes"]["problem"])
        or "MB" in batch.records["two-hundred-megabytes"]["problem"]
    )
    assert batch.records["link-to-a-file"]["problem"] == "It is a link to another place."
    assert batch.records["broken-json"]["problem"].startswith("The notebook cannot be read")


def test_ids_come_from_the_folder(batch: Batch) -> None:
    assert any("gives the id 'ada'" in remark for remark in batch.records["claims-another-id"]["remarks"])
