"""Rules of the records that calls leave behind: one id for a call, one body for an id, the right ending."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from simulator.avr.call_record import ClosedBy
from tests.chaos.facts import Breach, CallFacts, Fault, FaultKind

# Time in which a dispatcher gives a record to Redis or to another process, and in which old leases end.
WRITE_SECONDS: Final = 30.0

_DISPATCHER_DEATHS: Final = {
    *(FaultKind.KILL_DISPATCHER, FaultKind.KILL_DISPATCHER_WITHOUT_REDIS, FaultKind.KILL_BOTH),
    *(FaultKind.HANG_DISPATCHER, FaultKind.DRAIN_DISPATCHER),
}
_REDIS_LOSSES: Final = {
    *(FaultKind.KILL_REDIS, FaultKind.PAUSE_REDIS, FaultKind.FLUSH_REDIS),
    *(FaultKind.KILL_WORKER_WITHOUT_REDIS, FaultKind.KILL_DISPATCHER_WITHOUT_REDIS),
}

Record = Mapping[str, Any]


def of_records(calls: Iterable[CallFacts], records: Iterable[Record], faults: Iterable[Fault]) -> Iterator[Breach]:
    """Yield what is wrong with the records of calls that have ended.

    Args:
        calls: calls that a dispatcher took.
        records: all records that any process wrote, as JSON.
        faults: of the run.
    """
    by_uuid: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_uuid[record["uuid"]].append(record)
    faults = list(faults)
    for call in calls:
        yield from _of_call(call, by_uuid[call.uuid], faults)


def _of_call(call: CallFacts, records: list[Record], faults: list[Fault]) -> Iterator[Breach]:
    is_double = may_lose_the_record(call, faults)
    ids = {record["id"] for record in records}
    if len(ids) != 1 and not is_double:
        yield Breach("record", f"{len(ids)} records", call.ended_seconds, call.uuid)
    for record_id in ids:
        bodies = {str(sorted(record.items())) for record in records if record["id"] == record_id}
        if len(bodies) > 1 and not is_double:
            yield Breach("record", f"{len(bodies)} bodies of one id", call.ended_seconds, call.uuid)
    for record in records:
        if record["ending"] not in allowed_endings(call, faults):
            what = f"ending {record['ending']} ({record['reason']}); hung up by {call.hung_up or 'nobody'}"
            yield Breach("record ending", what, call.ended_seconds, call.uuid)


def allowed_endings(call: CallFacts, faults: Iterable[Fault]) -> set[str]:
    """Return the endings that the record of a call may have."""
    # Some callers hang up into an answer, and facts of them name nobody.
    closed = any(close.by is ClosedBy.CALLER and close.code == 1000 for close in call.closes)
    endings = {"completed"} if call.hung_up or closed else {"failed", "rejected", "lost"}
    if any(fault.kind in _DISPATCHER_DEATHS and _is_near(fault, call.ended_seconds) for fault in faults):
        # The dispatcher may have died before it knew that the call was over.
        endings.add("lost")
    if call.faults and call.hung_up:
        # A caller who hangs up while the call cannot go on hangs up a call that has failed.
        endings.add("failed")
    return endings


def may_lose_the_record(call: CallFacts, faults: Iterable[Fault]) -> bool:
    """Return whether a double fault may lose the record, or give its id two bodies (docs/records.md).

    That is the death of a dispatcher around the end of the call, while Redis is away or comes back empty.
    """
    near = [fault for fault in faults if _is_near(fault, call.ended_seconds)]
    dies = any(fault.kind in _DISPATCHER_DEATHS for fault in near)
    return dies and any(fault.kind in _REDIS_LOSSES for fault in near)


def _is_near(fault: Fault, at_seconds: float) -> bool:
    until_seconds = fault.at_seconds if fault.until_seconds is None else fault.until_seconds
    return fault.at_seconds - WRITE_SECONDS < at_seconds < until_seconds + WRITE_SECONDS
