"""Writes the records of a dispatcher's calls, and of calls whose dispatcher died."""

from __future__ import annotations

import time
import uuid as uuids
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final
from typing import Protocol as Interface

import structlog

from common.errors import RegistryUnavailable
from common.link.wire import EndReason
from common.observe.redaction import redact
from common.observe.tracing import NO_TRACER, Tracer
from common.settings.tenants import NO_TENANTS, Tenants
from common.store.registry import RECORD_CLAIM, Registry
from dispatcher.records import lost_trace
from dispatcher.records.builder import LOST, End, build
from dispatcher.records.call_record import CallRecord
from dispatcher.records.draft import Draft
from dispatcher.records.facts import CallFacts
from dispatcher.records.record_log import log_fields
from dispatcher.records.record_taker import NO_RECORDS

GRACE_SECONDS: Final = 20.0
"""Time for which a call without a holder is not lost yet: Redis may be back, and its dispatcher not yet."""

CLAIM_SECONDS: Final = 60
"""Time for which one dispatcher alone may write the record of a lost call."""

DRAFT_SECONDS: Final = 86_400
"""Time for which a draft is kept that nobody reads."""

MAX_WRITTEN_CHARS: Final = 64 * 1024
"""Drafts that one command writes, in characters: Redis does nothing else meanwhile, nor does this process."""

MAX_UNDROPPED: Final = 10_000
"""Calls that ended while Redis was away, whose drafts are dropped when it is back. The drafts of others stay, and
their records are written again, as those of lost calls."""

log = structlog.get_logger()


class RecordKeeper(Interface):
    """Takes each record of a call, once."""

    def ended(self, record: CallRecord, stored: Callable[[], None]) -> None:
        """Take the record of a call that has ended; does not wait, and does not raise.

        Args:
            record: of the call.
            stored: called once the record survives the death of this process.
        """


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call of this dispatcher that will have a record.

    Attributes:
        uuid: of the call.
        metadata: of the call.
        began_seconds: when the call began, of the monotonic clock.
        facts: what is known of it.
    """

    uuid: str
    metadata: Mapping[str, str]
    began_seconds: float
    facts: CallFacts

    def started_at(self) -> float:
        """Return when the call began, here or at an earlier dispatcher, in seconds since the epoch."""
        here = time.time() - (time.monotonic() - self.began_seconds)
        return here if self.facts.started_at is None else min(here, self.facts.started_at)

    def seconds(self, ended_seconds: float) -> float:
        """Return the duration of the call, which ended at this time of the monotonic clock."""
        here = ended_seconds - self.began_seconds
        if self.facts.started_at is None:
            return here
        ended_at = time.time() - (time.monotonic() - ended_seconds)
        return max(here, ended_at - self.facts.started_at)

    def draft(self) -> str:
        """Return the draft of the record, as JSON."""
        return Draft(self.uuid, self.metadata, self.started_at(), self.facts).encoded()


class RecordWriter:
    """Writer of the records of one dispatcher's calls."""

    def __init__(
        self,
        registry: Registry,
        *,
        fields: Collection[str] = ("from", "to"),
        with_text: bool = False,
        keeper: RecordKeeper = NO_RECORDS,
        clock: Callable[[], float] = time.monotonic,
        grace_seconds: float = GRACE_SECONDS,
        tracer: Tracer = NO_TRACER,
        lost: Callable[[CallRecord], None] = lambda _: None,
        tenants: Tenants = NO_TENANTS,
    ) -> None:
        """Make a writer.

        Args:
            registry: keeps the drafts.
            fields: CALL_RECORDS_METADATA.
            with_text: CALL_RECORDS_TEXT.
            keeper: takes the records; by default, only the log has them.
            clock: monotonic.
            grace_seconds: time for which a call without a holder is not lost yet.
            tracer: takes the spans of lost calls.
            lost: counts a lost call, by its record.
            tenants: of the deployment.
        """
        self._registry = registry
        self._fields = tuple(fields)
        self._with_text = with_text
        self._keeper = keeper
        self._clock = clock
        self._grace_seconds = grace_seconds
        self._tracer = tracer
        self._lost = lost
        self._tenants = tenants
        # Calls with a record, whose drafts are there yet; and those of them whose drafts may be dropped.
        self._recorded: set[str] = set()
        self._undropped: set[str] = set()
        self._switches = registry.switches
        # Calls without a holder, and since when this dispatcher has seen none.
        self._missing: dict[str, float] = {}

    def facts(self) -> CallFacts:
        """Return the facts of a call that begins."""
        return CallFacts(str(uuids.uuid4()), with_text=self._with_text)

    async def recall(self, uuid: str, facts: CallFacts) -> None:
        """Add what an earlier dispatcher of the call knew, if Redis has it."""
        try:
            earlier = await self._draft(uuid)
        except RegistryUnavailable:
            return
        # This dispatcher's own draft may be there already.
        if earlier is not None and earlier.facts.record_id != facts.record_id:
            facts.add_earlier(earlier.facts)
            facts.started_at = earlier.started_at

    def ended(self, call: RecordedCall, ending: str, reason: EndReason, text: str) -> None:
        """Write the record of a call that has ended here."""
        end = End(ending, reason, redact(text, call.uuid), call.started_at(), time.time())
        if len(self._recorded) < MAX_UNDROPPED:
            self._recorded.add(call.uuid)
        self._write(build(call.uuid, call.metadata, self._fields, call.facts, end))

    async def keep_drafts(self, calls: Collection[RecordedCall]) -> None:
        """Keep the drafts of running calls that have changed, and drop those of calls that have ended.

        What Redis does not take now, the next call of this method gives it.
        """
        if self._undropped:
            dropped = set(self._undropped)
            await self._registry.drop_drafts(dropped)
            self._undropped -= dropped
            self._recorded -= dropped
        if self._switches != self._registry.switches:
            # Another server is the primary of Redis, and may lack the latest drafts.
            self._switches = self._registry.switches
            for call in calls:
                call.facts.is_changed = True
        drafts: dict[str, str] = {}
        written: list[RecordedCall] = []
        chars = 0
        for call in calls:
            if not call.facts.is_changed:
                continue
            drafts[call.uuid] = call.draft()
            written.append(call)
            chars += len(drafts[call.uuid])
            if chars >= MAX_WRITTEN_CHARS:
                await self._keep(drafts, written)
                drafts, written, chars = {}, [], 0
        if drafts:
            await self._keep(drafts, written)

    async def _keep(self, drafts: Mapping[str, str], calls: Collection[RecordedCall]) -> None:
        for call in calls:
            call.facts.is_changed = False
        try:
            await self._registry.keep_drafts(drafts, seconds=DRAFT_SECONDS)
        except RegistryUnavailable:
            for call in calls:
                call.facts.is_changed = True
            raise

    async def look_for_lost_calls(self, held: Collection[str]) -> None:
        """Write the records of calls whose dispatcher died, and whose caller did not come back.

        Args:
            held: uuids of the calls that this dispatcher holds.

        Raises:
            RegistryUnavailable: Redis is away.
        """
        without_holder = await self._registry.calls_without_holder()
        now = self._clock()
        self._missing = {
            uuid: self._missing.get(uuid, now)
            for uuid in without_holder
            if uuid not in held and uuid not in self._recorded
        }
        lost = [uuid for uuid, since in self._missing.items() if now - since >= self._grace_seconds]
        for uuid in lost:
            if await self._registry.claim(f"{RECORD_CLAIM}{uuid}", seconds=CLAIM_SECONDS):
                await self._write_lost(uuid, without_holder[uuid])
                del self._missing[uuid]

    async def _write_lost(self, uuid: str, last_seen_at: float) -> None:
        draft = await self._draft(uuid)
        if draft is None:
            await self._registry.drop_drafts([uuid])
            return
        message = "its dispatcher died, and the caller did not come back"
        end = End(LOST, EndReason.LOST, message, draft.started_at, last_seen_at)
        self._recorded.add(uuid)
        # The draft of an earlier release has no tenant.
        tenant = self._tenants.told(draft.facts.tenant) or self._tenants.of_call(draft.metadata, {})
        draft.facts.belongs_to(tenant)
        lost_trace.end_call(self._tracer, uuid, draft.facts, end)
        record = build(uuid, draft.metadata, self._fields, draft.facts, end)
        self._lost(record)
        self._write(record)

    async def _draft(self, uuid: str) -> Draft | None:
        """Return the draft of a call's record; None if there is none, or it cannot be read."""
        written = await self._registry.draft(uuid)
        if written is None:
            return None
        try:
            return Draft.read(uuid, written, with_text=self._with_text)
        except ValueError as error:
            log.error("draft of a call record cannot be read", uuid=uuid, reason=type(error).__name__)
            return None

    def _write(self, record: CallRecord) -> None:
        log.info("call record", **log_fields(record), uuid=record.uuid)
        self._keeper.ended(record, lambda: self._undropped.add(record.uuid))
