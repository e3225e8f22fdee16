"""What a release needs of the repository: one version everywhere, and the notes of that version.

    python -m scripts.release check    # prints the versions as outputs of a workflow's step
    python -m scripts.release notes    # prints the version's part of the CHANGELOG

In a workflow of GitHub, `check` also compares the tag and the repository with GITHUB_REF_TYPE, GITHUB_REF_NAME,
GITHUB_SERVER_URL and GITHUB_REPOSITORY. It needs the standard library alone.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    return project


def _chart(key: str) -> str:
    chart = (REPOSITORY / "helm" / "Chart.yaml").read_text("utf-8")
    found = re.search(rf'^{key}: "?([^"\n]+)"?$', chart, re.MULTILINE)
    if found is None:
        raise ValueError(f"helm/Chart.yaml has no {key}")
    return found[1]


def notes(version: str) -> str:
    """Return the CHANGELOG's text of a version, without its heading.

    Raises:
        ValueError: there is none.
    """
    changelog = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    found = re.search(rf"^## {re.escape(version)}\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        raise ValueError(f"CHANGELOG.md has no heading ## {version} with text below it")
    return found[1].strip() + "\n"


def problems(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what keeps the working tree from being released as its version."""
    project = _project()
    version = project["version"]
    tag = environment.get("GITHUB_REF_NAME") if environment.get("GITHUB_REF_TYPE") == "tag" else None
    if tag is not None and tag != f"v{version}":
        yield f"the tag is {tag}, and pyproject.toml has {version}: tag v{version}, or change the version"
    if (app := _chart("appVersion")) != version:
        yield f"helm/Chart.yaml has appVersion {app}, and pyproject.toml has {version}"
    if repository := environment.get("GITHUB_REPOSITORY"):
        here = f"{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}"
        if here.lower() != (home := project["urls"]["Homepage"]).lower():
            yield f"the repository is {here}, and Homepage in pyproject.toml is {home}"
    try:
        notes(version)
    except ValueError as error:
        yield str(error)


def main() -> None:
    """Run a command of the module's docstring; exit code 1 names what is wrong."""
    version = _project()["version"]
    if sys.argv[1:] == ["notes"]:
        sys.stdout.write(notes(version))
    elif sys.argv[1:] == ["check"]:
        if found := list(problems(os.environ)):
            sys.exit("\n".join(found))
        sys.stdout.write(f"version={version}\nchart={_chart('version')}\n")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
