"""When a figure is bad: the one place that dashboards colour by and alerts fire by.

An alert fires where a panel turns red; the one that capacity runs out already where it turns yellow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a figure deserves a look, and from where on somebody has to act.

    Attributes:
        yellow: in the figure's own unit.
        red: likewise.
        low_is_bad: the figure is bad below its limits, not above.
    """

    yellow: float
    red: float
    low_is_bad: bool = False


CALLS_LOAD: Final = Limits(0.8, 0.95)
"""Calls under way, as a part of those that workers take."""

CALLS_REJECTED: Final = Limits(1, 5)
"""Callers turned away in a quarter of an hour."""

CALLS_FAILED: Final = Limits(0.02, 0.05)
"""Part of the calls that end by a fault."""

GREETING_SECONDS: Final = Limits(2.0, 4.0)
"""p95. Callers wonder after two seconds whether anybody is there, and hang up after four."""

TURN_SECONDS: Final = Limits(2.0, 3.5)
"""p95. People leave 0.2 s between turns, the model needs about 0.8; over two seconds callers say it again."""

CONNECT_SECONDS: Final = Limits(1.0, 3.0)
"""p95."""

RECOVERY_SECONDS: Final = Limits(1.5, 3.0)
"""p95. What was on its way is heard during the first second."""

RELAY_SECONDS: Final = Limits(0.01, 0.05)
"""p99. A frame is 20 ms long."""

EVENT_LOOP_SECONDS: Final = Limits(0.05, 0.25)
"""p99."""

AUDIO_DROPPED: Final = Limits(0.001, 0.01)
"""Seconds thrown away in a second of a call."""

UPSTREAM_ERRORS: Final = Limits(0.05, 0.2)
"""In a minute of a call."""

UPSTREAM_DROPS: Final = Limits(0.5, 2.0)
"""Realtime connections that break in an hour of a call."""

TOOL_SECONDS: Final = Limits(4.0, 10.0)
"""p95. Silence, for the caller."""

TOOL_FAILED: Final = Limits(0.1, 0.25)
"""Part of the calls of a tool."""

TASK_FAILURES: Final = Limits(0.1, 60)
"""In a minute. One is a fault of ours; one a second is a task that does nothing else."""

ILLEGAL_TRANSITIONS: Final = Limits(0.1, 6)
"""In a minute. Each is a fault of this service, and costs a session."""

WORKER_RESTARTS: Final = Limits(1, 3)
"""In half an hour."""

CACHED_INPUT: Final = Limits(0.3, 0.1, low_is_bad=True)
"""Part of the input tokens. A conversation repeats itself with each turn, so most of it should be."""

COST_USD_PER_CALL_MINUTE: Final = Limits(0.3, 0.6)

UNPRICED: Final = Limits(1e-9, 0.05)
"""Part of the tokens."""
