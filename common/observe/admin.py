"""The admin port of a process: probes and metrics, open to all clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from common.observe import metrics
from common.observe.request_faults import RequestFaults

# Bound of a request's body; probes and Prometheus send none.
MAX_BODY_BYTES = 64 * 1024
SHUTDOWN_SECONDS = 1.0
CALLS_PORT_HEADER: Final = "AVR-STS-Calls-Port"
"""Header of the answer to a WebSocket that was meant for PORT: its number, or `none` at a worker."""

# A new or kept-alive connection is closed after this time without a whole request.
IDLE_SECONDS = 10.0


def application(
    is_ready: Callable[[], bool],
    not_ready: str,
    problems: Callable[[], Sequence[str]] = tuple,
    *,
    calls_port: int | None = None,
) -> web.Application:
    """Create the application that answers `GET /livez`, `/readyz` and `/metrics`.

    Args:
        is_ready: returns whether the process accepts new calls.
        not_ready: the text of a probe's answer while it does not.
        problems: returns the lines for problems that leave the process ready (`problems.py`).
        calls_port: number of PORT; None at a worker.
    """

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        is_up = is_ready()
        lines = ["ok" if is_up else not_ready, *problems()]
        return web.Response(status=200 if is_up else 503, text="".join(f"{line}\n" for line in lines))

    rendering = asyncio.Lock()

    async def exposition(_: web.Request) -> web.Response:
        # In a thread, because reading the values of many processes takes longer than audio may wait. One request
        # at a time, which bounds the cost of frequent requests.
        async with rendering:
            body, content_type = await asyncio.to_thread(metrics.render)
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_redirect_calls(calls_port)])
    app.add_routes(
        [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", exposition)],
    )
    return app


def _redirect_calls(calls_port: int | None) -> Middleware:
    """Return the middleware that answers WebSockets of callers who took this port for PORT.

    AVR Core uses any path on PORT. WebSockets on paths that have routes here are left alone.
    """
    where = "PORT of a dispatcher" if calls_port is None else f"PORT, {calls_port}"

    @web.middleware
    async def redirect(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_lost = request.path == "/" or request.match_info.http_exception is not None
        if is_lost and request.headers.get("Upgrade", "").lower() == "websocket":
            return web.Response(
                status=421,  # Misdirected Request (RFC 9110)
                headers={CALLS_PORT_HEADER: "none" if calls_port is None else str(calls_port)},
                text=f"this is ADMIN_PORT: calls go to {where}\n",
            )
        return await handler(request)

    return redirect


async def serve(app: web.Application, sock: socket.socket) -> web.AppRunner:
    """Answer on a listening socket until the runner's `cleanup`."""
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=RequestFaults("ADMIN_PORT"),
        shutdown_timeout=SHUTDOWN_SECONDS,
        keepalive_timeout=IDLE_SECONDS,
    )
    await runner.setup()
    await web.SockSite(runner, sock).start()
    return runner
