"""The cost of records is measured, and the table is right."""

from __future__ import annotations

import os

import pytest

from tests.bench import records
from tests.redis_process import find_redis_server


@pytest.mark.skipif(find_redis_server() is None and not os.environ.get("CI"), reason="there is no redis-server")
async def test_a_run_of_a_few_records() -> None:
    costs = await records.measure(5, 100.0)
    assert list(costs.rows) == ["off", "all sinks", "all sinks, 40 texts"]
    assert all(cost.cpu_ms > 0 for cost in costs.rows.values())
    assert len(costs.table().splitlines()) == 4
