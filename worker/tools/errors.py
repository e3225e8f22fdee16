"""Errors of tools. None of these errors leaves this package, because `ToolSet.run` turns them into results.

ToolError
├── BadTool              a file does not load; the message tells the operator why, in one line
├── InvalidArguments     the tool does not accept the model's arguments; the message tells the model why
│   └── TransferRefused  the settings do not permit the transfer (built_in.py)
├── ArgumentsNotChecked  the check of the arguments did not end; the handler was not run
├── ToolFailed           the handler raised an exception
├── ToolNotRun           the handler was not started, so nothing has happened
└── ToolLost             the handler was started, and its outcome stays unknown
    └── NotBegun         the process stalled before it began the handler
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Final, Self

from common.errors import ServiceError
from common.observe.redaction import redact

MAX_MESSAGE_CHARACTERS: Final = 300


class ToolError(ServiceError):
    """The base class of this package's errors."""


class BadTool(ToolError):
    """A file without a usable tool."""


class InvalidArguments(ToolError):
    """Arguments that the tool does not accept.

    Attributes:
        keywords: the JSON Schema keywords that were not met. Only these are logged, because the message repeats
            the model's words.
    """

    def __init__(self, message: str, *keywords: str) -> None:
        super().__init__(message)
        self.keywords = keywords


class ArgumentsNotChecked(ToolError):
    """Arguments whose check against the tool's schema did not end. The message is a sentence for the model."""


class ToolFailed(ToolError):
    """An exception that a handler raised (or threw).

    Attributes:
        error_type: the name of the exception's class.
        message: the exception's text on one line, truncated, without secrets. Not logged, because it may repeat
            the caller's words.
        where: file and line, such as `weather.py:12`; empty if not known.
    """

    def __init__(self, error_type: str, message: str, where: str) -> None:
        super().__init__(f"{error_type}: {message}" if message else error_type)
        self.error_type = error_type
        self.message = message
        self.where = where

    @classmethod
    def of(cls, error: BaseException, file: Path) -> Self:
        """Build the error from an exception of the code in `file`. Prefer the innermost line in that file."""
        frames = traceback.extract_tb(error.__traceback__)
        frame = next((each for each in reversed(frames) if each.filename == str(file)), None)
        if frame is None and isinstance(error, SyntaxError) and error.filename == str(file):
            where = f"{file.name}:{error.lineno}"
        elif frame is None and not frames:
            where = ""
        else:
            frame = frame or frames[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
        try:
            text = error.msg if isinstance(error, SyntaxError) else str(error)
        except Exception:  # the exception's own __str__ failed
            text = ""
        return cls(type(error).__name__, one_line(text), where)


class ToolNotRun(ToolError):
    """A handler that could not be started. The message is a sentence for the model."""


class ToolLost(ToolError):
    """A handler that was interrupted. The message is a sentence for the model.

    Attributes:
        reason: why the handler's process ended.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class NotBegun(ToolLost):
    """A request that a stalled process had not begun; the request may be repeated in another process."""


def one_line(text: str) -> str:
    """Return `text` on one line, without secrets, truncated to `MAX_MESSAGE_CHARACTERS`."""
    line = redact(" ".join(text[: 4 * MAX_MESSAGE_CHARACTERS].split()))
    return line if len(line) <= MAX_MESSAGE_CHARACTERS else line[:MAX_MESSAGE_CHARACTERS] + "..."
