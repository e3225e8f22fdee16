"""The check of avr-ami."""

from __future__ import annotations

from common.check.finding import Finding, State
from common.settings.roles import Role
from common.settings.settings import Settings
from dispatcher.check import avr_ami
from simulator.avr.ami import AmiDouble


async def look(**variables: str) -> Finding:
    settings = Settings.parse({"REDIS_URL": "redis://h", **variables}, Role.DISPATCHER)
    (found,) = await avr_ami.check(settings).run(10)
    return found


async def test_avr_ami_that_answers_gets_no_command() -> None:
    async with AmiDouble() as ami:
        found = await look(AMI_URL=ami.url)
        assert list(ami.requests) == []
    assert found.state is State.OK


async def test_avr_ami_that_is_set_and_away_is_a_failure() -> None:
    found = await look(AMI_URL="http://127.0.0.1:1")
    assert (found.state, "Connection refused" in found.what) == (State.FAIL, True)
