"""Drives the dispatcher's core by inputs that are plain JSON. Nothing else of the traces knows its methods.

A leg is an assignment with its channel. It is known by its number: in which order the core was given them.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any, Final

import orjson

from common.link import wire
from common.link.channel import ChannelState
from common.observe.metrics import FallbackOutcome
from dispatcher.call.actions import Ended, Ending, LeaveChannel, Play, Purpose, ToWorker
from dispatcher.call.announcements import Announcements
from dispatcher.call.assignment import Assignment
from dispatcher.call.call import Call
from dispatcher.call.limits import CallLimits
from dispatcher.call.memory import CallMemory
from dispatcher.call.states import State
from dispatcher.runner.assignment_channel import AssignmentChannel
from dispatcher.workers.links import ChannelOwner
from tests.traces import canonical
from tests.traces.canonical import Output
from tests.traces.sound import pcm, with_base64
from tests.traces.worker_core import BAD_INPUT, payload_of


class Leg:
    """An assignment with its channel and link; records sent on it are outputs."""

    def __init__(self, core: DispatcherCore, number: int, assignment: Assignment) -> None:
        self.number = number
        self.assignment = assignment
        self.is_left = False
        self._core = core
        self.channel = AssignmentChannel(core, self, assignment)

    def open_channel(self, owner: ChannelOwner) -> int:
        return self.number + 1

    def leave_channel(self, channel: int) -> None:
        pass

    def send(self, record: bytes) -> None:
        name, fields = canonical.record(record)
        self._core.sent.append(["record", self.number, name, fields])


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
        self.legs: list[Leg] = []
        self.sent: list[Output] = []
        self._now: float = header["now"]
        self.orders: dict[str, wire.TelephonyCommand] = {}
        self.outputs = self._taken()

    @property
    def state(self) -> Any:
        """Return the recorded part of the core's state after each input."""
        call = self.call
        flags = [call.paused, call.is_away, call.is_held, call.may_be_left]
        return canonical.plain(
            [
                call.state,
                call.assignments.epoch,
                call.assignments.held_epoch,
                call.assignments.pins,
                call.assignments.worker_id,
                *flags,
            ]
        )

    def apply(self, now: float, name: str, *arguments: Any) -> list[Output]:
        """Give the core an input, and return what it wants done."""
        extra: list[Output] = []
        self._now = now
        try:
            extra = _INPUTS[name](self, now, *arguments) or []
        except BAD_INPUT as error:
            extra = [canonical.raised(error)]
        self.outputs = self._taken() + extra
        return self.outputs

    def record(self, leg: int, kind: int, payload: memoryview, now: float) -> None:
        """Give a record to a leg's channel.

        Nothing comes on a channel that was left. A worker that has released the call says nothing more; where it
        did, the traces have no ACK of it.
        """
        each = self.legs[leg]
        if not each.is_left and each.assignment is not self.call.hand_over.resting:
            each.channel.record(kind, payload, now)

    def link(self, leg: int, change: str) -> None:
        """Change the link of a leg."""
        each = self.legs[leg]
        if not each.is_left:
            channel = each.channel._channel
            if change == "back" and channel.state is ChannelState.OPEN:
                # In the traces a link comes back twice, and a call that is not broken goes on beside its ATTACH.
                channel.send_uncounted(wire.Attach(self.uuid, each.assignment.epoch, channel.received))
            elif change == "back":
                each.channel.link_back(each)
            elif change == "broke":
                each.channel.link_broke()
                # The traces have ACKs for records that came behind the end of the link; no shell ever sent them.
                channel._transmit = each.send
            else:
                each.channel.worker_lost()

    def left(self, reason: str) -> list[Output]:
        """Leave the call; no shell leaves one that has ended, but the traces do, and it ended once more."""
        if self.call.state is State.ENDED:
            return canonical.action(Ended(Ending.MOVED, reason))
        self.call.left(reason)
        return []

    def tick(self, now: float) -> None:
        """Look at the clocks, and at the channels."""
        for leg in self.legs:
            if leg.channel.is_full:
                self.call.channel_full(leg.assignment, now)
        self.call.tick(now)

    # Owner of the channels

    @property
    def uuid(self) -> str:
        return self.call.uuid

    def assignment_record(
        self, assignment: Assignment, kind: int, payload: memoryview, received_seconds: float
    ) -> None:
        self.call.record(assignment, kind, payload, received_seconds)

    def assignment_broke(self, assignment: Assignment) -> None:
        self.call.link_broke(assignment)

    def assignment_lost(self, assignment: Assignment) -> None:
        self.call.worker_lost(assignment, self._now)

    def fail(self, reason: str) -> None:
        self.call.failed(reason, self._now)

    def placed(self, now: float, purpose: str, fields: dict[str, Any]) -> list[Output]:
        """Take a placement as the shell does, unless the call no longer wants one."""
        if not self.call.wants(Purpose(purpose)):
            return [["unwanted", purpose]]
        fields = {name: value for name, value in fields.items() if name != "channel"}
        leg = Leg(self, len(self.legs), Assignment(**fields))
        self.legs.append(leg)
        self.call.placed(leg.assignment, now)
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
        """Return the changes of memory for Redis."""
        taken = self.call.memory.take_changes()
        if taken is None:
            return [["changes", None]]
        fields, anew = taken
        read = {name: None if value is None else orjson.loads(value) for name, value in fields.items()}
        return [["changes", canonical.plain(read), anew]]

    def _taken(self) -> list[Output]:
        actions, self.call.actions = self.call.actions, []
        outputs, self.sent = self.sent, []
        for action in actions:
            if isinstance(action, ToWorker):
                self._leg(action.assignment).channel.send(action.record, action.counted)
                outputs += self.sent
                self.sent = []
            elif isinstance(action, LeaveChannel):
                leg = self._leg(action.assignment)
                leg.is_left = True
                outputs.append(["action", "LeaveChannel", {"leg": leg.number}])
            elif isinstance(action, Play):
                outputs.append(["action", "Play", {"pcm": canonical.audio(action.pcm)}])
            else:
                outputs += canonical.action(action)
        return outputs

    def _leg(self, assignment: Assignment) -> Leg:
        return next(leg for leg in self.legs if leg.assignment is assignment)


def _record(core: DispatcherCore, now: float, leg: int, name: str, fields: dict[str, Any]) -> None:
    core.record(leg, *payload_of(name, fields), now)


def _raw(core: DispatcherCore, now: float, leg: int, kind: int, payload: str) -> None:
    core.record(leg, kind, memoryview(bytes.fromhex(payload)), now)


def _message(core: DispatcherCore, now: float, message: Any) -> None:
    """Read a message of AVR Core: JSON, or other text."""
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
    "left": lambda c, now, reason: c.left(reason),
    "outrank": lambda c, now, epoch: c.call.assignments.outrank(epoch),
    "epoch": lambda c, now, epoch: c.call.assignments.saw_epoch(epoch),
    "place": lambda c, now, epoch=1: c.call.place(epoch),
    "placed": lambda c, now, purpose, fields: c.placed(now, purpose, fields),
    "restored": lambda c, now, stored: c.restored(now, stored),
    "not_placed": lambda c, now, code, message, is_known=True: c.call.not_placed(
        code, message, now, is_known=is_known
    ),
    "record": _record,
    "raw": _raw,
    "link_broke": lambda c, now, leg: c.link(leg, "broke"),
    "resume": lambda c, now, leg: c.link(leg, "back"),
    "worker_lost": lambda c, now, leg: c.link(leg, "lost"),
    "tick": lambda c, now: c.tick(now),
    "wake": lambda c, now: c.call.wake(now),
    "executed": lambda c, now, order, ok, message: c.executed(now, order, ok, message),
    "transferred_away": lambda c, now, outcome: c.call.transferred_away(FallbackOutcome(outcome), now),
    "changes": lambda c, now: c.changes(),
    "forgotten": lambda c, now: c.call.memory.copy_lost(),
}
