"""URLs of Redis, of one server and of sentinels."""

from __future__ import annotations

import pytest
from redis.asyncio.connection import parse_url

from common.net import redis_url

FULL = (
    "rediss+sentinel://calls:p%40ss%2Fword@one:26379,[fd00::2]:26380,three/my%20master/2"
    "?sentinel_username=watch&sentinel_password=s%26cret&ssl_ca_certs=/ca.pem"
)


def test_every_part_of_a_url_of_sentinels_is_read() -> None:
    parts = redis_url.parse_sentinels(FULL)
    assert parts.sentinels == (("one", 26379), ("fd00::2", 26380), ("three", 26379))
    assert parts.service == "my master"
    primary, sentinel = dict(parse_url(parts.primary)), dict(parse_url(parts.account))
    assert (primary["username"], primary["password"]) == ("calls", "p@ss/word")
    assert (primary["db"], primary["ssl_ca_certs"]) == (2, "/ca.pem")
    assert "sentinel_password" not in primary
    assert (sentinel["username"], sentinel["password"]) == ("watch", "s&cret")
    assert primary["connection_class"] is sentinel["connection_class"]


def test_shortest_url_of_sentinels_has_defaults() -> None:
    parts = redis_url.parse_sentinels("redis+sentinel://one/calls")
    assert (parts.sentinels, parts.service) == ((("one", 26379),), "calls")
    assert {"username", "password", "db"}.isdisjoint(parse_url(parts.primary) | parse_url(parts.account))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis+sentinel://one:26379", "must name the service of the sentinels as its path, such as /mymaster"),
        ("redis+sentinel://one:26379#mymaster", "must name the service"),
        ("redis+sentinel:///mymaster", "must name its sentinels as host:port,host:port"),
        ("redis+sentinel://one,,two/mymaster", "must name its sentinels as host:port,host:port"),
        ("redis+sentinel://one:port/mymaster", "must name its sentinels as host:port,host:port"),
        ("redis+sentinel://fd00::2:26379/mymaster", "must name its sentinels as host:port,host:port"),
        ("redis+sentinel://one/mymaster/db", "number of a database, such as /mymaster/0"),
        ("redis+sentinel://one/mymaster?sentinel_db=1", "must have no option sentinel_db"),
        (f"redis+sentinel://{','.join('a' * 33)}/mymaster", "must name at most 32 sentinels"),
    ],
)
def test_wrong_url_of_sentinels_says_what_is_wrong(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        redis_url.parse_sentinels(url)


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        (FULL, "rediss+sentinel://one:26379,[fd00::2]:26380,three/my%20master/2"),
        ("redis://user:secret@here/1?ssl_ca_certs=a", "redis://here:6379/1"),
        ("rediss://[::1]:6380", "rediss://[::1]:6380"),
        ("unix://:secret@/run/redis.sock?db=1", "unix:///run/redis.sock"),
    ],
)
def test_address_is_shown_without_account_and_options(url: str, plain: str) -> None:
    assert redis_url.shown(url) == plain


def test_account_of_primary_and_sentinels_may_change() -> None:
    other = FULL.replace("calls:p%40ss%2Fword", "new:pass").replace("s%26cret", "other")
    assert redis_url.without_account(other) == redis_url.without_account(FULL)
    assert redis_url.without_account(FULL.replace("one", "four")) != redis_url.without_account(FULL)
    assert redis_url.without_account(FULL.replace("ca.pem", "b.pem")) != redis_url.without_account(FULL)


@pytest.mark.parametrize("password", ["p@ss:w/rd?#&=%41", "with space"])
def test_passwords_beside_the_url_are_read_unchanged(password: str) -> None:
    url = redis_url.with_password("redis+sentinel://user@one,[::1]:1/calls/3", password)
    url = redis_url.with_sentinel_password(url, password[::-1])
    parts = redis_url.parse_sentinels(url)
    assert parse_url(parts.primary)["password"] == password
    assert parse_url(parts.primary)["username"] == "user"
    assert parse_url(parts.account)["password"] == password[::-1]
    assert (parts.sentinels, parts.service) == ((("one", 26379), ("::1", 1)), "calls")
    assert redis_url.has_password(url)
    assert redis_url.has_sentinel_password(url)
    assert {password, password[::-1]} <= set(redis_url.passwords(url))


def test_user_alone_is_no_password() -> None:
    url = "redis+sentinel://user@one/calls?sentinel_username=watch"
    assert not redis_url.has_password(url)
    assert not redis_url.has_sentinel_password(url)
    assert not [*redis_url.passwords(url)]
