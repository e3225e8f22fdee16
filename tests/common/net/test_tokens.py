from __future__ import annotations

import hmac

import pytest
from pydantic import SecretStr

from common.net.tokens import FORMER_SECONDS, MAX_FORMER, Token, bearer, is_token

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


def test_tokens_of_any_length_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
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


class Clock:
    """A clock that tests advance."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_a_replaced_token_stays_valid_for_a_while() -> None:
    clock = Clock()
    token = Token(TOKEN, clock)
    token.replace(SecretStr("another token of it"))
    assert token.value == SecretStr("another token of it")
    assert token.accepts("another token of it")
    clock.seconds += FORMER_SECONDS - 0.001
    assert token.accepts("0123456789abcdef")
    clock.seconds += 0.001
    assert not token.accepts("0123456789abcdef")
    assert token.accepts("another token of it")


def test_a_token_that_did_not_change_has_no_former_one() -> None:
    token = Token(TOKEN)
    token.replace(SecretStr(TOKEN.get_secret_value()))
    assert token.valid() == (TOKEN,)


def test_a_former_token_keeps_its_own_time() -> None:
    clock = Clock()
    token = Token(TOKEN, clock)
    token.replace(SecretStr("the second"))
    clock.seconds += FORMER_SECONDS / 2
    token.replace(SecretStr("the third"))
    assert [each.get_secret_value() for each in token.valid()] == ["the third", "the second", "0123456789abcdef"]
    clock.seconds += FORMER_SECONDS / 2
    assert [each.get_secret_value() for each in token.valid()] == ["the third", "the second"]


def test_a_token_that_comes_back_is_there_once() -> None:
    token = Token(TOKEN)
    token.replace(SecretStr("the second"))
    token.replace(TOKEN)
    assert token.valid() == (TOKEN, SecretStr("the second"))


def test_former_tokens_are_bounded() -> None:
    token = Token(TOKEN)
    for number in range(100):
        token.replace(SecretStr(f"token {number}"))
    assert len(token.valid()) == 1 + MAX_FORMER
    assert not token.accepts("0123456789abcdef")
    assert not token.accepts(None)
