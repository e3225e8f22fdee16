"""The dispatcher's admin port: probes and metrics, and the calls API for this host."""

from __future__ import annotations

import datetime
import ipaddress
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from common import admin
from common.errors import RegistryUnavailable
from common.registry import CallRecord, Registry, WorkerStatus

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(registry: Registry, is_ready: Callable[[], bool]) -> web.Application:
    """Probes and metrics for everybody; `GET /calls` and `GET /workers` for loopback."""
    app = admin.application(is_ready, "no link to a worker yet, or draining")

    async def calls(_: web.Request) -> web.Response:
        now = time.time()
        return _json([_call(record, now) for record in await registry.calls()])

    async def workers(_: web.Request) -> web.Response:
        return _json([_worker(status) for status in await registry.workers()])

    app.add_routes([web.get("/calls", _local(calls)), web.get("/workers", _local(workers))])
    return app


def _local(handler: Handler) -> Handler:
    """What callers say of themselves is for this host alone."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if not _is_loopback(request.remote):
            return _json({"error": "the calls API answers on loopback only"}, status=403)
        try:
            return await handler(request)
        except RegistryUnavailable as error:
            return _json({"error": f"Redis is away: {error}"}, status=503)

    return guarded


def _is_loopback(address: str | None) -> bool:
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


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


def _json(data: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json")
