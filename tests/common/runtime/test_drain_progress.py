from __future__ import annotations

import asyncio
import io
import time

import pytest

from common.observe.status_line import MAX_CHARACTERS, StatusLine
from common.runtime.drain_progress import progress, show_drain
from tests.helpers import eventually


@pytest.mark.parametrize(
    ("calls", "seconds_left", "line"),
    [
        (2, 7.2, "draining: 2 calls left, at most 8 s; Ctrl-C again ends now"),
        (1, 1.0, "draining: 1 call left, at most 1 s; Ctrl-C again ends now"),
        (0, -3.0, "draining: no calls left, at most 0 s; Ctrl-C again ends now"),
        (None, 5.0, "draining: at most 5 s; Ctrl-C again ends now"),
    ],
)
def test_progress_has_calls_and_seconds_left(calls: int | None, seconds_left: float, line: str) -> None:
    assert progress(calls, seconds_left) == line


def test_longest_drain_fits_into_the_line() -> None:
    assert len(progress(20_000, 86_400)) <= MAX_CHARACTERS


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_progress_is_renewed_and_removed_at_the_end() -> None:
    screen, calls = _Screen(), iter([2, 1])
    showing = asyncio.create_task(show_drain(StatusLine(screen), time.monotonic() + 60, lambda: next(calls, 0)))
    await eventually(lambda: "no calls left" in screen.getvalue())
    showing.cancel()
    await asyncio.gather(showing, return_exceptions=True)
    assert [text.split(",")[0] for text in screen.getvalue().split("\r\x1b[K")][1:4] == [
        "draining: 2 calls left",
        "draining: 1 call left",
        "draining: no calls left",
    ]
    assert screen.getvalue().endswith("\r\x1b[K")


async def test_drain_without_a_terminal_shows_nothing() -> None:
    file = io.StringIO()
    await show_drain(StatusLine(file), time.monotonic() + 60, lambda: 1)
    assert file.getvalue() == ""
