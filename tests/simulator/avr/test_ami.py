from __future__ import annotations

import asyncio
import math
from typing import Any

import aiohttp
import pytest

from simulator.avr.ami import MAX_REQUESTS, AmiDouble, AmiRequest

_TRANSFER = {"uuid": "u-1", "exten": "100", "context": "sales", "priority": 1}


async def _post(ami: AmiDouble, path: str, body: Any) -> tuple[int, str]:
    """Status and message."""
    async with aiohttp.ClientSession() as http, http.post(f"{ami.url}/{path}", json=body) as answer:
        return answer.status, (await answer.json())["message"]


async def test_a_hang_up_is_done_and_remembered() -> None:
    async with AmiDouble() as ami:
        assert await _post(ami, "hangup", {"uuid": "u-1"}) == (
            200,
            "Call with UUID u-1 hangup with action: Success",
        )
        assert list(ami.requests) == [AmiRequest("hangup", "u-1")]


async def test_transfer_is_done_and_its_target_recorded() -> None:
    async with AmiDouble() as ami:
        status, message = await _post(ami, "transfer", _TRANSFER)
        assert (status, message) == (200, "Call with UUID u-1 redirect with action: Success")
        assert list(ami.requests) == [AmiRequest("transfer", "u-1", "100", "sales", 1)]


async def test_unknown_or_ended_call_is_not_found() -> None:
    async with AmiDouble(calls=["u-1"]) as ami:
        assert await _post(ami, "transfer", _TRANSFER | {"uuid": "u-2"}) == (404, "Call with UUID u-2 not found")
        assert (await _post(ami, "transfer", _TRANSFER))[0] == 200
        assert (await _post(ami, "hangup", {"uuid": "u-1"}))[0] == 200
        assert (await _post(ami, "hangup", {"uuid": "u-1"}))[0] == 404
        assert (await _post(ami, "hangup", {}))[0] == 404
        assert len(ami.requests) == 5


async def test_requests_fail_as_often_as_commanded() -> None:
    async with AmiDouble() as ami:
        ami.fail(2)
        statuses = [(await _post(ami, "hangup", {"uuid": "u-1"}))[0] for _ in range(3)]
        assert statuses == [500, 500, 200]
        ami.fail(math.inf)
        assert await _post(ami, "hangup", {"uuid": "u-1"}) == (500, "Error communicating with Asterisk")
        ami.fail(0)
        assert (await _post(ami, "hangup", {"uuid": "u-1"}))[0] == 200


async def test_stalled_server_answers_only_after_resume() -> None:
    async with AmiDouble() as ami:
        ami.stall()
        asked = asyncio.ensure_future(_post(ami, "hangup", {"uuid": "u-1"}))
        await ami.wait_for(lambda ami: ami.requests)
        done, _ = await asyncio.wait([asked], timeout=0.1)
        assert not done
        ami.resume()
        assert (await asked)[0] == 200


async def test_stop_does_not_wait_for_stalled_requests() -> None:
    ami = AmiDouble()
    await ami.start()
    ami.stall()
    asked = asyncio.ensure_future(_post(ami, "hangup", {"uuid": "u-1"}))
    await ami.wait_for(lambda ami: ami.requests)
    await ami.stop()
    assert (await asked)[0] == 200
    await ami.stop()


async def test_wait_timeout_names_the_requests_seen() -> None:
    async with AmiDouble() as ami:
        await _post(ami, "hangup", {"uuid": "u-1"})
        with pytest.raises(TimeoutError, match=r"but for \['hangup'\]"):
            await ami.wait_for(lambda ami: len(ami.requests) == 2, timeout_seconds=0.05)


@pytest.mark.parametrize("body", [b"{", b"[]"])
async def test_body_not_a_json_object_is_refused(body: bytes) -> None:
    async with (
        AmiDouble() as ami,
        aiohttp.ClientSession() as http,
        http.post(f"{ami.url}/hangup", data=body) as answer,
    ):
        assert answer.status == 400
        assert not ami.requests


async def test_other_paths_and_methods_are_not_served() -> None:
    async with AmiDouble() as ami, aiohttp.ClientSession() as http:
        async with http.get(f"{ami.url}/hangup") as answer:
            assert answer.status == 405
        async with http.post(f"{ami.url}/originate", json={}) as answer:
            assert answer.status == 404


async def test_requests_are_remembered_up_to_a_limit() -> None:
    async with AmiDouble() as ami, aiohttp.ClientSession() as http:
        for number in range(MAX_REQUESTS + 1):
            async with http.post(f"{ami.url}/hangup", json={"uuid": str(number)}):
                pass
        assert len(ami.requests) == MAX_REQUESTS
        assert ami.requests[0].uuid == "1"


async def test_address_needs_a_start_and_a_taken_port_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        _ = AmiDouble().url
    async with AmiDouble() as ami:
        with pytest.raises(OSError, match="address already in use"):
            await AmiDouble().start(port=int(ami.url.rpartition(":")[2]))
