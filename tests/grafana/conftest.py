"""Debian's Prometheus: missing, it skips a test here, and fails it in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def _needed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        message = f"{program} is missing: install the packages of .ci/packages"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="session")
def prometheus() -> str:
    """The server."""
    return _needed("prometheus")


@pytest.fixture(scope="session")
def promtool() -> str:
    """Its tool, which tests rules."""
    return _needed("promtool")
