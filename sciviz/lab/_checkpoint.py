"""What a run that can be interrupted needs: its sources of chance, Ctrl-C held back, and files written all or nothing.

A checkpoint holds tensors, numbers and words only and is read with `weights_only=True`, so that reading one cannot run
code; a SHA-256 behind it tells a damaged file from a sound one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import signal
import threading
import time
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# ------------------------------------------------------------------------------------- randomness and interruptions


def get_randomness(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])


def set_randomness(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def seed_randomness(device: torch.device, seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextlib.contextmanager
def keep_randomness(device: torch.device) -> Iterator[None]:
    states = get_randomness(device)
    try:
        yield
    finally:
        set_randomness(device, states)


@contextlib.contextmanager
def hold_interrupts(wanted: bool) -> Iterator[list[int]]:
    """Collect the first Ctrl-C instead of raising amid an update, where no state could be saved; the second raises."""
    held: list[int] = []

    def hold(number: int, frame: types.FrameType | None) -> None:
        if held:
            raise KeyboardInterrupt
        held.append(number)

    # Signals reach the main thread only, and a handler of somebody else's is not ours to replace.
    main = threading.current_thread() is threading.main_thread()
    if not (wanted and main and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
        yield held
        return
    signal.signal(signal.SIGINT, hold)
    try:
        yield held
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# ------------------------------------------------------------------------------------------------------ checkpoints


def digest(*parts: Any) -> str:
    state = hashlib.sha256()
    for part in parts:
        state.update(part.encode() if isinstance(part, str) else part)
    return state.hexdigest()[:16]


def describe_code(function: Any) -> str:
    """Name a callable and digest its code, so that an edited loss is not taken for the one before."""
    while isinstance(function, partial):
        function = function.func
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return name if code is None else f"{name} {digest(*_code_words(code))}"


def _code_words(code: types.CodeType) -> Iterator[Any]:
    yield from (code.co_code, repr(code.co_names), repr(code.co_varnames))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code_words(constant)
        else:  # the order of a frozenset differs from process to process
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def write(path: Path, state: dict[str, Any]) -> None:
    """Write all or nothing: a new file beside the old one, forced to the disk, then renamed over it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    try:
        _unpack(content)
    except pickle.UnpicklingError as error:
        raise TypeError(f"checkpoint needs an optimizer and scheduler whose state is plain data; {error}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(f".{path.name}.*.part"):  # of a process that was killed while writing
        with contextlib.suppress(OSError):
            if time.time() - left_over.stat().st_mtime > 3600:
                left_over.unlink()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            # torch.load ignores what follows its archive, and does not notice a flipped bit within: the digest does.
            file.write(content + hashlib.sha256(content).digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _unpack(content: bytes) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def read(path: Path, settings: dict[str, str], num_steps: int) -> dict[str, Any]:
    way_out = "delete it, name another file, or pass resume=False to start again"
    whole = path.read_bytes()
    content, seal = whole[:-32], whole[-32:]
    try:
        if hashlib.sha256(content).digest() != seal:
            raise pickle.UnpicklingError
        state = _unpack(content)
        written = state["settings"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError):
        raise ValueError(f"checkpoint {str(path)!r} is damaged or was not written by fit; {way_out}.") from None
    other = [name for name in settings if settings[name] != written.get(name)]
    if other:
        changes = "; ".join(f"{name} was {written.get(name)}, is {settings[name]}" for name in other)
        raise ValueError(f"checkpoint {str(path)!r} is of other settings ({changes}); {way_out}.")
    if state["step"] > num_steps:
        raise ValueError(f"checkpoint {str(path)!r} has {state['step']} steps, num_steps is {num_steps}; {way_out}.")
    return state
