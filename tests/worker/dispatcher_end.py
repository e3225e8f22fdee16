"""A dispatcher's end of a link to a worker, in the hands of a test."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from common.link import wire
from common.link.link_end import LINK_LIMITS, LinkEnd
from common.link.wire import Hello, Kind
from common.net.websocket_client import connect
from tests.worker.link_records import JOURNAL, Record, decoded

# Not a measure of anything: how long a test waits before it says that something does not happen at all.
PATIENCE_SECONDS = 10.0

HELLO = Hello(wire.PROTOCOL_VERSION, "0.1.0", "dispatcher", "dispatcher-1", "boot_id-1")


class DispatcherEnd:
    """One link. It answers every FLUSH: nothing was heard.

    Attributes:
        hello: the worker's.
        records: (channel, record), all of them.
        counts: by channel, how many of its stream's records have come.
        lost_reason: why the link is gone; None while it is there.
    """

    def __init__(self, hello: Hello = HELLO) -> None:
        self.end = LinkEnd(hello, self)
        self.hello: Hello | None = None
        self.records: list[tuple[int, Record]] = []
        self.counts: Counter[int] = Counter()
        self.lost_reason: str | None = None
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[None]]] = []

    # What tests do

    def send(self, record: wire.Control, channel: int) -> None:
        self.end.send(wire.encode(record, channel))

    def open(
        self, uuid: str, channel: int, *, epoch: int = 1, position: int = 0, credit: int = 10**9, **fields: Any
    ) -> None:
        self.send(wire.Open(uuid, epoch, {"from": "100"}, position, credit, **fields), channel)

    def on(self, channel: int) -> list[Record]:
        """Return the records of a channel."""
        return [record for number, record in self.records if number == channel]

    def said(self, channel: int) -> list[Record]:
        """Return the records of a channel but those for the dispatcher's memory."""
        return [record for record in self.on(channel) if not isinstance(record, JOURNAL)]

    def audio(self, channel: int, index: int) -> bytes:
        """PCM16 at 8 kHz of an item."""
        return b"".join(
            r.pcm for r in self.on(channel) if isinstance(r, wire.ReplyAudio) and r.item_index == index
        )

    async def wait_for(self, predicate: Callable[[], Any]) -> None:
        """Wait until it is true; it is asked after each record, and when the link is lost."""
        if predicate():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((predicate, future))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await future
        except TimeoutError:
            last = [
                (channel, record) for channel, record in self.records if not isinstance(record, wire.ReplyAudio)
            ]
            raise AssertionError(f"it did not come: {last}, link lost: {self.lost_reason}") from None

    async def next(self, channel: int, kind: type[Any], count: int = 1) -> Any:
        """Return the channel's `count`-th record of this kind."""
        found: list[Record] = []

        def is_there() -> bool:
            found[:] = [record for record in self.on(channel) if isinstance(record, kind)]
            return len(found) >= count

        await self.wait_for(is_there)
        return found[count - 1]

    async def wait_for_one(self, channel: int, wanted: Callable[[Record], Any]) -> Any:
        """Return the channel's first record of which this is true."""
        await self.wait_for(lambda: any(wanted(record) for record in self.on(channel)))
        return next(record for record in self.on(channel) if wanted(record))

    async def gone(self) -> str:
        """Wait until the link is gone."""
        await self.wait_for(lambda: self.lost_reason is not None)
        return self.lost_reason or ""

    # Owner of the link's end

    def caught_up(self) -> None:
        pass

    def greeted(self, hello: Hello) -> None:
        self.hello = hello
        self._changed()

    def record(self, kind: int, channel: int, payload: memoryview, received_seconds: float) -> None:
        record = decoded(kind, payload)
        self.records.append((channel, record))
        self.counts[channel] += kind not in wire.UNCOUNTED
        if kind == Kind.FLUSH:
            assert isinstance(record, wire.Flush)
            self.send(wire.Heard(record.number, tuple(wire.ItemHeard(n) for n in range(100))), channel)
        self._changed()

    def lost(self, reason: str) -> None:
        self.lost_reason = reason
        self._changed()

    def _changed(self) -> None:
        for predicate, future in self._waiting:
            if not future.done() and predicate():
                future.set_result(None)


@asynccontextmanager
async def link_to(address: str, hello: Hello = HELLO) -> AsyncIterator[DispatcherEnd]:
    """Yield a link to the worker at `host:port`, up to the worker's HELLO; closed at the end."""
    dispatcher = DispatcherEnd(hello)
    connection = await connect(f"ws://{address}/link", dispatcher.end, limits=LINK_LIMITS)
    try:
        await dispatcher.wait_for(lambda: dispatcher.hello or dispatcher.lost_reason is not None)
        yield dispatcher
    finally:
        connection.close(1000)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await connection.wait_closed()
