"""Paths of the Sans-I/O cores and of their tests, as `pyproject.toml` names them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_TOOLS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]

# Modules of both cores.
MODULES: list[str] = _TOOLS["coverage"]["run"]["include"]
# Patterns of the files with their tests.
TEST_PATTERNS: list[str] = _TOOLS["avr-sts"]["core_tests"]
# Files, and tests in the files above, that draw long sequences.
RANDOM_TESTS: list[str] = _TOOLS["avr-sts"]["core_tests_at_random"]
# Least share of a module's lines and branches that its tests run.
FLOOR_PERCENT: float = _TOOLS["coverage"]["report"]["fail_under"]


def core_tests() -> list[str]:
    """Return the files of the patterns, each once."""
    found = [path for pattern in TEST_PATTERNS for path in sorted(ROOT.glob(pattern))]
    return list(dict.fromkeys(path.relative_to(ROOT).as_posix() for path in found))


def ordered_tests(module: str) -> list[str]:
    """Return the files of all tests, random ones last; those nearest to a module first.

    `tests/worker/session/test_replies*.py` mirror `worker/session/agent/replies.py`. Tests of the
    same side follow, then those of the other side.
    """
    path = Path("tests", module)
    stem = (path.parent / f"test_{path.stem}").as_posix()
    side = "/".join(path.parts[:2]) + "/"

    def distance(test: str) -> int:
        mirrors = test == f"{stem}.py" or test.startswith(f"{stem}_")
        return 0 if mirrors else 1 if test.startswith(side) else 2

    return sorted(core_tests(), key=distance) + [test for test in RANDOM_TESTS if "::" not in test]
