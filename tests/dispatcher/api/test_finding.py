"""The search in lists of calls."""

from __future__ import annotations

import pytest

from dispatcher.api.finding import finder, texts_of_record


@pytest.mark.parametrize(
    ("wanted", "text", "found"),
    [
        ("", "", True),
        ("  ", "anything", True),
        ("anna", "Anna Rossi", True),
        ("ANNA", "anna", True),
        ("anna", "Rossi", False),
        ("02 555", "+39 02 555 0101", True),
        ("0255501", "+39 02 555 0101", True),
        ("(555) 0101", "+39 02 555-0101", True),
        ("99", "+39 9 9", False),
        ("555", None, False),
        ("a555", "5-5-5", False),
    ],
)
def test_it_finds_what_a_person_types(wanted: str, text: object, found: bool) -> None:
    assert finder(wanted)(["", text]) is found


def test_a_record_is_found_by_what_a_list_shows() -> None:
    record = {
        "uuid": "u-1",
        "tenant": None,
        "reason": "caller_hung_up",
        "metadata": {"from": "+39 02"},
        "said": "xyz",
    }
    for wanted in ("u-1", "caller_hung", "caller hung", "39 02"):
        assert finder(wanted)(texts_of_record(record))
    assert not finder("xyz")(texts_of_record(record))
