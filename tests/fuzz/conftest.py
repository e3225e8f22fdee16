"""The last line of a run names the number of inputs for each target."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.fuzz.budget import TALLY


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Silence the log, because a hundred thousand calls write many lines."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TALLY.inputs:
        terminalreporter.write_line(f"fuzz: {TALLY}")
