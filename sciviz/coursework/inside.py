"""The program inside the sandbox: reads the notebook, runs its cells, answers the grader's calls.

It imports nothing of sciviz and trusts nobody: everything that decides on marks is outside. A student's code that takes this
process over can do no more than answer wrongly.

Requests                                                 →  replies, each with the request's `id`
    {"op": "limits", …}                                  →  {}
    {"op": "read"}                                       →  {"cells": […]} or {"unreadable": why}
    {"op": "run", "source": …, "seconds": …}             →  {"ok": …, "error": …}
    {"op": "ask", "request": …, "seconds": …}            →  {"value": …, "changed": …} or {"error": …}
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import gc
import io
import json
import linecache
import os
import resource
import signal
import sys
import types
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wire  # type: ignore[import-not-found,unused-ignore]

_LONGEST_CELL = 200_000
_MOST_CELLS = 2_000
_LONGEST_NOTEBOOK = 2_000_000


class TimeLimit(BaseException):
    """A cell or a call took too long. Not an Exception, so that a bare `except Exception` does not swallow it."""


class HiddenAnswer(Exception):
    """The student's code asked the library for its own answer."""


class NoInput(Exception):
    """The student's code waits for the keyboard."""


def main() -> None:
    """Give up rights, then serve until the pipe closes."""
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    started = _receive(requests)
    _give_up_rights(started)
    _send(replies, {"id": started["id"], "uid": os.getuid()})
    namespace = _fresh_namespace(started["hidden"])
    while True:
        try:
            request = _receive(requests)
        except (wire.Gone, wire.WireError):
            os._exit(0)
        reply = {"id": request["id"]}
        try:
            reply |= _answer(request, namespace)
            message = wire.encode(reply)
        except wire.WireError as error:
            message = wire.encode({"id": request["id"], "error": {"type": "Unsendable", "message": str(error)[:200]}})
        except BaseException as error:
            message = wire.encode({"id": request["id"], "error": _told(error, "")})
        wire.send(replies, message)


def _receive(pipe: int) -> Any:
    return wire.decode(wire.receive(pipe), tensors=True)


def _send(pipe: int, value: Any) -> None:
    wire.send(pipe, wire.encode(value))


def _give_up_rights(started: dict[str, Any]) -> None:
    """Become a user who may nothing, with limits that cannot be raised again."""
    # If memory runs out, the system should end this process and not the grader. Not allowed any more as another user.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    if os.getuid() == 0 and started["uid"]:
        os.setgroups([])
        os.setresgid(started["uid"], started["uid"], started["uid"])
        os.setresuid(started["uid"], started["uid"], started["uid"])
        if os.getuid() != started["uid"] or os.geteuid() == 0:
            os._exit(3)
    for name, value in started["limits"].items():
        number = getattr(resource, name, None)
        if number is not None:
            _, hard = resource.getrlimit(number)
            allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (allowed, allowed))


def _fresh_namespace(hidden: list[str]) -> dict[str, Any]:
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    sys.argv = [""]
    namespace = main.__dict__
    namespace["__builtins__"] = builtins
    builtins.input = _no_input
    builtins.display = lambda *_, **__: None  # type: ignore[attr-defined]
    builtins.get_ipython = _Shell  # type: ignore[attr-defined]
    builtins.exit = builtins.quit = _no_exit  # type: ignore[assignment]
    packages = {name for name in hidden if not name.startswith("sciviz.")}
    if packages:
        sys.meta_path.insert(0, _Absent(packages))
    return namespace


class _Absent:
    """Says why a package that a question hides cannot be imported."""

    def __init__(self, packages: set[str]) -> None:
        self._packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in self._packages:
            raise HiddenAnswer(f"{name} is not there while this is graded")


def _no_input(*_: Any) -> str:
    raise NoInput("input() cannot be answered while this is graded: put the value into the code")


def _no_exit(*_: Any) -> None:
    raise RuntimeError("exit() would end the notebook")


class _Shell:
    """What `%magic`, `%%magic` and `!command` become: those that time or capture run their cell, all else does nothing."""

    def run_line_magic(self, name: str, line: str, *_: Any, **__: Any) -> None:
        if name in ("time", "timeit") and line.strip():
            exec(line, sys.modules["__main__"].__dict__)

    def run_cell_magic(self, name: str, line: str, cell: str) -> None:
        if name in ("time", "timeit", "capture", "prun"):
            exec(cell, sys.modules["__main__"].__dict__)

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def _answer(request: dict[str, Any], namespace: dict[str, Any]) -> dict[str, Any]:
    operation = request["op"]
    if operation == "read":
        return _read(request["descriptor"])
    limit = float(request["seconds"])
    signal.signal(signal.SIGALRM, _too_long)
    # Again every second: a handler of the student's may have swallowed the first.
    signal.setitimer(signal.ITIMER_REAL, limit, 1.0)
    try:
        # An answer that prints does so into nothing, and what it keeps in memory is bounded by the limits.
        with contextlib.redirect_stdout(_Nowhere()), contextlib.redirect_stderr(_Nowhere()):
            if operation == "run":
                return _run(str(request["source"]), str(request["name"]), bool(request["trusted"]), namespace)
            return _ask(request["request"], namespace)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _too_long(*_: Any) -> None:
    raise TimeLimit("took too long")


class _Nowhere(io.TextIOBase):
    """A stream into nothing."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)

    def isatty(self) -> bool:
        return False


# --- the notebook -----------------------------------------------------------------------------------------------------


def _read(descriptor: int) -> dict[str, Any]:
    """Return the cells of the notebook; whatever it is, and however large, it is read here and not in the grader."""
    try:
        with os.fdopen(descriptor, "rb") as file:
            raw = json.loads(file.read().decode("utf-8-sig"))
        cells = raw["cells"] if "cells" in raw else raw["worksheets"][0]["cells"]
        found, odd, total = [], 0, 0
        for cell in cells[:_MOST_CELLS]:
            try:
                source = cell.get("source", cell.get("input", ""))
                source = source if isinstance(source, str) else "".join(map(str, source))
                metadata = cell.get("metadata")
                theirs = metadata.get("nbgrader") if isinstance(metadata, dict) else None
                grade_id = theirs.get("grade_id") if isinstance(theirs, dict) else None
                kind = str(cell.get("cell_type", ""))[:20]
            except (AttributeError, TypeError):
                odd += 1
                continue
            total += len(source)
            if len(source) > _LONGEST_CELL or total > _LONGEST_NOTEBOOK:
                odd += 1
                continue
            # A lone surrogate cannot be written to any file.
            source = source.encode("utf-8", "replace").decode()
            found.append({"kind": kind, "source": source, "grade_id": str(grade_id)[:100] if grade_id else ""})
        odd += max(0, len(cells) - _MOST_CELLS)
    except MemoryError:
        return {"unreadable": "it is too large"}
    except (RecursionError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        return {"unreadable": f"it is no notebook ({type(error).__name__})"}
    finally:
        raw = cells = None
        gc.collect()
    return {"cells": found, "odd": odd}


# --- cells ------------------------------------------------------------------------------------------------------------


def _run(source: str, name: str, trusted: bool, namespace: dict[str, Any]) -> dict[str, Any]:
    try:
        tree = _parse(source, name)
        if not trusted:
            # Whose submission it is, the grader knows from elsewhere.
            tree.body = [node for node in tree.body if not _names_the_student(node)]
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        code = compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & 0x80:
            import asyncio

            asyncio.run(eval(code, namespace))
        else:
            exec(code, namespace)
    except BaseException as error:
        return {"ok": False, "error": _told(error, name)}
    return {"ok": True}


def _parse(source: str, name: str) -> ast.Module:
    try:
        return _tree(source, name)
    except SyntaxError:
        if not any(
            line.lstrip().startswith(("%", "!", "?")) or line.rstrip().endswith("?") for line in source.splitlines()
        ):
            raise
    from IPython.core.inputtransformer2 import TransformerManager

    return _tree(TransformerManager().transform_cell(source), name)


def _tree(source: str, name: str) -> ast.Module:
    tree = compile(source, name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    return tree


def _names_the_student(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in ("student", "seed_key")
        and isinstance(node.value, ast.Constant)
    )


def _told(error: BaseException, name: str) -> dict[str, Any]:
    line = 0
    with contextlib.suppress(Exception):
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == name:
                line = trace.tb_lineno
            trace = trace.tb_next
        if isinstance(error, SyntaxError) and error.filename == name:
            line = int(error.lineno or 0)
    try:
        message = str(error)[:300].encode("utf-8", "replace").decode()
    except BaseException:
        message = ""
    return {"type": str(type(error).__name__)[:60], "message": message, "line": int(line)}


# --- questions --------------------------------------------------------------------------------------------------------


def _ask(request: dict[str, Any], namespace: dict[str, Any]) -> dict[str, Any]:
    kind = request["kind"]
    if kind == "program":
        data = request["data"]
        scope = {**namespace, **data}
        exec(compile(request["source"], "<check>", "exec"), scope)
        return {"value": scope.get("result"), "changed": False}
    name = request["name"]
    if name not in namespace:
        return {"error": {"type": "NotDefined", "message": ""}}
    value = namespace[name]
    if kind == "value":
        return {"value": value, "changed": False}
    args, kwargs = request["args"], request["kwargs"]
    before = wire.encode([args, kwargs])
    value = value(*args, **kwargs)
    # Before what was given is looked at again: an answer may be one of the inputs.
    reply = {"value": value, "changed": False}
    with contextlib.suppress(Exception):
        reply["changed"] = wire.encode([args, kwargs]) != before
    return reply


if __name__ == "__main__":
    main()
