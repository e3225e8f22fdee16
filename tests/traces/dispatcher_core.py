"""Drives the dispatcher's core by inputs that are plain JSON. Nothing else of the traces knows its methods.

A leg is known by its number: in which order the core was given them.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any, Final

import orjson

from common.link import wire
from common.observe.metrics import FallbackOutcome
from dispatcher.call.actions import LeaveChannel, Play, Purpose, ToWorker
from dispatcher.call.announcements import Announcements
from dispatcher.call.assignment import Assignment
from dispatcher.call.call import Call, Placed
from dispatcher.call.limits import CallLimits
from dispatcher.call.memory import CallMemory
from tests.traces import canonical
from tests.traces.canonical import Output
from tests.traces.sound import pcm, with_base64
from tests.traces.worker_core import BAD_INPUT, payload_of


class DispatcherCore:
    """One call, which is made from a trace's header.

    Attributes:
        outputs: of the last input.
    """

    def __init__(self, header: dict[str, Any]) -> None:
        random.seed(header["seed"])
        sounds = {name: pcm(header["announcements"][name]) for name in ("sentence", "filler")}
        self.call = Call(
            header["metadata"],
            header["now"],
            CallLimits(**header["limits"]),
            Announcements(**{**header["announcements"], **sounds}),
        )
        self.legs: list[Assignment] = []
        self.orders: dict[str, wire.TelephonyCommand] = {}
        self.outputs = self._taken()

    @property
    def state(self) -> Any:
        """What is recorded of the core's state behind each input."""
        call = self.call
        flags = [call.paused, call.is_away, call.is_held, call.may_be_left]
        return canonical.plain([call.state, call.epoch, call.held_epoch, call.pins, call.worker_id, *flags])

    def apply(self, now: float, name: str, *arguments: Any) -> list[Output]:
        """Give the core an input, and return what it wants done."""
        extra: list[Output] = []
        try:
            extra = _INPUTS[name](self, now, *arguments) or []
        except BAD_INPUT as error:
            extra = [canonical.raised(error)]
        self.outputs = self._taken() + extra
        return self.outputs

    def leg(self, number: int) -> Assignment:
        """Return a leg by its number; numbers below 0 count from the newest."""
        return self.legs[number]

    def placed(self, now: float, purpose: str, fields: dict[str, Any]) -> list[Output]:
        """As the shell does it: nothing is placed that is not wanted any more."""
        if not self.call.wants(Purpose(purpose)):
            return [["unwanted", purpose]]
        self.legs.append(self.call.placed(Placed(**fields), now))
        return []

    def executed(self, now: float, order: dict[str, Any], ok: bool, message: str) -> None:
        """Tell what avr-ami made of an order."""
        self.call.executed(wire.TelephonyCommand(**order), ok, message, now)

    def restored(self, now: float, stored: dict[str, Any]) -> None:
        """Give the core what Redis remembers of the call."""
        fields = {name: orjson.dumps(value).decode() for name, value in stored.items()}
        memory = CallMemory.from_stored(fields)
        assert memory is not None
        self.call.restored(memory, now)

    def changes(self) -> list[Output]:
        """Tell what is to be written to Redis."""
        taken = self.call.memory.take_changes()
        if taken is None:
            return [["changes", None]]
        fields, anew = taken
        read = {name: None if value is None else orjson.loads(value) for name, value in fields.items()}
        return [["changes", canonical.plain(read), anew]]

    def _taken(self) -> list[Output]:
        actions, self.call.actions = self.call.actions, []
        outputs: list[Output] = []
        for action in actions:
            if isinstance(action, ToWorker):
                record_name, fields = canonical.record(action.record)
                outputs.append(["record", self._number(action.assignment), record_name, fields])
            elif isinstance(action, LeaveChannel):
                outputs.append(["action", "LeaveChannel", {"leg": self._number(action.assignment)}])
            elif isinstance(action, Play):
                outputs.append(["action", "Play", {"pcm": canonical.audio(action.pcm)}])
            else:
                outputs.append(canonical.action(action))
        return outputs

    def _number(self, leg: Assignment) -> int:
        return next(number for number, each in enumerate(self.legs) if each is leg)


def _record(core: DispatcherCore, now: float, leg: int, name: str, fields: dict[str, Any]) -> None:
    core.call.record(core.leg(leg), *payload_of(name, fields), now)


def _raw(core: DispatcherCore, now: float, leg: int, kind: int, payload: str) -> None:
    core.call.record(core.leg(leg), kind, memoryview(bytes.fromhex(payload)), now)


def _message(core: DispatcherCore, now: float, message: Any) -> None:
    """A message of AVR Core: JSON, or text that is none."""
    if isinstance(message, dict) and message.get("type") == "audio" and set(message) == {"type", "audio"}:
        # With the very bytes that AVR Core gives it.
        audio = message["audio"]
        text = base64.b64encode(pcm(audio)).decode() if isinstance(audio, dict) else str(audio)
        core.call.message(b'{"type":"audio","audio":"' + text.encode() + b'"}', now)
    elif isinstance(message, str):
        core.call.message(message.encode(), now)
    else:
        core.call.message(orjson.dumps(with_base64(message)), now)


Input = Callable[..., list[Output] | None]
_INPUTS: Final[dict[str, Input]] = {
    "message": _message,
    "began": lambda c, now, uuid: c.call.began(uuid, now),
    "audio": lambda c, now, sound, messages=0: c.call.audio(pcm(sound), now, messages=messages),
    "broke_protocol": lambda c, now, reason, message: c.call.broke_protocol(reason, message),
    "caller_closed": lambda c, now, code, may_return=True: c.call.caller_closed(code, now, may_return=may_return),
    "caller_back": lambda c, now: c.call.caller_back(now),
    "caller_paused": lambda c, now: c.call.caller_paused(now),
    "caller_writable": lambda c, now: c.call.caller_writable(now),
    "superseded": lambda c, now: c.call.superseded(),
    "absorbed": lambda c, now: c.call.absorbed(),
    "stopped": lambda c, now, reason: c.call.stopped(reason),
    "failed": lambda c, now, reason: c.call.failed(reason, now),
    "hang_up": lambda c, now: c.call.hang_up(),
    "left": lambda c, now, reason: c.call.left(reason),
    "outrank": lambda c, now, epoch: c.call.outrank(epoch),
    "epoch": lambda c, now, epoch: setattr(c.call, "epoch", max(c.call.epoch, epoch)),
    "place": lambda c, now, epoch=1: c.call.place(epoch),
    "placed": lambda c, now, purpose, fields: c.placed(now, purpose, fields),
    "restored": lambda c, now, stored: c.restored(now, stored),
    "not_placed": lambda c, now, code, message, is_known=True: c.call.not_placed(
        code, message, now, is_known=is_known
    ),
    "record": _record,
    "raw": _raw,
    "link_broke": lambda c, now, leg: c.call.link_broke(c.leg(leg)),
    "resume": lambda c, now, leg: c.call.resume(c.leg(leg)),
    "worker_lost": lambda c, now, leg: c.call.worker_lost(c.leg(leg), now),
    "tick": lambda c, now: c.call.tick(now),
    "wake": lambda c, now: c.call.wake(now),
    "executed": lambda c, now, order, ok, message: c.executed(now, order, ok, message),
    "transferred_away": lambda c, now, outcome: c.call.transferred_away(FallbackOutcome(outcome), now),
    "changes": lambda c, now: c.changes(),
    "forgotten": lambda c, now: c.call.memory.forgotten(),
}
