"""The shell around one call: its caller's connection, its channels to workers, its pin."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable

import structlog
from websockets.typing import BytesLike

from common.errors import IllegalTransition
from common.link import wire
from common.net.websocket import WebSocket
from common.observe.metrics import FallbackOutcome
from common.observe.redaction import CallSecrets, redact, secrets_in
from common.observe.relay_timer import RelayTimer
from common.store.leases import CallLease
from dispatcher.avr import protocol
from dispatcher.avr.caller_connection import CallerConnection, WebSocketCallerConnection
from dispatcher.avr.legacy import LegacyConnection
from dispatcher.call import actions
from dispatcher.call.actions import Purpose
from dispatcher.call.assignment import Assignment, AssignmentState
from dispatcher.call.call import Call
from dispatcher.call.limits import CallLimits
from dispatcher.recording.recorder import NoRecorder
from dispatcher.runner.assignment_channel import AssignmentChannel
from dispatcher.runner.asterisk_runner import AsteriskRunner
from dispatcher.runner.call_end import note_end
from dispatcher.runner.calls import Calls
from dispatcher.runner.measurements import measure_duration, report
from dispatcher.runner.record_side import RecordSide
from dispatcher.runner.worker_finder import WorkerFinder
from dispatcher.workers.links import WorkerLink
from dispatcher.workers.placement_search import NotPlaced

TAKEN_OVER = "another connection with the same uuid has taken this call over"


class CallRunner:
    """Shell of one call: owner of its caller's connection and of its assignments' channels.

    Attributes:
        call: the call.
        record: what the call will leave behind.
        recorder: of the call's sound.
        started_at_ms: when the call was pinned first, by the clock of Redis; None where Redis did not say.
        is_published: Redis knows the call as this dispatcher's.
    """

    def __init__(
        self,
        calls: Calls[CallRunner],
        metadata: dict[str, str],
        limits: CallLimits,
        since_seconds: float | None = None,
        *,
        traceparent: str = "",
    ) -> None:
        # The time limit of `init` includes the handshake, so it begins with TCP's accept.
        began_seconds = time.monotonic() if since_seconds is None else since_seconds
        self.recorder = NoRecorder() if calls.recordings is None else calls.recordings.recorder()
        timeline = self.recorder.timeline
        self.call = Call(metadata, began_seconds, limits, calls.announcements, timeline, tenants=calls.tenants)
        self.started_at_ms: int | None = None
        self.is_published = False
        self._calls = calls
        self._log = structlog.get_logger()
        self._caller_connection: CallerConnection | None = None
        # Frames of one read; the read bounds them.
        self._arrived: list[bytes] = []
        self._channels: dict[Assignment, AssignmentChannel] = {}
        self._finder = WorkerFinder(self, self.call, calls.placement, calls.links)
        self._unpinning: asyncio.Task[None] | None = None
        self._asterisk = AsteriskRunner(self, self.call, calls.ami, calls.transfers)
        self._waking: asyncio.TimerHandle | None = None
        self._began = False
        self._secrets: CallSecrets | None = None
        # Worker and epoch that were logged last.
        self._pinned = ("", 0)
        self.record = RecordSide(calls.records, self.call, self.recorder.segments, calls.tracer, traceparent)
        self._recording: asyncio.Task[None] | None = None
        self._relay_in = RelayTimer(calls.metrics.relay_in)
        self._relay_out = RelayTimer(calls.metrics.relay_out)

    @property
    def uuid(self) -> str:
        """The call's uuid; empty before `init`."""
        return self.call.uuid

    @property
    def caller_connection(self) -> CallerConnection | None:
        """The caller's connection, while there is one."""
        return self._caller_connection

    def lease(self) -> CallLease | None:
        """Return the call as Redis is to know it; None while it is not pinned."""
        held = self.call
        if not held.is_held:
            return None
        assignments = held.assignments
        return CallLease(
            held.uuid,
            assignments.worker_id,
            assignments.held_epoch,
            held.state,
            self.started_at_ms,
            assignments.pins,
            held.identity.metadata,
            held.identity.tenant,
        )

    def tick(self, now_seconds: float) -> None:
        """Look at the clocks."""
        for assignment in [each for each, channel in self._channels.items() if channel.is_full]:
            self._handle(functools.partial(self.call.channel_full, assignment, now_seconds))
        self._handle(functools.partial(self.call.tick, now_seconds))
        self.recorder.tick(now_seconds)

    def superseded(self) -> None:
        """End the call here: another connection has it."""
        self._handle(self.call.superseded)

    def fail(self, reason: str) -> None:
        """Give this call up because of a fault: it takes the way out, or ends."""
        self._handle(lambda: self.call.failed(reason, time.monotonic()))

    def hang_up(self) -> None:
        """End the call for the calls API."""
        self._handle(self.call.hang_up)

    async def hang_up_soon(self) -> None:
        """End the call for the calls API, as a command."""
        self.hang_up()

    def stop(self, reason: str) -> None:
        """End the call because the process ends."""
        self._handle(lambda: self.call.stopped(reason))

    def leave(self, reason: str) -> None:
        """Leave the call to its worker until its caller reconnects elsewhere, because this process ends.

        The connection is aborted: a core reconnects after 1006, and ends the call after a closing handshake.
        """
        if not self.call.may_be_left or (
            self._caller_connection is not None and not self._caller_connection.may_return
        ):
            self.stop(reason)
            return
        caller_connection, self._caller_connection = self._caller_connection, None
        if caller_connection is not None:
            caller_connection.hand_over(None)
            caller_connection.abort()
        self._handle(lambda: self.call.left(reason))

    async def settled(self) -> None:
        """Wait until the tasks of an ended call are done: its searches given up, its pin taken out of Redis."""
        await self._finder.settled()
        await self._asterisk.settled()
        waits = [task for task in (self._unpinning, self._recording) if task is not None]
        if waits:
            await asyncio.wait(waits)

    def take_over(self, newcomer: CallRunner) -> None:
        """Go on with the connection of another runner, which has said that it is this call."""
        caller_connection, newcomer._caller_connection = newcomer._caller_connection, None
        if self._caller_connection is not None:
            self._caller_connection.hand_over(None)
            self._caller_connection.send_error(TAKEN_OVER)
            self._caller_connection.close(1008, TAKEN_OVER)
        assert caller_connection is not None
        self._caller_connection = caller_connection
        caller_connection.hand_over(self)
        self._log.info("caller is back", worker=self.call.assignments.worker_id)
        self._handle(lambda: self.call.caller_back(time.monotonic()))

    # Owner of the caller's WebSocket

    def opened(self, connection: WebSocket) -> None:
        """Take the caller's WebSocket, which is up."""
        self.connected(WebSocketCallerConnection(connection))

    def connected(self, caller_connection: CallerConnection) -> None:
        """Take the caller's connection, which is up."""
        self._caller_connection = caller_connection

    def received(self, data: BytesLike, text: bool) -> None:
        """Take a message of AVR Core; frames of audio wait for the others that came with them."""
        pcm = protocol.plain_audio(data)
        if pcm is not None:
            self._arrived.append(pcm)
            return
        self.caught_up()
        assert self._caller_connection is not None
        try:
            self.call.message(data, self._caller_connection.received_seconds)
        except IllegalTransition as error:
            self._repair(error)
        except Exception:
            self._log.exception("a message could not be handled")
            self.call.failed("internal error", time.monotonic())
        self._act()

    def caught_up(self) -> None:
        """Hand on frames of audio that came together, together."""
        if not self._arrived or self._caller_connection is None:
            return
        arrived, self._arrived = self._arrived, []
        received_seconds = self._caller_connection.received_seconds
        self._relay_in.frame(received_seconds)
        pcm = arrived[0] if len(arrived) == 1 else b"".join(arrived)
        try:
            self.call.audio(pcm, received_seconds, messages=len(arrived))
        except IllegalTransition as error:
            self._repair(error)
        except Exception:
            self._log.exception("audio could not be handled")
            self.call.failed("internal error", time.monotonic())
        self._act()

    def violated(self, code: int, reason: str) -> int:
        """End the call as for a breach of AVR's protocol: the WebSocket protocol itself was broken."""
        too_big = code == 1009
        name = "message_too_big" if too_big else "bad_websocket"
        message = (
            f"a message is over {protocol.MAX_MESSAGE_BYTES} bytes" if too_big else f"broken WebSocket: {reason}"
        )
        self._handle(lambda: self.call.broke_protocol(name, message), closing=True)
        return 1008

    def writable(self) -> None:
        """Send held messages, as AVR Core reads again."""
        self._handle(lambda: self.call.caller_writable(time.monotonic()))

    def closed(self, code: int, reason: str) -> None:
        """Note that the caller's connection is gone."""
        may_return = self._caller_connection is not None and self._caller_connection.may_return
        self._caller_connection = None
        self._handle(lambda: self._closed(code, may_return))

    def _closed(self, code: int, may_return: bool) -> None:
        self.call.caller_closed(code, time.monotonic(), may_return=may_return)
        if self.call.is_away:
            self._log.warning("caller's connection lost", code=code, effect="the call waits for it to come back")

    # Owner of a connection by the older protocol

    def legacy_began(self, connection: LegacyConnection, uuid: str) -> None:
        """Begin the call of a request, the head of which has come."""
        self._caller_connection = connection
        self._handle(lambda: self.call.began(uuid, connection.received_seconds))

    def legacy_audio(self, pcm: bytes, received_seconds: float) -> None:
        """Take audio of the caller."""
        self._relay_in.frame(received_seconds)
        try:
            self.call.audio(pcm, received_seconds)
        except IllegalTransition as error:
            self._repair(error)
        self._act()

    def legacy_broken(self, reason: str, message: str) -> None:
        """End the call, because its request broke HTTP."""
        self._handle(lambda: self.call.broke_protocol(reason, message))

    # Owner of assignments' channels

    def assignment_record(
        self, assignment: Assignment, kind: int, payload: memoryview, received_seconds: float
    ) -> None:
        """Handle a record of a worker of the call."""
        if kind == wire.Kind.REPLY_AUDIO:
            self._relay_out.frame(received_seconds)
        elif kind == wire.Kind.FIGURES:
            self.record.figures(payload)
            return
        asked = assignment.state is AssignmentState.OPENING
        try:
            self.call.record(assignment, kind, payload, time.monotonic())
        except IllegalTransition as error:
            self._repair(error)
        if kind == wire.Kind.PROFILE and self._secrets is not None and self.call.memory.profile is not None:
            self._secrets.keep(secrets_in(self.call.memory.profile.secrets))
        if asked and assignment.state is not AssignmentState.OPENING:
            self._finder.answered()
        self._act()

    def assignment_broke(self, assignment: Assignment) -> None:
        """Note that the link to an assignment's worker broke, and another one is looked for."""
        self.call.link_broke(assignment)

    def assignment_lost(self, assignment: Assignment) -> None:
        """Recover the call: an assignment's worker is gone."""
        self._handle(lambda: self._lost(assignment))

    def _lost(self, assignment: Assignment) -> None:
        self.record.worker_lost(assignment)
        self.call.worker_lost(assignment, time.monotonic())
        self._log.warning(
            "worker lost", worker=assignment.worker_id, epoch=assignment.epoch, state=self.call.state.value
        )

    # Owner of the searches for workers

    def placed(self, assignment: Assignment, worker_link: WorkerLink) -> None:
        """Give the call to a worker."""
        if assignment.started_at_ms is not None:
            self.started_at_ms = assignment.started_at_ms
            self.is_published = True
        self.record.placed(assignment)
        self._channels[assignment] = AssignmentChannel(self, worker_link, assignment)
        self._handle(lambda: self.call.placed(assignment, time.monotonic()))
        is_older = assignment.attach or self.call.memory.is_recalled
        self.recorder.placed(self.call.identity.began_seconds, is_older=is_older)
        if assignment not in self.call.hand_over.all_assignments():
            # The call could not take it, and has said why.
            self._leave_channel(assignment)

    def not_placed(self, outcome: NotPlaced) -> None:
        """Note that no worker can take the call now."""
        code, message, is_known = outcome
        self._handle(lambda: self.call.not_placed(code, message, time.monotonic(), is_known=is_known))

    # Owner of the commands to Asterisk

    def executed(self, command: wire.TelephonyCommand, ok: bool, message: str) -> None:
        """Note the result of a command at avr-ami."""
        self._handle(lambda: self.call.executed(command, ok, message, time.monotonic()))

    def transferred_away(self, outcome: FallbackOutcome) -> None:
        """Note the outcome of the transfer of a call on its way out."""
        self._handle(lambda: self.call.transferred_away(outcome, time.monotonic()))

    # Events

    def _handle(self, event: Callable[[], None], *, closing: bool = False) -> None:
        """Give an event to the call, and carry out its actions; `closing` as in `_act`."""
        try:
            event()
        except IllegalTransition as error:
            self._repair(error)
        self._act(closing=closing)

    def _repair(self, error: IllegalTransition) -> None:
        """Continue the call in another session, because its state is not to be trusted."""
        self._log.error(
            "illegal transition",
            machine=error.machine,
            state=error.state,
            transition=error.event,
            effect="the call continues in another session, at most twice",
            exc_info=error,
        )
        self._calls.metrics.illegal_transitions.inc()
        try:
            self.call.repair(time.monotonic())
        except IllegalTransition:
            self._log.exception("a call could not be repaired")
            self.call.failed("internal error", time.monotonic())

    # Actions

    def _act(self, *, closing: bool = False) -> None:
        """Carry out the actions of the call; a failed action ends the call, and raises nothing.

        Args:
            closing: the WebSocket layer closes the connection by itself.
        """
        while self.call.actions:
            actions, self.call.actions = self.call.actions, []
            for action in actions:
                try:
                    self._do(action, closing)
                except IllegalTransition as error:
                    self._repair(error)
                except Exception:
                    self._log.exception("an action failed", action=type(action).__name__)
                    self.call.failed("internal error", time.monotonic())
            if (
                self._caller_connection is not None
                and self._caller_connection.write_paused
                and not self.call.paused
            ):
                self.call.caller_paused(time.monotonic())

    def _do(self, action: actions.Action, closing: bool) -> None:
        # Actions of every frame are told from the rest by their type alone: a pattern costs four times as much.
        if type(action) is actions.ToWorker:
            channel = self._channels.get(action.assignment)
            if channel is not None:
                channel.send(action.record, action.counted)
        elif type(action) is actions.Play:
            if self._caller_connection is not None:
                self._caller_connection.play(action.pcm)
        else:
            self._rarer(action, closing)

    def _rarer(self, action: actions.Action, closing: bool) -> None:
        match action:
            case actions.Measurement():
                report(self._calls.metrics, action)
                self.record.measured(action)
            case actions.Place():
                self._place(action)
            case actions.LeaveChannel(assignment):
                self._leave_channel(assignment)
            case actions.Publish():
                self._published()
            case actions.Unpin(epoch):
                placement = self._calls.placement
                self._unpinning = asyncio.create_task(placement.unpin(self.uuid, epoch))
            case actions.Execute(command):
                self._asterisk.execute(command)
            case actions.Wake(at_seconds):
                delay_seconds = max(0.0, at_seconds - time.monotonic())
                self._waking = asyncio.get_running_loop().call_later(delay_seconds, self._wake)
            case actions.TransferAway():
                self._asterisk.transfer_away(action)
            case actions.TookWayOut(outcome, cause):
                self._calls.metrics.fallbacks[outcome].inc()
                self._log.warning("call could not go on", cause=cause, outcome=outcome.value)
            case actions.MessageIgnored(reason, message):
                effect = "such messages are ignored and counted"
                self._log.warning("message not understood", reason=reason, detail=message, effect=effect)
            case actions.Ended(ending, reason):
                self._ended(ending, reason)
            case _:
                self._to_caller_connection(action, closing)

    def _leave_channel(self, assignment: Assignment) -> None:
        channel = self._channels.pop(assignment, None)
        if channel is not None:
            channel.leave()

    def _published(self) -> None:
        """Publish to Redis that a worker has the call; a standby has it only when it takes the call."""
        pinned = (self.call.assignments.worker_id, self.call.assignments.held_epoch)
        if pinned != self._pinned:
            self._pinned = pinned
            worker_id, epoch = pinned
            self._log.info("call pinned", worker=worker_id, epoch=epoch, pins=self.call.assignments.pins)
        self._calls.publish(self)

    def _to_caller_connection(self, action: actions.Action, closing: bool) -> None:
        if self._caller_connection is None:
            return
        match action:
            case actions.Interrupt():
                self._caller_connection.interrupt()
            case actions.SendTranscript(role, text):
                self._caller_connection.send_transcript(role, text)
                self.record.heard(role, text)
            case actions.SendError(message):
                self._caller_connection.send_error(redact(message, self.uuid))
            case actions.CloseCaller(code, reason):
                if not closing:
                    self._caller_connection.close(code, redact(reason, self.uuid))

    def _wake(self) -> None:
        self._handle(lambda: self.call.wake(time.monotonic()))

    def _place(self, wanted: actions.Place) -> None:
        if wanted.purpose is Purpose.BEGIN and not self._began:
            self._began = True
            self._log = self._log.bind(uuid=self.uuid)
            older = self._calls.begun(self)
            if older is not None:
                older.take_over(self)
                self.call.absorbed()
                return
            self.record.began()
            self.recorder.begin(self.uuid)
            self._secrets = CallSecrets(self.uuid)
            self._secrets.keep(secrets_in(self.call.identity.provider_config))
            entries = len(self.call.identity.metadata)
            self._log.info("call began", metadata_entries=entries, **self.record.log_fields())
        elif wanted.purpose is not Purpose.BEGIN:
            self._log.warning("another session is needed", purpose=wanted.purpose.value, epoch=wanted.epoch)
        self._finder.find(wanted)

    def _ended(self, ending: actions.Ending, reason: str) -> None:
        if self._waking is not None:
            self._waking.cancel()
        self.recorder.end(time.monotonic(), moved=ending is actions.Ending.MOVED)
        self._calls.ended(self)
        note_end(self.call, ending, reason, metrics=self._calls.metrics, log=self._log)
        if self.record.is_recorded and ending is not actions.Ending.MOVED:
            self._recording = asyncio.create_task(self._leave_record(ending, reason), name=f"record {self.uuid}")
        elif self._secrets is not None:
            self._secrets.close()

    async def _leave_record(self, ending: actions.Ending, reason: str) -> None:
        seconds = await self.record.ended(ending, reason)
        measure_duration(self._calls.metrics, ending, seconds, self.call.identity.tenant)
        if self._secrets is not None:
            self._secrets.close()
