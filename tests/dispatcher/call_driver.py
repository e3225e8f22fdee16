"""Drives a call's state machine, and reads its actions."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from common.link import wire
from common.link.wire import Control, Kind
from dispatcher.avr import protocol
from dispatcher.call import actions
from dispatcher.call.actions import Action, Measurement, Metric, Place, Purpose
from dispatcher.call.announcements import SILENT, Announcements
from dispatcher.call.assignment import Assignment
from dispatcher.call.call import Call
from dispatcher.call.limits import CallLimits
from dispatcher.call.states import State

WORKER = "w-1"
UUID = "call-1"
METADATA = {"from": "100"}
FRAME_BYTES = 320


class CallDriver:
    """One call; its clock stands at `now` until a test moves it."""

    def __init__(self, *, announcements: Announcements = SILENT, **limits: Any) -> None:
        self.now = 1000.0
        self.limits = CallLimits(**limits)
        self.call = Call(METADATA, self.now, self.limits, announcements)
        self.assignments: list[Assignment] = []
        self.taken: list[Action] = []

    @property
    def state(self) -> State:
        return self.call.state

    # Events of AVR Core

    def say(self, **message: object) -> list[Action]:
        return self.send(orjson.dumps(message))

    def send(self, data: bytes) -> list[Action]:
        self.call.message(data, self.now)
        return self.take()

    def init(self, uuid: str = UUID) -> list[Action]:
        return self.say(type="init", uuid=uuid)

    def audio(self, pcm: bytes) -> list[Action]:
        return self.say(type="audio", audio=base64.b64encode(pcm).decode())

    # Events of the worker

    @property
    def assignment(self) -> Assignment:
        """Return the newest assignment."""
        return self.assignments[-1]

    def record(self, record: Control, *, assignment: Assignment | None = None) -> list[Action]:
        ((kind, _, payload),) = wire.decode(wire.encode(record, 1))
        self.call.record(assignment or self.assignment, kind, payload, self.now)
        return self.take()

    def raw_record(self, kind: int, payload: bytes) -> list[Action]:
        self.call.record(self.assignment, kind, memoryview(payload), self.now)
        return self.take()

    def credit(self, credit_bytes: int) -> list[Action]:
        return self.raw_record(Kind.CREDIT, credit_bytes.to_bytes(4, "big"))

    def reply(self, item: int, pcm: bytes) -> list[Action]:
        return self.raw_record(Kind.REPLY_AUDIO, item.to_bytes(4, "big") + pcm)

    # The rest

    def placed(
        self,
        *,
        worker: str = WORKER,
        epoch: int = 1,
        pins: int = 1,
        attach: bool = False,
        age_seconds: float = 0.0,
    ) -> list[Action]:
        self.assignments.append(Assignment(worker, epoch, pins, attach=attach, age_seconds=age_seconds))
        self.call.placed(self.assignments[-1], self.now)
        return self.take()

    def lose_worker(self) -> list[Action]:
        self.call.worker_lost(self.assignment, self.now)
        return self.take()

    def tick(self, seconds: float = 0.0) -> list[Action]:
        self.now += seconds
        self.call.tick(self.now)
        return self.take()

    def pause(self) -> None:
        self.call.caller_paused(self.now)
        assert self.take() == []

    def resume(self) -> list[Action]:
        self.call.caller_writable(self.now)
        return self.take()

    def take(self) -> list[Action]:
        taken, self.call.actions = self.call.actions, []
        self.taken += taken
        return taken

    # Up to a state

    def opening(self) -> CallDriver:
        self.init()
        self.placed()
        return self

    def connecting(self, credit_bytes: int = 32_000) -> CallDriver:
        self.opening()
        self.record(wire.Opened(credit_bytes))
        return self

    def live(self, credit_bytes: int = 32_000) -> CallDriver:
        self.connecting(credit_bytes)
        self.record(wire.Ready())
        return self


def to_worker(taken: list[Action]) -> list[wire.Record]:
    """Return the records among the actions."""
    return [action.record for action in taken if isinstance(action, actions.ToWorker)]


def to_caller(taken: list[Action]) -> list[dict[str, Any]]:
    """Return the messages for AVR Core among the actions; audio as PCM."""
    messages: list[dict[str, Any]] = []
    for action in taken:
        match action:
            case actions.Play(pcm):
                messages += [{"type": "audio", "pcm": frame} for frame in protocol.frames(pcm)]
            case actions.Interrupt():
                messages.append({"type": "interruption"})
            case actions.SendTranscript(role, text):
                messages.append({"type": "transcript", "role": role, "text": text})
            case actions.SendError(message):
                messages.append({"type": "error", "message": message})
    return messages


def heard_pcm(taken: list[Action]) -> bytes:
    """Return all the audio that went to AVR Core; each message is one frame."""
    frames = [message["pcm"] for message in to_caller(taken) if message["type"] == "audio"]
    assert all(len(frame) == FRAME_BYTES for frame in frames)
    return b"".join(frames)


def sound(size: int, *, seed: int = 1) -> bytes:
    """PCM16 of which no two frames are alike."""
    return b"".join((seed * 10_007 + number).to_bytes(4, "little") for number in range(size // 4 + 1))[:size]


def place(purpose: Purpose, epoch: int, *excluded: str, same_worker: str = "") -> Place:
    """Look for a worker, at this epoch and without these."""
    return Place(purpose, epoch, frozenset(excluded), same_worker)


def recover(epoch: int, *excluded: str, same_worker: str = "") -> Place:
    """Return the same, for a call that lost its session."""
    return place(Purpose.RECOVER, epoch, *excluded, same_worker=same_worker)


def opened_with(taken: list[Action]) -> wire.Open:
    """Return the only OPEN among the actions."""
    (opening,) = [record for record in to_worker(taken) if isinstance(record, wire.Open)]
    return opening


def of(kind: type, taken: list[Action]) -> list[object]:
    """Return the actions of this kind."""
    return [action for action in taken if isinstance(action, kind)]


def state_of(driver: CallDriver) -> State:
    """Read anew: what an assertion has found out does not hold behind the next event."""
    return driver.state


def reported(taken: list[Action], seen: Metric) -> list[tuple[float, str]]:
    """Return the measurements: (value, label)."""
    return [
        (action.value, action.label) for action in taken if isinstance(action, Measurement) and action.seen is seen
    ]
