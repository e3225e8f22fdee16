"""Debian's Chromium for tests of the page. Without Chromium a test is skipped locally and fails in CI."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from tests.helpers import needed_program

if find_spec("playwright") is None and not os.environ.get("CI"):
    collect_ignore_glob = ["test_*.py"]  # a machine that it is not built for


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of the browser."""
    return needed_program("chromium")
