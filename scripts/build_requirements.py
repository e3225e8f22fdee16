"""Print the packages for building a compiled wheel: the extra `compile`, and those whose types mypyc reads.

[tool.cibuildwheel] in pyproject.toml installs these beside each Python, at the versions of constraints.txt.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]


def requirements() -> list[str]:
    """Return the requirements in the form of pip."""
    project: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["otel"], *extras["compile"]]


if __name__ == "__main__":
    sys.stdout.write("".join(f"{requirement}\n" for requirement in requirements()))
