"""A process that has imported what notebooks import, and forks a fresh kernel for each point of a sweep.

What points share is the image of this process right after its imports, page by page and copied on the first write: no
notebook cell ever runs in it, so nothing that a point does can reach the next one. It forks only while it has one thread
(a forked child has none of its parent's other threads, and the locks that those held would stay locked for ever);
where an import has started another, it says so, and kernels start cold.

Requests and answers are lines of JSON on the pipes that it was started with:

    {"fork": {"connection": …, "folder": …, "environment": …, "log": …}}  →  {"pid": …}
    {"poll": pid}                                                        →  {"status": null or the exit status}

When the pipe closes, the process kills what it forked and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
from typing import Any

# What a kernel imports late in its start, which takes longer than all the rest of it: its debugger above all.
KERNEL = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
    "ipykernel.debugger",
    "debugpy.server.api",
    "tornado.platform.asyncio",
    "IPython.core.debugger",
    "IPython.core.oinspect",
    "IPython.core.completerlib",
    "IPython.extensions.storemagic",
)
_IDLE_SECONDS = 600
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Import, say whether forking is safe, and serve until the pipe closes."""
    requests, answers = os.dup(0), os.dup(1)
    # Nothing that an import prints may be taken for an answer.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    # Ctrl-C reaches every process of the terminal; what ends this one is the end of the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    preload((*KERNEL, *sys.argv[1:]))
    rehearse()
    threads = native_threads()
    _say(answers, {"ready": threads == 1, "pid": os.getpid(), "threads": threads})
    if threads != 1:
        return
    # Objects of the imports are never garbage: what is not looked at is not copied into the children.
    gc.collect()
    gc.freeze()
    _serve(requests, answers)


def preload(names: tuple[str, ...]) -> None:
    """Import modules; one that is missing is left to the notebook, which says it better."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def rehearse() -> None:
    """Do once what points do, for what it imports late; the results are thrown away."""
    with contextlib.suppress(Exception):
        if "h5netcdf" in sys.modules:
            import xarray as xr

            xr.Dataset({"a": ("x", [0.0])}).to_netcdf(engine="h5netcdf")
        if "sciviz.lab.runtime" in sys.modules:
            sys.modules["sciviz.lab.runtime"].versions()


def native_threads() -> int:
    """Return how many threads this process has, those of libraries too where the system tells."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        import psutil

        return int(psutil.Process().num_threads())


def _say(pipe: int, message: dict[str, Any]) -> None:
    os.write(pipe, json.dumps(message).encode() + b"\n")


def _serve(requests: int, answers: int) -> None:
    children: dict[int, int | None] = {}
    waiting = b""
    while True:
        if b"\n" not in waiting:
            ready, _, _ = select.select([requests], [], [], _IDLE_SECONDS)
            _reap(children)
            if not ready and all(status is not None for status in children.values()):
                return
            if not ready:
                continue
            part = os.read(requests, 1 << 16)
            if not part:
                break
            waiting += part
            continue
        line, waiting = waiting.split(b"\n", 1)
        request = json.loads(line)
        if "poll" in request:
            _reap(children)
            _say(answers, {"status": children.get(request["poll"], -signal.SIGKILL)})
            continue
        pid = os.fork()
        if pid == 0:
            os.close(requests)
            os.close(answers)
            _become_kernel(request["fork"])
        children[pid] = None
        _say(answers, {"pid": pid})
    for pid, status in children.items():
        if status is None:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _reap(children: dict[int, int | None]) -> None:
    for pid, status in list(children.items()):
        if status is None:
            with contextlib.suppress(ChildProcessError):
                found, raw = os.waitpid(pid, os.WNOHANG)
                if found:
                    children[pid] = os.waitstatus_to_exitcode(raw)


def _become_kernel(request: dict[str, Any]) -> None:
    """In the child: leave everything of the parent's behind but its imports, and be a kernel until killed."""
    code = 1
    try:
        parent = os.getppid()
        # A group of its own: killed together with whatever processes the notebook starts.
        os.setsid()
        _die_with_parent(parent)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        # If memory runs out, the system should end this process and not the worker that looks after it.
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        # Python reseeds its own generator in a child; NumPy's would draw the same numbers in every point.
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            numpy.random.seed()
        _kernel(request["connection"], parent)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.__stderr__)
    finally:
        # Not sys.exit: that would run what the parent meant to do at its own end.
        os._exit(code)


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _kernel(connection: str, parent: int) -> None:
    from ipykernel.kernelapp import IPKernelApp

    sys.argv = ["ipykernel_launcher.py", "-f", connection]
    app = IPKernelApp.instance()
    # History is a file that all kernels of a user share.
    app.initialize(["-f", connection, "--HistoryManager.enabled=False", f"--IPKernelApp.parent_handle={parent}"])
    app.start()


if __name__ == "__main__":
    main()
