"""Kernels that start warm, and a watch over what a kernel may use."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from sciviz.reports.forking import zygote


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
