"""The wheel: its metadata, and its command in a virtual environment of its own, as `pipx` makes one."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any, Final

import pytest

from common.runtime.cli import PROGRAM
from common.runtime.release import RELEASE
from tests.repository.imports import module_of, sources
from tests.repository.running_packages import link_packages

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PROJECT: Final[dict[str, Any]] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
PACKAGES: Final = ("common", "dispatcher", "simulator", "worker")
NEEDS_AN_EXTRA: Final = {"common.observe.span_export"}
"""Modules that the service imports only where an extra is installed."""
SOURCES: Final = ("LICENSE", "README.md", "pyproject.toml", "setup.py")


def _run(*command: str | Path, folder: Path) -> str:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, with the tools of this environment."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        (copy / name).write_bytes((REPOSITORY / name).read_bytes())
    for package in PACKAGES:
        for file in (REPOSITORY / package).rglob("*"):
            if file.is_file() and not {"node_modules", "__pycache__"} & {*file.parts}:
                target = copy / file.relative_to(REPOSITORY)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    pip = (sys.executable, "-P", "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation")
    _run(*pip, "--wheel-dir", copy / "wheels", copy, folder=copy)
    (built,) = (copy / "wheels").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode("utf-8"))


def test_metadata_has_licence_addresses_and_classifiers(metadata: Message) -> None:
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    addresses = dict(each.split(", ", 1) for each in metadata.get_all("Project-URL", []))
    assert addresses == PROJECT["urls"]
    assert metadata.get_all("Classifier") == PROJECT["classifiers"]
    assert set(metadata["Keywords"].split(",")) == set(PROJECT["keywords"])
    assert metadata["Requires-Python"] == PROJECT["requires-python"]


def test_wheel_holds_the_licence_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        licences = [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
        assert archive.read(licences[0]) == (REPOSITORY / "LICENSE").read_bytes()
    folders = {name.split("/", 1)[0] for name in names if ".dist-info/" not in name}
    assert folders == {*PACKAGES}


def test_wheel_holds_the_dialogue_with_its_licence_and_tools(wheel: Path) -> None:
    folder = REPOSITORY / "simulator" / "speech"
    files = {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("simulator/speech/")}
    assert held == {path.relative_to(REPOSITORY).as_posix() for path in files}


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_classifiers_name_each_python_that_ci_tests(version: str) -> None:
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel beside what running needs, and nothing else: no registry is asked."""
    folder = tmp_path_factory.mktemp("installed")
    home = folder / "venv"
    _run(sys.executable, "-m", "venv", "--without-pip", home, folder=folder)
    paths = {"base": str(home), "platbase": str(home)}
    link_packages(Path(sysconfig.get_path("purelib", "venv", paths)))
    pip = (sys.executable, "-P", "-m", "pip", "--python", home / "bin" / "python", "install", "--no-index")
    _run(*pip, "--no-deps", "--ignore-installed", wheel, folder=folder)
    return home / "bin"


def test_installed_wheel_runs_beside_nothing_else(installed: Path, tmp_path: Path) -> None:
    program, python = installed / PROGRAM, installed / "python"
    assert _run(program, "--version", folder=tmp_path).split()[:2] == [PROGRAM, RELEASE]
    where = _run(python, "-c", "import common, worker; print(common.__file__, worker.__file__)", folder=tmp_path)
    assert where.count(str(installed.parent)) == 2
    assert "OPENAI_API_KEY" in _run(program, "serve", "--help", folder=tmp_path)


def test_each_module_needs_the_running_packages_alone(installed: Path, tmp_path: Path) -> None:
    modules = sorted({module_of(path) for path in sources()} - NEEDS_AN_EXTRA)
    program = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    _run(installed / "python", "-c", program, *modules, folder=tmp_path)


@pytest.mark.parametrize("name", ["pytest", "psutil", "mypy", "opentelemetry"])
def test_packages_of_the_tests_are_not_beside_the_wheel(name: str, installed: Path, tmp_path: Path) -> None:
    program = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is not None)"
    _run(installed / "python", "-c", program, name, folder=tmp_path)


def test_installed_demo_holds_a_call_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    shown = _run(installed / PROGRAM, "demo", folder=tmp_path)
    assert "agent:  Good evening, Hotel Miramar" in shown
    assert "avr_transfer to 600" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"demo-out"}
    names = {"call.wav", "timeline.svg", "record.json"}
    assert {path.name for path in (tmp_path / "demo-out").iterdir() if path.stat().st_size > 1000} == names
