"""AVR Core's end of a call, whichever protocol it speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Protocol as Interface

from common.net.websocket import WebSocket
from dispatcher.avr import protocol

if TYPE_CHECKING:
    from dispatcher.call.call_runner import CallRunner


class CallerConnection(Interface):
    """What a call does with its caller's connection."""

    @property
    def write_paused(self) -> bool:
        """Whether AVR Core does not take what waits for it."""

    @property
    def may_return(self) -> bool:
        """Whether a core that loses this connection may come back in another one."""

    def hand_over(self, caller: CallRunner | None) -> None:
        """The connection is of another caller's from now on; None: of nobody's, and nothing is reported of it."""

    def known(self) -> None:
        """The caller has said who it is."""

    def play(self, pcm: bytes) -> None:
        """PCM16 at 8 kHz, whole frames of 320 bytes."""

    def interrupt(self) -> None:
        """Drop what was not played."""

    def tell(self, role: str, text: str) -> None:
        """A transcript."""

    def complain(self, message: str) -> None:
        """An error."""

    def close(self, code: int, reason: str) -> None:
        """End the connection."""

    def abort(self) -> None:
        """Drop the connection."""

    async def wait_closed(self) -> None:
        """Wait until it is gone."""


class WebSocketCallerConnection:
    """The protocol of today: JSON messages on a WebSocket."""

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

    def hand_over(self, caller: CallRunner | None) -> None:
        """See `CallerConnection`."""
        self._connection.hand_over(caller)

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
