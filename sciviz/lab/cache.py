"""Training results that are kept between runs, in the user's cache directory, under the hash of what made them.

An entry is named by a hash of all that decides its contents, so that it never has to be brought up to date: what has
changed has another name. It is written under a temporary name and renamed, so that two processes at once do no harm: at
worst both compute it. What cannot be read counts as missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_dir
from torch import Tensor

Tensors = dict[str, Tensor]


def cache_dir() -> Path:
    """Return where results are kept: `SCIVIZ_CACHE_DIR`, or a folder in the user's cache directory."""
    return Path(os.environ.get("SCIVIZ_CACHE_DIR") or Path(user_cache_dir("sciviz", appauthor=False)) / "training")


def entry_name(kind: str, settings: Mapping[str, Any], code: str = "") -> str:
    """Return the name of an entry: its kind and a hash of settings, code and torch's version.

    Raises
    ------
    ValueError
        If settings are not plain numbers, words, or lists of them.

    >>> entry_name("flow", {"seed": 0}) == entry_name("flow", {"seed": 1})
    False
    """
    try:
        text = json.dumps([dict(settings), code, torch.__version__], sort_keys=True)
    except TypeError as error:
        raise ValueError(f"settings must be plain numbers, words, or lists of them: {error}.") from None
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.pt"


def kept(kind: str, settings: Mapping[str, Any], make: Callable[[], Tensors], *, code: str = "") -> Tensors:
    """Return tensors from the cache, or make them and keep them.

    Where nothing can be written (a full disk, a read-only home) they are made each time.

    Parameters
    ----------
    kind
        What they are, in one word.
    settings
        All that decides what comes out.
    make
        Computes them.
    code
        A hash of the code that computes them, so that a changed program does not get old results.
    """
    path = cache_dir() / entry_name(kind, settings, code)
    if path.is_file():
        # A file that was cut short, or is none of ours, is as good as none.
        with contextlib.suppress(Exception):
            found: Tensors = torch.load(path, weights_only=True)
            return found
    made = make()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
        try:
            torch.save(made, temporary)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    return made


def clear() -> tuple[int, int]:
    """Remove everything that is kept; return how many files and bytes that were."""
    folder = cache_dir()
    if not folder.is_dir():
        return 0, 0
    sizes = [path.stat().st_size for path in folder.iterdir() if path.is_file()]
    shutil.rmtree(folder, ignore_errors=True)
    return len(sizes), sum(sizes)
