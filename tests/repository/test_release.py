"""The check before a release, the notes of its page, and what its wheels are built with."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

import pytest

from common.runtime.release import RELEASE
from scripts import constraints
from scripts.build_requirements import requirements
from scripts.release import notes, problems

REPOSITORY: Final = Path(__file__).resolve().parents[2]
HOME: Final[str] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Homepage"]
SERVER, _, PATH = HOME.rpartition("/avr-sts-openai/")
HERE: Final = {
    "GITHUB_REF_TYPE": "tag",
    "GITHUB_REF_NAME": f"v{RELEASE}",
    "GITHUB_SERVER_URL": SERVER,
    "GITHUB_REPOSITORY": f"avr-sts-openai/{PATH}",
}


def test_working_tree_can_be_released() -> None:
    assert list(problems({})) == []
    assert list(problems(HERE)) == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"GITHUB_REF_NAME": "v9.9.9"}, "the tag is v9.9.9, and pyproject.toml has"),
        (
            {"GITHUB_REPOSITORY": "somebody/fork"},
            "the repository is https://github.com/somebody/fork, and Homepage",
        ),
    ],
)
def test_wrong_tag_or_repository_stops_a_release(changed: dict[str, str], problem: str) -> None:
    (found,) = problems(HERE | changed)
    assert found.startswith(problem)


def test_branch_is_not_compared_with_the_version() -> None:
    assert list(problems(HERE | {"GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "main"})) == []


def test_notes_are_the_part_of_one_version() -> None:
    text = notes(RELEASE)
    assert text.startswith("To do when upgrading:")
    assert "\n## " not in text
    with pytest.raises(ValueError, match=r"CHANGELOG.md has no heading ## 9\.9\.9"):
        notes("9.9.9")


def test_wheels_are_built_with_pinned_packages() -> None:
    names = {constraints.name_of(each) for each in requirements()}
    assert {"mypy", "setuptools", "numpy", "structlog"} <= names
    assert names <= {constraints.name_of(pin) for pin in constraints.tested()}
