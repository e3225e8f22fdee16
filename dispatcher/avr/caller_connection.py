"""The connection of a call to AVR Core, for either of AVR's protocols."""

from __future__ import annotations

from typing import Protocol as Interface

from common.net.websocket import Owner, WebSocket
from dispatcher.avr import protocol
from dispatcher.avr.legacy import LegacyOwner


class ConnectionOwner(Owner, LegacyOwner, Interface):
    """Owner of a caller's connection, whichever protocol it speaks."""


class CallerConnection(Interface):
    """The caller's connection, as a call uses it."""

    @property
    def received_seconds(self) -> float:
        """Monotonic time of the last read."""

    @property
    def write_paused(self) -> bool:
        """Whether the send buffer is full because AVR Core does not read."""

    @property
    def may_return(self) -> bool:
        """Whether a core that loses this connection may reconnect."""

    def hand_over(self, owner: ConnectionOwner | None) -> None:
        """Report to another owner from now on; None: report nothing more."""

    def mark_identified(self) -> None:
        """Mark the caller as identified, because its `init` has arrived."""

    def play(self, pcm: bytes) -> None:
        """Send PCM16 at 8 kHz, in frames of 320 bytes."""

    def interrupt(self) -> None:
        """Drop the audio that was not played."""

    def send_transcript(self, role: str, text: str) -> None:
        """Send a transcript."""

    def send_error(self, message: str) -> None:
        """Send an error."""

    def close(self, code: int, reason: str) -> None:
        """Close the connection."""

    def abort(self) -> None:
        """Abort the connection without a closing handshake."""

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""


class WebSocketCallerConnection:
    """The connection of the current protocol: JSON messages on a WebSocket."""

    def __init__(self, connection: WebSocket) -> None:
        self._connection = connection

    @property
    def received_seconds(self) -> float:
        """See `CallerConnection`."""
        return self._connection.received_seconds

    @property
    def write_paused(self) -> bool:
        """See `CallerConnection`."""
        return self._connection.write_paused

    @property
    def may_return(self) -> bool:
        """See `CallerConnection`."""
        return True

    def hand_over(self, owner: ConnectionOwner | None) -> None:
        """See `CallerConnection`."""
        self._connection.hand_over(owner)

    def mark_identified(self) -> None:
        """See `CallerConnection`."""
        self._connection.mark_identified()

    def play(self, pcm: bytes) -> None:
        """See `CallerConnection`."""
        for frame in protocol.frames(pcm):
            self._connection.send_text(protocol.audio(frame))

    def interrupt(self) -> None:
        """See `CallerConnection`."""
        self._connection.send_text(protocol.INTERRUPTION)

    def send_transcript(self, role: str, text: str) -> None:
        """See `CallerConnection`."""
        self._connection.send_text(protocol.transcript(role, text))

    def send_error(self, message: str) -> None:
        """See `CallerConnection`."""
        self._connection.send_text(protocol.error(message))

    def close(self, code: int, reason: str) -> None:
        """See `CallerConnection`."""
        self._connection.close(code, reason)

    def abort(self) -> None:
        """See `CallerConnection`."""
        self._connection.abort()

    async def wait_closed(self) -> None:
        """See `CallerConnection`."""
        await self._connection.wait_closed()
