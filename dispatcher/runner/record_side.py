"""The side of a call that goes into its record: what happens is noted, and the record is written at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from common.link import wire
from dispatcher.call.actions import Ending, Measurement
from dispatcher.call.assignment import Assignment
from dispatcher.call.call import Call
from dispatcher.records.call_record import Segment
from dispatcher.records.record_writer import RecordedCall, RecordWriter


class RecordSide:
    """What one call will leave behind.

    Attributes:
        facts: what is known of the call.
    """

    def __init__(
        self, records: RecordWriter, call: Call, segments: Callable[[], tuple[Segment, ...]] = lambda: ()
    ) -> None:
        """Make the side of a call that has not begun.

        Args:
            records: writes the record.
            call: the call.
            segments: returns the files of the call's recording.
        """
        self.facts = records.facts()
        self._records = records
        self._call = call
        self._segments = segments
        self._is_recorded = False
        self._was_placed = False
        self._recalling: asyncio.Task[None] | None = None

    @property
    def recorded(self) -> RecordedCall:
        """The call as its record is to know it."""
        identity = self._call.identity
        self.facts.recorded(self._segments())
        return RecordedCall(identity.uuid, identity.metadata, identity.began_seconds, self.facts)

    @property
    def is_recorded(self) -> bool:
        """Whether the call will have a record: it has begun, and is not another connection's."""
        return self._is_recorded

    def began(self) -> None:
        """Note that this is a call."""
        self._is_recorded = True

    def placed(self, assignment: Assignment) -> None:
        """Ask Redis for what another dispatcher knew, if the call was there before it came here."""
        if not self._was_placed and (assignment.attach or assignment.pins > 1):
            self._recalling = asyncio.create_task(self._records.recall(self._call.uuid, self.facts))
        self._was_placed = True

    def figures(self, payload: memoryview) -> None:
        """Take a session's figures.

        Raises:
            LinkProtocolError: the record cannot be understood.
        """
        self.facts.session(wire.decode_control(wire.Figures, payload))

    def measured(self, measurement: Measurement) -> None:
        """Take note of what the call measures."""
        self.facts.measured(measurement)

    def heard(self, role: str, text: str) -> None:
        """Take note of a transcript that AVR Core got."""
        self.facts.heard(role, text, time.monotonic() - self._call.identity.began_seconds)

    async def ended(self, ending: Ending, reason: str) -> None:
        """Write the record, once what another dispatcher knew is there."""
        if self._recalling is not None:
            await asyncio.wait([self._recalling])  # it does not raise, and Redis has a time-out
        self._records.ended(self.recorded, ending.value, self._call.end_reason, reason)
