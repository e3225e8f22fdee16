"""Calls from the live page: a browser talks to the agent, without Asterisk. See docs/page-calls.md.

The page asks for a ticket under the access rule of the calls API, and sends it as the WebSocket's first message.
From then on both sides speak AVR Core's protocol. This side has sent `init` already.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Final
from typing import Protocol as Interface

import orjson
from aiohttp import WSMsgType, web

from common.errors import RegistryUnavailable
from common.store.registry import Registry
from dispatcher.api.access import Access, is_of_another_page
from dispatcher.api.answers import json_answer
from dispatcher.api.audit import audit
from dispatcher.api.commands import CommandError
from dispatcher.api.page_connection import PageConnection, PageOwner
from dispatcher.api.tickets import LIFETIME_SECONDS, Tickets
from dispatcher.avr import protocol
from dispatcher.recording.recordings import Recordings

PING_SECONDS: Final = 20.0
"""Time between two pings; a page that answers none within half of it is disconnected (aiohttp's heartbeat)."""

MAX_UNIDENTIFIED: Final = 8
"""Maximum number of connections that have not sent their ticket."""

OFF: Final = "calls from the page are switched off: PAGE_CALLS=true permits them"
BUSY: Final = "another call from the page is under way at this dispatcher: one at a time"
OTHER_ORIGIN: Final = (
    "this page was loaded under another name than the dispatcher is asked by: have the proxy keep the header Host"
)


@dataclass(frozen=True, slots=True)
class PageCallLimits:
    """Bounds of calls from the page.

    Attributes:
        call_seconds: maximum length of a call.
        ticket_seconds: time for which a ticket is valid; whole seconds.
        first_message_seconds: maximum time from the handshake to the ticket.
    """

    call_seconds: float = 600.0
    ticket_seconds: int = LIFETIME_SECONDS
    first_message_seconds: float = 5.0


class PageDispatcher(Interface):
    """The part of a dispatcher that calls from the page use."""

    @property
    def registry(self) -> Registry:
        """The registry in Redis."""

    @property
    def recordings(self) -> Recordings | None:
        """Recordings of calls; None: calls are not recorded."""

    def page_call(self, connection: PageConnection) -> PageOwner | None:
        """Return the shell of a new call on this connection; None: the dispatcher takes no calls any more."""


class PageCallsApi:
    """The handlers of calls from the page."""

    def __init__(
        self,
        dispatcher: PageDispatcher,
        access: Access,
        *,
        is_on: bool,
        limits: PageCallLimits,
    ) -> None:
        """Begin without a call.

        Args:
            dispatcher: takes the calls.
            access: the access rule.
            is_on: whether such calls are permitted.
            limits: bounds of the calls.
        """
        self._dispatcher = dispatcher
        self._access = access
        self._limits = limits
        # None: calls are not permitted.
        self._tickets = Tickets(dispatcher.registry, lifetime_seconds=limits.ticket_seconds) if is_on else None
        self._unidentified = 0
        self._is_busy = False

    async def state(self, _: web.Request) -> web.Response:
        """Answer `GET /page-call`: whether the page may call, and what applies to such a call."""
        return json_answer(
            {
                "enabled": self._tickets is not None,
                "busy": self._is_busy,
                "seconds": self._limits.call_seconds,
                "recorded": self._dispatcher.recordings is not None,
            }
        )

    async def ticket(self, request: web.Request) -> web.Response:
        """Answer `POST /page-call` with a ticket for one call."""
        tickets = self._tickets
        if tickets is None:
            raise CommandError(403, OFF)
        if is_of_another_page(request):
            raise CommandError(403, OTHER_ORIGIN)
        if self._is_busy:
            raise CommandError(409, BUSY)
        return json_answer({"ticket": await tickets.issue(), "seconds": tickets.lifetime_seconds})

    async def line(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /page-call/line` with the WebSocket of a call. The ticket is the access rule here."""
        refusal = self._access.to_page(request)
        if refusal is not None:
            return json_answer({"error": refusal.message}, status=refusal.status)
        if self._tickets is None:
            return json_answer({"error": OFF}, status=403)
        # Browsers name the page's origin with each WebSocket.
        if "Origin" not in request.headers or is_of_another_page(request):
            return json_answer({"error": "the header Origin must name this page"}, status=403)
        socket = web.WebSocketResponse(
            timeout=5.0,
            heartbeat=PING_SECONDS,
            compress=False,
            max_msg_size=protocol.MAX_MESSAGE_BYTES,
            decode_text=False,
        )
        if not socket.can_prepare(request).ok:
            return json_answer({"error": "this is the address of a WebSocket"}, status=426)
        if self._unidentified >= MAX_UNIDENTIFIED:
            return json_answer({"error": "too many connections without a ticket"}, status=503)
        self._unidentified += 1
        try:
            await socket.prepare(request)
            refused = await self._refused(socket, self._tickets)
        finally:
            self._unidentified -= 1
        if refused is not None:
            await socket.close(code=refused[0], message=refused[1].encode())
        else:
            await self._call(request, socket)
        return socket

    async def _refused(self, socket: web.WebSocketResponse, tickets: Tickets) -> tuple[int, str] | None:
        """Read the ticket; return close code and words of a refusal, or None. The call is reserved then."""
        seconds = self._limits.first_message_seconds
        try:
            ticket = _ticket(await socket.receive(timeout=seconds))
            if ticket is None or not await tickets.redeem(ticket):
                return 4401, "the ticket was used before, or has expired: call again"
        except TimeoutError:
            return 4408, f"no ticket came within {seconds:g} s: call again"
        except RegistryUnavailable:
            return 1013, "Redis is away: call again later"
        if self._is_busy:
            return 4409, BUSY
        self._is_busy = True
        return None

    async def _call(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        """Carry one call until it ends."""
        ending: asyncio.TimerHandle | None = None
        try:
            connection = PageConnection(socket, request.transport)
            owner = self._dispatcher.page_call(connection)
            if owner is None:
                await socket.close(code=1013, message=b"this dispatcher is draining: call again")
                return
            name = str(uuid.uuid4())
            audit("call from the page", request, uuid=name)
            began = {"type": "began", "uuid": name, "seconds": self._limits.call_seconds}
            await socket.send_frame(orjson.dumps(began), WSMsgType.TEXT)
            owner.received(orjson.dumps({"type": "init", "uuid": name}), True)
            minutes = f"{self._limits.call_seconds / 60:g} minutes"
            ending = asyncio.get_running_loop().call_later(
                self._limits.call_seconds,
                connection.close,
                1000,
                f"A call from the page may last {minutes} at most.",
            )
            await connection.run(owner)
        finally:
            self._is_busy = False
            if ending is not None:
                ending.cancel()


def _ticket(message: object) -> str | None:
    """Return the ticket of a connection's first message; None if it has none."""
    kind, data = getattr(message, "type", None), getattr(message, "data", None)
    if kind not in (WSMsgType.TEXT, WSMsgType.BINARY) or not isinstance(data, bytes):
        return None
    try:
        first = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    ticket = first.get("ticket") if isinstance(first, dict) and first.get("type") == "ticket" else None
    return ticket if isinstance(ticket, str) else None
