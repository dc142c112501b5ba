"""One solution for laptop, CI and Binder, and no way for a copy of it to drift unnoticed."""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What whoever installs the package is promised to get with it.
PROMISED = {"jupyterlab", "ipywidgets", "torch", "plotly", "xarray", "nbval", "papermill"}
GENERATED = (
    "constraints.txt",
    "requirements.lock",
    "binder/requirements.txt",
    "binder/runtime.txt",
    "binder/postBuild",
)


@pytest.fixture(scope="module")
def lock(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("lock")


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, object]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pinned(lock: ModuleType, path: Path) -> dict[str, str]:
    pins = [pin for pin in lock.read_pins(path) if pin.marker is None or pin.marker.evaluate()]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


def test_generated_files_agree_with_their_sources(lock: ModuleType) -> None:
    assert lock.drift() == []


@pytest.fixture
def copied_lock(lock: ModuleType, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("pyproject.toml", "Makefile", *GENERATED):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(root / name, tmp_path / name)
    monkeypatch.setattr(lock, "ROOT", tmp_path)
    assert lock.drift() == []
    return lock


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("pyproject.toml", '"numpy>=', '"numpy>=1', "constraints.txt was solved from other dependencies"),
        ("requirements.lock", "numpy==", "numpy==1", "requirements.lock has numpy==1"),
        ("binder/requirements.txt", "numpy==", "numpy==1", "binder/requirements.txt does not follow"),
        ("binder/runtime.txt", "python-3.11", "python-3.12", "binder/runtime.txt does not follow"),
        ("binder/postBuild", "--no-deps", "", "binder/postBuild does not follow"),
    ],
)
def test_drift_is_noticed(copied_lock: ModuleType, name: str, old: str, new: str, told: str) -> None:
    path = copied_lock.ROOT / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert any(sentence.startswith(told) for sentence in copied_lock.drift())


def test_every_dependency_is_pinned_within_its_bounds(lock: ModuleType, root: Path, project: dict) -> None:
    pins = pinned(lock, root / "constraints.txt")
    assert pins["torch"] == "2.13.0"
    extras = project["optional-dependencies"].values()
    for line in [*project["dependencies"], *(line for extra in extras for line in extra)]:
        requirement = Requirement(line)
        assert list(requirement.specifier), f"{line} states no lower bound"
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier


def test_promised_packages_are_dependencies(project: dict) -> None:
    assert {canonicalize_name(Requirement(line).name) for line in project["dependencies"]} >= PROMISED


@pytest.mark.parametrize("name", ["constraints.txt", "requirements.lock"])
def test_pins_name_no_address(lock: ModuleType, root: Path, name: str) -> None:
    text = (root / name).read_text(encoding="utf-8")
    assert not re.search(r"://|^-|\bfile:|@|\+cpu", text, flags=re.MULTILINE)
    assert all(pin.url is None and str(pin.specifier).startswith("==") for pin in lock.read_pins(root / name))


def test_this_environment_has_the_pinned_versions(lock: ModuleType, root: Path) -> None:
    if not list(Path(sys.prefix).glob(".ready-test-*")):
        pytest.skip("this environment was not made by `make test`")
    pins = pinned(lock, root / "constraints.txt")
    # Only what is installed here: importing setuptools puts the packages that it brings along on the path too.
    places = list({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    have = {canonicalize_name(found.name): found.version.split("+")[0] for found in metadata.distributions(path=places)}
    other = {name: (have[name], version) for name, version in pins.items() if have.get(name, version) != version}
    assert other == {}, "installed and pinned versions"
    # What came with Python itself, and the project, are not for the pins to say.
    assert set(have) - set(pins) <= {"pip", "setuptools", "sciviz"}
