"""The unacknowledged records of one channel, so that a new link can resume it.

Each side counts the records that it has received, and acknowledges them now and then (ACK). Each side keeps sent
records until the other side has acknowledged them: the audio that credit allows, and the records between two
acknowledgements. The buffer is bounded. When a peer never acknowledges, the buffer is full, the channel cannot
continue, and its call must end.
"""

from __future__ import annotations

from collections import deque

from common.errors import LinkProtocolError
from common.link import wire

# An acknowledgement is sent after so many records or bytes, whichever comes first: about one a second while both
# sides speak.
ACK_RECORDS = 32
ACK_BYTES = 16_000
# Far above the credit (6 s of audio, 300 records), because other records need no credit. A memory may have a
# thousand items and the length of a message, twice for a standby session. A model also goes on writing while there
# is no link.
MAX_KEPT_RECORDS = 32_768
MAX_KEPT_BYTES = 4 * wire.MAX_MESSAGE_BYTES + 2 * (wire.CALLER_CREDIT_BYTES + wire.REPLY_CREDIT_BYTES)


class RetransmitBuffer:
    """The retransmit buffer of one end of a channel.

    Attributes:
        received: number of records received so far.
        is_full: the bound of unacknowledged records is reached: the channel cannot continue on any link.
    """

    def __init__(self) -> None:
        self.received = 0
        self.is_full = False
        self._sent = 0
        self._unacknowledged: deque[bytes] = deque()
        self._unacknowledged_bytes = 0
        self._due_records = 0
        self._due_bytes = 0

    def sending(self, record: bytes) -> None:
        """Buffer a record that is sent now, or when there is a link again; a full buffer keeps no more."""
        if self.is_full:
            return
        self._sent += 1
        self._unacknowledged.append(record)
        self._unacknowledged_bytes += len(record)
        if self._unacknowledged_bytes > MAX_KEPT_BYTES or len(self._unacknowledged) > MAX_KEPT_RECORDS:
            self.is_full = True

    def receive(self, size_bytes: int) -> bool:
        """Count a received record; return whether an acknowledgement is due."""
        self.received += 1
        self._due_records += 1
        self._due_bytes += size_bytes
        if self._due_records < ACK_RECORDS and self._due_bytes < ACK_BYTES:
            return False
        self._due_records = self._due_bytes = 0
        return True

    def acknowledged(self, received: int) -> None:
        """Drop the records that the other side has received.

        Raises:
            LinkProtocolError: the number exceeds the sent records, or is lower than an earlier one.
        """
        count = received - (self._sent - len(self._unacknowledged))
        if not 0 <= count <= len(self._unacknowledged):
            raise LinkProtocolError(f"{received} records are acknowledged, of {self._sent} sent")
        for _ in range(count):
            self._unacknowledged_bytes -= len(self._unacknowledged.popleft())

    def resumed(self, received: int) -> list[bytes]:
        """Return the records to retransmit on a new link.

        Args:
            received: number of records that the other side has received.

        Raises:
            LinkProtocolError: see `acknowledged`.
        """
        self.acknowledged(received)
        return list(self._unacknowledged)
