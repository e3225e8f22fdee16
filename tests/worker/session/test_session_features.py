"""Tools, keys, welcome messages, silence and commands of the calls API in a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from common.audio.wav import read_wav
from common.link import wire
from common.settings.extensions import TransferRule
from common.settings.openai_fields import TurnDetection
from common.settings.settings import Settings
from tests.worker import api_events as api
from tests.worker.session_driver import CREATE, Append, Driver, live, only, pcm_24k, playout
from worker.realtime.errors import NO_RESPONSE_ACTIVE
from worker.session.actions import Answer, Configured, Measurement, Metric, RunTool
from worker.session.agent.answering import RESPONSE_END_SECONDS
from worker.session.agent.function_calls import MAX_LOGGED_REFUSALS
from worker.session.memory.checkpoint import Checkpoint
from worker.session.states import State

WEATHER = ("call_1", "get_weather", '{"city": "Rome"}')


def _function_call(response_id: str, call_id: str, name: str, arguments: str) -> api.Event:
    item = {
        "id": f"item_{call_id}",
        "object": "realtime.item",
        "type": "function_call",
        "status": "completed",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }
    return api.event("response.output_item.done", response_id=response_id, output_index=0, item=item)


def _output(number: int, call_id: str, output: str) -> dict[str, Any]:
    """Return the session's item of this number that it made itself."""
    item = {
        "id": f"avr_1_{number}",
        "type": "function_call_output",
        "call_id": call_id,
        "output": output,
    }
    return {"type": "conversation.item.create", "item": item}


def _done(driver: Driver, call_id: str, output: str) -> list[Any]:
    driver.session.tool_done(call_id, output, driver.now)
    return driver.take()


# Tools


def test_a_tool_runs_at_once_and_is_answered_after_the_response() -> None:
    driver = live()
    driver.event(api.response_created("resp_1"))
    # Not before the dispatcher knows that it may have run.
    assert driver.event(_function_call("resp_1", *WEATHER)) == [wire.Tool("call_1")]
    assert driver.record(wire.ToolKnown("call_1")) == [RunTool(*WEATHER)]
    assert driver.record(wire.ToolKnown("call_1"), wire.ToolKnown("call_9")) == []
    assert _done(driver, "call_1", "sunny") == [_output(1, "call_1", "sunny")]
    assert CREATE in driver.event(api.response_done("resp_1"))


def test_a_tool_is_recorded_as_started_before_it_runs() -> None:
    driver = live()
    driver.event(api.response_created("resp_1"))
    driver.memory_writer.clear()
    driver.event(_function_call("resp_1", *WEATHER))
    (remembered,) = only(driver.memory_writer, wire.ItemUpdate)
    assert remembered.item == {
        "kind": "function_call",
        "call_id": "call_1",
        "name": "get_weather",
        "text": '{"city": "Rome"}',
        "started": True,
        "runs": 1,
        "reported": True,
    }


def test_one_response_answers_all_tools_of_a_response() -> None:
    driver = live()
    driver.event(api.response_created("resp_1"))
    for number in range(3):
        driver.event(_function_call("resp_1", f"call_{number}", "lookup", "{}"))
    assert CREATE not in driver.event(api.response_done("resp_1"))
    assert CREATE not in _done(driver, "call_2", "c")
    assert CREATE not in _done(driver, "call_0", "a")
    assert _done(driver, "call_1", "b") == [_output(3, "call_1", "b"), CREATE]


def test_a_tool_ending_during_speech_is_answered_with_the_turn() -> None:
    driver = live()
    driver.event(api.response_created("resp_1"))
    driver.event(_function_call("resp_1", *WEATHER), api.response_done("resp_1"))
    driver.event(api.speech_started("item_2"))
    assert _done(driver, "call_1", "sunny") == [_output(1, "call_1", "sunny")]


def test_a_repeated_or_unknown_tool_result_is_not_sent() -> None:
    driver = live()
    driver.event(api.response_created("resp_1"), _function_call("resp_1", *WEATHER))
    _done(driver, "call_1", "sunny")
    assert _done(driver, "call_1", "rainy") == []
    assert _done(driver, "call_9", "rainy") == []


def test_a_call_that_was_cut_off_is_not_run() -> None:
    driver = live()
    driver.event(api.response_created("resp_1"))
    cut = _function_call("resp_1", *WEATHER)
    cut["item"]["status"] = "incomplete"
    assert not only(driver.event(cut), RunTool)


def test_a_hang_up_follows_the_last_words_of_its_response() -> None:
    driver = live(credit_bytes=1600)
    driver.event(api.response_created("resp_1"), _function_call("resp_1", "call_1", "avr_hangup", "{}"))
    driver.event(
        api.item_added(api.reply_item("item_1")),
        api.text_delta("resp_1", "item_1", "Goodbye"),
        api.audio_delta("resp_1", "item_1", pcm_24k(500)),
        api.audio_done("resp_1", "item_1"),
    )
    assert not only(driver.event(api.response_done("resp_1")), wire.TelephonyCommand)  # its words wait for credit
    did = driver.credit(100_000)
    assert isinstance(did[-1], wire.TelephonyCommand)
    assert did[-1].action == wire.TelephonyAction.HANG_UP
    assert isinstance(did[-2], wire.ReplyItemDone)


def test_an_order_survives_a_barge_in() -> None:
    driver = live(credit_bytes=1600)
    driver.reply("resp_1", "item_1", "Goodbye", 500, done=False)
    driver.event(_function_call("resp_1", "call_1", "avr_hangup", "{}"), api.response_done("resp_1"))
    did = driver.event(api.speech_started("item_2"))
    assert [type(one) for one in did] == [wire.Flush, wire.TelephonyCommand]


@pytest.mark.parametrize(
    ("ok", "answered"),
    [(True, False), (False, True)],
    ids=["it worked: the call is on its way out", "it failed: the model says so"],
)
def test_what_came_of_a_transfer_is_the_tools_output(ok: bool, answered: bool) -> None:
    driver = live()
    driver.event(api.response_created("resp_1"))
    arguments = orjson.dumps({"transfer_extension": "600"}).decode()
    driver.event(_function_call("resp_1", "call_1", "avr_transfer", arguments))
    (order,) = only(driver.event(api.response_done("resp_1")), wire.TelephonyCommand)
    assert (order.action, order.extension) == (wire.TelephonyAction.TRANSFER, "600")
    assert order.id == "call_1"
    did = driver.record(wire.TelephonyDone(order.id, ok, "what avr-ami says"))
    assert did[0] == _output(1, "call_1", "what avr-ami says")
    assert (CREATE in did) is answered


def test_wrong_arguments_of_a_transfer_are_told_to_the_model() -> None:
    driver = live()
    driver.event(api.response_created("resp_1"))
    (output,) = only(driver.event(_function_call("resp_1", "call_1", "avr_transfer", "{}")), dict)
    assert "transfer_extension" in output["item"]["output"]
    assert CREATE in driver.event(api.response_done("resp_1"))


def _asked_to_transfer(
    driver: Driver, extension: str, number: int = 1, more: dict[str, str] | None = None
) -> tuple[str, list[Any]]:
    """Have the model ask for a transfer; return the function's output, and the orders to the dispatcher."""
    response_id, call_id = f"resp_{number}", f"call_{number}"
    driver.event(api.response_created(response_id))
    arguments = orjson.dumps({"transfer_extension": extension, **(more or {})}).decode()
    did = driver.event(_function_call(response_id, call_id, "avr_transfer", arguments))
    did += driver.event(api.response_done(response_id))
    outputs = [one["item"]["output"] for one in only(did, dict) if one["type"] == "conversation.item.create"]
    return "".join(outputs), only(did, wire.TelephonyCommand)


@pytest.mark.parametrize(
    ("extension", "more", "entry"),
    [
        ("+3902123456", {}, "+3902123456@demo"),
        ("0044123456789", {}, "0044123456789@demo"),
        ("600", {"transfer_context": "from-internal"}, "600@from-internal"),
        ("*98", {}, "*98@demo"),
    ],
)
def test_a_transfer_to_the_outside_is_refused_and_logged(extension: str, more: dict[str, str], entry: str) -> None:
    driver = live()
    with capture_logs() as lines:
        output, orders = _asked_to_transfer(driver, extension, more=more)
    assert orders == []
    assert output.startswith("refused: ")
    assert "the operator of this service" in output
    (line,) = lines
    assert (line["event"], line["entry"], line["uuid"]) == ("transfer refused", entry, driver.session.uuid)
    assert line["hint"] == f"set TRANSFER_ALLOWED=internal,{entry}"


def test_a_transfer_that_the_operator_allows_is_made() -> None:
    driver = live(transfers=TransferRule("demo", ("internal", "_+39X.@out")))
    output, (order,) = _asked_to_transfer(driver, "+39 02 123", more={"transfer_context": "out"})
    assert (output, order.extension, order.context) == ("", "+3902123", "out")


def test_a_transfer_goes_to_the_context_of_the_settings() -> None:
    driver = live(transfers=TransferRule("from-internal"))
    _, (order,) = _asked_to_transfer(driver, "600")
    assert (order.extension, order.context) == ("600", "from-internal")


def test_refused_transfers_are_logged_once_each_up_to_a_bound() -> None:
    driver = live()
    with capture_logs() as lines:
        for number in range(2 * MAX_LOGGED_REFUSALS):
            extension = str(1_000_000 + max(1, number))
            output, _ = _asked_to_transfer(driver, extension, number)
            assert output.startswith("refused: ")
    assert len(lines) == MAX_LOGGED_REFUSALS
    assert len({line["entry"] for line in lines}) == MAX_LOGGED_REFUSALS


@pytest.mark.parametrize("ending", ["completed", "failed"])
@pytest.mark.parametrize("response_first", [True, False])
def test_a_response_is_requested_after_a_remote_tool(ending: str, response_first: bool) -> None:
    driver = live()
    driver.event(api.response_created("resp_1"))
    item = {"id": "mcp_1", "type": "mcp_call", "server_label": "crm", "name": "find", "arguments": "{}"}
    driver.event(api.event("response.output_item.added", response_id="resp_1", output_index=0, item=item))
    over = api.event(f"response.mcp_call.{ending}", item_id="mcp_1", output_index=0)
    events = [api.response_done("resp_1"), over] if response_first else [over, api.response_done("resp_1")]
    assert CREATE not in driver.event(events[0])
    assert CREATE in driver.event(events[1])


@pytest.mark.parametrize(("server", "approve"), [("crm", True), ("other", False)])
def test_remote_tool_is_approved_by_the_settings_alone(server: str, approve: bool) -> None:
    driver = live(approved_servers=frozenset({"crm"}))
    driver.event(api.response_created("resp_1"))
    item = {
        "id": "ask_1",
        "type": "mcp_approval_request",
        "server_label": server,
        "name": "find",
        "arguments": "{}",
    }
    (answer,) = only(
        driver.event(api.event("response.output_item.done", response_id="resp_1", output_index=0, item=item)), dict
    )
    assert answer["item"] | {"id": ""} == {
        "id": "",
        "type": "mcp_approval_response",
        "approval_request_id": "ask_1",
        "approve": approve,
    }
    # The model goes on with the tool's output, or without it.
    assert CREATE in driver.event(api.response_done("resp_1"))


def test_a_remote_server_without_tools_is_counted() -> None:
    driver = live()
    did = driver.event(api.event("mcp_list_tools.failed", item_id="list_1"))
    assert did == [Measurement(Metric.SIDE_ERROR, label="mcp_list_tools_failed")]
    assert driver.session.state is State.LIVE


# Keys


def _entry(number: int, keys: str) -> dict[str, Any]:
    text = f"[The caller pressed these keys on the telephone: {keys}]"
    item = {
        "id": f"avr_1_{number}",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": text}],
    }
    return {"type": "conversation.item.create", "item": item}


def test_keys_are_one_message_that_is_answered() -> None:
    driver = live()
    driver.reply("resp_1", "item_1", "Enter your number", 100)
    driver.record(playout((0, 10**6)))
    assert [driver.record(wire.Dtmf(key)) for key in "12"] == [[], []]
    # The dispatcher need not keep these three any more.
    assert driver.record(wire.Dtmf("#")) == [_entry(1, "12"), wire.Keyed(3), CREATE]
    assert [driver.record(wire.Dtmf(key)) for key in "3#"] == [[], [_entry(2, "3"), wire.Keyed(2)]]


def test_what_was_keyed_comes_back_from_the_service_and_is_known() -> None:
    driver = live()
    driver.record(wire.Dtmf("1"), wire.Dtmf("#"))
    items = len(driver.session.conversation)
    item = {"id": "avr_1_1", "type": "message", "role": "user", "status": "completed"}
    content = [{"type": "input_text", "text": "[...]"}]
    driver.event(api.item_added(item | {"content": content}, None))
    assert len(driver.session.conversation) == items


def test_keys_without_an_end_are_a_message_when_no_more_come() -> None:
    driver = live()
    driver.reply("resp_1", "item_1", "Enter your number", 100)
    driver.record(playout((0, 10**6)))
    driver.record(wire.Dtmf("7"))
    assert driver.tick(1.4) == []
    assert driver.tick(0.2) == [_entry(1, "7"), wire.Keyed(1), CREATE]


def test_the_first_key_stops_the_agent() -> None:
    driver = live()
    driver.reply("resp_1", "item_1", "Press one for", 500, done=False)
    did = driver.record(wire.Dtmf("1"))
    assert did == [{"type": "response.cancel", "response_id": "resp_1"}, wire.Flush(1)]
    assert driver.record(wire.Dtmf("2")) == []


@pytest.mark.parametrize("refused", [True, False])
def test_keys_are_answered_where_the_end_of_the_reply_was_lost(refused: bool) -> None:
    driver = live()
    driver.reply("resp_1", "item_1", "Enter your number", 1000, done=False)
    assert {"type": "response.cancel", "response_id": "resp_1"} in driver.record(wire.Dtmf("1"))
    assert CREATE not in driver.record(wire.Dtmf("#"))
    if refused:
        assert CREATE in driver.event(api.error(NO_RESPONSE_ACTIVE))
    else:
        assert CREATE not in driver.tick(RESPONSE_END_SECONDS - 0.1)
        assert CREATE in driver.tick(0.1) + driver.tick(0.1)


def test_a_key_before_a_requested_response_cancels_it() -> None:
    driver = live()
    driver.record(wire.Dtmf("1"))
    did = driver.event(api.response_created("resp_1"))
    assert {"type": "response.cancel", "response_id": "resp_1"} in did


# Welcome


def test_a_welcome_message_is_asked_for_word_for_word() -> None:
    driver = Driver(welcome='Welcome to "Rossi & Sons".')
    (create,) = only(driver.go_live(), dict)
    assert create["type"] == "response.create"
    assert orjson.dumps('Welcome to "Rossi & Sons".').decode() in create["response"]["instructions"]


def test_input_is_muted_during_an_uninterruptible_welcome() -> None:
    driver = Driver(welcome="Welcome.", welcome_interruptible=False)
    driver.go_live()
    assert not only(driver.caller(), Append)
    driver.reply("resp_1", "item_1", "Welcome.", 1000)
    assert not only(driver.caller(), Append)
    assert driver.record(wire.Dtmf("1")) == []  # nor does a key stop it
    driver.record(playout((0, 8030)))
    assert only(driver.caller(), Append)


def test_a_welcome_that_failed_does_not_leave_the_caller_unheard() -> None:
    driver = Driver(welcome="Welcome.", welcome_interruptible=False)
    driver.go_live()
    driver.event(api.response_created("resp_1"), api.response_done("resp_1", status="failed"))
    assert only(driver.caller(), Append)


# Silence, and calls without an end


def test_an_abandoned_call_is_hung_up_once() -> None:
    driver = live(silence_hangup_seconds=30.0)
    driver.reply("resp_1", "item_1", "Hello?", 100)
    driver.record(playout((0, 10**6), idle=True))
    assert not only(driver.tick(29.0), wire.TelephonyCommand)
    driver.turn("item_2")
    driver.reply("resp_2", "item_3", "Yes?", 100)
    driver.record(playout((1, 10**6), idle=True))
    assert not only(driver.tick(20.0), wire.TelephonyCommand)
    (order,) = only(driver.tick(11.0), wire.TelephonyCommand)
    assert order.action == wire.TelephonyAction.HANG_UP
    assert not only(driver.tick(60.0), wire.TelephonyCommand)


def test_a_dispatcher_with_filler_gets_awaiting_records() -> None:
    driver = Driver(opening={"filler": True})
    told = only(driver.go_live(), wire.Awaiting)
    told += only(driver.reply("resp_1", "item_1", "Hello", 100), wire.Awaiting)
    # It is told again when the session is live, because it relies on nothing before READY.
    assert told == [wire.Awaiting(True), wire.Awaiting(True), wire.Awaiting(False)]
    # Nothing is played into the caller's words.
    assert not only(driver.event(api.speech_started("item_a")), wire.Awaiting)
    did = driver.event(api.speech_stopped("item_a", 0), api.committed("item_a"))
    assert only(did, wire.Awaiting) == [wire.Awaiting(True)]
    assert only(driver.event(api.speech_started("item_b")), wire.Awaiting) == [wire.Awaiting(False)]


def test_dispatcher_without_filler_is_not_told_of_it() -> None:
    driver = Driver()
    assert not only(driver.go_live() + driver.turn("item_a", "Well?"), wire.Awaiting)


def test_the_maximum_length_counts_from_the_calls_beginning() -> None:
    driver = live(max_call_seconds=600.0)
    driver.reply("resp_1", "item_1", "Hello", 100)
    assert not only(driver.tick(599.0), wire.TelephonyCommand)
    assert only(driver.tick(2.0), wire.TelephonyCommand)


# Turns that are found on this side


def test_without_the_apis_detection_turns_are_committed_here() -> None:
    settings = Settings(openai_turn_detection=TurnDetection.NONE)
    driver = live(settings=settings, local_silence_ms=500)
    driver.reply("resp_1", "item_1", "Hello", 200)
    driver.record(playout((0, 10**6), idle=True))
    speech = read_wav(Path("simulator/speech/caller.wav"))
    did: list[Any] = []
    for start in range(0, len(speech), 320):
        did += driver.caller(speech[start : start + 320])
        if any(event["type"] == "response.create" for event in only(did[-2:], dict)):
            driver.reply(f"resp_{start}", f"item_{start}", "Yes", 100)
    assert [one["type"] for one in only(did, dict)] == ["input_audio_buffer.commit", "response.create"] * 2
    appended_ms = sum(len(one.pcm) for one in only(did, Append)) / 48
    spoken_ms = len(speech) / 16
    assert 0.3 * spoken_ms < appended_ms < 0.9 * spoken_ms, "what is between the turns does not go upstream"


def _speech_parts(driver: Driver) -> list[str]:
    """Have the caller say two sentences; return the types of the events to the API, appended audio aside."""
    speech = read_wav(Path("simulator/speech/caller.wav"))
    did: list[Any] = []
    for start in range(0, len(speech), 320):
        did += driver.caller(speech[start : start + 320])
        if any(event["type"] == "response.create" for event in only(did[-2:], dict)):
            driver.reply(f"resp_{start}", f"item_{start}", "Yes", 100)
    return [one["type"] for one in only(did, dict)]


def _changed(driver: Driver, **turn_detection: Any) -> list[Any]:
    """Change the turn detection by the calls API; without fields it is turned off."""
    change = {"audio": {"input": {"turn_detection": turn_detection or None}}}
    return _command(driver, "session", change) + driver.event(api.session_updated())


HERE = ["input_audio_buffer.commit", "response.create"]


def test_turns_are_found_here_after_detection_is_turned_off() -> None:
    driver = live()
    driver.reply("resp_1", "item_1", "Hello", 200)
    driver.record(playout((0, 10**6), idle=True))
    _changed(driver)
    assert _speech_parts(driver) == HERE * 2
    _changed(driver, type="server_vad")
    assert _speech_parts(driver) == []


def test_turns_are_left_to_the_api_after_detection_is_turned_on() -> None:
    driver = live(settings=Settings(openai_turn_detection=TurnDetection.NONE), local_silence_ms=500)
    driver.reply("resp_1", "item_1", "Hello", 200)
    driver.record(playout((0, 10**6), idle=True))
    _changed(driver, type="server_vad")
    assert _speech_parts(driver) == []
    driver.turn("item_9", "Hello?")
    _changed(driver)
    assert _speech_parts(driver) == HERE * 2


def test_a_turn_under_way_is_ended_when_its_detection_changes() -> None:
    driver = live()
    driver.reply("resp_1", "item_1", "Hello", 200)
    driver.event(api.speech_started("item_2"))
    did = _changed(driver)
    # The API would not report the end of that speech any more.
    assert [one["type"] for one in only(did, dict)] == ["session.update", *HERE]


# Commands of the calls API


def _command(driver: Driver, action: str, body: dict[str, Any] | None = None) -> list[Any]:
    driver.session.command(5, action, body or {}, driver.now)
    return driver.take()


def test_a_change_of_the_session_gets_the_apis_answer() -> None:
    driver = live()
    (update,) = _command(driver, "session", {"instructions": "Speak Italian."})
    assert update["session"] == {"type": "realtime", "instructions": "Speak Italian."}
    # And the call's next session is to be like it.
    assert driver.event(api.session_updated()) == [
        Configured({"instructions": "Speak Italian."}),
        Answer(5, 200, {}),
    ]


def test_a_change_that_the_service_refuses_is_answered_so() -> None:
    driver = live()
    (update,) = _command(driver, "session", {"max_output_tokens": 5})
    error = {"type": "invalid_request_error", "code": "invalid_value", "message": "no", "param": None}
    did = driver.event(api.event("error", error=error | {"event_id": update["event_id"]}))
    (answer,) = only(did, Answer)
    assert (answer.number, answer.status) == (5, 422)
    assert driver.session.state is State.LIVE


def test_the_agent_says_what_it_is_told_to_when_it_has_finished() -> None:
    driver = live()
    driver.reply("resp_1", "item_1", "Hello", 100, done=False)
    assert _command(driver, "say", {"text": "One moment."}) == [Answer(5, 200, {})]
    (create,) = only(driver.reply_done("resp_1", "item_1", "Hello"), dict)
    assert "One moment." in create["response"]["instructions"]


@pytest.mark.parametrize(("action", "body"), [("say", {"text": "Hi"}), ("session", {"instructions": "Hi"})])
def test_commands_before_there_is_a_session_are_refused(action: str, body: dict[str, Any]) -> None:
    (answer,) = only(_command(Driver(), action, body), Answer)
    assert (answer.status, answer.body) == (409, {"error": "the call has no session yet: try again"})


def test_standby_session_does_not_end_the_call() -> None:
    driver = Driver(checkpoint=Checkpoint(standby=True))
    driver.take()
    (answer,) = _command(driver, "hang_up")
    assert (answer.number, answer.status) == (5, 409)


def test_a_call_is_ended_from_outside() -> None:
    driver = live()
    did = _command(driver, "hang_up")
    assert [type(one) for one in did] == [Answer, wire.TelephonyCommand]


def test_the_conversation_is_what_was_heard_said_and_done() -> None:
    driver = live()
    driver.reply("resp_1", "item_1", "one two three four", 1600)
    driver.event(api.speech_started("item_2"))
    driver.record(wire.Heard(1, (wire.ItemHeard(0, 6400),)))
    driver.event(api.speech_stopped("item_2", 0), api.committed("item_2", "item_1"))
    driver.event(api.transcribed("item_2", "What is the weather?"), api.response_created("resp_2"))
    driver.event(_function_call("resp_2", *WEATHER))
    (answer,) = _command(driver, "conversation")
    assert answer.body["conversation"] == [
        {"role": "agent", "text": "one two"},
        {"role": "user", "text": "What is the weather?"},
        {"type": "function_call", "name": "get_weather", "text": '{"city": "Rome"}'},
    ]


def test_who_watches_is_shown_what_happens() -> None:
    driver = live()
    driver.reply("resp_1", "item_1", "Hello", 100)
    driver.record(playout((0, 10**6)))
    driver.record(wire.Dtmf("1"))
    driver.record(wire.Dtmf("#"))
    shown = [event["type"] for event in driver.happened]
    assert shown == ["live", "item", "transcript", "digits"]
