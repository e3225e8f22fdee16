"""JSON answers of the calls API, without known secrets."""

from __future__ import annotations

import orjson
from aiohttp import web

from common.observe.redaction import NO_CALL, without_known


def json_answer(
    data: object, status: int = 200, headers: dict[str, str] | None = None, *, uuid: str = NO_CALL
) -> web.Response:
    """Return an answer. The call's worker and Redis hold the call's own secrets back already."""
    body = without_known(orjson.dumps(data).decode(), uuid).encode()
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)
