"""The identifier by which OpenAI tells callers apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from worker.config import safety_identifier
from worker.config.safety_identifier import normalised

SECRET = SecretStr("a-secret-of-the-test")
# printf %s +390551234567 | openssl dgst -sha256 -hmac a-secret-of-the-test
IDENTIFIER = "6e591efb05f69dd8eb96ab6435aaaf86519ef0c057a59975e8676b90f8c65682"


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("+390551234567", "+390551234567"),
        (" +39 055 123-4567 ", "+390551234567"),
        ("+39 (055) 123.45.67", "+390551234567"),
        ("sip:+390551234567@trunk1.example.com:5060", "+390551234567"),
        ('"Ann 2" <sip:+390551234567@10.0.0.1;user=phone>', "+390551234567"),
        ("tel:+390551234567;ext=5", "+390551234567"),
        ("0039055", "0039055"),
        ("600", "600"),
        ("anonymous", ""),
        ("Anonymous <sip:anonymous@10.0.0.1>", ""),
        ("+", ""),
        ("", ""),
    ],
)
def test_a_number_is_the_same_however_it_is_written(written: str, number: str) -> None:
    assert normalised(written) == number


def test_the_identifier_is_a_keyed_hash_of_the_number() -> None:
    for written in ("+390551234567", "+39 055 1234567"):
        assert safety_identifier.of_call(SECRET, {"from": written, "to": "600"}) == IDENTIFIER
    assert safety_identifier.of_call(SecretStr("another-secret-of-it"), {"from": "+390551234567"}) != IDENTIFIER
    assert safety_identifier.of_call(SECRET, {"from": "390551234567"}) != IDENTIFIER


@pytest.mark.parametrize("metadata", [{}, {"from": ""}, {"from": "anonymous"}, {"to": "+390551234567"}])
def test_without_a_number_there_is_no_identifier(metadata: dict[str, str]) -> None:
    assert safety_identifier.of_call(SECRET, metadata) is None


def test_without_a_secret_there_is_no_identifier() -> None:
    assert safety_identifier.of_call(None, {"from": "+390551234567"}) is None


@given(st.text())
def test_every_identifier_fits_into_a_header(written: str) -> None:
    identifier = safety_identifier.of_call(SECRET, {"from": written})
    assert identifier is None or (len(identifier) == 64 and int(identifier, 16) >= 0)
