"""A whole dispatcher with a real Redis, scripted workers and callers over real sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from typing import Any, Self

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from common.observe import metrics
from common.settings.tenants import NO_TENANTS, Tenants
from common.store.leases import WorkerRecord, WorkerState
from common.store.registry import Registry
from dispatcher.asterisk.ami import Ami
from dispatcher.call.announcements import SILENT, Announcements
from dispatcher.call.limits import CallLimits
from dispatcher.recording.recordings import RecordingSettings
from dispatcher.security import OPEN, Security
from dispatcher.service import Dispatcher
from tests.dispatcher.scripted_worker import Answer, ScriptedWorker, running, take
from tests.helpers import eventually

PATIENCE_SECONDS = 10.0


class Core:
    """AVR Core's side of one call."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, **message: object) -> None:
        await self.socket.send(orjson.dumps(message).decode())

    async def audio(self, pcm: bytes) -> None:
        await self.say(type="audio", audio=base64.b64encode(pcm).decode())

    async def hear(self) -> dict[str, Any]:
        """Return the next message."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            message: dict[str, Any] = orjson.loads(await self.socket.recv())
        return message

    async def end(self) -> tuple[int | None, str | None]:
        """Wait for the end of the connection; return its close code, and the text of the last `error`."""
        said = None
        async with asyncio.timeout(PATIENCE_SECONDS):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    message = orjson.loads(await self.socket.recv())
                    said = message["message"] if message["type"] == "error" else said
        return self.socket.close_code, said

    async def hang_up(self) -> None:
        await self.socket.close()


class Rig:
    """One dispatcher. Close it with `stop`, or leave its context."""

    def __init__(
        self,
        redis_url: str,
        dispatcher_id: str = "d-1",
        timeout_seconds: float = 30,
        security: Security = OPEN,
        leaves_calls: bool = False,
        *,
        announcements: Announcements = SILENT,
        ami_url: str = "http://127.0.0.1:9",  # no process answers there
        recordings: RecordingSettings | None = None,
        tenants: Tenants = NO_TENANTS,
        **limits: Any,
    ) -> None:
        self.registry = Registry.from_url(redis_url, timeout_seconds=timeout_seconds)
        self.dispatcher = Dispatcher(
            dispatcher_id,
            "1.0.0",
            self.registry,
            metrics=metrics.dispatcher(),
            ami=Ami(ami_url),
            limits=CallLimits(**limits),
            security=security,
            announcements=announcements,
            leaves_calls=leaves_calls,
            recordings=recordings,
            tenants=tenants,
        )
        self.url = ""
        self._cores: list[Core] = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{sock.getsockname()[1]}/"
        await self.dispatcher.start(sock)
        return self

    async def __aexit__(self, *_: object) -> None:
        for core in self._cores:
            core.socket.transport.abort()
            await core.socket.wait_closed()
        await self.dispatcher.stop()
        await self._stack.aclose()
        await self.registry.aclose()

    async def worker(self, worker_id: str = "w-1", answer: Answer = take, *, capacity: int = 10) -> ScriptedWorker:
        """Start and publish another worker."""
        worker = await self._stack.enter_async_context(running(ScriptedWorker(worker_id, answer)))
        await self.publish(worker_id, worker.address, capacity=capacity)
        return worker

    async def publish(self, worker_id: str, address: str, *, capacity: int = 10) -> None:
        """Publish a worker in Redis, whether it runs or not."""
        record = WorkerRecord(worker_id, address, "host", 1, "1.0.0", capacity, WorkerState.READY, "boot_id")
        await self.registry.publish_worker(record, lease_seconds=60)

    async def connect(self, query: str = "", **options: Any) -> Core:
        """Open a connection without `init`."""
        self._cores.append(Core(await connect(self.url + query, **options)))
        return self._cores[-1]

    async def call(self, uuid: str = "call", query: str = "") -> Core:
        """Open a connection, and send `init`."""
        core = await self.connect(query)
        await core.say(type="init", uuid=uuid)
        return core

    async def live(self, uuid: str = "call") -> Core:
        """Return a call that a worker has taken."""
        core = await self.call(uuid)
        await eventually(lambda: self.state(uuid) == "live", PATIENCE_SECONDS)
        return core

    def state(self, uuid: str = "call") -> str | None:
        """Return where the dispatcher's call is."""
        caller = self.dispatcher._by_uuid.get(uuid)
        return None if caller is None else caller.call.state.value

    async def nothing_is_left(self) -> None:
        """Wait until there is no call in the dispatcher, nor on its links, nor in Redis, nor a task of one."""
        await eventually(self._is_empty, PATIENCE_SECONDS)

    async def _is_empty(self) -> bool:
        dispatcher = self.dispatcher
        channels = [dispatcher.links.calls(each.id) for each in dispatcher.placement.workers]
        here = (dispatcher._by_uuid, dispatcher._runners, dispatcher._settling, sum(channels))
        in_redis = await self.registry.calls()
        slots = sum(each.calls for each in await self.registry.workers())
        return not any(here) and not in_redis and not slots


def counted(name: str) -> float:
    """Return a metric's value; `name` with its labels as `/metrics` writes it."""
    lines = metrics.render()[0].decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name), 0.0)
