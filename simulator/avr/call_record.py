"""The record of one call as its simulated caller saw and heard it, without I/O."""

from __future__ import annotations

import binascii
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from simulator.avr.caller_track import CallerTrack
from simulator.avr.playout import (
    DEFAULT_RECORD_LIMIT_BYTES,
    SAMPLE_BYTES,
    SAMPLE_RATE_HZ,
    PlayoutBuffer,
)

AUDIO_MESSAGE_BYTES = 320

# Maximum number of transcripts, interruptions and similar messages kept. A service that sends more is broken.
MAX_MESSAGES = 10_000

# A shorter pause within a reply is audio that came too late; a longer pause separates two replies.
# The caller's turn between replies is longer: speech, the detection of its end (0.5 s) and an answer.
REPLY_PAUSE_MS = 1000.0

# Audio so soon after the last sound of either side is a late frame, not a new reply. The detection of the end of
# speech alone takes longer.
_SHORTEST_ANSWER_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Audio:
    """An `audio` message: samples `first_sample` to `first_sample + samples` of all received samples."""

    at_seconds: float
    first_sample: int
    samples: int


@dataclass(frozen=True, slots=True)
class Transcript:
    """A `transcript` message."""

    at_seconds: float
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Interruption:
    """An `interruption` message: the last `dropped_samples` of the `received_samples` so far are never heard."""

    at_seconds: float
    received_samples: int
    dropped_samples: int


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """An `error` message."""

    at_seconds: float
    message: str


@dataclass(frozen=True, slots=True)
class Violation:
    """A breach of the AVR protocol by the service; the call continues."""

    at_seconds: float
    what: str


class ClosedBy(enum.Enum):
    """The side that ended a connection."""

    CALLER = "caller"
    """The caller's side."""
    SERVICE = "service"
    """The service sent a close frame."""
    NOBODY = "nobody"
    """Neither side: the connection broke without a close frame."""


@dataclass(frozen=True, slots=True)
class Closing:
    """The end of one of the call's connections."""

    at_seconds: float
    code: int
    reason: str
    by: ClosedBy


@dataclass(frozen=True, slots=True)
class ConnectionBack:
    """A lost connection was replaced by another, `after_seconds` later."""

    at_seconds: float
    after_seconds: float


@dataclass(slots=True)
class Outage:
    """A time without a connection.

    Attributes:
        lost_at_seconds: time since `init`.
        back_at_seconds: time since `init`; None while the connection is not back.
        lost_frames: frames that could not be sent.
        lost_sounding_frames: lost frames in which the caller spoke.
    """

    lost_at_seconds: float
    back_at_seconds: float | None = None
    lost_frames: int = 0
    lost_sounding_frames: int = 0


Message: TypeAlias = Audio | Transcript | Interruption | ErrorMessage | Violation | Closing | ConnectionBack


@dataclass(frozen=True, slots=True)
class CallReport:
    """One call in figures. Times count from `init`.

    Attributes:
        seconds: length of the call so far.
        first_audio_seconds: time from `init` to the first audio received; None without audio.
        reply_latencies_seconds: for each reply, time from the caller's last sound to its first audio.
        received_seconds, heard_seconds: length of received audio, and of its heard part.
        gaps, longest_gap_seconds: number of times that the playout ran empty within a reply, and the longest.
        close_code: WebSocket close code; 1006 for a broken connection, None during the call.
        outages: times without a connection, in a call that reconnects.
        latest_frame_seconds: longest delay in sending a frame. If it is more than a few frames, the simulator's
            machine was too busy, and the other figures mean little.
    """

    uuid: str
    seconds: float
    frames_sent: int
    frames_received: int
    first_audio_seconds: float | None
    reply_latencies_seconds: tuple[float, ...]
    received_seconds: float
    heard_seconds: float
    gaps: int
    longest_gap_seconds: float
    transcripts: tuple[Transcript, ...]
    interruptions: tuple[Interruption, ...]
    errors: tuple[ErrorMessage, ...]
    violations: tuple[Violation, ...]
    close_code: int | None
    close_reason: str
    latest_frame_seconds: float
    outages: tuple[Outage, ...] = ()


class CallRecord:
    """Messages of one call's service, and the audio that its caller heard.

    Args:
        uuid: uuid of the call.
        started_at_seconds: monotonic clock when `init` was sent; messages are timed from it.
        record_limit_bytes: maximum audio kept, with its messages; later audio is only counted.

    Attributes:
        messages: received messages in order (at most `MAX_MESSAGES`, audio not counted).
        transcripts, interruptions, errors, violations: messages of that kind.
        closings: ends of the call's connections.
        outages: times without a connection, oldest first.
        playout: audio that the caller heard.
        caller: audio in which the caller spoke.
    """

    def __init__(
        self,
        uuid: str,
        started_at_seconds: float,
        *,
        record_limit_bytes: int = DEFAULT_RECORD_LIMIT_BYTES,
    ) -> None:
        self.uuid = uuid
        self.playout = PlayoutBuffer(started_at_seconds, record_limit_bytes=record_limit_bytes)
        self.caller = CallerTrack(started_at_seconds, record_limit_bytes=record_limit_bytes)
        self.messages: list[Message] = []
        self.transcripts: list[Transcript] = []
        self.interruptions: list[Interruption] = []
        self.errors: list[ErrorMessage] = []
        self.violations: list[Violation] = []
        self.closings: list[Closing] = []
        self.outages: list[Outage] = []
        self.frames_sent = 0
        self.frames_lost = 0
        self.frames_received = 0
        self.first_audio_seconds: float | None = None
        self.reply_latencies_seconds: list[float] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self._started_at_seconds = started_at_seconds
        self._ended_at_seconds: float | None = None
        self._record_limit_bytes = record_limit_bytes
        self._other_messages = 0
        self._sounded_at_seconds: float | None = None

    def sent_frame(self, *, sounds: bool, now_seconds: float) -> None:
        """Note a sent frame; `sounds` is true if the caller spoke in it."""
        self.frames_sent += 1
        if sounds:
            self._sounded_at_seconds = now_seconds

    def lost_frame(self, *, sounds: bool) -> None:
        """Note a frame that was due without a connection."""
        self.frames_lost += 1
        if self.outages and self.outages[-1].back_at_seconds is None:
            self.outages[-1].lost_frames += 1
            self.outages[-1].lost_sounding_frames += sounds

    def connection_lost(self, code: int, reason: str, now_seconds: float) -> None:
        """Note a broken connection; the call continues without it."""
        self._closing(code, reason, ClosedBy.NOBODY, now_seconds)
        self.outages.append(Outage(self._since_init(now_seconds)))

    def connection_back(self, now_seconds: float) -> None:
        """Note a new connection."""
        outage = self.outages[-1]
        outage.back_at_seconds = self._since_init(now_seconds)
        self._keep(ConnectionBack(outage.back_at_seconds, outage.back_at_seconds - outage.lost_at_seconds))

    def receive(self, text: str | bytes, now_seconds: float) -> None:
        """Take one message of the service. An invalid message becomes a `Violation`, not an exception."""
        if isinstance(text, bytes):
            self._violation(now_seconds, f"a binary message of {len(text)} bytes")
            return
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            self._violation(now_seconds, f"not JSON: {text[:60]!r}")
            return
        kind = message.get("type") if isinstance(message, dict) else None
        handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
        if handler is None:
            self._violation(now_seconds, f"unknown message: {text[:60]!r}")
        else:
            handler(self, message, now_seconds)

    def hang_up(self, now_seconds: float) -> None:
        """End the call for the caller, so that no more audio is heard."""
        if self._ended_at_seconds is None:
            self._ended_at_seconds = now_seconds
            self.playout.end(now_seconds)

    def closed(self, code: int, reason: str, by: ClosedBy, now_seconds: float) -> None:
        """Note the end of the call and of its connection."""
        self.close_code = code
        self.close_reason = reason
        self._closing(code, reason, by, now_seconds)

    def report(self, now_seconds: float, *, latest_frame_seconds: float = 0.0) -> CallReport:
        """Return the call in figures up to now."""
        ended_at_seconds = now_seconds if self._ended_at_seconds is None else self._ended_at_seconds
        gaps_ms = self.playout.gaps_ms(now_seconds, shorter_than_ms=REPLY_PAUSE_MS)
        return CallReport(
            uuid=self.uuid,
            seconds=self._since_init(ended_at_seconds),
            frames_sent=self.frames_sent,
            frames_received=self.frames_received,
            first_audio_seconds=self.first_audio_seconds,
            reply_latencies_seconds=tuple(self.reply_latencies_seconds),
            received_seconds=self.playout.received_samples / SAMPLE_RATE_HZ,
            heard_seconds=self.playout.heard_samples(now_seconds) / SAMPLE_RATE_HZ,
            gaps=len(gaps_ms),
            longest_gap_seconds=max(gaps_ms, default=0.0) / 1000,
            transcripts=tuple(self.transcripts),
            interruptions=tuple(self.interruptions),
            errors=tuple(self.errors),
            violations=tuple(self.violations),
            close_code=self.close_code,
            close_reason=self.close_reason,
            latest_frame_seconds=latest_frame_seconds,
            outages=tuple(self.outages),
        )

    def _audio(self, message: dict[str, Any], now_seconds: float) -> None:
        encoded = message.get("audio")
        try:
            pcm = binascii.a2b_base64(encoded, strict_mode=True) if isinstance(encoded, str) else b""
        except (binascii.Error, ValueError):
            pcm = b""
        if len(pcm) != AUDIO_MESSAGE_BYTES:
            self._violation(now_seconds, f"an audio message of {len(pcm)} bytes, not {AUDIO_MESSAGE_BYTES}")
        if not pcm or len(pcm) % SAMPLE_BYTES:
            return
        self.frames_received += 1
        if self.first_audio_seconds is None:
            self.first_audio_seconds = self._since_init(now_seconds)
        self._time_reply(now_seconds)
        first_sample = self.playout.received_samples
        self.playout.add(pcm, now_seconds)
        if first_sample * SAMPLE_BYTES < self._record_limit_bytes:
            self.messages.append(Audio(self._since_init(now_seconds), first_sample, len(pcm) // SAMPLE_BYTES))

    def _time_reply(self, now_seconds: float) -> None:
        """Note the caller's waiting time, if a reply begins with the audio that arrives now."""
        if self._sounded_at_seconds is None:
            return
        latency_seconds = now_seconds - self._sounded_at_seconds
        silent_seconds = self.playout.silent_ms(now_seconds) / 1000
        if min(latency_seconds, silent_seconds) >= _SHORTEST_ANSWER_SECONDS:
            self.reply_latencies_seconds.append(latency_seconds)
            self._sounded_at_seconds = None

    def _transcript(self, message: dict[str, Any], now_seconds: float) -> None:
        role, text = message.get("role"), message.get("text")
        if role not in {"user", "agent"} or not isinstance(text, str):
            self._violation(now_seconds, "a transcript without role and text")
            return
        transcript = Transcript(self._since_init(now_seconds), role, text)
        if self._keep(transcript):
            self.transcripts.append(transcript)

    def _interruption(self, _message: dict[str, Any], now_seconds: float) -> None:
        dropped = self.playout.clear(now_seconds)
        interruption = Interruption(self._since_init(now_seconds), self.playout.received_samples, dropped)
        if self._keep(interruption):
            self.interruptions.append(interruption)

    def _error(self, message: dict[str, Any], now_seconds: float) -> None:
        text = message.get("message")
        if not isinstance(text, str):
            self._violation(now_seconds, "an error without a message")
            return
        error = ErrorMessage(self._since_init(now_seconds), text)
        if self._keep(error):
            self.errors.append(error)

    def _violation(self, now_seconds: float, what: str) -> None:
        violation = Violation(self._since_init(now_seconds), what)
        if self._keep(violation):
            self.violations.append(violation)

    def _closing(self, code: int, reason: str, by: ClosedBy, now_seconds: float) -> None:
        closing = Closing(self._since_init(now_seconds), code, reason, by)
        if self._keep(closing):
            self.closings.append(closing)

    def _since_init(self, now_seconds: float) -> float:
        return now_seconds - self._started_at_seconds

    def _keep(self, message: Message) -> bool:
        self._other_messages += 1
        if self._other_messages > MAX_MESSAGES:
            return False
        self.messages.append(message)
        return True


_HANDLERS: dict[str, Callable[[CallRecord, dict[str, Any], float], None]] = {
    "audio": CallRecord._audio,
    "transcript": CallRecord._transcript,
    "interruption": CallRecord._interruption,
    "error": CallRecord._error,
}
