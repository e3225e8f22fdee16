"""Builds the package; with AVR_STS_COMPILE its call path is compiled to machine code by mypyc.

AVR_STS_COMPILE is the optimization level of the C compiler, 0 to 3; empty or absent: nothing is compiled. The
sources are the same, and so are the tests (`make test COMPILED=1`). Everything else stands in pyproject.toml.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from setuptools import Extension, setup


def _compiled() -> list[Extension]:
    level = os.environ.get("AVR_STS_COMPILE", "")
    if not level:
        return []
    if level not in {"0", "1", "2", "3"}:
        raise SystemExit(f"AVR_STS_COMPILE is {level!r}: give 0 to 3, or leave it empty")
    try:
        from mypyc.build import mypycify  # noqa: PLC0415 - only this build needs it
    except ImportError as error:
        raise SystemExit("AVR_STS_COMPILE needs mypyc: pip install 'avr-sts-openai[compile]'") from error
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))
    modules = project["tool"]["avr-sts"]["compiled"]
    return mypycify(modules, opt_level=level, debug_level="0")


setup(ext_modules=_compiled())
