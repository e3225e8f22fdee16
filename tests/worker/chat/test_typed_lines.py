"""Lines of standard input."""

from __future__ import annotations

import io

import pytest

from worker.chat.typed_lines import MAX_LINE_BYTES, LineTooLong, TypedLines


async def test_lines_come_one_by_one_up_to_the_end() -> None:
    lines = TypedLines(io.BytesIO(" Grüße \n\nlast".encode()))
    assert [await lines.next() for _ in range(4)] == ["Grüße", "", "last", None]


async def test_a_line_that_is_too_long_is_skipped_as_a_whole() -> None:
    lines = TypedLines(io.BytesIO(b"x" * (3 * MAX_LINE_BYTES + 5) + b"\nnext\n" + b"y" * MAX_LINE_BYTES))
    with pytest.raises(LineTooLong, match="16,384 bytes"):
        await lines.next()
    assert await lines.next() == "next"
    assert await lines.next() == "y" * MAX_LINE_BYTES


async def test_bytes_that_are_no_text_are_replaced() -> None:
    stream = io.BytesIO(b"\xff?\n")
    lines = TypedLines(stream)
    assert await lines.next() == "\ufffd?"
    stream.close()
    assert await lines.next() is None
