"""The dispatcher's admin port over real HTTP, with a real registry."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from pydantic import SecretStr

import dispatcher.api.admin
from common.net.json_depth import MAX_LEVELS
from common.net.tokens import Token
from common.observe import admin, metrics
from common.runtime.release import RELEASE
from common.settings.tenants import NO_TENANTS, Tenants
from common.store.leases import CallLease, WorkerRecord, WorkerState
from common.store.pins import Pin
from common.store.registry import Registry
from dispatcher.api.admin import application
from dispatcher.api.commands import CommandError, Commands
from dispatcher.api.page_connection import PageConnection
from dispatcher.api.service_api import UNKNOWN_DOOR, FrontDoor
from dispatcher.records.record_taker import NO_RECORDS, RecordTaker
from tests.redis_process import RedisProcess

LONG_SECONDS = 60
TOKEN = Token(SecretStr("a-token-for-the-admin"))


class Client:
    """A client of the admin port."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url
        self.ready = True
        self.problems: list[str] = []

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.url + path) as response:
            return response.status, await response.text()

    async def json(self, path: str) -> Any:
        async with self.session.get(self.url + path) as response:
            assert response.status == 200
            assert response.content_type == "application/json"
            return await response.json()


class _Calls:
    """A dispatcher without calls."""

    def __init__(self, registry: Registry, client: Client, records: RecordTaker, tenants: Tenants) -> None:
        self.registry = registry
        self.record_taker = records
        self.recordings = None
        self.tenants = tenants
        self._client = client

    @property
    def is_ready(self) -> bool:
        return self._client.ready

    @property
    def problems(self) -> list[str]:
        return self._client.problems

    def page_call(self, connection: PageConnection) -> None:
        return None

    async def holder(self, uuid: str) -> Commands:
        raise CommandError(404, "there is no such call")


@contextlib.asynccontextmanager
async def answering(
    registry: Registry,
    sock: socket.socket,
    url: str,
    connector: aiohttp.BaseConnector | None = None,
    token: Token | None = None,
    *,
    records: RecordTaker = NO_RECORDS,
    tenants: Tenants = NO_TENANTS,
    front_door: FrontDoor = UNKNOWN_DOOR,
) -> AsyncIterator[Client]:
    """Serve the admin port on this socket; `client.ready` is the dispatcher's readiness."""
    async with aiohttp.ClientSession(connector=connector) as session:
        client = Client(session, url)
        calls = _Calls(registry, client, records, tenants)
        runner = await admin.serve(application(calls, token, front_door=front_door), sock)
        try:
            yield client
        finally:
            await runner.cleanup()


@pytest.fixture
async def client(registry: Registry) -> AsyncIterator[Client]:
    sock = socket.create_server(("127.0.0.1", 0))
    async with answering(registry, sock, f"http://127.0.0.1:{sock.getsockname()[1]}") as client:
        yield client


@pytest.fixture
async def guarded(registry: Registry) -> AsyncIterator[Client]:
    """Serve an admin port that requires ADMIN_TOKEN."""
    sock = socket.create_server(("127.0.0.1", 0))
    async with answering(registry, sock, f"http://127.0.0.1:{sock.getsockname()[1]}", token=TOKEN) as client:
        yield client


async def publish(registry: Registry, *, problem: str = "") -> None:
    record = WorkerRecord(
        id="w-1",
        address="10.0.0.1:7000",
        host="host-1",
        pid=42,
        release="1.0.0",
        capacity=200,
        state=WorkerState.READY,
        boot_id="abc",
        problem=problem,
    )
    await registry.publish_worker(record, lease_seconds=LONG_SECONDS)


async def pin(registry: Registry, uuid: str, **metadata: str) -> Pin:
    pinned = await registry.pin(uuid, dispatcher="d-1", epoch=1, metadata=metadata, lease_seconds=LONG_SECONDS)
    assert isinstance(pinned, Pin)
    return pinned


class TestProbes:
    async def test_running_dispatcher_is_alive(self, client: Client) -> None:
        client.ready = False
        assert await client.get("/livez") == (200, "ok\n")

    async def test_readiness_is_that_of_the_dispatcher(self, client: Client) -> None:
        assert await client.get("/readyz") == (200, "ok\n")
        client.ready = False
        status, why = await client.get("/readyz")
        assert status == 503
        assert "link" in why
        assert "draining" in why

    @pytest.mark.parametrize("is_ready", [True, False])
    async def test_problems_are_named_and_do_not_change_readiness(self, client: Client, is_ready: bool) -> None:
        client.ready = is_ready
        status, without = await client.get("/readyz")
        client.problems = ["one problem", "another problem"]
        assert await client.get("/readyz") == (status, f"{without}one problem\nanother problem\n")

    async def test_metrics_are_exposed(self, client: Client) -> None:
        metrics.dispatcher().expect_tenants("")
        async with aiohttp.ClientSession() as session, session.get(f"{client.url}/metrics") as response:
            assert response.headers["Content-Type"] == metrics.CONTENT_TYPE
            text = await response.text()
        assert 'avr_sts_calls_total{outcome="completed",reason="caller_hung_up",tenant=""}' in text

    async def test_other_paths_are_unknown(self, client: Client) -> None:
        for path in ("/index.html", "/call", "/calls/", "//calls", "/calls/x", "/metrics/x"):
            assert (await client.get(path))[0] == 404

    async def test_post_to_a_read_only_path_is_refused(self, client: Client) -> None:
        async with aiohttp.ClientSession() as session:
            for path in ("/calls", "/workers", "/metrics"):
                async with session.post(client.url + path, data=b"x") as response:
                    assert response.status == 405

    async def test_request_without_a_path_is_answered(self, client: Client) -> None:
        # `OPTIONS *` is a valid request of HTTP/1.1 (RFC 9110, section 9.3.7), and its path has no slash.
        reader, writer = await asyncio.open_connection("127.0.0.1", int(client.url.rsplit(":", 1)[1]))
        writer.write(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 404 ")


class TestCalls:
    async def test_list_is_empty_at_first(self, client: Client) -> None:
        assert await client.json("/calls") == []

    async def test_call_has_all_fields_of_the_contract(self, client: Client, registry: Registry) -> None:
        await publish(registry)
        before = time.time()
        pinned = await pin(registry, "call-1", **{"from": "+39 02", "name": "Città"})
        (shown,) = await client.json("/calls")
        started = datetime.datetime.fromisoformat(shown.pop("started_at"))
        seconds = shown.pop("seconds")
        assert shown == {
            "uuid": "call-1",
            "tenant": None,
            "worker": "w-1",
            "dispatcher": "d-1",
            "state": "connecting",
            "pins": 1,
            "metadata": {"from": "+39 02", "name": "Città"},
        }
        assert started.utcoffset() == datetime.timedelta(0)
        assert started.timestamp() == pytest.approx(pinned.started_at_ms / 1000)
        assert 0 <= seconds <= time.time() - before + 0.001

    async def test_state_and_pins_are_the_latest(self, client: Client, registry: Registry) -> None:
        await publish(registry)
        pinned = await pin(registry, "call-1")
        pinned = await pin(registry, "call-1")
        held = CallLease("call-1", "w-1", pinned.epoch, "live", pinned.started_at_ms, pinned.pins, {})
        await registry.renew("d-1", [held], lease_seconds=LONG_SECONDS)
        (shown,) = await client.json("/calls")
        assert (shown["state"], shown["pins"]) == ("live", 2)

    async def test_list_has_pages(self, client: Client, registry: Registry) -> None:
        await publish(registry)
        for number in range(25):
            await pin(registry, f"call-{number}")
        seen: list[str] = []
        path: str | None = "/calls?limit=10"
        sizes = []
        while path is not None:
            async with client.session.get(client.url + path) as response:
                page = await response.json()
                link = response.links.get("next")
            sizes.append(len(page))
            seen += [call["uuid"] for call in page]
            path = link["url"].path_qs if link is not None else None  # type: ignore[union-attr]
        assert sizes == [10, 10, 5]
        assert sorted(seen) == sorted(f"call-{number}" for number in range(25))

    async def test_list_without_parameters_is_bounded(self, client: Client, registry: Registry) -> None:
        leases = [CallLease(f"call-{number}", "w-9", 1, "live", number + 1, 1, {}) for number in range(1001)]
        await registry.renew("d-2", leases, lease_seconds=LONG_SECONDS)
        async with client.session.get(f"{client.url}/calls") as response:
            assert len(await response.json()) == 1000
            url = response.links["next"]["url"]
        async with client.session.get(str(url)) as response:
            assert [call["uuid"] for call in await response.json()] == ["call-1000"]
            assert "Link" not in response.headers

    async def test_calls_have_their_tenant_and_are_listed_by_it(self, registry: Registry) -> None:
        def lease(uuid: str, tenant: str, **metadata: str) -> CallLease:
            return CallLease(uuid, "w-9", 1, "live", int(uuid), 1, metadata, tenant)

        leases = [
            lease("1", "umbrella", to="acme"),
            lease("2", "acme", to="600"),
            # Of a dispatcher of an earlier release.
            lease("3", "", to="acme"),
            lease("4", ""),
            lease("5", "+4930123456"),
            lease("6", "acme"),
        ]
        await registry.renew("d-1", leases, lease_seconds=LONG_SECONDS)
        sock = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with answering(registry, sock, url, tenants=Tenants("to", ["acme"])) as client:
            tenants = [call["tenant"] for call in await client.json("/calls")]
            assert tenants == ["umbrella", "acme", "acme", "other", "other", "acme"]
            seen: list[str] = []
            path: str | None = "/calls?tenant=acme&limit=2"
            while path is not None:
                async with client.session.get(url + path) as response:
                    seen += [call["uuid"] for call in await response.json()]
                    link = response.links.get("next")
                path = link["url"].path_qs if link is not None else None  # type: ignore[union-attr]
            assert seen == ["2", "3", "6"]
            assert await client.json("/calls?tenant=initech") == []

    async def test_without_the_setting_no_call_has_a_tenant(self, client: Client, registry: Registry) -> None:
        lease = CallLease("1", "w-9", 1, "live", 1, 1, {"to": "acme"}, "acme")
        await registry.renew("d-1", [lease], lease_seconds=LONG_SECONDS)
        assert [call["tenant"] for call in await client.json("/calls")] == [None]
        assert await client.json("/calls?tenant=acme") == []

    async def test_newest_come_first_and_are_found_by_what_is_shown(
        self, client: Client, registry: Registry
    ) -> None:
        leases = [
            CallLease(f"call-{number}", "w-9", 1, "live", number, 1, {"from": f"+39 02 555 01{number:02}"})
            for number in range(1, 31)
        ]
        await registry.renew("d-2", leases, lease_seconds=LONG_SECONDS)

        async def listed(query: str) -> tuple[list[str], str, str, str | None]:
            async with client.session.get(f"{client.url}/calls?{query}") as response:
                uuids = [call["uuid"] for call in await response.json()]
                link = response.links.get("next")
                numbers = response.headers["Calls-Live"], response.headers["Calls-Found"]
                return uuids, *numbers, link["url"].path_qs.partition("?")[2] if link is not None else None  # type: ignore[union-attr]

        uuids, live, found, following = await listed("newest&limit=20")
        assert (uuids[0], uuids[-1], live, found) == ("call-30", "call-11", "30", "30")
        assert following is not None
        assert (await listed(following))[0] == [f"call-{number}" for number in range(10, 0, -1)]
        uuids, live, found, following = await listed("newest&find=555012")
        assert (uuids[0], len(uuids), live, found, following) == ("call-29", 10, "30", "10", None)
        assert (await listed("find=CALL-7"))[0] == ["call-7"]
        assert (await listed("find=nobody"))[0] == []

    @pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=WzEsMl0="])
    async def test_wrong_page_is_refused(self, client: Client, query: str) -> None:
        status, body = await client.get(f"/calls?{query}")
        assert status == 400
        assert query.partition("=")[0] in body

    async def test_calls_of_every_dispatcher_are_shown(self, client: Client, registry: Registry) -> None:
        await publish(registry)
        for number in range(150):
            await pin(registry, f"call-{number}")
        held = CallLease("of another", "w-9", 1, "live", None, 1, {})
        await registry.renew("d-2", [held], lease_seconds=LONG_SECONDS)
        shown = {call["uuid"]: call["dispatcher"] for call in await client.json("/calls")}
        assert shown == {f"call-{number}": "d-1" for number in range(150)} | {"of another": "d-2"}


class TestService:
    async def test_it_says_how_calls_come_and_what_is_kept(self, registry: Registry) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        door = FrontDoor(6030, tls=True, needs_token=True)
        async with answering(registry, sock, url, front_door=door) as client:
            shown = await client.json("/service")
        assert shown["calls"].pop("address")
        assert shown["calls"] == {"port": 6030, "tls": True, "needs_token": True}
        assert (shown["release"], shown["records_kept_seconds"]) == (RELEASE, 0)
        assert shown["today"]["calls"] == {"completed": 0, "failed": 0, "rejected": 0}
        since = datetime.datetime.fromisoformat(shown["today"]["since"])
        assert 0 <= time.time() - since.timestamp() < 86_400

    async def test_it_needs_the_token(self, guarded: Client) -> None:
        assert (await guarded.get("/service"))[0] == 401


class TestWorkers:
    async def test_list_is_empty_at_first(self, client: Client) -> None:
        assert await client.json("/workers") == []

    async def test_a_worker_is_shown_with_its_load(self, client: Client, registry: Registry) -> None:
        await publish(registry)
        await pin(registry, "call-1")
        assert await client.json("/workers") == [
            {
                "id": "w-1",
                "host": "host-1",
                "pid": 42,
                "address": "10.0.0.1:7000",
                "calls": 1,
                "capacity": 200,
                "state": "ready",
                "release": "1.0.0",
                "problem": None,
            }
        ]

    async def test_refused_key_is_shown_at_its_worker(self, client: Client, registry: Registry) -> None:
        await publish(registry, problem="invalid_api_key")
        (row,) = await client.json("/workers")
        assert row["problem"] == "invalid_api_key"


@pytest.mark.parametrize("path", ["/calls", "/workers"])
class TestWhoMayAsk:
    async def test_peer_without_an_ip_address_is_refused(
        self, path: str, registry: Registry, tmp_path: Path
    ) -> None:
        # The peer of a Unix socket has no IP address.
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "admin"))
        connector = aiohttp.UnixConnector(str(tmp_path / "admin"))
        async with answering(registry, sock, "http://admin", connector) as client:
            status, body = await client.get(path)
            assert status == 403
            assert "loopback" in body
            # Probes and metrics have no access rules.
            for probe in ("/livez", "/readyz", "/metrics"):
                assert (await client.get(probe))[0] == 200

    async def test_peer_from_the_network_is_refused(self, path: str, registry: Registry) -> None:
        address = next(
            (
                each.address
                for interface in psutil.net_if_addrs().values()
                for each in interface
                if each.family is socket.AF_INET and not each.address.startswith("127.")
            ),
            None,
        )
        if address is None:
            pytest.skip("this host has no address but loopback")
        sock = socket.create_server((address, 0))
        async with answering(registry, sock, f"http://{address}:{sock.getsockname()[1]}") as client:
            assert (await client.get(path))[0] == 403
            assert (await client.get("/livez"))[0] == 200

    async def test_any_loopback_address_is_accepted(self, path: str, registry: Registry) -> None:
        sock = socket.create_server(("127.0.0.9", 0))
        async with answering(registry, sock, f"http://127.0.0.9:{sock.getsockname()[1]}") as client:
            assert await client.json(path) == []

    async def test_forwarded_headers_of_a_proxy_are_ignored(self, path: str, client: Client) -> None:
        headers = {"X-Forwarded-For": "203.0.113.9"}
        async with aiohttp.ClientSession() as http, http.get(client.url + path, headers=headers) as response:
            assert response.status == 200

    async def test_answer_names_the_cause_while_redis_is_away(
        self, path: str, redis_process: RedisProcess
    ) -> None:
        registry = Registry.from_url(redis_process.url, timeout_seconds=1)
        sock = socket.create_server(("127.0.0.1", 0))
        async with answering(registry, sock, f"http://127.0.0.1:{sock.getsockname()[1]}") as client:
            assert await client.json(path) == []
            redis_process.kill()
            status, body = await client.get(path)
            assert status == 503
            assert "Redis is away" in body
            # A dispatcher without Redis still serves its calls.
            assert (await client.get("/livez"))[0] == 200
            redis_process.start()
            assert await client.json(path) == []
        await registry.aclose()


class TestToken:
    async def test_request_with_the_token_is_answered(self, registry: Registry, tmp_path: Path) -> None:
        # The peer of a Unix socket has no IP address.
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "admin"))
        connector = aiohttp.UnixConnector(str(tmp_path / "admin"))
        async with answering(registry, sock, "http://admin", connector, TOKEN) as client:
            for path in ("/calls", "/workers"):
                headers = {"Authorization": f"Bearer {TOKEN.value.get_secret_value()}"}
                async with client.session.get(client.url + path, headers=headers) as response:
                    assert (response.status, await response.json()) == (200, [])

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/calls"),
            ("GET", "/workers"),
            ("GET", "/calls/x"),
            ("GET", "/calls/x/events"),
            ("DELETE", "/calls/x"),
            ("POST", "/calls/x/say"),
            ("POST", "/calls/x/session"),
            ("GET", "/calls?ended"),
            ("GET", "/calls?dead"),
            ("GET", "/calls/x/record"),
            ("DELETE", "/calls/x/record"),
            ("DELETE", "/records?number=+39021234567"),
            ("POST", "/records/retry"),
        ],
    )
    async def test_loopback_without_the_token_is_refused(self, guarded: Client, method: str, path: str) -> None:
        async with guarded.session.request(method, guarded.url + path) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert "ADMIN_TOKEN" in (await response.json())["error"]

    async def test_wrong_token_is_refused(self, guarded: Client) -> None:
        token = TOKEN.value.get_secret_value()
        for wrong in ("Bearer", "Bearer x", f"Basic {token}", token, f"Bearer {token}x", "Bearer " + "x" * 4000):
            headers = {"Authorization": wrong}
            async with guarded.session.get(f"{guarded.url}/calls", headers=headers) as response:
                assert response.status == 401

    async def test_token_in_the_query_is_refused(self, guarded: Client) -> None:
        assert (await guarded.get(f"/calls?token={TOKEN.value.get_secret_value()}"))[0] == 401

    async def test_probes_and_metrics_need_no_token(self, guarded: Client) -> None:
        for probe in ("/livez", "/readyz", "/metrics"):
            assert (await guarded.get(probe))[0] == 200


class TestSlowness:
    async def test_slow_request_head_times_out(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(admin, "IDLE_SECONDS", 0.2)
        sock = socket.create_server(("127.0.0.1", 0))
        async with answering(registry, sock, f"http://127.0.0.1:{sock.getsockname()[1]}"):
            for begun in (b"", b"GET /livez HTTP/1.1\r\nX: "):
                reader, writer = await asyncio.open_connection(*sock.getsockname())
                writer.write(begun)
                assert await asyncio.wait_for(reader.read(), 10) == b""
                writer.close()

    async def test_slow_request_body_times_out(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dispatcher.api.admin, "BODY_SECONDS", 0.2)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(client.url.rsplit(":", 1)[1]))
        writer.write(b"POST /calls/x/say HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 408")
        writer.close()


class TestBodies:
    @pytest.mark.parametrize("levels", [MAX_LEVELS + 1, 110, 260, 2000])
    async def test_too_deep_body_is_refused(self, client: Client, levels: int) -> None:
        for path in ("/calls/x/session", "/calls/x/say"):
            body = '{"text":"a","tracing":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"
            async with client.session.post(client.url + path, data=body) as response:
                answer = await response.json()
                assert (response.status, answer) == (
                    400,
                    {"error": f"the body is nested deeper than {MAX_LEVELS} levels: send it flatter"},
                )

    async def test_body_at_the_limit_of_depth_is_accepted(self, client: Client) -> None:
        body = '{"tracing":' + "[" * (MAX_LEVELS - 1) + "]" * (MAX_LEVELS - 1) + "}"
        async with client.session.post(f"{client.url}/calls/x/session", data=body) as response:
            assert response.status == 404  # there is no such call
