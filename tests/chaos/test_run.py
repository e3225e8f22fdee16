"""A short chaos run: each kind of fault once, always in the same order."""

from __future__ import annotations

import os

import pytest

from tests.chaos.acts import ACTS
from tests.chaos.disk import may_mount
from tests.chaos.facts import FaultKind
from tests.chaos.pace import Pace
from tests.chaos.run import ChaosRun, Options
from tests.redis_process import find_redis_server

PACE = Pace(
    stop_seconds=3.6,
    redis_seconds=1.5,
    stall_seconds=2.0,
    refuse_seconds=2.0,
    outage_seconds=2.0,
    late_seconds=4.0,
    link_seconds=0.6,
    core_stall_seconds=2.0,
    hang_seconds=3.0,
    probe_seconds=0.7,
    disk_seconds=2.0,
    stderr_seconds=3.0,
    whole_seconds=1.5,
)

pytestmark = pytest.mark.skipif(
    find_redis_server() is None and not os.environ.get("CI"), reason="there is no redis-server"
)


def test_every_kind_of_fault_can_be_done() -> None:
    assert ACTS.keys() == set(FaultKind)


IMPOSSIBLE = frozenset() if may_mount() else frozenset({FaultKind.FULL_DISK})
KINDS = tuple(kind for kind in FaultKind if kind not in IMPOSSIBLE)


@pytest.mark.timeout(180)
async def test_every_kind_of_fault_is_survived() -> None:
    options = Options(
        seed=4,
        calls=5,
        duration_seconds=27.0,
        kinds=KINDS,
        pace=PACE,
        gap_seconds=(0.5, 0.6),
        quiet_seconds=60.0,
        ramp_seconds=0.5,
        rollover_seconds=10.0,
        patience_seconds=60.0,
    )
    said: list[str] = []
    results = await ChaosRun(options, said.append).run()
    assert not results.breaches, "\n".join(said)
    assert not results.impossible, results.table()
    assert {fault.kind for fault in results.faults} == set(KINDS)
