"""The answers of Redis to a request for a worker."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class NoCapacityReason(StrEnum):
    """Why no worker could accept a call."""

    NO_WORKERS = "no_workers"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Pin:
    """The entry that gives a call to a worker.

    Attributes:
        epoch: the call's epoch from now on.
        pins: number of times that the call was given to a worker, this one included.
        started_at_ms: time of the first pin, in milliseconds since the epoch by the clock of Redis.
        attached: the worker had the call already.
        age_ms: time since `started_at_ms`, by the clock of Redis.
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
    """No worker could accept the call. Nothing was changed, so an earlier pin of the call stays."""

    reason: NoCapacityReason


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another dispatcher has the call at a higher epoch. Nothing was changed."""
