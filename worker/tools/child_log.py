"""Log lines of the process that runs tools: the worker writes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Log(Protocol):
    """What a module of this package logs to, in the worker or in the process that runs tools."""

    def info(self, event: str, **fields: Any) -> object:
        """Logs a line."""

    def warning(self, event: str, **fields: Any) -> object:
        """Logs a line."""

    def error(self, event: str, **fields: Any) -> object:
        """Logs a line."""


class ChildLog:
    """Sends lines to the worker."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        """Build it.

        Args:
            send: takes a line as an object, in any thread.
        """
        self._send = send

    def info(self, event: str, **fields: Any) -> None:
        """Logs a line."""
        self._line("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Logs a line."""
        self._line("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Logs a line."""
        self._line("error", event, fields)

    def _line(self, level: str, event: str, fields: dict[str, Any]) -> None:
        self._send({"level": level, "event": event, "fields": fields})
