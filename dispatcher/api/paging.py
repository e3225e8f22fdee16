"""Pages of lists: at most 1,000 entries, and a `Link` header to the next page (RFC 8288)."""

from __future__ import annotations

import base64
import binascii
from typing import Final

import orjson
from aiohttp import web

from dispatcher.api.commands import CommandError

MAX_PAGE: Final = 1000
"""Maximum number of entries of an answer, and their number without a parameter."""

_MAX_CURSOR_CHARS: Final = 1024

Place = tuple[int, str]
"""A place in a list: a time in milliseconds since the epoch, and an id."""


def limit(request: web.Request) -> int:
    """Return the number of entries that a request asks for.

    Raises:
        CommandError: the parameter is wrong.
    """
    written = request.query.get("limit", str(MAX_PAGE))
    if not (written.isascii() and written.isdigit() and len(written) < 10 and 1 <= int(written) <= MAX_PAGE):
        raise CommandError(400, f"limit must be a whole number from 1 to {MAX_PAGE}")
    return int(written)


def cursor(request: web.Request) -> Place | None:
    """Return the place behind which a page begins; None: it is the first page.

    Raises:
        CommandError: the parameter is wrong.
    """
    written = request.query.get("cursor")
    if written is None:
        return None
    try:
        if len(written) > _MAX_CURSOR_CHARS:
            raise ValueError
        at_ms, name = orjson.loads(base64.urlsafe_b64decode(written))
        if type(at_ms) is not int or not isinstance(name, str):
            raise ValueError
    except (ValueError, TypeError, binascii.Error):
        raise CommandError(400, "cursor must be that of a Link header") from None
    return at_ms, name


def next_page(request: web.Request, place: Place | None) -> dict[str, str]:
    """Return the headers of a page, with a link to the page behind `place`; None: this is the last page.

    The link is relative: a proxy may have given this port a path of its own.
    """
    if place is None:
        return {}
    written = base64.urlsafe_b64encode(orjson.dumps(place)).decode()
    query = request.rel_url.update_query(cursor=written).raw_query_string
    return {"Link": f'<{request.path.rpartition("/")[2]}?{query}>; rel="next"'}
