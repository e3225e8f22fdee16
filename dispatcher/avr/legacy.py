"""The older AVR protocol: one chunked `POST` per call, with raw PCM16 at 8 kHz in both directions.

AVR Core sends the caller's audio as the body of `POST /speech-to-speech-stream`. The header `X-UUID` has the
call's uuid. AVR Core plays the body of the response as it arrives. The protocol has no message for an
interruption. So this module buffers replies and sends them in real time, and a barge-in drops the buffered frames.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from http import HTTPStatus
from typing import Protocol as Interface
from typing import cast

import h11
import orjson

from common.net.listener import Arrival
from dispatcher.avr import protocol

PATH = "/speech-to-speech-stream"
# Audio is sent this far ahead of real time, to cover delays of the network.
LEAD_SECONDS = 0.2
FRAME_SECONDS = protocol.FRAME_SAMPLES / protocol.SAMPLE_RATE_HZ
# Number of buffered frames (4 s) above which `write_paused` holds further audio in the call.
PAUSE_FRAMES = 200
OPEN_TIMEOUT_SECONDS = 10.0
CLOSE_TIMEOUT_SECONDS = 5.0
MAX_HEADER_BYTES = 16 * 1024

_STATUS = {1008: HTTPStatus.BAD_REQUEST, 1011: HTTPStatus.BAD_GATEWAY, 1013: HTTPStatus.SERVICE_UNAVAILABLE}


class LegacyOwner(Interface):
    """The receiver of a request's events, such as a call."""

    def legacy_began(self, connection: LegacyConnection, uuid: str) -> None:
        """Begin a call with this uuid, because the request's head has arrived."""

    def legacy_audio(self, pcm: bytes, received_seconds: float) -> None:
        """Handle the caller's audio, in whole samples."""

    def legacy_broken(self, reason: str, message: str) -> None:
        """Handle a request that violates HTTP or this module's limits."""

    def writable(self) -> None:
        """Continue to send, because `write_paused` has become false."""

    def closed(self, code: int, reason: str) -> None:
        """Handle the end of the connection; the code is 1000 if the caller's stream was complete."""


class LegacyConnection(asyncio.Protocol):
    """The connection of one request. It is the `CallerConnection` of its call."""

    def __init__(self, owner_of: OwnerFactory, arrival: Arrival | None = None) -> None:
        self.received_seconds = time.monotonic()
        self._owner_of = owner_of
        self._arrival = arrival
        self._owner: LegacyOwner | None = None
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._odd = b""
        self._frames: deque[bytes] = deque()
        self._next_frame_seconds = 0.0
        self._playing: asyncio.TimerHandle | None = None
        self._paused = False
        self._socket_paused = False
        self._ended_cleanly = False
        self._closing = False
        self._lost = self._loop.create_future()

    # CallerConnection

    @property
    def write_paused(self) -> bool:
        """Whether enough audio is buffered."""
        return self._paused

    @property
    def may_return(self) -> bool:
        """Always False, because an older core hangs up by closing the connection, and never reconnects."""
        return False

    def hand_over(self, owner: LegacyOwner | None) -> None:
        """Report to another owner from now on; None: report nothing more."""
        self._owner = owner

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._transport is not None and not self._closing

    def mark_identified(self) -> None:
        """Mark the caller as identified, because the request's head has arrived."""
        if self._arrival is not None:
            self._arrival.mark_identified()

    def play(self, pcm: bytes) -> None:
        """Buffer frames, and send each one when it is due."""
        if not self.is_open:
            return
        self._frames += protocol.frames(pcm)
        self._set_paused(len(self._frames) > PAUSE_FRAMES)
        if self._playing is None:
            self._next_frame_seconds = max(self._next_frame_seconds, time.monotonic() - LEAD_SECONDS)
            self._play()

    def interrupt(self) -> None:
        """Drop the buffered frames."""
        self._frames.clear()
        self._set_paused(False)

    def send_transcript(self, role: str, text: str) -> None:
        """Do nothing, because the protocol has no transcripts."""

    def send_error(self, message: str) -> None:
        """Do nothing, because the protocol has no errors. `close` sends the reason if no audio was sent."""

    def close(self, code: int, reason: str = "") -> None:
        """End the response; if nothing was sent yet, send an HTTP error."""
        self._end(_STATUS.get(code, HTTPStatus.OK), reason)

    def _end(self, status: HTTPStatus | int, reason: str) -> None:
        if self._closing or self._transport is None:
            return
        self._closing = True
        self._stop_playing()
        try:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                body = orjson.dumps({"message": reason.strip()})
                headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
                if status == HTTPStatus.UNAUTHORIZED:
                    headers.append(("WWW-Authenticate", "Bearer"))
                self._send(h11.Response(status_code=status, headers=[*headers, ("Connection", "close")]))
                self._send(h11.Data(data=body))
            if self._http.our_state is h11.SEND_BODY:
                self._send(h11.EndOfMessage())
        except h11.LocalProtocolError:
            pass  # the peer has violated HTTP, so no response is possible
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._start_timer(CLOSE_TIMEOUT_SECONDS)

    def abort(self) -> None:
        """Abort the connection."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed."""
        await asyncio.shield(self._lost)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._start_timer(OPEN_TIMEOUT_SECONDS)

    def data_received(self, data: bytes) -> None:
        self.received_seconds = time.monotonic()
        if self._closing:
            return
        try:
            self._http.receive_data(data)
            while not self._closing:
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    self._request(event)
                elif isinstance(event, h11.Data):
                    self._body(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self._ended_cleanly = True
                    self.close(1000)
                else:
                    break
        except h11.RemoteProtocolError as error:
            # h11's own message is not used, because it may repeat the caller's data.
            if self._owner is not None:
                self._owner.legacy_broken("bad_http", "broken HTTP")
            self._end(error.error_status_hint, "broken HTTP")

    def pause_writing(self) -> None:
        self._socket_paused = True
        self._set_paused(True)

    def resume_writing(self) -> None:
        self._socket_paused = False
        self._set_paused(len(self._frames) > PAUSE_FRAMES)

    def connection_lost(self, exc: Exception | None) -> None:
        self.mark_identified()
        self._stop_playing()
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        self._lost.set_result(None)
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.closed(1000 if self._ended_cleanly else 1006, "")

    # The caller's stream

    def _request(self, request: h11.Request) -> None:
        # h11 limits only incomplete heads (its `max_incomplete_event_size`), and a long head may arrive at once.
        if sum(len(name) + len(value) for name, value in request.headers) > MAX_HEADER_BYTES:
            too_big = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._end(too_big, f"the request's head is over {MAX_HEADER_BYTES} bytes")
            return
        target = request.target.decode("ascii", "replace")
        headers = {bytes(name): bytes(value).decode("latin-1") for name, value in request.headers}
        if request.method != b"POST" or target.partition("?")[0] != PATH:
            self.close(1008, f"calls are WebSockets, or POST {PATH}")
            return
        origins = [bytes(value).decode("latin-1") for name, value in request.headers if name == b"origin"]
        owner = self._owner_of(target, headers.get(b"authorization"), origins)
        if isinstance(owner, tuple):
            self._end(*owner)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._owner = owner
        owner.legacy_began(self, headers.get(b"x-uuid", ""))

    def _body(self, data: bytes) -> None:
        pcm = self._odd + data
        whole = len(pcm) - len(pcm) % 2
        self._odd = pcm[whole:]
        if whole and self._owner is not None:
            self._owner.legacy_audio(pcm[:whole], self.received_seconds)

    # The reply's stream

    def _play(self) -> None:
        """Send the due frames, and schedule the next call."""
        self._playing = None
        horizon = time.monotonic() + LEAD_SECONDS
        pcm = b""
        while self._frames and self._next_frame_seconds <= horizon and not self._socket_paused:
            pcm += self._frames.popleft()
            self._next_frame_seconds += FRAME_SECONDS
        if pcm:
            if self._http.our_state is h11.SEND_RESPONSE:
                headers = [("Content-Type", "application/octet-stream"), ("Transfer-Encoding", "chunked")]
                self._send(h11.Response(status_code=200, headers=[*headers, ("Connection", "close")]))
            self._send(h11.Data(data=pcm))
        if self._frames:
            self._playing = self._loop.call_later(FRAME_SECONDS, self._play)
        self._set_paused(self._socket_paused or len(self._frames) > PAUSE_FRAMES)

    def _stop_playing(self) -> None:
        self._frames.clear()
        if self._playing is not None:
            self._playing.cancel()
            self._playing = None

    def _set_paused(self, paused: bool) -> None:
        was, self._paused = self._paused, paused
        if was and not paused and self._owner is not None:
            self._owner.writable()

    def _send(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        data = self._http.send(event)
        if data and self._transport is not None:
            self._transport.write(data)

    def _start_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.abort)


class OwnerFactory(Interface):
    """A factory of the owners of new calls."""

    def __call__(
        self, target: str, authorization: str | None, origins: Sequence[str]
    ) -> LegacyOwner | tuple[HTTPStatus, str]:
        """Return the owner for a request with this target (path and query), or a refusal: a status and a text."""
