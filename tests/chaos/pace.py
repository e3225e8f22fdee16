"""The lengths of faults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """The lengths of faults.

    Attributes:
        stop_seconds: time for which a worker is stopped; it is found dead after 3 s.
        redis_seconds: time for which Redis is away.
        stall_seconds: time for which a Realtime connection is stalled.
        refuse_seconds: time for which the Realtime API refuses connections.
        outage_seconds: time for which the Realtime API is down, also for running sessions.
        late_seconds: delay of a late response.
        link_seconds: time for which a link is broken.
        core_stall_seconds: time for which a core does not read.
        hang_seconds: time for which a dispatcher hangs: longer than its workers keep its calls' sessions.
        probe_seconds: interval of liveness probes of a hung dispatcher, which is replaced after the third.
        disk_seconds: time for which the disk is full.
        stderr_seconds: time for which stderr is not read.
        hostile_seconds: length of a hostile connection.
        whole_seconds: time after a fault of Redis until Redis is assumed to know everything.
    """

    stop_seconds: float = 5.0
    redis_seconds: float = 30.0
    stall_seconds: float = 8.0
    refuse_seconds: float = 10.0
    outage_seconds: float = 4.0
    late_seconds: float = 11.0
    link_seconds: float = 2.0
    core_stall_seconds: float = 8.0
    hang_seconds: float = 20.0
    probe_seconds: float = 2.0
    disk_seconds: float = 6.0
    stderr_seconds: float = 6.0
    hostile_seconds: float = 1.0
    whole_seconds: float = 5.0
