"""What became of call records: a label of a metric."""

from __future__ import annotations

from enum import StrEnum


class RecordOutcome(StrEnum):
    """What became of call records."""

    DELIVERED = "delivered"
    """All sinks have the record."""
    DROPPED = "dropped"
    """The record is lost, because a bound was reached."""
    DEAD = "dead"
    """A sink refused the record, or did not take it for a day: it is among the dead records."""
    REDACTION_FAILED = "redaction_failed"
    """The record lacks at least one text, which could not be redacted."""
    EVICTED = "evicted"
    """The calls API has the record no longer, because a newer one needed the room."""
    ERASED = "erased"
    """The calls API erased the record."""
