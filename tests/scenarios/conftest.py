"""The common fixtures of the scenarios."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from simulator.realtime.server import RealtimeSimulator
from tests.scenarios.processes import BRIEF


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    """Run a simulated Realtime API. Tests change its settings before they place calls."""
    async with RealtimeSimulator(BRIEF) as simulator:
        yield simulator
