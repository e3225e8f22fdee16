"""Messages of AVR Core to a call: `init`, audio and keys, in either protocol."""

from __future__ import annotations

from websockets.typing import BytesLike

from common.errors import AvrProtocolError
from dispatcher.avr import protocol
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import MessageIgnored, Metric
from dispatcher.call.assignments import Assignments
from dispatcher.call.caller.caller_side import CallerSide
from dispatcher.call.ends import CallEnds
from dispatcher.call.identity import CallIdentity
from dispatcher.call.life import CallLife
from dispatcher.call.sessions.sessions import Sessions
from dispatcher.call.sessions.worker_side import WorkerSide
from dispatcher.call.states import Event, State
from dispatcher.recording.timeline import Timeline


class CallerMessages:
    """Messages of AVR Core to one call. A message that breaks the protocol is ignored, or ends the call."""

    def __init__(
        self,
        out: ActionQueue,
        life: CallLife,
        ends: CallEnds,
        *,
        assignments: Assignments,
        caller: CallerSide,
        identity: CallIdentity,
        sessions: Sessions,
        timeline: Timeline | None,
        worker_side: WorkerSide,
    ) -> None:
        """Take the parts of a call that its messages reach; `timeline` is that of its recording."""
        self._out = out
        self._life = life
        self._ends = ends
        self._assignments = assignments
        self._caller = caller
        self._identity = identity
        self._mute = worker_side.mute
        self._sessions = sessions
        self._timeline = timeline
        self._worker_side = worker_side

    def message(self, data: BytesLike, now_seconds: float) -> None:
        """Take a message, from a text frame or a binary one.

        Unknown types are ignored, as in AVR's connectors, because cores gain types with each release.
        """
        if self._life.state is State.ENDED:
            return
        try:
            self._caller.arrived(1, now_seconds)
            message = protocol.parse(data)
            if isinstance(message, protocol.Audio):
                self._caller_audio(message.pcm, now_seconds)
            elif isinstance(message, protocol.Init):
                self._init(message, now_seconds)
            else:
                self._digit(message.digit, now_seconds)
        except AvrProtocolError as error:
            self._not_understood(error)

    def began(self, uuid: str, now_seconds: float) -> None:
        """Begin a call of the older protocol, whose connection has sent the uuid."""
        try:
            self._init(protocol.checked_init(uuid), now_seconds)
        except AvrProtocolError as error:
            self._not_understood(error)

    def audio(self, pcm: bytes, now_seconds: float, messages: int) -> None:
        """Take audio of the caller: see `Call.audio`."""
        if self._life.state is State.ENDED:
            return
        try:
            self._caller.arrived(messages, now_seconds)
            self._caller_audio(pcm, now_seconds)
        except AvrProtocolError as error:
            self._not_understood(error)

    def _init(self, init: protocol.Init, now_seconds: float) -> None:
        if self._life.state is not State.AWAITING_INIT:
            raise AvrProtocolError("second_init", "a second init in the same connection")
        self._life.enter(Event.INIT)
        self._identity.began(init, now_seconds)
        self._caller.began(now_seconds)
        if self._timeline is not None:
            self._timeline.begin(now_seconds)
        self._sessions.begin(now_seconds)

    def _caller_audio(self, pcm: bytes, now_seconds: float) -> None:
        if self._life.state is State.AWAITING_INIT:
            raise AvrProtocolError("before_init", "audio before init")
        self._caller.audio(pcm, now_seconds)
        if pcm:
            if self._mute.is_on and self._mute.look(now_seconds):
                # The worker, the copy for the next worker, and a recording get silence.
                pcm = bytes(len(pcm))
            if self._timeline is not None:
                self._timeline.caller(pcm, now_seconds)
            may_wait = self._life.state is not State.PARTING
            self._worker_side.send_audio(self._assignments.current, pcm, may_wait=may_wait)

    def _digit(self, digit: str, now_seconds: float) -> None:
        if self._life.state is State.AWAITING_INIT:
            raise AvrProtocolError("before_init", "dtmf_digit before init")
        if self._mute.look(now_seconds):
            # Secret keys are not counted, because their number is part of a PIN.
            self._worker_side.send_secret_key(self._assignments.current, digit, now_seconds)
            return
        self._out.report(Metric.DIGIT)
        self._worker_side.send_digit(self._assignments.current, digit)

    def _not_understood(self, error: AvrProtocolError) -> None:
        """Ignore a message, or end the call because of it."""
        # A call under way ignores an invalid `init` like a second valid one.
        is_late_init = error.reason in protocol.BAD_INIT_REASONS and self._life.state is not State.AWAITING_INIT
        if error.ends_call and not is_late_init:
            self._ends.protocol_broken(error.reason, str(error))
            return
        self._out.report(Metric.BAD_INPUT, label=error.reason)
        if self._caller.is_first_ignored():
            self._out.actions.append(MessageIgnored(error.reason, str(error)))
