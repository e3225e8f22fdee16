"""JSON answers of the calls API, without known secrets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from common.observe.redaction import NO_CALL, without_known
from dispatcher.api import paging

Row = tuple[paging.Place, dict[str, Any]]
"""An entry of a list, with its place."""

# Rows that are encoded at once: more of them would delay audio.
_ENCODED = 100


def json_answer(
    data: object, status: int = 200, headers: dict[str, str] | None = None, *, uuid: str = NO_CALL
) -> web.Response:
    """Return an answer. The call's worker and Redis hold the call's own secrets back already."""
    body = without_known(orjson.dumps(data).decode(), uuid).encode()
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


async def paged_answer(
    request: web.Request, rows: AsyncIterator[list[Row]], limit: int, numbers: Mapping[str, int]
) -> web.Response:
    """Return a page of a list, with a link to the next one if there are more rows than `limit`.

    Other tasks run after each part of the rows. `numbers` are headers, read when the page is complete.
    """
    parts: list[bytes] = []
    shown = 0
    place: paging.Place | None = None
    has_more = False
    async for some in rows:
        taken = some[: limit - shown]
        for start in range(0, len(taken), _ENCODED):
            text = orjson.dumps([row for _, row in taken[start : start + _ENCODED]])[1:-1].decode()
            parts.append(without_known(text, NO_CALL).encode())
            await asyncio.sleep(0)
        if taken:
            place = taken[-1][0]
        shown += len(taken)
        has_more = len(some) > len(taken)
        if has_more:
            break
    headers = {name: str(number) for name, number in numbers.items()}
    headers |= paging.next_page(request, place if has_more else None)
    body = b"[" + b",".join(parts) + b"]"
    return web.Response(body=body, content_type="application/json", headers=headers)
