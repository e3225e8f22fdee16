"""Workers and calls in Redis, as their processes publish them and as others read them."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Self


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
    """The answer to a process that wrote the records of its calls.

    Attributes:
        superseded: uuids that another dispatcher holds: detach from them at once.
        missing: uuids that Redis did not know, or whose last write it lost (`said_versions`). The memory of
            these calls must be written again in full.
    """

    superseded: frozenset[str]
    missing: frozenset[str] = frozenset()


class TableVersion(NamedTuple):
    """Versions of the worker table that a process knows: of workers' records, and of their numbers of calls."""

    records: str = "0"
    loads: str = "0"


@dataclass(frozen=True, slots=True)
class TableChanges:
    """Changes of the worker table since a version; a part of them if there are many.

    Attributes:
        version: of the table with these changes.
        workers: the changed workers.
        gone: ids of workers that have left, or whose records cannot be read.
        loads: numbers of calls that have changed, by worker.
        has_more: more workers have changed since.
    """

    version: TableVersion
    workers: tuple[WorkerStatus, ...]
    gone: tuple[str, ...]
    loads: Mapping[str, int]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Beat:
    """The answer to a dispatcher's beat.

    Attributes:
        is_known: the dispatcher has beaten under this lease before. Otherwise Redis may have lost its calls.
        run: id of the run of the server; another id: a restart or a failover. Empty: unknown.
        checks: calls whose records another process has written, with their epochs before.
        changes: of the worker table.
    """

    is_known: bool
    run: str
    checks: Mapping[str, str]
    changes: TableChanges


@dataclass(frozen=True, slots=True)
class CallsPage:
    """Some calls in the order of their start.

    Attributes:
        calls: the calls.
        end: where the page ends, as start in milliseconds and uuid; None: this is the last page.
        total: number of all calls; those of a process that has just died are among them for some seconds.
    """

    calls: list[CallRecord]
    end: tuple[int, str] | None
    total: int


@functools.lru_cache(maxsize=64)
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
