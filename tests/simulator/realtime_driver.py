"""A driver of a `RealtimeSession` on a clock of the test; it checks all events in both directions."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from simulator.realtime.session import RealtimeSession
from simulator.realtime.session_faults import SessionFaults
from simulator.realtime.settings import DialectName, SimulatorSettings
from tests.simulator.validation import (
    validate_beta_client_event,
    validate_beta_server_event,
    validate_client_event,
    validate_server_event,
)

Event = dict[str, Any]


def _unchecked(event: Event) -> None:
    assert isinstance(event["type"], str)


# Models of client and server events, by dialect; xAI has none.
_MODELS = {
    DialectName.GA: "gpt-realtime-2",
    DialectName.BETA: "gpt-4o-realtime-preview",
    DialectName.XAI: "grok-1",
}
_CLIENT_CHECKS: dict[DialectName, Callable[[Event], object]] = {
    DialectName.GA: validate_client_event,
    DialectName.BETA: validate_beta_client_event,
    DialectName.XAI: _unchecked,
}
_SERVER_CHECKS: dict[DialectName, Callable[[Event], object]] = {
    DialectName.GA: validate_server_event,
    DialectName.BETA: validate_beta_server_event,
    DialectName.XAI: _unchecked,
}

SAMPLE_RATE_HZ = 24_000
FRAME_MS = 20


def tone(milliseconds: int, hz: float = 440.0, dbfs: float = -20.0) -> bytes:
    """Return a sine: PCM16 at 24 kHz."""
    samples = np.arange(milliseconds * SAMPLE_RATE_HZ // 1000)
    wave = 32767 * 10 ** (dbfs / 20) * np.sin(2 * np.pi * hz / SAMPLE_RATE_HZ * samples)
    pcm: bytes = np.rint(wave).astype("<i2").tobytes()
    return pcm


def silence(milliseconds: int) -> bytes:
    """Return silence: PCM16 at 24 kHz."""
    return bytes(milliseconds * SAMPLE_RATE_HZ // 1000 * 2)


class Driver:
    """A session and its client.

    Attributes:
        session: session under test.
        now: the clock, in seconds.
        events: all server events so far, each of them valid.
    """

    def __init__(self, settings: SimulatorSettings | None = None, *, faults: SessionFaults | None = None) -> None:
        self.now = 100.0
        self.events: list[Event] = []
        settings = settings or SimulatorSettings()
        self._dialect = settings.dialect
        self.session = RealtimeSession(
            model=_MODELS[self._dialect], settings=settings, faults=faults, wall_time_seconds=1e9
        )
        self.session.open(self.now)
        self._collect()

    def send(self, kind: str, **fields: Any) -> list[Event]:
        """Send a valid event and return its immediate answers."""
        event = {"type": kind, **fields}
        _CLIENT_CHECKS[self._dialect](event)
        return self.send_raw(orjson.dumps(event))

    def send_raw(self, message: str | bytes | Event) -> list[Event]:
        """Send any event and return its immediate answers."""
        self.session.receive(orjson.dumps(message) if isinstance(message, dict) else message, self.now)
        return self._collect()

    def update(self, **session: Any) -> list[Event]:
        """Send `session.update`."""
        return self.send("session.update", session={"type": "realtime", **session})

    def detect(self, **detection: Any) -> list[Event]:
        """Send `session.update` with server VAD; without settings, switch it off."""
        turn_detection = {"type": "server_vad", **detection} if detection else None
        return self.update(audio={"input": {"turn_detection": turn_detection}})

    def speak(self, pcm: bytes) -> list[Event]:
        """Append audio in frames of 20 ms, as from a call, and return the events meanwhile."""
        events = []
        size = SAMPLE_RATE_HZ * FRAME_MS // 1000 * 2
        for start in range(0, len(pcm), size):
            events += self.run(FRAME_MS / 1000)
            events += self.send(
                "input_audio_buffer.append", audio=base64.b64encode(pcm[start : start + size]).decode()
            )
        return events

    def run(self, seconds: float) -> list[Event]:
        """Let time pass, and return the events meanwhile."""
        end = self.now + seconds
        while (due := self.session.next_due_seconds()) is not None and due <= end:
            self.now = max(self.now, due)
            self.session.advance(self.now)
        self.now = end
        return self._collect()

    def respond(self, **response: Any) -> list[Event]:
        """Send `response.create`, and let time pass until the response is done."""
        events = self.send("response.create", **({"response": response} if response else {}))
        return events + self.finish()

    def finish(self) -> list[Event]:
        """Let time pass until no response is active."""
        events = []
        while self.session.active_response is not None:
            events += self.run(0.02)
        return events

    def _collect(self) -> list[Event]:
        events = [orjson.loads(event) for event in self.session.take_output()]
        for event in events:
            _SERVER_CHECKS[self._dialect](event)
        self.events += events
        return events


def kinds(events: list[Event]) -> list[str]:
    """Return the types of events, with a run of deltas as one."""
    types: list[str] = []
    for event in events:
        if not types or types[-1] != event["type"]:
            types.append(event["type"])
    return types


def only(events: list[Event], kind: str) -> Event:
    """Return the one event of that type."""
    (event,) = all_of(events, kind)
    return event


def all_of(events: list[Event], kind: str) -> list[Event]:
    """Return the events of that type."""
    return [event for event in events if event["type"] == kind]


def error_of(events: list[Event]) -> Event:
    """Return the error of the one event."""
    (event,) = events
    assert event["type"] == "error"
    error: Event = event["error"]
    return error


def audio_of(events: list[Event]) -> bytes:
    """Return the audio of all deltas."""
    return b"".join(base64.b64decode(each["delta"]) for each in all_of(events, "response.output_audio.delta"))
