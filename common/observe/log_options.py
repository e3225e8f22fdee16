"""The choices that an operator has for log lines."""

from __future__ import annotations

from enum import StrEnum


class LogLevel(StrEnum):
    """The least severe lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a line is written: for machines or for people."""

    JSON = "json"
    CONSOLE = "console"
