"""The dispatcher's admin port: probes, metrics, calls API and page. `access.py` has the rules of access.

Any dispatcher answers for every call of the cluster. Redis names the call's worker, and the dispatcher asks that
worker over the link.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from typing import Protocol as Interface

import orjson
from aiohttp import web

from common.errors import RegistryUnavailable
from common.net import json_depth
from common.net.json_depth import TooDeep
from common.net.tokens import Token
from common.observe import admin
from common.observe.redaction import NO_CALL
from common.settings.tenants import Tenants
from common.store.leases import CallRecord, CallsPage, WorkerStatus
from common.store.registry import Registry
from dispatcher.api import page, paging
from dispatcher.api.access import Access
from dispatcher.api.answers import Row, json_answer, paged_answer
from dispatcher.api.audit import ConversationAudit
from dispatcher.api.call_figures import figures_of_call
from dispatcher.api.commands import CallCommands, CommandError
from dispatcher.api.event_stream import send_events
from dispatcher.api.finding import finder
from dispatcher.api.page_calls import PageCallLimits, PageCallsApi
from dispatcher.api.page_connection import PageConnection, PageOwner
from dispatcher.api.recordings import ElsewhereError, RecordingsApi
from dispatcher.api.records_api import RecordsApi
from dispatcher.api.service_api import UNKNOWN_DOOR, FrontDoor, ServiceApi
from dispatcher.api.today import Today
from dispatcher.recording.recordings import Recordings
from dispatcher.records.record_taker import RecordTaker

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LIVE_HEADER: Final = "Calls-Live"
"""Header of lists of live calls: how many there are."""

FOUND_HEADER: Final = "Calls-Found"
"""Header of lists of live calls: how many of them the parameters select, on all pages."""

# Maximum time for a request's body, which has at most 64 KiB.
BODY_SECONDS = 10.0

_Selects = Callable[[CallRecord], bool]


class Calls(Interface):
    """The part of a dispatcher that the API uses."""

    @property
    def is_ready(self) -> bool:
        """Whether the dispatcher takes new calls."""

    @property
    def problems(self) -> Sequence[str]:
        """Problems that leave the dispatcher ready, a line each."""

    @property
    def registry(self) -> Registry:
        """The registry in Redis."""

    @property
    def tenants(self) -> Tenants:
        """The tenants of the deployment."""

    @property
    def record_taker(self) -> RecordTaker:
        """The taker of the records of ended calls."""

    @property
    def recordings(self) -> Recordings | None:
        """Recordings of calls; None: calls are not recorded."""

    def page_call(self, connection: PageConnection) -> PageOwner | None:
        """Return the shell of a call from the page; None: no calls are taken any more."""

    async def holder(self, uuid: str) -> CallCommands:
        """Return the commands of the call's worker, or of the call's dispatcher while no worker has the call."""


def application(
    dispatcher: Calls,
    token: Token | None = None,
    *,
    front_door: FrontDoor = UNKNOWN_DOOR,
    has_page_calls: bool = False,
    page_call_limits: PageCallLimits | None = None,
) -> web.Application:
    """Return the application: probes and metrics without restrictions, page and API by the rules of access.

    Args:
        dispatcher: answers.
        token: ADMIN_TOKEN.
        front_door: told to the page; its port is also told to callers that connect here by mistake.
        has_page_calls: whether the page may place calls.
        page_call_limits: bounds of these calls; None: those of `PageCallLimits`.
    """
    not_ready = "no link to a worker yet, or draining"
    app = admin.application(
        lambda: dispatcher.is_ready, not_ready, lambda: dispatcher.problems, calls_port=front_door.port
    )
    records = RecordsApi(dispatcher.record_taker)
    api = CallsApi(dispatcher, records)
    today = Today()
    app.cleanup_ctx.append(functools.partial(_counting, today))
    service = ServiceApi(front_door, dispatcher.record_taker, today)
    access = Access(token)
    guarded = functools.partial(_guarded, access)
    limits = page_call_limits or PageCallLimits()
    page_calls = PageCallsApi(dispatcher, access, is_on=has_page_calls, limits=limits)
    app.add_routes(
        [
            *page.routes(access),
            web.get("/page-call", guarded(page_calls.state)),
            web.post("/page-call", guarded(page_calls.ticket)),
            web.get("/page-call/line", page_calls.line, allow_head=False),
            web.get("/service", guarded(service.read)),
            web.get("/workers", guarded(api.workers)),
            web.get("/calls", guarded(api.calls)),
            web.get("/calls/{uuid}", guarded(api.call)),
            web.delete("/calls/{uuid}", guarded(api.hang_up)),
            web.post("/calls/{uuid}/session", guarded(api.session)),
            web.post("/calls/{uuid}/say", guarded(api.say)),
            web.get("/calls/{uuid}/events", guarded(api.events)),
            web.get("/calls/{uuid}/record", guarded(records.read)),
            web.delete("/calls/{uuid}/record", guarded(records.erase_call)),
            web.delete("/records", guarded(records.erase_number)),
            web.post("/records/retry", guarded(records.retry)),
            web.get("/calls/{uuid}/recording", guarded(api.recording), allow_head=False),
            web.post("/calls/{uuid}/recording", guarded(api.pause_recording)),
            web.delete("/calls/{uuid}/recording", guarded(api.delete_recording)),
        ]
    )
    return app


class CallsApi:
    """The handlers of the calls API. See `docs/api.md`."""

    def __init__(self, dispatcher: Calls, records: RecordsApi) -> None:
        self._dispatcher = dispatcher
        self._records = records
        self._audit = ConversationAudit()
        self._recordings = RecordingsApi(dispatcher)

    async def workers(self, _: web.Request) -> web.Response:
        """Answer `GET /workers`."""
        return json_answer([_worker(status) for status in await self._dispatcher.registry.workers()])

    async def calls(self, request: web.Request) -> web.Response:
        """Answer `GET /calls`: live calls; with `?ended` or `?dead` records of ended calls."""
        if "ended" in request.query:
            return await self._records.ended(request)
        if "dead" in request.query:
            return await self._records.dead(request)
        after, is_newest_first = paging.cursor(request), "newest" in request.query
        selects = self._selects(request.query)
        numbers: dict[str, int] = {}
        if selects is None:
            rows = self._rows(after, numbers, newest_first=is_newest_first)
        else:
            rows = self._selected(after, numbers, selects, newest_first=is_newest_first)
        return await paged_answer(request, rows, paging.limit(request), numbers)

    async def _rows(
        self, after: paging.Place | None, numbers: dict[str, int], *, newest_first: bool
    ) -> AsyncIterator[list[Row]]:
        """Yield all calls behind a place, some at once, as `GET /calls` shows them."""
        now = time.time()
        async for some in self._pages(after, newest_first=newest_first):
            numbers[LIVE_HEADER] = numbers[FOUND_HEADER] = some.total
            yield [(_place(call), self._row(call, now)) for call in some.calls]

    async def _selected(
        self, after: paging.Place | None, numbers: dict[str, int], selects: _Selects, *, newest_first: bool
    ) -> AsyncIterator[list[Row]]:
        """Yield the selected calls behind a place, after all calls were looked at: their number is told, too."""
        now = time.time()
        found = 0
        rows: list[Row] = []
        async for some in self._pages(None, newest_first=newest_first):
            numbers[LIVE_HEADER] = some.total
            for call in filter(selects, some.calls):
                found += 1
                place = _place(call)
                if after is None or (place < after if newest_first else place > after):
                    rows.append((place, self._row(call, now)))
        numbers[FOUND_HEADER] = found
        yield rows

    async def _pages(self, after: paging.Place | None, *, newest_first: bool) -> AsyncIterator[CallsPage]:
        while True:
            some = await self._dispatcher.registry.calls_page(after, newest_first=newest_first)
            yield some
            after = some.end
            if after is None:
                return

    def _selects(self, query: Mapping[str, str]) -> _Selects | None:
        """Return whether a call is selected by the parameters of a request; None: all are."""
        tenant = query.get("tenant")
        wanted = query.get("find", "").strip()
        if tenant is None and not wanted:
            return None
        finds = finder(wanted)
        return lambda call: tenant in {None, self._tenant(call)} and finds(self._texts(call))

    def _texts(self, call: CallRecord) -> list[object]:
        named = [call.uuid, self._tenant(call), call.worker, call.dispatcher, call.state]
        return [*call.metadata.values(), *named]

    async def call(self, request: web.Request) -> web.Response:
        """Answer `GET /calls/{uuid}` with the call, its figures and its conversation so far."""
        uuid = request.match_info["uuid"]
        record = await self._dispatcher.registry.call(uuid)
        if record is None:
            raise CommandError(404, "there is no such call")
        conversation = await (await self._dispatcher.holder(uuid)).run(uuid, "conversation")
        self._audit.read(request, uuid)
        figures = {"figures": await figures_of_call(self._dispatcher.registry, uuid)}
        return json_answer(self._row(record, time.time()) | figures | conversation, uuid=uuid)

    async def hang_up(self, request: web.Request) -> web.Response:
        """Answer `DELETE /calls/{uuid}`."""
        return await self._command(request, "hang_up", {})

    async def session(self, request: web.Request) -> web.Response:
        """Answer `POST /calls/{uuid}/session`: merge the body into the running session."""
        return await self._command(request, "session", await _body(request))

    async def say(self, request: web.Request) -> web.Response:
        """Answer `POST /calls/{uuid}/say`."""
        body = await _body(request)
        if not isinstance(body.get("text"), str) or not body["text"].strip():
            raise CommandError(400, 'the body must be {"text": "what to say"}')
        return await self._command(request, "say", body)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /calls/{uuid}/events` with server-sent events until the call ends."""
        uuid = request.match_info["uuid"]
        commands = await self._dispatcher.holder(uuid)
        self._audit.read(request, uuid)
        async with commands.watch(uuid) as events:
            return await send_events(request, events, uuid)

    async def recording(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /calls/{uuid}/recording` with a WAV file."""
        return await self._recordings.read(request)

    async def pause_recording(self, request: web.Request) -> web.Response:
        """Answer `POST /calls/{uuid}/recording`."""
        uuid = request.match_info["uuid"]
        return json_answer(await self._recordings.pause(uuid, await _body(request)), uuid=uuid)

    async def delete_recording(self, request: web.Request) -> web.Response:
        """Answer `DELETE /calls/{uuid}/recording`."""
        return json_answer(await self._recordings.delete(request), uuid=request.match_info["uuid"])

    async def _command(self, request: web.Request, action: str, body: dict[str, Any]) -> web.Response:
        uuid = request.match_info["uuid"]
        commands = await self._dispatcher.holder(uuid)
        return json_answer(await commands.run(uuid, action, body), uuid=uuid)

    def _tenant(self, record: CallRecord) -> str | None:
        """Return the tenant of a live call; its dispatcher may be of an earlier release, and know none."""
        tenants = self._dispatcher.tenants
        return tenants.told(record.tenant) or tenants.of_call(record.metadata, {}) or None

    def _row(self, record: CallRecord, now_seconds: float) -> dict[str, Any]:
        # The start is from Redis's wall clock and `now_seconds` from this host's. The age is only shown to people.
        started_seconds = record.started_at_ms / 1000
        return {
            "uuid": record.uuid,
            "tenant": self._tenant(record),
            "worker": record.worker,
            "dispatcher": record.dispatcher,
            "state": record.state,
            "started_at": datetime.datetime.fromtimestamp(started_seconds, datetime.UTC).isoformat(),
            "seconds": round(max(0.0, now_seconds - started_seconds), 3),
            "pins": record.pins,
            "metadata": dict(record.metadata),
        }


def _guarded(access: Access, handler: Handler) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        refusal = access.to_calls(request)
        if refusal is not None:
            headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else None
            return json_answer({"error": refusal.message}, status=refusal.status, headers=headers)
        try:
            return await handler(request)
        except ElsewhereError as error:
            return json_answer({"error": str(error), "hosts": error.hosts}, status=error.status)
        except CommandError as error:
            return json_answer(
                {"error": str(error)}, status=error.status, uuid=request.match_info.get("uuid", NO_CALL)
            )
        except RegistryUnavailable as error:
            return json_answer({"error": f"Redis is away: {error}"}, status=503)

    return answer


async def _counting(today: Today, _: web.Application) -> AsyncIterator[None]:
    """Count what happens today, for as long as the admin port answers."""
    counting = asyncio.create_task(today.run(), name="today")
    yield
    counting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await counting


def _place(call: CallRecord) -> paging.Place:
    return call.started_at_ms, call.uuid


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


def _worker(status: WorkerStatus) -> dict[str, Any]:
    return {
        "id": status.id,
        "host": status.host,
        "pid": status.pid,
        "address": status.address,
        "calls": status.calls,
        "capacity": status.capacity,
        "state": status.state.value,
        "release": status.release,
        "problem": status.problem or None,
    }
