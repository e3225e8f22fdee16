from __future__ import annotations

import pytest

from simulator.realtime.word_times import WordTimes


@pytest.mark.parametrize(
    ("until_ms", "begun", "ended"),
    [(0, 0, 0), (1, 1, 0), (300, 1, 1), (301, 2, 1), (1000, 2, 2), (1001, 3, 2), (1100, 3, 3), (9000, 3, 3)],
)
def test_words_begin_and_end_at_their_times(until_ms: int, begun: int, ended: int) -> None:
    times = WordTimes((300, 1000, 1100))
    assert (times.begun(until_ms), times.ended(until_ms)) == (begun, ended)


def test_even_words_have_one_length() -> None:
    assert WordTimes.even(3, 400).ends_ms == (400, 800, 1200)


@pytest.mark.parametrize("times", [WordTimes(), WordTimes.even(0, 400)])
def test_reply_without_words_has_no_length(times: WordTimes) -> None:
    assert (times.total_ms, times.begun(10), times.ended(10)) == (0, 0, 0)
