"""Calls spread over cells, and the lists of cells are merged."""

from __future__ import annotations

import os

import orjson
import pytest

from tests.bench import cells, coordination
from tests.redis_process import find_redis_server

CALLS = [f"call-{number}" for number in range(5000)]


def test_a_lost_cell_moves_no_call_of_the_others_with_a_ring() -> None:
    ring = cells.spread(CALLS, 10, cells.by_ring)
    modulo = cells.spread(CALLS, 10, cells.by_modulo)
    assert ring.moved == 0
    assert modulo.moved > 0.5
    assert 1 < modulo.fullest < ring.fullest < ring.after_loss < 1.5


def test_lists_of_cells_are_merged_in_order() -> None:
    pages = cells._pages(3, 500)
    parts, longest_ms = cells.merged(pages)
    rows = [row["uuid"] for part in parts for row in orjson.loads(part)]
    assert rows == [f"call-{number}" for number in range(1000)]
    assert longest_ms > 0


@pytest.mark.skipif(find_redis_server() is None and not os.environ.get("CI"), reason="there is no redis-server")
async def test_a_small_simulation() -> None:
    size = coordination.Size(seconds=1, call_seconds=10.0, together=10)
    result = await cells.measure(800, 8, size)
    assert result.cell.redis_share > 0
    assert "cells: 800 calls in 8 cells" in result.table()
