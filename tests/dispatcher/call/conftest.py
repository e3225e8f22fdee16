"""What the tests of one call share."""

from __future__ import annotations

import pytest

from tests.dispatcher.call_driver import CallDriver


@pytest.fixture
def driver() -> CallDriver:
    return CallDriver()
