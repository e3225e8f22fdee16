"""Limits of figures: the one place for the colours of dashboards and the conditions of alerts.

An alert fires at the red limit of its panel. Only the alert for scarce capacity fires at the yellow limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits at which a figure needs a look, and at which an operator must act.

    Attributes:
        yellow: lower limit of a warning, in the figure's own unit.
        red: limit at which to act, in the same unit.
        low_is_bad: whether figures below the limits are bad, instead of those above.
    """

    yellow: float
    red: float
    low_is_bad: bool = False


CALLS_LOAD: Final = Limits(0.8, 0.95)
"""Calls under way, as a share of the workers' capacity."""

CALLS_REJECTED: Final = Limits(1, 5)
"""Rejected callers in 15 minutes."""

CALLS_FAILED: Final = Limits(0.02, 0.05)
"""Share of calls that end by a fault."""

GREETING_SECONDS: Final = Limits(2.0, 4.0)
"""p95. After two seconds callers wonder whether anyone is there; after four they hang up."""

TURN_SECONDS: Final = Limits(2.0, 3.5)
"""p95. People leave 0.2 s between turns; the model needs about 0.8. After two seconds callers say it again."""

CONNECT_SECONDS: Final = Limits(1.0, 3.0)
"""p95."""

RECOVERY_SECONDS: Final = Limits(1.5, 3.0)
"""p95. Audio already on its way is heard in the first second."""

RELAY_SECONDS: Final = Limits(0.01, 0.05)
"""p99. A frame is 20 ms long."""

EVENT_LOOP_SECONDS: Final = Limits(0.05, 0.25)
"""p99."""

AUDIO_DROPPED: Final = Limits(0.001, 0.01)
"""Seconds of dropped audio in a second of a call."""

UPSTREAM_ERRORS: Final = Limits(0.05, 0.2)
"""Errors in a minute of a call."""

UPSTREAM_DROPS: Final = Limits(0.5, 2.0)
"""Realtime connections that break in an hour of a call."""

TOOL_SECONDS: Final = Limits(4.0, 10.0)
"""p95 of the silence that the caller hears."""

TOOL_FAILED: Final = Limits(0.1, 0.25)
"""Share of the calls of a tool."""

RECORDS_OLDEST_SECONDS: Final = Limits(120, 900)
"""Longest wait of a call record for delivery. A restarted receiver takes seconds."""

RECORDS_LOST: Final = Limits(0.01, 1)
"""Call records in 15 minutes that are dropped or dead."""

TASK_FAILURES: Final = Limits(0.1, 60)
"""Failures in a minute. One is a fault of this service; one a second is a task that does nothing else."""

ILLEGAL_TRANSITIONS: Final = Limits(0.1, 6)
"""In a minute. Each is a fault of this service, and costs a session."""

RECORDING_STOPPED: Final = Limits(1, 2)
"""Dispatchers whose disk takes no recordings."""

WORKER_RESTARTS: Final = Limits(1, 3)
"""Restarts in half an hour."""

CACHED_INPUT: Final = Limits(0.3, 0.1, low_is_bad=True)
"""Share of the input tokens. Each turn repeats the conversation, so most of it should be cached."""

COST_USD_PER_CALL_MINUTE: Final = Limits(0.3, 0.6)

UNPRICED: Final = Limits(1e-9, 0.05)
"""Share of the tokens."""
