"""AVR Core's end of a call, whichever protocol it speaks."""

from __future__ import annotations

from typing import Protocol as Interface

from common.net.websocket import Owner, WebSocket
from dispatcher.avr import protocol
from dispatcher.avr.legacy import LegacyOwner


class ConnectionOwner(Owner, LegacyOwner, Interface):
    """Owner of a caller's connection, whichever protocol it speaks."""


class CallerConnection(Interface):
    """Connection of a caller, as its call uses it."""

    @property
    def write_paused(self) -> bool:
        """Whether AVR Core does not take what waits for it."""

    @property
    def may_return(self) -> bool:
        """Whether a core that loses this connection may come back in another one."""

    def hand_over(self, owner: ConnectionOwner | None) -> None:
        """Give the connection to another owner; None: nothing is reported of it any more."""

    def known(self) -> None:
        """Note that the caller has said which call it is."""

    def play(self, pcm: bytes) -> None:
        """Play PCM16 at 8 kHz: whole frames of 320 bytes."""

    def interrupt(self) -> None:
        """Have AVR Core drop audio that it has not played."""

    def tell(self, role: str, text: str) -> None:
        """Give AVR Core a transcript."""

    def complain(self, message: str) -> None:
        """Give AVR Core an error."""

    def close(self, code: int, reason: str) -> None:
        """End the connection."""

    def abort(self) -> None:
        """Drop the connection."""

    async def wait_closed(self) -> None:
        """Wait until it is gone."""


class WebSocketCallerConnection:
    """Connection of today's protocol: JSON messages on a WebSocket."""

    def __init__(self, connection: WebSocket) -> None:
        self._connection = connection

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

    def known(self) -> None:
        """See `CallerConnection`."""
        self._connection.known()

    def play(self, pcm: bytes) -> None:
        """See `CallerConnection`."""
        for frame in protocol.frames(pcm):
            self._connection.send_text(protocol.audio(frame))

    def interrupt(self) -> None:
        """See `CallerConnection`."""
        self._connection.send_text(protocol.INTERRUPTION)

    def tell(self, role: str, text: str) -> None:
        """See `CallerConnection`."""
        self._connection.send_text(protocol.transcript(role, text))

    def complain(self, message: str) -> None:
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
