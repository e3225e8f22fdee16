from __future__ import annotations

import json
from urllib.parse import quote

import orjson
import pytest

from common.observe import redaction
from common.observe.redaction import (
    MAX_CALL_SECRETS,
    MAX_ENDED_CALLS,
    NO_CALL,
    CallSecrets,
    KnownSecrets,
    all_without_known,
    holds_known,
    is_secret_name,
    redact,
    secrets_in,
    secrets_in_url,
    without_known,
)


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


KEY = "plain-key-0123456789"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> KnownSecrets:
    """Return the secrets of a process that has none yet."""
    known = KnownSecrets()
    monkeypatch.setattr(redaction, "KNOWN", known)
    return known


class TestKnownSecrets:
    def test_a_secret_of_the_process_is_removed_from_any_text(self, known: KnownSecrets) -> None:
        known.know("settings", [KEY])
        assert without_known(f"Incorrect API key provided: {KEY}.") == "Incorrect API key provided: ***."
        assert without_known(f"{KEY} {KEY}", "uuid-1") == "*** ***"
        assert redact(f"{KEY} sk-12345678") == "*** ***"

    @pytest.mark.parametrize("written", ["no", "1234567"])
    def test_a_secret_that_may_be_a_part_of_a_word_stays(self, known: KnownSecrets, written: str) -> None:
        known.know("settings", [written, ""])
        assert without_known(f"nothing {written}") == f"nothing {written}"

    def test_a_secret_with_eight_characters_is_removed(self, known: KnownSecrets) -> None:
        known.know("settings", ["12345678"])
        assert without_known("x12345678x") == "x***x"

    def test_a_secret_is_found_in_every_written_form(self, known: KnownSecrets) -> None:
        secret = 'pä"ss\\wo/rd+'
        known.know("settings", [secret])
        for written in (secret, json.dumps(secret), orjson.dumps(secret).decode(), quote(secret, safe="")):
            assert "wo" not in without_known(f"text {written} text")
        stored = without_known(orjson.dumps({"text": f"a {secret} b"}).decode())
        assert orjson.loads(stored) == {"text": "a *** b"}

    def test_a_token_is_found_without_its_scheme(self, known: KnownSecrets) -> None:
        known.know("settings", ["Bearer abcdefgh", "Token  ijklmnop"])
        assert without_known("wrong token abcdefgh or ijklmnop") == "wrong token *** or ***"

    def test_the_longest_secret_goes_first(self, known: KnownSecrets) -> None:
        known.know("settings", ["abcdefgh", "abcdefgh-ijkl"])
        assert without_known("abcdefgh-ijkl abcdefgh") == "*** ***"

    def test_new_secrets_take_the_place_of_the_owners_old_ones(self, known: KnownSecrets) -> None:
        known.know("settings", ["old-secret"])
        known.know("redis", ["redis-secret"])
        assert without_known("old-secret", "uuid-1") == "***"
        known.know("settings", ["new-secret"])
        assert without_known("old-secret new-secret redis-secret", "uuid-1") == "old-secret *** ***"

    def test_a_call_has_its_own_secrets(self, known: KnownSecrets) -> None:
        call = CallSecrets("uuid-1", known)
        call.keep(["secret-of-1"])
        known.know("settings", [KEY])
        assert without_known(f"secret-of-1 {KEY}", "uuid-1") == "*** ***"
        assert without_known(f"secret-of-1 {KEY}", "uuid-2") == "secret-of-1 ***"
        # Text that names no call may be of any.
        assert without_known("secret-of-1") == "***"
        assert without_known(f"secret-of-1 {KEY}", NO_CALL) == "secret-of-1 ***"

    def test_secrets_come_in_the_course_of_a_call(self, known: KnownSecrets) -> None:
        call = CallSecrets("uuid-1", known)
        call.keep(["first-secret"])
        assert without_known("first-secret", "uuid-1") == "***"
        call.keep(["second-secret"])
        assert without_known("first-secret second-secret", "uuid-1") == "*** ***"

    def test_a_call_has_two_sessions_for_a_while(self, known: KnownSecrets) -> None:
        older, newer = CallSecrets("uuid-1", known), CallSecrets("uuid-1", known)
        older.keep(["old-secret"])
        newer.keep(["new-secret"])
        older.close()
        assert without_known("old-secret new-secret", "uuid-1") == "*** ***"

    def test_the_latest_ended_calls_are_remembered(self, known: KnownSecrets) -> None:
        for number in range(MAX_ENDED_CALLS + 1):
            call = CallSecrets(f"uuid-{number}", known)
            call.keep([f"secret-of-{number}"])
            call.close()
            call.close()
        assert without_known("secret-of-0", "uuid-0") == "secret-of-0"
        assert without_known("secret-of-256", "uuid-256") == "***"
        assert len(known._found) <= MAX_ENDED_CALLS + 2

    def test_a_call_without_secrets_leaves_nothing(self, known: KnownSecrets) -> None:
        call = CallSecrets("uuid-1", known)
        call.keep(["short", ""])
        call.close()
        assert known.of("uuid-1") == ()
        assert not known._ended

    def test_a_stranger_cannot_have_thousands_looked_for(self, known: KnownSecrets) -> None:
        call = CallSecrets("uuid-1", known)
        call.keep(f"secret-of-{number:05}" for number in range(10_000))
        assert len(known.of("uuid-1")) == MAX_CALL_SECRETS

    def test_every_text_of_a_value_is_looked_at(self, known: KnownSecrets) -> None:
        known.know("settings", [KEY])
        given = {"a": [KEY, {"b": f"x{KEY}"}], "n": 1, "none": None, KEY: "name"}
        assert all_without_known(given) == {"a": ["***", {"b": "x***"}], "n": 1, "none": None, KEY: "name"}

    def test_a_label_with_a_secret_is_known_in_lower_case(self, known: KnownSecrets) -> None:
        known.know("settings", ["Secret-Key"])
        assert holds_known("error_secret-key")
        assert not holds_known("secret")


def test_the_secrets_of_a_value_are_found_by_their_places() -> None:
    value = {
        "api_key": "key-1",
        "model": "gpt",
        "tools": [
            {
                "server_label": "crm",
                "authorization": "auth-2",
                "server_url": "https://u:pass-3@h/?token=token-4&a=b",
            },
            {"headers": {"X-Auth": "header-5", "Content-Type": "application/json", "n": 7}},
        ],
        "session": {"x-secret": "secret-6", "max_tokens": "inf"},
        "password": ["list-7"],
    }
    assert set(secrets_in(value)) == {"key-1", "auth-2", "pass-3", "token-4", "header-5", "secret-6", "list-7"}


def test_secrets_of_urls() -> None:
    assert set(secrets_in_url("redis://:p%40ss@h:1/0")) == {"p%40ss", "p@ss"}
    assert set(secrets_in_url("https://key@h/path?api_key=a&from=b")) == {"key", "a"}
    assert not set(secrets_in_url("http://[")) | set(secrets_in_url("")) | set(secrets_in_url("ws://h/p?x=1"))
