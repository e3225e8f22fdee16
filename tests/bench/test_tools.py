"""Stuck tools are measured, and the figures are right."""

from __future__ import annotations

import os

import pytest

from tests.bench import tools
from tests.bench.tools import Lag, Lags
from tests.redis_process import find_redis_server


def test_lag_is_told_in_milliseconds() -> None:
    lag = Lag.of([number / 1000 for number in range(1, 101)])
    assert lag == Lag(100, 50.0, 99.0, 100.0)
    assert Lag.of([]) == Lag(0, 0.0, 0.0, 0.0)
    assert "no tool        0    50.0    99.0    100.0" in Lags(20, {"no tool": lag}).table()


@pytest.mark.skipif(find_redis_server() is None and not os.environ.get("CI"), reason="there is no redis-server")
async def test_a_run_of_a_few_calls() -> None:
    lags = await tools.measure(2, patterns=1, seconds=0.5)
    assert list(lags.by_tool) == ["no tool", "a pattern without an end", "holds the interpreter"]
    assert all(lag.samples for lag in lags.by_tool.values())
