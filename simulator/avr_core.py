"""One telephone call as AVR Core places it: real time, real socket.

    async with await place_call("ws://127.0.0.1:6030", speech=pcm) as call:
        await call.wait_for(lambda call: call.transcripts)
    print(call.report())

AVR Core connects as soon as the call starts, sends `init`, then a frame of sound every 20 ms (silence when nobody
speaks) until it hangs up. What it receives goes through a `PlayoutBuffer`, so that the call knows what its caller
really heard.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import os
import socket
import ssl
import struct
import time
import uuid as uuids
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import numpy as np
import orjson

from simulator.call_record import (
    AUDIO_MESSAGE_BYTES,
    CallRecord,
    CallReport,
    ErrorMessage,
    Interruption,
    Message,
    Transcript,
    Violation,
)
from simulator.microphone import FrameSchedule, Microphone
from simulator.playout import DEFAULT_RECORD_LIMIT_BYTES, SAMPLE_BYTES, SAMPLE_RATE_HZ, PlayoutBuffer

ABNORMAL_CLOSURE = 1006

# How long a service may take to answer a close frame, before the connection is dropped.
_CLOSE_TIMEOUT_SECONDS = 5.0

# How far sending may fall behind real time (a service that does not read, a busy machine) before `say` gives up.
_STALL_TIMEOUT_SECONDS = 10.0

# A message to AVR Core is a frame of 450 bytes or a transcript.
_MAX_MESSAGE_BYTES = 64 * 1024

# -40 dBFS: above the noise of a line, below any speech.
_SOUND_LEVEL = 328


class CallError(Exception):
    """A call cannot be placed, or ended before what was wanted of it. The message is one line, without secrets."""


class SimulatedCall:
    """A live call. Made by `place_call`; as a context manager it hangs up at the end.

    Attributes:
        record: what was received and heard.
        microphone: what is still to be sent.
        closed: set when the call is over and its connection closed.
    """

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        websocket: aiohttp.ClientWebSocketResponse,
        sockets: list[socket.socket],
        record: CallRecord,
        microphone: Microphone,
        schedule: FrameSchedule,
    ) -> None:
        self.record = record
        self.microphone = microphone
        self.closed = asyncio.Event()
        self._session = session
        self._websocket = websocket
        self._sockets = sockets
        self._schedule = schedule
        self._ending = False
        self._waiting: dict[asyncio.Future[None], Callable[[SimulatedCall], object]] = {}
        self._silence_message = _audio_message(microphone.silence)
        self._sending = asyncio.create_task(self._send_frames())
        self._receiving = asyncio.create_task(self._receive())

    @property
    def uuid(self) -> str:
        """The call's uuid."""
        return self.record.uuid

    @property
    def messages(self) -> list[Message]:
        """Everything received, in order."""
        return self.record.messages

    @property
    def transcripts(self) -> list[Transcript]:
        """`transcript` messages."""
        return self.record.transcripts

    @property
    def interruptions(self) -> list[Interruption]:
        """`interruption` messages."""
        return self.record.interruptions

    @property
    def errors(self) -> list[ErrorMessage]:
        """`error` messages."""
        return self.record.errors

    @property
    def violations(self) -> list[Violation]:
        """Where the service broke the protocol."""
        return self.record.violations

    @property
    def playout(self) -> PlayoutBuffer:
        """What the caller heard; its clock is `time.monotonic()`."""
        return self.record.playout

    @property
    def received_pcm(self) -> bytes:
        """All audio received, in order, heard or not: PCM16 LE, 8 kHz, mono."""
        return self.playout.received_pcm

    @property
    def heard_pcm(self) -> bytes:
        """What the caller heard since the call began, silence included: PCM16 LE, 8 kHz, mono."""
        return self.playout.heard(time.monotonic())

    @property
    def heard_ms(self) -> float:
        """How much audio the caller heard, silence not counted."""
        return self.playout.heard_ms(time.monotonic())

    @property
    def close_code(self) -> int | None:
        """The WebSocket close code; 1006 if the connection broke, None while the call is alive."""
        return self.record.close_code

    @property
    def close_reason(self) -> str:
        """What the service gave as the reason when it closed."""
        return self.record.close_reason

    def report(self) -> CallReport:
        """The call in figures, as of now."""
        return self.record.report(time.monotonic(), latest_frame_seconds=self._schedule.latest_seconds)

    async def wait_for(
        self, predicate: Callable[[SimulatedCall], object], *, timeout_seconds: float = 10.0
    ) -> None:
        """Wait until `predicate(call)` is true. It is asked after every message and every frame sent.

        Raises:
            TimeoutError: it did not come true in time.
            CallError: the call ended without it.
        """
        if predicate(self):
            return
        if self.closed.is_set():
            raise CallError(f"the call was already over: {self._summary()}")
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = predicate
        try:
            async with asyncio.timeout(timeout_seconds):
                await waiter
        except TimeoutError:
            raise TimeoutError(f"not within {timeout_seconds} s: {self._summary()}") from None
        finally:
            del self._waiting[waiter]

    async def say(self, pcm: bytes) -> None:
        """Say something after what is being said; returns when it has been sent, in real time.

        Args:
            pcm: PCM16 LE, 8 kHz, mono.

        Raises:
            CallError: the call ended first.
        """
        end = self.microphone.say(pcm)
        seconds_to_say = (end - self.microphone.said_bytes) / (SAMPLE_RATE_HZ * SAMPLE_BYTES)
        await self.wait_for(
            lambda call: call.microphone.said_bytes >= end,
            timeout_seconds=seconds_to_say + _STALL_TIMEOUT_SECONDS,
        )

    async def press(self, digits: str) -> None:
        """Press keys one after the other, side by side with speech; returns when they have been sent.

        Raises:
            CallError: the call ended first.
            ValueError: a key that no telephone has.
        """
        self.microphone.press(digits)
        await self.wait_for(
            lambda call: not call.microphone.has_digits, timeout_seconds=len(digits) + _STALL_TIMEOUT_SECONDS
        )

    async def send_raw(self, message: str | bytes) -> None:
        """Send any text or binary message, to see what bad input gets.

        Raises:
            CallError: the connection is closed.
        """
        try:
            if isinstance(message, str):
                await self._websocket.send_str(message)
            else:
                await self._websocket.send_bytes(message)
        except ConnectionError:
            raise CallError(f"the connection is closed: {self._summary()}") from None

    async def hang_up(self) -> None:
        """Close the call as AVR Core does, with code 1000. What the service sends from now on is lost."""
        if self._begin_end():
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT_SECONDS):
                    await self._websocket.close(code=1000)
                    # With messages waiting it is the receiving task that completes aiohttp's close handshake.
                    await asyncio.wait({self._receiving})
            except TimeoutError:
                self._reset_connection()
            finally:
                await self._end(self._websocket.close_code or ABNORMAL_CLOSURE, "")
        await self.closed.wait()

    async def drop(self) -> None:
        """Lose the connection: TCP reset, no close frame."""
        if self._begin_end():
            self._reset_connection()
            await self._end(ABNORMAL_CLOSURE, "")
        await self.closed.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hang_up()

    async def _send_frames(self) -> None:
        try:
            while True:
                await asyncio.sleep(max(0.0, self._schedule.due_at_seconds - time.monotonic()))
                if digit := self.microphone.next_digit():
                    await self._websocket.send_str(_json({"type": "dtmf_digit", "digit": digit}))
                frame = self.microphone.next_frame()
                silent = frame is self.microphone.silence
                now_seconds = time.monotonic()
                await self._websocket.send_str(self._silence_message if silent else _audio_message(frame))
                self._schedule.sent(now_seconds)
                self.record.sent_frame(sounds=not silent and _sounds(frame), now_seconds=now_seconds)
                self._wake_waiting()
        except ConnectionError:
            return  # the connection is closing: the receiving side says how

    async def _receive(self) -> None:
        code, reason = ABNORMAL_CLOSURE, ""
        while True:
            message = await self._websocket.receive()
            if message.type is aiohttp.WSMsgType.TEXT or message.type is aiohttp.WSMsgType.BINARY:
                if not self._ending:
                    self.record.receive(message.data, time.monotonic())
                    self._wake_waiting()
                continue
            if message.type is aiohttp.WSMsgType.CLOSE:
                code, reason = message.data or 1005, message.extra or ""
            elif message.type is aiohttp.WSMsgType.ERROR:
                code, reason = self._websocket.close_code or ABNORMAL_CLOSURE, str(message.data)
            break
        if self._begin_end():  # else this side is ending it
            await self._end(code, reason)

    def _begin_end(self) -> bool:
        """Stop hearing; False if the end has already begun."""
        if self._ending:
            return False
        self._ending = True
        self.record.hang_up(time.monotonic())
        self._sending.cancel()
        return True

    async def _end(self, code: int, reason: str) -> None:
        await self._session.close()
        self.record.closed(code, reason)
        self.closed.set()
        self._wake_waiting()
        await asyncio.wait({self._sending})
        if not self._sending.cancelled():
            self._sending.result()  # raises what a defect of the simulator raised

    def _reset_connection(self) -> None:
        """Make closing the socket send a TCP reset and forget what is unsent (SO_LINGER 0, socket(7))."""
        for connection in self._sockets:
            if connection.fileno() >= 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _wake_waiting(self) -> None:
        for waiter, predicate in self._waiting.items():
            if waiter.done():
                continue
            try:
                if predicate(self):
                    waiter.set_result(None)
                elif self.closed.is_set():
                    waiter.set_exception(CallError(f"the call ended: {self._summary()}"))
            except Exception as error:  # the predicate's own: it belongs to whoever waits
                waiter.set_exception(error)

    def _summary(self) -> str:
        state = f"closed with {self.close_code} {self.close_reason}".rstrip() if self.closed.is_set() else "alive"
        return (
            f"call {self.uuid} {state}; {self.record.frames_sent} frames sent,"
            f" {self.record.frames_received} received,"
            f" {len(self.transcripts)} transcripts, {len(self.interruptions)} interruptions,"
            f" errors {[error.message for error in self.errors]},"
            f" violations {[violation.what for violation in self.violations[:3]]}"
        )


async def place_call(
    url: str,
    *,
    speech: bytes | None = None,
    uuid: str | None = None,
    metadata: Mapping[str, str] | None = None,
    dtmf: str = "",
    frame_bytes: int = AUDIO_MESSAGE_BYTES,
    provider_config: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    connect_timeout_seconds: float = 10.0,
    record_limit_bytes: int = DEFAULT_RECORD_LIMIT_BYTES,
) -> SimulatedCall:
    """Connect, send `init` and start sending sound; returns the live call.

    Args:
        url: where the service listens, `ws://` or `wss://`.
        speech: said from the start: PCM16 LE, 8 kHz, mono.
        uuid: the call's; a new one if it is not given.
        metadata: query parameters added to the URL (`from`, `to`, ...).
        dtmf: keys pressed when the speech has been said.
        frame_bytes: size of the frames sent, one per `frame_bytes / 16` ms; AVR Core's is 320.
        provider_config: sent in `init`, as AVR Core does for a call with its own key, model or voice.
        headers: HTTP headers of the connection.
        tls: for `wss://`; the system's trust store by default.
        connect_timeout_seconds: how long connecting may take.
        record_limit_bytes: how much received audio is kept; load tests need none.

    Raises:
        CallError: the service cannot be reached, or refuses.
        ValueError: speech, digits or frame size that cannot be sent.
    """
    microphone = Microphone(frame_bytes)
    microphone.press(dtmf, after_bytes=microphone.say(speech or b""))
    init: dict[str, Any] = {"type": "init", "uuid": uuid or str(uuids.uuid4())}
    if provider_config is not None:
        init["provider_config"] = dict(provider_config)
    sockets: list[socket.socket] = []
    connector = aiohttp.TCPConnector(socket_factory=_socket_factory(sockets), ssl=True if tls is None else tls)
    session = aiohttp.ClientSession(connector=connector)
    try:
        with _connect_errors(url, connect_timeout_seconds):
            async with asyncio.timeout(connect_timeout_seconds):
                websocket = await session.ws_connect(
                    url, params=metadata, headers=headers, max_msg_size=_MAX_MESSAGE_BYTES
                )
                await websocket.send_str(_json(init))
    except BaseException:
        await session.close()
        raise
    now_seconds = time.monotonic()
    return SimulatedCall(
        session=session,
        websocket=websocket,
        sockets=sockets,
        record=CallRecord(init["uuid"], now_seconds, record_limit_bytes=record_limit_bytes),
        microphone=microphone,
        schedule=FrameSchedule(now_seconds, microphone.frame_seconds),
    )


@contextmanager
def _connect_errors(url: str, timeout_seconds: float) -> Iterator[None]:
    """Turn whatever keeps a connection from opening into one line that names the URL, without its secrets."""
    try:
        yield
    except aiohttp.WSServerHandshakeError as error:
        why = f"HTTP {error.status} {http.client.responses.get(error.status, '')}".rstrip()
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        why = "not a ws:// or wss:// address"
    except TimeoutError:
        why = f"no answer within {timeout_seconds:g} s"
    except aiohttp.ClientConnectorError as error:
        number = error.os_error.errno
        why = os.strerror(number) if number and number > 0 else error.os_error.strerror or str(error.os_error)
    except (aiohttp.ClientError, OSError) as error:
        why = str(error) or type(error).__name__
    else:
        return
    raise CallError(f"cannot connect to {_without_secrets(url)}: {why}")


def _without_secrets(url: str) -> str:
    """The URL without its query (a token, telephone numbers) and user."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "this URL"


def _socket_factory(sockets: list[socket.socket]) -> Callable[[Any], socket.socket]:
    """Sockets that stay at hand: the only public way to reset an aiohttp connection."""

    def make(address: tuple[int, int, int, str, Any]) -> socket.socket:
        family, kind, protocol, _, _ = address
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        sockets.append(connection)
        return connection

    return make


def _json(message: Mapping[str, Any]) -> str:
    return orjson.dumps(message).decode()


def _audio_message(pcm: bytes) -> str:
    return f'{{"type":"audio","audio":"{base64.b64encode(pcm).decode()}"}}'


def _sounds(pcm: bytes) -> bool:
    return bool(np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)).max() >= _SOUND_LEVEL)
