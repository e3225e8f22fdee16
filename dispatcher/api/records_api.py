"""The records of ended calls in the calls API: lists, one record, dead records, and erasure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiohttp import web

from common.plain_number import plain_number
from dispatcher.api import paging
from dispatcher.api.answers import json_answer
from dispatcher.api.audit import audit
from dispatcher.api.commands import CommandError
from dispatcher.api.finding import finder, texts_of_record
from dispatcher.records import selectors
from dispatcher.records.outbox import Outbox, OutboxRecord
from dispatcher.records.record_taker import RecordTaker

KEPT_HEADER: Final = "Call-Records-Kept-Seconds"
"""Header of lists of ended calls: CALL_RECORDS_KEEP_SECONDS. With 0 such a list is always empty."""

MAX_LOOKED_AT: Final = 5_000
"""Maximum number of records that one request looks at; the page then ends early, with a link."""

MIN_NUMBER_CHARS: Final = 2

_TEXT_FIELDS: Final = ("said",)
_OFF = "nothing stores call records here: set CALL_RECORDS_KEEP_SECONDS, CALL_RECORDS_DIR or CALL_RECORDS_WEBHOOK"

Matches = Callable[[Mapping[str, Any]], bool]


class RecordsApi:
    """The handlers of records. See `docs/api.md`."""

    def __init__(self, records: RecordTaker) -> None:
        self._records = records

    async def ended(self, request: web.Request) -> web.Response:
        """Answer `GET /calls?ended`: the kept records without what was said, the newest first."""
        return await self._list(request, dead=False)

    async def dead(self, request: web.Request) -> web.Response:
        """Answer `GET /calls?dead`: the records that a sink did not take."""
        return await self._list(request, dead=True)

    async def read(self, request: web.Request) -> web.Response:
        """Answer `GET /calls/{uuid}/record` with the record, what was said included."""
        uuid = request.match_info["uuid"]
        found = [] if self._records.outbox is None else await self._records.outbox.of_call(uuid)
        if not found:
            reason = f": {_OFF}" if self._records.outbox is None else ""
            raise CommandError(404, f"there is no record of this call{reason}")
        audit("record read", request, uuid=uuid, record=found[-1].id)
        return json_answer(orjson.loads(found[-1].body), uuid=uuid)

    async def erase_call(self, request: web.Request) -> web.Response:
        """Answer `DELETE /calls/{uuid}/record`."""
        uuid = request.match_info["uuid"]
        erased = await self._outbox().erase(selectors.of_uuid(uuid))
        audit("record deleted", request, uuid=uuid, records=erased)
        return json_answer({"erased": erased}, uuid=uuid)

    async def erase_number(self, request: web.Request) -> web.Response:
        """Answer `DELETE /records?number=...`."""
        number = request.query.get("number", "")
        if len(plain_number(number)) < MIN_NUMBER_CHARS:
            raise CommandError(400, "name the number whose records are to be erased: ?number=")
        # The files lie on the hosts that the records name, so they are named before the records are gone.
        recordings = await self._recordings_of(selectors.of_number(number))
        erased = await self._outbox().erase(selectors.of_number(number))
        audit("records deleted", request, records=erased, by="number")
        return json_answer({"erased": erased, "recordings": recordings})

    async def retry(self, request: web.Request) -> web.Response:
        """Answer `POST /records/retry`: dead records wait for delivery again, all or those of `?uuid=`."""
        uuid = request.query.get("uuid", "")
        retried = await self._outbox().retry(uuid)
        audit("records retried", request, uuid=uuid, records=retried)
        return json_answer({"retried": retried})

    async def _recordings_of(self, selector: str) -> list[dict[str, str]]:
        """Return the recordings that records with a selector name: uuid, host and file."""
        found: list[dict[str, str]] = []
        for dead in (False, True):
            looked_at = 0
            async for _, record in self._outbox().newest(dead=dead):
                looked_at += 1
                if looked_at > MAX_LOOKED_AT:
                    break
                await asyncio.sleep(0)
                fields = {} if record is None else orjson.loads(record.body)
                if any(selectors.of_number(value) == selector for value in fields.get("metadata", {}).values()):
                    found += [
                        {"uuid": fields["uuid"], "host": each["host"], "file": each["file"]}
                        for each in fields["recording"]
                    ]
        return found

    def _outbox(self) -> Outbox:
        if self._records.outbox is None:
            raise CommandError(409, _OFF)
        return self._records.outbox

    async def _list(self, request: web.Request, *, dead: bool) -> web.Response:
        limit, before = paging.limit(request), paging.cursor(request)
        matches, since_ms, until_ms = _filter(request.query)
        outbox = self._records.outbox
        kept_seconds = 0 if outbox is None else outbox.keep_seconds
        headers = {} if dead else {KEPT_HEADER: str(kept_seconds)}
        if outbox is None or not (dead or kept_seconds):
            return json_answer([], headers=headers)
        if until_ms is not None:
            # A place behind all records of this millisecond.
            before = min(before or (until_ms + 1, ""), (until_ms + 1, ""))
        entries: list[dict[str, Any]] = []
        looked_at, last, is_last_page = 0, before, True
        async for place, record in outbox.newest(dead=dead, before=before):
            if place[0] < since_ms:
                break
            if len(entries) == limit or looked_at == MAX_LOOKED_AT:
                is_last_page = False
                break
            looked_at, last = looked_at + 1, place
            # Calls' audio goes on between two records.
            await asyncio.sleep(0)
            if record is not None and matches(fields := orjson.loads(record.body)):
                entries.append(_entry(fields, record, dead=dead))
        audit("records listed", request, records=len(entries), dead=dead)
        return json_answer(entries, headers=headers | paging.next_page(request, None if is_last_page else last))


def _entry(fields: dict[str, Any], record: OutboxRecord, *, dead: bool) -> dict[str, Any]:
    entry = {name: value for name, value in fields.items() if name not in _TEXT_FIELDS}
    if dead:
        entry["undelivered"] = {
            "sinks": record.waits,
            "reason": record.reason,
            "seconds": round(record.age_seconds, 3),
        }
    return entry


def _filter(query: Mapping[str, str]) -> tuple[Matches, int, int | None]:
    """Return what a list of records asks for: a predicate, and the times between which calls ended.

    Raises:
        CommandError: a parameter is wrong.
    """
    exact = {name: query[name] for name in ("id", "uuid", "ending", "reason", "tenant") if name in query}
    numbers = {name: plain_number(query[name]) for name in ("from", "to") if name in query}
    finds = finder(query.get("find", ""))
    anywhere = plain_number(query["number"]) if "number" in query else None

    def matches(record: Mapping[str, Any]) -> bool:
        metadata = record.get("metadata") or {}
        plain = {name: plain_number(str(value)) for name, value in metadata.items()}
        return (
            all(record.get(name) == value for name, value in exact.items())
            and all(plain.get(name) == number for name, number in numbers.items())
            and (anywhere is None or anywhere in plain.values())
            and finds(texts_of_record(record))
        )

    since_ms = _time_ms(query, "since")
    return matches, 0 if since_ms is None else since_ms, _time_ms(query, "until")


def _time_ms(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    # In a query, a + is a space.
    written = query[name].replace(" ", "+")
    try:
        parsed = datetime.fromisoformat(written)
        parsed = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed
        return round(parsed.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise CommandError(400, f"{name} must be a time such as 2026-11-30T12:00:00Z") from None
