"""Sweeps on workers that Dask's own commands started, and what points share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from sciviz.reports.points import Point, read_point
from tests.reports import light

# Imports torch and draws with it, then does to its process whatever a notebook might.
SPOILS = """
import random, sys, warnings
import torch, sciviz
fresh = {
    "dtype": float(torch.get_default_dtype() == torch.float32),
    "threads": float(torch.get_num_threads()),
    "pi": float(np.pi),
    "divide": float(np.geterr()["divide"] == "warn"),
    "variable": float("SCIVIZ_SPOILT" in os.environ),
    "files": float(len(os.listdir("."))),
    "module": float(hasattr(sciviz, "spoilt")),
    "names": float("spoilt" in globals()),
    "deterministic": float(torch.are_deterministic_algorithms_enabled()),
    "grad": float(torch.is_grad_enabled()),
    "path": float("/spoilt" in sys.path),
}
unseeded = float(np.random.rand())
"""
DRAWS = """
run = sciviz.start(seed=seed)
matrix = torch.randn(64, 64) @ torch.randn(64, width)
words = "".join({"one", "two", "three", "four", "five"})
dataset("drawn", matrix=matrix.numpy(), order=np.array([ord(c) for c in words]), global_draw=np.random.rand(3))
claim(**fresh, trace=float(matrix.sum()))
dataset("other", unseeded=np.array(unseeded))
"""
AND_SPOILS = """
torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False); torch.use_deterministic_algorithms(True)
np.pi = 3.0; np.seterr(divide="ignore"); np.random.seed(0); random.seed(0); torch.manual_seed(99)
os.environ["SCIVIZ_SPOILT"] = "1"; sciviz.spoilt = spoilt = True; sys.path.append("/spoilt")
open("left.txt", "w").write("left"); torch.randn = None
import threading; threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
"""
FRESH = {
    **{"dtype": 1.0, "threads": 1.0, "pi": np.pi, "divide": 1.0, "variable": 0.0, "files": 0.0, "module": 0.0},
    **{"names": 0.0, "deterministic": 0.0, "grad": 1.0, "path": 0.0},
}


class Cluster:
    """A scheduler and two workers on this machine, as their users start them."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", file)
        light.until(file.is_file, "the scheduler to start")
        import json

        self.address = json.loads(file.read_text())["address"]
        for _ in range(workers):
            self.worker()
        self.wait_for(workers)

    def wait_for(self, workers: int) -> None:
        """Wait until that many workers have found the scheduler: on a busy machine they take their time."""
        import distributed

        if workers:
            with distributed.Client(self.address, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=light.SECONDS)

    def start(self, *words: Any, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "distributed.cli.dask_" + words[0], *map(str, words[1:]), "--no-dashboard"]
        variables = {**os.environ, "TMPDIR": str(light.scratch(self.folder)), **environment}
        with open(self.folder / "log", "ab") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=variables, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def worker(self, **environment: str) -> subprocess.Popen[bytes]:
        return self.start("worker", self.address, "--nthreads", "1", "--host", "127.0.0.1", **environment)

    def end(self) -> None:
        for process in self.processes:
            light.end(process)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield made
    finally:
        made.end()


def results(out: Path) -> dict[str, Point]:
    found = {path.stem: read_point(path, verify=True) for path in (out / "points").glob("*.zip")}
    assert all(point is not None and point.done for point in found.values()), [
        point and point.record["failure"] for point in found.values()
    ]
    return {key: point for key, point in found.items() if point is not None}


def test_two_workers_give_what_one_gives_and_nothing_leaks(cluster: Cluster, tmp_path: Path) -> None:
    path = light.notebook(tmp_path / "light.ipynb", SPOILS, DRAWS, AND_SPOILS)
    words = ["sweep", path, "--grid", "width=8,32", "--grid", "seed=0:3"]
    code, said, wrong = light.run(tmp_path, *words, "-o", tmp_path / "two", "--scheduler", cluster.address)
    assert code == 0 and "6 points, 6 of them run now" in said, said + wrong
    code, said, wrong = light.run(tmp_path, *words, "-o", tmp_path / "one", "--workers", 1)
    assert code == 0, said + wrong
    two, one = results(tmp_path / "two"), results(tmp_path / "one")
    assert len(one) == 6 and one.keys() == two.keys()
    assert len({point.record["worker"] for point in two.values()}) == 2
    assert len({point.record["worker"] for point in one.values()}) == 1
    for key, point in one.items():
        assert point.record["warm"] and two[key].record["warm"]
        assert point.record["claims"] == two[key].record["claims"]
        mine, theirs = point.arrays("drawn"), two[key].arrays("drawn")
        assert mine.keys() == theirs.keys()
        for name, values in mine.items():
            assert values.tobytes() == theirs[name].tobytes() and values.dtype == theirs[name].dtype
    # Each point found its process as if it were the first, though the one before it left nothing as it was.
    for point in [*one.values(), *two.values()]:
        (claim,) = point.record["claims"]
        assert {name: claim["measured"][name] for name in FRESH} == FRESH
    # What is not seeded is drawn anew in each point, not copied from the process that they were forked from.
    unseeded = [float(point.arrays("other")["unseeded"]) for point in [*one.values(), *two.values()]]
    assert len(set(unseeded)) == 12


def test_killed_worker_loses_nothing(cluster: Cluster, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    path = light.notebook(
        tmp_path / "light.ipynb", "mark('seed', seed)\nif seed == 3: wait_for('go')", "claim(seed=float(seed))"
    )
    words = ["sweep", path, "--grid", "seed=0:4", "-p", "marks_folder", marks, "-o", tmp_path / "out", "--cold"]
    process = light.command(tmp_path, *words, "--scheduler", cluster.address)
    try:
        (kernel,) = light.until(lambda: light.marked(marks, "seed-3"), "the waiting point to start")
        # A result that is still on its way when its worker dies is made again; these have arrived.
        light.until(lambda: len(list((tmp_path / "out" / "points").glob("[0-9a-f]*.zip"))) == 3, "three to be done")
        worker = psutil.Process(kernel).parent()
        assert worker is not None and "multiprocessing" in " ".join(worker.cmdline())
        worker.send_signal(signal.SIGKILL)
        light.until(lambda: len(light.marked(marks, "seed-3")) == 2, "the point to start on another worker")
        light.until(lambda: light.gone(kernel), "the first kernel to end", 30)
        (marks / "go").touch()
        said, wrong = process.communicate(timeout=light.SECONDS)
    finally:
        light.end(process)
    assert process.returncode == 0 and "4 points, 4 of them run now" in said, said + wrong
    assert [len(light.marked(marks, f"seed-{seed}")) for seed in range(3)] == [1, 1, 1]
    assert len(results(tmp_path / "out")) == 4


def test_other_version_is_refused_and_nothing_written(tmp_path: Path, cluster: Cluster) -> None:
    older = tmp_path / "older" / "sciviz-0.0.9.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: sciviz\nVersion: 0.0.9\n")
    (tmp_path / "other").mkdir()
    other = Cluster(tmp_path / "other", workers=0)
    try:
        other.worker(PYTHONPATH=str(older.parent))
        other.wait_for(1)
        path = light.notebook(tmp_path / "light.ipynb", "claim(a=1.0)")
        words = ["sweep", path, "--grid", "seed=0:4", "-o", tmp_path / "out", "--scheduler", other.address]
        code, _, said = light.run(tmp_path, *words)
        assert code == 2 and "sciviz 0.0.9 there, 0.1.0 here" in said and said.count("\n") == 1, said
        assert not (tmp_path / "out").exists()
    finally:
        other.end()


def test_no_scheduler_is_told(tmp_path: Path) -> None:
    path = light.notebook(tmp_path / "light.ipynb", "claim(a=1.0)")
    words = ["sweep", path, "--grid", "seed=0:4", "-o", tmp_path / "out", "--scheduler"]
    for address, wanted in [("tcp://127.0.0.1:9", "no Dask scheduler answers at"), ("nowhere", "no Dask scheduler")]:
        code, _, said = light.run(tmp_path, *words, address)
        assert code == 2 and wanted in said and said.count("\n") == 1, said
    assert not (tmp_path / "out").exists()


def test_scheduler_that_dies_leaves_what_is_done(cluster: Cluster, tmp_path: Path) -> None:
    # The last one: it takes the cluster with it.
    marks = tmp_path / "marks"
    marks.mkdir()
    path = light.notebook(
        tmp_path / "light.ipynb", "mark('seed', seed)\nif seed == 2: wait_for('go')", "claim(seed=float(seed))"
    )
    words: list[Any] = [
        "sweep",
        path,
        "--grid",
        "seed=0:3",
        "-p",
        "marks_folder",
        marks,
        "-o",
        tmp_path / "out",
        "--cold",
    ]
    process = light.command(tmp_path, *words, "--scheduler", cluster.address)
    try:
        (kernel,) = light.until(lambda: light.marked(marks, "seed-2"), "the waiting point to start")
        light.until(lambda: len(list((tmp_path / "out" / "points").glob("[0-9a-f]*.zip"))) == 2, "two to be done")
        cluster.scheduler.kill()
        _, said = process.communicate(timeout=light.SECONDS)
        assert process.returncode == 1 and "scheduler is gone. 2 of 3 points are kept; run the same command" in said, (
            said
        )
        assert "Traceback" not in said, said
    finally:
        light.end(process)
    cluster.end()
    light.until(lambda: light.gone(kernel), "the kernel to end with its worker", 30)
    (marks / "go").touch()
    code, said, wrong = light.run(tmp_path, *words, "--workers", 1)
    assert code == 0 and "3 points, 1 of them run now" in said, said + wrong
