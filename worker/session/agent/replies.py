"""Reply audio on its way to the dispatcher.

The Realtime API sends audio faster than AVR Core plays it. Audio within the dispatcher's credit is sent at once;
the rest is buffered here. The received, sent and heard samples of each item are counted. The heard samples come
from the dispatcher's playout clock.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass

from common.link import wire
from common.link.wire import ItemHeard
from worker.audio.audio_format import Downlink
from worker.audio.resample import LOW_RATE_HZ, SAMPLE_BYTES

# Maximum audio that was sent and may have to be sent again to another dispatcher. A dispatcher reports five times
# a second what it has handed to AVR Core.
MAX_RETAINED_BYTES = 2 * wire.REPLY_CREDIT_BYTES
# The longest reply that is buffered for a slow caller. Longer than any response of 4,096 tokens.
MAX_WAITING_BYTES = 5 * 60 * LOW_RATE_HZ * SAMPLE_BYTES
# Maximum flushes without an answer. A dispatcher answers each flush at once.
MAX_FLUSHES = 64


@dataclass(slots=True)
class Reply:
    """One reply item.

    Attributes:
        item_id, response_id: ids of the item, and of the response that it is part of.
        index: number of the item in records of the link.
        received_bytes: size of the API's audio, in the API's format, with audio that was dropped after a barge-in.
        bytes_per_ms: size of a millisecond in that format.
        sent_samples: samples (8 kHz) that were sent to the dispatcher.
        heard_samples: samples (8 kHz) that the caller heard; None: not known yet.
        restored: another session produced the audio, and this session has only the text.
        closed: further audio is dropped, because the API has ended the item, or a barge-in has.
        complete: all audio was sent.
        fully_heard: the caller has heard all audio.
        truncated: a barge-in has interrupted the audio.
        parts: content parts: (content index, byte of the received audio at which the part begins).
    """

    item_id: str
    response_id: str
    index: int
    parts: list[tuple[int, int]]
    received_bytes: int = 0
    bytes_per_ms: int = 48
    sent_samples: int = 0
    heard_samples: int | None = None
    restored: bool = False
    closed: bool = False
    complete: bool = False
    fully_heard: bool = False
    truncated: bool = False

    def part_at(self, end_ms: int) -> tuple[int, int]:
        """Return the part (content index, first byte) that plays until `end_ms`."""
        end_bytes = end_ms * self.bytes_per_ms
        return next((part for part in reversed(self.parts) if part[1] < end_bytes), self.parts[0])

    @property
    def received_ms(self) -> int:
        """Length of the API's audio, in milliseconds."""
        return self.received_bytes // self.bytes_per_ms

    @property
    def received_samples(self) -> int:
        """Length of the API's audio, in samples at 8 kHz."""
        return self.received_bytes * (LOW_RATE_HZ // 1000) // self.bytes_per_ms

    @property
    def heard_ms(self) -> int:
        """Length of the heard audio, in milliseconds. The tail that the resampler adds does not count."""
        return min((self.heard_samples or 0) * 1000 // LOW_RATE_HZ, self.received_ms)

    @property
    def heard_share(self) -> float:
        """Share of the audio that was heard, 0 to 1."""
        if self.fully_heard:
            return 1.0
        return self.heard_ms / self.received_ms if self.received_ms else 0.0


class Replies:
    """The replies of one session. Methods return the records to send."""

    def __init__(self, credit_bytes: int, downlink: Downlink, bytes_per_ms: int, first_index: int = 0) -> None:
        self._bytes_per_ms = bytes_per_ms
        self._credit_bytes = credit_bytes
        self._downlink = downlink
        self._playing: dict[int, Reply] = {}
        self._current: Reply | None = None
        # (reply, audio), (reply, None) at the end of a reply, and telephony commands, in the order of sending.
        self._waiting: deque[tuple[Reply, bytes | None] | wire.TelephonyCommand] = deque()
        self._waiting_bytes = 0
        self._retained: deque[tuple[Reply, int, bytes]] = deque()  # (reply, first sample, audio)
        self._retained_bytes = 0
        self._playout = wire.Playout()
        self._heard: dict[int, int] = {}
        self._next_index = first_index
        self._flushes = 0
        self._flushed: dict[int, list[Reply]] = {}

    @property
    def any_playing(self) -> bool:
        """Whether the caller may be hearing a reply, or a reply is buffered."""
        return bool(self._playing)

    @property
    def current_response_id(self) -> str | None:
        """Id of the response of the item that is being received."""
        return None if self._current is None else self._current.response_id

    @property
    def waiting_commands(self) -> list[wire.TelephonyCommand]:
        """Telephony commands behind audio that waits for credit."""
        return [waiting for waiting in self._waiting if isinstance(waiting, wire.TelephonyCommand)]

    @property
    def is_full(self) -> bool:
        """Whether more audio is buffered than MAX_WAITING_BYTES."""
        return self._waiting_bytes > MAX_WAITING_BYTES

    @property
    def is_unanswered(self) -> bool:
        """Whether more than MAX_FLUSHES flushes have no answer."""
        return len(self._flushed) > MAX_FLUSHES

    @property
    def waiting_seconds(self) -> float:
        """Length of the buffered audio."""
        return self._waiting_bytes / SAMPLE_BYTES / LOW_RATE_HZ

    def begin(self, item_id: str, response_id: str, content_index: int) -> tuple[Reply, list[wire.Record]]:
        """Begin an item whose first audio has come."""
        records = self.complete() if self._current is not None else []
        reply = Reply(
            item_id, response_id, self._next_index, [(content_index, 0)], bytes_per_ms=self._bytes_per_ms
        )
        self._next_index += 1
        self._playing[reply.index] = reply
        self._current = reply
        records.append(wire.ReplyItem(reply.index, item_id))
        return reply, records

    def audio(self, reply: Reply, data: bytes) -> list[wire.Record]:
        """Send audio of the current item, in the API's format; only count audio of a closed item."""
        reply.received_bytes += len(data)
        if reply.closed:
            return []
        return self._send(reply, self._downlink.decode(data))

    def append(self, order: wire.TelephonyCommand) -> list[wire.Record]:
        """Send a telephony command after all audio so far, even if that audio is dropped."""
        self._waiting.append(order)
        return self._send_waiting()

    def forget(self, first_index: int) -> None:
        """Forget the playing items, which are restored next. Number new items from `first_index`, at least."""
        self._playing.clear()
        self._next_index = max(self._next_index, first_index)

    def settle(self, reply: Reply, heard_samples: int) -> None:
        """Settle a restored reply whose heard part is known."""
        self._playing.pop(reply.index, None)
        reply.heard_samples = min(heard_samples, reply.sent_samples)
        reply.fully_heard = reply.heard_samples == reply.sent_samples

    def restore(self, index: int, item_id: str, sent_samples: int) -> Reply:
        """Restore a complete reply of a lost session, which may still be playing."""
        bytes_per_ms = LOW_RATE_HZ * SAMPLE_BYTES // 1000
        reply = Reply(item_id, "", index, [(0, 0)], sent_samples * SAMPLE_BYTES, bytes_per_ms)
        reply.sent_samples = sent_samples
        reply.restored = reply.closed = reply.complete = True
        self._playing[index] = reply
        self._next_index = max(self._next_index, index + 1)
        return reply

    def attached(
        self, credit_bytes: int, age_seconds: float
    ) -> tuple[list[Reply], wire.Playout, list[wire.Record]]:
        """Send audio again to another dispatcher, unless the former one reported it as handed to AVR Core.

        Flushes that the former dispatcher has not answered are repeated, because AVR Core may still be playing.

        Args:
            credit_bytes: credit of the new dispatcher.
            age_seconds: time since the last report of the playout.

        Returns:
            the replies that are not settled, the position of the playout, and the flushes without an answer.
        """
        self._credit_bytes = credit_bytes
        again: list[tuple[Reply, bytes | None]] = []
        for reply in self._playing.values():
            handed = reply.sent_samples
            for owner, start, pcm in self._retained:
                if owner is reply:
                    handed = min(handed, start)
                    again.append((reply, pcm))
                    self._waiting_bytes += len(pcm)
            reply.sent_samples = handed
            if reply.complete and not reply.restored:
                reply.complete = False
                again.append((reply, None))
        self._retained.clear()
        self._retained_bytes = 0
        self._waiting.extendleft(reversed(again))
        cut = [reply for replies in self._flushed.values() for reply in replies]
        self._forget_what_was_not_handed(cut)
        flushes: list[wire.Record] = [wire.Flush(number) for number in self._flushed]
        playout = dataclasses.replace(self._playout, age_seconds=age_seconds)
        return [*cut, *self._playing.values()], playout, flushes

    def _forget_what_was_not_handed(self, cut: list[Reply]) -> None:
        """Limit interrupted replies to what AVR Core has by the last report."""
        handed = {item.index: item.samples for item in self._playout.queued}
        begun = max((item.index for item in (*self._playout.items, *self._playout.queued)), default=-1)
        for reply in cut:
            known = handed.get(reply.index, 0 if reply.index > begun else reply.sent_samples)
            reply.sent_samples = min(reply.sent_samples, known)

    def send(self) -> list[wire.Record]:
        """Send buffered audio within the credit."""
        return self._send_waiting()

    def complete(self) -> list[wire.Record]:
        """Complete the current item: it has no more audio."""
        reply, self._current = self._current, None
        if reply is None or reply.closed:
            return []
        records = self._send(reply, self._downlink.flush())
        reply.closed = True
        self._waiting.append((reply, None))
        return records + self._send_waiting()

    def credit(self, credit_bytes: int) -> list[wire.Record]:
        """Send more audio: the dispatcher has room again."""
        self._credit_bytes += credit_bytes
        return self._send_waiting()

    def flush(self) -> list[wire.Record]:
        """Drop buffered audio, close the playing items, and ask how much of them was heard: a barge-in."""
        self._downlink.reset()
        self._current = None
        kept: list[wire.Record] = [*self.waiting_commands]
        self._waiting.clear()
        self._retained.clear()
        self._retained_bytes = 0
        self._waiting_bytes = 0
        if not self._playing:
            return kept
        cut = list(self._playing.values())
        self._playing.clear()
        for reply in cut:
            reply.closed = reply.truncated = True
        self._flushes += 1
        self._flushed[self._flushes] = cut
        return [wire.Flush(self._flushes), *kept]

    def heard(self, answer: wire.Heard) -> list[Reply]:
        """Take the answer to a flush; return the interrupted items, oldest first, with their heard samples."""
        heard = {item.index: item.samples for item in answer.items}
        replies = self._flushed.pop(answer.number, [])
        for reply in replies:
            # The sent audio of an item that the answer does not name was heard.
            reply.heard_samples = max(0, heard.get(reply.index, reply.sent_samples))
            # Only the resampler's tail may be missing. Then the item is not truncated, because the API would drop
            # its text.
            reply.fully_heard = reply.complete and reply.heard_ms == reply.received_ms
        return replies

    def playout(self, report: wire.Playout) -> list[Reply]:
        """Take a report of the playout; return the items that have been heard to their end since the last report.

        Only samples count. An idle playout includes neither audio in transit to the dispatcher, nor audio that the
        dispatcher holds for AVR Core.
        """
        self._playout = report
        self._handed(report.queued or report.items)
        self._heard = {item.index: item.samples for item in report.items} or self._heard
        return self.take_heard_out()

    def take_heard_out(self) -> list[Reply]:
        """Return the items that have been heard to their end, by the last report with items; each item once.

        The last report may come before the item is complete: with G.711 the end of an item adds no samples.
        """
        heard = self._heard
        out: list[Reply] = []
        for index, reply in list(self._playing.items()):
            later_plays = any(other > index for other in heard)
            ended = later_plays or heard.get(index, -1) >= reply.sent_samples
            if not (reply.complete and ended):
                break
            reply.heard_samples = reply.sent_samples
            reply.fully_heard = True
            del self._playing[index]
            out.append(reply)
        self._heard = {index: samples for index, samples in heard.items() if index in self._playing}
        return out

    def _send(self, reply: Reply, pcm: bytes) -> list[wire.Record]:
        if not pcm:
            return []
        self._waiting.append((reply, pcm))
        self._waiting_bytes += len(pcm)
        return self._send_waiting()

    def _send_waiting(self) -> list[wire.Record]:
        records: list[wire.Record] = []
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, wire.TelephonyCommand):
                records.append(first)
                self._waiting.popleft()
                continue
            reply, pcm = first
            if pcm is None:
                reply.complete = True
                records.append(wire.ReplyItemDone(reply.index))
                self._waiting.popleft()
                continue
            size = min(len(pcm), self._credit_bytes // SAMPLE_BYTES * SAMPLE_BYTES)
            if size == 0:
                break
            self._credit_bytes -= size
            self._waiting_bytes -= size
            self._retain(reply, pcm[:size])
            reply.sent_samples += size // SAMPLE_BYTES
            records.append(wire.ReplyAudio(reply.index, pcm[:size]))
            if size < len(pcm):
                self._waiting[0] = (reply, pcm[size:])
            else:
                self._waiting.popleft()
        return records

    def _retain(self, reply: Reply, pcm: bytes) -> None:
        self._retained.append((reply, reply.sent_samples, pcm))
        self._retained_bytes += len(pcm)
        while self._retained_bytes > MAX_RETAINED_BYTES:
            self._retained_bytes -= len(self._retained.popleft()[2])

    def _handed(self, items: tuple[ItemHeard, ...]) -> None:
        """Forget audio that AVR Core has: all items before the last one, and these samples of the last one."""
        if not items:
            return
        last = items[-1]
        while self._retained:
            reply, start, pcm = self._retained[0]
            end = start + len(pcm) // SAMPLE_BYTES
            handed = end - start if reply.index < last.index else 0
            if reply.index == last.index:
                handed = max(0, min(last.samples, end) - start)
            self._retained_bytes -= handed * SAMPLE_BYTES
            if handed < end - start:
                self._retained[0] = (reply, start + handed, pcm[handed * SAMPLE_BYTES :])
                return
            self._retained.popleft()
