"""Why sound is missing in a recording: a label of a metric."""

from __future__ import annotations

from enum import StrEnum


class RecordingDrop(StrEnum):
    """Why sound of a call is not in its recording."""

    QUEUE = "queue"
    """The disk is too slow."""
    DISK = "disk"
    """Less than 5% of the disk is free."""
    ERROR = "error"
    """The disk refused: it is full, read-only or broken."""
    LENGTH = "length"
    """The call is longer than a recording may be."""
    LATE = "late"
    """The caller's audio came too late, or reply audio too far ahead, for a place in the recording."""
