from __future__ import annotations

import pytest

from common.plain_number import plain_number


@pytest.mark.parametrize("written", ["+39 02 1234-567", "0039021234567", "39021234567", " (39) 02.123/4567 "])
def test_a_number_has_one_form(written: str) -> None:
    assert plain_number(written) == "39021234567"


def test_other_text_is_compared_in_lower_case() -> None:
    assert plain_number(" SIP:Anna@PBX ") == "sip:anna@pbx"
    assert plain_number("acme-2") == "acme-2"
