"""The output of a typed conversation."""

from __future__ import annotations

import io

from common.observe import redaction
from worker.chat.screen import MAX_NOTE_CHARACTERS, Screen


def _screen(*, names_speakers: bool) -> tuple[Screen, io.StringIO, io.StringIO]:
    words, notes = io.StringIO(), io.StringIO()
    return Screen(words, notes, names_speakers=names_speakers), words, notes


def test_words_and_notes_have_streams_of_their_own() -> None:
    screen, words, notes = _screen(names_speakers=False)
    screen.agent(" We are")
    screen.agent(" open.")
    screen.note("5 tokens")
    screen.prompt()
    screen.agent("Bye.")
    screen.end_line()
    screen.end_line()
    assert words.getvalue() == "We are open.\nBye.\n"
    assert notes.getvalue() == "[5 tokens]\n"


def test_a_note_leaves_the_prompt_on_its_own_line() -> None:
    screen, words, notes = _screen(names_speakers=True)
    screen.prompt()
    screen.prompt()
    screen.note("interrupted")
    screen.prompt()
    screen.typed()
    screen.agent("Yes")
    assert notes.getvalue() == "you: \n[interrupted]\nyou: "
    assert words.getvalue() == "agent: Yes"


def test_control_characters_and_secrets_are_left_out() -> None:
    screen, words, notes = _screen(names_speakers=False)
    redaction.know("settings", ["s3cret-0123456789"])
    screen.agent("a\x1b[2Jb\nc")
    screen.note("x\x1b]0;t\x07 s3cret-0123456789\n" + "y" * 2 * MAX_NOTE_CHARACTERS)
    assert words.getvalue() == "a [2Jb c\n"
    assert "\x1b" not in notes.getvalue()
    assert "s3cret" not in notes.getvalue()
    assert len(notes.getvalue()) < MAX_NOTE_CHARACTERS + 10
