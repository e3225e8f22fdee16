"""Secrets that are replaced while a process runs."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from common.settings.fields import SECRETS
from common.settings.roles import Role
from common.settings.secret_store import MAX_FORMER, Secrets
from common.settings.settings import Settings

KEY = "sk-test-0123456789abcdefghij"
GIVEN = {
    "OPENAI_API_KEY": KEY,
    "OPENAI_MCP_SERVERS": '[{"server_label": "a", "server_url": "https://a.example", "authorization": "first"}]',
    "OPENAI_SESSION": '{"temperature": 0.7}',
    "SAFETY_IDENTIFIER_SECRET": "a-secret-for-identifiers",
    "REDIS_URL": "redis://user:first@here:6379/0",
    "REDIS_URL_PASSWORD": "",
    "REDIS_SENTINEL_PASSWORD": "",
    "STS_TOKEN": "the-first-sts-token",
    "CLUSTER_TOKEN": "the-first-cluster-token",
    "ADMIN_TOKEN": "the-first-admin-token",
    "CALL_RECORDS_SECRET": "the-first-webhook-secret",
    "CALL_RECORDS_REDIS_URL": "redis://user:first@there:6379/0",
}
NEW = {
    "OPENAI_API_KEY": "sk-another-0123456789abcdef",
    "OPENAI_MCP_SERVERS": '[{"server_label": "a", "server_url": "https://a.example", "authorization": "second"}]',
    "OPENAI_SESSION": '{"speed": 1.1}',
    "SAFETY_IDENTIFIER_SECRET": "another-secret-for-identifiers",
    "REDIS_URL": "redis://other:second@here:6379/0",
    "REDIS_URL_PASSWORD": "second",
    "REDIS_SENTINEL_PASSWORD": "second",
    "STS_TOKEN": "the-second-sts-token",
    "CLUSTER_TOKEN": "the-second-cluster-token",
    "ADMIN_TOKEN": "the-second-admin-token",
    "CALL_RECORDS_SECRET": "the-second-webhook-secret",
    "CALL_RECORDS_REDIS_URL": "redis://other:second@there:6379/0",
}


def settings(**variables: str) -> Settings:
    given = {name: value for name, value in (GIVEN | variables).items() if value}
    return Settings.parse(given, Role.SERVE)


@pytest.mark.parametrize("name", [name.upper() for name in SECRETS])
def test_every_secret_can_be_replaced(name: str) -> None:
    beside = {
        "REDIS_URL_PASSWORD": {"REDIS_URL": "redis://here"},
        "REDIS_SENTINEL_PASSWORD": {"REDIS_URL": "redis+sentinel://here/calls"},
    }.get(name, {})
    secrets, fresh = Secrets(settings(**beside)), settings(**beside, **{name: NEW[name]})
    replacement = secrets.replace(fresh)
    assert (replacement.changed, replacement.need_restart) == ((name,), ())
    assert secrets.settings == fresh


@pytest.mark.parametrize("name", ["STS_TOKEN", "CLUSTER_TOKEN", "ADMIN_TOKEN"])
def test_the_former_token_stays_valid(name: str) -> None:
    secrets = Secrets(settings())
    token = getattr(secrets, name.lower())
    secrets.replace(settings(**{name: NEW[name]}))
    assert getattr(secrets, name.lower()) is token
    assert token.value == SecretStr(NEW[name])
    assert token.accepts(GIVEN[name])


@pytest.mark.parametrize("name", ["STS_TOKEN", "CLUSTER_TOKEN", "ADMIN_TOKEN", "CALL_RECORDS_SECRET"])
def test_a_token_that_is_set_or_unset_takes_a_restart(name: str) -> None:
    """A file that is emptied by mistake must not open a door."""
    for before, after in ((GIVEN[name], ""), ("", NEW[name])):
        secrets = Secrets(settings(**{name: before}))
        replacement = secrets.replace(settings(**{name: after}))
        assert (replacement.changed, replacement.need_restart) == ((), (name,))
        assert secrets.settings == settings(**{name: before})


def test_password_of_redis_is_replaced_beside_its_url() -> None:
    before = settings(REDIS_URL="redis://user@here:6379/0", REDIS_URL_PASSWORD="first")
    after = settings(REDIS_URL="redis://user@here:6379/0", REDIS_URL_PASSWORD="p@ss/word")
    secrets = Secrets(before)
    replacement = secrets.replace(after)
    assert (replacement.changed, replacement.need_restart) == (("REDIS_URL_PASSWORD",), ())
    assert secrets.settings.redis_address == "redis://user:p%40ss%2Fword@here:6379/0"
    assert {"first", "p@ss/word", "p%40ss%2Fword"} <= secrets.seen


def test_accounts_of_primary_and_sentinels_are_replaced() -> None:
    url = "redis+sentinel://user:{0}@one,two/calls?sentinel_password={0}"
    secrets = Secrets(settings(REDIS_URL=url.format("first")))
    replacement = secrets.replace(settings(REDIS_URL=url.format("second")))
    assert (replacement.changed, replacement.need_restart) == (("REDIS_URL",), ())
    replacement = secrets.replace(settings(REDIS_URL=url.format("second").replace("two", "three")))
    assert (replacement.changed, replacement.need_restart) == ((), ("REDIS_URL",))


def test_another_redis_takes_a_restart() -> None:
    secrets = Secrets(settings())
    replacement = secrets.replace(settings(REDIS_URL="redis://user:first@there:6379/0"))
    assert (replacement.changed, replacement.need_restart) == ((), ("REDIS_URL",))
    assert secrets.settings.redis_url == GIVEN["REDIS_URL"]


def test_other_settings_are_named_and_stay() -> None:
    secrets = Secrets(settings())
    replacement = secrets.replace(settings(OPENAI_VOICE="marin", PORT="7030", STS_TOKEN=NEW["STS_TOKEN"]))
    assert replacement.changed == ("STS_TOKEN",)
    assert replacement.need_restart == ("PORT", "OPENAI_VOICE")
    assert (secrets.settings.port, secrets.settings.openai_voice) == (6030, "alloy")


def test_nothing_changed_is_nothing() -> None:
    replacement = Secrets(settings()).replace(settings())
    assert (replacement.changed, replacement.need_restart) == ((), ())


def test_former_secrets_stay_hidden() -> None:
    secrets = Secrets(settings())
    keys = [f"sk-key-number-{number:04d}" for number in range(MAX_FORMER + 2)]
    for key in keys:
        secrets.replace(settings(OPENAI_API_KEY=key))
    assert secrets.seen & set(keys) == set(keys[-MAX_FORMER - 1 :])
