"""The calls API and calls that no worker has at the moment."""

from __future__ import annotations

import pytest

from dispatcher.commands import CommandError
from tests.dispatcher.rig import PATIENCE_SECONDS, Core, Rig
from tests.dispatcher.scripted_worker import ScriptedWorker, running
from tests.helpers import eventually


async def waiting(rig: Rig) -> Core:
    """A call whose worker died, and that waits for another worker."""
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


async def test_an_unknown_call_is_not_found(redis_url: str) -> None:
    async with Rig(redis_url) as rig:
        with pytest.raises(CommandError) as unknown:
            await rig.dispatcher.holder("call-1")
        assert unknown.value.status == 404
