"""The Redis that a release uses: bundled, by URL, or by host with a password from a Secret."""

from __future__ import annotations

from urllib.parse import quote

import helm_python
import pytest

from common.net.redis_url import parse_sentinels
from common.settings.roles import Role
from common.settings.settings import Settings
from tests.helm.matrix import MATRIX, Values
from tests.helm.release import merged, render

ROLES = ("dispatcher", "worker")
HOST = MATRIX["redis by host"]
PASSWORD = "p@ss:w/rd?#&=%41"
"""As Redis knows it, and as a Secret of its operator holds it."""


def settings(values: Values, role: str) -> Settings:
    """Return the settings of a process whose Secret holds `PASSWORD`."""
    release = render(values)
    variables = release.variables(role)
    for name, each in release.env(role).items():
        if name in ("REDIS_URL_PASSWORD", "REDIS_SENTINEL_PASSWORD"):
            assert "secretKeyRef" in each["valueFrom"]
            variables[name] = PASSWORD
    return Settings.parse(variables, Role(role))


@pytest.mark.parametrize("role", ROLES)
def test_host_and_password_of_a_secret_make_the_address(role: str) -> None:
    expected = f"rediss://calls:{quote(PASSWORD, safe='')}@redis-master.data.svc:6380/2"
    assert settings(HOST, role).redis_address == expected
    assert render(HOST).env(role)["REDIS_URL_PASSWORD"] == {
        "valueFrom": {"secretKeyRef": {"name": "redis", "key": "redis-password"}}
    }
    assert not [each for each in render(HOST).of_kind("Deployment") if each["metadata"]["name"].endswith("-redis")]


@pytest.mark.parametrize(
    ("redis", "url"),
    [
        ({"host": "redis"}, "redis://redis:6379/0"),
        ({"host": "fd00::7", "tls": True}, "rediss://[fd00::7]:6379/0"),
        ({"host": "redis", "username": "a b@c"}, "redis://a%20b%40c@redis:6379/0"),
    ],
)
def test_parts_of_the_address_make_the_url(redis: Values, url: str) -> None:
    assert settings({"redis": redis}, "worker").redis_url == url


@pytest.mark.parametrize("role", ROLES)
def test_sentinels_and_passwords_of_secrets_make_the_address(role: str) -> None:
    values = MATRIX["redis by sentinels"]
    read = settings(values, role)
    assert read.redis_address is not None
    parts = parse_sentinels(read.redis_address)
    assert parts.sentinels == (("sentinel-0.data.svc", 26379), ("sentinel-1.data.svc", 26380), ("fd00::3", 26380))
    assert parts.service == "calls"
    assert parts.primary == f"rediss://calls:{quote(PASSWORD, safe='')}@primary/2"
    assert parts.account == f"rediss://watch:{quote(PASSWORD, safe='')}@sentinel/"
    env = render(values).env(role)
    assert env["REDIS_SENTINEL_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == "sentinels"
    assert "avr-sts-openai-redis" not in str(render(values).of_kind("Deployment"))


def test_password_of_a_secret_belongs_to_a_url_too() -> None:
    values: Values = {"redis": {"url": "redis://redis:6379/0", "existingSecret": "redis", "passwordKey": "a"}}
    assert settings(values, "worker").redis_address == f"redis://:{quote(PASSWORD, safe='')}@redis:6379/0"


BESIDE_SENTINELS: dict[str, Values] = {
    "redis.url": {"redis": {"url": "redis://b"}},
    "redis.host": {"redis": {"host": "b"}},
    "configFromSecrets.REDIS_URL": {"configFromSecrets": {"REDIS_URL": {"name": "a", "key": "b"}}},
    "config.REDIS_URL_FILE": {"config": {"REDIS_URL_FILE": "/a"}},
}


@pytest.mark.parametrize("name", BESIDE_SENTINELS)
def test_another_address_beside_sentinels_is_refused(name: str) -> None:
    values = merged({"redis": {"sentinel": {"hosts": ["a"]}}}, BESIDE_SENTINELS[name])
    with pytest.raises(helm_python.HelmRenderError, match=rf"redis.sentinel.hosts: {name} is also set"):
        render(values)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"redis": {"host": "a", "url": "redis://b"}}, "redis.host: redis.url is also set; set only one of them"),
        (
            {"redis": {"host": "a"}, "configFromSecrets": {"REDIS_URL": {"name": "a", "key": "b"}}},
            "redis.host: configFromSecrets.REDIS_URL is also set; set only one of them",
        ),
        (
            {"redis": {"sentinel": {"existingSecret": "a"}}},
            "redis.sentinel.existingSecret: name the sentinels of this password: set redis.sentinel.hosts",
        ),
        (
            {
                "redis": {"sentinel": {"hosts": ["a"], "existingSecret": "a"}},
                "configFromSecrets": {"REDIS_SENTINEL_PASSWORD": {"name": "a", "key": "b"}},
            },
            "redis.sentinel.existingSecret: configFromSecrets.REDIS_SENTINEL_PASSWORD is also set",
        ),
        (
            {"redis": {"existingSecret": "a"}},
            "redis.existingSecret: name the Redis of this password: set redis.host",
        ),
        (
            merged(HOST, {"configFromSecrets": {"REDIS_URL_PASSWORD": {"name": "a", "key": "b"}}}),
            "redis.existingSecret: configFromSecrets.REDIS_URL_PASSWORD is also set; set only one of them",
        ),
        (
            {"configFromSecrets": {"REDIS_URL_PASSWORD": {"name": "a", "key": "b"}}},
            "configFromSecrets.REDIS_URL_PASSWORD: name the Redis of this password: set redis.host",
        ),
    ],
)
def test_contradictory_redis_is_refused(values: Values, told: str) -> None:
    with pytest.raises(helm_python.HelmRenderError) as refused:
        render(values)
    assert told in str(refused.value)
