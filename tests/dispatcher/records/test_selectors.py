from __future__ import annotations

import pytest

from dispatcher.records import selectors
from tests.dispatcher.records.samples import call_record


@pytest.mark.parametrize("written", ["+39 02 1234-567", "0039021234567", "39021234567", " (39) 02.123/4567 "])
def test_number_has_one_selector_however_it_is_written(written: str) -> None:
    assert selectors.of_number(written) == selectors.of_number("+39021234567")


def test_other_identities_are_compared_as_text() -> None:
    assert selectors.of_number("SIP:Anna@pbx") == selectors.of_number("sip:anna@pbx ")
    assert selectors.of_number("sip:anna2@pbx") != selectors.of_number("sip:anna@pbx")


def test_record_has_its_uuid_and_its_numbers() -> None:
    made = selectors.of_record(call_record(metadata={"from": "+39021", "to": "0039021", "note": " "}))
    assert made == (selectors.of_uuid("uuid-0001"), selectors.of_number("39021"))
    assert "39021" not in "".join(made)
