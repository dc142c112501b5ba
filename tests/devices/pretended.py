"""A device that is not the CPU, pretended: its tensors say "meta" for a device, hold their numbers, and refuse to meet the CPU's.

What is written for a GPU goes wrong most often where a tensor made on the CPU meets one of the GPU's. Real GPUs raise there, and so
does this device, on any machine. It computes on the CPU, so its numbers are the CPU's; of a GPU's speed it says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "meta"
_MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class There(torch.Tensor):
    """A tensor of the pretended device."""

    elem: torch.Tensor

    @staticmethod
    def __new__(cls, elem: torch.Tensor) -> There:
        made: There = torch.Tensor._make_wrapper_subclass(
            cls,
            elem.size(),
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            layout=elem.layout,
            device=NAME,
        )
        return made

    def __init__(self, elem: torch.Tensor) -> None:
        self.elem = elem

    # Two methods of torch's that go past all dispatching.

    def tolist(self) -> Any:
        """Return the numbers."""
        return self.elem.tolist()

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return a tensor of this device."""
        return There(self.elem.new_tensor(data, dtype=dtype))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with _Pretended():
            return func(*args, **(kwargs or {}))


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


class _Pretended(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        leaves = tree_leaves((args, kwargs))
        there = [leaf for leaf in leaves if isinstance(leaf, There)]
        here = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, There)]
        # Numbers of the CPU may meet tensors of another device, as on a GPU; and copying is how tensors get across.
        strangers = [tuple(tensor.shape) for tensor in here if tensor.ndim > 0]
        if there and strangers and func not in _MOVES:
            raise RuntimeError(f"{func} got tensors of the CPU, of shape {strangers}, beside those of another device.")
        if func is torch.ops.aten.copy_.default:
            goes_there = isinstance(args[0], There)
        elif kwargs.get("device") is not None:
            goes_there = _is_there(kwargs["device"])
            kwargs["device"] = "cpu"
        else:
            goes_there = bool(there)
        args, kwargs = tree_map(lambda leaf: leaf.elem if isinstance(leaf, There) else leaf, (args, kwargs))
        answer = func(*args, **kwargs)
        if not goes_there:
            return answer
        # What works in place or into `out` returns the tensor it was given.
        known = {id(tensor.elem): tensor for tensor in there}

        def wrap(leaf: Any) -> Any:
            if not isinstance(leaf, torch.Tensor):
                return leaf
            found = known.get(id(leaf))
            return There(leaf) if found is None else found

        return tree_map(wrap, answer)


class _Generator(torch.Generator):
    place: torch.device

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made = super().__new__(cls, "cpu" if _is_there(device) else device)
        made.place = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.place


@contextmanager
def another_device() -> Iterator[torch.device]:
    """Pretend that there is another device than the CPU, and yield it."""
    # These two read Python's numbers past all dispatching.
    readers = {name: _across(getattr(torch, name)) for name in ("tensor", "as_tensor")}
    with mock.patch.multiple(torch, Generator=_Generator, **readers), _Pretended():
        yield torch.device(NAME)


def _across(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        if isinstance(data, torch.Tensor) or not _is_there(device):
            return make(data, *args, device=device, **kwargs)
        return make(data, *args, **kwargs).to(device)

    return made
