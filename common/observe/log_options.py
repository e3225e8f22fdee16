"""The choices that an operator has for log lines."""

from __future__ import annotations

from enum import StrEnum


class LogLevel(StrEnum):
    """The least severe lines that are written (`LOG_LEVEL`)."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """The form of a line: for machines or for people (`LOG_FORMAT`)."""

    JSON = "json"
    CONSOLE = "console"
