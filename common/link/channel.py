"""One end of a channel: the records of one call, which continue on the next link when a link breaks.

    OPEN ──broke──▶ BROKEN ──attach──▶ ATTACHING ──resumed──▶ OPEN
      ▲                │  ▲               │
      └─── resumed ────┘  └──── broke ────┘

An end with a new link sends ATTACH on it, and buffers its records until ATTACHED comes.
The end that receives ATTACH resumes at once. Records are encoded once, with the channel's number. Unacknowledged
records are retransmitted from the `RetransmitBuffer`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from common.link import wire
from common.link.binary_records import Record
from common.link.retransmit_buffer import RetransmitBuffer

Transmit: TypeAlias = Callable[[bytes], None]
"""Sends an encoded record on a link."""
Encode: TypeAlias = Callable[[Record, int], bytes]
"""Encodes a record for a channel of this number."""


class ChannelState(Enum):
    """Whether records can be sent now."""

    OPEN = "open"
    BROKEN = "broken"
    ATTACHING = "attaching"


class Channel:
    """One end of one channel.

    Attributes:
        number: of the channel on its link.
    """

    def __init__(self, number: int, transmit: Transmit | None, encode: Encode = wire.encode_record) -> None:
        """Open a channel.

        Args:
            number: of the channel on its link.
            transmit: sends on that link; None: there is no link yet.
            encode: encodes a record.
        """
        self.number = number
        self._state = ChannelState.BROKEN if transmit is None else ChannelState.OPEN
        self._transmit = transmit
        self._encode = encode
        self._buffer = RetransmitBuffer()

    @property
    def state(self) -> ChannelState:
        """Whether records can be sent now: see the module's drawing."""
        return self._state

    @property
    def received(self) -> int:
        """Number of counted records that have been received."""
        return self._buffer.received

    @property
    def is_full(self) -> bool:
        """Whether the retransmit buffer is full, because the other end acknowledges nothing.

        A full channel cannot continue.
        """
        return self._buffer.is_full

    def send(self, record: Record) -> None:
        """Send a record, now or when there is a link again.

        Raises:
            ValueError: the record cannot be encoded.
        """
        encoded = self._encode(record, self.number)
        self._buffer.sending(encoded)
        if self._state is ChannelState.OPEN and self._transmit is not None:
            self._transmit(encoded)

    def send_uncounted(self, record: Record) -> None:
        """Send a record that is never retransmitted; without a link it is dropped.

        Raises:
            ValueError: the record cannot be encoded.
        """
        if self._transmit is not None:
            self._transmit(self._encode(record, self.number))

    def receive(self, kind: int, size_bytes: int) -> None:
        """Count a received record, and acknowledge when an acknowledgement is due.

        Args:
            kind: of the record.
            size_bytes: of its payload.
        """
        if kind not in wire.UNCOUNTED and self._buffer.receive(size_bytes) and self._transmit is not None:
            self._transmit(wire.encode_ack(self.number, self._buffer.received))

    def acknowledged(self, received: int) -> None:
        """Drop the records that the other end has received.

        Raises:
            LinkProtocolError: the number exceeds the sent records, or is lower than an earlier one.
        """
        self._buffer.acknowledged(received)

    def broke(self) -> None:
        """Buffer records from now on, because the link is gone."""
        self._state = ChannelState.BROKEN
        self._transmit = None

    def attach(self, transmit: Transmit, uuid: str, epoch: int) -> None:
        """Ask the other end to resume the channel on another link."""
        self._state = ChannelState.ATTACHING
        self._transmit = transmit
        self.send_uncounted(wire.Attach(uuid, epoch, self._buffer.received))

    def accept(self, transmit: Transmit, received: int) -> None:
        """Resume the channel on another link at the request of the other end: answer ATTACHED, and retransmit.

        Raises:
            LinkProtocolError: see `acknowledged`.
        """
        self._transmit = transmit
        self.send_uncounted(wire.Attached(self._buffer.received))
        self.resumed(received)

    def resumed(self, received: int) -> None:
        """Retransmit the records that the other end has not received.

        Raises:
            LinkProtocolError: see `acknowledged`.
        """
        repeated = self._buffer.resumed(received)
        self._state = ChannelState.OPEN
        if self._transmit is not None:
            for record in repeated:
                self._transmit(record)
