"""The records of one channel, so that a new link can take it up where the old one broke.

Each side counts what it has received, tells the other so now and then (ACK), and keeps what it has sent until the
other is known to have it. That is what may be under way: the credit of the audio, and the records without audio
between two acknowledgements. A peer that acknowledges nothing is not waited for without end: what is kept has a
bound, at which the channel is of no use any more, and its call is to end.
"""

from __future__ import annotations

from collections import deque

from common.errors import LinkProtocolError
from common.link import wire

# An acknowledgement follows so many records or bytes, whichever come first: about one a second while both speak.
ACK_RECORDS = 32
ACK_BYTES = 16_000
# Far above what the credit allows (6 s of audio, 300 records), for what is sent without: a memory that is handed
# over may be a thousand items and a message's length, twice where the session stood by, and a model goes on
# writing while there is no link.
MAX_KEPT_RECORDS = 32_768
MAX_KEPT_BYTES = 4 * wire.MAX_MESSAGE_BYTES + 2 * (wire.CALLER_CREDIT_BYTES + wire.REPLY_CREDIT_BYTES)


class RetransmitBuffer:
    """One end of a channel.

    Attributes:
        received: records received so far.
        is_full: more is not acknowledged than may be kept: the channel cannot go on, now or on another link.
    """

    def __init__(self) -> None:
        self.received = 0
        self.is_full = False
        self._sent = 0
        self._unacknowledged: deque[bytes] = deque()
        self._kept_bytes = 0
        self._due_records = 0
        self._due_bytes = 0

    def sending(self, record: bytes) -> None:
        """A record is sent, or will be when there is a link again; a full stream keeps no more."""
        if self.is_full:
            return
        self._sent += 1
        self._unacknowledged.append(record)
        self._kept_bytes += len(record)
        if self._kept_bytes > MAX_KEPT_BYTES or len(self._unacknowledged) > MAX_KEPT_RECORDS:
            self.is_full = True

    def receive(self, size_bytes: int) -> bool:
        """A record was received; True if it is time to acknowledge."""
        self.received += 1
        self._due_records += 1
        self._due_bytes += size_bytes
        if self._due_records < ACK_RECORDS and self._due_bytes < ACK_BYTES:
            return False
        self._due_records = self._due_bytes = 0
        return True

    def acknowledged(self, received: int) -> None:
        """The other side has received so many records.

        Raises:
            LinkProtocolError: that is more than were sent, or less than it said before.
        """
        count = received - (self._sent - len(self._unacknowledged))
        if not 0 <= count <= len(self._unacknowledged):
            raise LinkProtocolError(f"{received} records are said to have come, of {self._sent}")
        for _ in range(count):
            self._kept_bytes -= len(self._unacknowledged.popleft())

    def resumed(self, received: int) -> list[bytes]:
        """There is a new link, and the other side has received so many records: returns those that it has not.

        Raises:
            LinkProtocolError: see `acknowledged`.
        """
        self.acknowledged(received)
        return list(self._unacknowledged)
