"""`make setup DEPENDENCIES=...`: what each set of versions is."""

from __future__ import annotations

import tomllib
from typing import Any, Final

import pytest

from scripts import constraints

PROJECT: Final[dict[str, Any]] = tomllib.loads((constraints.REPOSITORY / "pyproject.toml").read_text("utf-8"))[
    "project"
]
PINS: Final = {constraints.name_of(pin): pin.partition("==")[2] for pin in constraints.tested()}
LOWEST: Final = {constraints.name_of(pin): pin.partition("==")[2] for pin in constraints.lowest()}


def _order(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_lowest_set_has_each_lower_bound(requirement: str) -> None:
    name = constraints.name_of(requirement)
    assert LOWEST[name] == constraints.lower_bound(requirement)
    assert _order(LOWEST[name]) <= _order(PINS[name])


def test_lowest_set_keeps_the_tested_tools() -> None:
    assert LOWEST["pytest"] == PINS["pytest"]
    assert "pydantic" not in LOWEST, "dependencies of dependencies are free"


def test_requirement_without_a_lower_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="no lower bound"):
        constraints.lower_bound("numpy<3")


def test_unknown_set_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert constraints.main(["lowset"]) == 2
    assert "give tested, lowest, newest" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "lines"), [("newest", 0), ("tested", len(PINS)), ("lowest", len(LOWEST))])
def test_set_prints_one_pin_a_line(name: str, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert constraints.main([name]) == 0
    assert len(capsys.readouterr().out.split()) == lines
