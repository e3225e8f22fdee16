"""The project's home is one value, and every address of the project begins with it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PROJECT: Final[dict[str, Any]] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
HOME: Final[str] = PROJECT["urls"]["Homepage"]

# Others with this name: AVR's own image, and its repository.
_OTHERS: Final = ("agentvoiceresponse/",)
_NAMED: Final = re.compile(r"https?://(?:[\w.-]+/)+avr-sts-openai\b[\w./-]*")


def _text(path: str) -> str:
    return (REPOSITORY / path).read_text("utf-8")


def _is_below_home(address: str) -> bool:
    return address == HOME or address.startswith(f"{HOME}/")


def _tracked() -> list[str]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this is no checkout")
    # A checkout may belong to another user, as in a container of CI.
    command = ("git", "-c", f"safe.directory={REPOSITORY}", "ls-files")
    listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [path for path in listing.stdout.splitlines() if (REPOSITORY / path).is_file()]


def test_home_is_a_repository_of_the_project() -> None:
    assert re.fullmatch(r"https://[\w.-]+(?:/[\w.-]+)*/avr-sts-openai", HOME), HOME


@pytest.mark.parametrize(("name", "address"), PROJECT["urls"].items())
def test_address_of_the_package_begins_with_home(name: str, address: str) -> None:
    assert _is_below_home(address), name


def test_no_file_names_another_home() -> None:
    wrong = []
    for path in _tracked():
        try:
            text = _text(path)
        except UnicodeDecodeError:
            continue
        wrong += [
            f"{path}: {found[0]}"
            for found in _NAMED.finditer(text)
            if not _is_below_home(found[0]) and not any(other in found[0] for other in _OTHERS)
        ]
    assert not wrong


def test_chart_names_home() -> None:
    chart = yaml.safe_load(_text("helm/Chart.yaml"))
    assert chart["home"] == HOME
    assert chart["sources"] == [HOME]
    assert chart["annotations"]["artifacthub.io/license"] == PROJECT["license"]


def test_image_labels_name_home_and_licence() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', _text("Dockerfile")))
    assert labels["url"] == labels["source"] == HOME
    assert labels["documentation"] == PROJECT["urls"]["Documentation"]
    assert labels["licenses"] == PROJECT["license"]
