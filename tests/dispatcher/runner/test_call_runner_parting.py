"""Calls on their way out, over real sockets: audio for their callers, transfers, and ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import h11
import pytest
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed

from common.link import wire
from common.observe import admin
from dispatcher.api.admin import application
from dispatcher.call.announcements import Announcements
from simulator.avr.ami import AmiDouble, AmiRequest
from tests.dispatcher.call_driver import sound
from tests.dispatcher.rig import PATIENCE_SECONDS, Core, Rig, counted
from tests.helpers import eventually

SENTENCE = sound(3_200, seed=7)  # 0.2 s
LONG = sound(15 * 16_000, seed=8)
FULL = "no capacity: there is no live worker"


def transferred(outcome: str) -> float:
    return counted(f'avr_sts_fallbacks_total{{outcome="{outcome}"}}')


async def heard(core: Core) -> tuple[bytes, list[dict[str, Any]]]:
    """Return all that AVR Core gets until the end: audio, and the other messages."""
    pcm, others = b"", []
    with contextlib.suppress(ConnectionClosed):
        while True:
            message = await core.hear()
            if message["type"] == "audio":
                frame = base64.b64decode(message["audio"])
                assert len(frame) == 320
                pcm += frame
            else:
                others.append(message)
    return pcm, others


@contextlib.asynccontextmanager
async def parting(
    redis_url: str, sentence: bytes = SENTENCE, extension: str = "", **options: Any
) -> AsyncIterator[Rig]:
    announcements = Announcements(sentence, extension, "people")
    async with Rig(redis_url, announcements=announcements, **options) as rig:
        yield rig


@contextlib.asynccontextmanager
async def calls_api(rig: Rig) -> AsyncIterator[str]:
    sock = socket.create_server(("127.0.0.1", 0))
    runner = await admin.serve(application(rig.dispatcher), sock)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/calls"
    finally:
        await runner.cleanup()


async def test_a_full_cluster_is_told_and_then_closed(redis_url: str) -> None:
    before = transferred("ended")
    async with parting(redis_url) as rig:
        with capture_logs() as logs:
            core = await rig.call("call-1")
            assert await heard(core) == (SENTENCE, [{"type": "error", "message": FULL}])
        assert core.socket.close_code == 1013
        await rig.nothing_is_left()
    assert transferred("ended") == before + 1
    (line,) = [line for line in logs if line["event"] == "call could not go on"]
    assert (line["uuid"], line["cause"], line["outcome"]) == ("call-1", FULL, "ended")


async def test_a_worker_that_ends_the_call_is_followed_by_the_sentence(redis_url: str) -> None:
    async with parting(redis_url) as rig:
        worker = await rig.worker()
        core = await rig.live()
        (await worker.only_link()).send(wire.Ended("failed", "no quota"), 1)
        assert await heard(core) == (SENTENCE, [{"type": "error", "message": "no quota"}])
        assert core.socket.close_code == 1011
        await rig.nothing_is_left()


async def test_a_broken_record_is_followed_by_the_sentence(redis_url: str) -> None:
    async with parting(redis_url) as rig:
        worker = await rig.worker()
        core = await rig.live()
        (await worker.only_link()).end.send(wire.encode_reply_audio(1, 1, bytes(2 * wire.REPLY_CREDIT_BYTES)))
        pcm, others = await heard(core)
        assert pcm == SENTENCE
        assert [each["type"] for each in others] == ["error"]
        await rig.nothing_is_left()


async def test_the_older_protocol_has_the_sentence_as_its_answer(redis_url: str) -> None:
    async with parting(redis_url) as rig:
        port = int(rig.url.rsplit(":", 1)[1].strip("/"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        http = h11.Connection(h11.CLIENT)
        headers = [("Host", "x"), ("X-UUID", "call"), ("Transfer-Encoding", "chunked")]
        request = h11.Request(method="POST", target="/speech-to-speech-stream", headers=headers)
        writer.write(http.send(request) or b"")
        writer.write(http.send(h11.Data(data=bytes(320))) or b"")
        http.receive_data(await asyncio.wait_for(reader.read(), PATIENCE_SECONDS))
        answer = http.next_event()
        assert isinstance(answer, h11.Response)
        assert answer.status_code == 200
        body = b""
        while isinstance(event := http.next_event(), h11.Data):
            body += event.data
        assert body == SENTENCE
        writer.close()
        await rig.nothing_is_left()


class TestTransfer:
    async def test_the_extension_gets_the_call(self, redis_url: str) -> None:
        before = transferred("transferred")
        async with (
            AmiDouble() as ami,
            parting(redis_url, extension="600", ami_url=ami.url, hung_up_seconds=0.2) as rig,
        ):
            core = await rig.call("call-1", "?from=100")
            assert await heard(core) == (SENTENCE, [])
            assert core.socket.close_code == 1000
            assert list(ami.requests) == [AmiRequest("transfer", "call-1", "600", "people", 1)]
            await rig.nothing_is_left()
        assert transferred("transferred") == before + 1

    async def test_a_transfer_that_fails_ends_the_call_with_its_reason(self, redis_url: str) -> None:
        before = transferred("failed")
        async with AmiDouble() as ami, parting(redis_url, extension="600", ami_url=ami.url) as rig:
            ami.fail()
            core = await rig.call("call-1", "?from=100")
            assert await heard(core) == (SENTENCE, [{"type": "error", "message": FULL}])
            assert core.socket.close_code == 1013
            assert len(ami.requests) == 1
            await rig.nothing_is_left()
        assert transferred("failed") == before + 1

    async def test_the_same_caller_is_not_transferred_again_elsewhere(self, redis_url: str) -> None:
        before = transferred("refused")
        options: dict[str, Any] = {"sentence": b"", "extension": "600", "hung_up_seconds": 0.2}
        async with (
            AmiDouble() as ami,
            parting(redis_url, ami_url=ami.url, **options) as one,
            parting(redis_url, ami_url=ami.url, dispatcher_id="d-2", **options) as two,
        ):
            assert (await (await one.call("call-1", "?from=100")).end())[0] == 1000
            assert await (await two.call("call-2", "?from=100")).end() == (1013, FULL)
            assert (await (await two.call("call-3", "?from=200")).end())[0] == 1000
            # Without a number only the rate counts.
            for number in range(2):
                assert (await (await one.call(f"unknown-{number}")).end())[0] == 1000
            assert [each.uuid for each in ami.requests] == ["call-1", "call-3", "unknown-0", "unknown-1"]
        assert transferred("refused") == before + 1

    async def test_a_fault_while_it_is_decided_ends_the_call(
        self, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with parting(redis_url, sentence=b"", extension="600") as rig:

            async def broken(_: str) -> str | None:
                raise ZeroDivisionError

            monkeypatch.setattr(rig.dispatcher.transfers, "refusal", broken)
            assert await (await rig.call()).end() == (1013, FULL)
            await rig.nothing_is_left()


class TestCallsApi:
    async def test_a_call_on_its_way_out_is_shown_and_can_be_hung_up(self, redis_url: str) -> None:
        async with (
            AmiDouble() as ami,
            parting(redis_url, LONG, ami_url=ami.url, hung_up_seconds=0.2) as rig,
            calls_api(rig) as url,
            aiohttp.ClientSession() as http,
        ):
            core = await rig.call("call-1")
            await eventually(lambda: rig.state("call-1") == "parting", PATIENCE_SECONDS)

            async def shown() -> list[tuple[str, str, str]]:
                async with http.get(url) as answer:
                    return [(each["uuid"], each["state"], each["worker"]) for each in await answer.json()]

            async def is_shown() -> bool:
                return await shown() == [("call-1", "parting", "")]

            await eventually(is_shown, PATIENCE_SECONDS)
            async with http.get(f"{url}/call-1") as answer:
                assert (await answer.json())["conversation"] == []
            async with http.delete(f"{url}/call-1") as answer:
                assert answer.status == 200
            assert (await core.end())[0] == 1000
            assert [each.action for each in ami.requests] == ["hangup"]
            await rig.nothing_is_left()

    async def test_another_dispatcher_hangs_it_up(self, redis_url: str) -> None:
        async with (
            parting(redis_url, LONG) as rig,
            Rig(redis_url, "d-2") as other,
            calls_api(other) as url,
            aiohttp.ClientSession() as http,
        ):
            core = await rig.call("call-1")

            async def is_known() -> bool:
                return [each.state for each in await rig.registry.calls()] == ["parting"]

            await eventually(is_known, PATIENCE_SECONDS)
            async with http.delete(f"{url}/call-1") as answer:
                assert answer.status == 200
            assert (await core.end())[0] == 1000
            await rig.nothing_is_left()

    async def test_a_slot_is_free_as_soon_as_its_call_takes_the_way_out(self, redis_url: str) -> None:
        async with parting(redis_url, LONG) as rig:
            worker = await rig.worker(capacity=1)
            core = await rig.live("call-1")
            (await worker.only_link()).send(wire.Ended("failed", "no quota"), 1)
            assert (await core.hear())["type"] == "audio"

            async def is_free() -> bool:
                return [each.calls for each in await rig.registry.workers()] == [0]

            await eventually(is_free, PATIENCE_SECONDS)
            await rig.live("call-2")


async def test_filler_plays_over_a_real_connection_until_the_reply(redis_url: str) -> None:
    filler = sound(8_000, seed=9)
    announcements = Announcements(filler=filler, filler_after_seconds=0.2)
    async with Rig(redis_url, announcements=announcements) as rig:
        worker = await rig.worker()
        core = await rig.live()
        far = await worker.only_link()
        assert worker.opens()[0][1].filler
        far.send(wire.Awaiting(True), 1)
        heard_filler = b""
        while len(heard_filler) < 9_600:
            heard_filler += base64.b64decode((await core.hear())["audio"])
        assert heard_filler == (filler + filler)[: len(heard_filler)]
        far.send(wire.Awaiting(False), 1)
        reply = sound(320, seed=10)
        far.end.send(wire.encode_reply_audio(1, 0, reply))
        messages: list[dict[str, Any]] = []
        while not messages or base64.b64decode(messages[-1]["audio"]) != reply:
            messages.append(await core.hear())
        assert len(messages) < 10, "no more than what was on its way"
