"""The work of each tutorial's `gpu` cell and of the benchmark's GPU part, small and on a device that is not the CPU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.devices.pretended import another_device

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def kernel(device: Any) -> Any:
    from sciviz.ntk import empirical_ntk, make_mlp

    network = make_mlp(input_dim=7, width=32, depth=2, output_dim=3, seed=0, device=device)
    X = torch.randn(9, 7, generator=torch.Generator(device).manual_seed(0), device=device)
    return empirical_ntk(network, X, output="trace", memory_limit_bytes=10**6).double().cpu()


def digits(device: Any) -> Any:
    from sciviz.flow import experiments

    sizes = {"side": 8, "width": 16, "num_steps": 20, "batch_size": 16, "num_pairs": 64, "num_seeds": 2}
    found = experiments.few_steps(**sizes, seed=0, device=device)
    return np.concatenate([found[name].values.astype(float).ravel() for name in found.data_vars])


def splines(device: Any) -> Any:
    from sciviz.kan import experiments

    found = experiments.layer_throughput(seed=0, width=4, batch_size=16, cells=(5, 100), repeats=1, device=device)
    return np.isfinite(found.samples.values)


def memories(device: Any) -> Any:
    from sciviz.hopfield import experiments

    return float(experiments.retrieval_among_millions(seed=0, num_stored=2000, num_queries=8, device=device).exact)


def spikes(device: Any) -> Any:
    from sciviz.snn import experiments

    return float(experiments.long_sequences(seed=0, num_steps=20, num_neurons=600, device=device).mismatch)


def trajectories(device: Any) -> Any:
    from sciviz.ode import experiments

    return experiments.trajectory_batch(seed=0, num_trajectories=16, device=device).evaluations.values


@pytest.mark.parametrize("work", [kernel, digits, splines, memories, spikes, trajectories])
def test_the_work_of_a_gpu_cell(work: Callable[[Any], Any]) -> None:
    here = work("cpu")
    with another_device() as device:
        there = work(device)
    np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5)


def test_each_tutorial_has_its_cell_here() -> None:
    from sciviz.lab.places import tutorials_dir
    from tests.notebooks import lint

    notebooks = map(lint.read, tutorials_dir().glob("*.ipynb"))
    assert sum(len(lint.code_cells(notebook, "gpu")) for notebook in notebooks) == 6


# ---------------------------------------------------------------------------------------------------- the benchmark

SMALL = {
    "large/ntk": {"points": 40, "width": 32},
    "large/spiking": {"steps": 40, "neurons": 1024},
    "large/retrieval": {"stored": 3000},
    "large/splines": {"width": 8, "batch": 32},
    "large/trajectories": {"trajectories": 8},
}
# What a judge may find, in the precision that the work is done in.
SLACK = {
    "relative_error": 1e-5, "other_spikes": 0.0, "gradient_difference": 1e-5, "largest_error": 1e-4, "layer_error": 1e-5,
    "error": 2.8e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def workloads() -> Iterator[dict[str, Any]]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from workloads import large

        yield {workload.id: workload for workload in large.WORKLOADS}
    finally:
        sys.path.remove(str(BENCHMARKS))


def outcomes(workload: Any, device: str) -> dict[str, Any]:
    found = {}
    for contestant in workload.contestants:
        if contestant.environment == "ours":
            run = contestant.make(device, SMALL[workload.id])
            found[contestant.library] = {**run(), **run.more()}
    return found


@pytest.mark.parametrize("name", SMALL)
def test_the_benchmarks_work_is_right_on_both_devices(name: str, workloads: dict[str, Any]) -> None:
    here = outcomes(workloads[name], "cpu")
    with another_device() as device:
        there = outcomes(workloads[name], str(device))
    for found in (here, there):
        for library, figures in workloads[name].judge(found, SMALL[name]).items():
            for figure, value in figures.items():
                if figure == "found":
                    assert value == 1.0, library
                else:
                    assert value <= SLACK[figure], (library, figure)


def test_every_work_of_a_gpus_size_is_rehearsed(workloads: dict[str, Any]) -> None:
    assert set(workloads) == set(SMALL)
    assert all({"cpu", "cuda"} <= set(workload.sizes) for workload in workloads.values())


@pytest.mark.parametrize(("name", "most"), [("large/ntk", 2.5), ("large/retrieval", 1.0), ("large/splines", 2.2)])
def test_floors_count_no_product_that_is_not_needed(
    name: str, most: float, workloads: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch counts the products that are made; a floor above them would flatter, one far below them would mislead."""
    from torch.utils.flop_counter import FlopCounterMode

    from sciviz.lab import products

    monkeypatch.setattr(products, "_HAS_ONEDNN", False)  # whose products torch does not count
    workload = workloads[name]
    run = workload.contestants[0].make("cpu", SMALL[name])
    with FlopCounterMode(display=False) as counter:
        run()
    floor = workload.floor(SMALL[name], {}).operations
    assert floor <= counter.get_total_flops() <= most * floor + 1


def test_a_floor_is_set_by_the_slower_of_memory_and_arithmetic(workloads: dict[str, Any]) -> None:
    from registry import Floor, Target

    ceilings = {"bytes_per_s": 100.0, "float32_per_s": 1000.0, "float64_per_s": 500.0}
    assert Floor(200.0, 1000.0).seconds(ceilings) == (2.0, "memory")
    assert Floor(200.0, 4000.0).seconds(ceilings) == (4.0, "arithmetic")
    assert Floor(200.0, 4000.0, "float64").seconds(ceilings) == (8.0, "arithmetic")
    aim = Target("", 1.0, "aim_over_share")
    assert aim.verdict({"sciviz": {"share": 0.7, "bound": "memory"}})["met"] is True
    assert aim.verdict({"sciviz": {"share": 0.5, "bound": "memory"}})["met"] is False
    assert aim.verdict({"sciviz": {"share": 0.5, "bound": "arithmetic"}})["met"] is True
    assert aim.verdict({})["met"] is None
