"""A tool asks the caller for keys: what the model, the dispatcher and the tool get."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from common.link import wire
from common.link.wire import Reason
from tests.worker import api_events as api
from tests.worker.session_driver import CREATE, Did, Driver, only, pcm_24k, playout, samples_8k
from worker.session.actions import Collected
from worker.session.caller.secret_entry import NOT_MUTED
from worker.session.caller.secret_keys import ANOTHER_DISPATCHER, BUSY, CALL_ENDS, NOT_SAID, OLD_DISPATCHER
from worker.session.lifecycle import CALL_ENDED, CALL_MOVES
from worker.session.states import State
from worker.tools.entries import Entry, EntryEnding, KeyRequest

PIN = KeyRequest("Please enter your PIN", 4, 5.0)
OFFERS = {"collects": True}


def _live(**opening: Any) -> Driver:
    """A session whose greeting is over, and whose model has called a tool that runs."""
    driver = Driver(opening={**OFFERS, **opening})
    driver.go_live()
    driver.reply("resp_1", "item_1", "Hello", 100)
    driver.record(playout((1, samples_8k(100)), idle=True))
    driver.turn("item_2", "Check my account", previous="item_1")
    item = {**api.function_call_item("item_3"), "status": "completed", "arguments": "{}"}
    driver.event(
        api.response_created("resp_2"),
        api.event("response.output_item.done", response_id="resp_2", output_index=0, item=item),
        api.response_done("resp_2"),
    )
    driver.record(wire.ToolKnown("call_1"))
    return driver


def _ask(driver: Driver, number: int = 1, wanted: KeyRequest = PIN) -> list[Did]:
    driver.session.collect(number, wanted, driver.now)
    return driver.take()


def _prompt(driver: Driver, *, milliseconds: int = 200) -> None:
    """The prompt is said and heard."""
    driver.reply("resp_3", "item_4", PIN.prompt, milliseconds, previous="item_3")
    driver.record(playout((2, samples_8k(milliseconds)), idle=True))


def _asking(driver: Driver, number: int = 1) -> Driver:
    _ask(driver, number)
    driver.record(wire.Collecting(number))
    _prompt(driver)
    return driver


def _press(driver: Driver, digits: str, number: int = 1) -> list[Did]:
    return driver.record(*(wire.SecretKey(number, digit) for digit in digits))


def _collected(did: list[Did]) -> list[Entry]:
    return [each.entry for each in only(did, Collected)]


def test_prompt_is_said_once_the_caller_is_muted() -> None:
    driver = _live()
    asked = _ask(driver)
    (collect,) = only(asked, wire.Collect)
    assert (collect.number, collect.on, collect.seconds > 60) == (1, True, True)
    assert not only(asked, dict)
    (request,) = only(driver.record(wire.Collecting(1)), dict)
    assert request["type"] == "response.create"
    assert PIN.prompt in request["response"]["instructions"]


def test_keys_go_to_the_tool_and_to_nobody_else() -> None:
    driver = _asking(_live())
    driver.happened.clear()
    driver.memory_writer.clear()
    did = _press(driver, "2580")
    assert _collected(did) == [Entry(EntryEnding.COUNT, "2580")]
    assert only(did, wire.Collect) == [wire.Collect(1)]
    assert not only(did, dict)
    assert driver.happened == []
    assert driver.memory_writer == []
    assert not any(item.text and "2580" in item.text for item in driver.session.conversation)


def test_output_of_the_tool_is_answered_as_ever() -> None:
    driver = _asking(_live())
    _press(driver, "2580")
    driver.session.tool_done("call_1", "accepted", driver.now)
    did = driver.take()
    assert CREATE in did
    assert "2580" not in repr(did)


def test_time_out_begins_when_the_prompt_was_heard() -> None:
    driver = _live()
    _ask(driver)
    driver.record(wire.Collecting(1))
    driver.reply("resp_3", "item_4", PIN.prompt, 8000, previous="item_3")
    assert not _collected(driver.tick(6.0))
    driver.record(playout((2, samples_8k(8000)), idle=True))
    _press(driver, "25")
    assert not _collected(driver.tick(4.9))
    did = driver.tick(0.2)
    assert _collected(did) == [Entry(EntryEnding.TIMEOUT, "25")]
    # A slow caller may go on pressing.
    assert only(did, wire.Collect) == [wire.Collect(1, abandoned=True)]


def test_key_interrupts_the_prompt() -> None:
    driver = _live()
    _ask(driver)
    driver.record(wire.Collecting(1))
    driver.event(api.response_created("resp_3"), api.item_added(api.reply_item("item_4"), "item_3"))
    driver.event(api.audio_delta("resp_3", "item_4", pcm_24k(4000)))
    did = _press(driver, "2")
    assert only(did, wire.Flush)
    assert [event["type"] for event in only(did, dict)] == ["response.cancel"]
    assert _collected(_press(driver, "580")) == [Entry(EntryEnding.COUNT, "2580")]


def test_key_before_the_prompt_begins_cancels_it() -> None:
    driver = _live()
    _ask(driver)
    driver.record(wire.Collecting(1))
    _press(driver, "2")
    did = driver.event(api.response_created("resp_3"))
    assert [event["type"] for event in only(did, dict)] == ["response.cancel"]
    driver.event(api.response_done("resp_3", "cancelled"))
    # It is not asked for again.
    assert not only(driver.tick(1.0), dict)


def test_empty_prompt_says_nothing() -> None:
    driver = _live()
    _ask(driver, wanted=KeyRequest("", 1, 5.0))
    assert not only(driver.record(wire.Collecting(1)), dict)
    assert _collected(_press(driver, "7")) == [Entry(EntryEnding.COUNT, "7")]


def test_other_answers_wait_until_the_keys_are_there() -> None:
    driver = _asking(_live())
    driver.session.command(1, "say", {"text": "Please hold"}, driver.now)
    assert not only(driver.take(), dict)
    assert not only(driver.tick(1.0), dict)
    (request,) = only(_press(driver, "2580"), dict)
    assert "Please hold" in request["response"]["instructions"]


def test_response_that_the_api_begins_by_itself_is_cancelled() -> None:
    """The caller was speaking when the mute began, and the API answers the turn that the silence has ended."""
    driver = _live()
    driver.event(api.speech_started("item_5"))
    _ask(driver)
    driver.record(wire.Collecting(1))
    driver.event(api.speech_stopped("item_5", 900), api.committed("item_5", "item_3"))
    did = driver.event(api.response_created("resp_9"))
    assert [event["type"] for event in only(did, dict)] == ["response.cancel"]
    (prompt,) = only(driver.event(api.response_done("resp_9", "cancelled")), dict)
    assert PIN.prompt in prompt["response"]["instructions"]


def test_long_entry_does_not_count_as_waiting_for_an_answer() -> None:
    driver = _live()
    driver.event(api.speech_started("item_5"))
    _ask(driver)
    driver.record(wire.Collecting(1))
    driver.event(api.speech_stopped("item_5", 900), api.committed("item_5", "item_3"))
    driver.event(api.response_created("resp_9"), api.response_done("resp_9", "cancelled"))
    _prompt(driver)
    for digit in "258":
        _press(driver, digit)
        for _ in range(24):
            driver.tick(0.2)
    assert driver.session.state is State.LIVE
    # The turn is answered afterwards.
    assert CREATE in _press(driver, "0")


def test_second_request_is_refused() -> None:
    driver = _asking(_live())
    assert _collected(_ask(driver, 2)) == [Entry(EntryEnding.REFUSED, message=BUSY)]
    assert _collected(_press(driver, "2580")) == [Entry(EntryEnding.COUNT, "2580")]


def test_request_to_an_older_dispatcher_is_refused() -> None:
    driver = _live(collects=False)
    did = _ask(driver)
    assert _collected(did) == [Entry(EntryEnding.REFUSED, message=OLD_DISPATCHER)]
    assert not only(did, wire.Collect)


def test_request_of_a_call_that_ends_is_refused() -> None:
    driver = _live()
    driver.session.command(1, "hang_up", {}, driver.now)
    driver.take()
    assert _collected(_ask(driver)) == [Entry(EntryEnding.REFUSED, message=CALL_ENDS)]


def test_dispatcher_that_does_not_mute_gets_no_prompt() -> None:
    driver = _live()
    _ask(driver)
    assert not _collected(driver.tick(7.9))
    did = driver.tick(0.1)
    assert _collected(did) == [Entry(EntryEnding.LOST, message=NOT_MUTED)]
    assert not only(driver.record(wire.Collecting(1)), dict)


def test_keys_of_an_earlier_entry_have_no_effect() -> None:
    driver = _asking(_live())
    _press(driver, "2580")
    _ask(driver, 2)
    driver.record(wire.Collecting(2))
    assert not _collected(_press(driver, "1111", number=1))


def test_key_that_comes_as_the_mute_begins_is_secret() -> None:
    driver = _live()
    _ask(driver)
    did = driver.record(wire.Dtmf("9"))
    # The dispatcher forgets the key, so that the next session does not get it either.
    assert only(did, wire.Keyed) == [wire.Keyed(1)]
    driver.record(wire.Collecting(1))
    _prompt(driver)
    _press(driver, "2580")
    assert not any("9" in orjson.dumps(event).decode() for event in only(driver.tick(5.0), dict))


def test_keys_from_before_the_request_are_an_entry_for_the_model() -> None:
    driver = _live()
    driver.record(wire.Dtmf("1"), wire.Dtmf("2"))
    did = _ask(driver)
    (item,) = [event for event in only(did, dict) if event["type"] == "conversation.item.create"]
    assert "keys on the telephone: 12" in item["item"]["content"][0]["text"]
    assert only(did, wire.Keyed) == [wire.Keyed(2)]


def test_tool_that_waits_no_longer_ends_the_entry() -> None:
    driver = _asking(_live())
    _press(driver, "25")
    driver.session.leave_collection(1, driver.now)
    did = driver.take()
    assert only(did, wire.Collect) == [wire.Collect(1, abandoned=True)]
    assert "25" not in repr(_collected(did)[0].digits)


def test_release_discards_the_keys_and_tells_the_tool() -> None:
    driver = _asking(_live())
    _press(driver, "25")
    driver.session.release(Reason.DROPPED, "the connection was lost")
    did = driver.take()
    assert _collected(did) == [Entry(EntryEnding.LOST, message=CALL_MOVES)]
    assert "25" not in repr(only(did, wire.Released, wire.ItemUpdate))


def test_end_of_the_call_discards_the_keys_and_tells_the_tool() -> None:
    driver = _asking(_live())
    _press(driver, "25")
    assert _collected(driver.record(wire.Close("the caller has hung up"))) == [
        Entry(EntryEnding.LOST, message=CALL_ENDED)
    ]


def test_move_waits_for_the_entry() -> None:
    driver = _asking(_live())
    driver.session.move(Reason.DRAIN, 60.0, driver.now)
    driver.take()
    driver.record(wire.Release(60.0))
    assert not _collected(driver.tick(1.0))
    assert _collected(_press(driver, "2580")) == [Entry(EntryEnding.COUNT, "2580")]


def test_move_that_can_wait_no_longer_discards_the_keys() -> None:
    driver = _asking(_live())
    driver.session.move(Reason.DRAIN, 3.0, driver.now)
    driver.record(wire.Release(3.0))
    _press(driver, "25")
    assert _collected(driver.tick(3.0)) == [Entry(EntryEnding.LOST, message=CALL_MOVES)]


def test_another_dispatcher_discards_the_keys() -> None:
    driver = _asking(_live())
    _press(driver, "25")
    assert driver.session.is_collecting
    driver.session.attached(wire.Open("uuid-1", epoch=2, credit_bytes=64_000, collects=True), driver.now)
    assert _collected(driver.take()) == [Entry(EntryEnding.LOST, message=ANOTHER_DISPATCHER)]
    # The tool may ask again, there.
    assert only(_ask(driver, 2), wire.Collect)[0].on


def test_entry_waits_while_there_is_no_dispatcher() -> None:
    driver = _asking(_live())
    _press(driver, "25")
    driver.session.detached()
    assert not _collected(driver.tick(10.0))
    driver.session.resumed()
    assert _collected(driver.tick(0.0)) == [Entry(EntryEnding.TIMEOUT, "25")]


def test_request_waits_for_the_session() -> None:
    driver = Driver(opening=OFFERS)
    driver.take()
    assert not _ask(driver)
    driver.connected()
    did = driver.event(api.session_created(), api.session_updated())
    assert only(did, wire.Collect)[0].on


def test_prompt_that_is_given_up_is_told_to_the_tool() -> None:
    driver = _live()
    _ask(driver)
    driver.record(wire.Collecting(1))
    entries: list[Entry] = []
    for number in range(3):
        driver.event(api.response_created(f"resp_{number + 5}"))
        entries += _collected(driver.event(api.response_done(f"resp_{number + 5}")))
        for _ in range(60):
            entries += _collected(driver.tick(0.2))
    assert entries == [Entry(EntryEnding.LOST, message=NOT_SAID)]


@pytest.mark.parametrize("filler", [True, False])
def test_filler_does_not_play_while_the_caller_is_asked(filler: bool) -> None:
    driver = _live(filler=filler)
    did = _ask(driver)
    assert only(did, wire.Awaiting) == ([wire.Awaiting(False)] if filler else [])
