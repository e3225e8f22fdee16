from __future__ import annotations

import structlog.testing
from aiohttp.test_utils import make_mocked_request

from dispatcher.api.audit import MAX_READERS, ConversationAudit


def test_reads_of_a_conversation_are_logged_once_in_a_while() -> None:
    audit = ConversationAudit(seconds=3600)
    request = make_mocked_request("GET", "/calls/a")
    with structlog.testing.capture_logs() as logs:
        for uuid in ("a", "a", "b", "a"):
            audit.read(request, uuid)
    assert [(line["event"], line["uuid"], line["times"]) for line in logs] == [
        ("conversation read", "a", 1),
        ("conversation read", "b", 1),
    ]


def test_next_line_has_the_number_of_reads() -> None:
    audit = ConversationAudit(seconds=0)
    request = make_mocked_request("GET", "/calls/a")
    with structlog.testing.capture_logs() as logs:
        audit.read(request, "a")
        audit.read(request, "a")
    assert [line["times"] for line in logs] == [1, 1]


def test_number_of_readers_is_bounded() -> None:
    audit = ConversationAudit(seconds=3600)
    request = make_mocked_request("GET", "/calls/a")
    with structlog.testing.capture_logs():
        for number in range(MAX_READERS + 100):
            audit.read(request, str(number))
    assert len(audit._readers) == MAX_READERS
