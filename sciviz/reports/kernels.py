"""Kernels that start warm, and a watch over what a kernel may use."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

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


def zygote(modules: tuple[str, ...] = ()) -> Zygote | None:
    """Return this process's zygote with these imports, started if need be; None where kernels must start cold."""
    if not hasattr(os, "fork"):
        return None
    with _zygotes_lock:
        known = _zygotes.get(modules)
        if known is not None and known._ready and known._process.poll() is not None:
            known.close()
            known = None
        if known is None:
            known = _zygotes[modules] = Zygote(modules)
    return known if known.alive() else None


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


class _Provisioner(LocalProvisioner):
    """Takes a kernel from a zygote, or starts one cold where there is none."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        manager: Any = self.parent
        folder = kwargs.get("cwd") or os.getcwd()
        environment = kwargs.get("env") or dict(os.environ)
        parent = zygote(manager.modules) if manager.warm else None
        forked = parent and parent.fork(
            {
                "connection": os.path.realpath(manager.connection_file),
                "folder": str(folder),
                "environment": environment,
                "log": str(manager.log_file or os.devnull),
            }
        )
        if not forked:
            with open(manager.log_file or os.devnull, "ab") as log:
                connection = await super().launch_kernel(cmd, **{**kwargs, "stdout": log, "stderr": log})
        else:
            process: Any = forked
            self.process, self.pid, self.pgid, self.cwd = process, forked.pid, forked.pid, folder
            connection = self.connection_info
        manager.process = self.process
        manager.started_warm = bool(forked)
        if manager.on_start and self.pid is not None:
            manager.on_start(self.pid)
        return connection

    async def wait(self) -> int | None:
        # Between points nobody waits but us, and a killed process is gone in a few milliseconds.
        import asyncio

        deadline = time.monotonic() + 0.5
        while self.process and self.process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        result: int | None = await super().wait()
        return result


class WarmKernelManager(AsyncKernelManager):
    """Starts kernels from a zygote.

    Attributes
    ----------
    modules
        What the zygote imports besides the usual.
    warm
        Whether to use a zygote at all.
    log_file
        Takes what the kernel's process writes past its own output, such as a crash's last words.
    on_start
        Called with the kernel's process id.
    """

    modules: tuple[str, ...] = ()
    warm = True
    log_file: Path | None = None
    on_start: Callable[[int], None] | None = None
    process: Any = None
    started_warm = False

    def how_it_ended(self) -> str:
        """Say how the kernel's process came to its end."""
        status = None if self.process is None else self.process.poll()
        if status is None:
            return "the kernel did not answer"
        if status >= 0:
            return f"the kernel ended by itself, with exit status {status}"
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        if name == "SIGKILL":
            return "the kernel was killed (SIGKILL); if nobody did that by hand, the system ran out of memory"
        return f"the kernel was ended by {name}"

    async def _async_pre_start_kernel(self, **kw: Any) -> Any:
        if self.provisioner is None:
            self.provisioner = _Provisioner(
                kernel_id=self.kernel_id or "kernel", kernel_spec=self.kernel_spec, parent=self
            )
        return await super()._async_pre_start_kernel(**kw)


class Watch:
    """Looks after a kernel from a thread: measures its memory, and kills it at a limit.

    Parameters
    ----------
    seconds
        Longest time from `start`.
    memory_mb
        Most resident memory of the kernel and its children together.
    wanted
        Asked now and then whether the result is still wanted; where it is not, the kernel is killed.

    Attributes
    ----------
    reason
        Why the kernel was killed, in a sentence; empty if it was not.
    peak_mb
        Largest resident memory that was seen.
    """

    def __init__(
        self,
        *,
        seconds: float | None = None,
        memory_mb: float | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._seconds, self._memory_mb, self._wanted = seconds, memory_mb, wanted
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.reason = ""
        self.unwanted = False
        self.peak_mb = 0.0

    def start(self, pid: int) -> None:
        """Begin to watch a process."""
        self._thread = threading.Thread(target=self._watch, args=(pid,), daemon=True, name="sciviz-watch")
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, pid: int) -> None:
        import psutil

        try:
            process = psutil.Process(pid)
        except psutil.Error:
            return
        began = time.monotonic()
        children: list[Any] = []
        looked = began
        while True:
            now = time.monotonic()
            try:
                # Listing children walks over all processes of the machine.
                if now - looked > 1.0:
                    children, looked = process.children(recursive=True), now
                used = process.memory_info().rss / 1e6
            except psutil.Error:
                return
            for child in children:
                # What is its own: one that has just been forked shares all pages with the kernel.
                with contextlib.suppress(psutil.Error):
                    used += child.memory_full_info().uss / 1e6
            self.peak_mb = max(self.peak_mb, used)
            if self._memory_mb is not None and used > self._memory_mb:
                self.reason = f"used {used:,.0f} MB of memory, more than its limit of {self._memory_mb:,.0f} MB"
            elif self._seconds is not None and now - began > self._seconds:
                self.reason = f"took longer than its limit of {self._seconds:g} s"
            elif not self._wanted():
                self.reason, self.unwanted = "is no longer wanted", True
            if self.reason:
                kill_group(process)
                return
            # An endless allocation gains a gigabyte in a fraction of a second.
            if self._stop.wait(0.1 if self._memory_mb is not None or self._seconds is not None else 0.5):
                return


def kill_group(process: Any) -> None:
    """Kill a kernel, the processes of its group, and its other descendants."""
    import psutil

    victims = [process]
    with contextlib.suppress(psutil.Error):
        victims += process.children(recursive=True)
    with contextlib.suppress(OSError):
        # Never our own group: a cold kernel may share it.
        if hasattr(os, "getpgid") and os.getpgid(process.pid) != os.getpgid(0):
            os.killpg(os.getpgid(process.pid), signal.SIGKILL)
    for victim in victims:
        with contextlib.suppress(psutil.Error):
            victim.kill()
