"""A double of avr-ami, the service that ends and transfers calls in Asterisk.

    async with AmiDouble() as ami:
        settings = Settings(ami_url=ami.url)
        ...
        await ami.wait_for(lambda ami: ami.requests)

It takes `POST /hangup` with `uuid`, and `POST /transfer` with `uuid`, `exten`, `context` and `priority`.
It answers with a `message`: 200 when the action is done, 404 for an unknown call, 500 without Asterisk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import orjson
from aiohttp import web

from simulator.waiting import Waiter, settle, wait_until

MAX_REQUESTS = 1000
"""Maximum number of requests kept: the latest ones."""

_STOP_TIMEOUT_SECONDS = 1.0
_DONE_AS = {"hangup": "hangup", "transfer": "redirect"}


@dataclass(frozen=True, slots=True)
class AmiRequest:
    """A request as received.

    Attributes:
        action: `hangup` or `transfer`.
        uuid: uuid of the call; None if the request had none.
        exten: extension that a transfer goes to.
        context: context of the dialplan.
        priority: priority in the extension, as the number or text that was sent.
    """

    action: str
    uuid: str | None
    exten: str | None = None
    context: str | None = None
    priority: int | str | None = None


class AmiDouble:
    """A server on 127.0.0.1 in the place of avr-ami.

    Args:
        calls: uuids of Asterisk's calls; None: any uuid. A call that was hung up is removed.

    Attributes:
        requests: the last 1,000 requests, in order.
    """

    def __init__(self, calls: Collection[str] | None = None) -> None:
        self.requests: deque[AmiRequest] = deque(maxlen=MAX_REQUESTS)
        self._calls = None if calls is None else set(calls)
        self._failures = 0.0
        self._running = asyncio.Event()
        self._running.set()
        self._waiters: list[Waiter[AmiDouble]] = []
        self._runner: web.AppRunner | None = None
        self._port: int | None = None

    async def __aenter__(self) -> AmiDouble:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Return `http://127.0.0.1:PORT`, for AMI_URL."""
        if self._port is None:
            raise RuntimeError("the AMI double is not started")
        return f"http://127.0.0.1:{self._port}"

    async def start(self, port: int = 0) -> None:
        """Start to listen.

        Raises:
            OSError: the port is taken or not allowed.
        """
        app = web.Application()
        app.router.add_post("/{action:hangup|transfer}", self._post)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_TIMEOUT_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Answer stalled requests, and stop listening. A second call does nothing."""
        self._running.set()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def fail(self, times: float = 1) -> None:
        """Answer the next requests (`inf`: all; 0: none) with 500, as avr-ami does without Asterisk."""
        self._failures = times

    def stall(self) -> None:
        """Answer no request until `resume`."""
        self._running.clear()

    def resume(self) -> None:
        """Answer again, including the stalled requests."""
        self._running.set()

    async def wait_for(self, predicate: Callable[[AmiDouble], Any], *, timeout_seconds: float = 10.0) -> None:
        """Wait until `predicate(ami)` is true; the predicate is called after each request.

        Raises:
            TimeoutError: the predicate stayed false; the message lists the requests.
        """
        try:
            await wait_until(self._waiters, predicate, self, timeout_seconds)
        except TimeoutError as error:
            actions = [request.action for request in self.requests]
            raise TimeoutError(
                f"the condition was not met within {timeout_seconds} s; avr-ami was asked for {actions}"
            ) from error

    async def _post(self, request: web.Request) -> web.Response:
        action = request.match_info["action"]
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            return _answer(400, "The body is not JSON")
        if not isinstance(body, dict):
            return _answer(400, "The body is not a JSON object")
        asked = AmiRequest(action, body.get("uuid"), body.get("exten"), body.get("context"), body.get("priority"))
        self.requests.append(asked)
        settle(self._waiters, self)
        await self._running.wait()
        return self._do(asked)

    def _do(self, asked: AmiRequest) -> web.Response:
        if self._calls is not None and asked.uuid not in self._calls:
            return _answer(404, f"Call with UUID {asked.uuid} not found")
        if self._failures > 0:
            self._failures -= 1
            return _answer(500, "Error communicating with Asterisk")
        if self._calls is not None and asked.action == "hangup":
            self._calls.discard(asked.uuid or "")
        return _answer(200, f"Call with UUID {asked.uuid} {_DONE_AS[asked.action]} with action: Success")


def _answer(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)
