from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.net.retry_after import MAX_RETRY_AFTER_SECONDS, seconds_of


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("120", 120.0), ("1e9", MAX_RETRY_AFTER_SECONDS), ("-1", None), ("nan", None), ("soon", None)],
)
def test_seconds_are_read_and_bounded(header: str | None, seconds: float | None) -> None:
    assert seconds_of(header) == seconds


def test_date_is_read() -> None:
    seconds = seconds_of(format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True))
    assert seconds is not None
    assert 90 < seconds <= 100


@given(st.text(max_size=60))
def test_any_header_is_accepted(header: str) -> None:
    seconds = seconds_of(header)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_SECONDS
