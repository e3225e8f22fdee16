"""A dialogue of a script goes on at the right line when its worker dies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from simulator.avr.core import place_call
from simulator.dialogue.player import DialoguePlayer
from simulator.dialogue.reader import read_dialogue
from simulator.realtime.server import RealtimeSimulator
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster
from tests.scenarios.test_recovery import process_of
from tests.simulator.dialogue.files import write_dialogue

DIALOGUE: Final = """
steps:
  - agent: Good evening.
    wav: caller.wav
  - caller: One, please.
    wav: caller.wav
  - agent: Here is one.
    wav: caller.wav
  - caller: Two, please.
    wav: caller.wav
  - agent: Here are two.
    wav: caller.wav
"""
SAID: Final = ["Good evening.", "One, please.", "Here is one.", "Two, please.", "Here are two."]


async def test_dialogue_continues_after_the_death_of_its_worker(real_redis_url: str, tmp_path: Path) -> None:
    dialogue = await read_dialogue(write_dialogue(tmp_path, DIALOGUE))
    async with (
        RealtimeSimulator(script=dialogue.script) as simulator,
        Cluster(real_redis_url, simulator.url) as cluster,
    ):
        await cluster.start(workers=2)
        async with await place_call(await cluster.url()) as call:
            playing = asyncio.create_task(DialoguePlayer(call, dialogue).play())
            await call.wait_for(lambda c: len(c.transcripts) == 3, timeout_seconds=PATIENCE_SECONDS)
            await (await process_of(cluster, call)).kill()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await playing
            assert [transcript.text for transcript in call.transcripts] == SAID
            assert simulator.opened == 2
