"""Serve the page that shows the cluster live: the unchanged files of `dispatcher/api/static/`.

The page gets all data from the calls API. So the page of any dispatcher shows every call of the cluster.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from dispatcher.api.access import Access

FOLDER = Path(__file__).parent / "static"
INDEX = "index.html"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# The page shows callers' words and can end calls. So the page loads nothing from other hosts, and no text can
# become a script. No other page may embed this page in a frame.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Browsers ask again each time, so that they show the page of a new release at once.
    "Cache-Control": "no-cache",
}


def routes(access: Access) -> list[web.RouteDef]:
    """Return the routes of the page and its files, which are read once. No request can name other files."""
    found = {file.name: file.read_bytes() for file in sorted(FOLDER.iterdir()) if file.suffix in _TYPES}
    return [
        web.get("/" if name == INDEX else f"/page/{name}", _answering(name, body, access))
        for name, body in found.items()
    ]


def _answering(name: str, body: bytes, access: Access) -> Callable[[web.Request], Awaitable[web.Response]]:
    headers = HEADERS | {"Content-Type": _TYPES[Path(name).suffix]}

    async def answer(request: web.Request) -> web.Response:
        refusal = access.to_page(request)
        if refusal is not None:
            return web.Response(status=refusal.status, text=f"{refusal.message}\n")
        return web.Response(body=body, headers=headers)

    return answer
