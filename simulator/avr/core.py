"""One telephone call as AVR Core places it, in real time on a real socket.

    async with await place_call("ws://127.0.0.1:6030", speech=pcm) as call:
        await call.wait_for(lambda call: call.transcripts)
    print(call.report())

AVR Core connects as soon as the call starts. It sends `init`, then a frame of sound every 20 ms until it hangs up.
The frame is silent while the caller is silent. Received audio goes through a `PlayoutBuffer`, so that the call
knows the audio that its caller really heard. With `reconnect_seconds`, a call that loses its connection reconnects
with its uuid. Until then its buffer plays on, and the caller's speech is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
import uuid as uuids
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from simulator.avr import messages
from simulator.avr.call_record import (
    AUDIO_MESSAGE_BYTES,
    CallRecord,
    CallReport,
    ClosedBy,
    ErrorMessage,
    Interruption,
    Message,
    Outage,
    Transcript,
    Violation,
)
from simulator.avr.connection import (
    ABNORMAL_CLOSURE,
    CLOSE_TIMEOUT_SECONDS,
    AvrConnection,
    CallError,
    Closed,
)
from simulator.avr.microphone import FrameSchedule, Microphone
from simulator.avr.playout import DEFAULT_RECORD_LIMIT_BYTES, SAMPLE_BYTES, SAMPLE_RATE_HZ, PlayoutBuffer

__all__ = ["CallError", "SimulatedCall", "place_call"]

# Maximum delay of sending behind real time (a service that does not read, a busy machine) before `say` gives up.
_STALL_TIMEOUT_SECONDS = 10.0

# Time between two attempts to connect again.
_RECONNECT_INTERVAL_SECONDS = 0.1


Connect = Callable[[str, float], Awaitable[AvrConnection]]
"""Opens a connection to a URL within a time in seconds, and sends `init`."""


class SimulatedCall:
    """A live call, made by `place_call`. As a context manager, it hangs up at the end.

    Attributes:
        record: messages received and audio heard.
        microphone: speech and keys still to be sent.
        closed: set when the call and its connection have ended.
    """

    def __init__(
        self,
        *,
        connection: AvrConnection,
        connect: Connect,
        urls: Sequence[str],
        reconnect_seconds: float | None,
        record: CallRecord,
        microphone: Microphone,
        schedule: FrameSchedule,
    ) -> None:
        self.record = record
        self.microphone = microphone
        self.closed = asyncio.Event()
        self._connection: AvrConnection | None = connection
        self._connect = connect
        self._urls = urls
        self._reconnect_seconds = reconnect_seconds
        self._schedule = schedule
        self._ending = False
        self._reading = asyncio.Event()
        self._reading.set()
        self._waiting: dict[asyncio.Future[None], Callable[[SimulatedCall], object]] = {}
        self._silence_message = messages.audio(microphone.silence)
        self._sending = asyncio.create_task(self._send_frames())
        self._receiving = asyncio.create_task(self._receive())

    @property
    def uuid(self) -> str:
        """Return the call's uuid."""
        return self.record.uuid

    @property
    def messages(self) -> list[Message]:
        """Return all received messages, in order."""
        return self.record.messages

    @property
    def transcripts(self) -> list[Transcript]:
        """Return the `transcript` messages."""
        return self.record.transcripts

    @property
    def interruptions(self) -> list[Interruption]:
        """Return the `interruption` messages."""
        return self.record.interruptions

    @property
    def errors(self) -> list[ErrorMessage]:
        """Return the `error` messages."""
        return self.record.errors

    @property
    def outages(self) -> list[Outage]:
        """Return the times without a connection, oldest first."""
        return self.record.outages

    @property
    def url(self) -> str:
        """Return the address of the current connection; empty without one."""
        return "" if self._connection is None else self._connection.url

    @property
    def is_connected(self) -> bool:
        """Tell whether the call is connected now."""
        return self._connection is not None and not self._ending

    @property
    def violations(self) -> list[Violation]:
        """Return the service's breaches of the protocol."""
        return self.record.violations

    @property
    def playout(self) -> PlayoutBuffer:
        """Return the caller's playout buffer; its clock is `time.monotonic()`."""
        return self.record.playout

    @property
    def received_pcm(self) -> bytes:
        """Return all received audio, in order, heard or not: PCM16 LE, 8 kHz, mono."""
        return self.playout.received_pcm

    @property
    def heard_pcm(self) -> bytes:
        """Return the audio that the caller heard since the call began, with silence: PCM16 LE, 8 kHz, mono."""
        return self.playout.heard(time.monotonic())

    @property
    def heard_ms(self) -> float:
        """Return the length of the audio that the caller heard, without silence."""
        return self.playout.heard_ms(time.monotonic())

    @property
    def close_code(self) -> int | None:
        """Return the close code of the last connection; 1006 if it broke, None during the call."""
        return self.record.close_code

    @property
    def close_reason(self) -> str:
        """Return the reason in the service's close frame."""
        return self.record.close_reason

    def report(self) -> CallReport:
        """Return the call in figures up to now."""
        return self.record.report(time.monotonic(), latest_frame_seconds=self._schedule.latest_seconds)

    async def wait_for(
        self, predicate: Callable[[SimulatedCall], object], *, timeout_seconds: float = 10.0
    ) -> None:
        """Wait until `predicate(call)` is true; the predicate is called after each message and each sent frame.

        Raises:
            TimeoutError: the predicate stayed false.
            CallError: the call ended first.
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
        """Say something after earlier speech, and return when it has been sent in real time.

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

    async def press(self, digits: str, *, audible: bool = False) -> None:
        """Press keys one after the other, and return when they have been sent.

        Args:
            digits: the keys.
            audible: their tones are in the caller's audio, after earlier speech; otherwise they come beside it.

        Raises:
            CallError: the call ended first.
            ValueError: a key does not exist on telephones.
        """
        end = 0
        if audible:
            end = self.microphone.press_audibly(digits)
        else:
            self.microphone.press(digits)
        await self.wait_for(
            lambda call: not call.microphone.has_digits and call.microphone.said_bytes >= end,
            timeout_seconds=len(digits) + _STALL_TIMEOUT_SECONDS,
        )

    async def send_raw(self, message: str | bytes) -> None:
        """Send any text or binary message, to test the answer to bad input.

        Raises:
            CallError: the connection is closed.
        """
        try:
            if self._connection is None:
                raise ConnectionError
            await self._connection.send(message)
        except ConnectionError:
            raise CallError(f"the connection is closed: {self._summary()}") from None

    def stop_reading(self) -> None:
        """Stop reading the connection, so that the service's messages pile up there."""
        self._reading.clear()

    def read_again(self) -> None:
        """Undo `stop_reading`."""
        self._reading.set()

    async def hang_up(self) -> None:
        """Close the call as AVR Core does, with code 1000. Later messages of the service are lost."""
        if self._begin_end():
            connection = self._connection
            code = ABNORMAL_CLOSURE
            if connection is not None:
                try:
                    async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                        await connection.close()
                        # With messages waiting, the receiving task completes aiohttp's close handshake.
                        await asyncio.wait({self._receiving})
                except TimeoutError:
                    connection.reset()
                finally:
                    code = connection.close_code
            await self._end(code, "", ClosedBy.CALLER)
        await self.closed.wait()

    async def drop(self) -> None:
        """End the call by a lost connection: TCP reset, no close frame."""
        if self._begin_end():
            if self._connection is not None:
                self._connection.reset()
            await self._end(ABNORMAL_CLOSURE, "", ClosedBy.CALLER)
        await self.closed.wait()

    async def cut(self) -> None:
        """Lose the connection as in a broken network, and continue as `reconnect_seconds` says."""
        if self._connection is not None:
            self._connection.reset()
            await self._connection.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hang_up()

    async def _send_frames(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._schedule.due_at_seconds - time.monotonic()))
            digit = self.microphone.next_digit()
            frame = self.microphone.next_frame()
            silent = frame is self.microphone.silence
            now_seconds = time.monotonic()
            sounds = not silent and messages.sounds(frame)
            try:
                if digit:
                    await self._send(messages.as_json({"type": "dtmf_digit", "digit": digit}))
                await self._send(self._silence_message if silent else messages.audio(frame))
            except ConnectionError:
                # The receiving side reports the end of the connection. Speech sent meanwhile is lost.
                self.record.lost_frame(sounds=sounds)
            else:
                self.record.sent_frame(sounds=sounds, now_seconds=now_seconds)
                if not silent:
                    self.record.caller.add(frame, self._schedule.due_at_seconds)
            self._schedule.sent(now_seconds)
            self._wake_waiting()

    async def _send(self, message: str) -> None:
        if self._connection is None:
            raise ConnectionError
        await self._connection.send(message)

    async def _receive(self) -> None:
        try:
            await self._receive_all()
        except asyncio.CancelledError:
            # The event loop ends, and nobody has hung up.
            if self._connection is not None:
                await self._connection.abandon()
            raise

    async def _receive_all(self) -> None:
        while True:
            assert self._connection is not None
            end = await self._receive_from(self._connection)
            if self._ending:
                return  # this side is ending it
            lost = end.code == ABNORMAL_CLOSURE and not end.by_service
            if not lost or self._reconnect_seconds is None or not await self._reconnected(end):
                break
        if self._begin_end():
            await self._end(end.code, end.reason, ClosedBy.SERVICE if end.by_service else ClosedBy.NOBODY)

    async def _receive_from(self, connection: AvrConnection) -> Closed:
        while True:
            if not self._reading.is_set() and not self._ending:
                await self._reading.wait()
            message = await connection.receive()
            if isinstance(message, Closed):
                return message
            if not self._ending:
                self.record.receive(message, time.monotonic())
                self._wake_waiting()

    def _is_ending(self) -> bool:
        return self._ending

    async def _reconnected(self, end: Closed) -> bool:
        """Replace a lost connection, and return whether that worked. Buffered audio plays meanwhile."""
        assert self._connection is not None
        assert self._reconnect_seconds is not None
        lost, self._connection = self._connection, None
        lost_at_seconds = time.monotonic()
        self.record.connection_lost(end.code, end.reason, lost_at_seconds)
        self._wake_waiting()
        await lost.dispose()
        deadline_seconds = lost_at_seconds + self._reconnect_seconds
        for number in itertools.count():
            remaining_seconds = deadline_seconds - time.monotonic()
            if remaining_seconds <= 0:
                return False
            try:
                # The list may change, because services start and stop.
                url = self._urls[number % len(self._urls)]
                connection = await self._connect(url, remaining_seconds)
            except CallError:
                await asyncio.sleep(min(_RECONNECT_INTERVAL_SECONDS, remaining_seconds))
                continue
            if self._is_ending():
                await connection.dispose()
                return False
            self._connection = connection
            self.record.connection_back(time.monotonic())
            self._wake_waiting()
            return True
        raise AssertionError("counting has no end")

    def _begin_end(self) -> bool:
        """Stop hearing; return False if the end has already begun."""
        if self._ending:
            return False
        self._ending = True
        self._reading.set()
        self.record.hang_up(time.monotonic())
        self._sending.cancel()
        return True

    async def _end(self, code: int, reason: str, by: ClosedBy) -> None:
        if self._connection is not None:
            await self._connection.dispose()
        elif self._receiving is not asyncio.current_task():
            self._receiving.cancel()  # it is connecting again
            await asyncio.wait({self._receiving})
        self.record.closed(code, reason, by, time.monotonic())
        self.closed.set()
        self._wake_waiting()
        await asyncio.wait({self._sending})
        if not self._sending.cancelled():
            self._sending.result()  # raises what a defect of the simulator raised

    def _wake_waiting(self) -> None:
        for waiter, predicate in self._waiting.items():
            if waiter.done():
                continue
            try:
                if predicate(self):
                    waiter.set_result(None)
                elif self.closed.is_set():
                    waiter.set_exception(CallError(f"the call ended: {self._summary()}"))
            except Exception as error:  # of the predicate, so it belongs to the waiting caller
                waiter.set_exception(error)

    def _summary(self) -> str:
        state = f"closed with {self.close_code} {self.close_reason}".rstrip() if self.closed.is_set() else "alive"
        return (
            f"call {self.uuid} {state}; {self.record.frames_sent} frames sent,"
            f" {self.record.frames_received} received, {len(self.outages)} outages,"
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
    reconnect_seconds: float | None = None,
    reconnect_urls: Sequence[str] = (),
) -> SimulatedCall:
    """Connect, send `init` and start to send sound; return the live call.

    Args:
        url: address of the service, `ws://` or `wss://`.
        speech: speech from the start of the call: PCM16 LE, 8 kHz, mono.
        uuid: uuid of the call; None: a new one.
        metadata: query parameters to add to the URL (`from`, `to`, ...).
        dtmf: keys to press after the speech.
        frame_bytes: size of sent frames, one per `frame_bytes / 16` ms; AVR Core's is 320.
        provider_config: settings in `init`, as AVR Core sends them for a call with its own key, model or voice.
        headers: HTTP headers of the connection.
        tls: context for `wss://`; None: the system's trust store.
        connect_timeout_seconds: maximum time for connecting.
        record_limit_bytes: maximum received audio kept; load tests need none.
        reconnect_seconds: time in which a lost connection (1006) is replaced by one with the same uuid. A service
            that closes the connection has ended the call. None: do not reconnect.
        reconnect_urls: addresses to try in turn; `url` if the sequence is empty. It may change during the call.

    Raises:
        CallError: the service is unreachable or refuses the connection.
        ValueError: speech, digits or frame size cannot be sent.
    """
    microphone = Microphone(frame_bytes)
    microphone.press(dtmf, after_bytes=microphone.say(speech or b""))
    init: dict[str, Any] = {"type": "init", "uuid": uuid or str(uuids.uuid4())}
    if provider_config is not None:
        init["provider_config"] = dict(provider_config)

    async def connect(url: str, timeout_seconds: float) -> AvrConnection:
        timeout_seconds = min(timeout_seconds, connect_timeout_seconds)
        return await AvrConnection.open(
            url,
            messages.as_json(init),
            metadata=metadata,
            headers=headers,
            tls=tls,
            timeout_seconds=timeout_seconds,
        )

    connection = await connect(url, connect_timeout_seconds)
    now_seconds = time.monotonic()
    return SimulatedCall(
        connection=connection,
        connect=connect,
        urls=reconnect_urls or (url,),
        reconnect_seconds=reconnect_seconds,
        record=CallRecord(init["uuid"], now_seconds, record_limit_bytes=record_limit_bytes),
        microphone=microphone,
        schedule=FrameSchedule(now_seconds, microphone.frame_seconds),
    )
