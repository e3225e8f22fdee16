"""Constraints for pip, by the set of dependencies that `make setup DEPENDENCIES=...` names.

`tested` is constraints.txt. `lowest` has each dependency of the service at its lower bound in pyproject.toml; the
tools of the tests stay at their versions in constraints.txt, and everything else is free. `newest` is empty.
It runs before anything is installed, so it needs the standard library alone.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]
SETS: Final = ("tested", "lowest", "newest")

_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_LOWER_BOUND: Final = re.compile(r"(?:>=|==)\s*([^,;\s]+)")


def name_of(requirement: str) -> str:
    """Return the normalized name of a requirement or a pin."""
    found = _NAME.match(requirement)
    if found is None:
        raise ValueError(f"{requirement!r} has no name: write name>=version")
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def lower_bound(requirement: str) -> str:
    """Return the lowest version that a requirement allows.

    Raises:
        ValueError: it has no lower bound.
    """
    found = _LOWER_BOUND.search(requirement)
    if found is None:
        raise ValueError(f"{requirement!r} has no lower bound: write name>=version")
    return found[1]


def tested() -> list[str]:
    """Return the lines of constraints.txt, without comments."""
    lines = (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def lowest() -> Iterator[str]:
    """Yield the service's dependencies at their lower bounds, and the tested versions of the tests' tools."""
    project: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    service = {name_of(requirement): lower_bound(requirement) for requirement in project["dependencies"]}
    yield from (f"{name}=={version}" for name, version in service.items())
    pins = {name_of(pin): pin for pin in tested()}
    for requirement in (each for extra in project["optional-dependencies"].values() for each in extra):
        name = name_of(requirement)
        if name in pins and name not in service:
            yield pins[name]


def main(arguments: list[str]) -> int:
    """Print the constraints of the set that the only argument names."""
    if len(arguments) != 1 or arguments[0] not in SETS:
        print(f"DEPENDENCIES is {' '.join(arguments)!r}: give {', '.join(SETS)}", file=sys.stderr)  # noqa: T201
        return 2
    constraints = {"tested": tested, "lowest": lowest, "newest": tuple}[arguments[0]]
    print(*constraints(), sep="\n")  # noqa: T201 - for pip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
