"""What a call leaves behind at its dispatcher: real sockets, and a worker that does what the test says."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from structlog.testing import capture_logs

from common.link import wire
from common.settings.tenants import Tenants
from tests.dispatcher.rig import PATIENCE_SECONDS, Rig, counted
from tests.dispatcher.scripted_worker import attach_or_take, refuse
from tests.helpers import eventually

FIGURES = wire.Figures(
    session=1,
    model="gpt-realtime-2",
    voice="marin",
    latencies_ms=(800, 1200),
    tokens={"gpt-realtime-2": {"input_audio": 30}},
    cost_usd=0.125,
)


def records(lines: list[Any]) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == "call record"]


class TestRecordOfACall:
    async def test_it_says_what_happened(self, redis_url: str) -> None:
        with capture_logs() as lines:
            async with Rig(redis_url) as rig:
                worker = await rig.worker()
                core = await rig.call(query="?from=%2B390612345&to=600")
                await eventually(lambda: rig.state() == "live", PATIENCE_SECONDS)
                far = await worker.only_link()
                far.send(FIGURES, 1)
                far.send(wire.Transcript("item_1", "user", "my name is Anna"), 1)
                await core.say(type="dtmf_digit", digit="1")
                while (await core.hear())["type"] != "transcript":
                    pass
                await core.hang_up()
                await rig.nothing_is_left()
        (record,) = records(lines)
        assert record["uuid"] == "call"
        end = (record["ending"], record["reason"], record["hung_up_by"])
        assert end == ("completed", "caller_hung_up", "caller")
        assert (record["turns"], record["keys"], record["cost_usd"]) == (1, 1, 0.125)
        assert (record["turn_latency_worst_seconds"], record["tokens_input_audio"]) == (1.2, 30)
        assert record["metadata"] == {"from": "…345", "to": "600"}
        assert "Anna" not in str(record)

    async def test_a_call_without_a_worker_has_one(self, redis_url: str) -> None:
        with capture_logs() as lines:
            async with Rig(redis_url, placing_attempts=1, placing_seconds=0.1) as rig:
                await rig.worker(answer=refuse("invalid"))
                core = await rig.call()
                await core.end()
                await rig.nothing_is_left()
        (record,) = records(lines)
        assert (record["ending"], record["reason"]) == ("failed", "no_worker")

    async def test_a_connection_without_init_has_none(self, redis_url: str) -> None:
        with capture_logs() as lines:
            async with Rig(redis_url) as rig:
                core = await rig.connect()
                await core.hang_up()
                await rig.nothing_is_left()
        assert records(lines) == []


class TestSecondDispatcher:
    async def test_it_goes_on_with_the_record(self, redis_url: str) -> None:
        """The first dispatcher is cut off from its caller, as if it had died; the second one writes the record."""
        with capture_logs() as lines:
            async with Rig(redis_url, "d-1", reconnect_seconds=60) as first:
                await first.worker(answer=attach_or_take)
                core = await first.live()
                await core.say(type="dtmf_digit", digit="1")

                async def draft_has_the_key() -> bool:
                    return '"keys":1' in (await first.registry.draft("call") or "")

                await eventually(draft_has_the_key, PATIENCE_SECONDS)
                async with Rig(redis_url, "d-2", reconnect_seconds=60) as second:
                    back = await second.live()
                    await back.say(type="dtmf_digit", digit="2")
                    await eventually(lambda: first.state() is None, PATIENCE_SECONDS)
                    await back.hang_up()
                    await second.nothing_is_left()
        (record,) = records(lines)
        assert (record["keys"], record["ending"]) == (2, "completed")

    async def test_it_goes_on_with_the_tenant(self, redis_url: str) -> None:
        """The worker told the tenant to the first dispatcher; the second one has it from Redis."""
        tenants = Tenants("to", ["acme"])
        ended = 'avr_sts_calls_total{outcome="completed",reason="caller_hung_up",tenant="umbrella"}'
        measured = 'avr_sts_call_duration_seconds_count{tenant="umbrella"}'
        before = [counted(ended), counted(measured)]
        with capture_logs() as lines:
            async with Rig(redis_url, "d-1", reconnect_seconds=60, tenants=tenants) as first:
                worker = await first.worker(answer=attach_or_take)
                await first.live()
                (await worker.only_link()).send(wire.Profile({"model": "m"}, {}, "umbrella"), 1)

                async def draft_has_the_tenant() -> bool:
                    return '"tenant":"umbrella"' in (await first.registry.draft("call") or "")

                await eventually(draft_has_the_tenant, PATIENCE_SECONDS)
                async with Rig(redis_url, "d-2", reconnect_seconds=60, tenants=tenants) as second:
                    back = await second.live()
                    await eventually(lambda: first.state() is None, PATIENCE_SECONDS)
                    held = second.dispatcher._by_uuid["call"].call.identity
                    await eventually(lambda: held.tenant == "umbrella", PATIENCE_SECONDS)
                    await back.hang_up()
                    await second.nothing_is_left()
        (record,) = records(lines)
        assert record["tenant"] == "umbrella"
        ends = [line for line in lines if line["event"] == "call ended" and line["ending"] == "completed"]
        assert [line["tenant"] for line in ends] == ["umbrella"]
        assert [counted(ended), counted(measured)] == [before[0] + 1, before[1] + 1]


class TestDraft:
    async def test_a_call_that_waited_for_a_worker_has_a_draft(self, redis_url: str) -> None:
        async with Rig(redis_url) as rig:
            await rig.publish("w-0", "127.0.0.1:9")  # no process answers there
            core = await rig.call()
            await eventually(lambda: rig.state() == "placing", PATIENCE_SECONDS)
            await rig.dispatcher._renew_once()
            await rig.worker("w-1")
            await eventually(lambda: rig.state() == "live", PATIENCE_SECONDS)
            await eventually(lambda: rig.registry.draft("call"), PATIENCE_SECONDS)
            await core.hang_up()
            await rig.nothing_is_left()

    async def test_a_draft_that_redis_lost_is_written_again(self, redis_url: str) -> None:
        async with Rig(redis_url) as rig:
            worker = await rig.worker()
            core = await rig.live()
            (await worker.only_link()).send(wire.Profile({"model": "m"}, {}), 1)
            await eventually(lambda: rig.registry.draft("call"), PATIENCE_SECONDS)
            await eventually(lambda: rig.registry.recall("call"), PATIENCE_SECONDS)
            await rig.dispatcher._renew_once()
            async with Redis.from_url(redis_url) as client:
                await client.flushdb()
            await rig.publish("w-1", worker.address)
            await eventually(lambda: rig.registry.draft("call"), PATIENCE_SECONDS)
            await core.hang_up()
            await rig.nothing_is_left()
