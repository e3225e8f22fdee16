"""The log line of a call's record."""

from __future__ import annotations

import orjson
import pytest

from dispatcher.records.record_log import log_fields, masked
from tests.dispatcher.records.test_builder import record
from tests.dispatcher.records.test_facts import busy


@pytest.mark.parametrize(
    ("value", "shown"), [("+390612345", "…345"), ("100", "100"), ("", ""), ("anna@example.org", "…org")]
)
def test_numbers_are_masked(value: str, shown: str) -> None:
    assert masked(value) == shown


def test_the_line_has_figures_and_nothing_that_was_said() -> None:
    fields = log_fields(record(busy()))
    written = orjson.dumps(fields).decode()
    assert "Hi." not in written
    assert "0612345" not in written
    assert fields["metadata"] == {"from": "…345", "to": "600"}
    assert (fields["record"], fields["ending"], fields["hung_up_by"]) == ("record-1", "completed", "caller")
    assert (fields["turn_latency_p50_seconds"], fields["tools"], fields["tools_failed"]) == (0.8, 1, 0)
    # One wide event: a line that a log store can filter by each field.
    assert not any(isinstance(value, (list, tuple)) for value in fields.values())
