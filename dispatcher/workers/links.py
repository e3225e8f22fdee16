"""Links to the workers: one per live worker, opened ahead of the first call and kept."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from typing import Protocol as Interface

import structlog

from common.errors import HandshakeRefused, LinkUnavailable, WorkerGone
from common.link import wire
from common.link.link_end import LINK_LIMITS, LinkEnd
from common.link.wire import Hello
from common.net.tls import Tls
from common.net.tokens import Token
from common.net.websocket import WebSocket, close_all
from common.net.websocket_client import connect
from common.observe.line_limit import LineLimit, shown
from common.runtime.backoff import Backoff
from dispatcher.api.commands import CommandError, Commands

log = structlog.get_logger()

# Links to workers that do not answer hold up the end of the process for no longer.
CLOSE_SECONDS = 0.5
# A link that broke while both ends live is replaced within this time; then its calls are moved.
RESUME_SECONDS = 0.3
# Within that time another connection is tried this often, beside those that have no answer yet. The kernel repeats
# a lost SYN only after 1 s.
RESUME_STEP_SECONDS = 0.1
# Attempts to open a link that is lost as soon as it is opened.
GET_ATTEMPTS = 3
# Maximum wait for the workers' answers to the question which of them has a call. It is asked while Redis is away.
# A longer wait is audible. If the worker is not found, the call begins anew.
HOLDER_SECONDS = 1.0
# Delay before a failed link is retried without a call. A worker with another CLUSTER_TOKEN would otherwise cause a
# log line every 100 ms.
RETRY_BACKOFF = Backoff(0.1, 10.0)


class ChannelOwner(Interface):
    """Call at this end of a channel."""

    @property
    def uuid(self) -> str:
        """The call's uuid."""

    def record(self, kind: int, payload: memoryview, received_seconds: float) -> None:
        """Handle a record of the call's worker."""

    def link_broke(self) -> None:
        """Note that the link broke; another one to the same worker is looked for."""

    def link_back(self, worker_link: WorkerLink) -> None:
        """Go on with the channel on another link to the same worker, under the same number."""

    def worker_lost(self) -> None:
        """Note that the link is lost, and no other can be had."""

    def stop(self, reason: str) -> None:
        """End the call, which cannot continue."""


class WorkerLink:
    """One link and its channels. It is used once: a link that was lost is replaced by a new one.

    Attributes:
        worker_id: of the worker.
        address: where it is; empty until `open`.
        boot_id: of the worker's process.
    """

    def __init__(
        self,
        worker_id: str,
        hello: Hello,
        on_lost: LostCallback,
        token: Token | None = None,
        tls: Tls | None = None,
        *,
        lines: LineLimit | None = None,
    ) -> None:
        self.worker_id = worker_id
        self.address = ""
        self.boot_id = ""
        self._end = LinkEnd(hello, self, token, lines)
        self._tls = tls
        self._on_lost = on_lost
        self._greeting: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._channels: dict[int, ChannelOwner] = {}
        self._numbers = itertools.count(1)
        self.commands = Commands(self._end.send)

    @property
    def is_open(self) -> bool:
        """Whether the link is up and both sides have greeted."""
        return self._end.is_open and self._greeting.done()

    @property
    def calls(self) -> int:
        """Number of calls that this dispatcher has on the worker."""
        return len(self._channels)

    async def open(self, address: str, timeout_seconds: float = LINK_LIMITS.open_timeout_seconds) -> None:
        """Connect and exchange HELLOs.

        Raises:
            WorkerGone: the address refuses, or another worker answers there.
            LinkUnavailable: the worker did not answer in time.
        """
        self.address = address
        try:
            async with asyncio.timeout(timeout_seconds):
                scheme, context = ("ws", None) if self._tls is None else ("wss", self._tls.context)
                await connect(f"{scheme}://{address}/link", self._end, limits=LINK_LIMITS, ssl=context)
                hello = await asyncio.shield(self._greeting)
        except (OSError, TimeoutError, HandshakeRefused, ValueError) as error:
            self.close("not greeted in time")
            refused = isinstance(error, (ConnectionRefusedError, HandshakeRefused))
            unavailable = WorkerGone if refused else LinkUnavailable
            raise unavailable(f"worker {self.worker_id} at {address}: {str(error) or 'timed out'}") from error
        except asyncio.CancelledError:
            self.close("not wanted any more")
            raise
        if hello.id != self.worker_id:
            self.close("another worker lives here now")
            raise WorkerGone(f"at {address} answers worker {shown(hello.id)}, not {self.worker_id}")
        self.boot_id = hello.boot_id

    def succeed(self, broken: WorkerLink, channels: dict[int, ChannelOwner]) -> None:
        """Take up the channels of a link that broke, under their numbers."""
        self._numbers = broken._numbers
        self._channels |= channels
        for channel, owner in channels.items():
            try:
                owner.link_back(self)
            except Exception:
                self._failed(channel, owner)

    def open_channel(self, owner: ChannelOwner) -> int:
        """Open a channel for a call, and return its number."""
        channel = next(self._numbers)
        self._channels[channel] = owner
        return channel

    def leave_channel(self, channel: int) -> None:
        """Leave a channel; records that still come on it are ignored."""
        self._channels.pop(channel, None)

    def send(self, record: bytes) -> None:
        """Send an encoded record."""
        self._end.send(record)

    def close(self, reason: str) -> None:
        """Close the link."""
        self._end.close(reason)

    @property
    def connection(self) -> WebSocket | None:
        """The WebSocket, once it is open."""
        return self._end.connection

    # Owner of the link's end

    def greeted(self, hello: Hello) -> None:
        """Take the HELLO of the worker."""
        if not self._greeting.done():
            self._greeting.set_result(hello)

    def record(self, kind: int, channel: int, payload: memoryview, received_seconds: float) -> None:
        """Hand a record to its call."""
        if channel == 0:
            self.commands.record(kind, payload)
            return
        owner = self._channels.get(channel)
        if owner is not None:
            try:
                owner.record(kind, payload, received_seconds)
            except Exception:
                self._failed(channel, owner)

    def caught_up(self) -> None:
        """Do nothing: each record was complete in itself."""

    def lost(self, reason: str) -> None:
        """Tell every call on the link, at once."""
        if not self._greeting.done():
            self._greeting.set_exception(ConnectionError(reason))
            self._greeting.exception()  # every waiter gets it, and there may be none
        channels, self._channels = self._channels, {}
        self.commands.lost()
        self._on_lost.link_lost(self, reason, channels)

    def give_up(self, channels: dict[int, ChannelOwner]) -> None:
        """Report to the channels that their worker is lost, because no other link could be opened."""
        for channel, owner in channels.items():
            try:
                owner.worker_lost()
            except Exception:
                self._failed(channel, owner)

    def _failed(self, channel: int, owner: ChannelOwner) -> None:
        """End the failed call; the other calls on the link continue."""
        log.exception("a call failed on its link", worker=self.worker_id, channel=channel, uuid=owner.uuid)
        self.leave_channel(channel)
        try:
            owner.stop("internal error")
        except Exception:
            log.exception(
                "a failed call could not be ended", worker=self.worker_id, channel=channel, uuid=owner.uuid
            )


class LostCallback(Interface):
    """Owner of a link, as it hears that the link is lost."""

    def link_lost(self, lost: WorkerLink, reason: str, channels: dict[int, ChannelOwner]) -> None:
        """Handle the loss of a link with these channels on it."""


class LinkPool:
    """Links of one dispatcher, by worker."""

    def __init__(
        self,
        dispatcher_id: str,
        release: str,
        *,
        token: Token | None = None,
        tls: Tls | None = None,
        backoff: Backoff = RETRY_BACKOFF,
    ) -> None:
        self._token = token
        self._tls = tls
        self._lines = LineLimit()
        self._hello = Hello(wire.PROTOCOL_VERSION, release, "dispatcher", dispatcher_id, dispatcher_id)
        self._links: dict[str, WorkerLink] = {}
        self._opening: dict[str, asyncio.Task[WorkerLink]] = {}
        self._backoff = backoff
        # By worker: failures in a row, and until when to wait.
        self._retries: dict[str, tuple[int, float]] = {}
        self._up = asyncio.Event()
        self._closed = False

    async def wait_up(self) -> None:
        """Wait for the first link."""
        await self._up.wait()

    @property
    def is_ready(self) -> bool:
        """Whether there is a link to any worker."""
        return any(known.is_open for known in self._links.values())

    def has(self, worker_id: str) -> bool:
        """Return whether there is a link to this worker."""
        known = self._links.get(worker_id)
        return known is not None and known.is_open

    def up(self, worker_id: str) -> WorkerLink | None:
        """Return the open link to this worker; None: it has none."""
        known = self._links.get(worker_id)
        return known if known is not None and known.is_open else None

    async def holder(self, uuid: str) -> tuple[str, str, int] | None:
        """Ask all workers for the session of a call; return id, address and epoch; None: no worker has it."""

        async def ask(known: WorkerLink) -> tuple[str, str, int] | None:
            try:
                async with asyncio.timeout(HOLDER_SECONDS):
                    answer = await known.commands.run(uuid, "holds")
            except (CommandError, TimeoutError):
                return None
            return known.worker_id, known.address, int(answer.get("epoch", 0))

        answers = await asyncio.gather(*(ask(known) for known in self._links.values() if known.is_open))
        return max((answer for answer in answers if answer), key=lambda answer: answer[2], default=None)

    async def loads(self) -> dict[str, int]:
        """Ask all workers for their number of calls. A worker that does not answer in time is left out."""

        async def ask(known: WorkerLink) -> tuple[str, int] | None:
            try:
                async with asyncio.timeout(HOLDER_SECONDS):
                    answer = await known.commands.run("", "load")
            except (CommandError, TimeoutError):
                return None  # also a worker of the release before this one
            calls = answer.get("calls")
            return (known.worker_id, calls) if isinstance(calls, int) else None

        answers = await asyncio.gather(*(ask(known) for known in self._links.values() if known.is_open))
        return dict(answer for answer in answers if answer is not None)

    def calls(self, worker_id: str) -> int:
        """Return the number of calls that this dispatcher has on the worker."""
        known = self._links.get(worker_id)
        return known.calls if known is not None else 0

    async def get(self, worker_id: str, address: str) -> WorkerLink:
        """Return the link to a worker, opened if need be.

        Raises:
            LinkUnavailable: it cannot be opened.
        """
        for _ in range(GET_ATTEMPTS):
            known = self.up(worker_id) or await self._get(worker_id, address)
            # It may be gone again when whoever waited for it has its turn: a channel on it would be dead.
            if known.is_open:
                return known
        raise LinkUnavailable(f"worker {worker_id} at {address}: the link breaks again and again")

    async def _get(self, worker_id: str, address: str) -> WorkerLink:
        if self._closed:
            raise LinkUnavailable("the dispatcher ends")
        task = self._opening.get(worker_id)
        if task is None:
            task = asyncio.create_task(self._open(worker_id, address), name=f"link to {worker_id}")
            self._opening[worker_id] = task
            task.add_done_callback(lambda done: self._opened(worker_id, done))
        # Several calls may wait for one link: the end of one of them is not the end of it.
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise LinkUnavailable("the dispatcher ends") from None

    def keep(self, workers: Iterable[tuple[str, str]]) -> None:
        """Open links ahead to these workers (id, address); a later call retries those that failed."""
        now = asyncio.get_running_loop().time()
        wanted = dict(workers)
        self._retries = {worker_id: retry for worker_id, retry in self._retries.items() if worker_id in wanted}
        for worker_id, address in wanted.items():
            _, not_before = self._retries.get(worker_id, (0, now))
            if not self.has(worker_id) and worker_id not in self._opening and not_before <= now:
                task = asyncio.create_task(self.get(worker_id, address), name=f"keep link to {worker_id}")
                task.add_done_callback(_consume)

    async def close(self) -> None:
        """Close all links, and open none again; takes `CLOSE_SECONDS` at most."""
        self._closed = True
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        links = list(self._links.values())
        for known in links:
            known.close("the dispatcher ends")
        connections = [known.connection for known in links if known.connection is not None]
        await close_all(connections, 1000, "the dispatcher ends", timeout_seconds=CLOSE_SECONDS)

    def link_lost(self, lost: WorkerLink, reason: str, channels: dict[int, ChannelOwner]) -> None:
        """Look for another link to the same worker, where there are calls on it; else forget it."""
        if self._links.get(lost.worker_id) is not lost:
            # It never was up, or has a successor.
            lost.give_up(channels)
            return
        del self._links[lost.worker_id]
        log.warning("link lost", worker=lost.worker_id, reason=reason, calls=len(channels))
        if self._closed or not channels or lost.worker_id in self._opening:
            lost.give_up(channels)
            return
        for owner in channels.values():
            owner.link_broke()
        task = asyncio.create_task(self._resume(lost, channels), name=f"resume {lost.worker_id}")
        # A caller that wants a link to this worker meanwhile waits for this one.
        self._opening[lost.worker_id] = task
        task.add_done_callback(lambda done: self._opened(lost.worker_id, done))

    async def _resume(self, lost: WorkerLink, channels: dict[int, ChannelOwner]) -> WorkerLink:
        try:
            new = await self._reopened(lost)
        except BaseException:
            lost.give_up(channels)
            raise
        self._links[lost.worker_id] = new
        log.info("link up again", worker=lost.worker_id, calls=len(channels))
        new.succeed(lost, channels)
        return new

    async def _reopened(self, lost: WorkerLink) -> WorkerLink:
        """Open another link to the same process; several connections are tried, and the first that greets is it.

        Raises:
            WorkerGone: the process is gone.
            LinkUnavailable: it did not answer within `RESUME_SECONDS`.
        """
        clock = asyncio.get_running_loop().time
        until_seconds = clock() + RESUME_SECONDS
        attempts: set[asyncio.Task[WorkerLink]] = set()
        failure: BaseException | None = None
        try:
            while not isinstance(failure, WorkerGone) and (left_seconds := until_seconds - clock()) > 0:
                attempts.add(asyncio.create_task(self._attempt(lost, left_seconds)))
                step_seconds = min(RESUME_STEP_SECONDS, left_seconds)
                await asyncio.wait(attempts, timeout=step_seconds, return_when=asyncio.FIRST_COMPLETED)
                for attempt in [each for each in attempts if each.done()]:
                    failure = attempt.exception()
                    attempts.remove(attempt)
                    if failure is None:
                        return attempt.result()
                if failure is not None and not isinstance(failure, WorkerGone):
                    # It failed at once, and would again.
                    await asyncio.sleep(min(RESUME_STEP_SECONDS, max(0.0, until_seconds - clock())))
            raise failure or LinkUnavailable(f"worker {lost.worker_id} at {lost.address}: timed out")
        finally:
            for attempt in attempts:
                attempt.cancel()
                attempt.add_done_callback(_close_surplus)

    async def _attempt(self, lost: WorkerLink, timeout_seconds: float) -> WorkerLink:
        new = WorkerLink(lost.worker_id, self._hello, self, self._token, self._tls, lines=self._lines)
        await new.open(lost.address, timeout_seconds)
        if new.boot_id != lost.boot_id:
            new.close("another process lives here now")
            raise WorkerGone(f"worker {lost.worker_id} is another process now")
        return new

    async def _open(self, worker_id: str, address: str) -> WorkerLink:
        new = WorkerLink(worker_id, self._hello, self, self._token, self._tls, lines=self._lines)
        await new.open(address)
        self._links[worker_id] = new
        self._up.set()
        log.info("link up", worker=worker_id, address=address)
        return new

    def _opened(self, worker_id: str, task: asyncio.Task[WorkerLink]) -> None:
        self._opening.pop(worker_id, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._retries.pop(worker_id, None)
        else:
            failures = self._retries.get(worker_id, (0, 0.0))[0] + 1
            not_before = asyncio.get_running_loop().time() + self._backoff.delay_seconds(failures)
            self._retries[worker_id] = (failures, not_before)
            log.warning("link not up", worker=worker_id, reason=str(error))


def _consume(task: asyncio.Task[WorkerLink]) -> None:
    # The failure was logged where the link was opened.
    if not task.cancelled():
        task.exception()


def _close_surplus(attempt: asyncio.Task[WorkerLink]) -> None:
    """Close a link that was greeted after another one had been taken."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close("another link is used")
