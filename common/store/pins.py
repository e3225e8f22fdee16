"""The answers of Redis to a request for a worker."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class NoCapacityReason(StrEnum):
    """Why no worker could take a call."""

    NO_WORKERS = "no_workers"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Pin:
    """A call was given to a worker.

    Attributes:
        epoch: the call's epoch from now on.
        pins: how many times the call was given to a worker, this one included.
        started_at_ms: when it was pinned first; milliseconds since the epoch, by the clock of Redis.
        attached: the worker had the call already.
        age_ms: since `started_at_ms`, by the clock of Redis.
    """

    worker: str
    address: str
    epoch: int
    pins: int
    started_at_ms: int
    attached: bool = False
    age_ms: int = 0


@dataclass(frozen=True, slots=True)
class NoCapacity:
    """No worker could take the call, and nothing was changed: an earlier pin of it stays."""

    reason: NoCapacityReason


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another dispatcher has the call at a higher epoch, and nothing was changed."""
