"""The cost of coordination is measured, and the table is right."""

from __future__ import annotations

import os

import pytest

from tests.bench import coordination
from tests.redis_process import find_redis_server


@pytest.mark.skipif(find_redis_server() is None and not os.environ.get("CI"), reason="there is no redis-server")
async def test_a_run_of_a_few_calls() -> None:
    size = coordination.Size(dispatchers=2, workers=4, calls=60, call_seconds=10.0, seconds=1, together=20)
    figures = await coordination.measure(size)
    assert figures.redis_share > 0
    assert figures.pin_redis_us > 0
    assert (figures.burst.returned, figures.burst.away) == (20, 0)
    assert {"begin", "end", "beat", "workers"} <= figures.sections.keys()
    assert len(figures.table().splitlines()) == 5
