"""The file `.env` in the working directory, and the numbers of its invalid lines."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dotenv.main import resolve_variables
from dotenv.parser import parse_stream

MAX_LINES: Final = 10
"""Maximum number of invalid lines that are named."""


@dataclass(frozen=True, slots=True)
class EnvFile:
    """The variables of the file, and the numbers of lines that are not NAME=value."""

    variables: dict[str, str | None]
    wrong_lines: tuple[int, ...] = ()

    def notices(self, name: str) -> list[str]:
        """Return a log line with the numbers of invalid lines, and never with their text."""
        if not self.wrong_lines:
            return []
        numbers = ", ".join(map(str, self.wrong_lines[:MAX_LINES]))
        if len(self.wrong_lines) == 1:
            return [f"{name}: line {numbers} is not NAME=value and has no effect"]
        more = len(self.wrong_lines) - MAX_LINES
        rest = f" and {more} more" if more > 0 else ""
        return [f"{name}: lines {numbers}{rest} are not NAME=value and have no effect"]


def read(path: Path) -> EnvFile:
    """Read a file as `python-dotenv` does, but without its log line in each process.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: the file is not text in UTF-8.
    """
    if not path.is_file() and not path.is_fifo():
        return EnvFile({})
    bindings = list(parse_stream(io.StringIO(path.read_text("utf-8"))))
    pairs = [(each.key, each.value) for each in bindings if each.key is not None]
    wrong = tuple(each.original.line for each in bindings if each.error)
    return EnvFile(dict(resolve_variables(pairs, override=True)), wrong)
