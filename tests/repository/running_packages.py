"""The packages that running needs, and a folder with these packages alone."""

from __future__ import annotations

from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = "avr-sts-openai"


def running_packages() -> dict[str, Distribution]:
    """Return the installed packages that the project's dependencies need, by name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(PROJECT), distribution(PROJECT))]
    while waiting:
        wanted, package = waiting.pop()
        for extra in {"", *wanted.extras}:
            if (wanted.name.lower(), extra) in seen:
                continue
            seen.add((wanted.name.lower(), extra))
            for each in map(Requirement, package.requires or ()):
                if each.marker is None or each.marker.evaluate({"extra": extra}):
                    needed = distribution(each.name)
                    found[needed.metadata["Name"]] = needed
                    waiting.append((each, needed))
    return found


def link_packages(folder: Path) -> None:
    """Link the top-level files and folders of the running packages into a folder of packages."""
    for package in running_packages().values():
        for file in package.files or ():
            top = file.parts[0]
            source = Path(str(package.locate_file(top)))
            if top != ".." and source.exists() and not (folder / top).is_symlink():
                (folder / top).symlink_to(source)
