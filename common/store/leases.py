"""The leases in Redis: workers and calls as their processes publish them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class WorkerState(StrEnum):
    """Whether a worker takes new calls."""

    READY = "ready"
    DRAINING = "draining"

    @classmethod
    def _missing_(cls, value: object) -> Self:
        # A state of a newer release: whatever it means, it is not "ready".
        return cls("draining")


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker as it publishes itself.

    Attributes:
        id: unique per process: a worker that starts again has another one.
        address: `host:port` where it accepts links.
        release: dotted numbers, such as `0.1.0`; see `release_order`.
        capacity: calls that it takes at most.
        boot_id: what its link hello carries, to tell it from a predecessor at the same address.
    """

    id: str
    address: str
    host: str
    pid: int
    release: str
    capacity: int
    state: WorkerState
    boot_id: str


@dataclass(frozen=True, slots=True)
class WorkerStatus(WorkerRecord):
    """A live worker and the number of calls that hold a slot of it."""

    calls: int


@dataclass(frozen=True, slots=True)
class CallLease:
    """A call as the dispatcher that holds its caller publishes it.

    Attributes:
        started_at_ms: as in `Pin`; None if the call was placed while Redis was away.
    """

    uuid: str
    worker: str
    epoch: int
    state: str
    started_at_ms: int | None
    pins: int
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call as Redis knows it. Fields as in `Pin` and `CallLease`."""

    uuid: str
    worker: str
    dispatcher: str
    epoch: int
    state: str
    started_at_ms: int
    pins: int
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a dispatcher learns from its heartbeat.

    Attributes:
        superseded: uuids that another dispatcher holds: let go of them at once.
        workers: the live workers.
        forgotten: uuids that Redis did not know, or of which it lost the last write (`said_versions`). What was
            said in these calls is to be written anew.
    """

    superseded: frozenset[str]
    workers: tuple[WorkerStatus, ...]
    forgotten: frozenset[str] = frozenset()


def release_order(release: str) -> int:
    """Return a number that grows with the release: its first three dotted numbers, of 4 digits at most.

    A pre-release (`1.2.0rc1`, `1.2.0-rc.1`, `1.2.0.dev3`) comes before its release. Without a number it is 0.
    """
    match = re.match(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(.*)", release)
    if match is None:
        return 0
    order = 0
    for part in match.groups()[:3]:
        order = order * 10_000 + min(int(part or 0), 9_999)
    is_final = re.fullmatch(r"(\.\d+)*(\+.*)?", match[4]) is not None
    return order * 2 + is_final
