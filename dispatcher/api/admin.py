"""The dispatcher's admin port: probes and metrics; calls API and page, for this host or who has ADMIN_TOKEN.

Any dispatcher answers for every call of the cluster: who holds it stands in Redis, and its worker is asked over
the link.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import time
from collections.abc import Awaitable, Callable
from typing import Any
from typing import Protocol as Interface

import orjson
from aiohttp import web

from common.errors import RegistryUnavailable
from common.net import json_depth
from common.net.json_depth import TooDeep
from common.net.tokens import Token
from common.observe import admin
from common.observe.redaction import NO_CALL, without_known
from common.store.leases import CallRecord, WorkerStatus
from common.store.registry import Registry
from dispatcher.api import page
from dispatcher.api.access import Access
from dispatcher.api.commands import CallCommands, CommandError
from dispatcher.api.event_stream import send_events

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# A request's body is 64 KiB at most.
BODY_SECONDS = 10.0


class Calls(Interface):
    """What the API needs of a dispatcher."""

    @property
    def is_ready(self) -> bool:
        """Whether new calls are welcome here."""

    @property
    def registry(self) -> Registry:
        """Redis."""

    async def holder(self, uuid: str) -> CallCommands:
        """The commands of the worker that holds a call, or of its dispatcher while no worker has it."""


def application(dispatcher: Calls, token: Token | None = None) -> web.Application:
    """Probes and metrics for everybody; page and API for who has the token, or without one for loopback."""
    app = admin.application(lambda: dispatcher.is_ready, "no link to a worker yet, or draining")
    api = CallsApi(dispatcher)
    access = Access(token)
    guarded = functools.partial(_guarded, access)
    app.add_routes(
        [
            *page.routes(access),
            web.get("/workers", guarded(api.workers)),
            web.get("/calls", guarded(api.calls)),
            web.get("/calls/{uuid}", guarded(api.call)),
            web.delete("/calls/{uuid}", guarded(api.hang_up)),
            web.post("/calls/{uuid}/session", guarded(api.session)),
            web.post("/calls/{uuid}/say", guarded(api.say)),
            web.get("/calls/{uuid}/events", guarded(api.events)),
        ]
    )
    return app


class CallsApi:
    """See the README's "Calls API"."""

    def __init__(self, dispatcher: Calls) -> None:
        self._dispatcher = dispatcher

    async def workers(self, _: web.Request) -> web.Response:
        """`GET /workers`."""
        return _json([_worker(status) for status in await self._dispatcher.registry.workers()])

    async def calls(self, _: web.Request) -> web.Response:
        """`GET /calls`."""
        now = time.time()
        return _json([_call(record, now) for record in await self._dispatcher.registry.calls()])

    async def call(self, request: web.Request) -> web.Response:
        """`GET /calls/{uuid}`: with its conversation so far."""
        uuid = request.match_info["uuid"]
        record = await self._dispatcher.registry.call(uuid)
        if record is None:
            raise CommandError(404, "there is no such call")
        conversation = await (await self._dispatcher.holder(uuid)).run(uuid, "conversation")
        return _json(_call(record, time.time()) | conversation, uuid=uuid)

    async def hang_up(self, request: web.Request) -> web.Response:
        """`DELETE /calls/{uuid}`."""
        return await self._command(request, "hang_up", {})

    async def session(self, request: web.Request) -> web.Response:
        """`POST /calls/{uuid}/session`: merged into the running session."""
        return await self._command(request, "session", await _body(request))

    async def say(self, request: web.Request) -> web.Response:
        """`POST /calls/{uuid}/say`."""
        body = await _body(request)
        if not isinstance(body.get("text"), str) or not body["text"].strip():
            raise CommandError(400, 'the body must be {"text": "what to say"}')
        return await self._command(request, "say", body)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """`GET /calls/{uuid}/events`: server-sent events, until the call ends."""
        uuid = request.match_info["uuid"]
        commands = await self._dispatcher.holder(uuid)
        async with commands.watch(uuid) as events:
            return await send_events(request, events, uuid)

    async def _command(self, request: web.Request, action: str, body: dict[str, Any]) -> web.Response:
        uuid = request.match_info["uuid"]
        commands = await self._dispatcher.holder(uuid)
        return _json(await commands.run(uuid, action, body), uuid=uuid)


def _guarded(access: Access, handler: Handler) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        refusal = access.to_calls(request)
        if refusal is not None:
            headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else None
            return _json({"error": refusal.message}, status=refusal.status, headers=headers)
        try:
            return await handler(request)
        except CommandError as error:
            return _json({"error": str(error)}, status=error.status, uuid=request.match_info.get("uuid", NO_CALL))
        except RegistryUnavailable as error:
            return _json({"error": f"Redis is away: {error}"}, status=503)

    return answer


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = json_depth.read(await request.read())
    except TimeoutError as error:
        raise CommandError(408, f"the body did not come within {BODY_SECONDS:g} s") from error
    except TooDeep as error:
        raise CommandError(400, f"the body {error}: send it flatter") from error
    except orjson.JSONDecodeError as error:
        raise CommandError(400, "the body is not JSON") from error
    if not isinstance(body, dict):
        raise CommandError(400, "the body is not a JSON object")
    return body


def _call(record: CallRecord, now_seconds: float) -> dict[str, Any]:
    # Both are wall clocks, of Redis and of this host: the age is for people to read.
    started_seconds = record.started_at_ms / 1000
    return {
        "uuid": record.uuid,
        "worker": record.worker,
        "dispatcher": record.dispatcher,
        "state": record.state,
        "started_at": datetime.datetime.fromtimestamp(started_seconds, datetime.UTC).isoformat(),
        "seconds": round(max(0.0, now_seconds - started_seconds), 3),
        "pins": record.pins,
        "metadata": dict(record.metadata),
    }


def _worker(status: WorkerStatus) -> dict[str, Any]:
    return {
        "id": status.id,
        "host": status.host,
        "pid": status.pid,
        "address": status.address,
        "calls": status.calls,
        "capacity": status.capacity,
        "state": status.state.value,
    }


def _json(
    data: object, status: int = 200, headers: dict[str, str] | None = None, *, uuid: str = NO_CALL
) -> web.Response:
    body = _dumps(data, uuid)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def _dumps(data: object, uuid: str) -> bytes:
    """Return JSON without known secrets. Its worker, and Redis, have left out those of a call already."""
    return without_known(orjson.dumps(data).decode(), uuid).encode()
