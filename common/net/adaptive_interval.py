"""The interval at which a process reads its sockets, by how busy its core is: `GROUPING_MS=auto`.

A process that uses up to half of its core reads at once. Above that the interval grows with the load, and it is
longest shortly before the core is full. Longer intervals cost less CPU, so they lower the load that they follow.
The load is smoothed, so that the two settle and do not swing: tests/common/net/test_adaptive_interval.py.

The load of a moment is the largest of three shares, because each of them means that there is no more room:

- the time in which the process used a core or waited for one. A process that shares its core with others waits
  while they run, and has less room than its own CPU time says;
- the CPU time of the process, as a share of a CPU limit below one core;
- the CPU time of the whole container, as a share of its CPU limit. Several processes may share that limit.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

# Up to this load nothing waits.
READ_AT_ONCE_LOAD: Final = 0.5
# From this load on the interval is the longest one. Above it a loop falls behind within a burst of audio.
FULL_LOAD: Final = 0.9
# With a shorter interval the wake-ups cost as much CPU as reading at once.
LEAST_SECONDS: Final = 0.001
# The intervals of GROUPING_MS=20, which saves the most CPU: two frames of each call arrive in each interval.
MOST_SECONDS: Final = 0.04
# The interval while a new connection waits for answers: each of a dozen messages waits for the one before.
MOST_OPENING_SECONDS: Final = 0.005
# A load that changed is followed to two thirds within this time. A growing interval lowers the load by up to 2.4
# times the change that it follows. Without swings a step may then follow at most 1 / (1 + 2.4) of a change; a step
# of `MEASURE_SECONDS` follows 0.18 of it.
SMOOTHING_SECONDS: Final = 0.5
MEASURE_SECONDS: Final = 0.1


class Reading(NamedTuple):
    """What the system has counted so far; all counters begin anywhere, and only grow.

    Attributes:
        cpu_seconds: CPU time of this process.
        waited_seconds: time for which the process could run and had no core; always 0: it is not known.
        group_seconds: CPU time of the whole container; always 0: it is not known.
    """

    cpu_seconds: float
    waited_seconds: float = 0.0
    group_seconds: float = 0.0


class AdaptiveInterval:
    """The interval of one process.

    Attributes:
        load: smoothed, from 0 to 1.
    """

    def __init__(self, limit_cores: float | None = None) -> None:
        """Begin without a load.

        Args:
            limit_cores: CPU limit of the container, in cores; None: there is no limit.
        """
        self.load = 0.0
        self._limit_cores = limit_cores
        self._own_cores = 1.0 if limit_cores is None else min(1.0, limit_cores)
        self._measured_seconds = 0.0
        self._reading: Reading | None = None

    @property
    def seconds(self) -> float:
        """The length of an interval; 0: sockets are read at once."""
        return _interval_seconds(self.load)

    @property
    def opening_seconds(self) -> float:
        """The longest interval while a new connection waits for answers; 0: sockets are read at once then."""
        return self.seconds * MOST_OPENING_SECONDS / MOST_SECONDS

    def measure(self, now_seconds: float, reading: Reading) -> None:
        """Follow the load since the measurement before; the first one only begins.

        Args:
            now_seconds: the time, on a monotonic clock.
            reading: of this moment.
        """
        before, passed_seconds = self._reading, now_seconds - self._measured_seconds
        self._reading, self._measured_seconds = reading, now_seconds
        if before is None or passed_seconds <= 0:
            return
        used_seconds = reading.cpu_seconds - before.cpu_seconds
        load = max(
            used_seconds + reading.waited_seconds - before.waited_seconds,
            used_seconds / self._own_cores,
        )
        if self._limit_cores is not None:
            load = max(load, (reading.group_seconds - before.group_seconds) / self._limit_cores)
        load = min(1.0, max(0.0, load / passed_seconds))
        self.load += (load - self.load) * -math.expm1(-passed_seconds / SMOOTHING_SECONDS)


def _interval_seconds(load: float) -> float:
    """Return the interval at a load: it doubles with each further twelfth of a core or so."""
    if load < READ_AT_ONCE_LOAD:
        return 0.0
    part = min(1.0, (load - READ_AT_ONCE_LOAD) / (FULL_LOAD - READ_AT_ONCE_LOAD))
    return float(LEAST_SECONDS * (MOST_SECONDS / LEAST_SECONDS) ** part)
