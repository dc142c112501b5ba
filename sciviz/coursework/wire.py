"""Messages between the grader and the sandbox: plain data that cannot carry code.

A message is twelve bytes (four letters, the length of the JSON, the length of the arrays), JSON, and the arrays' bytes one
after the other. Whatever JSON has no word for is an object with the key `$`; a dict of the sender's travels as pairs, so that it
cannot be taken for one. This module runs on both sides of the wall, and what comes from inside is believed in nothing: sizes
are known before memory is given, types are from a short list, and nesting is bounded.
"""

from __future__ import annotations

import json
import math
import os
import select
import struct
import time
from typing import Any

MAGIC = b"scv1"
LARGEST = 16 * 2**20
_JSON_LARGEST = 4 * 2**20
_DEEPEST = 16
_MOST_NODES = 200_000
_DTYPES = frozenset(["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16"])
_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class WireError(Exception):
    """A message is too large, of another format, or holds what cannot be sent."""


class Silence(Exception):
    """No message came in time."""


class Gone(Exception):
    """The other side closed the pipe."""


def encode(value: Any) -> bytes:
    """Return a message.

    Raises
    ------
    WireError
        If the value holds anything but None, truth values, numbers, strings, arrays, tensors, lists, tuples and dicts
        with string keys, or is too large.

    >>> decode(encode({"a": (1, [2.5, None]), "b": "text"}))
    {'a': (1, [2.5, None]), 'b': 'text'}
    """
    arrays: list[bytes] = []
    size = [0, 0]
    tree = _pack(value, arrays, size, 0)
    head = json.dumps(tree, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode()
    if len(head) > _JSON_LARGEST:
        raise WireError("more text than a message may hold")
    return MAGIC + struct.pack("<II", len(head), size[0]) + head + b"".join(arrays)


def _pack(value: Any, arrays: list[bytes], size: list[int], depth: int) -> Any:
    size[1] += 1
    if depth > _DEEPEST or size[1] > _MOST_NODES:
        raise WireError("more nested or more numerous parts than a message may hold")
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if abs(value) < 2**63 else {"$": "int", "is": hex(value)[:4000]}
    if kind is float:
        return value if math.isfinite(value) else {"$": "float", "is": str(value)}
    if kind is str:
        return value
    if kind is complex:
        return {
            "$": "complex",
            "re": _pack(value.real, arrays, size, depth + 1),
            "im": _pack(value.imag, arrays, size, depth),
        }
    if isinstance(value, dict):
        pairs = []
        for name, part in value.items():
            if not isinstance(name, str):
                raise WireError(f"a dict with a key of type {type(name).__name__}")
            pairs.append([str(name), _pack(part, arrays, size, depth + 1)])
        return {"$": "dict", "is": pairs}
    if isinstance(value, tuple):
        return {"$": "tuple", "is": [_pack(part, arrays, size, depth + 1) for part in value]}
    if isinstance(value, list):
        return [_pack(part, arrays, size, depth + 1) for part in value]
    word = "array"
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        word = "tensor"
        value = value.detach().cpu()
        if str(value.dtype) in ("torch.bfloat16", "torch.float16"):
            value = value.float()
        value = value.resolve_conj().resolve_neg().numpy()
    if hasattr(value, "__array_interface__") or hasattr(value, "dtype"):
        return _pack_array(value, word, arrays, size)
    if isinstance(value, (bool, int, float, str)):
        # A subclass, such as an enumeration's member: its plain value.
        plain = next(base for base in (bool, int, float, str) if isinstance(value, base))
        return _pack(plain(value), arrays, size, depth)
    raise WireError(f"a value of type {type(value).__name__}")


def _pack_array(value: Any, word: str, arrays: list[bytes], size: list[int]) -> Any:
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind == "U" and array.ndim == 0:
        return str(array)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.dtype.str not in _DTYPES or array.ndim > 8:
        raise WireError(f"an array of type {str(array.dtype)[:40]}")
    if size[0] + array.nbytes > LARGEST:
        raise WireError("more numbers than a message may hold")
    data = array.tobytes()
    place = size[0]
    size[0] += len(data)
    arrays.append(data)
    return {"$": word, "dtype": array.dtype.str, "shape": list(array.shape), "at": place}


def decode(message: bytes, *, tensors: bool = False) -> Any:
    """Return what a message says; arrays are copies of their own.

    Parameters
    ----------
    tensors
        Whether what was sent as a torch tensor becomes one; else it becomes an array.

    Raises
    ------
    WireError
        If it is no message.
    """
    if len(message) < 12 or message[:4] != MAGIC:
        raise WireError("not a message")
    head, body = struct.unpack("<II", message[4:12])
    if head > _JSON_LARGEST or body > LARGEST or len(message) != 12 + head + body:
        raise WireError("a message of another length than it says")
    try:
        tree = json.loads(message[12 : 12 + head].decode("ascii"))
        return _unpack(tree, memoryview(message)[12 + head :], [0, 0], 0, tensors)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, MemoryError) as error:
        raise WireError(f"not a message ({type(error).__name__})") from None


def _unpack(tree: Any, body: memoryview, used: list[int], depth: int, tensors: bool) -> Any:
    used[0] += 1
    if depth > _DEEPEST + 1 or used[0] > _MOST_NODES:
        raise WireError("more nested or more numerous parts than a message may hold")
    if isinstance(tree, list):
        return [_unpack(part, body, used, depth + 1, tensors) for part in tree]
    if not isinstance(tree, dict):
        return tree
    kind = tree["$"]
    if kind == "tuple":
        return tuple(_unpack(part, body, used, depth + 1, tensors) for part in tree["is"])
    if kind == "dict":
        return {str(name): _unpack(part, body, used, depth + 1, tensors) for name, part in tree["is"]}
    if kind == "int":
        return int(str(tree["is"])[:4000], 16)
    if kind == "float":
        return _NUMBERS[tree["is"]]
    if kind == "complex":
        parts = (
            _unpack(tree["re"], body, used, depth + 1, tensors),
            _unpack(tree["im"], body, used, depth + 1, tensors),
        )
        return complex(float(parts[0]), float(parts[1]))
    if kind not in ("array", "tensor"):
        raise WireError("an unknown kind of value")
    return _unpack_array(tree, body, used, tensors and kind == "tensor")


def _unpack_array(tree: Any, body: memoryview, used: list[int], tensor: bool) -> Any:
    import numpy as np

    shape, name, place = tree["shape"], tree["dtype"], tree["at"]
    if name not in _DTYPES or not isinstance(shape, list) or len(shape) > 8:
        raise WireError("an array of an unknown type")
    if not all(type(n) is int and 0 <= n <= LARGEST for n in [*shape, place]):
        raise WireError("an array of impossible size")
    dtype = np.dtype(name)
    length = math.prod(shape) * dtype.itemsize
    used[1] += length
    if place + length > len(body) or used[1] > LARGEST:
        raise WireError("an array larger than its message")
    if dtype.kind == "b":
        # A truth value that is neither 0 nor 1 is undefined behaviour further on.
        array = np.array(np.frombuffer(body[place : place + length], np.uint8).reshape(shape) != 0)
    else:
        array = np.frombuffer(body[place : place + length], dtype).reshape(shape).copy()
    if tensor:
        import torch

        return torch.from_numpy(array)
    return array


def send(pipe: int, message: bytes, deadline: float | None = None) -> None:
    """Write a message to a pipe.

    Raises
    ------
    Silence
        If the other side does not read until the deadline (of `time.monotonic`).
    Gone
        If it has closed the pipe.
    """
    view = memoryview(message)
    while view:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [pipe], [], left)[1]:
                raise Silence
        try:
            # A pipe that is ready takes this much without waiting.
            view = view[os.write(pipe, view[: select.PIPE_BUF] if deadline is not None else view) :]
        except (BrokenPipeError, OSError):
            raise Gone from None


def receive(pipe: int, deadline: float | None = None) -> bytes:
    """Read one message from a pipe.

    Raises
    ------
    Silence
        If none is complete at the deadline (of `time.monotonic`).
    Gone
        If the pipe was closed.
    WireError
        If what comes is no message, or larger than allowed.
    """
    head = _exactly(pipe, 12, deadline)
    if head[:4] != MAGIC:
        raise WireError("not a message")
    text, body = struct.unpack("<II", head[4:])
    if text > _JSON_LARGEST or body > LARGEST:
        raise WireError("a message larger than allowed")
    return head + _exactly(pipe, text + body, deadline)


def _exactly(pipe: int, length: int, deadline: float | None) -> bytes:
    parts: list[bytes] = []
    while length:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise Silence
        part = os.read(pipe, min(length, 1 << 20))
        if not part:
            raise Gone
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
