"""Where a student's code runs: bubblewrap, an unprivileged user with limits, a copy of the library without the answers.

What holds, and by what:

==================  ============================================================================================
the network         a network namespace of its own without any interface; a filter refuses other address families
files               only the system, the interpreter and the filtered library, read-only; home, /tmp and /dev/shm are
                    of their own, in memory, of bounded size, and gone afterwards; the environment is empty
other processes     a process namespace of its own; its end ends all that was started in it
the user            started by root, it becomes a user that exists nowhere else, so that process limits count; started
                    by an ordinary user, a user namespace does the same
memory, time        limits of the process (address space, processor seconds, processes, file size), and a watch outside
                    that sums memory over all processes and keeps the wall clock
the kernel          a filter refuses new namespaces, mounts, tracing, keys, memory files, io_uring
==================  ============================================================================================
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import secrets
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sciviz.coursework import wire
from sciviz.coursework.hiding import filtered_package

_HOME = "/home/student"
_LIBRARY = "/sandbox/library"
_PROGRAM = "/sandbox/program"
_MB = 2**20
# Neither the user's packages nor the script's folder; the environment is ours alone.
_OPTIONS = ("-s", "-P", "-B", "-X", "utf8", "-W", "ignore")
UNSAFE = (
    "--unsafe runs the students' code with your own rights: it can read and change your files, the class's secret and "
    "the gradebook among them, and use your network."
)


class SandboxError(RuntimeError):
    """There is no sandbox, or it cannot be started."""


class Crash(Exception):
    """The student's process is gone, or does not keep to the protocol.

    Attributes
    ----------
    reason
        For the student, as the end of "Your code …".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Room:
    """What all sandboxes of one assignment share: the filtered library and the program inside.

    Parameters
    ----------
    hidden
        Names that the sandbox hides.
    limits
        `memory_mb`, `total` (seconds), as an assignment gives them.
    private
        Folders that must not be seen inside even if they lie in what is bound.
    unsafe
        Run without any sandbox.
    folder
        One that another process has made, to be shared.
    """

    def __init__(
        self,
        hidden: Iterable[str],
        limits: Mapping[str, float],
        *,
        private: Iterable[Path] = (),
        unsafe: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.hidden = sorted(set(hidden))
        self.limits = dict(limits)
        self.unsafe = unsafe
        if not unsafe:
            need_bubblewrap()
        self._shared = folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="sciviz-sandbox-"))
        self.library, self.program = self.folder / "library", self.folder / "program"
        self._masked = [Path(path).resolve() for path in private]
        if not self._shared:
            self._fill()

    def _fill(self) -> None:
        filtered_package(self.library, self.hidden)
        self.program.mkdir(mode=0o755)
        for name in ("inside.py", "wire.py"):
            shutil.copyfile(Path(__file__).with_name(name), self.program / name)
            (self.program / name).chmod(0o644)
        (self.folder / "passwd").write_text(f"student:x:{_uid()}:{_uid()}:student:{_HOME}:/bin/sh\n")
        (self.folder / "group").write_text(f"student:x:{_uid()}:\n")
        (self.folder / "filter").write_bytes(_filter())

    def close(self) -> None:
        """Remove the files, if they are its own."""
        if self._shared:
            return
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def command(self, filter_descriptor: int, options_descriptor: int) -> list[str]:
        """Return the command that starts the program inside, and write its options to a file.

        The first process in the sandbox is bubblewrap, whose command line students can read: it should not tell where the
        teacher's files lie.
        """
        with os.fdopen(os.dup(options_descriptor), "wb") as file:
            file.write(b"".join(os.fsencode(word) + b"\0" for word in self._options(filter_descriptor)))
        os.lseek(options_descriptor, 0, os.SEEK_SET)
        python = [sys.executable, *_OPTIONS, f"{_PROGRAM}/inside.py"]
        return [shutil.which("bwrap") or "bwrap", "--args", str(options_descriptor), "--", *python]

    def _options(self, filter_descriptor: int) -> list[str]:
        options = [
            "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
            "--hostname", "sandbox", "--die-with-parent", "--new-session", "--clearenv",
        ]  # fmt: skip
        if os.getuid() == 0:
            # Root's bubblewrap needs no user namespace; the program inside gives up root before it reads anything.
            options += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            options += ["--unshare-user", "--uid", str(_uid()), "--gid", str(_uid()), "--cap-drop", "ALL"]
        options += self._files()
        for name, value in _environment(_HOME, _LIBRARY).items():
            options += ["--setenv", name, value]
        return [*options, "--chdir", _HOME, "--seccomp", str(filter_descriptor)]

    def _files(self) -> list[str]:
        entries: list[tuple[Path, list[str]]] = []
        bound = _needed()
        for path in bound:
            # What bubblewrap makes on the way to a mount is for its own user alone.
            above = [part for up in reversed(path.parents) for part in _folder(up) if up != Path("/")]
            entries.append((path, [*above, "--ro-bind", str(path), str(path)]))
        masks = self._masks(bound)
        for path in masks:
            entries.append(
                (
                    path,
                    ["--tmpfs" if path.is_dir() else "--ro-bind", *([] if path.is_dir() else [os.devnull]), str(path)],
                )
            )
        # What is mounted later covers what lies below it: home and /tmp come first, because the environment may lie in either.
        options = _folder(Path(_HOME).parent)
        options += [word for name, size in ((_HOME, 128), ("/tmp", 64)) for word in _memory(name, size)]
        # A folder before what lies in it.
        options += [word for _, words in sorted(entries, key=lambda entry: len(entry[0].parts)) for word in words]
        for name in ("bin", "sbin", "lib", "lib64", "lib32"):
            path = Path("/", name)
            if path.is_symlink():
                options += ["--symlink", os.readlink(path), str(path)]
            elif path.is_dir():
                options += ["--ro-bind", str(path), str(path)]
        options += [word for name in ("/etc", "/sandbox") for word in _folder(Path(name))]
        for name in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"):
            options += ["--ro-bind-try", name, name]
        for name in ("passwd", "group"):
            options += ["--ro-bind", str(self.folder / name), f"/etc/{name}"]
        options += ["--ro-bind", str(self.library), _LIBRARY, "--ro-bind", str(self.program), _PROGRAM]
        options += ["--proc", "/proc", "--dev", "/dev", *_memory("/dev/shm", 64)]
        for masked in [path for path in masks if path.is_dir()]:
            options += ["--remount-ro", str(masked)]
        return [*options, "--remount-ro", "/dev", "--remount-ro", "/"]

    def _masks(self, bound: list[Path]) -> set[Path]:
        """Return what lies in the bound folders and must not be seen: the library itself, hidden packages, private folders."""
        candidates = set(self._masked)
        package = Path(__file__).resolve().parents[1]
        candidates.add(package)
        if (package.parent / "pyproject.toml").is_file():
            candidates.add(package.parent)
        for name in self.hidden:
            if not name.startswith("sciviz."):
                for place in map(Path, sys.path):
                    candidates |= {place / name.split(".")[0], place / f"{name.split('.')[0]}.py"}
        found = {path for path in candidates if path.exists() and any(path.is_relative_to(root) for root in bound)}
        # The environment may lie in the checkout: then it is bound again over the mask, being deeper.
        return found - set(bound)

    def start(self, submission: int | None = None, *, patience: float = 1.0) -> Student:
        """Start a sandbox.

        Parameters
        ----------
        submission
            An open file with the notebook; read inside, from its beginning.
        patience
            How many times the assignment's time limit it may live.
        """
        return Student(self, submission, patience)


def need_bubblewrap() -> None:
    """Raise unless bubblewrap works here.

    Raises
    ------
    SandboxError
        Saying why, and what `--unsafe` would mean.
    """
    if reason := _no_bubblewrap():
        raise SandboxError(f"grading needs bubblewrap to run students' code in, and {reason}. {UNSAFE}")


@functools.cache
def _no_bubblewrap() -> str:
    if platform.system() != "Linux":
        return f"there is none for {platform.system()}; grade on Linux, or in a Linux container or virtual machine"
    if shutil.which("bwrap") is None:
        return "it is not installed (Debian and Ubuntu: apt install bubblewrap)"
    user = [] if os.getuid() == 0 else ["--unshare-user"]
    command = ["bwrap", *user, "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    tried = subprocess.run(command, capture_output=True, text=True, errors="replace")
    return "" if tried.returncode == 0 else f"it does not work here ({tried.stderr.strip()[:200]})"


def _memory(name: str, size: int) -> list[str]:
    return ["--perms", "1777", "--size", str(size * _MB), "--tmpfs", name]


def _folder(path: Path) -> list[str]:
    return ["--perms", "555", "--dir", str(path)]


def _needed() -> list[Path]:
    """Return the folders that Python and its packages need, none inside another unless it must be bound on its own."""
    wanted = [Path("/usr"), Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parents[1]]
    # An environment's interpreter may be a link to a link.
    link = Path(sys.executable)
    while link.is_symlink():
        link = link.parent / os.readlink(link)
        wanted.append(Path(os.path.normpath(link)).parents[1])
    found: list[Path] = []
    for path in sorted({Path(os.path.normpath(path)) for path in wanted}, key=lambda path: len(path.parts)):
        if path.is_dir() and path != Path("/") and not any(path.is_relative_to(root) for root in found):
            found.append(path)
    prefix = Path(os.path.normpath(sys.prefix))
    return found if prefix in found else [*found, prefix]


def _environment(home: str, library: str) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "USER": "student",
        "LOGNAME": "student",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp" if home == _HOME else home,
        "PYTHONPATH": library,
        "PYTHONHASHSEED": "0",
        "MPLBACKEND": "Agg",
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
    }


@functools.cache
def _uid() -> int:
    """Return a user number that nobody else has, so that limits on processes count this sandbox's alone."""
    if os.getuid() != 0:
        return 65534
    wanted = 2_000_000_000 + os.getpid() % 10_000_000
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/uid_map").read_text().splitlines():
            inside, _, count = map(int, line.split())
            if inside <= wanted < inside + count:
                return wanted
        # A container that knows few users.
        return 40_000 + os.getpid() % 20_000
    return wanted


class Student:
    """A student's process in its sandbox. Every request has a time limit, and every reply is checked.

    Raises
    ------
    SandboxError
        If the sandbox does not start.
    """

    def __init__(self, room: Room, submission: int | None, patience: float = 1.0) -> None:
        self._limits = {**room.limits, "total": patience * room.limits["total"]}
        self._reason = ""
        self._scratch: str | None = None
        self._submission = submission
        pass_on = [] if submission is None else [submission]
        if submission is not None:
            os.lseek(submission, 0, os.SEEK_SET)
        self._process = self._begin(room, pass_on)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        memory = int(self._limits["memory_mb"] * _MB)
        limits = {
            "RLIMIT_AS": memory,
            "RLIMIT_CPU": int(self._limits["total"]) + 5,
            "RLIMIT_NPROC": 64 if not room.unsafe else 4096,
            "RLIMIT_FSIZE": 64 * _MB,
            "RLIMIT_NOFILE": 256,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
        }
        try:
            self.request({"hidden": room.hidden, "limits": limits, "uid": 0 if room.unsafe else _uid()}, seconds=60.0)
        except Crash as error:
            said = self._words()
            self.close()
            raise SandboxError(f"the sandbox did not start: it {error.reason}{f' ({said})' if said else ''}.") from None

    def _begin(self, room: Room, pass_on: list[int]) -> subprocess.Popen[bytes]:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        common: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": self._errors,
            "start_new_session": True,
        }
        if room.unsafe:
            self._scratch = tempfile.mkdtemp(prefix="sciviz-unsafe-")
            python = [sys.executable, *_OPTIONS, str(room.program / "inside.py")]
            variables = _environment(self._scratch, str(room.library))
            return subprocess.Popen(python, env=variables, cwd=self._scratch, pass_fds=pass_on, **common)
        descriptors = [os.open(room.folder / "filter", os.O_RDONLY), os.memfd_create("options")]
        try:
            # Its first process runs as the student's user and keeps the environment that it was started with in its memory.
            return subprocess.Popen(room.command(*descriptors), pass_fds=[*pass_on, *descriptors], env={}, **common)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _words(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            self._errors.seek(0)
            return self._errors.read(300).decode("utf-8", "replace").strip()
        return ""

    @property
    def alive(self) -> bool:
        """Whether it still answers."""
        return not self._reason and self._process.poll() is None

    def request(self, message: dict[str, Any], *, seconds: float, grace: float = 3.0) -> dict[str, Any]:
        """Ask for something and return the reply.

        Parameters
        ----------
        seconds
            What the program inside may take; it stops itself then. After `grace` more it is ended.

        Raises
        ------
        Crash
            If no proper reply comes. The process is ended.
        """
        nonce = secrets.token_hex(8)
        deadline = time.monotonic() + seconds + grace
        try:
            wire.send(self._to, wire.encode({**message, "id": nonce, "seconds": float(seconds)}), deadline)
            while True:
                reply = wire.decode(wire.receive(self._from, deadline))
                if isinstance(reply, dict) and reply.get("id") == nonce:
                    return reply
                raise wire.WireError("a reply to another question")
        except wire.Silence:
            self._end(f"took longer than {seconds:g} seconds and did not stop")
        except wire.Gone:
            self._end(self._how_it_ended())
        except wire.WireError as error:
            self._end(f"answered what cannot be read: {error}")
        raise Crash(self._reason)

    def _how_it_ended(self) -> str:
        if self._reason:
            return self._reason
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        code = self._process.poll()
        # The watch may have ended it meanwhile, and knows why.
        if said := str(self._reason):
            return said
        # bubblewrap reports a signal as a shell does.
        number = -code if code is not None and code < 0 else (code or 0) - 128
        if number in (signal.SIGXCPU, signal.SIGKILL):
            return "used up its processor time or its memory, or ended itself"
        return "ended the process that runs it"

    def _end(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            # Without a sandbox the group is all that holds the student's processes together.
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._process.kill()

    def _watch(self) -> None:
        """End the sandbox when its processes together take too much memory, or its time is up."""
        import psutil

        began = time.monotonic()
        limit = self._limits["memory_mb"] * _MB
        try:
            parent = psutil.Process(self._process.pid)
        except psutil.Error:
            return
        while not self._done.wait(0.2):
            if time.monotonic() - began > self._limits["total"] + 30:
                self._end(f"took longer than {self._limits['total']:g} seconds in all")
                return
            taken = 0
            with contextlib.suppress(psutil.Error):
                for process in parent.children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        memory = process.memory_info()
                        # Pages of the libraries are shared; a forked process is charged for what is its own.
                        taken += max(0, memory.rss - memory.shared)
            if taken > limit:
                self._end(f"took more than {self._limits['memory_mb']:g} MB of memory")
                return

    def close(self) -> None:
        """End it and all that it started."""
        self._done.set()
        self._kill()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._watcher.join(2)
        self._errors.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Student:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def room_for(
    hidden: Iterable[str], limits: Mapping[str, float], *, private: Iterable[Path] = (), unsafe: bool = False
) -> Iterator[Room]:
    """Return a room, and remove it afterwards."""
    with Room(hidden, limits, private=private, unsafe=unsafe) as room:
        yield room


# --- the filter of system calls ---------------------------------------------------------------------------------------

# Architecture number, clone, clone3, socket, then what is refused whole.
_CALLS: dict[str, tuple[int, int, int, int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E, 56, 435, 41,
        (
            29, 30, 68, 101, 103, 155, 161, 163, 165, 166, 167, 175, 176, 179, 240, 246, 248, 249, 250, 272, 298, 300, 303, 304,
            308, 310, 311, 313, 319, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 447,
        ),
    ),
    "aarch64": (
        0xC00000B7, 220, 435, 198,
        (
            39, 40, 41, 51, 60, 89, 97, 104, 105, 106, 116, 117, 180, 186, 194, 196, 217, 218, 219, 224, 241, 262, 264, 265, 268,
            270, 271, 273, 279, 280, 282, 294, 425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 447,
        ),
    ),
}  # fmt: skip
_NEW_NAMESPACES = 0x7E020000
_FAMILIES = (1, 2, 10)
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97


def _filter() -> bytes:
    """Return the filter of system calls as the kernel wants it; one that allows all on a machine that is not known."""
    known = _CALLS.get(platform.machine())
    if known is None:
        return struct.pack("<HBBI", _RETURN, 0, 0, _ALLOW)
    architecture, clone, clone3, socket, refused = known

    def line(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("<HBBI", code, yes, no, value)

    program = [
        line(_LOAD, 4), line(_EQUAL, architecture, 1, 0), line(_RETURN, _KILL),
        line(_LOAD, 0),
        # The 32-bit twins of the 64-bit calls have numbers from here on.
        line(_AT_LEAST, 0x40000000, 0, 1), line(_RETURN, _ERRNO | _ENOSYS),
        # The C library falls back to clone, whose flags can be looked at.
        line(_EQUAL, clone3, 0, 1), line(_RETURN, _ERRNO | _ENOSYS),
    ]  # fmt: skip
    for number in refused:
        program += [line(_EQUAL, number, 0, 1), line(_RETURN, _ERRNO | _EPERM)]
    program += [
        line(_EQUAL, clone, 0, 4), line(_LOAD, 16), line(_ANY, _NEW_NAMESPACES, 0, 1), line(_RETURN, _ERRNO | _EPERM),
        line(_RETURN, _ALLOW),
    ]  # fmt: skip
    count = len(_FAMILIES)
    program += [line(_EQUAL, socket, 0, count + 2), line(_LOAD, 16)]
    # A family that is known jumps over the rest of them and over the refusal.
    program += [line(_EQUAL, family, count - place, 0) for place, family in enumerate(_FAMILIES)]
    program += [line(_RETURN, _ERRNO | _EAFNOSUPPORT), line(_RETURN, _ALLOW)]
    return b"".join(program)
