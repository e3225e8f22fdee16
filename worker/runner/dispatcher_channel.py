"""The channel of one call to its dispatcher, or to the next one: encoding, retransmission, attachment."""

from __future__ import annotations

from collections import deque

import structlog

from common.errors import LinkProtocolError
from common.link import wire
from common.link.channel import Channel, ChannelState, Transmit
from common.observe.redaction import redact
from worker.realtime.bad_input import BadInput
from worker.runner.own_key import SessionKey
from worker.runner.runner_states import Attachment
from worker.session.truncation import RecordEncoder

# Transcripts of a call that has no dispatcher.
MAX_UNTOLD = 64


class DispatcherChannel:
    """The worker's end of one call's channel.

    Attributes:
        attachment: whether the dispatcher is there.
        key: of the call's session.
    """

    def __init__(self, uuid: str, number: int, transmit: Transmit, key: SessionKey) -> None:
        """Open the channel.

        Args:
            uuid: of the call.
            number: of the channel on its link.
            transmit: sends on that link.
            key: of the session; it counts what cannot be encoded.
        """
        self.attachment = Attachment()
        self.key = key
        self._uuid = uuid
        self._log = structlog.get_logger().bind(uuid=uuid)
        self._encoder = RecordEncoder(uuid)
        self._channel = Channel(number, transmit, self._encoder.encode)
        # Transcripts that no dispatcher has received. A dispatcher that takes over gets each of them once.
        self._untold: deque[wire.Transcript] = deque(maxlen=MAX_UNTOLD)

    @property
    def is_full(self) -> bool:
        """Whether the dispatcher acknowledges nothing, so that the channel is of no use any more."""
        return self._channel.is_full

    def send(self, record: wire.Record) -> None:
        """Send a record, now or when there is a link again.

        Raises:
            ValueError: the record cannot be encoded.
        """
        self._channel.send(record)

    def send_of_session(self, record: wire.Record) -> None:
        """Send a record of the session; count and drop a record that cannot be encoded."""
        try:
            self._channel.send(record)
        except ValueError as error:
            # A value of the API's that is no JSON, as a number above 64 bits.
            self.key.error(BadInput.EVENT)
            self._log.warning("record not encoded", reason=redact(repr(error), self._uuid)[:200])
            return
        if self._channel.state is ChannelState.BROKEN and isinstance(record, wire.Transcript):
            self._untold.append(record)

    def send_pending_transcripts(self) -> None:
        """Send the transcripts that no dispatcher has received."""
        untold, self._untold = self._untold, deque(maxlen=MAX_UNTOLD)
        for record in untold:
            self._channel.send(record)

    def leave(self, reason: str) -> None:
        """Report that the call is not here any more, and send nothing from now on."""
        self._channel.send_uncounted(wire.Close(reason))
        self._channel.broke()

    def receive(self, kind: int, size_bytes: int) -> None:
        """Count a record that was received: see `Channel.receive`."""
        self._channel.receive(kind, size_bytes)

    def acknowledged(self, received: int) -> None:
        """Forget the records that the dispatcher has: see `Channel.acknowledged`."""
        self._channel.acknowledged(received)

    def broke(self) -> None:
        """Keep records from now on: the link is gone."""
        self._channel.broke()

    def accept(self, transmit: Transmit, received: int) -> None:
        """Go on with the same dispatcher on another link.

        Raises:
            LinkProtocolError: the dispatcher has other records than were sent.
        """
        try:
            self._channel.accept(transmit, received)
        except LinkProtocolError:
            # The end of the call is still told on this link.
            self._channel = Channel(self._channel.number, transmit, self._encoder.encode)
            raise
        self._untold.clear()

    def change(self, number: int, transmit: Transmit) -> None:
        """Go on with another dispatcher, which has received nothing."""
        self._channel.send_uncounted(wire.Close("another dispatcher has this call"))
        self._channel = Channel(number, transmit, self._encoder.encode)
