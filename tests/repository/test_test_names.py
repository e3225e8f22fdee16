"""Names of tests: short enough to be read in a report."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repository.imports import ROOT

MAX_CHARS = 60


def names_of(source: str) -> Iterator[str]:
    """Yield the names of the tests in a source text, also of those in classes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name


FILES = sorted((ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_no_test_name_is_longer_than_60_characters(path: Path) -> None:
    long = [name for name in names_of(path.read_text("utf-8")) if len(name) > MAX_CHARS]
    assert long == [], "name the subject, the condition and the result"


def test_names_in_classes_and_coroutines_count() -> None:
    source = "class TestA:\n    async def test_b(self): ...\n\ndef test_c(): ...\n\ndef other(): ...\n"
    assert sorted(names_of(source)) == ["test_b", "test_c"]
