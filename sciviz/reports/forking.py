"""A worker's end of a process that forks kernels. Light to import, so that the process starts before all else does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

# Determinism holds for one number of threads; one a kernel, so that the kernels of one machine do not fight.
ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    )
}
# The order of a set of words depends on it, and results should not.
ONE_ORDER = {"PYTHONHASHSEED": "0"}


class Zygote:
    """A worker's end of a process that forks kernels (`sciviz.reports.zygote`).

    Parameters
    ----------
    modules
        What to import besides what every tutorial imports.
    """

    def __init__(self, modules: tuple[str, ...] = ()) -> None:
        self._lock = threading.Lock()
        environment = {**os.environ, **ONE_THREAD, **ONE_ORDER}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sciviz.reports.zygote", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._ready: bool | None = None

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def alive(self) -> bool:
        """Return whether kernels can be forked; waits until the imports are done."""
        with self._lock:
            if self._ready is None:
                answer = self._answer()
                self._ready = bool(answer and answer["ready"])
        return self._ready and self._process.poll() is None

    def fork(self, request: Mapping[str, Any]) -> ForkedProcess | None:
        """Fork a kernel; None if the process is gone."""
        answer = self._ask({"fork": dict(request)})
        return None if answer is None else ForkedProcess(self, answer["pid"])

    def status(self, pid: int) -> int | None:
        """Return a kernel's exit status, or None while it runs. Kernels do not outlive the process."""
        answer = self._ask({"poll": pid})
        return -signal.SIGKILL if answer is None else answer["status"]

    def close(self) -> None:
        """End the process and all kernels that it forked."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _ask(self, request: Mapping[str, Any]) -> Any:
        with self._lock:
            try:
                assert self._process.stdin is not None
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            except (OSError, ValueError):
                return None
            return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline()
        except ValueError:
            return None
        return json.loads(line) if line else None


_zygotes: dict[tuple[str, ...], Zygote] = {}
_zygotes_lock = threading.Lock()


def begin_zygote(modules: tuple[str, ...] = ()) -> Zygote | None:
    """Start this process's zygote with these imports, if it does not run yet; None where the system cannot fork."""
    if not hasattr(os, "fork"):
        return None
    with _zygotes_lock:
        known = _zygotes.get(modules)
        if known is not None and known._ready and known._process.poll() is not None:
            known.close()
            known = None
        if known is None:
            known = _zygotes[modules] = Zygote(modules)
    return known


def zygote(modules: tuple[str, ...] = ()) -> Zygote | None:
    """Return this process's zygote once its imports are done; None where kernels must start cold."""
    known = begin_zygote(modules)
    return known if known is not None and known.alive() else None


def close_zygotes() -> None:
    """End all zygotes of this process."""
    with _zygotes_lock:
        for known in _zygotes.values():
            known.close()
        _zygotes.clear()


class ForkedProcess:
    """A forked kernel, with what the jupyter client asks of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, parent: Zygote, pid: int) -> None:
        self._parent, self.pid = parent, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._parent.status(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("kernel", timeout or 0.0)
            time.sleep(0.01)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)
