"""Log lines on stderr: one JSON object each, or one line for people; stdout stays free for results.

The lines of a call carry its uuid, which is bound once: `log = get_logger().bind(uuid=uuid)`. `event` is a short
fixed sentence, and variable parts are fields. Callers' words are never logged. The service's processes put a queue
behind stderr (`log_writer`), so that no line waits for its reader.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Final, cast

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from common.observe import log_writer
from common.observe.log_options import LogFormat, LogLevel
from common.observe.redaction import REDACTED, is_secret_name, redact

LOGGER_NAME: Final = "avr_sts"

MAX_DEPTH: Final = 6
"""Levels of nested fields that are searched for secrets; deeper levels are not written."""

_OUR_FIELDS: Final = frozenset({"timestamp", "level", "process", "logger"})


def get_logger() -> FilteringBoundLogger:
    """Return the logger of the service; lines before `configure` go to structlog's default, stdout."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def configure(process_name: str, *, level: LogLevel = LogLevel.INFO, line_format: LogFormat | None = None) -> None:
    """Send all lines to stderr in one format, including libraries' warnings and errors.

    Logging raises no exception from here on: a line that cannot be written is lost.

    Args:
        process_name: field of each line.
        level: least severe lines.
        line_format: None: for people if stderr is a terminal, otherwise for machines.
    """
    severity = logging.getLevelNamesMapping()[level.upper()]
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    render: Processor
    if line_format is LogFormat.CONSOLE or (line_format is None and on_terminal):
        plain = structlog.dev.plain_traceback
        render = structlog.dev.ConsoleRenderer(colors=on_terminal, exception_formatter=plain)
    else:
        render = _render_json

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                _add_origin,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _add_process(process_name, os.getpid()),
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                drop_secrets,
                render,
            ]
        )
    )
    logging.raiseExceptions = False
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(severity, logging.WARNING))
    ours = logging.getLogger(LOGGER_NAME)
    ours.setLevel(severity)
    structlog.configure(
        processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(severity),
        logger_factory=lambda *_: ours,
    )
    log_writer.report_by(_report_dropped)


def _report_dropped(lines: int) -> None:
    get_logger().error("log lines were dropped", lines=lines, reason="the reader of stderr or stdout is too slow")


def drop_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Remove secrets from a line, as a last defence: no code should log a secret."""
    uuid = event.get("uuid", "")
    uuid = uuid if isinstance(uuid, str) else ""
    return {name: _without_secrets(name, value, MAX_DEPTH, uuid) for name, value in event.items()}


def _without_secrets(name: str, value: Any, depth: int, uuid: str) -> Any:
    if is_secret_name(name):
        return REDACTED
    if isinstance(value, str):
        # Fields of this module, which hold no data of a caller.
        return value if name in _OUR_FIELDS else redact(value, uuid)
    if depth == 0 and isinstance(value, (dict, list, tuple)):
        return "..."
    if isinstance(value, dict):
        return {str(key): _without_secrets(str(key), each, depth - 1, uuid) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_secrets(name, each, depth - 1, uuid) for each in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return redact(str(value), uuid)


def _add_origin(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if not event["_from_structlog"]:
        event["logger"] = event["_record"].name
    return event


def _add_process(name: str, pid: int) -> Callable[[WrappedLogger, str, EventDict], EventDict]:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["process"] = name
        event["pid"] = pid
        return event

    return add


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    line = {name: event.pop(name) for name in ("timestamp", "level", "event")} | dict(event)
    try:
        return orjson.dumps(line).decode()
    except TypeError:  # a lone surrogate, or a number beyond 64 bits
        return json.dumps(line)
