"""One call's shell: its connections to the Realtime API, opened, tried again, given up, and none left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from common.link import wire
from common.link.wire import Outcome
from common.observe import metrics
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually
from tests.worker import api_events as api
from tests.worker.call_desk import (
    CHANNEL,
    KEY,
    PATIENCE_SECONDS,
    QUICK,
    begin_tool,
    call_to,
    counted,
    errors,
)
from tests.worker.link_records import payload_of
from worker.runner.session_runner import KEPT_LONGER_SECONDS
from worker.session.session_updates import UPDATE_SECONDS


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    async with RealtimeSimulator(QUICK) as simulator:
        yield simulator


# Opening


async def test_a_call_opens_a_session_and_speaks(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        await desk.wait_for(lambda records: wire.ReplyItemDone(0) in records)
        assert desk.said()[:2] == [wire.Opened(wire.CALLER_CREDIT_BYTES), wire.Ready()]
        assert sum(len(record.pcm) for record in desk.records if isinstance(record, wire.ReplyAudio)) >= 1600
        opened = await simulator.wait_for_session()
    await opened.wait_for(lambda s: s.closed)
    assert opened.close_code == 1000


async def test_it_is_tried_again_where_that_can_help(simulator: RealtimeSimulator) -> None:
    before = errors("server_is_overloaded")
    simulator.faults.refuse(503, times=2)
    async with call_to(simulator.url) as desk:
        await desk.ready()
    assert (simulator.refused, simulator.opened) == (2, 1)
    assert errors("server_is_overloaded") == before + 2


async def test_and_not_where_it_cannot(simulator: RealtimeSimulator) -> None:
    simulator.faults.refuse(401)
    async with call_to(simulator.url) as desk:
        ended = await desk.ending()
    assert ended.outcome == Outcome.FAILED
    assert "OPENAI_API_KEY" in ended.message
    assert KEY not in ended.message
    assert (simulator.refused, simulator.opened) == (1, 0)


async def test_a_deadline_of_nothing_is_one_attempt(simulator: RealtimeSimulator) -> None:
    simulator.faults.refuse(503, times=2)
    async with call_to(simulator.url, upstream_retry_seconds=0) as desk:
        ended = await desk.ending()
    assert "after 1 attempts in 0 s" in ended.message
    assert simulator.refused == 1


async def test_a_refusal_after_the_handshake_ends_the_call(simulator: RealtimeSimulator) -> None:
    simulator.faults.refuse(None, code="model_not_found", close_code=4004)
    async with call_to(simulator.url) as desk:
        ended = await desk.ending()
    assert "OPENAI_MODEL" in ended.message
    assert simulator.refused == 1


async def test_one_that_may_pass_is_tried_again(simulator: RealtimeSimulator) -> None:
    simulator.faults.refuse(None, times=2)
    async with call_to(simulator.url) as desk:
        await desk.ready()
    assert (simulator.refused, simulator.opened) == (2, 1)


async def test_a_session_that_is_not_set_up_is_aborted_and_reopened(
    simulator: RealtimeSimulator,
) -> None:
    simulator.faults.ignore("session.update")
    async with call_to(simulator.url) as desk:
        first = await simulator.wait_for_session()
        await first.wait_for(lambda s: s.received["session.update"])
        desk.call.tick(time.monotonic() + UPDATE_SECONDS)
        await desk.ready()
        await first.wait_for(lambda s: s.closed)
        assert simulator.opened == 2
        assert len(simulator.sessions) == 1


async def test_an_unexpected_exception_ends_the_call() -> None:
    # A host name that cannot be written as one: the resolver raises something else than OSError.
    async with call_to(f"ws://{'a' * 70}.invalid/v1/realtime") as desk:
        ended = await desk.ending()
    assert ended == wire.Ended(Outcome.FAILED, "internal error", "internal")


# Ends


async def test_a_call_that_ends_during_a_retry_delay_does_not_retry(simulator: RealtimeSimulator) -> None:
    simulator.faults.refuse(503, times=100)
    async with call_to(simulator.url) as desk:
        await simulator.wait_for(lambda s: s.refused == 2)
        desk.call.record(*payload_of(wire.encode(wire.Close("the caller hung up"), CHANNEL)))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await desk.call.settled()
        refused = simulator.refused
        assert desk.is_over.is_set()
        assert not [record for record in desk.records if isinstance(record, wire.Ended)]
    assert simulator.refused == refused


async def test_a_call_that_ends_while_it_connects_leaves_no_connection() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        gone.set()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server, call_to(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}") as desk:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asked.wait()
            desk.call.stop("the worker is stopping")
            await desk.call.settled()
            await gone.wait()
        assert desk.records[-1] == wire.Ended(Outcome.FAILED, "the worker is stopping", "internal")


async def test_a_connection_that_breaks_lets_the_call_go(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        (await simulator.wait_for_session()).drop()
        await eventually(lambda: desk.call.is_resting)
        assert desk.records[-1] == wire.Released(
            "dropped", "the connection to the Realtime API was lost: it broke off"
        )
        # Another session has the call.
        desk.record(wire.Close("another session has the call"))
        assert desk.ends == 1
        await desk.call.settled()


async def test_a_released_call_is_kept_for_another_dispatcher(
    simulator: RealtimeSimulator,
) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        await desk.wait_for(lambda records: any(isinstance(record, wire.ReplyItemDone) for record in records))
        opened.drop()
        await eventually(lambda: desk.call.is_resting)
        desk.call.detached()
        assert desk.call.waits_for_dispatcher
        assert not desk.call.is_attachable
        before = len(desk.records)
        desk.call.attach(wire.Open("uuid-1", 2, credit_bytes=10**9, attach=True), CHANNEL, desk.send)
        told = desk.records[before:]
        assert [record.attached for record in told if isinstance(record, wire.Opened)] == [True]
        assert any(isinstance(record, wire.ItemUpdate) for record in told)
        assert any(isinstance(record, wire.PendingReplies) for record in told)
        assert not [record for record in told if isinstance(record, wire.Ready)]
        assert told[-1] == wire.Released("dropped", "the session had been released")
        # That dispatcher keeps it, too, until another session has the call.
        assert desk.call.is_resting
        desk.record(wire.Close("another session has the call"))
        assert desk.ends == 1


async def test_a_session_that_released_its_call_is_not_kept_for_ever(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        desk.call.release(wire.Reason.DRAIN)
        assert desk.call.is_resting
        kept_seconds = desk.shared.settings.call_reconnect_seconds + KEPT_LONGER_SECONDS
        desk.call.tick(time.monotonic() + kept_seconds - 1.0)
        assert desk.call.is_resting
        desk.call.tick(time.monotonic() + kept_seconds)
        assert desk.ends == 1


async def test_a_call_that_has_to_leave_says_so(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        desk.call.release(wire.Reason.DRAIN)
        desk.call.release(wire.Reason.DRAIN)
        assert desk.records[-1] == wire.Released("drain", "the worker is stopping")
        assert sum(isinstance(record, wire.Released) for record in desk.records) == 1
        opened = await simulator.wait_for_session()
        await opened.wait_for(lambda s: s.closed)


async def test_so_does_one_that_has_no_session_yet(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url, restore=True) as desk:
        desk.call.release(wire.Reason.DRAIN)
        assert desk.records == [
            wire.Opened(wire.CALLER_CREDIT_BYTES),
            wire.Released("drain", "the worker is stopping"),
        ]
        assert desk.is_over.is_set()


async def test_one_that_another_session_has_says_nothing_more(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        desk.call.end_superseded("another session has this call")
        assert desk.records[-1] == wire.Close("another session has this call")
        opened = await simulator.wait_for_session()
        await opened.wait_for(lambda s: s.closed)
        assert desk.records[-1] == wire.Close("another session has this call")


async def test_an_ended_call_whose_api_does_not_answer_can_be_cut_off(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        stalled = await simulator.wait_for_session()
        stalled.stall()
        desk.call.stop("the worker is stopping")
        settled = asyncio.create_task(desk.call.settled())
        done, _ = await asyncio.wait([settled], timeout=0.05)
        assert not done
        settled.cancel()
        async with asyncio.timeout(4.0):  # the WebSocket's own limit is 5 s
            await asyncio.wait([settled])
            await desk.call.settled()
        stalled.resume()


# Events and audio


async def test_an_invalid_event_is_counted_and_the_call_continues(
    simulator: RealtimeSimulator,
) -> None:
    before = errors("bad_event")
    async with call_to(simulator.url) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        for odd in (
            {"type": "response.created"},
            {"type": "response.done", "response": 17},
            {"type": "response.output_audio.delta", "item_id": "a", "response_id": "b", "delta": 17},
            {"type": "input_audio_buffer.speech_stopped", "item_id": "a", "audio_end_ms": {}},
            {"type": "error", "error": ["a"]},
            {"type": "error", "error": {"code": 17, "message": 17}},
        ):
            simulator.faults.send(opened, odd)
        simulator.faults.error(opened, code="the_last_one")
        await desk.wait_for(lambda records: wire.ReplyItemDone(0) in records)
        await eventually(lambda: errors("the_last_one"))
        assert errors("bad_event") == before + 5
        assert not desk.is_over.is_set()


@pytest.mark.parametrize("levels", [300, 1000, 2000])
@pytest.mark.parametrize(
    "event",
    [
        '{"type":"error","error":{"code":%s}}',
        '{"type":"error","error":{"message":%s}}',
        '{"type":"response.done","response":{"id":"a","status":"failed","status_details":{"error":{"code":%s}}}}',
        '{"type":"response.done","response":{"id":"a","usage":{"input_token_details":%s}}}',
        '{"type":"session.updated","session":{"audio":%s}}',
        '{"type":"conversation.item.added","item":{"id":"a","type":%s}}',
        '{"type":"conversation.item.input_audio_transcription.completed","item_id":"a","transcript":%s}',
        '{"type":%s}',
        '{"type":"of.next.year","a":%s}',
    ],
)
async def test_an_event_that_is_too_deep_is_lost_and_the_call_goes_on(
    simulator: RealtimeSimulator, event: str, levels: int
) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        simulator.faults.send(opened, event % ("[" * levels + "]" * levels))
        simulator.faults.error(opened, code="the_last_one")
        before = errors("the_last_one")
        await eventually(lambda: errors("the_last_one") > before)
        assert not desk.is_over.is_set()
        assert simulator.opened == 1


async def test_seconds_of_a_transcription_are_priced(simulator: RealtimeSimulator) -> None:
    model, wrong = "gpt-transcribe", errors("bad_usage")
    cost_usd = counted("cost_usd", model=model)
    async with call_to(simulator.url, openai_transcription_model=model) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        for usage in ({"type": "duration", "seconds": 20}, {"type": "duration", "seconds": -1}, ["odd"]):
            simulator.faults.send(opened, api.transcribed("item_1", "Hello") | {"usage": usage})
        await eventually(lambda: errors("bad_usage") == wrong + 2)
        assert not desk.is_over.is_set()
    assert counted("cost_usd", model=model) - cost_usd == pytest.approx(0.0015)


async def test_tokens_of_a_transcription_are_counted_and_priced(simulator: RealtimeSimulator) -> None:
    model = "gpt-4o-transcribe"
    before, cost_usd = counted("tokens", model=model, direction="input"), counted("cost_usd", model=model)
    async with call_to(simulator.url, openai_transcription_model=model) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        usage = {"type": "tokens", "input_tokens": 100, "output_tokens": 10}
        simulator.faults.send(opened, api.transcribed("item_1", "Hello") | {"usage": usage})
        await eventually(lambda: counted("cost_usd", model=model) - cost_usd == pytest.approx(0.00035))
    assert counted("tokens", model=model, direction="input", modality="audio") == before + 100


async def test_impossible_usage_of_a_response_is_not_counted(simulator: RealtimeSimulator) -> None:
    before, wrong = counted("tokens"), errors("bad_usage")
    async with call_to(simulator.url, openai_model="gpt-realtime-2") as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        await eventually(lambda: counted("tokens") > before)  # the greeting's
        before = counted("tokens")
        usage = {"input_token_details": {"text_tokens": -5}, "output_token_details": {"text_tokens": 1}}
        simulator.faults.send(opened, api.response_done("resp_unknown", usage=usage))
        await eventually(lambda: errors("bad_usage") == wrong + 1)
        assert counted("tokens") == before
        assert not desk.is_over.is_set()


async def test_audio_for_a_stalled_api_is_buffered_up_to_the_bound(
    simulator: RealtimeSimulator,
) -> None:
    dropped = metrics.worker().audio_dropped_in._value  # the library has no other way to read a counter
    before = dropped.get()
    async with call_to(simulator.url) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        opened.stall()
        samples = 0
        frame = bytes(1600)
        while dropped.get() - before < 5.0:
            desk.audio(frame, samples)
            samples += len(frame) // 2
            await asyncio.sleep(0)  # lets the socket take what it can
            assert samples < 8000 * 600, "the API takes it all"
        opened.resume()
        kept_ms = samples / 8 - round((dropped.get() - before) * 1000)
        await opened.wait_for(lambda s: s.appended_ms >= kept_ms, timeout_seconds=PATIENCE_SECONDS)
        assert opened.appended_ms == kept_ms
        assert not desk.is_over.is_set()


async def test_a_file_named_like_a_built_in_tool_takes_its_place(
    simulator: RealtimeSimulator, tmp_path: Path
) -> None:
    (tmp_path / "hang_up.py").write_text(
        "name = 'avr_hangup'\ndescription = 'Ours.'\ndef handler(uuid, args): return f'over: {uuid}'\n"
    )
    async with call_to(simulator.url, tools_dir=tmp_path) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        assert [tool["name"] for tool in opened.session["tools"]] == ["avr_transfer", "avr_hangup"]
        assert [tool["description"] for tool in opened.session["tools"]][1] == "Ours."
        begin_tool(simulator, opened, name="avr_hangup")
        await desk.wait_for(lambda records: [record for record in records if isinstance(record, wire.Tool)])
        with capture_logs() as lines:
            desk.record(wire.ToolKnown("call_1"))
            await eventually(lambda: "tool called" in [line["event"] for line in lines], PATIENCE_SECONDS)
        (line,) = [line for line in lines if line["event"] == "tool called"]
        assert (line["tool"], line["outcome"]) == ("avr_hangup", "ok")
        assert not [record for record in desk.records if isinstance(record, wire.TelephonyCommand)]


async def test_a_session_has_no_more_tools_than_the_api_takes(simulator: RealtimeSimulator) -> None:
    tools = [{"type": "function", "name": f"tool_{number}"} for number in range(130)]
    with capture_logs() as lines:
        async with call_to(simulator.url, openai_session={"tools": tools}) as desk:
            await desk.ready()
            opened = await simulator.wait_for_session()
            names = [tool["name"] for tool in opened.session["tools"]]
    assert names == [*(f"tool_{number}" for number in range(126)), "avr_transfer", "avr_hangup"]
    (line,) = [line for line in lines if line["event"] == "tools left out"]
    assert (line["number"], line["tools"]) == (4, ["tool_126", "tool_127", "tool_128", "tool_129"])
