"""Rules about faults that no caller may notice: faults beside the calls, and drains of workers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tests.chaos.facts import Breach, CallFacts, Fault, FaultKind
from tests.chaos.recovery import hearing

# Minimum pause in the caller's audio to the model. A busy machine causes shorter pauses.
PAUSE_SECONDS = 1.0
# Time after which a fault no longer affects a call.
AFTER_SECONDS = 3.0
# Time within which another fault may be the reason of a pause.
NEAR_SECONDS = 10.0
# Time after which a drain has ended: DRAIN_SECONDS.
_DRAIN_SECONDS = 10.0


def longest_pause(call: CallFacts, fault: Fault) -> float | None:
    """Return the longest time for which the caller was not heard, because of a fault beside the call.

    None: another fault may be the reason, or the caller hung up too soon.
    """
    begin, end = fault.at_seconds, (fault.until_seconds or fault.at_seconds) + AFTER_SECONDS
    if any(_is_near(other, begin, end) for other in call.faults):
        return None
    spans = hearing(call)
    if call.ended_seconds < end:
        return None
    # The call is connected from its start to its end.
    times = [call.started_seconds, *itertools.chain.from_iterable(spans), call.ended_seconds]
    gaps = zip(times[::2], times[1::2], strict=True)
    return max((first - last for last, first in gaps if last < end and first > begin), default=0.0)


def undisturbed(call: CallFacts) -> Iterator[Breach]:
    """Check that a fault beside the call interrupts the caller's audio only for a moment."""
    for fault in call.beside:
        pause_seconds = longest_pause(call, fault)
        if pause_seconds is not None and pause_seconds > PAUSE_SECONDS:
            what = f"the caller was not heard for {pause_seconds:.1f} s beside: {fault.kind.value} {fault.detail}"
            yield Breach("undisturbed", what.rstrip(), fault.at_seconds, call.uuid)


def handed_over(call: CallFacts) -> Iterator[Breach]:
    """Check that a worker told to stop hands its calls over, so that none has to be restored."""
    for fault in call.faults:
        if fault.kind not in (FaultKind.DRAIN_WORKER, FaultKind.DRAIN_IN_ROLLOVER):
            continue
        begin, end = fault.at_seconds, fault.at_seconds + _DRAIN_SECONDS
        others = (other for other in call.faults if other is not fault)
        if any(_is_near(other, begin, end) for other in others):
            continue
        for at_seconds in call.restorations:
            if begin < at_seconds < end:
                what = f"the call was restored {at_seconds - begin:.1f} s after: {fault.kind.value}"
                yield Breach("handed over", what, at_seconds, call.uuid)


def _is_near(other: Fault, begin: float, end: float) -> bool:
    """Tell whether another fault may be the reason of a pause in this span."""
    until_seconds = other.until_seconds or (end if other.lasts else other.at_seconds)
    return other.at_seconds < end and begin < until_seconds + NEAR_SECONDS
