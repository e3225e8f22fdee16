"""Log lines of the process that runs tools. The worker writes these lines to its log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Log(Protocol):
    """The log of a module in this package, in the worker or in the process that runs tools."""

    def info(self, event: str, **fields: Any) -> object:
        """Log a line."""

    def warning(self, event: str, **fields: Any) -> object:
        """Log a line."""

    def error(self, event: str, **fields: Any) -> object:
        """Log a line."""


class ChildLog:
    """A log that sends its lines to the worker."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        """Build the log.

        Args:
            send: receives each line as an object, in any thread.
        """
        self._send = send

    def info(self, event: str, **fields: Any) -> None:
        """Log a line."""
        self._line("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log a line."""
        self._line("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log a line."""
        self._line("error", event, fields)

    def _line(self, level: str, event: str, fields: dict[str, Any]) -> None:
        self._send({"level": level, "event": event, "fields": fields})
