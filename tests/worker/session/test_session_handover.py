"""Sessions that stand by, let their call go, or get another dispatcher."""

from __future__ import annotations

from typing import Any

import pytest

from common.audio import g711
from common.link import wire
from common.settings.settings import Settings
from tests.dispatcher.call_driver import sound
from tests.worker import api_events as api
from tests.worker.link_records import Record
from tests.worker.session.restored import (
    SECOND,
    TRANSFER,
    agent,
    appended,
    replayed,
    restoring,
    upsampled,
    user,
)
from tests.worker.session_driver import (
    CREATE,
    PLENTY,
    Append,
    Did,
    Driver,
    audio_samples,
    live,
    only,
    pcm_24k,
    playout,
    samples_8k,
    texts,
)
from worker.session.actions import Connect, Ended, Released, RunTool, ToDispatcher
from worker.session.hand_over import FORCE_AT
from worker.session.memory.checkpoint import Checkpoint
from worker.session.states import State


class TestStandby:
    def standing_by(self, *items: wire.ItemUpdate, **plan: Any) -> tuple[Driver, list[Did]]:
        driver = restoring(*items, reason="drain", standby=True, plan=plan)
        return driver, driver.go_live()

    def go(self, driver: Driver, *items: wire.ItemUpdate, **fields: Any) -> list[Did]:
        driver.session.take_call(Checkpoint(**{"reason": "drain", "items": list(items), **fields}), driver.now)
        return driver.take()

    def test_it_brings_the_conversation_and_answers_nothing(self) -> None:
        driver = restoring(agent("a", "Hello."), user("b", "Hi."), reason="drain", standby=True)
        driver.take()
        (update,) = only(driver.connected(), dict)
        assert update["session"]["audio"]["input"]["turn_detection"]["create_response"] is False
        did = driver.event(api.session_updated())
        assert replayed(did) == [("output_text", "Hello."), ("input_text", "Hi.")]
        assert did[-1] == wire.Ready(standby=True)
        assert CREATE not in did
        assert driver.session.state is State.STANDBY
        assert driver.tick(1000.0) == []

    def test_rollover_counts_from_when_the_api_opened_the_session(self) -> None:
        driver, _ = self.standing_by(agent("a", "Hello."), rollover_seconds=3300.0)
        driver.tick(238.0)
        self.go(driver, agent("a", "Hello."))
        assert not only(driver.tick(3300.0 - 238.0 - 1.0), wire.Move)
        (move,) = only(driver.tick(1.0), wire.Move)
        assert move.reason == "rollover"

    def test_a_standbys_replies_are_numbered_after_all_used_ones(self) -> None:
        driver, _ = self.standing_by(agent("a", "Hello."))
        self.go(driver, agent("a", "Hello."), agent("b", "And more."), first_index=3)
        did = driver.reply("resp_1", "item_1", "Yes.", 100)
        assert only(did, wire.ReplyItem) == [wire.ReplyItem(3, "item_1")]

    def test_it_goes_on_with_what_has_changed_since(self) -> None:
        driver, _ = self.standing_by(agent("a", "Hello."), agent("b", "one two three four"))
        kept = sound(SECOND)
        did = self.go(
            driver,
            agent("a", "Hello."),
            agent("b", "one two three four", heard_share=0.5),
            user("c", "Stop."),
            audio=[(8000, kept)],
        )
        (update,) = [event for event in only(did, dict) if event["type"] == "session.update"]
        assert update["session"]["audio"]["input"]["turn_detection"].get("create_response") is not False
        assert {"type": "conversation.item.delete", "item_id": "b"} in did
        assert replayed(did) == [("output_text", "one two"), ("input_text", "Stop.")]
        assert appended(did) == upsampled(kept)
        assert CREATE in did
        assert wire.Ready() in did
        assert driver.session.state is State.LIVE
        # The answer to its own update is for nobody.
        assert driver.event(api.session_updated()) == []

    def test_it_may_be_told_to_go_on_before_it_is_up(self) -> None:
        driver = restoring(agent("a", "Hello."), reason="drain", standby=True)
        driver.take()
        driver.connected()
        did = self.go(driver, agent("a", "Hello."), user("b", "Hi."))
        assert did == []
        did = driver.event(api.session_updated())
        # The one that it asked for is muted.
        assert only(did, dict)[0]["type"] == "session.update"
        assert replayed(did) == [("output_text", "Hello."), ("input_text", "Hi.")]
        assert driver.session.state is State.LIVE

    def test_audio_that_comes_meanwhile_waits(self) -> None:
        driver, _ = self.standing_by(agent("a", "Hello."))
        assert not only(driver.caller(), Append)

    def test_one_without_the_services_turn_detection_needs_no_change(self) -> None:
        settings = Settings(openai_turn_detection="none")  # type: ignore[arg-type]  # as the environment has it
        driver, _ = self.standing_by(agent("a", "Hello."), settings=settings, local_silence_ms=500)
        did = self.go(driver, agent("a", "Hello."))
        assert not [event for event in only(did, dict) if event["type"] == "session.update"]

    def test_one_that_is_lost_lets_go(self) -> None:
        driver, _ = self.standing_by(agent("a", "Hello."))
        driver.session.connection_lost("it broke off", driver.now)
        assert only(driver.take(), Ended, Released)[-1] == Released(
            "dropped", "the connection to the Realtime API was lost: it broke off"
        )


class TestLettingGo:
    def test_at_once_where_it_is_quiet(self) -> None:
        driver = live()
        driver.reply("resp_1", "a", "Hello", 100)
        driver.record(playout((0, 10**6), idle=True))
        did = driver.record(wire.Release(60.0))
        assert did == [
            wire.Released("drain", "another session goes on"),
            Released("drain", "another session goes on"),
        ]
        assert driver.tick(100.0) == []

    def test_when_the_reply_has_been_heard(self) -> None:
        driver = live()
        did = driver.reply("resp_1", "a", "Hello", 1000)
        assert driver.record(wire.Release(60.0)) == []
        (samples,) = audio_samples(did).values()
        assert driver.record(playout((0, samples - 1))) == []
        did = driver.record(playout((0, samples), idle=True))
        assert only(did, wire.Released)
        # What was heard of it is remembered first.
        assert only(driver.memory_writer, wire.ItemUpdate)[-1].item["heard_share"] == 1.0

    @pytest.mark.parametrize("what", ["speech", "turn without text", "response", "tool", "keys"])
    def test_not_while_something_is_under_way(self, what: str) -> None:
        driver = live()
        driver.reply("resp_1", "a", "Hello", 100)
        driver.record(playout((0, 10**6), idle=True))
        for _ in range(50):
            driver.caller()
        match what:
            case "speech":
                driver.event(api.speech_started("turn"))
            case "turn without text":
                driver.turn("turn", previous="a", end_ms=500)
            case "response":
                driver.event(api.response_created("resp_2"))
            case "tool":
                driver.event(api.response_created("resp_2"), _function_call(), api.response_done("resp_2"))
            case "keys":
                driver.record(wire.Dtmf("1"))
        assert not only(driver.record(wire.Release(60.0)), wire.Released)
        assert not only(driver.tick(0.2), wire.Released)

    def test_not_where_the_other_session_does_not_stand_by_any_more(self) -> None:
        driver = live()
        driver.reply("resp_1", "a", "Hello", 1000)
        driver.record(wire.Release(60.0), wire.Release(50.0, revoked=True))
        assert not only(driver.record(playout((0, 10**6), idle=True)), wire.Released)
        assert only(driver.record(wire.Release(40.0)), wire.Released)

    @pytest.mark.parametrize("never", [True, False], ids=["never", "failed"])
    def test_turn_without_text_does_not_stop_the_release(self, never: bool) -> None:
        driver = live()
        driver.reply("resp_1", "hello", "Hello!", 100)
        driver.caller(bytes(16_000))
        driver.turn("item_2", previous="hello", end_ms=900)
        if not never:
            driver.event(api.transcription_failed("item_2"))
        driver.reply("resp_2", "answer", "Yes.", 100, previous="item_2")
        driver.caller(bytes(16_000))
        driver.turn("item_3", "and so on", previous="answer", end_ms=1900)
        driver.reply("resp_3", "answer_3", "Yes.", 100, previous="item_3")
        driver.record(playout((0, 10**6), (1, 10**6), (2, 10**6), idle=True))
        released = only(driver.record(wire.Release(24.0)), wire.Released)
        # A text that has not failed may come at any moment, for a while.
        assert bool(released) is not never
        released += only([*driver.tick(4.9), *driver.tick(0.2)], wire.Released)
        assert len(released) == 1, "no quiet moment"

    def test_nothing_is_released_while_no_dispatcher_is_there(self) -> None:
        driver = live()
        driver.reply("resp_1", "a", "Hello", 100)
        driver.session.detached()
        assert not only(driver.record(wire.Release(60.0), playout((0, 10**6), idle=True)), wire.Released)
        driver.session.resumed()
        assert only(driver.tick(0.2), wire.Released)

    def test_release_of_one_dispatcher_is_not_for_the_next(self) -> None:
        driver = live()
        driver.reply("resp_1", "a", "Hello", 100)
        driver.record(wire.Release(60.0))
        driver.session.detached()
        driver.session.attached(wire.Open("uuid-1", 2, credit_bytes=PLENTY), driver.now)
        driver.take()
        assert not only(driver.tick(5.0), wire.Released)

    def test_by_force_even_then(self) -> None:
        driver = live()
        driver.event(api.speech_started("turn"))
        driver.record(wire.Release(60.0), wire.Release(50.0, revoked=True))
        assert only(driver.tick(50.0), wire.Released)

    def test_by_force_when_its_time_is_over(self) -> None:
        driver = live()
        driver.event(api.speech_started("turn"))
        driver.record(wire.Release(60.0))
        assert not only(driver.tick(59.9), wire.Released)
        assert only(driver.tick(0.1), wire.Released)

    def test_one_that_is_to_leave_its_worker_asks_for_another_first(self) -> None:
        driver = live()
        driver.reply("resp_1", "a", "Hello", 100)
        driver.record(playout((0, 10**6), idle=True))
        driver.session.move("drain", 80.0, driver.now)
        assert driver.take() == [wire.Move("drain", 80.0)]
        # Quiet as it is, it stays until another one stands by.
        assert driver.tick(79.0) == []
        assert only(driver.tick(1.0), wire.Released) == [wire.Released("drain", "another session goes on")]

    def test_and_asks_once(self) -> None:
        driver = live()
        for _ in range(3):
            driver.session.move("drain", 80.0, driver.now)
        assert only(driver.take(), wire.Move) == [wire.Move("drain", 80.0)]

    def test_the_earlier_of_two_times_counts(self) -> None:
        driver = live()
        driver.event(api.speech_started("turn"))
        driver.session.move("drain", 20.0, driver.now)
        driver.record(wire.Release(60.0))
        assert only(driver.tick(20.0), wire.Released)

    def test_a_drain_shortens_a_rollover_that_waits(self) -> None:
        driver = live(rollover_seconds=3300.0)
        driver.event(api.speech_started("turn"))
        assert only(driver.tick(3300.0), wire.Move)
        driver.record(wire.Release(240.0))
        for _ in range(3):
            driver.session.move("drain", 24.0, driver.now)
        assert only(driver.take(), wire.Move) == [wire.Move("drain", 24.0)]
        assert not only(driver.tick(23.9), wire.Released)
        assert [released.reason for released in only(driver.tick(0.1), wire.Released)] == ["drain"]

    def test_a_rollover_does_not_replace_a_drain(self) -> None:
        driver = live(rollover_seconds=3300.0)
        driver.event(api.speech_started("turn"))
        driver.session.move("drain", 5000.0, driver.now)
        driver.take()
        assert not only(driver.tick(3300.0), wire.Move)

    def test_before_the_api_ends_it_another_one_is_asked_for(self) -> None:
        driver = live(rollover_seconds=3300.0)
        driver.reply("resp_1", "a", "Hello", 100)
        driver.record(playout((0, 10**6), idle=True))
        assert not only(driver.tick(3299.9), wire.Move)
        (move,) = only(driver.tick(0.2), wire.Move)
        assert move.reason == "rollover"
        # At 59 minutes at the latest.
        assert move.seconds == pytest.approx(3300 * FORCE_AT - 3300.1)
        (released,) = only(driver.tick(240.0), wire.Released)
        assert released.reason == "rollover"

    def test_sessions_opened_together_are_replaced_apart(self) -> None:
        first, second = (live(rollover_seconds=3300.0, rollover_part=part) for part in (0.9, 0.95))
        assert not only(first.tick(2969.0), wire.Move)
        assert only(first.tick(1.0), wire.Move)
        assert not only(second.tick(3134.0), wire.Move)
        assert only(second.tick(1.0), wire.Move)

    def test_its_time_counts_from_when_it_was_there(self) -> None:
        driver = Driver(rollover_seconds=3300.0)
        driver.take()
        driver.tick(25.0)
        driver.connected()
        driver.event(api.session_updated())
        driver.reply("resp_1", "a", "Hello", 100)
        assert not only(driver.tick(3299.0), wire.Move)
        assert only(driver.tick(1.0), wire.Move)

    def test_nothing_is_done_in_it_any_more(self) -> None:
        driver = live()
        driver.session.release("dropped", "why")
        driver.take()
        assert driver.record(wire.Release(0.0), wire.Dtmf("1")) == []
        assert driver.event(api.speech_started("turn")) == []
        driver.session.tool_done("call_1", "late", driver.now)
        driver.session.move("drain", 1.0, driver.now)
        driver.session.take_call(Checkpoint("drain"), driver.now)
        assert driver.take() == []


def _function_call() -> api.Event:
    item = api.function_call_item("item_call") | {"status": "completed", "arguments": "{}"}
    return api.event("response.output_item.done", response_id="resp_2", output_index=0, item=item)


class TestTheNextOneDoesNotLastEither:
    def test_it_is_opened_after_a_while(self) -> None:
        driver = Driver(
            checkpoint=Checkpoint("dropped"), opening={"epoch": 2, "restore": True, "delay_seconds": 2.0}
        )
        assert only(driver.take(), Connect) == [Connect(2.0)]

    def test_the_time_that_the_call_has_waited_counts(self) -> None:
        driver = Driver(
            checkpoint=Checkpoint("dropped"), opening={"epoch": 2, "waited_seconds": 31.0}, retry_seconds=30.0
        )
        did = driver.take()
        assert not only(did, Connect)
        (ended,) = only(did, wire.Ended)
        assert ended == wire.Ended("failed", "no Realtime session lasted, for 30 s", "upstream")
        driver = Driver(
            checkpoint=Checkpoint("dropped"), opening={"epoch": 2, "waited_seconds": 29.0}, retry_seconds=30.0
        )
        assert only(driver.take(), Connect)


class TestAnotherDispatcher:
    OPENING = wire.Open("uuid-1", 3, {}, credit_bytes=PLENTY, attach=True)

    def attach(self, driver: Driver, opening: wire.Open = OPENING) -> list[Record]:
        """Return all that the session tells the new dispatcher."""
        driver.take()
        driver.session.attached(opening, driver.now)
        actions, driver.session.actions = driver.session.actions, []
        assert all(isinstance(action, ToDispatcher) for action in actions)
        return [action.record for action in actions if isinstance(action, ToDispatcher)]

    def test_an_attached_dispatcher_gets_the_conversation_and_ready(self) -> None:
        driver = live()
        driver.reply("resp_1", "a", "Hello", 100)
        driver.record(playout((0, 10**6), idle=True))
        for _ in range(100):
            driver.caller()
        driver.turn("b", "Hi.", previous="a", end_ms=1000)
        told = self.attach(driver)
        items = [record for record in told if isinstance(record, wire.ItemUpdate)]
        assert [(item.item_id, item.after, item.item.get("text")) for item in items] == [
            ("a", "", "Hello"),
            ("b", "a", "Hi."),
        ]
        assert wire.Finished(8000) in told
        assert told[-1] == wire.Ready()
        assert driver.session.epoch == 3
        assert driver.session.next_position_samples == 16_000
        # And from now on only what changes, there.
        driver.memory_writer.clear()
        driver.reply("resp_2", "c", "Yes?", 100, previous="b")
        assert {record.item_id for record in only(driver.memory_writer, wire.ItemUpdate)} == {"c"}

    def test_a_caller_who_is_speaking_is_known_to_be(self) -> None:
        driver = live()
        driver.event(api.speech_started("turn"))
        assert wire.Finished(0, speaking=True) in self.attach(driver)

    def test_what_plays_is_told_and_what_may_be_missing_comes_again(self) -> None:
        driver = live()
        did = driver.reply("resp_1", "a", "one two three four", 1000)
        (samples,) = audio_samples(did).values()
        driver.record(wire.Playout((wire.ItemHeard(0, 800),), False, (wire.ItemHeard(0, 2400),)))
        driver.now += 0.125
        told = self.attach(driver)
        assert (
            wire.PendingReplies((wire.Reply(0, "a", "one two three four", samples_8k(1000), 2400, False),)) in told
        )
        assert wire.Playout((wire.ItemHeard(0, 800),), False, (wire.ItemHeard(0, 2400),), 0.125) in told
        assert sum(len(audio.pcm) // 2 for audio in told if isinstance(audio, wire.ReplyAudio)) == samples - 2400
        assert wire.ReplyItemDone(0) in told
        # The text is not told twice.
        assert not any(isinstance(record, wire.ReplyText) for record in told)
        # It is heard out.
        driver.memory_writer.clear()
        driver.record(playout((0, samples), idle=True))
        assert [record.settled for record in only(driver.memory_writer, wire.ItemUpdate)] == [True]

    def test_a_reply_that_is_under_way_goes_on(self) -> None:
        driver = live()
        driver.reply("resp_1", "a", "one two", 500, done=False)
        told = self.attach(driver)
        assert not any(isinstance(record, wire.ReplyItemDone) for record in told)
        driver.memory_writer.clear()
        did = driver.event(api.text_delta("resp_1", "a", " three"), api.audio_delta("resp_1", "a", pcm_24k(500)))
        assert only(driver.memory_writer, wire.ReplyText) == [wire.ReplyText(0, samples_8k(1000), " three")]
        assert audio_samples(did)[0] > 0

    def test_a_flush_unanswered_by_a_dead_dispatcher_is_repeated(self) -> None:
        driver = live()
        driver.reply("resp_1", "a", "one two three four", 1000)
        driver.record(wire.Playout((wire.ItemHeard(0, 3200),), False, (wire.ItemHeard(0, 6400),)))
        assert only(driver.event(api.speech_started("b")), wire.Flush) == [wire.Flush(1)]
        driver.now += 0.125
        told = self.attach(driver)
        spoken = wire.Reply(0, "a", "one two three four", samples_8k(1000), 6400, True)
        restored = wire.Playout((wire.ItemHeard(0, 3200),), False, (wire.ItemHeard(0, 6400),), 0.125)
        assert told[-4:] == [wire.PendingReplies((spoken,)), restored, wire.Flush(1), wire.Ready()]
        # AVR Core has played on until it was told.
        did = driver.record(wire.Heard(1, (wire.ItemHeard(0, samples_8k(500)),)))
        assert [event["audio_end_ms"] for event in only(did, dict)] == [500]
        assert texts(did) == [("agent", "one two")]

    def test_what_may_run_and_what_was_ordered_is_told_again(self) -> None:
        driver = live()
        driver.event(api.response_created("resp_2"), _function_call())
        order = api.function_call_item("item_order") | {
            "status": "completed",
            "call_id": "call_2",
            "name": "avr_transfer",
            "arguments": TRANSFER,
        }
        driver.event(
            api.event("response.output_item.done", response_id="resp_2", output_index=1, item=order),
            api.response_done("resp_2"),
        )
        told = self.attach(driver)
        assert wire.Tool("call_1") in told
        assert [record.id for record in told if isinstance(record, wire.TelephonyCommand)] == ["call_2"]
        assert only(driver.record(wire.ToolKnown("call_1")), RunTool) == [RunTool("call_1", "look_up", "{}")]

    def test_a_command_is_not_sent_before_its_last_words(self) -> None:
        driver = live()
        order = api.function_call_item("item_order") | {
            "status": "completed",
            "call_id": "call_2",
            "name": "avr_hangup",
            "arguments": "{}",
        }
        driver.event(
            api.response_created("resp_2"),
            api.event("response.output_item.done", response_id="resp_2", output_index=0, item=order),
        )
        told = self.attach(driver)
        assert not any(isinstance(record, wire.TelephonyCommand) for record in told)
        did = driver.event(api.response_done("resp_2"))
        assert [record.id for record in only(did, wire.TelephonyCommand)] == ["call_2"]

    def test_a_session_that_is_to_be_left_asks_again(self) -> None:
        driver = live()
        driver.event(api.speech_started("turn"))
        driver.session.move("drain", 80.0, driver.now)
        driver.now += 30.0
        assert wire.Move("drain", 50.0) in self.attach(driver)

    def test_one_that_is_not_up_yet_gives_the_callers_audio_back(self) -> None:
        kept, more = sound(SECOND), sound(SECOND, seed=2)
        driver = restoring(agent("a", "Hello."), audio=[(8000, kept)])
        driver.session.caller_audio(16_000, more, driver.now)
        assert driver.session.next_position_samples == 24_000
        driver.take()
        driver.session.attached(self.OPENING, driver.now)
        actions, driver.session.actions = driver.session.actions, []
        records = [action.record for action in actions if isinstance(action, ToDispatcher)]
        assert [record for record in records if isinstance(record, wire.KeptAudio)] == [
            wire.KeptAudio(8000, g711.encode_ulaw(kept)),
            wire.KeptAudio(16_000, g711.encode_ulaw(more)),
        ]
        assert wire.Ready() not in records
        # And hears it all the same.
        assert appended(driver.go_live()) == upsampled(kept + more)
