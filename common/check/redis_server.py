"""The check of Redis: whether it can be reached and written, its version, its memory, its clock and its keys."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ReadOnlyError

from common.check.check import Check
from common.check.finding import Finding, State
from common.errors import RegistryUnavailable
from common.net.redis_url import shown
from common.settings.roles import Role
from common.settings.settings import Settings
from common.store.registry import Registry
from common.store.sentinels import Answers, NoPrimary, PrimaryPool

NAME: Final = "Redis"

SLOW_SECONDS: Final = 0.5
"""Time within which processes expect an answer (`Registry.from_url`)."""

OLDEST: Final = (6, 2)
CLOCK_SECONDS: Final = 5.0
"""Difference of clocks from which on times in logs and records are hard to compare."""

_REFUSED_USER: Final = re.compile(r"WRONGPASS|NOAUTH|username-password|authentication required", re.IGNORECASE)

NEEDED_POLICY: Final = "noeviction"
FEWEST_SENTINELS: Final = 3
"""Number of sentinels of which more than half are left when one is lost."""


def check(settings: Settings, role: Role, seconds: float) -> Check:
    """Return the check; it asks with a time limit of `seconds` for each command."""
    url = settings.redis_address
    if url is None:

        async def embedded() -> Sequence[Finding]:
            what = f"REDIS_URL is not set: {role} starts a Redis of its own"
            return [Finding(NAME, State.SKIPPED, "", what)]

        return Check(NAME, "", embedded)
    value = shown(url)

    async def look() -> Sequence[Finding]:
        return await _look(url, value, seconds)

    return Check(NAME, value, look, late="check REDIS_URL, and the network and the firewalls on the way")


async def _look(url: str, value: str, seconds: float) -> Sequence[Finding]:
    registry = Registry.from_url(url, timeout_seconds=seconds)
    try:
        began = time.monotonic()
        await registry.run(_ping)
        took_seconds = time.monotonic() - began
        if not await registry.claim(f"check:{secrets.token_hex(8)}", seconds=1):
            raise RegistryUnavailable("Redis did not keep a key")
        about = await registry.run(_info)
        policy = await _policy(registry)
        behind_seconds = await _seconds_behind(registry)
        previous = await registry.previous_workers()
        workers = len(await registry.workers())
        sentinels = await registry.run(_sentinels)
    except RegistryUnavailable as error:
        cause = error.__cause__
        what = cause.what if isinstance(cause, NoPrimary) else str(error)
        return [Finding(NAME, State.FAIL, value, what, _todo(error))]
    finally:
        await registry.aclose()
    problems = [
        *_of_server(about, policy),
        *_of_time(took_seconds, behind_seconds),
        *_of_releases(previous),
        *(_of_sentinels(sentinels) if sentinels is not None else ()),
    ]
    if problems:
        return [Finding(NAME, state, value, what, todo) for state, what, todo in problems]
    what = f"version {about.get('redis_version')}, answers within {took_seconds * 1000:.0f} ms, {workers} workers"
    if sentinels is not None:
        state = sentinels.states[0]
        what += f", {len(sentinels.states)} sentinels, primary {state['ip']}:{state['port']}"
    return [Finding(NAME, State.OK, value, what)]


_Problem = tuple[State, str, str]


def _of_server(about: dict[str, Any], policy: str | None) -> Iterator[_Problem]:
    written = str(about.get("redis_version", ""))
    numbers = re.match(r"(\d+)\.(\d+)", written)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        yield State.FAIL, f"version {written} is too old", f"use Redis {needed} or newer"
    if about.get("redis_mode") == "cluster":
        yield State.FAIL, "it is a Redis Cluster, which is not supported", "use one Redis, or sentinels"
    if policy not in (None, NEEDED_POLICY):
        what = f"maxmemory-policy is {policy}: Redis may delete the state of running calls"
        yield State.WARN, what, f"set maxmemory-policy to {NEEDED_POLICY}"


def _of_time(took_seconds: float, behind_seconds: float) -> Iterator[_Problem]:
    if took_seconds > SLOW_SECONDS:
        what = f"it took {took_seconds:.1f} s to answer, and counts as away after {SLOW_SECONDS:g} s"
        yield State.WARN, what, "put Redis nearer to the service, or relieve it"
    if abs(behind_seconds) > CLOCK_SECONDS:
        direction = "behind" if behind_seconds > 0 else "ahead of"
        what = f"its clock is {abs(behind_seconds):.0f} s {direction} this host's"
        yield State.WARN, f"{what}: times in logs will not agree", "let NTP set the clocks of both hosts"


def _of_releases(previous: int) -> Iterator[_Problem]:
    if previous:
        what = f"{previous} workers of the previous release are here: the two releases share no calls"
        yield State.WARN, what, "drain the previous release, then switch: docs/releases.md"


def _of_sentinels(answers: Answers) -> Iterator[_Problem]:
    for name, fault in answers.faults.items():
        yield State.WARN, f"sentinel {name}: {fault}", "start it, or correct its address in REDIS_URL"
    if len(answers.states) + len(answers.faults) < FEWEST_SENTINELS:
        what = "REDIS_URL names fewer than three sentinels"
        yield State.WARN, what, "run three on three hosts, and name all of them"
    if any(each.get("num-slaves") == 0 for each in answers.states):
        yield State.WARN, "the primary has no replica, so there is no failover", "start a replica on another host"


async def _sentinels(redis: Redis) -> Answers | None:
    """Return the answers of all sentinels; None: there are none."""
    pool = redis.connection_pool
    return await pool.sentinels.ask(wait_for_all=True) if isinstance(pool, PrimaryPool) else None


async def _ping(redis: Redis) -> None:
    await _answer(redis.ping)


async def _info(redis: Redis) -> dict[str, Any]:
    about: dict[str, Any] = await _answer(redis.info, "server")
    return about


async def _answer(command: Callable[..., Any], *arguments: Any) -> Any:
    made = command(*arguments)
    return await made if isinstance(made, Awaitable) else made


async def _policy(registry: Registry) -> str | None:
    """Return `maxmemory-policy`; None: Redis does not tell it, as services of clouds do not."""

    async def ask(redis: Redis) -> Any:
        return await _answer(redis.config_get, "maxmemory-policy")

    try:
        found = await registry.run(ask)
    except RegistryUnavailable:
        return None
    return found.get("maxmemory-policy") if isinstance(found, dict) else None


async def _seconds_behind(registry: Registry) -> float:
    """Return by how much the clock of Redis is behind this host's; below 0: it is ahead."""

    async def ask(redis: Redis) -> Any:
        return await _answer(redis.time)

    before = time.time()
    seconds, microseconds = await registry.run(ask)
    # The middle of the request, so that a slow network does not count.
    return (before + time.time()) / 2 - float(seconds + microseconds / 1e6)


def _todo(error: RegistryUnavailable) -> str:
    if isinstance(error.__cause__, NoPrimary):
        return error.__cause__.todo
    # A new connection's refused AUTH may reach us as a plain error with the words of Redis (WRONGPASS, NOAUTH).
    if isinstance(error.__cause__, AuthenticationError) or _REFUSED_USER.search(str(error)):
        return "set the user and password of Redis: REDIS_URL, or REDIS_URL_PASSWORD"
    match error.__cause__:
        case NoPermissionError():
            return "allow the user of REDIS_URL all commands on keys avr-sts:2:*"
        case ReadOnlyError():
            return "REDIS_URL must name the primary, and not a replica"
    return "start Redis, or correct REDIS_URL"
