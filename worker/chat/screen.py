"""The output of a typed conversation: the agent's words on stdout, all else on stderr.

Words of the model and of tools come from elsewhere, so control characters are left out: they could move the
cursor, or hide a line.
"""

from __future__ import annotations

import contextlib
from typing import Final, TextIO

from common.observe.redaction import redact

MAX_NOTE_CHARACTERS: Final = 600

_DIM: Final = "\x1b[2m"
_RESET: Final = "\x1b[0m"


class Screen:
    """The two streams of a typed conversation."""

    def __init__(self, words: TextIO, notes: TextIO, *, names_speakers: bool, colours: bool = False) -> None:
        """Build it.

        Args:
            words: takes the agent's words.
            notes: takes tool calls, tokens and errors.
            names_speakers: write `agent:` and `you:` before what each says.
            colours: of notes.
        """
        self._words = words
        self._notes = notes
        self._names_speakers = names_speakers
        self._colours = colours
        self._is_within_line = False
        self._shows_prompt = False

    def agent(self, text: str) -> None:
        """Add words of the agent."""
        if not self._is_within_line:
            text = text.lstrip()
            if not text:
                return
            self._leave_prompt()
            if self._names_speakers:
                self._write(self._words, "agent: ")
        self._is_within_line = True
        self._write(self._words, "".join(each if each.isprintable() else " " for each in text))

    def end_line(self) -> None:
        """End the line of the agent's words, if there is one."""
        if self._is_within_line:
            self._write(self._words, "\n")
        self._is_within_line = False

    def note(self, text: str) -> None:
        """Write a note as a line of its own."""
        self.end_line()
        self._leave_prompt()
        line = " ".join("".join(each if each.isprintable() else " " for each in redact(text)).split())
        if len(line) > MAX_NOTE_CHARACTERS:
            line = line[:MAX_NOTE_CHARACTERS] + "..."
        before, behind = (_DIM, _RESET) if self._colours else ("", "")
        self._write(self._notes, f"{before}[{line}]{behind}\n")

    def prompt(self) -> None:
        """Invite the person to type."""
        self.end_line()
        if self._names_speakers and not self._shows_prompt:
            self._write(self._notes, "you: ")
            self._shows_prompt = True

    def typed(self) -> None:
        """Note that the person has ended a line, so the cursor is at the beginning of the next one."""
        self._shows_prompt = False

    def _leave_prompt(self) -> None:
        if self._shows_prompt:
            self._write(self._notes, "\n")
            self._shows_prompt = False

    def _write(self, stream: TextIO, text: str) -> None:
        with contextlib.suppress(OSError):  # the reader has gone
            stream.write(text)
            stream.flush()
