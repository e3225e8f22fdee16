"""How long faults last."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How long faults last.

    Attributes:
        stop_seconds: of a stopped worker: it is found dead after 3 s.
        redis_seconds: of Redis away.
        stall_seconds: of a Realtime connection that is stalled.
        refuse_seconds: of a Realtime API that refuses.
        outage_seconds: of a Realtime API that is down, for running sessions, too.
        late_seconds: until a late response is created.
        link_seconds: of a link that cannot be had.
        deaf_seconds: of a core that does not read.
        hang_seconds: of a hung dispatcher that wakes up: longer than its workers keep its calls' sessions.
        probe_seconds: between two liveness probes of a hung dispatcher, which is replaced after the third.
        disk_seconds: of a full disk.
        stderr_seconds: of a reader of stderr that does not read.
        hostile_seconds: of a hostile connection.
        whole_seconds: until Redis, back from a fault, is taken to know of everything.
    """

    stop_seconds: float = 5.0
    redis_seconds: float = 30.0
    stall_seconds: float = 8.0
    refuse_seconds: float = 10.0
    outage_seconds: float = 4.0
    late_seconds: float = 11.0
    link_seconds: float = 2.0
    deaf_seconds: float = 8.0
    hang_seconds: float = 20.0
    probe_seconds: float = 2.0
    disk_seconds: float = 6.0
    stderr_seconds: float = 6.0
    hostile_seconds: float = 1.0
    whole_seconds: float = 5.0
