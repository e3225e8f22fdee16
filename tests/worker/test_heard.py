"""What a caller heard is what the model is told: dispatcher, worker and API on one clock, delays between them.

All three are real and without I/O; the caller interrupts at random, AVR Core stops reading at random.
"""

from __future__ import annotations

import base64
import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import orjson
import pytest

from common import link
from common.link import Kind
from common.settings import Settings
from dispatcher import actions as dispatcher_actions
from dispatcher import avr
from dispatcher import call as dispatcher_call
from simulator.realtime_session import RealtimeSession
from simulator.realtime_settings import SimulatorSettings, Voice
from worker import actions as worker_session
from worker.dialect import GA
from worker.plan import Plan
from worker.session import Session
from worker.session_update import session_object

FRAME_SECONDS = 0.02
WORD_MS = 300
CALL_SECONDS = 40.0
QUIET_SECONDS = 12.0
# The silence in an item's last frame, and what the resampler still gives at its end.
TOLERANCE_MS = 25
# What the API may refuse: it comes of events that cross on the wire, and nothing is lost by it.
HARMLESS = {"conversation_already_has_active_response", "response_cancel_not_active"}


def tone(hz: float, seconds: float) -> bytes:
    """PCM16 at 8 kHz."""
    samples = np.arange(round(seconds * 8000))
    return bytes(np.rint(9000 * np.sin(2 * np.pi * hz / 8000 * samples)).astype("<i2").tobytes())


def pitch(pcm: bytes, rate_hz: int) -> int:
    """The strongest frequency, to 50 Hz."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size), rate_hz // 10))
    return round(int(spectrum.argmax()) * 10 / 50) * 50


class AvrCore:
    """Plays what it gets, in order and in real time, and empties its buffer on `interruption`."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, int, float]] = []  # when a frame played, its pitch, milliseconds
        self.transcripts: list[tuple[str, str]] = []
        self.interruptions = 0
        self._end = 0.0
        self._pitch = 0
        self._playing: list[tuple[float, int]] = []  # when a frame begins to play, and its pitch

    def message(self, data: bytes, now: float) -> None:
        message = orjson.loads(data)
        match message["type"]:
            case "audio":
                pcm = base64.b64decode(message["audio"])
                assert len(pcm) == avr.FRAME_BYTES
                start = max(now, self._end)
                self._end = start + FRAME_SECONDS
                if any(pcm[-8:]):  # else it is the last of its item, filled up with silence
                    self._pitch = pitch(pcm, 8000)
                self._playing.append((start, self._pitch))
            case "interruption":
                self.interruptions += 1
                self.settle(now)
                self._end = now
            case "transcript":
                self.transcripts.append((message["role"], message["text"]))
            case other:
                raise AssertionError(f"{other}: {message}")

    def settle(self, now: float) -> None:
        """Count what has been played by now."""
        for start, hz in self._playing:
            if start < now:
                self.heard.append((start, hz, 1000 * min(FRAME_SECONDS, now - start)))
        self._playing.clear()


class Wire:
    """Delivers in order, each message some time after it was sent."""

    def __init__(self, world: World, low: float, high: float) -> None:
        self._world = world
        self._range = low, high
        self._last = 0.0

    def send(self, deliver: Callable[[], None]) -> None:
        delay = self._world.random.uniform(*self._range)
        self._last = max(self._last, self._world.now + delay)
        self._world.at(self._last, deliver)


class World:
    """A call through a dispatcher and a worker to the API."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.avr = AvrCore()
        self.link_seconds = self.random.choice([0.0, 0.002, 0.06])
        self._to_worker = Wire(self, 0.0, self.link_seconds)
        self._to_dispatcher = Wire(self, 0.0, self.link_seconds)
        upstream_seconds = self.random.choice([0.0, 0.05, 0.2])
        self._to_api = Wire(self, 0.0, upstream_seconds)
        self._from_api = Wire(self, 0.0, upstream_seconds)
        self.dispatcher = dispatcher_call.Call({}, 0.0)
        self.worker: Session | None = None
        self.api = RealtimeSession(
            model="gpt-realtime-2",
            settings=SimulatorSettings(
                voice=Voice.TONE,
                echo=True,
                tone_hz=400.0,
                words=self.random.randint(3, 16),
                greeting_words=self.random.randint(1, 16),
                word_ms=WORD_MS,
                speed=self.random.choice([1.1, 5.0, float("inf")]),
                delta_ms=self.random.choice([50, 100, 170]),
                first_audio_seconds=self.random.choice([0.0, 0.3, 1.0]),
                transcription_delay_seconds=self.random.choice([0.0, 0.6, 5.0]),
            ),
        )
        self.errors: list[str] = []
        self.pitch_of: dict[str, int] = {}
        self.born: dict[int, float] = {}  # when the API began to speak at this pitch
        self.interrupted: dict[str, list[float]] = defaultdict(list)  # when it and the worker knew, by the turn
        self._api_due = float("inf")
        self._position = 0
        self._speech: list[tuple[float, bytes]] = []

    # Time

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), do))

    def every(self, seconds: float, do: Callable[[], None]) -> None:
        def again() -> None:
            do()
            self.at(self.now + seconds, again)

        self.at(self.now + self.random.uniform(0, seconds), again)

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()
        self.now = until

    # The dispatcher and AVR Core

    def dispatch(self) -> None:
        while self.dispatcher.actions:
            actions, self.dispatcher.actions = self.dispatcher.actions, []
            for action in actions:
                match action:
                    case dispatcher_actions.Play(frame):
                        self.avr.message(avr.audio(frame), self.now)
                    case dispatcher_actions.Interrupt():
                        self.avr.message(avr.INTERRUPTION, self.now)
                    case dispatcher_actions.Tell(role, text):
                        self.avr.message(avr.transcript(role, text), self.now)
                    case dispatcher_actions.Complain(message):
                        self.avr.message(avr.error(message), self.now)
                    case dispatcher_actions.ToWorker(record):
                        self._to_worker.send(lambda record=record: self.at_worker(record))  # type: ignore[misc]
                    case dispatcher_actions.Place(epoch, _):
                        self.dispatcher.placed("worker", epoch, 1, 1, self.now)
                    case dispatcher_actions.Report() | dispatcher_actions.LeaveChannel():
                        pass
                    case other:
                        raise AssertionError(other)

    def at_dispatcher(self, record: bytes) -> None:
        for kind, _, payload in link.decode(record):
            self.dispatcher.record(kind, payload, self.now)
        self.dispatch()

    def frame(self) -> None:
        pcm = bytes(320)
        if self._speech and self._speech[0][0] <= self.now:
            start, said = self._speech[0]
            pcm, rest = said[:320], said[320:]
            self._speech[0] = (start, rest)
            if not rest:
                self._speech.pop(0)
        self.dispatcher.message(avr.audio(pcm), True, self.now)
        self.dispatch()

    # The worker

    def work(self) -> None:
        assert self.worker is not None
        actions, self.worker.actions = self.worker.actions, []
        for action in actions:
            match action:
                case worker_session.ToUpstream(event):
                    self._to_api.send(lambda event=event: self.at_api(event))  # type: ignore[misc]
                case worker_session.ToDispatcher(record):
                    self._to_dispatcher.send(lambda record=record: self.at_dispatcher(record))  # type: ignore[misc]
                case worker_session.Connect():
                    self.at(self.now, self.connected)
                case worker_session.Ended():
                    raise AssertionError(action)

    def connected(self) -> None:
        assert self.worker is not None
        self.api.open(self.now)
        self.worker.connected(self.now)
        self.work()
        self.answer()

    def at_worker(self, record: bytes) -> None:
        for kind, channel, payload in link.decode(record):
            if kind == Kind.OPEN:
                opening = link.decode_control(link.Open, payload)
                opened = link.encode(link.Opened(link.CALLER_CREDIT_BYTES), channel)
                self._to_dispatcher.send(partial(self.at_dispatcher, opened))
                plan = Plan(dialect=GA, session=session_object(Settings()))
                self.worker = Session(opening, channel, plan, self.now)
            else:
                assert self.worker is not None
                self.worker.record(kind, payload, self.now)
        self.work()

    def tick(self) -> None:
        if self.worker is not None:
            self.worker.tick(self.now)
            self.work()

    def event(self, event: dict[str, Any]) -> None:
        assert self.worker is not None
        self.worker.event(event, self.now)
        if event["type"] == "input_audio_buffer.speech_started":
            self.interrupted[event["item_id"]].append(self.now)
        self.work()

    # The API

    def at_api(self, message: bytes) -> None:
        self.api.receive(message, self.now)
        self.answer()

    def advance(self) -> None:
        self._api_due = float("inf")
        self.api.advance(self.now)
        self.answer()

    def answer(self) -> None:
        for text in self.api.take_output():
            event = orjson.loads(text)
            if event["type"] == "error":
                self.errors.append(event["error"]["code"])
            elif event["type"] == "response.output_audio.delta":
                hz = self.pitch_of.setdefault(event["item_id"], pitch(base64.b64decode(event["delta"]), 24_000))
                self.born.setdefault(hz, self.now)
            elif event["type"] == "input_audio_buffer.speech_started":
                self.interrupted[event["item_id"]].append(self.now)
            self._from_api.send(lambda event=event: self.event(event))  # type: ignore[misc]
        due = self.api.next_due_seconds()
        if due is not None and due < self._api_due:
            self._api_due = due
            self.at(max(due, self.now), self.advance)

    # A call

    def call(self) -> None:
        """A caller who says something now and then, and hears the last answer to its end."""
        hz = 400
        when = 0.3
        while when < CALL_SECONDS:
            when += self.random.choice([0.9, 1.5, 3.0, 6.0]) * self.random.uniform(0.8, 1.2)
            hz += 100
            seconds = self.random.uniform(0.2, 1.0)
            self._speech.append((when, tone(hz, seconds)))
            when += seconds
        pause = 1.0
        while pause < CALL_SECONDS and self.random.random() < 0.5:
            length = self.random.uniform(0.1, 4.0)
            self.at(pause, lambda: self.dispatcher.caller_paused(self.now))
            self.at(pause + length, self.reads_again)
            pause += length + self.random.uniform(0.5, 10.0)
        self.dispatcher.message(b'{"type":"init","uuid":"call-1"}', True, 0.0)
        self.dispatch()
        self.every(FRAME_SECONDS, self.frame)
        self.every(0.2, self.tick)
        self.every(0.2, self.dispatcher_tick)
        self.run(when + QUIET_SECONDS)
        self.avr.settle(self.now)

    def reads_again(self) -> None:
        self.dispatcher.caller_writable(self.now)
        self.dispatch()

    def dispatcher_tick(self) -> None:
        self.dispatcher.tick(self.now)
        self.dispatch()


# Among these calls are some in which AVR Core stops reading in the middle of a reply that is then interrupted.
@pytest.mark.parametrize("seed", range(30, 50))
def test_the_model_knows_what_the_caller_heard_and_so_does_who_reads_the_transcripts(seed: int) -> None:
    world = World(seed)
    world.call()
    known_ms: dict[int, float] = defaultdict(float)
    for item in world.api.conversation.items:
        if item.role == "assistant":
            assert item.id in world.pitch_of, f"the model remembers {item.text!r}, which never had any sound"
            known_ms[world.pitch_of[item.id]] += item.audio_ms
    heard_ms: dict[int, float] = defaultdict(float)
    for _, hz, ms in world.avr.heard:
        heard_ms[hz] += ms
    assert heard_ms
    for hz in known_ms.keys() | heard_ms.keys():
        difference = heard_ms[hz] - known_ms[hz]
        assert -1 <= difference <= TOLERANCE_MS, f"{hz} Hz: {dict(heard_ms)} heard, {dict(known_ms)} known"
    # And who interrupts is not talked over any more.
    for when, hz, _ in world.avr.heard:
        for at_api, at_worker in world.interrupted.values():
            over = world.born[hz] <= at_api and when > at_worker + world.link_seconds
            assert not over, f"{hz} Hz at {when} s, interrupted at {at_worker} s"
    assert set(world.errors) <= HARMLESS

    # Each transcript is of another item, in the order of the conversation, and of the agent's the beginning.
    left = iter(world.api.conversation.items)
    for role, text in world.avr.transcripts:
        agents = role == "agent"
        found = (" ".join(item.said) if agents else item.text for item in left if (item.role != "user") == agents)
        assert any(whole.startswith(text) for whole in found), f"{text!r} is out of order, or was never said"
    agent = [text for role, text in world.avr.transcripts if role == "agent"]
    assert sum(len(text.split()) for text in agent) * WORD_MS <= sum(heard_ms.values()) + WORD_MS * len(agent)
    # The caller's are all there, unless they come too late.
    callers = len(world.avr.transcripts) - len(agent)
    turns = sum(item.role == "user" for item in world.api.conversation.items)
    assert callers == turns or (callers < turns and world.api.settings.transcription_delay_seconds > 3.0)
