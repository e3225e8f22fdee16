"""The error of a dialogue's file."""

from __future__ import annotations

from pathlib import Path


class DialogueError(Exception):
    """A dialogue cannot be used. The message is one line: the file, the line, the fault and what to do."""


class FileErrors:
    """Makes the errors of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def at(self, line: int, message: str) -> DialogueError:
        """Return an error at a line, counted from 1."""
        return DialogueError(f"{self._path}, line {line}: {message}")

    def of_file(self, message: str) -> DialogueError:
        """Return an error of the whole file."""
        return DialogueError(f"{self._path}: {message}")
