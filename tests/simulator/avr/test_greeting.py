from __future__ import annotations

from simulator.avr.core import place_call
from simulator.avr.greeting import GreetingLimits, wait_for_greeting
from tests.simulator.avr_service import Connection, avr_service, echo


async def test_silent_agent_is_waited_for_until_a_bound() -> None:
    async def say_nothing(connection: Connection) -> None:
        await connection.listen()

    async with avr_service(say_nothing) as service, await place_call(service.url) as call:
        limits = GreetingLimits(start_seconds=0.1)
        assert await wait_for_greeting(call, limits) == "no greeting within 0.1 s"


async def test_endless_greeting_is_waited_for_until_a_bound() -> None:
    async with avr_service(echo) as service, await place_call(service.url) as call:
        limits = GreetingLimits(length_seconds=0.2, pause_seconds=60)
        assert await wait_for_greeting(call, limits) == "a greeting longer than 0.2 s"


async def test_greeting_that_has_ended_gives_no_reason() -> None:
    async def greet(connection: Connection) -> None:
        await connection.send_audio(bytes(320))
        await connection.listen()

    async with avr_service(greet) as service, await place_call(service.url) as call:
        assert await wait_for_greeting(call) == ""
