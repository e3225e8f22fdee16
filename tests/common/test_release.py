"""What is compiled is what pyproject.toml says, and nothing that must not be."""

from __future__ import annotations

import ast
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from common.release import COMPILED

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["tool"]["avr-sts"]["compiled"]


@pytest.mark.parametrize("path", MODULES)
def test_a_module_of_the_call_path_is_compiled_or_all_are_sources(path: str) -> None:
    spec = find_spec(path.removesuffix(".py").replace("/", "."))
    assert spec is not None
    assert spec.origin is not None
    assert spec.origin.endswith(".so" if COMPILED else path)


@pytest.mark.parametrize("path", MODULES)
def test_no_exception_is_compiled(path: str) -> None:
    """In compiled code `except A as error: ... except B as error:` fails on B if A is compiled."""
    tree = ast.parse((REPOSITORY / path).read_text("utf-8"))
    bases = {ast.unparse(base) for each in ast.walk(tree) if isinstance(each, ast.ClassDef) for base in each.bases}
    assert [base for base in bases if base.endswith(("Error", "Exception")) or base in _OUR_EXCEPTIONS] == []


def _names_of_exceptions() -> set[str]:
    tree = ast.parse((REPOSITORY / "common/errors.py").read_text("utf-8"))
    return {each.name for each in tree.body if isinstance(each, ast.ClassDef)}


_OUR_EXCEPTIONS = _names_of_exceptions()
