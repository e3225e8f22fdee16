"""The leases in Redis: workers and calls as their processes publish them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self


class WorkerState(StrEnum):
    """Whether a worker accepts new calls."""

    READY = "ready"
    DRAINING = "draining"

    @classmethod
    def _missing_(cls, value: object) -> Self:
        # An unknown state of a newer release: the worker is not "ready".
        return cls("draining")


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker as it publishes itself.

    Attributes:
        id: unique per process: a restarted worker has another id.
        address: `host:port` where the worker accepts links.
        release: dotted numbers, such as `0.1.0`; see `release_order`.
        capacity: maximum number of calls.
        boot_id: of the process; its HELLO carries the same id, to tell it from a predecessor at the same address.
        problem: code with which the Realtime API refused the worker's own key at the last attempt; empty: it did
            not, or the worker is of a release that does not say.
    """

    id: str
    address: str
    host: str
    pid: int
    release: str
    capacity: int
    state: WorkerState
    boot_id: str
    problem: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class WorkerStatus(WorkerRecord):
    """A live worker, and the number of calls that hold a slot of it."""

    calls: int


@dataclass(frozen=True, slots=True)
class CallLease:
    """A call as the dispatcher that holds its caller publishes it.

    Attributes:
        started_at_ms: as in `Pin`; None if the call was placed during an outage of Redis.
        tenant: of the call; empty: there are no tenants, or this process does not know it.
    """

    uuid: str
    worker: str
    epoch: int
    state: str
    started_at_ms: int | None
    pins: int
    metadata: Mapping[str, str]
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call as Redis has it. Fields as in `Pin` and `CallLease`."""

    uuid: str
    worker: str
    dispatcher: str
    epoch: int
    state: str
    started_at_ms: int
    pins: int
    metadata: Mapping[str, str]
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Renewal:
    """The answer to a dispatcher's renewal of its leases.

    Attributes:
        superseded: uuids that another dispatcher holds: detach from them at once.
        workers: the live workers.
        missing: uuids that Redis did not know, or whose last write it lost (`said_versions`). The memory of
            these calls must be written again in full.
    """

    superseded: frozenset[str]
    workers: tuple[WorkerStatus, ...]
    missing: frozenset[str] = frozenset()


def release_order(release: str) -> int:
    """Return a number that grows with the release: its first three dotted numbers, of at most 4 digits.

    A pre-release (`1.2.0rc1`, `1.2.0-rc.1`, `1.2.0.dev3`) comes before its release. Text without a number gives 0.
    """
    match = re.match(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(.*)", release)
    if match is None:
        return 0
    order = 0
    for part in match.groups()[:3]:
        order = order * 10_000 + min(int(part or 0), 9_999)
    is_final = re.fullmatch(r"(\.\d+)*(\+.*)?", match[4]) is not None
    return order * 2 + is_final
