"""Sweeps with real processes on this machine: what is kept, what is run again, and what is said."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from sciviz.reports import open_sweep
from sciviz.reports.points import read_point
from tests.reports import light


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    made = tmp_path / "marks"
    made.mkdir()
    return made


def kept(out: Path) -> list[Path]:
    return sorted((out / "points").glob("[0-9a-f]*.zip"))


def test_killed_at_any_moment_it_goes_on_with_what_is_missing(tmp_path: Path, marks: Path) -> None:
    """One sweep: stopped by Ctrl-C, killed with SIGKILL, finished, damaged, grown. No point runs more often than it must."""
    path = light.notebook(
        tmp_path / "light.ipynb",
        "mark('width', width)\nif width >= 8: wait_for('go')",
        "claim(double=2.0 * width + seed)",
    )
    out = tmp_path / "out"
    words: list[Any] = ["sweep", path, "--grid", "width=1,2,8", "-p", "marks_folder", marks, "-o", out]
    words += ["--workers", 2, "--cold"]

    # The longest is taken first, and waits; the other worker does the rest.
    process = light.command(tmp_path, *words)
    try:
        (waiting,) = light.until(lambda: light.marked(marks, "width-8"), "the long point to start")
        light.until(lambda: len(kept(out)) == 2, "the short points to be kept")
        # A second process on the same directory is refused, and breaks nothing.
        code, _, said = light.run(tmp_path, *words)
        assert code == 2 and re.search(rf"in use by process {process.pid} on ", said) and said.count("\n") == 1
        started = light.descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=light.SECONDS)
        assert process.returncode == 130
        assert "run the same command again to go on" in said and "Traceback" not in said, said
        light.until(lambda: light.gone(waiting), "the kernel to end", 15)
        light.until(lambda: all(light.gone(each.pid) for each in started), "the workers to end", 15)
    finally:
        light.end(process)
    first = {path.name: path.read_bytes() for path in kept(out)}
    assert len(first) == 2

    process = light.command(tmp_path, *words)
    try:
        light.until(lambda: len(light.marked(marks, "width-8")) == 2, "the long point to start again")
        waiting, started = light.marked(marks, "width-8")[-1], light.descendants(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        light.until(lambda: light.gone(waiting), "the kernel to end", 30)
        light.until(lambda: all(light.gone(each.pid) for each in started), "the workers to end", 30)
    finally:
        light.end(process)
    assert {path.name: path.read_bytes() for path in kept(out)} == first

    (marks / "go").touch()
    code, said, _ = light.run(tmp_path, *words)
    assert code == 0 and "3 points, 1 of them run now" in said, said
    assert [len(light.marked(marks, f"width-{width}")) for width in (1, 2, 8)] == [1, 1, 3]
    with open_sweep(out) as tree:
        assert tree["light.number.double"].values.tolist() == [2.0, 4.0, 16.0]

    # Two results are damaged: they, and only they, run again. A file left by a crash is cleared away.
    one, two, three = kept(out)
    one.write_bytes(one.read_bytes()[:-50])
    content = bytearray(two.read_bytes())
    content[60] ^= 0xFF
    two.write_bytes(content)
    whole = three.read_bytes()
    (out / "points" / ".0123.zip.new").write_bytes(b"half")
    code, said, _ = light.run(tmp_path, *words)
    assert code == 0 and "3 points, 2 of them run now" in said, said
    assert three.read_bytes() == whole and all(read_point(each, verify=True) for each in (one, two))
    assert not list((out / "points").glob(".*"))

    # A longer axis runs what is new. Nothing to do starts no cluster.
    grown = ["width=1,2,8,9" if word == "width=1,2,8" else word for word in words]
    code, said, _ = light.run(tmp_path, *grown)
    assert code == 0 and "4 points, 1 of them run now" in said, said
    code, said, _ = light.run(tmp_path, *grown, env={"DASK_DISTRIBUTED__WORKER__PRELOAD": "no.such.module"})
    assert code == 0 and "4 points, 0 of them run now" in said, said
    assert "4 points: 4 done" in (out / "sweep.html").read_text()


TROUBLE = """
mark('text', text)
healed = (marks / 'healed').exists()
if text == 'hangs' and not healed:
    while True: pass
if text == 'grows' and not healed:
    held = []
    while True: held.append(np.ones(4_000_000))
if text == 'waits' and not healed: wait_for('never')
if text == 'raises' and not healed: raise ValueError('no <b>good</b>')
if text == 'exits' and not healed: os._exit(3)
if text == 'escapes': (pathlib.Path('..') / 'escaped.txt').write_text('outside')
"""


def test_a_point_in_trouble_does_not_stop_the_others(tmp_path: Path, marks: Path) -> None:
    path = light.notebook(tmp_path / "light.ipynb", "claim(before=1.0)", TROUBLE, "claim(length=float(len(text)))")
    out = tmp_path / "out"
    limits = ["--time-limit", max(12, light.SECONDS / 10), "--memory-limit", 900]
    texts = "text=fine,hangs,grows,waits,raises,exits,escapes"
    words: list[Any] = [
        "sweep",
        path,
        "--grid",
        texts,
        "-p",
        "marks_folder",
        marks,
        "-o",
        out,
        "--workers",
        2,
        "--cold",
    ]
    process = light.command(tmp_path, *words, *limits)
    try:
        (kernel,) = light.until(lambda: light.marked(marks, "text-waits"), "the waiting point to start")
        os.kill(kernel, signal.SIGKILL)
        said, wrong = process.communicate(timeout=2 * light.SECONDS)
    finally:
        light.end(process)
    assert process.returncode == 1, wrong
    lines = {re.search(r"text = '(\w+)'", line)[1]: line for line in said.splitlines() if "  failed: " in line}
    assert set(lines) == {"hangs", "grows", "waits", "raises", "exits"}
    assert all("cell 4 (“Part 2”)" in line for line in lines.values())
    assert "took longer than its limit" in lines["hangs"]
    assert "of memory, more than its limit of 900 MB" in lines["grows"]
    assert "was killed (SIGKILL)" in lines["waits"] and "ran out of memory" in lines["waits"]
    assert "ValueError: no <b>good</b>" in lines["raises"] and "exit status 3" in lines["exits"]
    assert "--retry" in said
    page = (out / "sweep.html").read_text()
    assert "7 points: 2 done, 5 failed" in page and "no &lt;b&gt;good&lt;/b&gt;" in page
    with open_sweep(out) as tree:
        assert (
            tree["status"].sel(text="grows").item() == "failed" and "Part 2" in tree["error"].sel(text="hangs").item()
        )
        assert tree["light.number.length"].sel(text="fine") == 4
    # The notebook of each lies there, up to where it stopped.
    failed = [json.loads(path.read_text()) for path in (out / "failed").glob("*.ipynb")]
    assert len(failed) == 5 and all("claim(before" in json.dumps(each) for each in failed)
    # What one wrote outside its folder is nowhere to be found.
    assert not list(tmp_path.rglob("escaped.txt"))
    assert {entry.name for entry in out.iterdir()} == {
        *("sweep.json", "notebook.ipynb", "points", "failed", "results.zarr", "sweep.html", ".lock")
    }

    # Without --retry nothing is run; with it, just those.
    (marks / "healed").touch()
    code, said, _ = light.run(tmp_path, *words)
    assert code == 1 and "7 points, 0 of them run now" in said
    code, said, wrong = light.run(tmp_path, *words, "--retry")
    assert code == 0 and "7 points, 5 of them run now" in said, said + wrong
    assert len(light.marked(marks, "text-fine")) == 1 and len(light.marked(marks, "text-raises")) == 2
    assert not list((out / "failed").glob("*"))


def test_values_of_any_kind_arrive_as_they_are(tmp_path: Path, marks: Path) -> None:
    texts = ["", 'it\'s "q"', "two\nlines\ttab", "naïve ∑ 🎈", "../../up", "{braces} $HOME %s \\n", "a,b", "'''"]
    path = light.notebook(
        tmp_path / "light.ipynb",
        "pathlib.Path('..', f'{text[:2]}.txt').write_text('x') if '/' not in text[:2] else None",
        "claim(length=float(len(text)), sum=float(sum(map(ord, text))), same=float(text in json.loads(texts)))",
        parameters='texts: str = "[]"  # all of them\n',
    )
    before = {entry.name for entry in tmp_path.iterdir()}
    words = ["sweep", path, "--grid", f"text={texts!r}", "-p", "texts", json.dumps(texts), "-p", "marks_folder", marks]
    code, said, wrong = light.run(tmp_path, *words, "-o", tmp_path / "out", "--workers", 2, "--cold")
    assert code == 0, said + wrong
    with open_sweep(tmp_path / "out") as tree:
        assert tree["text"].values.tolist() == texts
        assert tree["light.number.length"].values.tolist() == [float(len(text)) for text in texts]
        assert tree["light.number.sum"].values.tolist() == [float(sum(map(ord, text))) for text in texts]
        assert (tree["light.number.same"].values == 1).all()
    assert {entry.name for entry in tmp_path.iterdir()} - before == {"out", "scratch"}
    # Temporary folders are gone with what was in them.
    assert not [entry for entry in (tmp_path / "scratch").rglob("*.txt")]


def test_full_disk_keeps_what_is_done(tmp_path: Path, marks: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        path = light.notebook(
            tmp_path / "light.ipynb",
            "mark('seed', seed)\ndataset('noise', values=np.random.default_rng(seed).normal(size=32_000))",
        )
        words = [
            "sweep",
            path,
            "--grid",
            "seed=0:6",
            "-p",
            "marks_folder",
            marks,
            "-o",
            disk / "out",
            "--workers",
            1,
            "--cold",
        ]
        code, _, said = light.run(tmp_path, *words)
        assert code == 1 and "is full" in said and "points are kept; free some space" in said, said
        assert "Traceback" not in said
        done = kept(disk / "out")
        assert 1 <= len(done) < 6 and all(read_point(each, verify=True) for each in done)
        assert not list((disk / "out" / "points").glob(".*"))
        assert subprocess.run(["mount", "-o", "remount,size=40m", disk], capture_output=True).returncode == 0
        code, said, wrong = light.run(tmp_path, *words)
        assert code == 0 and f"6 points, {6 - len(done)} of them run now" in said, said + wrong
        with open_sweep(disk / "out") as tree:
            assert tree["noise/values"].shape == (6, 32_000) and (tree["status"].values == "done").all()
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--grid", "wdith=1,2"], "there is no parameter 'wdith'; the nearest are width"),
        (["--grid", "width=0"], "parameter width takes an integer from 1 to 4096, got '0'"),
        (["--grid", "width=1", "-p", "width", "2"], "width is given both as an axis and as a fixed value"),
        ([], "a sweep needs at least one axis"),
        (["--grid", "width=1", "--workers", "0"], "workers must be"),
        (["--grid", "width=1", "--time-limit", "-1"], "time_limit must be"),
        (["--grid", "width=1", "--workers", "1", "--scheduler", "tcp://127.0.0.1:1"], "not both"),
        (["--grid", "width=1", "-o", "taken"], "holds other things"),
        (["--grid", "width=1", "--params", "none.yaml"], "is not a file of parameters"),
    ],
)
def test_not_understood_runs_and_writes_nothing(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sciviz import cli

    light.notebook(tmp_path / "light.ipynb", "claim(a=1.0)")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", "light.ipynb", *words]) == 2
    wrong = capsys.readouterr().err
    assert said in wrong and wrong.startswith("sciviz: ") and wrong.count("\n") == 1
    assert {entry.name for entry in tmp_path.iterdir()} == {"light.ipynb", "taken"}
    assert [entry.name for entry in (tmp_path / "taken").iterdir()] == ["precious.txt"]


def test_this_test_left_no_process_behind() -> None:
    left = [each for each in psutil.Process().children(recursive=True) if "sciviz.reports.zygote" in each.cmdline()]
    assert left == []
