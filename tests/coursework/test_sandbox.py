"""What the walls are made of, one by one."""

from __future__ import annotations

import ast
import os
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from sciviz.coursework import sandbox, wire
from sciviz.coursework.hiding import filtered_package
from sciviz.coursework.sandbox import Crash, Room, SandboxError, Student
from sciviz.coursework.source import LIMITS
from tests.coursework.toy import need_sandbox, sandboxed

CANARY = "sciviz-canary-variable"


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    need_sandbox()
    with Room(["sciviz.lab.checks.check_positive"], {**LIMITS, "memory_mb": 1000, "total": 30}) as made:
        yield made


@pytest.fixture
def student(room: Room) -> Iterator[Student]:
    with room.start() as started:
        yield started


def value(student: Student, source: str) -> Any:
    """Run source that sets `result`, and return it."""
    reply = student.request({"op": "run", "source": source, "name": "test", "trusted": False}, seconds=20)
    assert reply["ok"], reply
    return student.request({"op": "ask", "request": {"kind": "value", "name": "result"}}, seconds=10)["value"]


def test_user_has_no_rights(student: Student) -> None:
    uid, status = value(student, "import os\nresult = (os.getresuid(), open('/proc/self/status').read())")
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert 0 not in uid
    assert int(lines["CapEff"], 16) == int(lines["CapPrm"], 16) == 0
    assert lines["NoNewPrivs"] == "1"
    assert lines["Seccomp"] == "2"
    if os.getuid() == 0:
        assert uid[0] > 10_000, "a user that nobody else is"


def test_environment_is_empty(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    with room.start() as student:
        found = value(student, "import os\nresult = dict(os.environ)")
        others = "import os\nresult = ''\nfor p in os.listdir('/proc'):\n    try: result += open(f'/proc/{p}/environ').read()\n"
        seen = value(student, others + "    except OSError: pass")
    assert CANARY not in str(found)
    assert CANARY not in seen, "the first process of the sandbox has an environment too"
    assert set(found) <= {*sandbox._environment("", ""), "PWD", "LC_CTYPE"}


def test_only_a_few_folders_are_there(student: Student) -> None:
    top = value(student, "import os\nresult = os.listdir('/')")
    allowed = {"usr", "bin", "sbin", "lib", "lib64", "lib32", "etc", "proc", "dev", "tmp", "home", "sandbox"}
    needed = {Path(path).parts[1] for path in (sys.prefix, sys.base_prefix)}
    assert set(top) <= allowed | needed
    # An environment may itself lie below /tmp.
    below_tmp = {Path(path).parts[2] for path in (sys.prefix, sys.base_prefix) if path.startswith("/tmp/")}
    assert set(value(student, "result = os.listdir(os.path.expanduser('~')) + os.listdir('/tmp')")) == below_tmp
    assert set(value(student, "result = os.listdir('/etc')")) <= {
        "passwd",
        "group",
        "ld.so.cache",
        "alternatives",
        "localtime",
    }


def test_an_environment_may_lie_below_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    need_sandbox()
    needed = sandbox._needed()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        environment = Path(folder, "environment")
        environment.mkdir()
        (environment / "module.py").write_text("here = True\n")
        Path(folder, "neighbour").write_text("not for students")
        # The folder's own rights would keep out the sandbox's user; a reader's environment does not.
        os.chmod(folder, 0o755)
        monkeypatch.setattr(sandbox, "_needed", lambda: [*needed, environment])
        with Room([], {**LIMITS, "memory_mb": 1000, "total": 30}) as room, room.start() as student:
            assert value(student, f"import os\nresult = os.listdir({folder!r})") == ["environment"]
            assert value(student, f"result = open('{environment}/module.py').read()") == "here = True\n"
            tried = f"try:\n    open('{environment}/x', 'w')\n    result = 'written'\nexcept OSError:\n    result = 'refused'"
            assert value(student, tried) == "refused"


def test_sees_no_process_but_its_own(student: Student) -> None:
    assert max(value(student, "import os\nresult = [int(p) for p in os.listdir('/proc') if p.isdigit()]")) < 10


def test_no_command_line_tells_where_the_teachers_files_lie(room: Room, student: Student) -> None:
    every = "[open(f'/proc/{p}/cmdline').read() for p in os.listdir('/proc') if p.isdigit()]"
    lines = value(student, f"import os\nresult = {every}")
    assert len(lines) >= 2
    assert str(room.folder) not in str(lines)


def test_writes_nowhere_but_into_its_own_memory(student: Student) -> None:
    written = value(
        student,
        "import os\nresult = []\nfor folder, inner, _ in os.walk('/'):\n"
        "    inner[:] = [n for n in inner if n not in ('proc', 'site-packages') and len(folder.split('/')) < 4]\n"
        "    try: open(os.path.join(folder, 'note'), 'w').close(); result.append(folder)\n    except OSError: pass",
    )
    assert set(written) == {"/tmp", "/home/student", "/dev/shm"}


def test_home_is_small(student: Student) -> None:
    sizes = value(
        student,
        "import os\nplaces = map(os.statvfs, ('/tmp', '/dev/shm', os.path.expanduser('~')))\n"
        "result = [place.f_blocks * place.f_frsize for place in places]",
    )
    assert all(0 < size <= 128 * 2**20 for size in sizes)


def test_library_is_there_but_for_the_answers(student: Student) -> None:
    assert value(student, "from sciviz.lab.checks import check_nonnegative\ncheck_nonnegative(a=1)\nresult = True")
    source = "from sciviz.lab.checks import check_positive\ncheck_positive(a=1)"
    reply = student.request({"op": "run", "source": source, "name": "t", "trusted": False}, seconds=10)
    assert reply["error"]["type"] == "NotImplementedError"
    listed = value(student, "import os, sciviz\nresult = os.listdir(os.path.dirname(sciviz.__file__))")
    assert {"lab", "ntk", "coursework"} <= set(listed)
    assert not {"reports", "cli.py", "_tutorials"} & set(listed)
    assert set(value(student, "result = os.listdir('/sandbox/library/sciviz/coursework')")) == {
        "__init__.py",
        "visible.py",
    }


def test_input_is_refused_and_magics_do_no_harm(student: Student) -> None:
    reply = student.request({"op": "run", "source": "x = input('?')", "name": "t", "trusted": False}, seconds=5)
    assert reply["error"]["type"] == "NoInput"
    assert value(student, "%matplotlib inline\n!pip install everything\nresult = 1") == 1
    assert value(student, "%%time\nresult = 2") == 2
    assert value(student, "import asyncio\nawait asyncio.sleep(0)\nresult = 3") == 3
    assert value(student, "display(3); get_ipython().system('ls'); result = 4") == 4


def test_tensors_come_back_as_arrays(student: Student) -> None:
    source = "import torch\nx = torch.arange(3.0, requires_grad=True)\n"
    source += "result = (x / 2, torch.ones(1, dtype=torch.bfloat16), torch.tensor(1 + 2j))"
    first, second, third = value(student, source)
    assert first.dtype == np.float32
    assert first.tolist() == [0.0, 0.5, 1.0]
    assert second.tolist() == [1.0]
    assert third == 1 + 2j


def test_silence_ends_it(room: Room) -> None:
    with room.start() as student:
        with pytest.raises(Crash, match="did not stop"):
            source = "import signal\nsignal.signal(14, signal.SIG_IGN)\nwhile True: pass"
            request = {"op": "run", "source": source, "name": "t", "trusted": False}
            student.request(request, seconds=0.5, grace=0.5)
        assert not student.alive


def test_end_of_the_sandbox_ends_all_in_it(room: Room) -> None:
    with room.start() as student:
        fork = "    if os.fork() == 0:\n        os.setsid()\n        time.sleep(60)"
        value(student, f"import os, time\nresult = 0\nfor _ in range(3):\n{fork}")
        inside = psutil.Process(student._process.pid).children(recursive=True)
        assert len(inside) >= 4
        assert len(sandboxed(room.folder)) >= 4
    _, alive = psutil.wait_procs(inside, timeout=5)
    assert alive == []
    assert sandboxed(room.folder) == []


def test_no_sandbox_means_no_grading(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox._no_bubblewrap.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    try:
        with pytest.raises(SandboxError, match=r"not installed.*--unsafe runs the students' code with your own rights"):
            Room([], LIMITS)
    finally:
        sandbox._no_bubblewrap.cache_clear()


def test_unsafe_runs_without(monkeypatch: pytest.MonkeyPatch) -> None:
    with Room([], LIMITS, unsafe=True) as room, room.start() as student:
        assert value(student, "import os\nresult = os.getuid()") == os.getuid()


def test_filter_lets_pass_what_it_should() -> None:
    """Run the filter by hand: what it says to a few calls, without asking the kernel."""
    program = sandbox._filter()
    lines = [struct.unpack("<HBBI", program[i : i + 8]) for i in range(0, len(program), 8)]
    if len(lines) == 1:
        pytest.skip("no filter for this machine")
    machine, clone, clone3, socket, refused = sandbox._CALLS[os.uname().machine]

    def verdict(number: int, argument: int = 0, architecture: int = machine) -> int:
        data = {0: number, 4: architecture, 16: argument}
        place = accumulator = 0
        while True:
            code, yes, no, operand = lines[place]
            place += 1
            if code == 0x20:
                accumulator = data[operand]
            elif code == 0x06:
                return operand
            else:
                met = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}[
                    code
                ]
                place += yes if met else no

    allow = 0x7FFF0000
    assert verdict(0) == allow
    assert all(verdict(number) != allow for number in (*refused, clone3))
    assert verdict(clone, 0x3D0F00) == allow
    assert verdict(clone, 0x10000000) != allow
    assert [verdict(socket, family) == allow for family in (1, 2, 10, 16, 17, 38, 40)] == [True] * 3 + [False] * 4
    assert verdict(0, architecture=1) != allow
    assert verdict(0x40000000 + clone) != allow


# --- hiding -----------------------------------------------------------------------------------------------------------


def test_hidden_names_are_not_in_the_copy(tmp_path: Path) -> None:
    hidden = ["sciviz.ntk.infinite.kernel_recursion", "sciviz.ode.solvers", "sciviz.lab.places.Tutorial.stem"]
    root = filtered_package(tmp_path, hidden)
    tree = ast.parse((root / "ntk" / "infinite.py").read_text())
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "kernel_recursion"]
    assert [type(node) for node in function.body] == [ast.Raise]
    assert "ImportError" in (root / "ode" / "solvers.py").read_text()
    assert len((root / "ode" / "solvers.py").read_text().splitlines()) == 1
    assert "theorem 1" not in ast.unparse(function)
    places = (root / "lab" / "places.py").read_text()
    assert "self.path.stem" not in places


@pytest.mark.parametrize(
    "name", ["sciviz.ntk.infinite.kernel_recursoin", "sciviz.nowhere.thing", "sciviz.lab.places.Tutorial.nothing"]
)
def test_a_name_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="hidden must name what the library has"):
        filtered_package(tmp_path, [name])


# --- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        None,
        True,
        -3,
        2**70,
        1.5,
        float("inf"),
        "é\u2028",
        1 + 2j,
        (1, [2, ("x",)], {"a": None, "$": "array"}),
        {},
    ],
)
def test_plain_values_come_back_as_they_were(given: Any) -> None:
    back = wire.decode(wire.encode(given))
    assert back == given
    assert type(back) is type(given)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1", "?", "c16", ">f8"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_arrays_come_back_as_they_were(dtype: str, shape: tuple[int, ...]) -> None:
    given = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    back = wire.decode(wire.encode({"x": given}))["x"]
    np.testing.assert_array_equal(back, given)
    assert back.shape == shape
    assert back.flags.writeable


@pytest.mark.parametrize(
    "given", [object(), b"bytes", {1: 2}, {1, 2}, np.array([object()]), np.zeros(3_000_000), [[]] * 300_000, lambda: 1]
)
def test_anything_else_is_not_sent(given: object) -> None:
    with pytest.raises(wire.WireError):
        wire.encode(given)


def message(head: bytes, body: bytes = b"") -> bytes:
    return wire.MAGIC + struct.pack("<II", len(head), len(body)) + head + body


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x80\x04\x95pickle.......",
        message(b"{"),
        message(b"[" * 50_000),
        message(b'{"a": 1}'),
        message(b'{"$": "object"}'),
        message(b'{"$": "array", "dtype": "|O", "shape": [1], "at": 0}', bytes(8)),
        message(b'{"$": "array", "dtype": "<f8", "shape": [1000000], "at": 0}', bytes(8)),
        message(b'{"$": "array", "dtype": "<f8", "shape": [1], "at": -8}', bytes(8)),
        message(b'{"$": "array", "dtype": "<f8", "shape": [-1, -1], "at": 0}', bytes(8)),
        message(b'{"$": "array", "dtype": "<f8", "shape": [1e3], "at": 0}', bytes(8)),
        message(b'{"$": "array", "dtype": "<f8", "shape": [4294967296, 4294967296], "at": 0}', bytes(8)),
        message(b'{"$": "dict", "is": [1]}'),
        message(b"[" + b"1," * 300_000 + b"1]"),
        message(b'{"$": "float", "is": "__import__"}'),
        message('"é"'.encode()),
        message(b"1") + b"more",
    ],
)
def test_what_is_no_message_is_refused(bad: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(bad)


def test_truth_values_are_zero_or_one() -> None:
    back = wire.decode(message(b'{"$": "array", "dtype": "|b1", "shape": [3], "at": 0}', bytes([0, 1, 255])))
    assert back.view(np.uint8).tolist() == [0, 1, 1]
