"""What can be wrong with a tool. None of these leaves this package: `ToolSet.run` makes results of them.

ToolError
├── BadTool            a file does not load; says why, in one line, for the operator
├── InvalidArguments   the model's arguments are not what the tool takes; says what is wrong, for the model
│   └── TransferRefused    the settings do not permit the transfer (built_in.py)
├── ArgumentsNotChecked  whether the tool takes the arguments cannot be found out; it was not run
├── ToolFailed         the handler raised
├── ToolNotRun         the handler was not started: nothing has happened
└── ToolLost           the handler was started, and what came of it will not be known
    └── NotBegun       all the same, the process that was to run it had not begun
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Final, Self

from common.errors import ServiceError
from common.observe.redaction import redact

MAX_MESSAGE_CHARACTERS: Final = 300


class ToolError(ServiceError):
    """Base of this package's errors."""


class BadTool(ToolError):
    """A file holds no tool that can be used."""


class InvalidArguments(ToolError):
    """Arguments that the tool does not take.

    Attributes:
        keywords: of JSON Schema that were not met, for the log: the message repeats what the model wrote.
    """

    def __init__(self, message: str, *keywords: str) -> None:
        super().__init__(message)
        self.keywords = keywords


class ArgumentsNotChecked(ToolError):
    """Arguments whose check against the tool's schema did not end. The message is a sentence for the model."""


class ToolFailed(ToolError):
    """A handler raised (or threw) an exception.

    Attributes:
        error_type: the name of the exception's class.
        message: its text on one line, without secrets, cut; may repeat what a caller said, so it is not logged.
        where: file and line, such as `weather.py:12`; empty if not known.
    """

    def __init__(self, error_type: str, message: str, where: str) -> None:
        super().__init__(f"{error_type}: {message}" if message else error_type)
        self.error_type = error_type
        self.message = message
        self.where = where

    @classmethod
    def of(cls, error: BaseException, file: Path) -> Self:
        """From what the code in `file` raised; the line is the innermost one in that file, if there is one."""
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
        except Exception:  # an exception whose own __str__ fails
            text = ""
        return cls(type(error).__name__, one_line(text), where)


class ToolNotRun(ToolError):
    """A handler could not be started. The message is a sentence for the model."""


class ToolLost(ToolError):
    """A handler was cut off. The message is a sentence for the model.

    Attributes:
        reason: why its process ended.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class NotBegun(ToolLost):
    """A process hung before it began a request, which may be made again elsewhere."""


def one_line(text: str) -> str:
    """Returns `text` on one line, without secrets, cut to `MAX_MESSAGE_CHARACTERS`."""
    line = redact(" ".join(text[: 4 * MAX_MESSAGE_CHARACTERS].split()))
    return line if len(line) <= MAX_MESSAGE_CHARACTERS else line[:MAX_MESSAGE_CHARACTERS] + "..."
