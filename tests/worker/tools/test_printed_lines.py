from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.tools.printed_lines import MAX_LINE_CHARACTERS, MAX_LINES_PER_SECOND, PrintedLines


def test_only_finished_lines_are_logged() -> None:
    printed = PrintedLines()
    assert printed.feed(b"one\ntw", 0.0) == (["one"], 0)
    assert printed.feed(b"o\r\n\n  \nthree", 0.0) == (["two"], 0)
    assert printed.feed("é\n".encode(), 0.0) == (["threeé"], 0)


def test_invalid_utf_8_is_replaced() -> None:
    assert PrintedLines().feed(b"\xff\xfe\n", 0.0) == (["\ufffd\ufffd"], 0)


@given(st.lists(st.integers(1, 5000), min_size=1))
def test_long_line_is_truncated_and_its_buffer_is_bounded(chunks: list[int]) -> None:
    printed = PrintedLines()
    for size in chunks:
        assert printed.feed(b"x" * size, 0.0) == ([], 0)
        assert printed.waiting_bytes <= 4 * MAX_LINE_CHARACTERS + 1
    (line,), _ = printed.feed(b"\nshort\n"[:1], 0.0)
    length = sum(chunks)
    assert line == ("x" * length if length <= MAX_LINE_CHARACTERS else "x" * MAX_LINE_CHARACTERS + "...")
    assert printed.feed(b"short\n", 0.0) == (["short"], 0)


def test_lines_over_the_maximum_are_dropped_and_counted() -> None:
    printed = PrintedLines()
    flood = b"".join(b"line %d\n" % number for number in range(1000))
    lines, dropped = printed.feed(flood, 10.1)
    assert lines == [f"line {number}" for number in range(MAX_LINES_PER_SECOND)]
    assert dropped == 0
    assert printed.feed(flood, 10.9) == ([], 0)
    lines, dropped = printed.feed(b"after\n", 11.0)
    assert lines == ["after"]
    assert dropped == 2000 - MAX_LINES_PER_SECOND
    assert printed.feed(b"more\n", 11.5) == (["more"], 0)
