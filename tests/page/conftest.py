"""The page in Debian's Chromium: missing, it skips a test here, and fails it in CI."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import pytest

if find_spec("playwright") is None and not os.environ.get("CI"):
    collect_ignore_glob = ["test_*.py"]  # a machine that it is not built for


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser."""
    found = shutil.which("chromium")
    if found is None:
        message = "chromium is missing: install the packages of .ci/packages"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found
