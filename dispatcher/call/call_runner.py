"""The shell around one call: its caller's connection, its channels to workers, its pin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol as Interface

import structlog
from prometheus_client import Counter
from websockets.typing import BytesLike

from common.errors import LinkUnavailable
from common.link import wire
from common.net.websocket import WebSocket
from common.observe.metrics import DispatcherMetrics, FallbackOutcome, RecoveryReason, RepinReason
from common.observe.redaction import CallSecrets, redact, secrets_in
from common.observe.relay_timer import RelayTimer
from common.store.leases import CallLease
from common.store.pins import NoCapacity, NoCapacityReason, Superseded
from dispatcher.asterisk.ami import Ami, AmiError
from dispatcher.asterisk.transfers import Transfers
from dispatcher.avr import protocol
from dispatcher.avr.caller_connection import CallerConnection, WebSocketCallerConnection
from dispatcher.avr.legacy import LegacyConnection
from dispatcher.call import actions
from dispatcher.call.actions import Metric, Purpose
from dispatcher.call.announcements import Announcements
from dispatcher.call.assignment import Assignment, AssignmentState
from dispatcher.call.assignment_channel import AssignmentChannel
from dispatcher.call.call import Call, State
from dispatcher.call.limits import CallLimits
from dispatcher.call.memory import CallMemory
from dispatcher.workers.links import LinkPool, WorkerLink
from dispatcher.workers.placement import Placement

# A Redis that has not answered in this time may be away: meanwhile the workers are asked who has the call.
REDIS_IS_SLOW_SECONDS = 0.05
FIRST_PRIORITY = "1"
TAKEN_OVER = "another connection with the same uuid has taken this call over"


class Calls(Interface):
    """The dispatcher's table of calls."""

    @property
    def links(self) -> LinkPool:
        """Links to the workers."""

    @property
    def placement(self) -> Placement:
        """Where calls are pinned."""

    @property
    def ami(self) -> Ami:
        """Asterisk."""

    @property
    def announcements(self) -> Announcements:
        """What calls may play by themselves."""

    @property
    def transfers(self) -> Transfers:
        """Which calls that cannot go on may be transferred."""

    @property
    def metrics(self) -> DispatcherMetrics:
        """What is measured."""

    def begun(self, caller: CallRunner) -> CallRunner | None:
        """A connection said which call it is; returns who has that call already, if anybody."""

    def publish(self) -> None:
        """Tell Redis soon what this dispatcher holds."""

    def ended(self, caller: CallRunner) -> None:
        """The call is over."""


class CallRunner:
    """Owner of a caller's connection, and of the call's assignments."""

    def __init__(
        self, calls: Calls, metadata: dict[str, str], limits: CallLimits, since_seconds: float | None = None
    ) -> None:
        # The time for `init` runs from TCP's accept: it is not one more after that of the handshake.
        began_seconds = time.monotonic() if since_seconds is None else since_seconds
        self.call = Call(metadata, began_seconds, limits, calls.announcements)
        self.started_at_ms: int | None = None
        # Redis has heard of the call, as of this dispatcher's.
        self.is_published = False
        self._calls = calls
        self._log = structlog.get_logger()
        self._caller_connection: CallerConnection | None = None
        self._connection: WebSocket | None = None
        # Frames of one read; the read bounds them.
        self._arrived: list[bytes] = []
        self._channels: dict[Assignment, AssignmentChannel] = {}
        self._placing: set[asyncio.Task[None]] = set()
        self._unpinning: asyncio.Task[None] | None = None
        self._executing: asyncio.Task[None] | None = None
        self._waking: asyncio.TimerHandle | None = None
        self._began = False
        self._secrets: CallSecrets | None = None
        # Where it was last: worker and epoch.
        self._pinned = ("", 0)
        # What Redis knew when another dispatcher's call was taken up: it may lose that before its worker answers.
        self._copy: CallMemory | None = None
        # The worker that was the newest when the call had to leave one first.
        self._moved_after: int | None = None
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
        """What Redis is to know of the call; None while it is not pinned."""
        held = self.call
        if not held.is_held:
            return None
        return CallLease(
            held.uuid, held.worker_id, held.held_epoch, held.state, self.started_at_ms, held.pins, held.metadata
        )

    def tick(self, now_seconds: float) -> None:
        """Look at the clocks."""
        for assignment in [each for each, channel in self._channels.items() if channel.is_full]:
            self.call.channel_full(assignment, now_seconds)
        self.call.tick(now_seconds)
        self._act()

    def superseded(self) -> None:
        """Another connection has the call."""
        self.call.superseded()
        self._act()

    def fail(self, reason: str) -> None:
        """Give this call up because of a fault: it takes the way out, or ends."""
        self.call.failed(reason, time.monotonic())
        self._act()

    def hang_up(self) -> None:
        """End the call for the calls API."""
        self.call.hang_up()
        self._act()

    async def hang_up_soon(self) -> None:
        """End the call for the calls API, as a command."""
        self.hang_up()

    def stop(self, reason: str) -> None:
        """End the call because the process ends."""
        self.call.stopped(reason)
        self._act()

    def leave(self, reason: str) -> None:
        """The process ends, and others go on: the call waits at its worker for its caller to come back.

        The connection is cut: a core comes back after 1006, and takes a close for the end of the call.
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
        self.call.left(reason)
        self._act()

    async def settled(self) -> None:
        """Wait until what an ended call began is done: its placing given up, its pin taken out of Redis."""
        for task in (*self._placing, self._executing, self._unpinning):
            if task is not None:
                await asyncio.wait([task])

    def take_over(self, newcomer: CallRunner) -> None:
        """Another connection is this call: it takes the place of the one that there is, or was."""
        caller_connection, connection = newcomer._caller_connection, newcomer._connection
        if self._caller_connection is not None:
            self._caller_connection.hand_over(None)
            self._caller_connection.complain(TAKEN_OVER)
            self._caller_connection.close(1008, TAKEN_OVER)
        newcomer._caller_connection = newcomer._connection = None
        assert caller_connection is not None
        self._caller_connection, self._connection = caller_connection, connection
        caller_connection.hand_over(self)
        self._log.info("caller is back", worker=self.call.worker_id)
        self.call.caller_back(time.monotonic())
        self._act()

    # Owner of the caller's WebSocket

    def opened(self, connection: WebSocket) -> None:
        """The caller's connection is up."""
        self._connection = connection
        self._caller_connection = WebSocketCallerConnection(connection)

    def received(self, data: BytesLike, text: bool) -> None:
        """A message of AVR Core."""
        pcm = protocol.plain_audio(data)
        if pcm is not None:
            self._arrived.append(pcm)
            return
        self.caught_up()
        assert self._connection is not None
        try:
            self.call.message(data, self._connection.received_seconds)
        except Exception:
            self._log.exception("a message could not be handled")
            self.call.failed("internal error", time.monotonic())
        self._act()

    def caught_up(self) -> None:
        """Frames that came together go on together."""
        if not self._arrived or self._connection is None:
            return
        arrived, self._arrived = self._arrived, []
        received_seconds = self._connection.received_seconds
        self._relay_in.frame(received_seconds)
        pcm = arrived[0] if len(arrived) == 1 else b"".join(arrived)
        try:
            self.call.audio(pcm, received_seconds, messages=len(arrived))
        except Exception:
            self._log.exception("audio could not be handled")
            self.call.failed("internal error", time.monotonic())
        self._act()

    def violated(self, code: int, reason: str) -> int:
        """The WebSocket protocol itself was broken: the same end as for AVR's, by the same close code."""
        too_big = code == 1009
        name = "message_too_big" if too_big else "bad_websocket"
        message = (
            f"a message is over {protocol.MAX_MESSAGE_BYTES} bytes" if too_big else f"broken WebSocket: {reason}"
        )
        self.call.broke_protocol(name, message)
        self._act(closing=True)
        return 1008

    def writable(self) -> None:
        """AVR Core reads again."""
        self.call.caller_writable(time.monotonic())
        self._act()

    def closed(self, code: int, reason: str) -> None:
        """The caller's connection is gone."""
        may_return = self._caller_connection is not None and self._caller_connection.may_return
        self._caller_connection = None
        self.call.caller_closed(code, time.monotonic(), may_return=may_return)
        if self.call.is_away:
            self._log.warning("caller's connection lost", code=code, effect="the call waits for it to come back")
        self._act()

    # Owner of a connection by the older protocol

    def legacy_began(self, connection: LegacyConnection, uuid: str) -> None:
        """The request's head is here."""
        self._caller_connection = connection
        self.call.began(uuid, connection.received_seconds)
        self._act()

    def legacy_audio(self, pcm: bytes, received_seconds: float) -> None:
        """Caller's audio."""
        self._relay_in.frame(received_seconds)
        self.call.audio(pcm, received_seconds)
        self._act()

    def legacy_broken(self, reason: str, message: str) -> None:
        """The request broke HTTP."""
        self.call.broke_protocol(reason, message)
        self._act()

    # Owner of assignments' channels

    def assignment_record(
        self, assignment: Assignment, kind: int, payload: memoryview, received_seconds: float
    ) -> None:
        """Handle a record of a worker of the call."""
        if kind == wire.Kind.REPLY_AUDIO:
            self._relay_out.frame(received_seconds)
        asked = assignment.state is AssignmentState.OPENING
        self.call.record(assignment, kind, payload, time.monotonic())
        if kind == wire.Kind.PROFILE and self._secrets is not None and self.call.memory.profile is not None:
            self._secrets.keep(secrets_in(self.call.memory.profile.secrets))
        if asked and assignment.state is not AssignmentState.OPENING:
            self._copy = None
        self._act()

    def assignment_broke(self, assignment: Assignment) -> None:
        """Note that the link to an assignment's worker broke, and another one is looked for."""
        self.call.link_broke(assignment)

    def assignment_lost(self, assignment: Assignment) -> None:
        """Recover the call: an assignment's worker is gone."""
        self.call.worker_lost(assignment, time.monotonic())
        self._log.warning(
            "worker lost", worker=assignment.worker_id, epoch=assignment.epoch, state=self.call.state.value
        )
        self._act()

    # Actions

    def _act(self, *, closing: bool = False) -> None:
        """Do what the call wants; `closing`: the WebSocket layer closes the connection by itself.

        What cannot be done ends the call; it never raises.
        """
        while self.call.actions:
            actions, self.call.actions = self.call.actions, []
            for action in actions:
                try:
                    self._do(action, closing)
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
        # What comes with every frame is told from the rest by its type alone: a pattern costs four times as much.
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
            case actions.Measurement(seen, value, label):
                _REPORTS[seen](self._calls.metrics, value, label)
            case actions.Place():
                self._place(action)
            case actions.LeaveChannel(assignment):
                channel = self._channels.pop(assignment, None)
                if channel is not None:
                    channel.leave()
            case actions.Publish():
                self._published()
            case actions.Unpin(epoch):
                placement = self._calls.placement
                self._unpinning = asyncio.create_task(placement.unpin(self.uuid, epoch))
            case actions.Execute(order):
                self._executing = asyncio.create_task(self._execute(order))
            case actions.Wake(at_seconds):
                delay_seconds = max(0.0, at_seconds - time.monotonic())
                self._waking = asyncio.get_running_loop().call_later(delay_seconds, self._wake)
            case actions.TransferAway(extension, context):
                self._executing = asyncio.create_task(self._transfer_away(extension, context))
            case actions.TookWayOut(outcome, cause):
                self._calls.metrics.fallbacks[outcome].inc()
                self._log.warning("call could not go on", cause=cause, outcome=outcome.value)
            case actions.PassedOver(reason, message):
                effect = "messages that are not understood are passed over and counted"
                self._log.warning("message not understood", reason=reason, detail=message, effect=effect)
            case actions.Ended(ending, reason):
                self._ended(ending, reason)
            case _:
                self._to_caller_connection(action, closing)

    def _published(self) -> None:
        """A worker has the call now. One that stands by has it when it goes on."""
        pinned = (self.call.worker_id, self.call.held_epoch)
        if pinned != self._pinned:
            self._pinned = pinned
            worker_id, epoch = pinned
            self._log.info("call pinned", worker=worker_id, epoch=epoch, pins=self.call.pins)
        self._calls.publish()

    def _to_caller_connection(self, action: actions.Action, closing: bool) -> None:
        if self._caller_connection is None:
            return
        match action:
            case actions.Interrupt():
                self._caller_connection.interrupt()
            case actions.Tell(role, text):
                self._caller_connection.tell(role, text)
            case actions.Complain(message):
                self._caller_connection.complain(redact(message, self.uuid))
            case actions.CloseCaller(code, reason):
                if not closing:
                    self._caller_connection.close(code, redact(reason, self.uuid))

    async def _execute(self, order: wire.TelephonyCommand) -> None:
        """Carry out an order on Asterisk, and say what came of it."""
        ami = self._calls.ami
        try:
            if order.action == wire.TelephonyAction.TRANSFER:
                message = await ami.transfer(self.uuid, order.extension, order.context, order.priority)
            else:
                message = await ami.hang_up(self.uuid)
        except AmiError as error:
            self._log.error("order failed", action=order.action, reason=str(error))
            self.call.executed(order, False, str(error), time.monotonic())
        else:
            self._log.info("order carried out", action=order.action)
            self.call.executed(order, True, message, time.monotonic())
        self._act()

    async def _transfer_away(self, extension: str, context: str) -> None:
        """Transfer a call that cannot go on, if that is allowed, and say what came of it."""
        outcome = FallbackOutcome.FAILED
        try:
            refusal = await self._calls.transfers.refusal(self.call.metadata.get("from", ""))
            if refusal is not None:
                outcome = FallbackOutcome.REFUSED
                self._log.warning("call not transferred", reason=refusal)
            elif self.call.state is not State.ENDED:
                await self._calls.ami.transfer(self.uuid, extension, context, FIRST_PRIORITY)
                outcome = FallbackOutcome.TRANSFERRED
            else:
                outcome = FallbackOutcome.HUNG_UP
        except AmiError as error:
            self._log.error("call not transferred", reason=str(error))
        except Exception:
            self._log.exception("call not transferred")
        self.call.transferred_away(outcome, time.monotonic())
        self._act()

    def _wake(self) -> None:
        self.call.wake(time.monotonic())
        self._act()

    def _place(self, wanted: actions.Place) -> None:
        if wanted.purpose is Purpose.BEGIN and not self._began:
            self._began = True
            self._log = self._log.bind(uuid=self.uuid)
            older = self._calls.begun(self)
            if older is not None:
                older.take_over(self)
                self.call.absorbed()
                return
            self._secrets = CallSecrets(self.uuid)
            self._secrets.keep(secrets_in(self.call.provider_config))
            self._log.info("call began", metadata_entries=len(self.call.metadata))
        elif wanted.purpose is not Purpose.BEGIN:
            self._log.warning("another session is needed", purpose=wanted.purpose.value, epoch=wanted.epoch)
        task = asyncio.create_task(self._find_worker(wanted), name=f"place {self.uuid}")
        self._placing.add(task)
        task.add_done_callback(self._placing.discard)

    async def _find_worker(self, wanted: actions.Place) -> None:
        """Pin, and open a channel; workers that cannot be reached are left out and the next is asked."""
        try:
            known = self._calls.links.up(wanted.same_worker)
            if known is not None:
                # It has the call's slot already. Redis hears of the new epoch by the next renewal.
                self._placed(wanted, Assignment(wanted.same_worker, wanted.epoch, self.call.pins), known)
            else:
                await self._search(wanted)
        except Exception:
            self._log.exception("no worker could be looked for")
            self.fail("internal error")

    async def _search(self, wanted: actions.Place) -> None:
        placement, purpose = self._calls.placement, wanted.purpose
        excluded, epoch, pins = wanted.excluded, wanted.epoch, self.call.pins
        # Whether a caller was here before, at another dispatcher, the workers know where Redis does not.
        returns = self.call.memory.is_empty and (purpose is Purpose.RECOVER or placement.redis_is_away)
        if returns and await self._found_holder(wanted):
            return
        while self.call.wants(purpose):
            if purpose is Purpose.MOVE:
                if self._moved_after is None:
                    self._moved_after = placement.newest_worker
                found: Assignment | NoCapacity | Superseded = placement.choose(
                    epoch, excluded, pins, newer_than=self._moved_after
                )
            else:
                # A call that is older than this dispatcher has lost its session, too.
                recovers = purpose is Purpose.RECOVER or self.call.memory.is_recalled
                pinning = asyncio.ensure_future(
                    placement.place(
                        self.uuid,
                        epoch,
                        self.call.metadata,
                        excluded,
                        pins,
                        recovers=recovers,
                        known_epoch=self.call.held_epoch if self.is_published else None,
                    )
                )
                done, _ = await asyncio.wait({pinning}, timeout=REDIS_IS_SLOW_SECONDS)
                # It is slow, or was found to be away just now.
                unknown = not done or (placement.redis_is_away and not returns)
                if unknown and purpose is Purpose.BEGIN and await self._found_holder(wanted):
                    # What Redis may say yet is older than this.
                    return
                found = await pinning
            if isinstance(found, Superseded):
                # The caller has come back at another dispatcher.
                if self.call.wants(purpose):
                    self.superseded()
                return
            if isinstance(found, NoCapacity):
                if purpose is Purpose.BEGIN and await self._recalled():
                    continue
                self._not_placed(purpose, found, excluded)
                return
            worker_link = await self._link_to(found.worker_id, found.address) if self.call.wants(purpose) else None
            if worker_link is not None and not found.attach and (found.pins > 1 or self._copy is not None):
                await self._recalled()
            self.call.epoch = max(self.call.epoch, found.epoch)
            if not self.call.wants(purpose):
                # The caller has hung up meanwhile, say. A call that ended is not to be left in Redis.
                if self.call.state is State.ENDED and purpose is not Purpose.MOVE:
                    await placement.unpin(self.uuid, found.epoch)
                return
            if worker_link is not None and worker_link.is_open:
                self._placed(wanted, found, worker_link)
                if found.attach:
                    await self._keep_copy()
                return
            if purpose is Purpose.BEGIN and found.pins == 1 and not found.attach:
                # A worker that was never reached has held nothing, unless the call is older than this dispatcher.
                await placement.unpin(self.uuid, found.epoch)
            else:
                pins = found.pins
            excluded, epoch = excluded | {found.worker_id}, found.epoch + 1

    async def _recalled(self) -> bool:
        """Whether the call is older than this dispatcher: the one that had it is gone, and its worker too."""
        if not self.call.memory.is_empty:
            return False
        memory = await self._calls.placement.recall(self.uuid) or self._copy
        if memory is None:
            return False
        self.call.restored(memory, time.monotonic())
        return True

    async def _keep_copy(self) -> None:
        """Until the worker says that it goes on: it may hang."""
        copy = await self._calls.placement.recall(self.uuid)
        if self.call.state is State.OPENING:
            self._copy = copy

    async def _found_holder(self, wanted: actions.Place) -> bool:
        """Whether a worker says that it has a session of the call: it goes on there."""
        holder = await self._calls.links.holder(self.uuid)
        if holder is None:
            return False
        worker_id, address, held_epoch = holder
        known = await self._link_to(worker_id, address)
        if known is None or not self.call.wants(wanted.purpose):
            return False
        epoch = max(wanted.epoch, held_epoch + 1)
        pins = max(1, self.call.pins)
        self._placed(wanted, Assignment(worker_id, epoch, pins, address, attach=True), known)
        return True

    async def _link_to(self, worker_id: str, address: str) -> WorkerLink | None:
        try:
            return await self._calls.links.get(worker_id, address)
        except LinkUnavailable as error:
            self._log.warning("worker unreachable", worker=worker_id, reason=str(error))
            return None

    def _placed(self, wanted: actions.Place, assignment: Assignment, worker_link: WorkerLink) -> None:
        if not self.call.wants(wanted.purpose):
            return
        if assignment.started_at_ms is not None:
            self.started_at_ms = assignment.started_at_ms
            self.is_published = True
        self._channels[assignment] = AssignmentChannel(self, worker_link, assignment)
        self.call.placed(assignment, time.monotonic())
        self._act()

    def _not_placed(self, purpose: Purpose, reason: NoCapacity, excluded: frozenset[str]) -> None:
        if not self.call.wants(purpose):
            return
        now = time.monotonic()
        if reason.reason is NoCapacityReason.FULL or self.call.refused_for_capacity:
            self.call.not_placed(1013, "no capacity: every worker has all the calls that it may take", now)
        elif excluded:
            self.call.not_placed(1011, f"none of the {len(excluded)} workers that were asked took the call", now)
        elif self._calls.placement.redis_is_away:
            # There may be workers, but this dispatcher has no table of them.
            message = "no worker is known, because Redis is away"
            self.call.not_placed(1011, message, now, is_known=False)
        else:
            self.call.not_placed(1013, "no capacity: there is no live worker", now)
        self._act()

    def _ended(self, ending: actions.Ending, reason: str) -> None:
        if self._waking is not None:
            self._waking.cancel()
        self._calls.ended(self)
        if ending is not actions.Ending.MOVED:
            _OUTCOMES[ending](self._calls.metrics).inc()
        if ending in (actions.Ending.COMPLETED, actions.Ending.MOVED):
            self._log.info("call ended", ending=ending.value, reason=reason)
        else:
            self._log.warning("call ended", ending=ending.value, reason=reason)
        if self._secrets is not None:
            self._secrets.close()


_OUTCOMES: dict[actions.Ending, Callable[[DispatcherMetrics], Counter]] = {
    actions.Ending.COMPLETED: lambda metrics: metrics.calls_completed,
    actions.Ending.REJECTED: lambda metrics: metrics.calls_rejected,
    actions.Ending.FAILED: lambda metrics: metrics.calls_failed,
}


def _repinned(metrics: DispatcherMetrics, reason: str) -> None:
    # A worker of a newer release may have reasons that this one does not count.
    if reason in {each.value for each in RepinReason}:
        metrics.repins[RepinReason(reason)].inc()


def _recovered(metrics: DispatcherMetrics, seconds: float, reason: str) -> None:
    if reason in {each.value for each in RecoveryReason}:
        metrics.recovery[RecoveryReason(reason)].observe(seconds)


_REPORTS: dict[Metric, Callable[[DispatcherMetrics, float, str], None]] = {
    Metric.BAD_INPUT: lambda metrics, _, reason: metrics.bad_input.inc(reason),
    Metric.INTERRUPTION: lambda metrics, _, __: metrics.interruptions.inc(),
    Metric.DIGIT: lambda metrics, _, __: metrics.dtmf_digits.inc(),
    Metric.GREETING_SECONDS: lambda metrics, seconds, _: metrics.greeting_latency.observe(seconds),
    Metric.CALLER_AUDIO_DROPPED_SECONDS: lambda metrics, seconds, _: metrics.audio_dropped_in.inc(seconds),
    Metric.REPIN: lambda metrics, _, reason: _repinned(metrics, reason),
    Metric.RECOVERY_SECONDS: _recovered,
}
