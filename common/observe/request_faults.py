"""The log lines of aiohttp's server: a short line for a broken request, and a traceback only for our own faults.

aiohttp itself logs a traceback for each unreadable request, with the text that a stranger sent in it.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from aiohttp import http_exceptions, web

from common.observe.line_limit import LineLimit

# Exceptions that a peer causes by invalid bytes, or by hanging up.
_OF_THE_PEER: Final = (http_exceptions.HttpProcessingError, web.RequestPayloadError, ConnectionError)

log = structlog.get_logger()


class RequestFaults(logging.Logger):
    """The logger of one port. Its lines are limited by kind, and carry the number of suppressed ones.

    Args:
        port: name of the port's variable, for the lines.
        clock: in seconds.
    """

    def __init__(self, port: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("aiohttp.server", logging.WARNING)
        self._port = port
        self._clock = clock
        self._lines = LineLimit()

    def exception(self, msg: object, *args: object, exc_info: Any = True, **_: Any) -> None:
        """Log a failed request. aiohttp passes the peer's address, if there is one, as the first argument."""
        error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
        kind = type(error).__name__
        times = self._lines.take(kind, self._clock())
        if times is None:
            return
        if isinstance(error, _OF_THE_PEER):
            address = str(args[0]) if args else ""
            log.warning("bad request", port=self._port, address=address, reason=kind, times=times)
        else:
            log.error("request failed", port=self._port, reason=kind, times=times, exc_info=error)
