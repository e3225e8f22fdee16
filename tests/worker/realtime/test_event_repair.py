"""Repairs of events: each deviation of a service becomes the events that OpenAI would have sent."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.worker import api_events as api
from worker.realtime.event_repair import HELD_SECONDS, MAX_KNOWN, MAX_RESPONSES, Event, EventRepair

NOW = 100.0
PCM = bytes(480)


def repair() -> EventRepair:
    """Return a repair for a client that has put the item `ours` into the conversation."""
    return EventRepair(lambda item_id: item_id == "ours")


def fed(repaired: EventRepair, *events: Event, now_seconds: float = NOW) -> list[Event]:
    """Copies are fed: the repair may change its events."""
    return [made for event in events for made in repaired.feed(copy.deepcopy(event), now_seconds)]


def kinds(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]


def without(event: Event, *names: str) -> Event:
    return {name: value for name, value in event.items() if name not in names}


def call(call_id: str = "call_1", **fields: Any) -> dict[str, Any]:
    item = {"id": "item_f", "type": "function_call", "status": "completed", "call_id": call_id}
    return item | {"name": "look_up", "arguments": '{"city":"Rome"}'} | fields


def output(kind: str, item: dict[str, Any], response_id: str = "resp_1") -> Event:
    return {
        "type": f"response.output_item.{kind}",
        "response_id": response_id,
        "output_index": 0,
        "item": item,
    }


def arguments_done(**fields: Any) -> Event:
    event = {"type": "response.function_call_arguments.done", "response_id": "resp_1", "item_id": "item_f"}
    return event | {"call_id": "call_1", "arguments": '{"city":"Rome"}'} | fields


def called(events: list[Event]) -> list[tuple[str, str, str]]:
    """Function calls that the session sees: (response, call, arguments)."""
    items = [(event["response_id"], event["item"]) for event in events if event["type"] == DONE]
    return [(of, item["call_id"], item["arguments"]) for of, item in items if item["type"] == "function_call"]


DONE = "response.output_item.done"
ADDED = "conversation.item.added"
DELTA = "response.output_audio.delta"
ONE_CALL = [("resp_1", "call_1", '{"city":"Rome"}')]

REPLY = [
    api.response_created("resp_1"),
    output("added", api.reply_item("item_a")),
    api.item_added(api.reply_item("item_a"), "item_u"),
    api.text_delta("resp_1", "item_a", "hello "),
    api.audio_delta("resp_1", "item_a", PCM),
    api.audio_done("resp_1", "item_a"),
    api.text_done("resp_1", "item_a", "hello there"),
    output("done", api.reply_item("item_a", "completed", "hello there")),
    api.response_done("resp_1", usage=api.USAGE),
]
TURN = [
    api.speech_started("item_u", 100),
    api.speech_stopped("item_u", 900),
    api.committed("item_u", "item_0"),
    api.caller_item_added("item_u", "item_0"),
    api.transcribed("item_u", "hello"),
]
CALL = [
    api.response_created("resp_1"),
    output("added", api.function_call_item("item_f")),
    api.item_added(api.function_call_item("item_f"), "item_u"),
    arguments_done(name="look_up"),
    output("done", call()),
    api.response_done("resp_1", output=[call()]),
]


class TestCompleteSequences:
    @pytest.mark.parametrize("sequence", [TURN, CALL])
    def test_a_complete_sequence_passes_unchanged(self, sequence: list[Event]) -> None:
        assert fed(repair(), *sequence) == sequence

    def test_a_complete_reply_ends_its_audio_with_its_item(self) -> None:
        made = fed(repair(), *REPLY)
        # An item may have more parts: its end counts, not that of its first part.
        expected = [event for event in REPLY if event["type"] != "response.output_audio.done"]
        assert [event for event in made if event["type"] != "response.output_audio.done"] == expected
        (end,) = [event for event in made if event["type"] == "response.output_audio.done"]
        assert (end["response_id"], end["item_id"]) == ("resp_1", "item_a")
        assert kinds(made).index("response.output_audio.done") == kinds(made).index(DONE) + 1
        assert kinds(made)[-1] == "response.done"

    @pytest.mark.parametrize("kind", ["session.updated", "error", "rate_limits.updated", "of.next.year"])
    def test_other_events_pass_unchanged(self, kind: str) -> None:
        event = {"type": kind, "anything": 1}
        assert fed(repair(), event) == [event]

    def test_two_replies_in_a_row_stay_apart(self) -> None:
        repaired = repair()
        fed(repaired, *REPLY)
        second = fed(
            repaired,
            api.response_created("resp_2"),
            api.item_added(api.reply_item("item_b"), "item_a"),
            api.audio_delta("resp_2", "item_b", PCM),
            api.text_done("resp_2", "item_b", "again"),
        )
        assert {event.get("response_id", "resp_2") for event in second} == {"resp_2"}
        assert second[-1]["transcript"] == "again"


class TestReplies:
    def test_a_missing_item_added_is_inserted_once(self) -> None:
        made = fed(
            repair(),
            api.response_created("resp_1"),
            api.audio_delta("resp_1", "item_a", PCM),
            api.audio_delta("resp_1", "item_a", PCM),
        )
        assert kinds(made) == ["response.created", ADDED, DELTA, DELTA]
        item = made[1]["item"]
        assert (item["id"], item["role"], item["status"]) == ("item_a", "assistant", "in_progress")

    def test_item_added_behind_its_audio_is_not_repeated(self) -> None:
        repaired = repair()
        fed(repaired, api.response_created("resp_1"), api.audio_delta("resp_1", "item_a", PCM))
        assert fed(repaired, api.item_added(api.reply_item("item_a"))) == []

    def test_a_deleted_item_may_be_added_again(self) -> None:
        repaired = repair()
        fed(repaired, *REPLY, {"type": "conversation.item.deleted", "item_id": "item_a"})
        assert kinds(fed(repaired, api.item_added(api.reply_item("item_a", "completed", "hello")))) == [ADDED]

    @pytest.mark.parametrize("kind", ["response.output_audio.delta", "response.output_audio_transcript.delta"])
    def test_missing_ids_are_of_the_current_item(self, kind: str) -> None:
        repaired = repair()
        fed(repaired, api.response_created("resp_1"), output("added", api.reply_item("item_a")))
        *_, made = fed(repaired, {"type": kind, "delta": ""})
        assert (made["response_id"], made["item_id"], made["content_index"]) == ("resp_1", "item_a", 0)

    def test_audio_of_an_unknown_item_gets_an_id(self) -> None:
        made = fed(
            repair(), api.response_created("resp_1"), {"type": DELTA, "delta": ""}, {"type": DELTA, "delta": ""}
        )
        assert kinds(made) == ["response.created", ADDED, DELTA, DELTA]
        assert made[1]["item"]["id"] == made[2]["item_id"] == made[3]["item_id"]

    def test_responses_without_ids_get_different_ones(self) -> None:
        repaired = repair()
        made = fed(repaired, {"type": "response.created", "response": {}})
        ended = fed(repaired, {"type": "response.done", "response": {"status": "completed"}})
        other = fed(repaired, {"type": "response.created", "response": {}})
        first_id = made[0]["response"]["id"]
        assert first_id
        assert ended[0]["response"]["id"] == first_id
        assert other[0]["response"]["id"] not in ("", first_id)

    def test_text_of_two_audio_parts_is_joined(self) -> None:
        first = api.text_done("resp_1", "item_a", "one ")
        second = api.text_done("resp_1", "item_a", "two") | {"content_index": 1}
        made = fed(
            repair(), api.response_created("resp_1"), api.item_added(api.reply_item("item_a")), first, second
        )
        assert [event["transcript"] for event in made[2:]] == ["one", "one two"]

    def test_the_end_of_one_part_does_not_end_the_item(self) -> None:
        made = fed(
            repair(),
            api.response_created("resp_1"),
            api.audio_delta("resp_1", "item_a", PCM),
            api.audio_done("resp_1", "item_a"),
            api.audio_delta("resp_1", "item_a", PCM) | {"content_index": 1},
        )
        assert kinds(made) == ["response.created", ADDED, DELTA, DELTA]


class TestEarlyResponseDone:
    def begun(self) -> EventRepair:
        repaired = repair()
        fed(repaired, api.response_created("resp_1"), api.audio_delta("resp_1", "item_a", PCM))
        assert fed(repaired, api.response_done("resp_1")) == []
        return repaired

    def test_response_done_waits_for_the_end_of_audio(self) -> None:
        repaired = self.begun()
        assert kinds(fed(repaired, api.audio_delta("resp_1", "item_a", PCM))) == [DELTA]
        assert kinds(fed(repaired, api.audio_done("resp_1", "item_a"))) == ["response.done"]
        assert repaired.tick(NOW + 10) == []

    def test_response_done_waits_for_half_a_second(self) -> None:
        repaired = self.begun()
        assert repaired.tick(NOW + HELD_SECONDS - 0.01) == []
        assert kinds(repaired.tick(NOW + HELD_SECONDS)) == ["response.done"]
        assert repaired.tick(NOW + 10) == []

    @pytest.mark.parametrize("event", [api.response_created("resp_2"), api.speech_started("item_u")])
    def test_held_response_done_comes_before_what_follows(self, event: Event) -> None:
        assert kinds(fed(self.begun(), event)) == ["response.done", event["type"]]

    @pytest.mark.parametrize("status", ["failed", "cancelled", "incomplete"])
    def test_the_end_of_a_failed_response_does_not_wait(self, status: str) -> None:
        repaired = repair()
        fed(repaired, api.response_created("resp_1"), api.audio_delta("resp_1", "item_a", PCM))
        assert kinds(fed(repaired, api.response_done("resp_1", status))) == ["response.done"]

    def test_two_items_end_before_the_response_does(self) -> None:
        repaired = repair()
        fed(
            repaired,
            api.response_created("resp_1"),
            api.audio_delta("resp_1", "item_a", PCM),
            api.audio_delta("resp_1", "item_b", PCM),
            api.response_done("resp_1"),
        )
        assert fed(repaired, api.audio_done("resp_1", "item_a")) == []
        assert kinds(fed(repaired, api.audio_done("resp_1", "item_b"))) == ["response.done"]


class TestFunctionCalls:
    def test_a_call_only_in_arguments_done_is_made(self) -> None:
        made = fed(
            repair(), api.response_created("resp_1"), arguments_done(name="look_up"), api.response_done("resp_1")
        )
        assert called(made) == ONE_CALL
        assert kinds(made)[-2:] == [DONE, "response.done"]

    def test_its_name_may_come_from_the_announced_item(self) -> None:
        made = fed(
            repair(),
            api.response_created("resp_1"),
            output("added", api.function_call_item("item_f")),
            arguments_done(),
            api.response_done("resp_1"),
        )
        assert called(made) == ONE_CALL
        assert [event["item"]["name"] for event in made if event["type"] == DONE] == ["look_up"]

    def test_a_call_without_any_name_is_no_call(self) -> None:
        assert called(fed(repair(), arguments_done(), api.response_done("resp_1"))) == []

    def test_a_call_only_in_response_done_is_made(self) -> None:
        made = fed(repair(), api.response_created("resp_1"), api.response_done("resp_1", output=[call()]))
        assert called(made) == ONE_CALL
        assert kinds(made)[-2:] == [DONE, "response.done"]

    @pytest.mark.parametrize("twice", [4, 5])
    def test_a_call_that_comes_everywhere_is_made_once(self, twice: int) -> None:
        made = fed(repair(), *CALL[:twice], *CALL[4:5], *CALL[4:])
        assert called(made) == ONE_CALL

    def test_two_calls_of_one_response_are_both_made(self) -> None:
        both = [call("call_1"), call("call_2", id="item_g")]
        made = fed(repair(), api.response_created("resp_1"), api.response_done("resp_1", output=both))
        assert [call_id for _, call_id, _ in called(made)] == ["call_1", "call_2"]

    @pytest.mark.parametrize("status", ["incomplete", "failed", "cancelled"])
    def test_arguments_of_a_failed_response_are_no_call(self, status: str) -> None:
        done = api.response_done("resp_1", status, output=[call(status="incomplete")])
        assert called(fed(repair(), arguments_done(name="look_up"), done)) == []

    def test_an_incomplete_call_may_come_whole_later(self) -> None:
        repaired = repair()
        fed(repaired, output("done", call(status="incomplete", arguments="{")))
        assert called(fed(repaired, output("done", call()))) == ONE_CALL

    def test_calls_are_of_their_own_response(self) -> None:
        repaired = repair()
        fed(
            repaired,
            api.response_created("resp_1"),
            arguments_done(name="look_up"),
            api.response_created("resp_2"),
        )
        made = fed(repaired, api.response_done("resp_2"), api.response_done("resp_1"))
        assert kinds(made) == ["response.done", DONE, "response.done"]
        assert called(made) == ONE_CALL


class TestTurns:
    def test_a_missing_commit_is_inserted_before_the_item(self) -> None:
        made = fed(repair(), *TURN[:2], *TURN[3:])
        assert kinds(made) == kinds(TURN)
        assert (made[2]["item_id"], made[2]["previous_item_id"]) == ("item_u", "item_0")

    @pytest.mark.parametrize("odd", [7, ["item_0"], {}, "x" * 10_000])
    def test_a_place_that_is_none_does_not_cost_the_turn(self, odd: object) -> None:
        added = TURN[3] | {"previous_item_id": odd}
        made = fed(repair(), *TURN[:2], added)
        assert made[2] == {"type": "input_audio_buffer.committed", "item_id": "item_u", "previous_item_id": None}

    def test_a_missing_item_and_commit_come_with_the_text(self) -> None:
        made = fed(repair(), *TURN[:2], TURN[4])
        assert kinds(made)[2:] == ["input_audio_buffer.committed", TURN[4]["type"]]

    def test_a_transcript_before_its_commit_comes_behind_it(self) -> None:
        made = fed(repair(), *TURN[:2], TURN[4], TURN[2])
        committed = "input_audio_buffer.committed"
        assert kinds(made)[2:] == [committed, TURN[4]["type"]]

    def test_a_late_transcript_of_an_older_turn_commits_nothing(self) -> None:
        repaired = repair()
        fed(repaired, *TURN[:4])
        assert kinds(fed(repaired, TURN[4])) == [TURN[4]["type"]]

    def test_a_transcript_of_an_unknown_item_commits_nothing(self) -> None:
        repaired = repair()
        stranger = api.transcribed("item_x", "hello")
        assert fed(repaired, stranger) == [stranger]
        # This turn ends with its item, for want of a commit.
        fed(repaired, *TURN[:2], TURN[3])
        assert fed(repaired, stranger) == [stranger]

    def test_a_second_commit_of_a_turn_is_left_out(self) -> None:
        assert kinds(fed(repair(), *TURN[:3], TURN[2])) == kinds(TURN[:3])

    def test_a_turn_without_any_ids_is_one_turn(self) -> None:
        bare = [without(event, "item_id") for event in (*TURN[:3], TURN[4])]
        made = fed(repair(), *bare)
        assert kinds(made) == kinds(bare)
        assert len({event["item_id"] for event in made}) == 1
        assert made[0]["item_id"]

    def test_turns_without_ids_get_different_ones(self) -> None:
        bare = [without(event, "item_id") for event in TURN[:3]]
        repaired = repair()
        assert fed(repaired, *bare)[0]["item_id"] != fed(repaired, *bare)[0]["item_id"]

    def test_an_item_of_ours_is_no_turn(self) -> None:
        item = {"id": "ours", "type": "message", "role": "user", "content": [{"type": "input_audio"}]}
        assert kinds(fed(repair(), api.item_added(item))) == [ADDED]

    def test_an_item_of_text_alone_is_no_turn(self) -> None:
        item = {"id": "text", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
        assert kinds(fed(repair(), {"type": ADDED, "item": item})) == [ADDED]


class TestRemoteTools:
    MCP = {"id": "mcp_1", "type": "mcp_call", "name": "x", "server_label": "y", "arguments": "{}"}  # noqa: RUF012
    END = {"type": "response.mcp_call.completed", "item_id": "mcp_1"}  # noqa: RUF012

    @pytest.mark.parametrize("ending", [{"output": "42"}, {"error": {"type": "http_error"}}])
    def test_a_call_that_ends_with_its_item_has_ended(self, ending: dict[str, Any]) -> None:
        made = fed(repair(), output("done", self.MCP | ending))
        assert kinds(made) == [DONE, "response.mcp_call.completed"]
        assert made[1]["item_id"] == "mcp_1"

    def test_conversation_item_done_ends_a_call_too(self) -> None:
        made = fed(repair(), {"type": "conversation.item.done", "item": self.MCP | {"output": "42"}})
        assert kinds(made) == ["conversation.item.done", "response.mcp_call.completed"]

    def test_an_item_without_result_has_not_ended(self) -> None:
        assert kinds(fed(repair(), output("done", self.MCP))) == [DONE]

    @pytest.mark.parametrize("kind", ["completed", "failed"])
    def test_a_call_ends_once(self, kind: str) -> None:
        repaired = repair()
        assert len(fed(repaired, self.END | {"type": f"response.mcp_call.{kind}"})) == 1
        assert fed(repaired, self.END) == []
        assert kinds(fed(repaired, output("done", self.MCP | {"output": "42"}))) == [DONE]


class TestBounds:
    def test_memory_of_items_and_calls_is_bounded(self) -> None:
        repaired = repair()
        for number in range(3 * MAX_KNOWN):
            name = f"{number}"
            fed(
                repaired,
                api.response_created(name),
                output("added", api.function_call_item(f"f{name}"), name),
                arguments_done(response_id=name, call_id=f"a{name}", name="look_up"),
                output("done", call(f"c{name}", id=f"f{name}"), name),
                api.audio_delta(name, name, b""),
                api.text_done(name, name, "x"),
                api.speech_started(f"u{name}"),
                api.committed(f"u{name}"),
                {"type": "response.mcp_call.completed", "item_id": name},
            )
        known = ("_known", "_committed", "_texts", "_called", "_remote_ended", "_names")
        assert {name: len(getattr(repaired, name)) for name in known} == dict.fromkeys(known, MAX_KNOWN)
        for name in ("_item_of", "_sounding", "_arguments"):
            assert len(getattr(repaired, name)) <= MAX_RESPONSES + 1

    def test_arguments_of_one_response_are_bounded(self) -> None:
        repaired = repair()
        for number in range(2 * MAX_KNOWN):
            fed(repaired, arguments_done(call_id=f"call_{number}", name="look_up"))
        assert len(called(fed(repaired, api.response_done("resp_1")))) == MAX_KNOWN

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "response.created", "response": {"id": 1}},
            api.audio_delta("resp_1", "item_a", PCM) | {"item_id": 7},
            api.audio_delta("resp_1", "item_a", PCM) | {"content_index": "0"},
            output("done", call(name=None)),
            output("done", call(arguments={"city": "Rome"})),
            TURN[0] | {"item_id": ["a"]},
            {"type": "response.done", "response": None},
        ],
    )
    def test_an_event_of_another_shape_is_refused(self, event: Event) -> None:
        repaired = repair()
        with pytest.raises((KeyError, TypeError, AttributeError)):
            fed(repaired, event)
        # The next reply is whole.
        assert kinds(fed(repaired, *REPLY))[-1] == "response.done"
