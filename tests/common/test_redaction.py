from __future__ import annotations

import pytest

from common.redaction import is_secret_name, redact


@pytest.mark.parametrize(
    "name",
    ["api_key", "OPENAI_API_KEY", "apikey", "Authorization", "token", "STS_TOKEN", "x-auth-token", "password"],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["max_tokens", "tokens", "tokens_total", "key", "keyboard", "uuid", "authorized"])
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Incorrect API key provided: sk-proj-ab***9xY_.", "Incorrect API key provided: ***."),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("redis://user:p-w@host:6379/0", "redis://***@host:6379/0"),
        ("ws://h/?from=1&token=abc&to=2", "ws://h/?from=1&token=***&to=2"),
        ("wss://h/v1?api-key=abc", "wss://h/v1?api-key=***"),
    ],
)
def test_secrets_in_text_are_replaced(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize("text", ["risk-averse", "disk-usage", "ws://h/?from=1", "the bearer of news", "a@b"])
def test_other_text_stays(text: str) -> None:
    assert redact(text) == text
