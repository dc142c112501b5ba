"""One report of the toy notebook, made once for all tests that look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sciviz.reports import Report, report
from tests.notebooks import toys


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "curve.png").write_bytes(toys.PNG)
    return toys.write(toys.good(), folder / "toy.ipynb")


@pytest.fixture(scope="session")
def made(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    out = tmp_path_factory.mktemp("reports") / "toy"
    return report(str(toy), {"points": "5", "steep": 3, "shift": "true", "seed": 7}, out=out, progress=False)
