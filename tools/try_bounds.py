"""Try the lower bounds that pyproject.toml states: install exactly them in a throwaway environment and use them.

    python tools/try_bounds.py [--keep FOLDER] [--no-tests]

Imports every direct dependency, runs a notebook that draws and reports, then the unit tests. Needs a network and uv.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

IMPORTS = (
    "anywidget, h5netcdf, h5py, ipywidgets, jaxtyping, jupyterlab, latex2mathml, nbconvert, nbformat, nbval, numpy, ot, "
    "papermill, plotly, psutil, scipy, sklearn, sympy, torch, tqdm, xarray, dask, distributed, zarr, nbgrader"
)

# One use of each package that a notebook stands on, together: that is where old versions disagree.
NOTEBOOK = """
width = 8  # hidden units
---
import ipywidgets, plotly.graph_objects as go, torch, xarray as xr
data = xr.Dataset({"y": ("width", torch.arange(width).double().numpy(), {"long_name": "Output", "units": "1"})})
data.to_netcdf("out.nc", engine="h5netcdf")
assert xr.load_dataset("out.nc", engine="h5netcdf").identical(data)
---
figure = go.FigureWidget(go.Scatter(y=data.y.values))
ipywidgets.VBox([ipywidgets.IntSlider(max=width), figure])
---
import ot, scipy.linalg, sklearn.datasets, sympy
assert sklearn.datasets.load_digits().data.shape == (1797, 64)
assert sympy.integrate(sympy.Symbol("x"), (sympy.Symbol("x"), 0, 2)) == 2
assert ot.emd2([1.0], [1.0], torch.ones(1, 1).double().numpy()) == 1.0
"""

RUN_NOTEBOOK = """
import sys, nbformat, papermill, nbconvert
from nbformat.v4 import new_code_cell, new_notebook
cells = [new_code_cell(source.strip()) for source in sys.stdin.read().split("---")]
cells[0].metadata["tags"] = ["parameters"]
metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
nbformat.write(new_notebook(cells=cells, metadata=metadata), "in.ipynb")
papermill.execute_notebook("in.ipynb", "out.ipynb", parameters={"width": 16}, progress_bar=False)
page, _ = nbconvert.HTMLExporter().from_filename("out.ipynb")
print("notebook: ran with other parameters, page of", len(page), "characters")
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the environment there and leave it")
    parser.add_argument("--no-tests", action="store_true", help="leave out the unit tests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch) / "venv").resolve()
        venv.create(folder, with_pip=True)
        python = str(folder / "bin" / "python")
        environment = {
            **os.environ,
            "VIRTUAL_ENV": str(folder),
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        if "PIP_FIND_LINKS" in environment:
            environment.setdefault("UV_FIND_LINKS", environment["PIP_FIND_LINKS"])

        def run(*command: str, **options: object) -> int:
            return subprocess.run(command, env=environment, **options).returncode  # type: ignore[call-overload]

        pin = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
        # The CPU build, where there is one: from a folder of wheels, or from PyTorch's own index (see the Makefile).
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps"]
        index = os.environ.get("TORCH_CPU_INDEX")
        if run(*install, "--no-index", pin, stderr=subprocess.DEVNULL) and index:
            run(*install, "--retries", "1", "--index-url", index, pin)
        lowest = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            "--resolution",
            "lowest-direct",
        ]
        if run(*lowest, "-e", ".[test,cluster,coursework]", cwd=ROOT):
            return 1
        if run(python, "-W", "ignore", "-c", f"import {IMPORTS}; print('imports: all')", cwd=scratch):
            return 1
        if run(python, "-W", "ignore", "-c", RUN_NOTEBOOK, cwd=scratch, input=NOTEBOOK, text=True):
            return 1
        return 0 if options.no_tests else run(python, "-m", "pytest", "-q", "sciviz", "tests/unit", cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
