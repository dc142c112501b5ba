"""The command: 0 done, 1 a run or a claim failed, 2 not understood; a message is one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

import sciviz
from sciviz import cli
from sciviz.lab import places
from sciviz.lab.claims import make_claim
from sciviz.reports import verification
from sciviz.reports.runner import Failure
from tests.notebooks import toys

GOOD = make_claim("toy-line/slope", says="s", criterion="c", measured=1.0, holds=True)
SURPRISING = make_claim("toy-line/end", says="s", criterion="c", measured=1.0, holds=False)
FAILURE = Failure("Where it breaks", "1 / 0", "ZeroDivisionError: division by zero", "")


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `report` is called with; `claims` and `failure` say how it went."""
    seen: dict[str, Any] = {"claims": [GOOD], "failure": None}

    def report(tutorial: str, parameters: dict[str, str], *, out: str) -> Any:
        seen.update(tutorial=tutorial, parameters=parameters, out=out)
        return SimpleNamespace(folder=Path(out), claims=seen["claims"], failure=seen["failure"], seconds=3.2)

    monkeypatch.setattr("sciviz.reports.runner.report", report)
    return seen


def test_report(toy: Path, reported: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["report", str(toy), "-p", "points", "5", "-p", "steep", "-0.5", "--profile", "full", "-o", "there"]
    assert cli.main(command) == 0
    assert reported["parameters"] == {"points": "5", "steep": "-0.5", "profile": "full"}
    assert reported["out"] == "there"
    assert capsys.readouterr().out == f"{Path('there') / 'report.html'}: 1 claim, 3 s\n"


def test_report_has_a_folder_of_its_own(toy: Path, reported: dict[str, Any]) -> None:
    assert cli.main(["report", str(toy)]) == 0
    assert reported["out"] == "report-toy"


def test_report_tells_what_surprised(toy: Path, reported: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    reported["claims"] = [GOOD, SURPRISING]
    assert cli.main(["report", str(toy)]) == 0
    said = capsys.readouterr().out
    assert "unlike what the course expects: ✗ toy-line/end" in said and "toy-line/slope" not in said


def test_report_that_stopped(toy: Path, reported: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    reported["failure"] = FAILURE
    assert cli.main(["report", str(toy)]) == 1
    assert capsys.readouterr().err == "sciviz: stopped in “Where it breaks”: ZeroDivisionError: division by zero\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["report"], "report needs a tutorial"),
        (["report", "nothing"], "tutorial must be"),
        (["report", "none.ipynb"], "where there is no file"),
        (["report", "TOY", "-p", "seed", "1", "-p", "seed", "2"], "parameter seed is given twice"),
        (["report", "TOY", "-p", "profile", "quick", "--profile", "full"], "parameter profile is given twice"),
        (["report", "TOY", "-p", "pionts", "5"], "there is no parameter 'pionts'; the nearest are points"),
        (["report", "TOY", "-p", "points", "many"], "parameter points takes an integer from 2 to 100, got 'many'"),
        (["report", "TOY", "-o", "TOY"], "out must be a new folder"),
        (["report", "BROKEN", "--parameters"], "is not a notebook that can be read"),
        (["report", "BROKEN"], "is not a notebook that can be read"),
        (["verify", "nothing"], "tutorial must be"),
    ],
)
def test_not_understood_is_one_line(
    command: list[str],
    words: str,
    toy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.ipynb").write_text("not json")
    given = [{"TOY": str(toy), "BROKEN": "broken.ipynb"}.get(word, word) for word in command]
    assert cli.main(given) == 2
    said = capsys.readouterr()
    assert words in said.err and said.err.startswith("sciviz: ") and said.err.count("\n") == 1
    assert said.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["broken.ipynb"]


@pytest.mark.parametrize(
    "command", [[], ["repotr"], ["report", "1", "--profile", "fast"], ["report", "1", "-p", "seed"]]
)
def test_what_argparse_refuses(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(command)
    assert caught.value.code == 2
    assert "usage: sciviz" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--help", "-h", "--parameters"])
def test_help_of_a_tutorial_lists_its_parameters(toy: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(toy), flag]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "type", "default", "meaning"]
    assert "points on the line; an integer from 2 to 100" in lines[4]


def test_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    toys.write(toys.good(), tmp_path / "01_toy.ipynb")
    bare = toys.good()
    bare.metadata = nbformat.from_dict({})
    toys.write(bare, tmp_path / "02_bare.ipynb")
    monkeypatch.setattr(places, "tutorials_dir", lambda: tmp_path)
    assert cli.main(["report", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["1", "01_toy", "20", "s", "700", "MB"]
    assert lines[1].split() == ["2", "02_bare"]


@pytest.mark.parametrize(
    ("claims", "failure", "code"), [([GOOD], None, 0), ([GOOD, SURPRISING], None, 1), ([], FAILURE, 1)]
)
def test_verify(
    claims: list[Any], failure: Any, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    def verify(names: list[str], **options: Any) -> list[Any]:
        seen.update(names=names, **options)
        return [(SimpleNamespace(stem="01_toy"), SimpleNamespace(claims=claims, failure=failure, seconds=1.0))]

    monkeypatch.setattr(verification, "verify", verify)
    assert cli.main(["verify", "1", "--profile", "full", "--no-write", "--seed", "3"]) == code
    assert (seen["names"], seen["profile"], seen["write"], seen["seed"]) == (["1"], "full", False, 3)
    said = capsys.readouterr().out
    assert all(claim._text() in said for claim in claims)
    assert ("stopped in “Where it breaks”" in said) == (failure is not None)


def test_stopped_by_hand(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(verification, "verify", stop)
    assert cli.main(["verify"]) == 130
    assert capsys.readouterr().err == "sciviz: stopped.\n"


def test_the_command_itself(toy: Path, tmp_path: Path) -> None:
    def command(*words: str) -> Any:
        return subprocess.run(
            [sys.executable, "-m", "sciviz.cli", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )

    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"sciviz {sciviz.__version__}\n")
    done = command("report", str(toy), "-p", "steep", "99")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr == "sciviz: parameter steep takes a number from 0.1 to 10, got '99'.\n"
