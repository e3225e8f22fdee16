"""Short calls leave nothing behind: a share of the 2,000 of `make leaks`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from common.store.keys import KEY_PREFIX
from tests.leaks.calls import MAX_GROWTH_BYTES, Census, Count, leaks, measure

# Those that warm the processes up, and twice as many; 2,000 take longer than a test should.
CALLS = 600

_CENSUS = Census(tasks=6, files=20, threads=1, resident_bytes=80_000_000)
_WARM = Count(200, worker=_CENSUS, dispatcher=_CENSUS, keys=())


@pytest.mark.timeout(180)
async def test_short_calls_leave_no_memory_task_file_or_key_behind(real_redis_url: str) -> None:
    said: list[str] = []
    warm, after = await measure(real_redis_url, CALLS, said.append)
    assert not leaks(warm, after), said


def test_equal_observations_are_no_leak() -> None:
    assert leaks(_WARM, replace(_WARM, calls=2000)) == []
    smaller = Census(tasks=5, files=19, threads=1, resident_bytes=80_000_000 + MAX_GROWTH_BYTES)
    assert leaks(_WARM, replace(_WARM, worker=smaller, dispatcher=smaller)) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (replace(_WARM, worker=replace(_CENSUS, resident_bytes=92_000_000)), "worker has grown by 12.0 MB"),
        (replace(_WARM, worker=replace(_CENSUS, tasks=7)), "the worker has 7 tasks, and had 6"),
        (replace(_WARM, dispatcher=replace(_CENSUS, files=21)), "the dispatcher has 21 files, and had 20"),
        (replace(_WARM, dispatcher=replace(_CENSUS, threads=2)), "the dispatcher has 2 threads, and had 1"),
        (replace(_WARM, keys=(f"{KEY_PREFIX}call:u",)), f"in Redis are 1 keys, such as {KEY_PREFIX}call:u"),
    ],
)
def test_leftovers_are_named(after: Count, said: str) -> None:
    (found,) = leaks(_WARM, after)
    assert said in found
