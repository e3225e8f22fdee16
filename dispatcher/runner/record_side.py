"""The side of a call that goes into its record: what happens is noted, and the record is written at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from common.link import wire
from common.observe import trace_context
from common.observe.tracing import NO_TRACER, Tracer
from dispatcher.call.actions import Ending, Measurement
from dispatcher.call.assignment import Assignment
from dispatcher.call.call import Call
from dispatcher.records.call_record import Segment
from dispatcher.records.record_writer import RecordedCall, RecordWriter
from dispatcher.runner.call_trace import CallTrace


class RecordSide:
    """What one call will leave behind.

    Attributes:
        facts: what is known of the call.
        is_recorded: the call will have a record: it has begun, and is not another connection's.
    """

    def __init__(
        self,
        records: RecordWriter,
        call: Call,
        segments: Callable[[], tuple[Segment, ...]] = lambda: (),
        tracer: Tracer = NO_TRACER,
        traceparent: str = "",
    ) -> None:
        """Make the side of a call that has not begun.

        Args:
            records: writes the record.
            call: the call.
            segments: returns the files of the call's recording.
            tracer: takes the call's spans.
            traceparent: parameter of AVR Core's URL, unchecked; empty: there was none.
        """
        self.facts = records.facts()
        self._records = records
        self._call = call
        self._segments = segments
        self.is_recorded = False
        self._was_placed = False
        self._recalling: asyncio.Task[None] | None = None
        self._tracer = tracer
        self._traceparent = traceparent
        self._trace: CallTrace | None = None

    @property
    def recorded(self) -> RecordedCall:
        """The call as its record is to know it."""
        identity = self._call.identity
        self.facts.recorded(self._segments())
        self.facts.belongs_to(identity.tenant)
        return RecordedCall(identity.uuid, identity.metadata, identity.began_seconds, self.facts)

    def began(self) -> None:
        """Note that this is a call, and begin or continue its trace."""
        self.is_recorded = True
        if self._tracer.is_on:
            self._trace = CallTrace(self._tracer, self._call.uuid, self._traceparent)
            self.facts.traceparent = "" if self._trace.parent is None else self._traceparent
            self.facts.trace_id = self._trace.context.trace_id if self._trace.context.is_sampled else None
            self._call.identity.traceparent = self._trace.context.traceparent
        elif trace_context.parse(self._traceparent) is not None:
            # A worker, or a tool, may continue the trace without this process.
            self._call.identity.traceparent = self._traceparent

    def log_fields(self) -> dict[str, str]:
        """Return fields for the first log line of the call."""
        return {} if self.facts.trace_id is None else {"trace_id": self.facts.trace_id}

    def placed(self, assignment: Assignment) -> None:
        """Ask Redis for what another dispatcher knew, if the call was there before it came here."""
        if not self._was_placed and (assignment.attach or assignment.pins > 1):
            self._recalling = asyncio.create_task(self._recall())
        self._was_placed = True
        if self._trace is not None and not assignment.attach:
            self._trace.session_placed(assignment.epoch, time.monotonic())

    async def _recall(self) -> None:
        await self._records.recall(self._call.uuid, self.facts)
        self._call.identity.tenant_recalled(self.facts.tenant)
        if self._trace is not None and self.facts.trace_id not in (None, self._trace.context.trace_id):
            # The earlier dispatcher's connection brought another `traceparent`.
            self._trace.continues(self.facts.traceparent)
            self._call.identity.traceparent = self._trace.context.traceparent

    def worker_lost(self, assignment: Assignment) -> None:
        """Note that an assignment's worker is gone."""
        if self._trace is not None:
            # An attached session was opened at an earlier epoch, which its figures name.
            epoch = max(self.facts.figures, default=0) if assignment.attach else assignment.epoch
            self._trace.session_lost(epoch, time.monotonic())

    def figures(self, payload: memoryview) -> None:
        """Take a session's figures.

        Raises:
            LinkProtocolError: the record cannot be understood.
        """
        self.facts.session(wire.decode_control(wire.Figures, payload))

    def measured(self, measurement: Measurement) -> None:
        """Take note of what the call measures."""
        self.facts.measured(measurement)
        if self._trace is not None:
            self._trace.measured(measurement, time.monotonic())

    def heard(self, role: str, text: str) -> None:
        """Take note of a transcript that AVR Core got."""
        self.facts.heard(role, text, time.monotonic() - self._call.identity.began_seconds)

    async def ended(self, ending: Ending, reason: str) -> float:
        """Write the record, once what another dispatcher knew is there; return the call's duration in seconds."""
        ended_seconds = time.monotonic()
        if self._recalling is not None:
            await asyncio.wait([self._recalling])  # it does not raise, and Redis has a time-out
        recorded = self.recorded
        self._records.ended(recorded, ending.value, self._call.end_reason, reason)
        if self._trace is not None:
            self._trace.ended(
                ending.value,
                self._call.end_reason.value,
                is_failure=ending is not Ending.COMPLETED,
                began_seconds=self._call.identity.began_seconds,
            )
        return recorded.seconds(ended_seconds)
