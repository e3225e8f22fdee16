"""The records of a dispatcher, as its settings say; real dispatcher processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from common.observe import metrics
from common.settings.secret_store import Secrets
from common.settings.settings import Settings
from dispatcher.records import configured
from dispatcher.records.record_taker import NO_RECORDS
from dispatcher.records.records import Records
from dispatcher.records.webhook_sink import WebhookSink
from tests.dispatcher.records.receiver import SECRET, Receiver
from tests.dispatcher.records.running import running
from tests.dispatcher.records.samples import call_record
from tests.helpers import eventually
from tests.scenarios.processes import ServiceProcess


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.glob("calls-*-d.jsonl")]


def test_nothing_is_made_without_a_setting() -> None:
    secrets = Secrets(Settings(redis_url="redis://127.0.0.1:1"))
    assert configured.connection(secrets) is None
    made = configured.configured(secrets, None, name="d", dispatcher_id="d-1", metrics=metrics.dispatcher())
    assert made is NO_RECORDS


async def test_settings_choose_the_sinks(real_redis_url: str, receiver: Receiver, tmp_path: Path) -> None:
    secrets = Secrets(
        Settings(
            redis_url="redis://127.0.0.1:1",
            call_records_redis_url=real_redis_url,
            call_records_dir=tmp_path,
            call_records_webhook=receiver.url,
            call_records_secret=SecretStr(SECRET),
            call_records_keep_seconds=10**7,
        )
    )
    client = configured.connection(secrets)
    records = configured.configured(secrets, client, name="d", dispatcher_id="d-1", metrics=metrics.dispatcher())
    configured.reload(secrets, client)
    assert isinstance(records, Records)
    await records.start()
    records.ended(call_record())
    await eventually(lambda: receiver.bodies)
    await records.stop(asyncio.Event())
    assert contents(tmp_path) == [receiver.bodies[0] + b"\n"]


async def test_hook_that_is_missing_stops_the_dispatcher(real_redis_url: str) -> None:
    dispatcher = await ServiceProcess.start(
        "dispatcher",
        PORT=0,
        ADMIN_PORT=0,
        REDIS_URL=real_redis_url,
        CALL_RECORDS_KEEP_SECONDS=60,
        CALL_RECORDS_REDACT="no_such_module:redact",
    )
    assert await dispatcher.ended() == 78
    assert "CALL_RECORDS_REDACT='no_such_module:redact' cannot be loaded" in dispatcher.raw


async def test_dispatcher_delivers_the_records_of_a_killed_one(
    real_redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    await receiver.close()
    async with running(real_redis_url, [WebhookSink(receiver.url, lambda: SECRET)], "gone") as records:
        records.ended(call_record())
        await eventually(lambda: records._sync.is_done and len(records._held) == 1)
    await receiver.listen()
    dispatcher = await ServiceProcess.start(
        "dispatcher",
        PORT=0,
        ADMIN_PORT=0,
        REDIS_URL=real_redis_url,
        CALL_RECORDS_DIR=tmp_path,
        CALL_RECORDS_WEBHOOK=receiver.url,
        CALL_RECORDS_SECRET=SECRET,
        CALL_RECORDS_KEEP_SECONDS=3600,
    )
    try:
        await eventually(lambda: receiver.ids == ["record-0001"])
        port = (await dispatcher.line("dispatcher listening"))["admin_port"]
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/calls?ended") as response:
            assert response.headers["Call-Records-Kept-Seconds"] == "3600"
            assert await response.json() == []
        assert await dispatcher.stop() == 0
    finally:
        if dispatcher.returncode is None:
            await dispatcher.kill()
    assert SECRET not in dispatcher.raw
