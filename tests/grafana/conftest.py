"""Debian's Prometheus. Without it, a test is skipped here and fails in CI."""

from __future__ import annotations

import pytest

from tests.helpers import needed_program


@pytest.fixture(scope="session")
def prometheus() -> str:
    """Return the path of the server."""
    return needed_program("prometheus")


@pytest.fixture(scope="session")
def promtool() -> str:
    """Return the path of the tool that tests rules."""
    return needed_program("promtool")
