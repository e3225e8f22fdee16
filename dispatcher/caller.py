"""The shell around one call: its caller's WebSocket, its channel to a worker, its pin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol as Interface

import structlog
from prometheus_client import Counter
from websockets.typing import BytesLike

from common import link
from common.metrics import DispatcherMetrics
from common.registry import CallLease, NoCapacity, NoCapacityReason
from common.relay_timer import RelayTimer
from common.websocket import WebSocket
from dispatcher import actions, avr, call
from dispatcher.actions import Seen
from dispatcher.ami import Ami, AmiError
from dispatcher.call import Call, State
from dispatcher.front import Front, WebSocketFront
from dispatcher.legacy import LegacyConnection
from dispatcher.links import LinkPool, LinkUnavailable, WorkerLink
from dispatcher.placement import Placed, Placement


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
    def metrics(self) -> DispatcherMetrics:
        """What is measured."""

    def begun(self, caller: Caller) -> int:
        """A connection said which call it is; an older connection of the same call is closed.

        Returns:
            the epoch that the older connection had, 0 if there is none.
        """

    def ended(self, caller: Caller) -> None:
        """The call is over."""


class Caller:
    """Owner of a caller's WebSocket, and of the channel at the dispatcher's end."""

    def __init__(
        self, calls: Calls, metadata: dict[str, str], limits: call.CallLimits, since_seconds: float | None = None
    ) -> None:
        # The time for `init` runs from TCP's accept: it is not one more after that of the handshake.
        self.call = Call(metadata, time.monotonic() if since_seconds is None else since_seconds, limits)
        self.started_at_ms: int | None = None
        self._calls = calls
        self._log = structlog.get_logger()
        self._front: Front | None = None
        self._connection: WebSocket | None = None
        self._link: WorkerLink | None = None
        self._channel = 0
        self._placing: asyncio.Task[None] | None = None
        self._unpinning: asyncio.Task[None] | None = None
        self._executing: asyncio.Task[None] | None = None
        self._relay_in = RelayTimer(calls.metrics.relay_in)
        self._relay_out = RelayTimer(calls.metrics.relay_out)

    @property
    def uuid(self) -> str:
        """The call's uuid; empty before `init`."""
        return self.call.uuid

    @property
    def front(self) -> Front | None:
        """The caller's connection, while there is one."""
        return self._front

    def lease(self) -> CallLease | None:
        """What Redis is to know of the call; None while it is not pinned."""
        held = self.call
        if not held.epoch or held.state in (State.PLACING, State.ENDED):
            return None
        return CallLease(
            held.uuid, held.worker_id, held.epoch, held.state, self.started_at_ms, held.pins, held.metadata
        )

    def tick(self, now_seconds: float) -> None:
        """Look at the clocks."""
        self.call.tick(now_seconds)
        self._act()

    def superseded(self) -> None:
        """Another connection has the call."""
        self.call.superseded()
        self._act()

    def stop(self, reason: str) -> None:
        """End the call because the process ends."""
        self.call.stopped(reason)
        self._act()

    async def settled(self) -> None:
        """Wait until what an ended call began is done: its placing given up, its pin taken out of Redis."""
        for task in (self._placing, self._executing, self._unpinning):
            if task is not None:
                await asyncio.wait([task])

    # Owner of the caller's WebSocket

    def opened(self, connection: WebSocket) -> None:
        """The caller's connection is up."""
        self._connection = connection
        self._front = WebSocketFront(connection)

    def received(self, data: BytesLike, text: bool) -> None:
        """A message of AVR Core."""
        assert self._connection is not None
        received_seconds = self._connection.received_seconds
        self._relay_in.frame(received_seconds)
        try:
            self.call.message(data, text, received_seconds)
        except Exception:
            self._log.exception("a message could not be handled")
            self.call.stopped("internal error")
        self._act()

    def violated(self, code: int, reason: str) -> int:
        """The WebSocket protocol itself was broken: the same end as for AVR's, by the same close code."""
        too_big = code == 1009
        name = "message_too_big" if too_big else "bad_websocket"
        message = f"a message is over {avr.MAX_MESSAGE_BYTES} bytes" if too_big else f"broken WebSocket: {reason}"
        self.call.broke_protocol(name, message)
        self._act(closing=True)
        return 1008

    def writable(self) -> None:
        """AVR Core reads again."""
        self.call.caller_writable(time.monotonic())
        self._act()

    def closed(self, code: int, reason: str) -> None:
        """The caller's connection is gone."""
        self._front = None
        self.call.caller_closed(code)
        self._act()

    # Owner of a connection by the older protocol

    def legacy_began(self, connection: LegacyConnection, uuid: str) -> None:
        """The request's head is here."""
        self._front = connection
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

    # Owner of the channel

    def record(self, kind: int, payload: memoryview, received_seconds: float) -> None:
        """A record of the call's worker."""
        if kind == link.Kind.REPLY_AUDIO:
            self._relay_out.frame(received_seconds)
        self.call.record(kind, payload, time.monotonic())
        self._act()

    def worker_lost(self) -> None:
        """The call's worker is gone."""
        self._link = None
        self.call.worker_lost()
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
                    self.call.stopped("internal error")
            if self._front is not None and self._front.write_paused and not self.call.paused:
                self.call.caller_paused(time.monotonic())

    def _do(self, action: actions.Action, closing: bool) -> None:
        match action:
            case actions.ToWorker(record):
                if self._link is not None:
                    self._link.send(record)
            case actions.Play(frame):
                if self._front is not None:
                    self._front.play(frame)
            case actions.Report(seen, value, label):
                _REPORTS[seen](self._calls.metrics, value, label)
            case actions.Place(epoch, excluded):
                self._place(epoch, excluded)
            case actions.LeaveChannel():
                if self._link is not None:
                    self._link.leave_channel(self._channel)
                    self._link = None
            case actions.Unpin(epoch):
                placement = self._calls.placement
                self._unpinning = asyncio.create_task(placement.unpin(self.uuid, epoch))
            case actions.Execute(order):
                self._executing = asyncio.create_task(self._execute(order))
            case actions.Ended(ending, reason):
                self._ended(ending, reason)
            case _:
                self._to_front(action, closing)

    def _to_front(self, action: actions.ToCaller, closing: bool) -> None:
        if self._front is None:
            return
        match action:
            case actions.Interrupt():
                self._front.interrupt()
            case actions.Tell(role, text):
                self._front.tell(role, text)
            case actions.Complain(message):
                self._front.complain(message)
            case actions.CloseCaller(code, reason):
                if not closing:
                    self._front.close(code, reason)

    async def _execute(self, order: link.Order) -> None:
        """Carry out an order on Asterisk, and say what came of it."""
        ami = self._calls.ami
        try:
            if order.action == link.OrderAction.TRANSFER:
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

    def _place(self, epoch: int, excluded: frozenset[str]) -> None:
        if not self.call.pins and self._placing is None:
            self._log = self._log.bind(uuid=self.uuid)
            epoch = max(epoch, self._calls.begun(self) + 1)
            self._log.info("call began", metadata_entries=len(self.call.metadata))
        self._placing = asyncio.create_task(self._find_worker(epoch, excluded), name=f"place {self.uuid}")

    async def _find_worker(self, epoch: int, excluded: frozenset[str]) -> None:
        """Pin, and open a channel; workers that cannot be reached are left out and the next is asked."""
        try:
            placement, pins = self._calls.placement, self.call.pins
            while self._is_placing():
                placed = await placement.place(self.uuid, epoch, self.call.metadata, excluded, pins)
                if isinstance(placed, NoCapacity):
                    self._not_placed(placed, excluded)
                    return
                worker_link = await self._link_to(placed) if self._is_placing() else None
                if worker_link is not None and self._is_placing():
                    self._placed(placed, worker_link)
                    return
                # Nobody holds the call there: the worker is out of reach, or the caller has hung up meanwhile.
                await placement.unpin(self.uuid, placed.epoch)
                excluded, epoch, pins = excluded | {placed.worker_id}, placed.epoch + 1, placed.pins
        except Exception:
            self._log.exception("no worker could be looked for")
            self.stop("internal error")

    async def _link_to(self, placed: Placed) -> WorkerLink | None:
        try:
            return await self._calls.links.get(placed.worker_id, placed.address)
        except LinkUnavailable as error:
            self._log.warning("worker unreachable", worker=placed.worker_id, reason=str(error))
            return None

    def _is_placing(self) -> bool:
        return self.call.state is State.PLACING

    def _placed(self, placed: Placed, worker_link: WorkerLink) -> None:
        self.started_at_ms = placed.started_at_ms
        self._link = worker_link
        self._channel = worker_link.open_channel(self)
        self._log.info("call pinned", worker=placed.worker_id, epoch=placed.epoch, pins=placed.pins)
        self.call.placed(placed.worker_id, placed.epoch, self._channel, placed.pins, time.monotonic())
        self._act()

    def _not_placed(self, reason: NoCapacity, excluded: frozenset[str]) -> None:
        if not self._is_placing():
            return
        if reason.reason is NoCapacityReason.FULL or self.call.refused_for_capacity:
            self.call.not_placed(1013, "no capacity: every worker has all the calls that it may take")
        elif excluded:
            self.call.not_placed(1011, f"none of the {len(excluded)} workers that were asked took the call")
        else:
            self.call.not_placed(1013, "no capacity: there is no live worker")
        self._act()

    def _ended(self, ending: actions.Ending, reason: str) -> None:
        self._calls.ended(self)
        _OUTCOMES[ending](self._calls.metrics).inc()
        if ending is actions.Ending.COMPLETED:
            self._log.info("call ended", ending=ending.value, reason=reason)
        else:
            self._log.warning("call ended", ending=ending.value, reason=reason)


_OUTCOMES: dict[actions.Ending, Callable[[DispatcherMetrics], Counter]] = {
    actions.Ending.COMPLETED: lambda metrics: metrics.calls_completed,
    actions.Ending.REJECTED: lambda metrics: metrics.calls_rejected,
    actions.Ending.FAILED: lambda metrics: metrics.calls_failed,
}
_REPORTS: dict[Seen, Callable[[DispatcherMetrics, float, str], None]] = {
    Seen.BAD_INPUT: lambda metrics, _, reason: metrics.bad_input.inc(reason),
    Seen.INTERRUPTION: lambda metrics, _, __: metrics.interruptions.inc(),
    Seen.DIGIT: lambda metrics, _, __: metrics.dtmf_digits.inc(),
    Seen.GREETING_SECONDS: lambda metrics, seconds, _: metrics.greeting_latency.observe(seconds),
    Seen.CALLER_AUDIO_DROPPED_SECONDS: lambda metrics, seconds, _: metrics.audio_dropped_in.inc(seconds),
}
