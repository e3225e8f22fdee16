"""The check of the HTTP proxies."""

from __future__ import annotations

import socket

import pytest

from common.check import proxy
from common.check.finding import Finding, State
from common.settings.roles import Role
from common.settings.settings import Settings


async def look(**variables: str) -> list[Finding]:
    settings = Settings.parse({"OPENAI_API_KEY": "k", "REDIS_URL": "redis://h", **variables}, Role.WORKER)
    return [finding for check in proxy.checks(settings) for finding in await check.run(10)]


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "the Realtime API is reached through it"),
        ({"NO_PROXY": "api.openai.com"}, "the Realtime API is reached without it"),
        ({"OPENAI_BASE_URL": "ws://10.0.0.1/v1"}, "the Realtime API is reached without it"),
    ],
)
async def test_proxy_that_can_be_reached_says_who_uses_it(variables: dict[str, str], told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        (found,) = await look(HTTPS_PROXY=f"http://user:t0p-s3cret@127.0.0.1:{port}", **variables)
    assert (found.name, found.state, found.value) == ("HTTPS_PROXY", State.OK, f"127.0.0.1:{port}")
    assert told in found.what
    assert "s3cret" not in repr(found)


async def test_proxy_that_cannot_be_reached_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    found = await look(HTTPS_PROXY=f"http://127.0.0.1:{port}", HTTP_PROXY=f"http://127.0.0.1:{port}")
    assert [(each.name, each.state) for each in found] == [
        ("HTTPS_PROXY", State.FAIL),
        ("HTTP_PROXY", State.FAIL),
    ]
    assert "cannot be reached" in found[0].what
    assert "correct or unset HTTPS_PROXY" in found[0].todo


async def test_without_a_proxy_there_is_no_check() -> None:
    assert await look() == []
