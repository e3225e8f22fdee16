"""A session that goes on with a call where the one before it stopped: replayed, fed again, taken up."""

from __future__ import annotations

import base64
from typing import Any, ClassVar

import pytest

from common.audio import g711
from common.link import wire
from tests.dispatcher.call_driver import sound
from tests.worker import api_events as api
from tests.worker.session.restored import (
    SECOND,
    TRANSFER,
    agent,
    appended,
    function_call,
    function_output,
    remembered,
    replayed,
    restored,
    restoring,
    turn_without_text,
    under_way,
    upsampled,
    user,
)
from tests.worker.session_driver import (
    CREATE,
    Append,
    Did,
    Driver,
    audio_samples,
    only,
    playout,
    samples_8k,
    texts,
)
from worker.session.actions import RunTool
from worker.session.agent.answering import CONTINUE_NOTE
from worker.session.agent.function_calls import INTERRUPTED, MAX_RUNS
from worker.session.restore import MISSED_WORDS_NOTE
from worker.session.states import State


class TestReplay:
    def test_a_conversation_is_brought_and_not_greeted_again(self) -> None:
        driver, did = restored(
            agent("a", "Hello, how can I help?"),
            user("b", "What is the weather?"),
            function_call("c", text='{"city":"Rome"}', started=True),
            function_output("d", text="sunny"),
            agent("e", "It is sunny in Rome, and", heard_share=0.55),
        )
        assert replayed(did) == [
            ("output_text", "Hello, how can I help?"),
            ("input_text", "What is the weather?"),
            ("function_call", '{"city":"Rome"}'),
            ("function_call_output", "sunny"),
            ("output_text", "It is sunny"),
        ]
        assert wire.Ready() in did
        # The agent has spoken last, and is not asked to go on.
        assert CREATE not in did
        assert driver.session.state is State.LIVE

    def test_nothing_is_brought_before_the_session_is_set_up(self) -> None:
        driver = restoring(agent("a", "Hello."))
        driver.take()
        (update,) = only(driver.connected(), dict)
        assert update["type"] == "session.update"
        assert driver.event(api.session_created()) == []
        assert replayed(driver.event(api.session_updated())) == [("output_text", "Hello.")]

    def test_who_spoke_last_is_answered(self) -> None:
        _, did = restored(agent("a", "Hello."), user("b", "What is the weather?"))
        assert only(did, dict)[-1] == CREATE

    def test_a_keypad_entry_is_answered_and_an_output_too(self) -> None:
        entry = remembered("avr_1_1", text="[The caller pressed these keys on the telephone: 1]")
        _, did = restored(agent("a", "Press one."), entry)
        assert CREATE in did
        _, did = restored(user("a", "The weather?"), function_call("b", started=True), function_output("c"))
        assert CREATE in did

    def test_an_output_for_which_nobody_waits_is_not(self) -> None:
        hang_up = function_call("b", name="avr_hangup")
        _, did = restored(agent("a", "Goodbye."), hang_up, function_output("c", text="done", silent=True))
        assert CREATE not in did

    def test_the_echo_of_what_was_brought_is_no_item(self) -> None:
        driver, _ = restored(agent("a", "Hello."), user("b", "Hi."))
        brought = [record.item_id for record in (agent("a"), user("b"))]
        for item_id in brought:
            item = api.reply_item(item_id, "completed", "Hello.") if item_id == "a" else _user_item(item_id)
            driver.event(api.item_added(item))
        assert [item.item_id for item in driver.session.conversation] == brought
        assert only(driver.memory_writer, wire.ItemUpdate) == []

    def test_long_ids_are_the_calls_and_short_ones_the_sessions(self) -> None:
        long = "an_item_of_another_service_" + "x" * 40
        driver, did = restored(
            agent(long, "one two three four", heard_share=None),
            replies=(
                under_way(0, long, "one two three four", 800, 800, done=True, heard_samples=samples_8k(200)),
            ),
        )
        (create,) = [event for event in only(did, dict) if event["type"] == "conversation.item.create"]
        short = create["item"]["id"]
        assert len(short) <= 32
        # In the session another item follows it, by its name there.
        driver.event(api.speech_started("turn"), api.committed("turn", short), api.transcribed("turn", "Stop."))
        assert [item.item_id for item in driver.session.conversation] == [long, "turn"]

    def test_items_of_ours_have_ids_that_no_session_before_has_used(self) -> None:
        driver, _ = restored(remembered("avr_1_1", text="[...]"), agent("a", "Yes."))
        (entry,) = only(driver.record(wire.Dtmf("#")), dict)[:1]
        assert entry["item"]["id"] == "avr_2_1"

    def test_new_items_follow_items_that_the_session_lacks(self) -> None:
        driver, _ = restored(user("a", "Hello?"), agent("b", "one two", heard_share=0.0))
        driver.reply("resp_1", "c", "Yes?", 100, previous="a")
        assert [item.item_id for item in driver.session.conversation] == ["a", "b", "c"]

    def test_items_that_cannot_be_understood_are_left_out(self) -> None:
        _, did = restored(agent("a", "Hello."), wire.ItemUpdate("b", item={"kind": "of a newer release"}))
        assert replayed(did) == [("output_text", "Hello.")]

    def test_only_unsent_transcripts_are_sent_after_a_recovery(self) -> None:
        driver, did = restored(
            agent("a", "Hello."),
            wire.ItemUpdate("b", item={"role": "user", "text": "Hi.", "text_done": True}),
        )
        assert texts(did + driver.tick(0.2)) == [("user", "Hi.")]


def _user_item(item_id: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": "Hi."}]
    return {"id": item_id, "type": "message", "role": "user", "status": "completed", "content": content}


class TestTheGreeting:
    def test_a_call_of_which_nothing_was_said_is_greeted(self) -> None:
        _, did = restored()
        assert [event["type"] for event in only(did, dict)][-1:] == ["response.create"]
        assert did.count(CREATE) == 1

    def test_so_is_one_of_whose_greeting_nothing_was_sent_and_once(self) -> None:
        driver, did = restored(
            agent("a", heard_share=None, text_done=None), replies=(under_way(0, "a", "Hello", 100, 0),)
        )
        assert replayed(did) == []
        assert did.count(CREATE) == 1
        did = driver.reply("resp_1", "b", "Hello, this is Anna.", 500)
        assert CREATE not in did, "it is greeted once"
        assert [record.item_id for record in only(driver.memory_writer, wire.ItemUpdate) if record.deleted] == [
            "a"
        ]

    def test_a_greeting_that_broke_off_is_gone_on_with(self) -> None:
        greeting = "Hello, this is Anna. How can I help?"
        driver, did = restored(
            agent("a", heard_share=None, text_done=None),
            replies=(under_way(0, "a", greeting, 1000, 500, heard_samples=samples_8k(100)),),
        )
        # The model has said what was sent of it, to a word.
        assert replayed(did) == [("output_text", "Hello, this is"), ("input_text", CONTINUE_NOTE)]
        assert did.count(CREATE) == 1
        assert driver.session.conversation.last() is not None

    def test_a_welcome_is_repeated_only_if_none_of_it_was_sent(self) -> None:
        _, did = restored(plan={"welcome": "Welcome."})
        assert any("Welcome." in str(event) for event in only(did, dict))
        _, did = restored(agent("a", "Welcome."), plan={"welcome": "Welcome."})
        assert not [event for event in only(did, dict) if event["type"] == "response.create"]


class TestAReplyThatMayBePlaying:
    def test_a_complete_reply_plays_to_its_end_without_continuation(self) -> None:
        reply = under_way(4, "b", "one two three four", 800, 800, done=True, heard_samples=samples_8k(200))
        driver, did = restored(
            user("a", "Count."), agent("b", "one two three four", heard_share=None), replies=(reply,)
        )
        assert replayed(did)[-1] == ("output_text", "one two three four")
        assert CREATE not in did
        driver.memory_writer.clear()
        driver.record(playout((4, samples_8k(800)), idle=True))
        (item,) = only(driver.memory_writer, wire.ItemUpdate)
        assert (item.item_id, item.settled, item.item["heard_share"]) == ("b", True, 1.0)

    def test_a_barge_in_cuts_it_and_the_model_is_told_what_was_heard(self) -> None:
        reply = under_way(4, "b", "one two three four", 800, 800, done=True, heard_samples=samples_8k(200))
        driver, _ = restored(
            user("a", "Count."), agent("b", "one two three four", heard_share=None), replies=(reply,)
        )
        did = driver.event(api.speech_started("turn"))
        assert did == [wire.Flush(1)]
        did = driver.record(wire.Heard(1, (wire.ItemHeard(4, samples_8k(450)),)))
        # Text cannot be truncated.
        delete, create = only(did, dict)
        assert delete == {"type": "conversation.item.delete", "item_id": "b"}
        assert create["item"]["id"] == "b"
        # What the caller says is no item yet: it is put where it was, at the end.
        assert "previous_item_id" not in create
        assert create["item"]["content"] == [{"type": "output_text", "text": "one two"}]

    def test_nothing_of_it_was_heard(self) -> None:
        reply = under_way(4, "b", "one two three four", 800, 800, done=True)
        driver, _ = restored(
            user("a", "Count."), agent("b", "one two three four", heard_share=None), replies=(reply,)
        )
        driver.event(api.speech_started("turn"))
        did = driver.record(wire.Heard(1, (wire.ItemHeard(4, 0),)))
        assert only(did, dict) == [{"type": "conversation.item.delete", "item_id": "b"}]
        assert [item.item_id for item in driver.session.conversation] == ["a"]

    @pytest.mark.parametrize(("heard_ms", "text"), [(450, "one two"), (800, "one two three four")])
    def test_one_that_was_cut_is_known_as_far_as_it_was_heard(self, heard_ms: int, text: str) -> None:
        reply = under_way(
            4, "b", "one two three four", 800, 800, done=True, heard_samples=samples_8k(heard_ms), truncated=True
        )
        driver, did = restored(
            user("a", "Count."), agent("b", "one two three four", heard_share=None), replies=(reply,)
        )
        assert replayed(did)[-1] == ("output_text", text)
        # It does not play: there is nothing to interrupt.
        assert driver.event(api.speech_started("turn")) == []

    def test_a_reply_truncated_before_it_was_heard_is_deleted(self) -> None:
        reply = under_way(4, "b", "one two three four", 800, 800, done=True, truncated=True)
        driver, did = restored(
            user("a", "Count."), agent("b", "one two three four", heard_share=None), replies=(reply,)
        )
        assert replayed(did) == [("input_text", "Count.")]
        assert "b" in [record.item_id for record in only(driver.memory_writer, wire.ItemUpdate) if record.deleted]

    def test_one_that_broke_off_is_gone_on_with_unless_it_was_cut(self) -> None:
        reply = under_way(4, "b", "one two three four", 800, 400, heard_samples=samples_8k(300))
        _, did = restored(user("a", "Count."), agent("b", heard_share=None, text_done=None), replies=(reply,))
        assert replayed(did)[-2:] == [("output_text", "one two"), ("input_text", CONTINUE_NOTE)]
        assert did.count(CREATE) == 1
        cut = under_way(4, "b", "one two three four", 800, 400, heard_samples=samples_8k(300), truncated=True)
        _, did = restored(user("a", "Count."), agent("b", heard_share=None, text_done=None), replies=(cut,))
        assert CREATE not in did

    def test_new_replies_are_numbered_behind_it(self) -> None:
        reply = under_way(4, "b", "one", 100, 100, done=True)
        driver, _ = restored(agent("b", "one", heard_share=None), replies=(reply,))
        did = driver.reply("resp_1", "c", "two", 100, previous="b")
        assert [record.index for record in only(did, wire.ReplyItem)] == [5]
        # And it is heard out when a later one plays.
        driver.memory_writer.clear()
        driver.record(playout((5, 1)))
        assert "b" in [record.item_id for record in only(driver.memory_writer, wire.ItemUpdate) if record.settled]

    def test_replies_of_a_memory_from_redis_count_as_heard(self) -> None:
        _, did = restored(agent("a", "Hello.", heard_share=None), user("b", "Hi."), recalled=True)
        note = ("input_text", MISSED_WORDS_NOTE)
        assert replayed(did) == [("output_text", "Hello."), ("input_text", "Hi."), note]

    def test_one_of_which_the_dispatcher_has_no_sound_was_not_sent(self) -> None:
        _, did = restored(user("a", "Hi."), agent("b", "Hello.", heard_share=None))
        assert replayed(did) == [("input_text", "Hi.")]
        assert CREATE in did


class TestTheCallersAudio:
    def test_unfinished_audio_is_replayed_before_new_audio(self) -> None:
        kept, more = sound(SECOND), sound(SECOND, seed=2)
        driver = restoring(agent("a", "Hello."), audio=[(8000, kept)])
        driver.session.caller_audio(16_000, more, driver.now)
        did = driver.go_live()
        assert appended(did) == upsampled(kept + more)
        # What it finishes is counted by the call's positions.
        driver.memory_writer.clear()
        driver.turn("turn", "Hello?", previous="a", end_ms=500)
        assert only(driver.memory_writer, wire.Finished)[-1] == wire.Finished(8000 + samples_8k(500))

    def test_an_utterance_in_progress_is_complete_after_a_recovery(self) -> None:
        kept = sound(20 * SECOND)
        _, did = restored(agent("a", "Hello."), audio=[(0, kept)], speaking=True)
        assert appended(did) == upsampled(kept)
        assert CREATE not in did

    def test_a_last_turn_without_text_is_replayed_as_audio(self) -> None:
        """Then it gets a text, and an answer by the service itself."""
        kept = sound(2 * SECOND)
        driver, did = restored(agent("a", "Hello."), turn_without_text("b", 1000, 9000), audio=[(0, kept)])
        assert replayed(did) == [("output_text", "Hello.")]
        assert appended(did) == upsampled(kept)
        assert CREATE not in did
        assert [record.item_id for record in only(driver.memory_writer, wire.ItemUpdate) if record.deleted] == [
            "b"
        ]

    def test_so_are_several_of_them(self) -> None:
        kept = sound(2 * SECOND)
        _, did = restored(
            agent("a", "Hello."),
            turn_without_text("b", 1000, 4000),
            turn_without_text("c", 6000, 9000),
            audio=[(0, kept)],
        )
        assert replayed(did) == [("output_text", "Hello.")]
        assert appended(did) == upsampled(kept)

    def test_one_in_the_middle_is_brought_as_sound(self) -> None:
        kept = sound(2 * SECOND)
        driver, did = restored(turn_without_text("a", 1000, 5000), agent("b", "Yes."), audio=[(0, kept)])
        (kind, audio), (_, text) = replayed(did)
        assert (kind, text) == ("input_audio", "Yes.")
        codes = g711.encode_ulaw(kept)[1000:5000]
        assert base64.b64decode(audio) == upsampled(g711.decode_ulaw(codes))
        # And is not heard again; what came behind it is.
        assert appended(did) == upsampled(kept[2 * 5000 :])
        # The next session is to have it as well: its text will not come.
        (item,) = [record for record in only(driver.memory_writer, wire.ItemUpdate) if record.item_id == "a"]
        assert base64.b64decode(item.sound) == codes
        assert item.item["text_done"]

    def test_a_turn_restored_as_sound_is_restored_as_sound_again(self) -> None:
        codes = g711.encode_ulaw(sound(8000))
        item = wire.ItemUpdate(
            "a",
            item={"role": "user", "text_done": True, "span": [0, 4000]},
            sound=base64.b64encode(codes).decode(),
        )
        _, did = restored(item, agent("b", "Yes."))
        assert [kind for kind, _ in replayed(did)] == ["input_audio", "output_text"]

    def test_its_transcript_holds_up_no_other(self) -> None:
        driver, _ = restored(turn_without_text("a", 1000, 5000), agent("b", "Yes."), audio=[(0, sound(SECOND))])
        did = driver.reply("resp_1", "c", "Hello", 100, previous="b")
        did += driver.record(playout(*audio_samples(did).items()))
        assert texts(did) == [("agent", "Hello")]

    def test_positions_go_on_behind_what_was_kept(self) -> None:
        driver = restoring(agent("a", "Hello."), audio=[(80_000, sound(SECOND))])
        # The dispatcher is told before there is a session.
        positions = [driver.session.next_position_samples]
        driver.go_live()
        assert [*positions, driver.session.next_position_samples] == [88_000, 88_000]

    def test_silence_that_was_heard_again_is_not_finished_at_once(self) -> None:
        driver, _ = restored(agent("a", "Hello."), audio=[(0, bytes(SECOND * 5))])
        driver.memory_writer.clear()
        for _ in range(10):
            driver.tick(0.2)
        assert only(driver.memory_writer, wire.Finished) == []
        for _ in range(10):
            driver.tick(0.2)
        assert only(driver.memory_writer, wire.Finished)[0] == wire.Finished(4 * 8000)

    def test_where_turns_are_found_on_this_side_they_are_found_in_it(self) -> None:
        kept = sound(SECOND)
        driver = restoring(
            agent("a", "Hello."),
            audio=[(0, kept), (8000, bytes(SECOND))],
            plan={"local_silence_ms": 500},
        )
        did = driver.go_live()
        events = [event["type"] for event in only(did, dict)]
        assert events.count("input_audio_buffer.commit") == 1
        assert events[-1] == "response.create"


class TestAWelcomeThatMustNotBeInterrupted:
    PLAN: ClassVar = {"welcome": "Welcome.", "welcome_interruptible": False}

    def test_an_unsent_welcome_is_said_before_the_caller_is_heard(self) -> None:
        driver, did = restored(plan=self.PLAN, audio=[(0, sound(SECOND))])
        assert appended(did) == b""
        driver.reply("resp_1", "a", "Welcome.", 1000)
        assert not only(driver.caller(), Append)
        driver.record(playout((0, samples_8k(1010)), idle=True))
        assert only(driver.caller(), Append)

    def test_one_that_plays_is_heard_to_its_end(self) -> None:
        reply = under_way(0, "a", "Welcome.", 1000, 1000, done=True, heard_samples=samples_8k(300))
        driver, _ = restored(agent("a", "Welcome.", heard_share=None), replies=(reply,), plan=self.PLAN)
        assert not only(driver.caller(), Append)
        driver.record(playout((0, samples_8k(1000)), idle=True))
        assert only(driver.caller(), Append)

    def test_one_that_was_heard_just_before_leaves_nobody_unheard(self) -> None:
        """Of the playout no more is reported, as nothing plays."""
        reply = under_way(0, "a", "Welcome.", 1000, 1000, done=True, heard_samples=samples_8k(1000))
        driver, _ = restored(agent("a", "Welcome.", heard_share=None), replies=(reply,), plan=self.PLAN)
        driver.tick(1.0)
        assert only(driver.caller(), Append)

    def test_long_after_it_the_caller_is_heard_whatever_plays(self) -> None:
        kept = sound(SECOND)
        reply = under_way(3, "c", "one two three", 1000, 1000, done=True, heard_samples=samples_8k(300))
        _, did = restored(
            agent("a", "Welcome."),
            user("b", "Count."),
            agent("c", "one two three", heard_share=None),
            replies=(reply,),
            audio=[(8000, kept)],
            speaking=True,
            plan=self.PLAN,
        )
        assert appended(did) == upsampled(kept)


class TestTools:
    def test_one_that_may_have_run_does_not_run_again(self) -> None:
        driver, did = restored(user("a", "The weather?"), function_call("b", started=True))
        assert replayed(did)[1:] == [("function_call", "{}"), ("function_call_output", INTERRUPTED)]
        assert not only(did, wire.Tool)
        assert did.count(CREATE) == 1
        assert any(
            record.item.get("text") == INTERRUPTED for record in only(driver.memory_writer, wire.ItemUpdate)
        )

    def test_one_that_says_it_may_runs_again(self) -> None:
        driver, did = restored(
            user("a", "The weather?"),
            function_call("b", started=True),
            plan={"idempotent": frozenset({"look_up"})},
        )
        assert only(did, wire.Tool) == [wire.Tool("call_1")]
        assert CREATE not in did
        assert only(driver.record(wire.ToolKnown("call_1")), RunTool) == [RunTool("call_1", "look_up", "{}")]
        driver.session.tool_done("call_1", "sunny", driver.now)
        did = driver.take()
        assert replayed(did) == [("function_call_output", "sunny")]
        assert CREATE in did

    def test_an_idempotent_one_that_ran_twice_does_not_run_again(self) -> None:
        _, did = restored(
            user("a", "The weather?"),
            function_call("b", started=True, runs=MAX_RUNS),
            plan={"idempotent": frozenset({"look_up"})},
        )
        assert replayed(did)[1:] == [("function_call", "{}"), ("function_call_output", INTERRUPTED)]
        assert not only(did, wire.Tool)

    def test_each_run_is_remembered_before_it_begins(self) -> None:
        driver, did = restored(
            user("a", "The weather?"),
            function_call("b", started=True),
            plan={"idempotent": frozenset({"look_up"})},
        )
        assert only(did, wire.Tool) == [wire.Tool("call_1")]
        remembered = [record for record in only(driver.memory_writer, wire.ItemUpdate) if record.item_id == "b"]
        assert remembered[-1].item["runs"] == 2

    def test_an_idempotent_one_that_is_cut_off_runs_once_more(self) -> None:
        driver, did = restored(
            user("a", "The weather?"), function_call("b"), plan={"idempotent": frozenset({"look_up"})}
        )
        assert only(did, wire.Tool) == [wire.Tool("call_1")]
        driver.record(wire.ToolKnown("call_1"))
        driver.session.tool_done("call_1", "cut off", driver.now, lost=True)
        did = driver.take()
        assert only(did, wire.Tool) == [wire.Tool("call_1")]
        assert CREATE not in did
        assert only(driver.record(wire.ToolKnown("call_1")), RunTool) == [RunTool("call_1", "look_up", "{}")]
        driver.session.tool_done("call_1", "cut off", driver.now, lost=True)
        did = driver.take()
        assert replayed(did) == [("function_call_output", "cut off")]
        assert CREATE in did

    def test_an_interrupted_tool_that_is_not_idempotent_stays_ended(self) -> None:
        driver, _ = restored(user("a", "The weather?"), function_call("b"))
        driver.record(wire.ToolKnown("call_1"))
        driver.session.tool_done("call_1", "cut off", driver.now, lost=True)
        did = driver.take()
        assert replayed(did) == [("function_call_output", "cut off")]
        assert not only(did, wire.Tool)

    def test_a_tool_interrupted_before_the_session_runs_in_it(self) -> None:
        driver = restoring(
            user("a", "The weather?"),
            function_call("b", started=True),
            plan={"idempotent": frozenset({"look_up"})},
            running=frozenset({"call_1"}),
        )
        driver.session.tool_done("call_1", "cut off", driver.now, lost=True)
        assert only(driver.go_live(), wire.Tool) == [wire.Tool("call_1")]

    def test_one_that_had_not_begun_runs_now(self) -> None:
        _, did = restored(user("a", "The weather?"), function_call("b"))
        assert only(did, wire.Tool) == [wire.Tool("call_1")]
        assert CREATE not in did

    def test_one_that_runs_in_this_process_still_is_waited_for(self) -> None:
        driver, did = restored(
            user("a", "The weather?"), function_call("b", started=True), running=frozenset({"call_1"})
        )
        assert replayed(did)[-1] == ("function_call", "{}")
        assert not only(did, wire.Tool)
        assert CREATE not in did
        driver.session.tool_done("call_1", "sunny", driver.now)
        did = driver.take()
        assert replayed(did) == [("function_call_output", "sunny")]
        assert CREATE in did

    def test_and_may_end_before_the_session_is_up(self) -> None:
        driver = restoring(
            user("a", "The weather?"), function_call("b", started=True), running=frozenset({"call_1"})
        )
        driver.session.tool_done("call_1", "sunny", driver.now)
        did = driver.go_live()
        assert replayed(did)[1:] == [("function_call", "{}"), ("function_call_output", "sunny")]
        assert did.count(CREATE) == 1

    def test_one_response_follows_all_that_were_open(self) -> None:
        driver, did = restored(
            user("a", "The weather?"),
            function_call("b", "call_1", started=True),
            function_call("c", "call_2"),
            function_call("d", "call_3", started=True),
            function_output("e", "call_3"),
        )
        assert CREATE not in did
        driver.record(wire.ToolKnown("call_2"))
        driver.session.tool_done("call_2", "sunny", driver.now)
        assert driver.take().count(CREATE) == 1

    def test_a_known_hang_up_is_not_repeated_and_its_result_is_used(self) -> None:
        driver, did = restored(
            agent("a", "Goodbye."), function_call("b", name="avr_hangup"), known_commands=frozenset({"call_1"})
        )
        assert not only(did, wire.TelephonyCommand)
        did = driver.record(wire.TelephonyDone("call_1", False, "nobody answers"))
        assert replayed(did) == [("function_call_output", "nobody answers")]
        assert CREATE in did

    def test_the_result_of_a_command_may_precede_the_session(self) -> None:
        driver = restoring(
            user("a", "Sales, please."),
            function_call("b", name="avr_transfer", text=TRANSFER),
            known_commands=frozenset({"call_1"}),
        )
        driver.record(wire.TelephonyDone("call_1", False, "no such extension"))
        did = driver.go_live()
        assert replayed(did)[-1] == ("function_call_output", "no such extension")
        assert did.count(CREATE) == 1

    def test_an_order_of_a_dead_dispatcher_is_given_again(self) -> None:
        driver, did = restored(
            agent("a", "Goodbye."), function_call("b", name="avr_hangup"), known_commands=frozenset({"call_1"})
        )
        assert not only(did, wire.TelephonyCommand)
        (order,) = only(attached(driver), wire.TelephonyCommand)
        assert (order.id, order.action) == ("call_1", "hang_up")
        driver.record(wire.TelephonyDone("call_1", True, "hung up"))
        assert not only(attached(driver, epoch=4), wire.TelephonyCommand)

    def test_an_order_is_given_to_a_dispatcher_that_came_early(self) -> None:
        driver = restoring(
            user("a", "Sales, please."),
            function_call("b", name="avr_transfer", text=TRANSFER),
            known_commands=frozenset({"call_1"}),
        )
        attached(driver, seconds=1.0)
        (order,) = only(driver.go_live(), wire.TelephonyCommand)
        assert (order.id, order.extension) == ("call_1", "600")

    def test_one_that_was_promised_and_not_ordered_is_ordered_now(self) -> None:
        _, did = restored(user("a", "Sales, please."), function_call("b", name="avr_transfer", text=TRANSFER))
        (order,) = only(did, wire.TelephonyCommand)
        assert (order.id, order.action, order.extension) == ("call_1", "transfer", "600")

    def test_an_output_of_another_session_is_not_asked_for(self) -> None:
        _, did = restored(user("a", "The weather?"), function_call("b", started=True), function_output("c"))
        assert [kind for kind, _ in replayed(did)].count("function_call_output") == 1


def attached(driver: Driver, epoch: int = 3, seconds: float = 60.0) -> list[Did]:
    """Attach another dispatcher, and return what is done within this time."""
    driver.session.attached(wire.Open("uuid-1", epoch, credit_bytes=10**9, attach=True), driver.now)
    did = driver.take()
    for _ in range(round(seconds / 0.2)):
        did += driver.tick(0.2)
    return did


class TestKeys:
    def test_those_that_are_no_entry_yet_go_on_being_one(self) -> None:
        driver, did = restored(agent("a", "Your number?"), digits="12")
        assert replayed(did) == [("output_text", "Your number?")]
        did = driver.record(wire.Dtmf("#"))
        assert "12]" in replayed(did)[0][1]
        assert only(did, wire.Keyed) == [wire.Keyed(3)]

    def test_those_of_a_whole_entry_are_one(self) -> None:
        driver, did = restored(agent("a", "Your number?"), digits="12#34")
        assert "12]" in replayed(did)[1][1]
        assert only(did, wire.Keyed) == [wire.Keyed(3)]
        did = driver.tick(2.0)
        assert "34]" in replayed(did)[0][1]
        assert did.count(CREATE) == 1, "one answer covers both entries"

    def test_keys_completed_before_the_session_are_not_lost(self) -> None:
        driver = restoring(agent("a", "Your number?"))
        assert not only(driver.record(wire.Dtmf("7"), wire.Dtmf("#")), dict), "nothing can be sent before"
        did = driver.go_live()
        assert [text for _, text in replayed(did) if "7]" in text]
        assert did.count(CREATE) == 1

    def test_nor_is_it_in_a_call_that_begins(self) -> None:
        driver = Driver()
        assert not only(driver.record(wire.Dtmf("7"), wire.Dtmf("#")), dict), "nothing can be sent before"
        did = driver.go_live()
        assert [text for _, text in replayed(did) if "7]" in text]
