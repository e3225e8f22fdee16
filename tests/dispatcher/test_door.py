"""Who is let in on AVR Core's port, and when a connection counts as a call: a whole dispatcher, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

from common.net.admission_control import DEFAULT_ADMISSION_LIMITS
from common.net.tokens import Token
from common.observe.metrics import dispatcher as dispatcher_metrics
from common.observe.refusals import Refusal
from dispatcher.avr.legacy import PATH
from dispatcher.call.limits import CallLimits
from dispatcher.runner.call_runner import CallRunner
from dispatcher.security import OPEN, Security
from tests.dispatcher.rig import PATIENCE_SECONDS, Rig, counted
from tests.helpers import eventually

TOKEN = "0123456789abcdef0123456789abcdef"
LOCKED = Security(sts_token=Token(SecretStr(TOKEN)))


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """Return a real Redis. An embedded one would not change who is admitted."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
    return redis_server


@pytest.fixture
async def locked(redis_url: str) -> AsyncIterator[Rig]:
    """Yield a dispatcher with STS_TOKEN, and a worker."""
    async with Rig(redis_url, security=LOCKED) as rig:
        await rig.worker()
        await asyncio.wait_for(rig.dispatcher.links.wait_up(), PATIENCE_SECONDS)
        yield rig


def crowded(arriving: int) -> Security:
    return replace(OPEN, door=replace(DEFAULT_ADMISSION_LIMITS, arriving=arriving))


def arriving(rig: Rig) -> int:
    """Connections that have not identified themselves."""
    assert rig.dispatcher._server is not None
    return rig.dispatcher._server.admission.arriving


async def post(rig: Rig, target: str, *headers: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a request of the older protocol."""
    port = int(rig.url.rstrip("/").rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [f"POST {target} HTTP/1.1", "Host: x", "X-UUID: call", "Transfer-Encoding: chunked", *headers]
    writer.write("\r\n".join([*head, "", ""]).encode())
    return reader, writer


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("?token=", {}),
    ("?token=wrong", {}),
    (f"?token={TOKEN[:-1]}", {}),
    (f"?token={TOKEN}0", {}),
    (f"?Token={TOKEN}", {}),
    (f"?token=wrong&token={TOKEN}", {}),
    (TOKEN, {}),
    ("", {"Authorization": "Bearer wrong"}),
    ("", {"Authorization": TOKEN}),
    ("", {"Authorization": f"Basic {TOKEN}"}),
    ("", {"X-Token": TOKEN}),
]
RIGHT: list[tuple[str, dict[str, Any]]] = [
    (f"?token={TOKEN}&from=100", {}),
    (f"?from=100&%74oken={TOKEN}", {}),
    ("?from=100", {"Authorization": f"Bearer {TOKEN}"}),
    ("?from=100&token=wrong", {"Authorization": f"bearer {TOKEN}"}),
    (f"?from=100&token={TOKEN}", {"Authorization": "Basic of-a-proxy"}),
]


class TestToken:
    @pytest.mark.parametrize(("query", "headers"), WRONG)
    async def test_without_it_nobody_comes_in(self, locked: Rig, query: str, headers: dict[str, str]) -> None:
        before = counted('avr_sts_connections_refused_total{reason="token"}')
        with capture_logs() as lines:
            with pytest.raises(InvalidStatus) as refused:
                await locked.connect(query, additional_headers=headers)
            reader, writer = await post(locked, PATH + query, *(f"{n}: {value}" for n, value in headers.items()))
            answer = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
            writer.close()
        assert refused.value.response.status_code == 401
        assert refused.value.response.headers["WWW-Authenticate"] == "Bearer"
        is_path = query == TOKEN  # another one than that of the older protocol
        assert answer.startswith(b"HTTP/1.1 400 " if is_path else b"HTTP/1.1 401 ")
        assert not locked.dispatcher._runners
        assert counted('avr_sts_connections_refused_total{reason="token"}') == before + 2 - is_path
        assert TOKEN not in str(lines) + refused.value.response.body.decode() + answer.decode()
        await eventually(lambda: not arriving(locked), PATIENCE_SECONDS)

    @pytest.mark.parametrize(("query", "headers"), RIGHT)
    async def test_with_it_a_call_begins_and_the_token_goes_no_further(
        self, locked: Rig, query: str, headers: dict[str, str]
    ) -> None:
        with capture_logs() as lines:
            core = await locked.connect(query, additional_headers=headers)
            await core.say(type="init", uuid="call")
            await eventually(lambda: locked.state() == "live", PATIENCE_SECONDS)
        (record,) = await locked.registry.calls()
        assert record.metadata == {"from": "100"}
        assert locked.dispatcher._by_uuid["call"].call.identity.metadata == {"from": "100"}
        assert TOKEN not in str(lines)

    @pytest.mark.parametrize(("query", "headers"), RIGHT)
    async def test_so_does_a_call_by_the_older_protocol(
        self, locked: Rig, query: str, headers: dict[str, str]
    ) -> None:
        _, writer = await post(locked, PATH + query, *(f"{name}: {value}" for name, value in headers.items()))
        await eventually(lambda: locked.state() == "live", PATIENCE_SECONDS)
        assert locked.dispatcher._by_uuid["call"].call.identity.metadata == {"from": "100"}
        writer.close()

    async def test_it_is_no_metadata_either_where_nobody_asks_for_it(self, redis_url: str) -> None:
        async with Rig(redis_url) as rig:
            await rig.worker()
            await rig.call(query=f"?token={TOKEN}&from=100")
            await eventually(lambda: rig.state() == "live", PATIENCE_SECONDS)
            assert rig.dispatcher._by_uuid["call"].call.identity.metadata == {"from": "100"}

    async def test_who_has_it_hears_that_the_dispatcher_drains(self, locked: Rig) -> None:
        locked.dispatcher.draining = True
        for query, status in ((f"?token={TOKEN}", 503), ("", 401)):
            with pytest.raises(InvalidStatus) as refused:
                await locked.connect(query)
            assert refused.value.response.status_code == status
        reader, writer = await post(locked, f"{PATH}?token={TOKEN}")
        assert (await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)).startswith(b"HTTP/1.1 503 ")
        writer.close()


class TestArriving:
    async def test_connections_without_init_count_and_calls_do_not(self, redis_url: str) -> None:
        async with Rig(redis_url, security=crowded(2)) as rig:
            await rig.worker()
            # More calls than there may be connections that have not identified themselves.
            for number in range(5):
                await rig.live(f"call-{number}")
                assert arriving(rig) == 0
            for _ in range(2):
                _, writer = await post(rig, PATH)
                await eventually(lambda: arriving(rig) == 0 and rig.state() is not None, PATIENCE_SECONDS)
                writer.close()
            silent = [await rig.connect() for _ in range(2)]
            assert arriving(rig) == 2
            with pytest.raises(InvalidStatus) as refused:
                await rig.connect()
            assert refused.value.response.status_code == 503
            await silent[0].hang_up()
            await eventually(lambda: arriving(rig) == 1, PATIENCE_SECONDS)
            await silent[1].say(type="init", uuid="at-last")
            await eventually(lambda: arriving(rig) == 0, PATIENCE_SECONDS)
            await rig.live("after-all")

    @pytest.mark.parametrize("message", ['{"type":"init"}', '{"type":"init","uuid":"-"}'])
    async def test_who_breaks_the_protocol_is_gone_from_the_count(self, redis_url: str, message: str) -> None:
        async with Rig(redis_url) as rig:
            core = await rig.connect()
            await core.socket.send(message)
            assert (await core.end())[0] == 1008
            await eventually(lambda: arriving(rig) == 0, PATIENCE_SECONDS)

    async def test_stopping_leaves_nobody_at_the_door(self, redis_url: str) -> None:
        async with Rig(redis_url) as rig:
            port = int(rig.url.rstrip("/").rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await eventually(lambda: arriving(rig) == 1, PATIENCE_SECONDS)
            await rig.dispatcher.stop()
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""
            writer.close()
            assert arriving(rig) == 0

    async def test_every_refusal_has_a_series(self) -> None:
        assert dispatcher_metrics().connections_refused.keys() == set(Refusal)

    async def test_the_time_for_init_begins_with_the_connection(self, redis_url: str) -> None:
        async with Rig(redis_url) as rig:
            now = time.monotonic()
            limits = CallLimits(init_seconds=10)
            for since, ended in ((now - 10.1, True), (now - 5, False), (None, False)):
                caller = CallRunner(rig.dispatcher, {}, limits, since)
                caller.tick(now)
                assert (caller.call.state == "ended") is ended


async def test_compression_is_not_spoken_whoever_offers_it(redis_url: str) -> None:
    async with Rig(redis_url) as rig:
        core = await rig.connect(compression="deflate")
        assert core.socket.request is not None
        assert "permessage-deflate" in core.socket.request.headers["Sec-WebSocket-Extensions"]
        assert core.socket.response is not None
        assert "Sec-WebSocket-Extensions" not in core.socket.response.headers
        assert core.socket.protocol.extensions == []


PAGE = "https://phone.example"
OTHER_PAGES = [
    "https://evil.example",
    "null",
    "",
    "http://phone.example",
    "https://phone.example:8443",
    "https://phone.example.evil.example",
    f"{PAGE}, https://evil.example",
]


class TestOrigins:
    @pytest.mark.parametrize("origin", [PAGE, *OTHER_PAGES])
    async def test_a_page_in_a_browser_places_no_call(self, redis_url: str, origin: str) -> None:
        before = counted('avr_sts_connections_refused_total{reason="origin"}')
        async with Rig(redis_url) as rig:
            with capture_logs() as lines, pytest.raises(InvalidStatus) as refused:
                await rig.connect(additional_headers={"Origin": origin})
            reader, writer = await post(rig, PATH, f"Origin: {origin}")
            answer = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
            writer.close()
            assert not rig.dispatcher._runners
            await eventually(lambda: not arriving(rig), PATIENCE_SECONDS)
        assert refused.value.response.status_code == 403
        assert b"ALLOWED_ORIGINS" in refused.value.response.body
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"ALLOWED_ORIGINS" in answer
        assert counted('avr_sts_connections_refused_total{reason="origin"}') == before + 2
        (line,) = [line for line in lines if line["event"] == "connections refused"]
        assert line["reason"] == "origin"
        assert "ALLOWED_ORIGINS" in line["detail"]
        assert "phone.example" not in str(lines)

    async def test_a_page_that_is_listed_places_calls(self, redis_url: str) -> None:
        security = replace(OPEN, allowed_origins=frozenset({PAGE, "http://localhost:3000"}))
        async with Rig(redis_url, security=security) as rig:
            await rig.worker()
            await asyncio.wait_for(rig.dispatcher.links.wait_up(), PATIENCE_SECONDS)
            core = await rig.connect(additional_headers={"Origin": "HTTPS://Phone.Example"})
            await core.say(type="init", uuid="call")
            await eventually(lambda: rig.state() == "live", PATIENCE_SECONDS)
            _, writer = await post(rig, PATH, f"Origin: {PAGE}")
            await eventually(lambda: len(rig.dispatcher._runners) >= 1, PATIENCE_SECONDS)
            writer.close()

    @pytest.mark.parametrize("origin", OTHER_PAGES)
    async def test_other_pages_are_refused_beside_one_that_is_listed(self, redis_url: str, origin: str) -> None:
        security = replace(OPEN, allowed_origins=frozenset({PAGE}))
        async with Rig(redis_url, security=security) as rig:
            with pytest.raises(InvalidStatus) as refused:
                await rig.connect(additional_headers=[("Origin", PAGE), ("Origin", origin)])
            assert refused.value.response.status_code in (400, 403)
            with pytest.raises(InvalidStatus) as refused:
                await rig.connect(additional_headers={"Origin": origin})
            assert refused.value.response.status_code == 403

    async def test_a_page_that_is_listed_still_needs_the_token(self, redis_url: str) -> None:
        async with Rig(redis_url, security=replace(LOCKED, allowed_origins=frozenset({PAGE}))) as rig:
            with pytest.raises(InvalidStatus) as refused:
                await rig.connect(additional_headers={"Origin": PAGE})
            assert refused.value.response.status_code == 401
