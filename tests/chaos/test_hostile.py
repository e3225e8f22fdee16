from __future__ import annotations

import random

import aiohttp
import orjson

from dispatcher.avr.protocol import MAX_MESSAGE_BYTES
from tests.chaos import hostile, script
from tests.chaos.hostile import INIT_BYTES, Attack
from tests.chaos.instructions_service import WRONG_ANSWER_BYTES, InstructionsService
from tests.simulator.avr_service import Connection, avr_service

VICTIM = "0f453f22-2e35-4aa8-aebb-608c4ff0a435"


def _attacks(seed: int = 1) -> dict[str, Attack]:
    return {attack.name: attack for attack in hostile.attacks(random.Random(seed), VICTIM)}


def test_attacks_come_once_each_and_follow_the_seed() -> None:
    assert len(_attacks()) == 6
    assert [each.name for each in _attacks().values()] != [each.name for each in _attacks(2).values()]
    same = {name: attack for name, attack in _attacks().items() if name != "bad frames"}
    assert same == {name: attack for name, attack in _attacks().items() if name != "bad frames"}


def test_largest_init_fits_a_message() -> None:
    for name in ("wrong tools", "placeholders"):
        (message,) = _attacks()[name].messages
        assert INIT_BYTES - 1000 < len(message) < MAX_MESSAGE_BYTES


def test_one_attack_uses_the_key_of_a_callers_memory() -> None:
    (message,) = _attacks()["name of a memory"].messages
    assert orjson.loads(message)["uuid"] == f"{VICTIM}:said"


async def test_callers_get_instructions_and_hostile_calls_wrong_ones() -> None:
    hostile_uuid = _attacks()["wrong instructions"].uuid
    async with InstructionsService() as service, aiohttp.ClientSession() as http:
        answers = []
        for uuid in (VICTIM, hostile_uuid):
            async with http.get(service.url, headers={"X-AVR-UUID": uuid}) as response:
                answers.append(await response.read())
    assert orjson.loads(answers[0]) == {"system": script.instructions()}
    assert WRONG_ANSWER_BYTES - 1000 < len(answers[1]) <= WRONG_ANSWER_BYTES


async def test_attacks_reach_the_service_and_end_in_time() -> None:
    async with avr_service(Connection.listen) as service:
        for attack in _attacks().values():
            await hostile.carry_out(service.url, attack, 0.2)
        came = {str(init["uuid"]) for connection in service.connections for init in connection.inits}
        assert len(service.connections) == 6
    wanted = {attack.uuid for name, attack in _attacks().items() if name not in ("bad frames", "deep JSON")}
    assert wanted <= came


async def test_ended_service_is_no_error() -> None:
    for attack in _attacks().values():
        await hostile.carry_out("ws://127.0.0.1:1", attack, 0.2)
