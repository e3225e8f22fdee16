"""Debian's Prometheus: missing, it skips a test here, and fails it in CI."""

from __future__ import annotations

import pytest

from tests.helpers import needed_program


@pytest.fixture(scope="session")
def prometheus() -> str:
    """The server."""
    return needed_program("prometheus")


@pytest.fixture(scope="session")
def promtool() -> str:
    """Its tool, which tests rules."""
    return needed_program("promtool")
