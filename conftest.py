"""Settings of every test, those that nbval makes of the tutorials' cells among them."""

from __future__ import annotations

import functools
import os
import signal

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Set what the tests and the kernels that they start inherit."""
    # A surprising claim, and a callback that raises, must turn the run red.
    os.environ["SCIVIZ_STRICT"] = "1"
    # Determinism holds for one number of threads; one a worker, so that workers do not fight over the cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # A shell's background job ignores Ctrl-C, and so would the processes that tests start and interrupt.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@functools.cache
def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the cells of a GPU, and skip all that needs one where there is none."""
    for item in items:
        # nbval's items hold the notebook's cell.
        cell = getattr(item, "cell", None)
        if cell is not None and "gpu" in cell.metadata.get("tags", []):
            item.add_marker("gpu")
        if item.get_closest_marker("gpu") is not None and not _has_cuda():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch finds none on this machine"))
