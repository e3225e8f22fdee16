"""The dispatcher: it accepts AVR Core's connections, and keeps the table of its calls."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http
import random
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog
from websockets.http11 import Request

from common.errors import LinkUnavailable, RegistryUnavailable
from common.net.listener import Arrival, Listener, listen
from common.net.websocket_limits import Limits
from common.net.websocket_server import ServerWebSocket
from common.observe.label_values import PAGE
from common.observe.metrics import DispatcherMetrics, LastingTask
from common.observe.tracing import NO_TRACER, Tracer
from common.runtime.lasting_task import repeat
from common.settings.tenants import NO_TENANTS, Tenants
from common.store.leases import Renewal
from common.store.registry import Registry
from dispatcher import admission
from dispatcher.api.commands import CallCommands, CommandError, CommandsWithoutWorker
from dispatcher.asterisk.ami import Ami
from dispatcher.asterisk.transfers import Transfers
from dispatcher.avr import protocol
from dispatcher.avr.caller_connection import CallerConnection
from dispatcher.avr.legacy import LegacyConnection
from dispatcher.call.announcements import SILENT, Announcements
from dispatcher.call.limits import DEFAULT_LIMITS, CallLimits
from dispatcher.call.states import WITHOUT_WORKER
from dispatcher.recording.recordings import Recordings, RecordingSettings
from dispatcher.records.record_taker import NO_RECORDS, RecordTaker
from dispatcher.records.record_writer import RecordWriter
from dispatcher.runner.call_runner import CallRunner
from dispatcher.runner.held_calls import held
from dispatcher.runner.page_line import PageLine, PageTable
from dispatcher.security import OPEN, Security
from dispatcher.workers.links import LinkPool
from dispatcher.workers.placement import RENEW_INTERVAL_SECONDS, Placement
from dispatcher.workers.previous_release import PreviousReleaseNotice

log = structlog.get_logger()

TICK_SECONDS = 0.2
FIRST_LINK_INTERVAL_SECONDS = 0.1
# Time after which a dispatcher accepts callers without a known worker, if it starts while Redis is away. By then a
# call that waits for a worker is better than a refused connection.
FIRST_WORKER_SECONDS = 5.0
# Calls that change together are published together.
PUBLISH_SECONDS = 0.05
# `stop` has to be done within the time that a process has to stop (common/runtime/process.py).
CLOSE_SECONDS = 0.8
# A record of a lost call is written within a minute: lease, grace (record_writer.py) and this.
LOST_CALLS_INTERVAL_SECONDS = 10.0
SETTLE_SECONDS = 0.5
RECORDINGS_SECONDS = 0.3
# Pings keep the idle timer of a proxy from closing a caller's connection while the agent is silent.
# Its life is judged by the caller's audio, in the call, not by pongs.
CALLER_LIMITS = Limits(
    max_message_bytes=protocol.MAX_MESSAGE_BYTES,
    open_timeout_seconds=10.0,
    ping_interval_seconds=20.0,
    silence_timeout_seconds=None,
)


class Dispatcher:
    """One dispatcher process.

    It has more than 20 attributes, because it builds and owns everything of the process, and ends it in order.
    """

    def __init__(
        self,
        dispatcher_id: str,
        release: str,
        registry: Registry,
        *,
        metrics: DispatcherMetrics,
        ami: Ami,
        limits: CallLimits = DEFAULT_LIMITS,
        security: Security = OPEN,
        announcements: Announcements = SILENT,
        records: RecordWriter | None = None,
        tracer: Tracer = NO_TRACER,
        leaves_calls: bool = False,
        record_taker: RecordTaker = NO_RECORDS,
        recordings: RecordingSettings | None = None,
        tenants: Tenants = NO_TENANTS,
    ) -> None:
        """Make a dispatcher that accepts no calls yet.

        Args:
            dispatcher_id: of this process.
            release: of the service.
            registry: Redis.
            metrics: metrics of the process.
            ami: Asterisk.
            limits: of each call.
            security: of the ports and links.
            announcements: what calls may play by themselves.
            records: writes what calls leave behind; None: the log has it alone.
            tracer: takes the spans of calls.
            leaves_calls: workers outlive this process: calls that it may not wait for are left to them, for
                their callers to come back to by another dispatcher.
            record_taker: takes the records of ended calls.
            recordings: how calls are recorded; None: they are not.
            tenants: of the deployment.
        """
        self.id = dispatcher_id
        self.registry = registry
        self.metrics = metrics
        self.ami = ami
        self.announcements = announcements
        self.tenants = tenants
        self.records = records or RecordWriter(registry)
        self.tracer = tracer
        self.record_taker = record_taker
        # The token of the start: a caller's hash must stay the same when the token is replaced.
        token = security.cluster_token
        self.transfers = Transfers(registry, token.value.get_secret_value() if token is not None else "")
        self.links = LinkPool(dispatcher_id, release, token=security.cluster_token, tls=security.cluster_tls)
        self.placement = Placement(
            registry,
            dispatcher_id,
            own_calls=self.links.calls,
            has_link=self.links.has,
            redis_up=metrics.redis_up.set,
            ask_loads=self.links.loads,
            reconnect_seconds=limits.reconnect_seconds,
        )
        self.recordings = None
        if recordings is not None:
            self.recordings = Recordings(
                recordings,
                registry,
                dispatcher_id=dispatcher_id,
                host=socket.gethostname(),
                metrics=metrics,
                reconnect_seconds=limits.reconnect_seconds,
            )
        self.draining = False
        self._previous_release = PreviousReleaseNotice(registry)
        self._limits = limits
        self._leaves_calls = leaves_calls and limits.reconnect_seconds > 0
        self._security = security
        self._runners: set[CallRunner] = set()
        self._by_uuid: dict[str, CallRunner] = {}
        self._settling: set[asyncio.Task[None]] = set()
        # Calls that no worker had at the last renewal.
        self._without_worker: set[str] = set()
        # Calls whose records have changed.
        self._changed: set[CallRunner] = set()
        self._renew_now = asyncio.Event()
        self._renewed_seconds = float("-inf")
        self._idle = asyncio.Event()
        self._idle.set()
        self._server: Listener | None = None
        self._socket: socket.socket | None = None
        self._knows_workers = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_ready(self) -> bool:
        """Whether new calls are welcome here."""
        return not self.draining and self.links.is_ready

    @property
    def problems(self) -> list[str]:
        """Problems that leave this dispatcher ready, a line each."""
        return self.placement.problems

    @property
    def calls(self) -> int:
        """Number of caller connections, those that have not said `init` included."""
        return len(self._runners)

    async def start(self, sock: socket.socket, is_listening: Callable[[], None] = lambda: None) -> None:
        """Accept callers on a bound socket.

        While Redis is away and no worker is known, callers are not accepted: other dispatchers may know workers.
        That wait has a bound (`FIRST_WORKER_SECONDS`).

        Args:
            sock: bound, and listening or not.
            is_listening: called when callers are accepted.
        """
        self._socket = sock
        await self._renew_once()
        self._tasks = [
            asyncio.create_task(repeat(step, task=task.value, failures=self.metrics.task_failures[task]))
            for task, step in self._steps()
        ]
        if self._knows_workers.is_set() or not self.placement.redis_is_away:
            self._listen(sock, is_listening)
        else:
            self._tasks.append(asyncio.create_task(self._listen_late(sock, is_listening), name="listen"))

    async def _listen_late(self, sock: socket.socket, is_listening: Callable[[], None]) -> None:
        """Listen when a worker is known, or when the time is over."""
        log.warning(
            "no worker is known, and redis is away",
            effect="callers are not accepted yet",
            seconds=FIRST_WORKER_SECONDS,
        )
        try:
            async with asyncio.timeout(FIRST_WORKER_SECONDS):
                await self._knows_workers.wait()
        except TimeoutError:
            log.error("no worker is known", effect="callers are accepted, and wait for a worker up to a bound")
        if not self.draining:
            self._listen(sock, is_listening)

    def _listen(self, sock: socket.socket, is_listening: Callable[[], None]) -> None:
        self._server = listen(
            self._speaker,
            sock,
            name="PORT",
            limits=self._security.door,
            tls=self._security.tls,
            refused=lambda refusal: self.metrics.connections_refused[refusal].inc(),
        )
        is_listening()

    async def drain(self, until: asyncio.Event) -> None:
        """Take no new calls; wait until those that run have ended, or until the event."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        waits = [asyncio.create_task(self._idle.wait()), asyncio.create_task(until.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await wait

    async def stop(self) -> None:
        """End all calls and links; takes the seconds of the constants above and the links' time at most."""
        self.draining = True
        # 1. No new callers.
        if self._server is not None:
            self._server.abort()
        elif self._socket is not None:
            self._socket.close()
        # 2. End the calls, and wait for their connections and pins.
        if self._leaves_calls:
            await self.keep_drafts()
        runners = list(self._runners)
        caller_connections = [
            runner.caller_connection for runner in runners if runner.caller_connection is not None
        ]
        for runner in runners:
            if self._leaves_calls:
                runner.leave("the service is stopping")
            else:
                runner.stop("the service is stopping")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(
                    *(caller_connection.wait_closed() for caller_connection in caller_connections)
                )
        for caller_connection in caller_connections:
            caller_connection.abort()
        # This includes calls that ended a moment ago. Entries that stay in Redis expire with their leases.
        if self._settling:
            await asyncio.wait(self._settling, timeout=SETTLE_SECONDS)
        # 3. No more ticks and renewals; recordings get their last sound.
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.placement.leave()
        if self.recordings is not None:
            await self.recordings.close(RECORDINGS_SECONDS)
        await self.ami.close()
        # 4. The links, with the CLOSE records of the calls in front.
        await self.links.close()

    async def keep_drafts(self) -> None:
        """Bring the drafts of call records in Redis up to date, because this process may die.

        The drafts of ended calls go when their records are stored, so this is also the last step of a process.
        """
        if self.placement.redis_is_away:
            return
        with contextlib.suppress(RegistryUnavailable):  # the next renewal finds out, too
            # Redis refuses the draft of a call that is not pinned.
            held = [runner for runner in self._runners if runner.call.is_held]
            await self.records.keep_drafts([runner.record.recorded for runner in held])

    async def holder(self, uuid: str) -> CallCommands:
        """Return the commands of the worker that holds a call, whichever dispatcher has its caller.

        While no worker has the call, the dispatcher that has the caller carries commands out.

        Raises:
            CommandError: there is no such call, or its worker cannot be reached.
            RegistryUnavailable: Redis is away, and the call is not one of this dispatcher's.
        """
        mine = self._by_uuid.get(uuid)
        if mine is not None and mine.call.state in WITHOUT_WORKER:
            return CommandsWithoutWorker(mine.hang_up_soon)
        worker_id = mine.call.assignments.worker_id if mine is not None else ""
        if not worker_id:
            record = await self.registry.call(uuid)
            if record is None:
                raise CommandError(404, "there is no such call")
            worker_id = "" if record.state in WITHOUT_WORKER else record.worker
        known = self.links.up(worker_id)
        if known is not None:
            return known.commands
        address = next((worker.address for worker in self.placement.workers if worker.id == worker_id), "")
        if not address:
            # The worker died, and the call's dispatcher looks for another one.
            return CommandsWithoutWorker(lambda: self.registry.ask_to_hang_up(uuid))
        try:
            worker_link = await self.links.get(worker_id, address)
        except LinkUnavailable as error:
            raise CommandError(502, str(error)) from error
        return worker_link.commands

    def begun(self, runner: CallRunner) -> CallRunner | None:
        """Put a call into the table; return the runner that has it already, if there is one."""
        if runner.caller_connection is not None:
            runner.caller_connection.mark_identified()
        older = self._by_uuid.setdefault(runner.uuid, runner)
        return None if older is runner else older

    def publish(self, runner: CallRunner) -> None:
        """Publish a call soon, because its record has changed."""
        self._changed.add(runner)
        self._renew_now.set()

    def ended(self, runner: CallRunner) -> None:
        """Take a call out of the table."""
        self._runners.discard(runner)
        self._changed.discard(runner)
        if self._by_uuid.get(runner.uuid) is runner:
            del self._by_uuid[runner.uuid]
        if not self._runners:
            self._idle.set()
        settling = asyncio.create_task(runner.settled(), name=f"settle {runner.uuid}")
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)

    def _speaker(self, arrival: Arrival, head: bytes) -> asyncio.Protocol:
        """Return the protocol of a connection: `POST` is the older one, all else a WebSocket."""
        if head.startswith(b"POST "):
            return LegacyConnection(functools.partial(self._admit, arrival), arrival)

        def accept(request: Request, _: str) -> CallRunner | tuple[http.HTTPStatus, str]:
            authorization = next(iter(request.headers.get_all("Authorization")), None)
            return self._admit(arrival, request.path, authorization, request.headers.get_all("Origin"))

        return ServerWebSocket(accept, CALLER_LIMITS, arrival)

    def _admit(
        self, arrival: Arrival, target: str, authorization: str | None, origins: Sequence[str]
    ) -> CallRunner | tuple[http.HTTPStatus, str]:
        """Return the runner for a request with this target; or a status and a text to refuse it with."""
        security = self._security
        refused = admission.refusal(security, arrival, target, authorization, origins, draining=self.draining)
        if refused is not None:
            return refused
        # The token is checked, so metadata may be read from here.
        metadata, traceparent = protocol.metadata(target), protocol.traceparent(target)
        return self._add(CallRunner(self, metadata, self._limits, arrival.since_seconds, traceparent=traceparent))

    def page_call(self, connection: CallerConnection) -> CallRunner | None:
        """Return the runner of a call from the live page; None while this dispatcher drains."""
        if self.draining:
            return None
        line = PageLine(functools.partial(connection.close, 1000))
        runner = CallRunner(PageTable(self, line), {"from": PAGE}, self._limits)
        runner.connected(connection)
        return self._add(runner)

    def _add(self, runner: CallRunner) -> CallRunner:
        self._runners.add(runner)
        self._idle.clear()
        return runner

    def _steps(self) -> list[tuple[LastingTask, Callable[[], Awaitable[None]]]]:
        steps: list[tuple[LastingTask, Callable[[], Awaitable[None]]]]
        steps = [
            (LastingTask.TICK, self._tick),
            (LastingTask.PUBLISH, self._renew),
            (LastingTask.LOST_CALLS, self._look_for_lost_calls),
        ]
        if self.recordings is not None:
            steps += [(LastingTask.RECORD, self.recordings.step), (LastingTask.SWEEP, self.recordings.sweep)]
        return steps

    async def _tick(self) -> None:
        await asyncio.sleep(TICK_SECONDS)
        now = time.monotonic()
        for runner in list(self._runners):
            try:
                runner.tick(now)
            except Exception:
                log.exception("a call's tick failed", uuid=runner.uuid)
                runner.fail("internal error")

    async def _renew(self) -> None:
        # Without a link no worker can take a call, so the first worker is searched more often.
        interval = RENEW_INTERVAL_SECONDS if self.links.is_ready else FIRST_LINK_INTERVAL_SECONDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._renew_now.wait(), interval)
            await asyncio.sleep(PUBLISH_SECONDS)
        self._renew_now.clear()
        if time.monotonic() - self._renewed_seconds >= RENEW_INTERVAL_SECONDS:
            self._renewed_seconds = time.monotonic()
            await self._renew_once()
        elif self._changed:
            await self._publish_changed()
        elif not self.links.is_ready:
            await self.placement.look_for_workers()
            self._keep_links()

    async def _outranks(self, runner: CallRunner) -> bool:
        """Return whether a call that Redis knows as another dispatcher's came here later, while Redis was away."""
        if runner.is_published or runner.call.is_away:
            return False
        try:
            record = await self.registry.call(runner.uuid)
        except RegistryUnavailable:
            return True
        if record is not None:
            runner.call.assignments.outrank(record.epoch)
        self.publish(runner)
        return True

    async def _hang_up_asked(self) -> None:
        """Hang up calls without a worker that another dispatcher was asked to hang up."""
        without_worker = {uuid for uuid, runner in self._by_uuid.items() if runner.call.state in WITHOUT_WORKER}
        # A worker may have taken a call since the request: look for that call once more.
        looked_for, self._without_worker = without_worker | self._without_worker, without_worker
        if not looked_for or self.placement.redis_is_away:
            return
        try:
            asked = await self.registry.asked_to_hang_up(list(looked_for))
        except RegistryUnavailable:
            return  # the next renewal finds out, too
        for uuid in asked:
            if (runner := self._by_uuid.get(uuid)) is not None:
                runner.hang_up()

    async def _renew_once(self) -> None:
        """Beat: publish what has changed, and learn what others have changed."""
        self._changed.clear()
        holders, leases = held(self._runners)
        await self._heed(holders, await self.placement.renew(leases))
        await self._hang_up_asked()
        self._keep_links()
        if not self.placement.redis_is_away:
            await self._previous_release.look()
        await self.placement.remember({uuid: runner.call.memory for uuid, runner in holders.items()})
        await self.keep_drafts()

    async def _publish_changed(self) -> None:
        """Publish calls whose records have changed, between two beats."""
        changed, self._changed = self._changed, set()
        holders, leases = held(changed)
        if not self.placement.redis_is_away:
            await self._heed(holders, await self.placement.publish(leases))
            await self.placement.remember({uuid: runner.call.memory for uuid, runner in holders.items()})

    async def _heed(self, holders: Mapping[str, CallRunner], renewal: Renewal) -> None:
        """Detach from calls that others have, and write what Redis lacks again."""
        for uuid, runner in holders.items():
            # Use the runner of the renewal, because a newer connection may have replaced it in the table.
            if uuid in renewal.superseded and not await self._outranks(runner):
                runner.superseded()
            elif not self.placement.redis_is_away:
                runner.is_published = True
        for uuid in renewal.missing:
            holders[uuid].call.memory.copy_lost()
            holders[uuid].record.facts.is_changed = True

    async def _look_for_lost_calls(self) -> None:
        await asyncio.sleep(random.uniform(0.8, 1.2) * LOST_CALLS_INTERVAL_SECONDS)
        if not self.placement.redis_is_away:
            with contextlib.suppress(RegistryUnavailable):
                await self.records.look_for_lost_calls(self._by_uuid.keys())

    def _keep_links(self) -> None:
        if self.placement.workers:
            self._knows_workers.set()
        self.links.keep((worker.id, worker.address) for worker in self.placement.workers)
