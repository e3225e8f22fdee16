from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dispatcher.asterisk.ami import MAX_MESSAGE_CHARS, Ami, AmiError, _message
from simulator.avr.ami import AmiDouble, AmiRequest


@pytest.fixture
async def double() -> AsyncIterator[AmiDouble]:
    async with AmiDouble(calls=["call-1"]) as double:
        yield double


@pytest.fixture
async def ami(double: AmiDouble) -> AsyncIterator[Ami]:
    client = Ami(double.url + "/")
    yield client
    await client.close()


async def test_a_call_is_hung_up(ami: Ami, double: AmiDouble) -> None:
    assert await ami.hang_up("call-1")
    assert list(double.requests) == [AmiRequest("hangup", "call-1")]


@pytest.mark.parametrize(("priority", "sent"), [("1", 1), ("start", "start")])
async def test_a_call_is_transferred(ami: Ami, double: AmiDouble, priority: str, sent: int | str) -> None:
    assert await ami.transfer("call-1", "600", "demo", priority)
    assert list(double.requests) == [AmiRequest("transfer", "call-1", "600", "demo", sent)]


async def test_unknown_call_raises_avr_amis_message(ami: Ami) -> None:
    with pytest.raises(AmiError, match="HTTP 404"):
        await ami.hang_up("call-2")


async def test_failure_of_avr_ami_raises_its_message(ami: Ami, double: AmiDouble) -> None:
    double.fail()
    with pytest.raises(AmiError, match="HTTP 500"):
        await ami.hang_up("call-1")


async def test_silent_avr_ami_times_out(double: AmiDouble) -> None:
    ami = Ami(double.url, timeout_seconds=0.05)
    double.stall()
    with pytest.raises(AmiError, match=r"no answer within 0\.05 s"):
        await ami.hang_up("call-1")
    double.resume()
    await ami.close()


async def test_unreachable_avr_ami_raises_the_cause() -> None:
    client = Ami("http://127.0.0.1:9")
    with pytest.raises(AmiError, match="could not hangup"):
        await client.hang_up("call-1")
    await client.close()


@pytest.mark.parametrize("levels", [300, 1000, 2000])
def test_too_deep_answer_is_shown_as_text(levels: int) -> None:
    raw = b'{"message":' + b"[" * levels + b"]" * levels + b"}"
    assert _message(raw) == raw.decode()[:MAX_MESSAGE_CHARS]


async def test_no_command_goes_out_after_the_end(ami: Ami, double: AmiDouble) -> None:
    await ami.close()
    with pytest.raises(AmiError, match="the service is stopping"):
        await ami.hang_up("call-1")
    assert not double.requests
