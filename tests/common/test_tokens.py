from __future__ import annotations

import hmac

import pytest
from pydantic import SecretStr

from common.tokens import bearer, is_token

TOKEN = SecretStr("0123456789abcdef")


@pytest.mark.parametrize(
    ("shown", "is_it"),
    [
        ("0123456789abcdef", True),
        ("0123456789abcdeF", False),
        ("0123456789abcde", False),
        ("0123456789abcdef0", False),
        ("", False),
        (None, False),
        ("è" * 16, False),
        ("\ud800", False),
        ("0" * 100_000, False),
    ],
)
def test_only_the_token_is_the_token(shown: str | None, is_it: bool) -> None:
    assert is_token(shown, TOKEN) is is_it


def test_it_is_compared_in_constant_time_whatever_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def seen(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", seen)
    for shown in ("", "x", "0123456789abcdef", "y" * 1000):
        is_token(shown, TOKEN)
    assert compared == [(32, 32)] * 4


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER  abc ", "abc"),
        ("Bearer ", ""),
        ("Bearer", None),
        ("Basic abc", None),
        ("abc", None),
        ("", None),
        (None, None),
    ],
)
def test_a_bearer_token_is_taken_from_its_header(header: str | None, token: str | None) -> None:
    assert bearer(header) == token
