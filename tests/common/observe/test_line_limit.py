from __future__ import annotations

import pytest

from common.observe.line_limit import MAX_TEXT_CHARS, REPORT_SECONDS, LineLimit, shown


def test_the_first_line_of_each_kind_is_written() -> None:
    limit = LineLimit()
    assert [limit.take(kind, 100.0) for kind in ("a", "b", "a", "b")] == [1, 1, None, None]


def test_the_next_line_counts_those_that_were_suppressed() -> None:
    limit = LineLimit()
    taken = [limit.take("a", 100.0 + seconds) for seconds in (0.0, 1.0, REPORT_SECONDS - 0.1, REPORT_SECONDS)]
    assert taken == [1, None, None, 3]
    assert limit.take("a", 100.0 + 2 * REPORT_SECONDS) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [("d-1", "d-1"), ("a\nb\x1b[31m", "a b [31m"), ("x" * 500, "x" * (MAX_TEXT_CHARS - 1) + "…"), ("", "")],
)
def test_a_strangers_text_is_short_and_on_one_line(text: str, line: str) -> None:
    assert shown(text) == line
