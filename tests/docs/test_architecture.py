"""docs/architecture.md names files and functions that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.blocks import REPOSITORY, document

PAGE: Final = document("architecture.md")
PATHS: Final = sorted(set(re.findall(r"`((?:common|dispatcher|simulator|worker)/[\w/]+\.(?:py|lua))`", PAGE)))
STEPS: Final = re.findall(r"^\| .+ \| `([\w/]+\.py)` \| `(?:\w+\.)?(\w+)` \|$", PAGE, re.MULTILINE)
STEPS_IN_TEXT: Final = [(path, name) for name, path in re.findall(r"\(`\w+\.(\w+)` in\s`([\w/]+\.py)`\)", PAGE)]


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


@pytest.mark.parametrize("path", PATHS)
def test_named_file_exists(path: str) -> None:
    assert (REPOSITORY / path).is_file()


@pytest.mark.parametrize(("path", "name"), [*STEPS, *STEPS_IN_TEXT])
def test_named_function_is_in_its_file(path: str, name: str) -> None:
    assert name in _functions(REPOSITORY / path), f"{path} has no {name}"


def test_page_has_its_three_walks() -> None:
    assert PAGE.count("| step | file | function |") == 3
    assert len(STEPS) >= 50
    assert len(STEPS_IN_TEXT) >= 3
