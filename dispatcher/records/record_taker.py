"""The interface for the writers of records, and the taker that drops them where nothing stores records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from dispatcher.records.call_record import CallRecord
from dispatcher.records.outbox import Outbox

Stored = Callable[[], None]


class RecordTaker(Protocol):
    """The interface for the writers of records.

    Attributes:
        outbox: the records in Redis; None: nothing is stored.
    """

    outbox: Outbox | None

    def ended(self, record: CallRecord, stored: Stored | None = None) -> None:
        """Take the record of an ended call; never raises, and never waits.

        Args:
            record: of the call.
            stored: called once when no other process should write a record of this call any more: the record is in
                Redis, delivered, erased or dropped, Redis has no room for it, or has another one with its id.
        """

    async def start(self) -> None:
        """Begin to deliver."""

    async def stop(self, at_once: asyncio.Event) -> None:
        """Deliver what can be delivered, and leave the rest to other processes.

        Args:
            at_once: is set when the process must end within `records.LAST_SECONDS`.
        """


class NoRecords:
    """Takes no records: nothing that stores them is configured."""

    outbox: Outbox | None = None

    def ended(self, record: CallRecord, stored: Stored | None = None) -> None:
        """Drop the record, which nobody wants."""
        if stored is not None:
            stored()

    async def start(self) -> None:
        """Do nothing."""

    async def stop(self, at_once: asyncio.Event) -> None:
        """Do nothing."""


NO_RECORDS: Final = NoRecords()
