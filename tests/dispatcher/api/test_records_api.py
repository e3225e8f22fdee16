"""Records of ended calls over real HTTP, on a real Redis."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
import structlog.testing

from common.store.registry import Registry
from dispatcher.records.call_record import Segment
from dispatcher.records.record_taker import NO_RECORDS
from dispatcher.records.records import Records
from tests.dispatcher.api.test_admin import Client, answering
from tests.dispatcher.records.running import running
from tests.dispatcher.records.samples import call_record, outbox_record
from tests.helpers import eventually

FOREVER_SECONDS = 10**9


@pytest.fixture
async def records(real_redis_url: str) -> AsyncIterator[Records]:
    async with running(real_redis_url, [], keep_seconds=FOREVER_SECONDS) as records:
        yield records


@pytest.fixture
async def client(records: Records, real_redis_url: str) -> AsyncIterator[Client]:
    registry = Registry.from_url(real_redis_url, timeout_seconds=30)
    sock = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with answering(registry, sock, url, records=records) as client:
        yield client
    await registry.aclose()


async def end(records: Records, *numbers: int, **fields: Any) -> None:
    """Let calls end, and wait until Redis has their records."""
    stored: list[int] = []
    for number in numbers:
        records.ended(call_record(number, **fields), lambda: stored.append(1))
    await eventually(lambda: len(stored) == len(numbers))


async def request(client: Client, method: str, path: str) -> tuple[int, Any, aiohttp.ClientResponse]:
    async with client.session.request(method, client.url + path) as response:
        return response.status, await response.json(), response


class TestList:
    async def test_newest_call_comes_first_and_without_text(self, client: Client, records: Records) -> None:
        await end(records, 1, 2, 3)
        status, entries, response = await request(client, "GET", "/calls?ended")
        assert status == 200
        assert [entry["uuid"] for entry in entries] == ["uuid-0003", "uuid-0002", "uuid-0001"]
        assert all("said" not in entry for entry in entries)
        assert "Thank you" not in str(entries)
        assert response.headers["Call-Records-Kept-Seconds"] == str(FOREVER_SECONDS)
        assert "Link" not in response.headers

    async def test_pages_have_each_record_once(self, client: Client, records: Records) -> None:
        await end(records, *range(23))
        seen: list[str] = []
        path: str | None = "/calls?ended&limit=10"
        while path is not None:
            _, entries, response = await request(client, "GET", path)
            seen += [entry["id"] for entry in entries]
            link = response.links.get("next")
            path = link["url"].path_qs if link is not None else None  # type: ignore[union-attr]
        assert seen == [f"record-{number:04}" for number in reversed(range(23))]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("from=0039+02+123+00002", {2}),
            ("to=%2B390298765432", {1, 2, 3}),
            ("number=390212300003", {3}),
            ("number=390298765432", {1, 2, 3}),
            ("number=3902", set()),
            ("ending=completed", {1, 2, 3}),
            ("ending=lost", set()),
            ("find=12300003", {3}),
            ("find=UUID-0002", {2}),
            ("find=nobody", set()),
            ("id=record-0002", {2}),
            ("uuid=uuid-0003", {3}),
            ("since=2023-11-14T22:13:22Z", {2, 3}),
            ("until=2023-11-14T22:13:22%2B00:00", {1, 2}),
            ("since=2023-11-14T22:13:22&until=2023-11-14T22:13:22Z", {2}),
        ],
    )
    async def test_list_is_filtered(self, client: Client, records: Records, query: str, found: set[int]) -> None:
        await end(records, 1, 2, 3)
        _, entries, _ = await request(client, "GET", f"/calls?ended&{query}")
        assert {entry["id"] for entry in entries} == {f"record-{number:04}" for number in found}

    @pytest.mark.parametrize("query", ["since=yesterday", "until=1", "limit=0", "cursor=***"])
    async def test_wrong_filter_is_refused(self, client: Client, query: str) -> None:
        status, answer, _ = await request(client, "GET", f"/calls?ended&{query}")
        assert status == 400
        assert query.partition("=")[0] in answer["error"]

    async def test_list_says_that_nothing_is_kept(self, real_redis_url: str) -> None:
        registry = Registry.from_url(real_redis_url, timeout_seconds=30)
        sock = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with answering(registry, sock, url, records=NO_RECORDS) as client:
            status, entries, response = await request(client, "GET", "/calls?ended")
            assert (status, entries) == (200, [])
            assert response.headers["Call-Records-Kept-Seconds"] == "0"
            assert (await request(client, "GET", "/calls?dead"))[:2] == (200, [])
            status, answer, _ = await request(client, "DELETE", "/records?number=390212345")
            assert status == 409
            assert "CALL_RECORDS_KEEP_SECONDS" in answer["error"]
        await registry.aclose()


class TestRecord:
    async def test_record_has_what_was_said(self, client: Client, records: Records) -> None:
        await end(records, 1)
        with structlog.testing.capture_logs() as logs:
            status, record, _ = await request(client, "GET", "/calls/uuid-0001/record")
        assert status == 200
        assert [said["text"] for said in record["said"]] == ["my card is [card]", "Thank you"]
        (line,) = [line for line in logs if line["event"] == "record read"]
        assert (line["uuid"], line["record"], line["peer"]) == ("uuid-0001", "record-0001", "127.0.0.1")
        assert "Thank" not in str(logs)

    async def test_unknown_record_is_404(self, client: Client) -> None:
        assert (await request(client, "GET", "/calls/uuid-9/record"))[0] == 404

    async def test_deleted_record_is_gone(self, client: Client, records: Records) -> None:
        await end(records, 1, 2)
        with structlog.testing.capture_logs() as logs:
            assert (await request(client, "DELETE", "/calls/uuid-0001/record"))[:2] == (200, {"erased": 1})
        assert [line["records"] for line in logs if line["event"] == "record deleted"] == [1]
        assert (await request(client, "GET", "/calls/uuid-0001/record"))[0] == 404
        assert [entry["id"] for entry in (await request(client, "GET", "/calls?ended"))[1]] == ["record-0002"]


class TestErasure:
    async def test_records_of_a_number_are_erased(self, client: Client, records: Records) -> None:
        await end(records, 1, 2, recording=(Segment("host-a", "one.wav", 0.0, 8.0),))
        with structlog.testing.capture_logs() as logs:
            answer = await request(client, "DELETE", "/records?number=+39 02 123 00001")
        left = [{"uuid": "uuid-0001", "host": "host-a", "file": "one.wav"}]
        assert answer[:2] == (200, {"erased": 1, "recordings": left})
        (line,) = [line for line in logs if line["event"] == "records deleted"]
        assert line["records"] == 1
        assert "00001" not in str(line)

    @pytest.mark.parametrize("query", ["", "?number=", "?number=%2B", "?number=1"])
    async def test_erasure_needs_a_number(self, client: Client, query: str) -> None:
        assert (await request(client, "DELETE", f"/records{query}"))[0] == 400


class TestDead:
    async def test_dead_record_is_listed_and_retried(self, client: Client, records: Records) -> None:
        outbox = records.outbox
        assert outbox is not None
        await outbox.add([outbox_record(1, reason="webhook: HTTP 410"), outbox_record(2, reason="dir: full")])
        _, entries, _ = await request(client, "GET", "/calls?dead")
        assert [entry["undelivered"]["reason"] for entry in entries] == ["dir: full", "webhook: HTTP 410"]
        assert entries[0]["undelivered"]["sinks"] == ["webhook"]
        assert all("said" not in entry for entry in entries)
        assert (await request(client, "POST", "/records/retry?uuid=uuid-0001"))[:2] == (200, {"retried": 1})
        assert (await request(client, "POST", "/records/retry"))[:2] == (200, {"retried": 1})
        assert (await request(client, "GET", "/calls?dead"))[1] == []


async def test_answer_is_the_record_itself(client: Client, records: Records) -> None:
    record = call_record(1, said=None)
    await end(records, 1, said=None)
    async with client.session.get(f"{client.url}/calls/uuid-0001/record") as response:
        assert orjson.loads(await response.read()) == orjson.loads(record.encoded())
