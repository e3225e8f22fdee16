"""A whole call without I/O, on one virtual clock: AVR Core, dispatcher, workers and the API, with delays between.

The dispatcher's call, the workers' sessions and the simulated API are the real ones. What is to go wrong a test
says: a worker dies, a Realtime connection is lost, a session is to be replaced, a dispatcher dies.
"""

from __future__ import annotations

import base64
import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from common.link import wire
from common.link.retransmit_buffer import RetransmitBuffer
from common.link.wire import Kind
from common.settings.settings import Settings
from dispatcher.avr import protocol
from dispatcher.call import actions as dispatcher_actions
from dispatcher.call.assignment import Assignment
from dispatcher.call.call import Call
from dispatcher.call.limits import CallLimits
from dispatcher.runner.assignment_channel import AssignmentChannel
from dispatcher.workers.links import ChannelOwner
from simulator.realtime.session import RealtimeSession
from simulator.realtime.settings import SimulatorSettings, Voice
from worker.config.session_config import SessionConfig
from worker.config.session_update import session_object
from worker.realtime import client_events
from worker.realtime.dialect import GA
from worker.session import actions as worker_session
from worker.session.memory.checkpoint import Checkpoint, CheckpointReader
from worker.session.session import Session

FRAME_SECONDS = 0.02
WORD_MS = 300
CALL_SECONDS = 40.0
QUIET_SECONDS = 12.0
UUID = "call-1"
CHANNEL = 1


def tone(hz: float, seconds: float) -> bytes:
    """PCM16 at 8 kHz."""
    samples = np.arange(round(seconds * 8000))
    return bytes(np.rint(9000 * np.sin(2 * np.pi * hz / 8000 * samples)).astype("<i2").tobytes())


def pitch(pcm: bytes, rate_hz: int) -> int:
    """Return the strongest frequency, to 50 Hz."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size), rate_hz // 10))
    return round(int(spectrum.argmax()) * 10 / 50) * 50


class AvrCore:
    """A core that plays its audio in order and in real time, and empties its buffer on `interruption`."""

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
                assert len(pcm) == protocol.FRAME_BYTES
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
        """Count the audio that has been played by now."""
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


class HandLink:
    """The dispatcher's link to a worker."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand

    def open_channel(self, owner: ChannelOwner) -> int:
        return CHANNEL

    def leave_channel(self, channel: int) -> None:
        pass

    def send(self, record: bytes) -> None:
        self._hand.get(record)


class Hand:
    """A worker's end of one leg: its session, and the API's end of that."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.session: Session | None = None
        self.api: RealtimeSession | None = None
        self.opening: wire.Open | None = None
        self.leg: Assignment | None = None
        self.dead = False
        self.link = 0  # how often it broke
        self.link_is_up = True
        self.is_attached = True
        self.is_resting = False  # it released the call, and keeps what it knows
        self.stream = RetransmitBuffer()
        self.snapshot: Checkpoint | None = None
        self.reader = CheckpointReader()
        self.early: list[tuple[int, bytes]] = []
        self.to_worker = Wire(world, 0.0, world.link_seconds)
        self.to_dispatcher = Wire(world, 0.0, world.link_seconds)
        self.to_api = Wire(world, 0.0, world.upstream_seconds)
        self.from_api = Wire(world, 0.0, world.upstream_seconds)
        self.tools: list[str] = []
        self._api_due = float("inf")

    # The link

    def send(self, record: bytes, *, counted: bool = True) -> None:
        if counted:
            self.stream.sending(record)
        leg, number = self.leg, self.link
        if self.link_is_up and self.is_attached:
            self.to_dispatcher.send(lambda: self.world.at_dispatcher(leg, record) if number == self.link else None)

    def get(self, record: bytes) -> None:
        """Take a record of the dispatcher."""
        number = self.link
        if self.link_is_up:
            self.to_worker.send(lambda: self.at_worker(record) if number == self.link else None)

    def at_worker(self, record: bytes) -> None:
        if self.dead:
            return
        for kind, _, payload in wire.decode(record):
            self._record(kind, payload)

    def _record(self, kind: int, payload: memoryview) -> None:
        if kind == Kind.ACK:
            self.stream.acknowledged(wire.decode_ack(payload))
            return
        if kind == Kind.ATTACH:
            self.is_attached = True
            if self.opening is None:
                self.send(wire.encode(wire.Refused(wire.Refusal.UNKNOWN), CHANNEL), counted=False)
                return
            self.send(wire.encode(wire.Attached(self.stream.received), CHANNEL), counted=False)
            for record in self.stream.resumed(wire.decode_control(wire.Attach, payload).received):
                self.send(record, counted=False)
            return
        if kind == Kind.OPEN:
            opening = wire.decode_control(wire.Open, payload)
            if opening.attach:
                self._attach(opening)
            else:
                self.opening = opening
                self.send(wire.encode(wire.Opened(wire.CALLER_CREDIT_BYTES), CHANNEL))
                if not opening.restore:
                    self._begin()
            self._work()
            return
        if self.stream.receive(len(payload)):
            self.send(wire.encode_ack(CHANNEL, self.stream.received), counted=False)
        if kind in (Kind.PROFILE, Kind.ITEM_UPDATE, Kind.PENDING_REPLIES, Kind.KEPT_AUDIO, Kind.RESUME):
            go = self.reader.record(kind, payload)
            if go is not None:
                first, self.snapshot = self.snapshot is None, self.reader.take(go, frozenset())
                if first:
                    self._begin()
                elif self.session is not None:
                    self.session.take_call(self.snapshot, self.world.now)
        elif self.session is None:
            self.early.append((kind, bytes(payload)))
        else:
            self._tell(self.session, kind, payload)
        self._work()

    def _tell(self, session: Session, kind: int, payload: memoryview) -> None:
        if kind == Kind.CALLER_AUDIO:
            position, pcm = wire.decode_caller_audio(payload)
            session.caller_audio(position, bytes(pcm), self.world.now)
        else:
            session.record(kind, payload, self.world.now)

    def _begin(self) -> None:
        assert self.opening is not None
        world = self.world
        session = session_object(Settings())
        config = SessionConfig(dialect=GA, session=session, rollover_seconds=world.rollover_seconds)
        self.session = Session(self.opening, config, world.now, self.snapshot)
        early, self.early = self.early, []
        for kind, payload in early:
            self._tell(self.session, kind, memoryview(payload))

    def _attach(self, opening: wire.Open) -> None:
        self.stream = RetransmitBuffer()
        assert self.session is not None
        opened = wire.Opened(wire.CALLER_CREDIT_BYTES, True, self.session.next_position_samples)
        self.send(wire.encode(opened, CHANNEL))
        self.session.attached(opening, self.world.now)
        if self.is_resting:
            self._work()
            self.send(wire.encode(wire.Released(wire.Reason.DROPPED, "the session had been released"), CHANNEL))

    @property
    def has_the_call(self) -> bool:
        return not self.is_resting and (self.snapshot is None or not self.snapshot.standby)

    # The session

    def _work(self) -> None:
        if self.session is None:
            return
        actions, self.session.actions = self.session.actions, []
        for action in actions:
            match action:
                case worker_session.ToUpstream(event):
                    message = client_events.encode(event, GA)
                    self.to_api.send(lambda message=message: self._at_api(message))  # type: ignore[misc]
                case worker_session.AppendAudio(audio):
                    message = client_events.encode_append(audio)
                    self.to_api.send(lambda message=message: self._at_api(message))  # type: ignore[misc]
                case worker_session.ToDispatcher(record):
                    self.send(wire.encode_record(record, CHANNEL))
                case worker_session.Connect(delay):
                    self.world.at(self.world.now + delay + self.world.connect_seconds, self._connected)
                case worker_session.RunTool(call_id, _, _):
                    self.tools.append(call_id)
                case worker_session.Released():
                    self.close_api()
                    self.is_resting = True
                    self.world.released()
                case worker_session.Ended():
                    if not self.world.over:
                        raise AssertionError(action)

    def _connected(self) -> None:
        if self.dead or self.session is None or self.session.state.value == "ended":
            return
        self.api = self.world.new_api()
        self.api.open(self.world.now)
        self.session.connected(self.world.now)
        self._work()
        self._answer()

    def tick(self) -> None:
        if self.session is not None and not self.dead:
            self.session.tick(self.world.now)
            self._work()

    def drop(self) -> None:
        """Break the Realtime connection."""
        if self.api is not None and self.session is not None and not self.dead:
            self.close_api()
            self.session.connection_lost("it broke off", self.world.now)
            self._work()

    def close_api(self) -> None:
        if self.api is not None:
            self.world.closed_apis.append(self.api)
            self.api = None

    def die(self) -> None:
        self.dead = True
        self.close_api()

    # The API

    def _at_api(self, message: bytes) -> None:
        if self.api is not None:
            self.api.receive(message, self.world.now)
            self._answer()

    def _advance(self) -> None:
        self._api_due = float("inf")
        if self.api is not None:
            self.api.advance(self.world.now)
            self._answer()

    def _answer(self) -> None:
        api = self.api
        if api is None:
            return
        for text in api.take_output():
            event = orjson.loads(text)
            self.world.said(event)
            self.from_api.send(lambda event=event: self._event(api, event))  # type: ignore[misc]
        due = api.next_due_seconds()
        if due is not None and due < self._api_due:
            self._api_due = due
            self.world.at(max(due, self.world.now), self._advance)

    def _event(self, api: RealtimeSession, event: dict[str, Any]) -> None:
        if self.api is not api or self.session is None or self.dead:
            return
        self.session.event(event, self.world.now)
        if event["type"] == "input_audio_buffer.speech_started":
            self.world.interrupted[event["item_id"]].append(self.world.now)
        self._work()


class World:
    """A call through a dispatcher and workers to the API."""

    def __init__(self, seed: int, *, rollover_seconds: float = 3300.0, **limits: Any) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.avr = AvrCore()
        self.link_seconds = self.random.choice([0.0, 0.002, 0.06])
        self.upstream_seconds = self.random.choice([0.0, 0.05, 0.2])
        self.connect_seconds = 0.0
        self.rollover_seconds = rollover_seconds
        self._limits = CallLimits(**limits)
        self.dispatcher = Call({}, 0.0, self._limits)
        self.dispatcher_is_dead = False
        self.over = False
        self.released: Callable[[], None] = lambda: None  # called when a session lets the call go
        self.hands: list[Hand] = []
        self._hand_of: dict[Assignment, Hand] = {}
        self._channels: dict[Assignment, AssignmentChannel] = {}
        self._settings = SimulatorSettings(
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
        )
        self.closed_apis: list[RealtimeSession] = []
        self.errors: list[str] = []
        self.pitch_of: dict[str, int] = {}
        self.born: dict[int, float] = {}  # when the API began to speak at this pitch
        self.interrupted: dict[str, list[float]] = defaultdict(list)  # when it and the worker knew, by the turn
        self.reports: list[dispatcher_actions.Measurement] = []
        self.speech: list[tuple[float, bytes]] = []

    @property
    def hand(self) -> Hand:
        """Return the worker's end of the leg that has the call."""
        leg = self.dispatcher.assignments.current
        assert leg is not None
        return self._hand_of[leg]

    @property
    def api(self) -> RealtimeSession:
        """The session that has the call now."""
        api = self.hand.api
        assert api is not None
        return api

    def new_api(self) -> RealtimeSession:
        return RealtimeSession(model="gpt-realtime-2", settings=self._settings)

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
        call = self.dispatcher
        while call.actions:
            actions, call.actions = call.actions, []
            for action in actions:
                match action:
                    case dispatcher_actions.Play(pcm):
                        for frame in protocol.frames(pcm):
                            self.avr.message(protocol.audio(frame), self.now)
                    case dispatcher_actions.Interrupt():
                        self.avr.message(protocol.INTERRUPTION, self.now)
                    case dispatcher_actions.SendTranscript(role, text):
                        self.avr.message(protocol.transcript(role, text), self.now)
                    case dispatcher_actions.SendError(message):
                        self.avr.message(protocol.error(message), self.now)
                    case dispatcher_actions.ToWorker(leg, record, counted):
                        channel = self._channels.get(leg)
                        if channel is not None:
                            channel.send(record, counted)
                    case dispatcher_actions.Place():
                        self._place(action)
                    case dispatcher_actions.Measurement():
                        self.reports.append(action)
                    case dispatcher_actions.LeaveChannel() | dispatcher_actions.Publish():
                        pass
                    case other:
                        if not self.over:
                            raise AssertionError(other)

    def _place(self, wanted: dispatcher_actions.Place) -> None:
        call = self.dispatcher
        if self.dispatcher_is_dead or not call.wants(wanted.purpose):
            return
        hand = Hand(self, len(self.hands))
        self.hands.append(hand)
        name = wanted.same_worker or f"worker-{hand.number}"
        self._give(hand, Assignment(name, wanted.epoch, len(self.hands)))

    def _give(self, hand: Hand, assignment: Assignment) -> None:
        hand.leg = assignment
        self._hand_of[assignment] = hand
        self._channels[assignment] = AssignmentChannel(self, HandLink(hand), assignment)
        self.dispatcher.placed(assignment, self.now)

    # Owner of the channels

    @property
    def uuid(self) -> str:
        return UUID

    def assignment_record(
        self, assignment: Assignment, kind: int, payload: memoryview, received_seconds: float
    ) -> None:
        self.dispatcher.record(assignment, kind, payload, received_seconds)

    def assignment_broke(self, assignment: Assignment) -> None:
        self.dispatcher.link_broke(assignment)

    def assignment_lost(self, assignment: Assignment) -> None:
        self.dispatcher.worker_lost(assignment, self.now)

    def fail(self, reason: str) -> None:
        raise AssertionError(reason)

    def at_dispatcher(self, leg: Assignment | None, record: bytes) -> None:
        if leg is None or self.dispatcher_is_dead:
            return
        for kind, _, payload in wire.decode(record):
            self._channels[leg].record(kind, payload, self.now)
        self.dispatch()

    def frame(self) -> None:
        pcm = bytes(320)
        if self.speech and self.speech[0][0] <= self.now:
            start, said = self.speech[0]
            pcm, rest = said[:320], said[320:]
            self.speech[0] = (start, rest)
            if not rest:
                self.speech.pop(0)
        if not self.dispatcher_is_dead and not self.over:
            self.dispatcher.message(protocol.audio(pcm), self.now)
            self.dispatch()

    def tick(self) -> None:
        if not self.dispatcher_is_dead and not self.over:
            self.dispatcher.tick(self.now)
            self.dispatch()
        for hand in list(self.hands):
            hand.tick()

    def said(self, event: dict[str, Any]) -> None:
        """Take an event of either API."""
        if event["type"] == "error":
            self.errors.append(event["error"]["code"])
        elif event["type"] == "response.output_audio.delta":
            hz = self.pitch_of.setdefault(event["item_id"], pitch(base64.b64decode(event["delta"]), 24_000))
            self.born.setdefault(hz, self.now)
        elif event["type"] == "input_audio_buffer.speech_started":
            self.interrupted[event["item_id"]].append(self.now)

    # What goes wrong

    def kill_worker(self) -> None:
        """Kill the worker that has the call; its dispatcher learns that at once."""
        leg = self.dispatcher.assignments.current
        if leg is None or self.dispatcher_is_dead:
            return
        self._hand_of[leg].die()
        self._channels[leg].worker_lost()
        self.dispatch()

    def drop_session(self) -> None:
        """Break the Realtime connection."""
        leg = self.dispatcher.assignments.current
        if leg is not None:
            self._hand_of[leg].drop()

    def cut_link(self, seconds: float) -> None:
        """Break the link, and lose the records in transit; another link follows later."""
        leg = self.dispatcher.assignments.current
        if leg is None or self.dispatcher_is_dead:
            return
        hand = self._hand_of[leg]
        if not hand.link_is_up:
            return
        hand.link += 1
        hand.link_is_up = hand.is_attached = False
        self._channels[leg].link_broke()
        self.at(self.now + seconds, lambda: self._mend_link(leg, hand))

    def _mend_link(self, leg: Assignment, hand: Hand) -> None:
        hand.link_is_up = True
        if self.dispatcher.assignments.current is leg:
            self._channels[leg].link_back(HandLink(hand))
            self.dispatch()

    def kill_dispatcher(self, seconds: float) -> None:
        """Kill the dispatcher; later the core connects to another one, which asks the workers."""
        if self.dispatcher_is_dead:
            return
        self.dispatcher_is_dead = True
        for hand in self.hands:
            hand.link += 1
            hand.leg = None
        self.at(self.now + seconds, self._come_back)

    def _come_back(self) -> None:
        hands = [hand for hand in self.hands if hand.session is not None and not hand.dead]
        live = [hand for hand in hands if hand.has_the_call]
        hand = max(live or [hand for hand in hands if hand.is_resting], key=lambda hand: hand.number)
        self.dispatcher = Call({}, self.now, self._limits)
        self.dispatcher.message(orjson.dumps({"type": "init", "uuid": UUID}), self.now)
        assert hand.session is not None
        self.dispatcher.actions.clear()
        self.dispatcher_is_dead = False
        self._give(hand, Assignment("worker", hand.session.epoch + 1, attach=True))
        self.dispatch()

    # A call

    def begin(self) -> None:
        self.dispatcher.message(orjson.dumps({"type": "init", "uuid": UUID}), 0.0)
        self.dispatch()
        self.every(FRAME_SECONDS, self.frame)
        self.every(0.2, self.tick)

    def converse(self, *, pauses: bool = True) -> float:
        """Let the caller speak now and then; return after the last word."""
        hz = 400
        when = 0.3
        while when < CALL_SECONDS:
            when += self.random.choice([0.9, 1.5, 3.0, 6.0]) * self.random.uniform(0.8, 1.2)
            hz += 100
            seconds = self.random.uniform(0.2, 1.0)
            self.speech.append((when, tone(hz, seconds)))
            when += seconds
        pause = 1.0
        while pauses and pause < CALL_SECONDS and self.random.random() < 0.5:
            length = self.random.uniform(0.1, 4.0)
            self.at(pause, lambda: self.dispatcher.caller_paused(self.now))
            self.at(pause + length, self.reads_again)
            pause += length + self.random.uniform(0.5, 10.0)
        return when

    def finish(self, when: float) -> None:
        """Hear the last answer to its end."""
        self.run(when + QUIET_SECONDS)
        self.avr.settle(self.now)

    def reads_again(self) -> None:
        self.dispatcher.caller_writable(self.now)
        self.dispatch()
