"""One call's shell after the loss of its link, dispatcher or session, or a stall of its process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from common.errors import LinkProtocolError
from common.link import retransmit_buffer, wire
from common.link.retransmit_buffer import ACK_RECORDS
from common.link.wire import Outcome
from common.observe import metrics
from common.observe.tool_outcome import ToolOutcome
from dispatcher.call.memory import CallMemory
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.simulated_session import SimulatedSession
from tests.helpers import eventually
from tests.worker.call_desk import (
    CHANNEL,
    PATIENCE_SECONDS,
    QUICK,
    Desk,
    begin_tool,
    begun,
    call_to,
    counted,
    errors,
    outputs,
)
from tests.worker.link_records import Ack, Record, decoded_all, payload_of
from worker.runner.early_inputs import MAX_EARLY_RECORDS
from worker.runner.session_host import MAX_RECOVERIES
from worker.runner.session_runner import CONFIRM_SECONDS, KEPT_LONGER_SECONDS
from worker.tools.entries import EntryEnding, KeyRequest
from worker.tools.result import ToolResult
from worker.tools.tool_set import ToolSet


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    async with RealtimeSimulator(QUICK) as simulator:
        yield simulator


# The link breaks, and another one comes


async def test_records_of_a_broken_link_are_sent_on_the_next_one(
    simulator: RealtimeSimulator,
) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        await desk.wait_for(lambda records: wire.ReplyItemDone(0) in records)
        opened = await simulator.wait_for_session()
        desk.call.detached()
        before, count = len(desk.records), desk.count
        await talk(simulator, opened, "while nobody listened")
        assert desk.records[before:] == []
        desk.call.resume(wire.Attach("uuid-1", 1, count), desk.send)
        missed = desk.records[before:]
        assert missed[0] == wire.Attached(0)
        assert [record.item.get("text") for record in missed if isinstance(record, wire.ItemUpdate)][
            -1
        ] == "while nobody listened"
        # Nothing comes twice.
        again = len(desk.records)
        desk.call.resume(wire.Attach("uuid-1", 1, desk.count), desk.send)
        assert desk.records[again:] == [wire.Attached(0)]
        assert not desk.is_over.is_set()


async def talk(simulator: RealtimeSimulator, opened: SimulatedSession, text: str) -> None:
    """Let the caller speak; return after the API's events of that."""
    before = errors("a_mark")
    last = opened.items[-1].id
    for event in (
        {"type": "input_audio_buffer.speech_started", "item_id": "turn", "audio_start_ms": 0},
        {"type": "input_audio_buffer.speech_stopped", "item_id": "turn", "audio_end_ms": 0},
        {"type": "input_audio_buffer.committed", "item_id": "turn", "previous_item_id": last},
        {
            "type": "conversation.item.input_audio_transcription.completed",
            "item_id": "turn",
            "content_index": 0,
            "transcript": text,
        },
    ):
        simulator.faults.send(opened, event)
    simulator.faults.error(opened, code="a_mark")
    await eventually(lambda: errors("a_mark") == before + 1)


async def test_records_are_acknowledged_and_acknowledged_ones_dropped(
    simulator: RealtimeSimulator,
) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        for number in range(ACK_RECORDS):
            desk.audio(bytes(320), 160 * number)
        assert Ack(ACK_RECORDS) in desk.records
        await desk.wait_for(lambda records: wire.ReplyItemDone(0) in records)
        desk.call.record(*payload_of(wire.encode_ack(CHANNEL, desk.count)))
        assert not desk.call._channel._channel._buffer.resumed(desk.count)
        with pytest.raises(LinkProtocolError):
            desk.call.record(*payload_of(wire.encode_ack(CHANNEL, desk.count + 1)))


async def test_a_call_without_acknowledgements_ends_at_its_bound(
    simulator: RealtimeSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        await desk.wait_for(lambda records: wire.ReplyItemDone(0) in records)
        desk.call.tick(time.monotonic())
        assert not desk.is_over.is_set()
        monkeypatch.setattr(retransmit_buffer, "MAX_KEPT_RECORDS", desk.count)
        # Credit comes back for it.
        desk.audio(bytes(wire.CALLER_CREDIT_BYTES))
        desk.call.tick(time.monotonic())
        ended = await desk.ending()
        assert ended == wire.Ended(Outcome.FAILED, "the dispatcher acknowledges nothing", "internal")


async def test_a_call_that_nobody_comes_for_ends(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url, call_reconnect_seconds=10) as desk:
        await desk.ready()
        desk.call.detached()
        now = time.monotonic()
        desk.call.tick(now + 10 + KEPT_LONGER_SECONDS - 1)
        assert not desk.is_over.is_set()
        desk.call.tick(now + 10 + KEPT_LONGER_SECONDS + 1)
        assert desk.is_over.is_set()
        opened = await simulator.wait_for_session()
        await opened.wait_for(lambda s: s.closed)


async def test_a_dispatcher_with_other_records_is_told_the_end(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        desk.call.detached()
        with pytest.raises(LinkProtocolError):
            desk.call.resume(wire.Attach("uuid-1", 1, desk.count + 1000), desk.send)
        desk.call.stop("the dispatcher has other records")
        assert desk.records[-1] == wire.Ended(Outcome.FAILED, "the dispatcher has other records", "internal")


# Faults of our own


async def test_an_illegal_transition_releases_the_call_and_is_counted(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        before = counted("illegal_transitions", process="worker")
        with capture_logs() as logs:
            desk.call._host.handle(lambda session, now: session.connected(now))
        (line,) = [line for line in logs if line["event"] == "illegal transition"]
        assert (line["uuid"], line["state"], line["event_name"]) == ("uuid-1", "live", "connected")
        (released,) = [record for record in desk.records if isinstance(record, wire.Released)]
        assert released.reason == wire.Reason.DROPPED
        assert desk.call.is_resting
        assert counted("illegal_transitions", process="worker") == before + 1


async def test_the_third_illegal_transition_of_a_call_ends_it(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        desk.call._host.recoveries = MAX_RECOVERIES - 1
        async with begun(Desk(desk.shared, epoch=2)) as later:
            await later.ready()
            later.call.take_over(desk.call)
            later.call._host.handle(lambda session, now: session.connected(now))
            assert later.call.is_resting
            async with begun(Desk(desk.shared, epoch=3)) as last:
                await last.ready()
                last.call.take_over(later.call)
                last.call._host.handle(lambda session, now: session.connected(now))
                assert await last.ending() == wire.Ended(Outcome.FAILED, "internal error", "internal")


# Another dispatcher


async def test_a_dispatcher_that_attaches_early_gives_its_epoch(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        other = Listener()
        desk.call.attach(wire.Open("uuid-1", 4, {}, credit_bytes=10**6, attach=True), 9, other.send)
        await eventually(lambda: wire.Ready() in other.records)
        assert desk.call._host.session is not None
        assert desk.call._host.session.epoch == desk.call.epoch == 4


async def test_another_dispatcher_is_told_that_keys_are_collected(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url, collects=True) as desk:
        await desk.ready()
        asked = asyncio.create_task(desk.call.tools.keys.digits(KeyRequest("", 4, 10.0)))
        await desk.wait_for(lambda records: any(isinstance(record, wire.Collect) for record in records))
        other = Listener()
        desk.call.attach(wire.Open("uuid-1", 4, {}, credit_bytes=10**6, attach=True), 9, other.send)
        opened = other.records[0]
        assert isinstance(opened, wire.Opened)
        assert opened.collecting
        assert (await asked).ending is EntryEnding.LOST
        # This dispatcher cannot mute the caller.
        refused = await desk.call.tools.keys.digits(KeyRequest("", 4, 10.0))
        assert refused.ending is EntryEnding.REFUSED


async def test_tool_that_waits_no_longer_ends_the_collection(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url, collects=True) as desk:
        await desk.ready()
        asked = asyncio.create_task(desk.call.tools.keys.digits(KeyRequest("", 4, 10.0)))
        await desk.wait_for(lambda records: any(isinstance(record, wire.Collect) for record in records))
        asked.cancel()
        await asyncio.wait([asked])
        begun, ended = [record for record in desk.records if isinstance(record, wire.Collect)]
        assert ended == wire.Collect(begun.number, abandoned=True)


async def test_another_dispatcher_is_told_everything(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        await desk.wait_for(lambda records: wire.ReplyItemDone(0) in records)
        opened = await simulator.wait_for_session()
        desk.audio(bytes(3200))
        await talk(simulator, opened, "Hello?")
        before = len(desk.records)
        other = Listener()
        desk.call.attach(wire.Open("uuid-1", 4, {}, credit_bytes=10**6, attach=True), 9, other.send)
        assert desk.records[before:] == [wire.Close("another dispatcher has this call")]
        assert desk.call.epoch == 4
        assert other.records[0] == wire.Opened(wire.CALLER_CREDIT_BYTES, attached=True, position_samples=1600)
        profile = next(record for record in desk.records if isinstance(record, wire.Profile))
        assert other.records[1] == profile
        items = [record for record in other.records if isinstance(record, wire.ItemUpdate)]
        assert [item.item["text"] for item in items] == ["greeting", "Hello?"]
        assert [item.after for item in items] == ["", items[0].item_id]
        assert any(isinstance(record, wire.Finished) for record in other.records)
        assert wire.Ready() in other.records
        # Its records count from the beginning, in both directions.
        desk.call.resume(wire.Attach("uuid-1", 4, other.count), other.send)
        assert other.records[-1] == wire.Attached(0)
        assert simulator.opened == 1


class Listener:
    """Another dispatcher's end of the call's channel."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.count = 0

    def send(self, record: bytes) -> None:
        self.records += decoded_all([record], 9)
        ((kind, _, _),) = wire.decode(record)
        self.count += kind not in wire.UNCOUNTED


async def test_a_reply_that_plays_is_told_with_how_far_it_was(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        await desk.wait_for(lambda records: wire.ReplyItemDone(0) in records)
        sent = sum(len(record.pcm) // 2 for record in desk.records if isinstance(record, wire.ReplyAudio))
        desk.record(wire.Playout((wire.ItemHeard(0, 100),), False, (wire.ItemHeard(0, 400),)))
        other = Listener()
        desk.call.attach(wire.Open("uuid-1", 2, {}, credit_bytes=10**6, attach=True), 9, other.send)
        (spoken,) = [record for record in other.records if isinstance(record, wire.PendingReplies)]
        (reply,) = spoken.replies
        assert (reply.index, reply.text, reply.sent_samples, reply.done) == (0, "greeting", 400, False)
        (playout,) = [record for record in other.records if isinstance(record, wire.Playout)]
        assert (playout.items, playout.queued) == ((wire.ItemHeard(0, 100),), (wire.ItemHeard(0, 400),))
        assert 0 <= playout.age_seconds < PATIENCE_SECONDS
        # And what was not known to be handed over comes again.
        assert (
            sum(len(audio.pcm) // 2 for audio in other.records if isinstance(audio, wire.ReplyAudio)) == sent - 400
        )


async def test_a_dispatcher_that_attaches_before_the_session_gets_all(
    simulator: RealtimeSimulator,
) -> None:
    async with call_to(simulator.url, restore=True) as desk:
        desk.record(wire.Resume("dropped"))
        desk.audio(bytes(3200), 8000)
        other = Listener()
        desk.call.attach(wire.Open("uuid-1", 2, {}, credit_bytes=10**6, attach=True), 9, other.send)
        opened = other.records[0]
        assert isinstance(opened, wire.Opened)
        # What it sends goes on behind what came already.
        assert opened.position_samples == 8000 + 1600
        await eventually(lambda: wire.Ready() in other.records)
        session = await simulator.wait_for_session()
        await session.wait_for(lambda s: s.appended_ms == 200)


# A stalled process


async def test_it_does_nothing_until_the_call_is_confirmed(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        await desk.wait_for(lambda records: wire.ReplyItemDone(0) in records)
        opened = await simulator.wait_for_session()
        desk.call.suspend()
        desk.call.detached()
        before = len(desk.records)
        received = dict(opened.received)
        simulator.faults.send(
            opened,
            {"type": "input_audio_buffer.speech_started", "item_id": "turn", "audio_start_ms": 0},
        )
        desk.call._host._tool_done("call_1", "done", False)
        desk.call.tick(time.monotonic() + 0.5)
        assert desk.records[before:] == []
        assert dict(opened.received) == received
        desk.call.resume(wire.Attach("uuid-1", 1, desk.count), desk.send)
        # What came meanwhile is read now.
        await desk.wait_for(lambda records: wire.Finished(0, speaking=True) in records[before:])
        assert not desk.is_over.is_set()


async def test_one_that_is_not_confirmed_writes_nothing_more(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        begin_tool(simulator, opened)
        await desk.wait_for(lambda records: wire.Tool("call_1") in records)
        desk.call.suspend()
        desk.call.detached()
        received = dict(opened.received)
        desk.record(wire.ToolKnown("call_1"))
        desk.call.tick(time.monotonic() + CONFIRM_SECONDS + 0.1)
        assert desk.is_over.is_set()
        assert not desk.call.tools.tasks
        await opened.wait_for(lambda s: s.closed)
        assert dict(opened.received) == received
        # It was cut off: not even a farewell was written.
        assert opened.close_code in (None, 1006)


# Memory


def memory(*texts: str) -> list[wire.Control]:
    """Items of a conversation; the agent begins."""
    return [
        wire.ItemUpdate(
            f"item_{number}",
            f"item_{number - 1}" if number else "",
            item={
                "role": "user" if number % 2 else "agent",
                "text": text,
                "text_done": True,
                "heard_share": 1.0,
                "reported": True,
            },
        )
        for number, text in enumerate(texts)
    ]


async def test_a_restored_call_waits_for_its_memory(
    simulator: RealtimeSimulator,
) -> None:
    async with call_to(simulator.url, restore=True) as desk:
        desk.record(*memory("Hello!", "What time is it?", "Three."))
        assert desk.records == [wire.Opened(wire.CALLER_CREDIT_BYTES)]
        assert desk.goings == 0
        desk.record(wire.Resume("worker_lost"))
        assert desk.goings == 1
        await desk.ready()
        opened = await simulator.wait_for_session()
        await opened.wait_for(lambda s: len(s.items) == 3)
        assert [item.text for item in opened.items] == ["Hello!", "What time is it?", "Three."]
        # The agent has spoken last, and does not greet again.
        assert not opened.received["response.create"]


async def test_one_that_is_to_stand_by_waits_with_its_memory(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url, restore=True) as desk:
        attachable = [desk.call.is_attachable]
        desk.record(*memory("Hello!", "What time is it?"), wire.Resume("drain", standby=True))
        await desk.ready()
        assert desk.goings == 0
        assert desk.call.is_standby
        opened = await simulator.wait_for_session()
        await opened.wait_for(lambda s: len(s.items) == 2)
        assert not opened.core.may_answer
        # Meanwhile the conversation has gone on.
        desk.record(*memory("Hello!", "What time is it?", "Three."), wire.Resume("drain"))
        assert desk.goings == 1
        attachable.append(desk.call.is_attachable)
        assert attachable == [False, True]
        await opened.wait_for(lambda s: len(s.items) == 3)
        await desk.wait_for(lambda records: wire.Ready(standby=True) in records and wire.Ready() in records)
        await opened.wait_for(lambda s: s.core.may_answer)
        assert not opened.received["response.create"]


async def test_standby_takes_a_change_of_the_session_along(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        answers: list[Record] = []
        command = wire.Command(3, "uuid-1", "session", {"instructions": "Speak Danish."})
        desk.call.command(command, lambda record: answers.extend(decoded_all([record], 0)))
        await eventually(lambda: answers)
        before, after = [record for record in desk.records if isinstance(record, wire.Profile)]
    async with call_to(simulator.url, restore=True) as desk:
        desk.record(before, *memory("Hello!", "Hej"), wire.Resume("rollover", standby=True))
        await desk.ready()
        opened = await simulator.wait_for_session(2)
        # The calls API changes the session that has the call; then that one lets go.
        desk.record(after, *memory("Hello!", "Hej"), wire.Resume("rollover"))
        await opened.wait_for(lambda s: s.session["instructions"] == "Speak Danish.")
        await opened.wait_for(lambda s: s.core.may_answer)


async def test_settings_that_the_call_began_with_stay(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url, openai_instructions="Be kind.") as first:
        await first.ready()
        profile = next(record for record in first.records if isinstance(record, wire.Profile))
    async with call_to(simulator.url, restore=True, openai_instructions="Be brief.") as desk:
        desk.record(profile, *memory("Hello!"), wire.Resume("worker_lost"))
        await desk.ready()
        opened = await simulator.wait_for_session(2)
        assert opened.session["instructions"] == "Be kind."


async def test_unreadable_settings_are_loaded_again(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url, restore=True, openai_instructions="Be brief.") as desk:
        desk.record(wire.Profile({"session": 7}), *memory("Hello!"), wire.Resume("worker_lost"))
        await desk.ready()
        opened = await simulator.wait_for_session()
        assert opened.session["instructions"] == "Be brief."


async def test_a_session_that_was_changed_is_remembered_so(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        answers: list[Record] = []
        command = wire.Command(3, "uuid-1", "session", {"instructions": "Speak Italian."})
        desk.call.command(command, lambda record: answers.extend(decoded_all([record], 0)))
        await eventually(lambda: answers)
        profiles = [record for record in desk.records if isinstance(record, wire.Profile)]
        assert len(profiles) == 2
    async with call_to(simulator.url, restore=True) as desk:
        desk.record(profiles[-1], *memory("Hello!"), wire.Resume("worker_lost"))
        await desk.ready()
        opened = await simulator.wait_for_session(2)
        assert opened.session["instructions"] == "Speak Italian."


async def test_what_comes_before_there_is_a_session_is_bounded(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url, restore=True) as desk:
        for _ in range(MAX_EARLY_RECORDS + 100):
            desk.record(wire.Dtmf("1"))
        assert len(desk.call._host.early) == MAX_EARLY_RECORDS
        desk.record(wire.Close("the caller hung up"))
        assert desk.is_over.is_set()


# Tools


async def test_a_tool_that_the_model_made_up_has_no_series_of_its_own(simulator: RealtimeSimulator) -> None:
    def counted() -> float:
        wanted = 'avr_sts_tool_calls_total{outcome="refused",tool="other"}'
        lines = [line for line in metrics.render()[0].decode().splitlines() if line.startswith(wanted)]
        return float(lines[0].split()[-1]) if lines else 0.0

    before = counted()
    async with call_to(simulator.url) as desk:
        await desk.ready()
        begin_tool(simulator, await simulator.wait_for_session(), name="made_up")
        await desk.wait_for(lambda records: wire.Tool("call_1") in records)
        desk.record(wire.ToolKnown("call_1"))
        await eventually(lambda: counted() == before + 1, PATIENCE_SECONDS)
    assert 'tool="made_up"' not in metrics.render()[0].decode()


@pytest.fixture
def slow_tool(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Every tool waits for this, and has found something then."""
    event = asyncio.Event()

    async def run(tool_set: ToolSet, name: str, arguments: str, **_: object) -> ToolResult:
        await event.wait()
        return ToolResult("found", ToolOutcome.OK)

    monkeypatch.setattr(ToolSet, "run", run)
    return event


async def test_a_running_tool_of_a_lost_session_passes_to_the_next(
    simulator: RealtimeSimulator, slow_tool: asyncio.Event
) -> None:
    async with call_to(simulator.url) as desk:
        await lose_while_a_tool_runs(simulator, desk)
        had = [bool(desk.call.tools.tasks)]
        remembered = kept_of(desk)
        async with begun(Desk(desk.shared, epoch=2, restore=True, predecessor=desk.call)) as next_desk:
            next_desk.record(*remembered, wire.Resume("dropped"))
            had += [bool(desk.call.tools.tasks), bool(next_desk.call.tools.tasks)]
            assert had == [True, False, True]
            await next_desk.ready()
            again = await simulator.wait_for_session(2)
            assert not outputs(again)
            slow_tool.set()
            await again.wait_for(outputs)
            assert outputs(again) == ["found"]
            await eventually(lambda: not next_desk.call.tools.tasks)
            told = [record for record in next_desk.records if isinstance(record, wire.Tool)]
            assert told == [], "it was not run again"


def kept_of(desk: Desk) -> list[wire.Control]:
    """Return the dispatcher's records to the next session."""
    kept = CallMemory()
    for record in desk.records:
        if isinstance(record, wire.ItemUpdate):
            kept.remember(record, 100)
    return list(kept.records())


async def lose_while_a_tool_runs(simulator: RealtimeSimulator, desk: Desk) -> None:
    """Lose the session while a recorded tool runs."""
    await desk.ready()
    opened = await simulator.wait_for_session()
    begin_tool(simulator, opened)
    await desk.wait_for(lambda records: wire.Tool("call_1") in records)
    desk.record(wire.ToolKnown("call_1"))
    opened.drop()
    await desk.wait_for(lambda records: any(isinstance(record, wire.Released) for record in records))
    assert desk.call.is_resting


async def test_the_output_of_a_tool_between_sessions_goes_to_the_next(
    simulator: RealtimeSimulator, slow_tool: asyncio.Event
) -> None:
    async with call_to(simulator.url) as desk:
        await lose_while_a_tool_runs(simulator, desk)
        remembered = kept_of(desk)
        async with begun(Desk(desk.shared, epoch=2, restore=True, predecessor=desk.call)) as next_desk:
            next_desk.record(*remembered, wire.Resume("dropped"))
            slow_tool.set()
            await eventually(lambda: not next_desk.call.tools.tasks)
            again = await simulator.wait_for_session(2)
            await again.wait_for(outputs)
            assert outputs(again) == ["found"]


async def test_a_tool_that_ends_before_go_has_its_output_in_the_next(
    simulator: RealtimeSimulator, slow_tool: asyncio.Event
) -> None:
    async with call_to(simulator.url) as desk:
        await lose_while_a_tool_runs(simulator, desk)
        remembered = kept_of(desk)
        slow_tool.set()
        await eventually(lambda: not desk.call.tools.tasks)
        async with begun(Desk(desk.shared, epoch=2, restore=True, predecessor=desk.call)) as next_desk:
            next_desk.record(*remembered, wire.Resume("dropped"))
            again = await simulator.wait_for_session(2)
            await again.wait_for(outputs)
            assert outputs(again) == ["found"]


async def test_one_of_a_session_that_nobody_follows_is_given_up(
    simulator: RealtimeSimulator, slow_tool: asyncio.Event
) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        begin_tool(simulator, opened)
        await desk.wait_for(lambda records: wire.Tool("call_1") in records)
        desk.record(wire.ToolKnown("call_1"))
        assert desk.call.tools.tasks
        (task,) = desk.call.tools.tasks.values()
        desk.record(wire.Close("the caller hung up"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.wait([task])
        assert task.cancelled()


async def test_a_stall_does_not_end_a_call_that_waits_for_its_caller(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        opened = await simulator.wait_for_session()
        desk.call.detached()
        desk.call.suspend()
        desk.call.tick(time.monotonic() + CONFIRM_SECONDS + 0.1)
        assert not desk.is_over.is_set()
        # Redis hears of the call, and answers whether another worker has it.
        assert desk.call.waits_for_dispatcher
        desk.call._host._tool_done("call_1", "done", False)
        received = dict(opened.received)
        desk.call.confirm()
        await opened.wait_for(lambda s: dict(s.received) != received)


async def test_redis_confirms_no_call_that_a_dispatcher_had(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        desk.call.suspend()
        desk.call.detached()
        assert not desk.call.waits_for_dispatcher
        desk.call.confirm()
        desk.call.tick(time.monotonic() + CONFIRM_SECONDS + 0.1)
        assert desk.is_over.is_set()
