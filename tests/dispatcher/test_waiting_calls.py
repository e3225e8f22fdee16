"""The calls API and calls that no worker has at the moment."""

from __future__ import annotations

import time

import pytest

from common.store.leases import CallLease
from dispatcher.api.commands import CommandError
from tests.dispatcher.rig import PATIENCE_SECONDS, Core, Rig
from tests.dispatcher.scripted_worker import ScriptedWorker, running
from tests.helpers import eventually


async def waiting(rig: Rig) -> Core:
    """Return a call whose worker died, and that waits for another worker."""
    async with running(ScriptedWorker("w-1")) as worker:
        await rig.publish("w-1", worker.address)
        await eventually(lambda: rig.dispatcher.links.is_ready, PATIENCE_SECONDS)
        core = await rig.live("call-1")
    await rig.registry.remove_worker("w-1")
    await eventually(lambda: rig.state("call-1") == "placing", PATIENCE_SECONDS)
    return core


async def test_a_call_that_waits_for_a_worker_is_hung_up(redis_url: str) -> None:
    async with Rig(redis_url) as rig:
        core = await waiting(rig)
        commands = await rig.dispatcher.holder("call-1")
        assert await commands.run("call-1", "conversation") == {"conversation": []}
        assert await commands.run("call-1", "hang_up") == {}
        assert (await core.end())[0] == 1000
        await rig.nothing_is_left()


async def test_another_dispatcher_has_a_waiting_call_hung_up(redis_url: str) -> None:
    async with Rig(redis_url) as rig, Rig(redis_url, "d-2") as other:
        core = await waiting(rig)
        await eventually(lambda: not other.dispatcher.placement.workers, PATIENCE_SECONDS)
        await (await other.dispatcher.holder("call-1")).run("call-1", "hang_up")
        assert (await core.end())[0] == 1000
        await rig.nothing_is_left()


async def test_other_commands_to_a_waiting_call_are_refused(redis_url: str) -> None:
    async with Rig(redis_url) as rig:
        await waiting(rig)
        commands = await rig.dispatcher.holder("call-1")
        with pytest.raises(CommandError) as refused:
            await commands.run("call-1", "say", {"text": "Hi"})
        assert refused.value.status == 409
        with pytest.raises(CommandError) as unwatched:
            async with commands.watch("call-1"):
                pass
        assert unwatched.value.status == 409


async def test_a_call_is_not_taken_back_from_its_new_dispatcher(redis_url: str) -> None:
    async with Rig(redis_url) as rig:
        core = await waiting(rig)
        core.socket.transport.abort()
        caller = rig.dispatcher._by_uuid["call-1"]
        await eventually(lambda: caller.call.is_away, PATIENCE_SECONDS)
        # Only the pin can tell: there are no more renewals.
        rig.dispatcher._tasks[1].cancel()
        newer = CallLease("call-1", "", 2, "placing", None, 1, {})
        await rig.registry.renew("d-2", [newer], lease_seconds=60)
        await rig.worker("w-2")
        await eventually(lambda: rig.state("call-1") is None, PATIENCE_SECONDS)
        record = await rig.registry.call("call-1")
        assert record is not None
        assert (record.dispatcher, record.epoch) == ("d-2", 2)
        await rig.registry.unpin("call-1", epoch=2)


async def test_an_absent_caller_does_not_outrank_a_present_one(redis_url: str) -> None:
    async with Rig(redis_url) as rig:
        core = await waiting(rig)
        core.socket.transport.abort()
        caller = rig.dispatcher._by_uuid["call-1"]
        await eventually(lambda: caller.call.is_away, PATIENCE_SECONDS)
        # The call was placed while Redis was away, at both dispatchers.
        caller.is_published = False
        assert not await rig.dispatcher._outranks(caller)
        caller.call.caller_back(time.monotonic())
        assert await rig.dispatcher._outranks(caller)


async def test_an_unknown_call_is_not_found(redis_url: str) -> None:
    async with Rig(redis_url) as rig:
        with pytest.raises(CommandError) as unknown:
            await rig.dispatcher.holder("call-1")
        assert unknown.value.status == 404
