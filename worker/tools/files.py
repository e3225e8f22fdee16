"""List the tool files of a directory, and notice edited files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.tools.errors import BadTool

PYTHON: Final = ".py"
JAVASCRIPT: Final = (".js", ".mjs")

MAX_FILES: Final = 126
"""Two less than the 128 functions of OpenAI's limit, because two tools are built in."""

MAX_SOURCE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stamp:
    """The identity of a file's version. The inode changes when a file is replaced instead of edited."""

    mtime_ns: int
    size_bytes: int
    inode: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The tool files of a directory, by name; `left_out` holds the files over the limit."""

    stamps: dict[Path, Stamp]
    left_out: tuple[Path, ...]


def scan(directory: Path, room: int = MAX_FILES) -> Listing:
    """List a directory's tool files; a missing directory has none. Blocks.

    Skips hidden files. Skips Python files whose name begins with an underscore, because these are modules for
    tools to import.

    Args:
        directory: the directory to list; it need not exist.
        room: maximum number of files to list.

    Raises:
        OSError: the directory cannot be read.
    """
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if _is_tool(entry))
    except FileNotFoundError:
        names = []
    found = [directory / name for name in names]
    return Listing({file: _stamp(file) for file in found[:room]}, tuple(found[room:]))


def read(file: Path) -> bytes:
    """Return a file's source. Blocks.

    Raises:
        BadTool: the file cannot be read, or is too long.
    """
    try:
        with file.open("rb") as opened:
            source = opened.read(MAX_SOURCE_BYTES + 1)
    except OSError as error:
        raise BadTool(f"it cannot be read: {error.strerror}") from None
    if len(source) > MAX_SOURCE_BYTES:
        raise BadTool(f"it is longer than {MAX_SOURCE_BYTES} bytes")
    return source


def _is_tool(entry: os.DirEntry[str]) -> bool:
    name = entry.name
    wanted = name.endswith(JAVASCRIPT) or (name.endswith(PYTHON) and not name.startswith("_"))
    return wanted and not name.startswith(".") and not entry.is_dir()


def _stamp(file: Path) -> Stamp:
    try:
        found = file.stat()
    except OSError:  # removed meanwhile, or a broken link: `read` will report the cause
        return Stamp(0, 0, 0)
    return Stamp(found.st_mtime_ns, found.st_size, found.st_ino)
