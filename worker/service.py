"""The worker: it accepts dispatchers' links, and keeps the table of its calls."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http
import socket
import time
from collections.abc import Awaitable, Callable

import structlog
from websockets.http11 import Request

from common.errors import LinkProtocolError, RegistryUnavailable
from common.link import wire
from common.link.link_end import LINK_LIMITS, LinkEnd
from common.link.wire import Hello, Kind, Refusal
from common.net.listener import Listener
from common.net.tls import Tls
from common.net.tokens import Token
from common.net.websocket_server import serve
from common.observe.line_limit import LineLimit, shown
from common.observe.metrics import LastingTask
from common.runtime.lasting_task import repeat
from common.store.leases import CallLease, WorkerRecord, WorkerState
from common.store.registry import NOBODY, OVER_CAPACITY, Registry
from worker.audio.resample import prepare
from worker.session.session_runner import Resources, SessionRunner

log = structlog.get_logger()

TICK_SECONDS = 0.2
# A worker that is not heard of for this time gets no new calls. Its running ones are judged by their links.
LEASE_SECONDS = 3.0
HEARTBEAT_SECONDS = 1.0
# Redis answers, and this worker's record is older than this: its heartbeat fails, so that no call finds it.
UNREADY_SECONDS = 3 * LEASE_SECONDS
# The state of a call that waits for a dispatcher; they have others (dispatcher/call/call.py).
WAITING = "waiting"
# An event loop that has not run for so long may have lost its calls to other workers: a dispatcher finds a worker
# dead no sooner than 2.05 s after its last sign of life (common/link/link_end.py).
STALL_SECONDS = 2.0
# Of the time that there is for draining: then calls leave, quiet or not.
MOVED_PART = 0.8
# `stop` has to be done within the time that a process has to stop (common/runtime/process.py).
STOP_SECONDS = 0.5


# Records that no call is there to take.
_TO_THE_WORKER: dict[int, type[wire.Command | wire.Open | wire.Attach]] = {
    Kind.COMMAND: wire.Command,
    Kind.OPEN: wire.Open,
    Kind.ATTACH: wire.Attach,
}


class DispatcherLink:
    """A dispatcher's link at the worker's end, with its calls by channel."""

    def __init__(self, worker: Worker, hello: Hello, token: Token | None) -> None:
        self.end = LinkEnd(hello, self, token, worker.lines)
        self._worker = worker
        self._is_up = False
        self._dispatcher = ""
        self._calls: dict[int, SessionRunner] = {}
        # Caller's audio that came together is resampled together; by channel: position, PCM16, when it was read.
        self._heard: dict[int, tuple[SessionRunner, int, bytes, float]] = {}

    def greeted(self, hello: Hello) -> None:
        """The dispatcher said who it is."""
        self._is_up = True
        self._dispatcher = shown(hello.id)
        log.info("link up", dispatcher=self._dispatcher, release=shown(hello.release))

    def record(self, kind: int, channel: int, payload: memoryview, received_seconds: float) -> None:
        """Hand a record to its call; OPEN begins one."""
        if channel in self._heard:
            # What came first comes first.
            self.caught_up()
        call = self._calls.get(channel)
        if call is not None and kind not in _TO_THE_WORKER:
            self._hand_on(call, kind, channel, payload, received_seconds)
        elif kind in _TO_THE_WORKER:
            self._for_the_worker(kind, channel, payload)
        # Else it is of a call that ended here while the record was under way.

    def _for_the_worker(self, kind: int, channel: int, payload: memoryview) -> None:
        try:
            record = wire.decode_control(_TO_THE_WORKER[kind], payload)
        except LinkProtocolError as error:
            # The link's own framing is whole: the others on it go on.
            log.warning("record not understood", dispatcher=self._dispatcher, kind=kind, reason=str(error))
            if kind != Kind.COMMAND:
                self.end.send(wire.encode(wire.Refused(Refusal.INVALID), channel))
            return
        if isinstance(record, wire.Command):
            self._worker.command(record, self.end.send)
        elif isinstance(record, wire.Open):
            self._open(channel, record)
        else:
            self._attach(channel, record)

    def caught_up(self) -> None:
        """Hand on the callers' audio that came."""
        heard, self._heard = self._heard, {}
        if len(heard) > 1:
            each = [(call.upsampler, pcm) for call, _, pcm, _ in heard.values()]
            prepare([(upsampler, pcm) for upsampler, pcm in each if upsampler is not None])
        for call, position_samples, pcm, received_seconds in heard.values():
            try:
                call.caller_audio(position_samples, pcm, received_seconds)
            except Exception:
                _failed(call, "a caller's audio could not be handled")

    def _hand_on(
        self, call: SessionRunner, kind: int, channel: int, payload: memoryview, received_seconds: float
    ) -> None:
        try:
            if kind == Kind.CALLER_AUDIO:
                position_samples, pcm = wire.decode_caller_audio(payload)
                self._heard[channel] = (call, position_samples, bytes(pcm), received_seconds)
            elif kind == Kind.CLOSE and wire.decode_control(wire.Close, payload).keep:
                self.leave(call)
                call.detached()
            else:
                call.record(kind, payload)
        except LinkProtocolError as error:
            # The link's own framing is whole: the others on it go on.
            log.warning("record not understood", uuid=call.uuid, kind=kind, reason=str(error))
            call.stop(f"the dispatcher sent a record that the worker does not understand: {error}")
        except Exception:
            _failed(call, "a record could not be handled", kind=kind)

    def lost(self, reason: str) -> None:
        """The link is gone; the calls wait for another one, or for another dispatcher."""
        self.caught_up()
        if self._is_up:
            log.info("link lost", dispatcher=self._dispatcher, reason=shown(reason), calls=len(self._calls))
        self._worker.link_lost(self)
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.detached()

    def leave(self, call: SessionRunner) -> None:
        """A call has ended, or has another link."""
        self._calls = {channel: other for channel, other in self._calls.items() if other is not call}

    def _open(self, channel: int, opening: wire.Open) -> None:
        if channel in self._calls or not opening.uuid:
            raise LinkProtocolError(f"OPEN without a uuid, or on channel {channel} that is in use")
        taken = self._worker.take(opening, channel, self)
        if isinstance(taken, wire.Refused):
            self.end.send(wire.encode(taken, channel))
        elif not taken.has_ended:
            self._calls[channel] = taken

    def _attach(self, channel: int, attach: wire.Attach) -> None:
        call = self._worker.resume(attach, self)
        if call is None:
            self.end.send(wire.encode(wire.Refused(Refusal.UNKNOWN), channel))
            return
        self._calls[channel] = call
        try:
            call.resume(attach, self.end.send)
        except LinkProtocolError as error:
            # The link's own framing is whole: the others on it go on.
            log.warning("a channel could not be taken up", uuid=call.uuid, reason=str(error))
            call.stop(f"the dispatcher has other records than the worker: {error}")
        except Exception:
            _failed(call, "a channel could not be taken up")


def _failed(call: SessionRunner, what: str, **details: object) -> None:
    """One call's trouble is not the link's: the others on it go on."""
    log.exception(what, uuid=call.uuid, **details)
    call.stop("internal error")


@dataclasses.dataclass(slots=True)
class _Held:
    """A session of a call, and the link that it has, or had."""

    call: SessionRunner
    link: DispatcherLink


def _holder(held: list[_Held]) -> _Held | None:
    """Return the session that has the call; one that released it, where no other has it yet."""
    active = next((each for each in held if each.call.is_attachable), None)
    return active or next((each for each in held if each.call.is_resting), None)


class Worker:
    """One worker process."""

    def __init__(
        self,
        record: WorkerRecord,
        registry: Registry,
        resources: Resources,
        *,
        tls: Tls | None = None,
        unready_seconds: float = UNREADY_SECONDS,
    ) -> None:
        """Build it.

        Args:
            record: what is published of it.
            registry: Redis.
            resources: what its calls share.
            tls: of the links; None: there is none.
            unready_seconds: age of its record, beside a Redis that answers, from which on it is not ready.
        """
        self.draining = False
        self._unready_seconds = unready_seconds
        self._record = record
        self._registry = registry
        self._resources = resources
        self._tls = tls
        self._metrics = resources.metrics
        self._hello = Hello(wire.PROTOCOL_VERSION, record.release, "worker", record.id, record.boot_id)
        self._links: set[DispatcherLink] = set()
        # Of each call one session; while it moves another one, which stands by, or which released the call.
        self._calls: dict[str, list[_Held]] = {}
        self._move_until: float | None = None
        self._beat_seconds = time.monotonic()
        self._closing: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._server: Listener | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._published_seconds = time.monotonic()
        self._redis_up = True
        self.lines = LineLimit()

    @property
    def is_ready(self) -> bool:
        """Whether this worker takes calls; while Redis is away dispatchers know it from before, or not at all."""
        age_seconds = time.monotonic() - self._published_seconds
        return not self.draining and not (self._redis_up and age_seconds > self._unready_seconds)

    @property
    def calls(self) -> int:
        """Calls under way."""
        return len(self._calls)

    async def start(self, sock: socket.socket) -> None:
        """Accept links on a listening socket, and publish the worker."""
        self._metrics.calls_capacity.set(self._record.capacity)
        self._server = await serve(self._accept, sock, limits=LINK_LIMITS, tls=self._tls, name="WORKER_PORT")
        await self._publish()
        self._tasks = [
            asyncio.create_task(repeat(step, task=task.value, failures=self._metrics.task_failures[task]))
            for task, step in ((LastingTask.TICK, self._tick), (LastingTask.PUBLISH, self._heartbeat))
        ]

    async def drain(self, until: asyncio.Event, seconds: float) -> None:
        """Take no new calls, and move those that run to other workers; until all are gone, or until the event.

        Args:
            until: what is left then is left.
            seconds: that there are.
        """
        self.draining = True
        self._move_until = time.monotonic() + MOVED_PART * seconds
        self._move_all()
        await self._publish()
        waits = [asyncio.create_task(self._idle.wait()), asyncio.create_task(until.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def stop(self) -> None:
        """End what is left; bounded by the time-outs of Redis and of closing."""
        self.draining = True
        # 1. Nobody finds this worker any more.
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._quietly(lambda: self._registry.remove_worker(self._record.id))
        # 2. No new links; the calls end, and their Realtime sessions are closed.
        if self._server is not None:
            self._server.abort()
        for held in self._held():
            held.call.release(wire.Reason.DRAIN)
            held.call.end_rest()
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        # 3. The links, with the ENDED records in front.
        links = [known.end for known in self._links]
        for end in links:
            end.close("the worker is stopping")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                for end in links:
                    if end.connection is not None:
                        await end.connection.wait_closed()

    # The table of calls

    def take(self, opening: wire.Open, channel: int, dispatcher: DispatcherLink) -> SessionRunner | wire.Refused:
        """Take a call, or say why not, whatever Redis says."""
        held = self._calls.get(opening.uuid, [])
        newest = max((each.call.epoch for each in held), default=0)
        if newest >= opening.epoch:
            return wire.Refused(Refusal.STALE_EPOCH, newest)
        if opening.attach or (held and not opening.restore):
            # The caller was here before, whether its dispatcher knows it or not.
            return self._attach(held, opening, channel, dispatcher)
        if self.draining:
            return wire.Refused(Refusal.DRAINING)
        if opening.uuid not in self._calls and not self._has_room(restores=opening.restore):
            return wire.Refused(Refusal.FULL)
        call = SessionRunner(opening, channel, dispatcher.end.send, calls=self, resources=self._resources)
        self._calls.setdefault(opening.uuid, []).append(_Held(call, dispatcher))
        self._count()
        self._begin(call, call.begin)
        return call

    def _has_room(self, *, restores: bool) -> bool:
        """Whether another call may come; those that only stand by here leave their place to a new one."""
        if len(self._calls) >= self._record.capacity * OVER_CAPACITY:
            return False
        return restores or self._active_calls < self._record.capacity

    @property
    def _active_calls(self) -> int:
        return sum(any(each.call.is_attachable for each in held) for held in self._calls.values())

    def _attach(
        self, held: list[_Held], opening: wire.Open, channel: int, dispatcher: DispatcherLink
    ) -> SessionRunner | wire.Refused:
        """Another dispatcher has the caller: the session goes on with it."""
        known = _holder(held)
        if known is None:
            return wire.Refused(Refusal.UNKNOWN)
        known.link.leave(known.call)
        known.link = dispatcher
        self._begin(known.call, lambda: known.call.attach(opening, channel, dispatcher.end.send))
        return known.call

    def _begin(self, call: SessionRunner, begin: Callable[[], None]) -> None:
        try:
            begin()
        except Exception:
            _failed(call, "a call could not be begun")

    def resume(self, attach: wire.Attach, dispatcher: DispatcherLink) -> SessionRunner | None:
        """The session of this call and epoch, on another link of its dispatcher; None if there is none."""
        for held in self._calls.get(attach.uuid, ()):
            if held.call.epoch == attach.epoch:
                held.link.leave(held.call)
                held.link = dispatcher
                return held.call
        return None

    def command(self, command: wire.Command, send: Callable[[bytes], None]) -> None:
        """The calls API wants something of a call."""
        held = self._calls.get(command.uuid)
        if command.action == "load":
            status = 409 if self.draining else 200
            send(wire.encode(wire.Result(command.number, status, {"calls": self._active_calls}), 0))
        elif command.action == "holds":
            holder = _holder(held or [])
            epoch = 0 if holder is None else holder.call.epoch
            send(wire.encode(wire.Result(command.number, 200 if epoch else 404, {"epoch": epoch}), 0))
        elif held:
            try:
                (_holder(held) or held[0]).call.command(command, send)
            except Exception:
                # What the calls API wants is not worth the link, nor the call.
                log.exception("a command failed", uuid=command.uuid, action=command.action)
                send(wire.encode(wire.Result(command.number, 500, {"error": "internal error"}), 0))
        elif command.action != "unwatch":
            gone = wire.Result(command.number, 404, {"error": "the worker does not hold this call any more"})
            send(wire.encode(gone, 0))

    def ended(self, call: SessionRunner) -> None:
        """Forget a session."""
        held = self._calls.get(call.uuid, [])
        for each in held:
            if each.call is call:
                each.link.leave(call)
        left = [each for each in held if each.call is not call]
        if left:
            self._calls[call.uuid] = left
        else:
            self._calls.pop(call.uuid, None)
        self._count()
        task = asyncio.create_task(call.settled(), name=f"close {call.uuid}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def released(self, call: SessionRunner) -> None:
        """Count again: the call is another session's."""
        self._count()

    def going(self, call: SessionRunner) -> None:
        """Have this session take over from older ones of its call, which then let go."""
        older = [held.call for held in self._calls.get(call.uuid, ()) if held.call.epoch < call.epoch]
        for each in older:
            call.take_over(each)
        for each in older:
            # Behind that, as the end of a session cancels its tools.
            each.let_go("another session has this call")

    def link_lost(self, lost: DispatcherLink) -> None:
        """Forget a link, and who watched calls by it."""
        self._links.discard(lost)
        for held in self._held():
            held.call.unwatch(lost.end.send)

    def watch(self, now_seconds: float) -> bool:
        """Look, before anything is read, whether this process stood still: its calls may be elsewhere by now."""
        stood_seconds = now_seconds - self._beat_seconds
        self._beat_seconds = max(self._beat_seconds, now_seconds - TICK_SECONDS)
        if stood_seconds < STALL_SECONDS + TICK_SECONDS:
            return False
        log.error(
            "this process stood still",
            seconds=round(stood_seconds, 3),
            effect="its calls wait for their dispatchers to say that they still have them",
            calls=len(self._calls),
        )
        for held in self._held():
            held.call.suspend()
        for known in list(self._links):
            known.end.abort()
        return True

    def _held(self) -> list[_Held]:
        return [each for held in self._calls.values() for each in held]

    def _move_all(self) -> None:
        if self._move_until is not None:
            seconds = max(0.0, self._move_until - time.monotonic())
            for held in self._held():
                held.call.move(wire.Reason.DRAIN, seconds)

    def _count(self) -> None:
        # A call that moves is counted where it is, and not where it goes or was.
        self._metrics.calls_active.set(self._active_calls)
        if self._calls:
            self._idle.clear()
        else:
            self._idle.set()

    def _accept(self, request: Request, _: str) -> LinkEnd | tuple[http.HTTPStatus, str]:
        if request.headers.get_all("Origin"):
            # Browsers send it, and no page can leave it out.
            self._refused_page()
            return http.HTTPStatus.FORBIDDEN, "links are opened by dispatchers, and not by web pages\n"
        if request.path != "/link":
            return http.HTTPStatus.NOT_FOUND, "dispatchers open /link here\n"
        new = DispatcherLink(self, self._hello, self._resources.secrets.cluster_token)
        self._links.add(new)
        return new.end

    def _refused_page(self) -> None:
        times = self.lines.take("page", time.monotonic())
        if times is not None:
            log.warning("link refused", reason="it was asked for by a web page (Origin)", times=times)

    # What goes on all the time

    async def _tick(self) -> None:
        await asyncio.sleep(TICK_SECONDS)
        now = time.monotonic()
        self.watch(now)
        self._beat_seconds = now
        self._move_all()
        for held in self._held():
            call = held.call
            try:
                call.tick(now)
            except Exception:
                _failed(call, "a call's clock failed")
        self._count()

    async def _heartbeat(self) -> None:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        await self._publish()
        await self._publish_waiting()

    async def _publish(self) -> None:
        state = WorkerState.DRAINING if self.draining else WorkerState.READY
        record = dataclasses.replace(self._record, state=state)
        if await self._quietly(lambda: self._registry.publish_worker(record, lease_seconds=LEASE_SECONDS)):
            self._published_seconds = time.monotonic()

    async def _publish_waiting(self) -> None:
        """Calls whose dispatcher is gone: Redis may lose them before their callers are back at another one."""
        waiting = {held.call: held.call.epoch for held in self._held() if held.call.waits_for_dispatcher}
        leases = [
            CallLease(call.uuid, self._record.id, epoch, WAITING, None, 1, call.metadata)
            for call, epoch in waiting.items()
        ]

        async def renew() -> None:
            renewal = await self._registry.renew(NOBODY, leases, lease_seconds=LEASE_SECONDS)
            for call, epoch in waiting.items():
                if not call.waits_for_dispatcher or call.epoch != epoch:
                    continue
                if call.uuid in renewal.superseded:
                    call.let_go("another worker has this call")
                else:
                    call.confirm()

        if leases:
            await self._quietly(renew)

    async def _quietly(self, command: Callable[[], Awaitable[object]]) -> bool:
        """Whether a command to Redis worked: calls go on without it, and the next heartbeat tries again."""
        try:
            await command()
        except RegistryUnavailable as error:
            if self._redis_up:
                log.error("redis is away", reason=str(error), effect="no new calls find this worker")
            self._redis_up = False
            return False
        if not self._redis_up:
            log.info("redis is back")
        self._redis_up = True
        return True
