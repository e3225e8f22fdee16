"""The file `.env` in the working directory, and the numbers of its lines that say nothing."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dotenv.main import resolve_variables
from dotenv.parser import parse_stream

MAX_LINES: Final = 10
"""So many lines are named by their numbers."""


@dataclass(frozen=True, slots=True)
class EnvFile:
    """Variables of the file as it has them, and lines that are not NAME=value."""

    variables: dict[str, str | None]
    wrong_lines: tuple[int, ...] = ()

    def notices(self, name: str) -> list[str]:
        """Return a line for the log that names the wrong lines, and never what they hold."""
        if not self.wrong_lines:
            return []
        numbers = ", ".join(map(str, self.wrong_lines[:MAX_LINES]))
        if len(self.wrong_lines) == 1:
            return [f"{name}: line {numbers} is not NAME=value and has no effect"]
        more = len(self.wrong_lines) - MAX_LINES
        rest = f" and {more} more" if more > 0 else ""
        return [f"{name}: lines {numbers}{rest} are not NAME=value and have no effect"]


def read(path: Path) -> EnvFile:
    """Read a file as `python-dotenv` does, which logs its wrong lines in each process.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: the file is no text in UTF-8.
    """
    if not path.is_file() and not path.is_fifo():
        return EnvFile({})
    bindings = list(parse_stream(io.StringIO(path.read_text("utf-8"))))
    pairs = [(each.key, each.value) for each in bindings if each.key is not None]
    wrong = tuple(each.original.line for each in bindings if each.error)
    return EnvFile(dict(resolve_variables(pairs, override=True)), wrong)
