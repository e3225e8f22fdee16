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

from common.errors import RegistryBusy, RegistryUnavailable
from common.link import wire
from common.link.link_end import LINK_LIMITS, LinkEnd
from common.link.wire import Hello, Refusal
from common.net.listener import Listener
from common.net.tls import Tls
from common.net.websocket_server import serve
from common.observe.line_limit import LineLimit
from common.observe.metrics import LastingTask
from common.observe.problems import REDIS_AWAY, key_refused
from common.runtime.lasting_task import repeat
from common.store.leases import CallLease, WorkerRecord, WorkerState
from common.store.registry import NOBODY, OVER_CAPACITY, Registry
from worker.dispatcher_link import DispatcherLink, stop_failed
from worker.runner.resources import Resources
from worker.runner.session_runner import SessionRunner

log = structlog.get_logger()

TICK_SECONDS = 0.2
# A worker without a heartbeat for this time gets no new calls. Its running calls are judged by their links.
LEASE_SECONDS = 3.0
# Maximum calls that waited, and are taken out of Redis when they have ended. More of them end with the worker.
MAX_WAITING = 10_000
HEARTBEAT_SECONDS = 1.0
# If Redis answers and this worker's record is older than this, its heartbeat fails, and no call finds the worker.
UNREADY_SECONDS = 3 * LEASE_SECONDS
# The state of a call that waits for a dispatcher; dispatchers have other states (dispatcher/call/states.py).
WAITING = "waiting"
# Stall of the event loop after which other workers may have its calls. A dispatcher declares a worker dead 2.05 s
# after its last data, at the earliest (common/link/link_end.py).
STALL_SECONDS = 2.0
# The part of the time for draining after which calls leave at once, quiet or not.
MOVED_PART = 0.8
# `stop` must end within the time that a process has to stop (common/runtime/process.py).
STOP_SECONDS = 0.5


@dataclasses.dataclass(slots=True)
class _Held:
    """A session of a call, and the link that it has, or had."""

    call: SessionRunner
    link: DispatcherLink


def _holder(held: list[_Held]) -> _Held | None:
    """Return the session that has the call, or else one that released it."""
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
        """Build a worker.

        Args:
            record: published in Redis.
            registry: Redis.
            resources: of the process, for its calls.
            tls: of the links; None: there is none.
            unready_seconds: age of its record from which on it is not ready, while Redis answers.
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
        # One session of each call. While a call moves it has another one, which stands by or has released it.
        self._calls: dict[str, list[_Held]] = {}
        # Calls, with their epochs, that Redis knows as waiting here.
        self._waiting: dict[str, int] = {}
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
        """Whether this worker takes calls; while Redis is away, dispatchers know the worker from before."""
        age_seconds = time.monotonic() - self._published_seconds
        return not self.draining and not (self._redis_up and age_seconds > self._unready_seconds)

    @property
    def problems(self) -> list[str]:
        """Problems that leave the worker ready, a line each."""
        code = self._resources.own_key.problem
        return [*([] if self._redis_up else [REDIS_AWAY]), *([key_refused(code)] if code else [])]

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
        """Take no new calls, and move the running ones to other workers.

        Args:
            until: ends the draining, whatever calls are left.
            seconds: the time for it.
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
        """End all calls and links; bounded by the time-outs of Redis and of closing."""
        self.draining = True
        # 1. No dispatcher finds this worker any more.
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
            # The caller was here before, also if its dispatcher does not know.
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
        """Whether there is room for another call; calls that only stand by here do not count."""
        if len(self._calls) >= self._record.capacity * OVER_CAPACITY:
            return False
        return restores or self._active_calls < self._record.capacity

    @property
    def _active_calls(self) -> int:
        return sum(any(each.call.is_attachable for each in held) for held in self._calls.values())

    def _attach(
        self, held: list[_Held], opening: wire.Open, channel: int, dispatcher: DispatcherLink
    ) -> SessionRunner | wire.Refused:
        """Give the session to another dispatcher, which has the caller now."""
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
            stop_failed(call, "a call could not be begun")

    def resume(self, attach: wire.Attach, dispatcher: DispatcherLink) -> SessionRunner | None:
        """Attach a session to another link of its dispatcher; return None if this call and epoch are unknown."""
        for held in self._calls.get(attach.uuid, ()):
            if held.call.epoch == attach.epoch:
                held.link.leave(held.call)
                held.link = dispatcher
                return held.call
        return None

    def command(self, command: wire.Command, send: Callable[[bytes], None]) -> None:
        """Carry out a command of the calls API."""
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
                # A failed command costs neither the link nor the call.
                log.exception("a command failed", uuid=command.uuid, action=command.action)
                send(wire.encode(wire.Result(command.number, 500, {"error": "internal error"}), 0))
        elif command.action != "unwatch":
            gone = wire.Result(command.number, 404, {"error": "the worker does not hold this call any more"})
            send(wire.encode(gone, 0))

    def ended(self, call: SessionRunner) -> None:
        """Forget a session that has ended."""
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
        """Count the calls again: another session has this one."""
        self._count()

    def taking_over(self, call: SessionRunner) -> None:
        """Let this session take over from older ones of its call, which then end."""
        older = [held.call for held in self._calls.get(call.uuid, ()) if held.call.epoch < call.epoch]
        for each in older:
            call.take_over(each)
        for each in older:
            # The older session ends after that, because its end cancels its tools.
            each.end_superseded("another session has this call")

    def link_lost(self, lost: DispatcherLink) -> None:
        """Forget a link, and the watchers of calls that came by it."""
        self._links.discard(lost)
        for held in self._held():
            held.call.unwatch(lost.end.send)

    def watch(self, now_seconds: float) -> bool:
        """Suspend all calls if the event loop has stalled, because they may be elsewhere by now.

        Call it before any socket is read. It returns whether the event loop has stalled.
        """
        stalled_seconds = now_seconds - self._beat_seconds
        self._beat_seconds = max(self._beat_seconds, now_seconds - TICK_SECONDS)
        if stalled_seconds < STALL_SECONDS + TICK_SECONDS:
            return False
        log.error(
            "event loop stalled",
            seconds=round(stalled_seconds, 3),
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
        # A call that moves is counted once, at the session that has it.
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
        new = DispatcherLink(self, self._hello, self._resources.secrets.cluster_token, self.lines)
        self._links.add(new)
        return new.end

    def _refused_page(self) -> None:
        times = self.lines.take("page", time.monotonic())
        if times is not None:
            log.warning("link refused", reason="it was asked for by a web page (Origin)", times=times)

    # Lasting tasks

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
                stop_failed(call, "a call's clock failed")
        self._count()

    async def _heartbeat(self) -> None:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        await self._publish()
        await self._publish_waiting()

    async def _publish(self) -> None:
        state = WorkerState.DRAINING if self.draining else WorkerState.READY
        record = dataclasses.replace(self._record, state=state, problem=self._resources.own_key.problem)
        if await self._quietly(lambda: self._registry.publish_worker(record, lease_seconds=LEASE_SECONDS)):
            self._published_seconds = time.monotonic()

    async def _publish_waiting(self) -> None:
        """Publish calls without a dispatcher: Redis may lose them before their callers come back."""
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
                    call.end_superseded("another worker has this call")
                else:
                    call.confirm()

        if len(self._waiting) + len(waiting) <= MAX_WAITING:
            self._waiting |= {call.uuid: epoch for call, epoch in waiting.items()}
        if leases and not await self._quietly(renew):
            return
        await self._quietly(self._unpin_ended)

    async def _unpin_ended(self) -> None:
        """Take calls out of Redis that waited and have ended here; those that a dispatcher has got stay."""
        for uuid in self._waiting.keys() - {held.call.uuid for held in self._held()}:
            await self._registry.unpin_waiting(uuid, worker=self._record.id, epoch=self._waiting[uuid])
            del self._waiting[uuid]

    async def _quietly(self, command: Callable[[], Awaitable[object]]) -> bool:
        """Return whether a command to Redis worked; a failed one is retried with the next heartbeat."""
        try:
            await command()
        except RegistryBusy:
            return False
        except RegistryUnavailable as error:
            if self._redis_up:
                log.error("redis is away", reason=str(error), effect="no new calls find this worker")
            self._redis_up = False
            self._metrics.redis_up.set(0)
            return False
        if not self._redis_up:
            log.info("redis is back")
        self._redis_up = True
        self._metrics.redis_up.set(1)
        return True
