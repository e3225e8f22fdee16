"""The compiled modules are the ones that pyproject.toml names."""

from __future__ import annotations

import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from common.runtime.release import COMPILED

REPOSITORY = Path(__file__).resolve().parents[3]
MODULES = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["tool"]["avr-sts"]["compiled"]


def _name(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


@pytest.mark.parametrize("path", MODULES)
def test_all_modules_of_the_call_path_are_compiled_or_none(path: str) -> None:
    spec = find_spec(_name(path))
    assert spec is not None
    assert spec.origin is not None
    assert spec.origin.endswith(".so" if COMPILED else path)


@pytest.mark.parametrize("path", MODULES)
def test_no_exception_is_compiled(path: str) -> None:
    """In compiled code `except A as error: ... except B as error:` fails on B if A is compiled."""
    module = import_module(_name(path))
    own = [each for each in vars(module).values() if getattr(each, "__module__", None) == module.__name__]
    assert [each for each in own if isinstance(each, type) and issubclass(each, BaseException)] == []
