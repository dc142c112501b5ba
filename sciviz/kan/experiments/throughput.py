"""How many samples a layer takes a second, forward and back, as its grid grows: what a GPU is for."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
import xarray as xr

from sciviz.kan.experiments._common import sub_seeds
from sciviz.kan.layers import KANLayer
from sciviz.lab.checks import check_int
from sciviz.lab.results import ClaimResult, dataset, variable


def layer_throughput(
    *,
    seed: int,
    width: int = 512,
    batch_size: int = 16384,
    cells: Sequence[int] = (5, 50, 500),
    repeats: int = 5,
    device: torch.device | str = "cpu",
) -> xr.Dataset:
    """Time a layer, forward and back, and measure the memory that a step takes beyond the layer's own parameters.

    Returns
    -------
    xr.Dataset
        By cells: `seconds` (the median of the repeats), `samples` a second, and `memory` beyond parameters and their
        gradients (not a number where the device does not count it).

    >>> layer_throughput(seed=0, width=2, batch_size=8, cells=(3,), repeats=1).sizes["cells"]
    1
    """
    check_int(1, width=width, batch_size=batch_size, repeats=repeats)
    device = torch.device(device)
    on_gpu = device.type == "cuda"
    layer_seed, data_seed = sub_seeds(seed, 2)
    x = 2 * torch.rand(batch_size, width, generator=torch.Generator().manual_seed(data_seed)) - 1
    x = x.to(device)
    seconds, memory = [], []
    for num_cells in cells:
        generator = torch.Generator().manual_seed(layer_seed)
        layer = KANLayer(width, width, num_cells=num_cells, generator=generator).to(device)
        times = []
        before = 0
        for repeat in range(repeats + 1):
            if on_gpu:
                torch.cuda.synchronize(device)
                if repeat == 1:
                    # Gradients are there by now.
                    before = torch.cuda.memory_allocated(device)
                    torch.cuda.reset_peak_memory_stats(device)
            began = time.perf_counter()
            for parameter in layer.parameters():
                if parameter.grad is not None:
                    parameter.grad.zero_()
            layer(x).square().mean().backward()
            if on_gpu:
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - began)
        seconds.append(float(torch.tensor(times[1:]).median()))
        memory.append(float(torch.cuda.max_memory_allocated(device) - before) if on_gpu else float("nan"))
        del layer
    return dataset(
        "Samples a second",
        {"cells": variable("cells", list(cells), "Grid cells")},
        {
            "seconds": variable("cells", seconds, "Time of a step, forward and back", "s"),
            "samples": variable("cells", [batch_size / s for s in seconds], "Samples a second", "1/s"),
            "memory": variable("cells", memory, "Memory of a step beyond parameters and gradients", "bytes"),
        },
        width=width,
        batch_size=batch_size,
    )


def locality_claim(ds: xr.Dataset) -> ClaimResult:
    """`kan-liu/gpu-locality`: what a step needs beyond its parameters does not grow with the grid."""
    parameters = 4.0 * ds.attrs["width"] ** 2 * float(ds["cells"][-1])
    # One gradient of the coefficients is made before it is added to the last one.
    extra = float(ds.memory[-1]) - parameters
    ratio = extra / float(ds.memory[0])
    return ClaimResult(
        measured=ratio,
        holds=None if ratio != ratio else ratio <= 1.0,
        criterion=f"memory of a step beyond parameters and gradients at {int(ds['cells'][-1])} cells <= 1.0 x that at "
        f"{int(ds['cells'][0])}; width {ds.attrs['width']}, {ds.attrs['batch_size']:,} samples",
        spread=None,
        seeds=1,
    )
