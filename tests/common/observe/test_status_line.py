from __future__ import annotations

import io

from common.observe.status_line import MAX_CHARACTERS, StatusLine


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_line_on_a_terminal_is_replaced_and_removed() -> None:
    screen = _Screen()
    line = StatusLine(screen)
    line.show("one")
    line.show("two")
    line.clear()
    line.clear()
    assert line.is_on_terminal
    assert screen.getvalue() == "\r\x1b[Kone\r\r\x1b[Ktwo\r\r\x1b[K"


def test_text_is_never_longer_than_a_log_line() -> None:
    screen = _Screen()
    StatusLine(screen).show("x" * 200)
    assert screen.getvalue().count("x") == MAX_CHARACTERS


def test_file_gets_no_status_lines() -> None:
    file = io.StringIO()
    line = StatusLine(file)
    line.show("one")
    line.clear()
    assert not line.is_on_terminal
    assert file.getvalue() == ""
