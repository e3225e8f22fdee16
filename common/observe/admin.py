"""The admin port of a process: probes and metrics for everybody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from aiohttp import web

from common.observe import metrics
from common.observe.request_faults import RequestFaults

# Requests of probes, Prometheus and people; nothing here has a body to send.
MAX_BODY_BYTES = 64 * 1024
SHUTDOWN_SECONDS = 1.0
# A connection that brings no whole request for so long is closed: one that was just opened, or one kept alive.
IDLE_SECONDS = 10.0


def application(is_ready: Callable[[], bool], not_ready: str) -> web.Application:
    """`GET /livez`, `/readyz`, `/metrics`.

    Args:
        is_ready: whether new calls are welcome.
        not_ready: what a probe reads while they are not.
    """

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if is_ready() else web.Response(status=503, text=f"{not_ready}\n")

    rendering = asyncio.Lock()

    async def exposition(_: web.Request) -> web.Response:
        # In a thread: where many processes share their values it takes longer than audio may wait. One at a time:
        # who asks too often takes no more than that.
        async with rendering:
            body, content_type = await asyncio.to_thread(metrics.render)
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.add_routes(
        [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", exposition)],
    )
    return app


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
