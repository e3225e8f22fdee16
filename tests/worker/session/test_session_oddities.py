"""What never comes, what comes in another shape, and what an hour of it leaves behind."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.link import wire
from tests.worker import api_events as api
from tests.worker.link_records import decoded_all
from tests.worker.session_driver import (
    CREATE,
    Did,
    Driver,
    audio_samples,
    heard,
    live,
    only,
    pcm_24k,
    playout,
    texts,
)
from worker.realtime.api_values import MAX_ID_CHARS
from worker.session.actions import Measurement, Metric, Used
from worker.session.agent.answering import RESPONSE_CREATED_SECONDS, RESPONSE_SILENCE_SECONDS
from worker.session.caller.caller_side import MAX_LATE_SECONDS
from worker.session.states import State
from worker.session.truncation import RecordEncoder, truncate

NO_RESPONSE = Measurement(Metric.UPSTREAM_ERROR, label="no_response")


def asked_again(reason: str) -> Measurement:
    return Measurement(Metric.ANSWER_RETRIED, label=reason)


def sent(record: wire.Record) -> Any:
    """Return a record as the dispatcher reads it."""
    (found,) = decoded_all([RecordEncoder("uuid-1").encode(record, 3)], 3)
    return found


# Texts that are too long for the link


def test_texts_too_long_for_a_record_are_truncated() -> None:
    driver = live()
    long = "word " * 500_000
    driver.turn("item_a", long)
    with capture_logs() as logs:
        did = driver.reply("resp_1", "reply_a", long, 1000, previous="item_a")
        did += driver.record(playout(*audio_samples(did).items(), idle=True))
        did += driver.tick()
        transcript = sent(only(did, wire.Transcript)[-1])
        updates = only(driver.memory_writer, wire.ItemUpdate)
        kept = {update.item_id: sent(update) for update in updates}
    assert {line["event"] for line in logs} == {"record truncated"}
    assert all(line["uuid"] == "uuid-1" and "bytes" in line["reason"] and "word" not in str(line) for line in logs)
    assert (transcript.role, transcript.text) == ("agent", truncate(long.strip()))
    assert kept["reply_a"].item["text"] == truncate(long.strip())
    # What is told while it is spoken comes in parts, and is whole.
    parts = [record.text for record in driver.memory_writer if isinstance(record, wire.ReplyText)]
    assert len(parts) > 1
    assert "".join(parts) == long
    assert driver.session.state is State.LIVE


def test_another_dispatcher_gets_a_long_reply_truncated() -> None:
    driver = live()
    driver.reply("resp_1", "reply_a", "word " * 500_000, 1000, done=False)
    driver.session.attached(wire.Open("uuid-1", 2, credit_bytes=10**6), driver.now)
    spoken = sent(*only(driver.take(), wire.PendingReplies))
    assert [reply.text for reply in spoken.replies] == [truncate("word " * 500_000)]


# What never comes


def test_a_greeting_that_is_not_answered_is_asked_for_again() -> None:
    driver = live()
    assert driver.tick(RESPONSE_CREATED_SECONDS - 0.1) == []
    assert driver.tick(0.1) == [NO_RESPONSE, asked_again("unanswered"), CREATE]
    assert driver.tick(RESPONSE_CREATED_SECONDS - 0.1) == []
    driver.event(api.response_created("resp_1"))
    assert driver.tick(RESPONSE_CREATED_SECONDS) == []


def test_an_error_without_an_id_does_not_silence_the_agent() -> None:
    driver = live()
    driver.event(api.error("server_error", kind="server_error"))
    assert driver.tick(1.0) == [asked_again("refused"), CREATE]


def test_a_refusal_for_a_response_that_is_over_does_not_either() -> None:
    driver = live()
    driver.event(api.error("conversation_already_has_active_response", event_id="response-create"))
    assert driver.tick(RESPONSE_CREATED_SECONDS) == [NO_RESPONSE, CREATE]


def test_to_a_caller_who_speaks_nothing_is_asked_for_again() -> None:
    driver = live()
    driver.tick(RESPONSE_CREATED_SECONDS - 1.0)
    driver.event(api.speech_started("item_a"))
    assert driver.tick(1.0) == [NO_RESPONSE]
    assert driver.tick(1.0) == []


def test_a_response_that_still_comes_is_not_given_up() -> None:
    driver = live()
    driver.reply("resp_1", "hello", "one two", 100, done=False)
    for _ in range(5):
        driver.now += RESPONSE_SILENCE_SECONDS - 1
        driver.event(api.audio_delta("resp_1", "hello", pcm_24k(100)))
        assert driver.tick() == []


def test_an_endless_response_delays_no_transcript_or_response() -> None:
    driver = live()
    did = driver.reply("resp_1", "hello", "one two", 1000, done=False)
    driver.event(api.error("conversation_already_has_active_response"))
    did += driver.tick(RESPONSE_SILENCE_SECONDS)
    cut_off, note, cancelled = only(did, dict)
    assert (cut_off["type"], cut_off["audio_end_ms"]) == ("conversation.item.truncate", 1000)
    assert "cut your last reply off" in str(note)
    assert cancelled["type"] == "response.cancel"
    assert only(did, wire.ReplyItemDone) == [wire.ReplyItemDone(0)]
    assert texts(driver.record(playout(*audio_samples(did).items()))) == [("agent", "one two")]
    assert CREATE in driver.tick(1.0)


def test_the_next_response_ends_one_that_was_never_ended() -> None:
    driver = live()
    did = driver.reply("resp_1", "hello", "one two", 1000, done=False)
    did += driver.reply("resp_2", "again", "three", 1000, previous="hello")
    assert only(did, wire.ReplyItemDone) == [wire.ReplyItemDone(0), wire.ReplyItemDone(1)]
    assert texts(driver.record(playout(*audio_samples(did).items()))) == [("agent", "one two"), ("agent", "three")]


def test_a_turn_added_without_a_commit_delays_for_a_bounded_time() -> None:
    driver = live()
    driver.event(api.caller_item_added("item_a"))
    did = driver.reply("resp_1", "hello", "one two", 1000, previous="item_a")
    assert driver.record(playout(*audio_samples(did).items())) == []
    assert texts(driver.tick(3.1)) == [("agent", "one two")]


# What comes in another shape

UNREADABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
INSTEAD: list[Any] = [None, 17, -1.5, 1e400, "another", ["another"], {"another": 1}]


def dialogue() -> list[api.Event]:
    """A greeting, a turn of the caller's that cuts it, an answer, and a failed response."""
    return [
        api.response_created("resp_1"),
        api.item_added(api.reply_item("hello")),
        api.text_delta("resp_1", "hello", "one two"),
        api.audio_delta("resp_1", "hello", pcm_24k(500)),
        api.speech_started("item_a"),
        api.audio_done("resp_1", "hello"),
        api.text_done("resp_1", "hello", "one two"),
        api.cancelled("resp_1", output=[api.reply_item("hello", "incomplete", "one two")], usage=api.USAGE),
        api.speech_stopped("item_a", 500),
        api.committed("item_a", "hello"),
        api.caller_item_added("item_a", "hello"),
        api.response_created("resp_2"),
        api.item_added(api.reply_item("answer"), "item_a"),
        api.text_delta("resp_2", "answer", "three"),
        api.audio_delta("resp_2", "answer", pcm_24k(500)),
        api.audio_done("resp_2", "answer"),
        api.text_done("resp_2", "answer", "three"),
        api.transcribed("item_a", "Hi"),
        api.response_done("resp_2", output=[api.reply_item("answer", "completed", "three")], usage=api.USAGE),
        api.transcription_failed("item_a"),
        api.response_created("resp_3"),
        api.response_done(
            "resp_3",
            "failed",
            status_details={"type": "failed", "error": {"type": "server_error", "code": "server_error"}},
        ),
        api.error("invalid_value", event_id="event_of_ours"),
    ]


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in an event there is something."""
    children: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        children = [(name, child) for name, child in value.items() if path or name not in ("type", "event_id")]
    elif isinstance(value, list):
        children = list(enumerate(value))
    for name, child in children:
        yield (*path, name)
        yield from paths(child, (*path, name))


def changed(event: api.Event, path: tuple[Any, ...], instead: Any) -> api.Event:
    """The event with another value there; `...`: without it."""
    odd = copy.deepcopy(event)
    parent: Any = odd
    for name in path[:-1]:
        parent = parent[name]
    if instead is ...:
        del parent[path[-1]]
    else:
        parent[path[-1]] = instead
    return odd


class Peer:
    """Plays what it gets, and answers a flush as a dispatcher does: here of each item half was heard."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.sent: dict[int, int] = {}

    def feed(self, event: api.Event) -> list[Did]:
        """One event, as `Call` hands it on."""
        with contextlib.suppress(*UNREADABLE):
            self.driver.session.event(event, self.driver.now)
        return self.answered(self.driver.take())

    def answered(self, did: list[Did]) -> list[Did]:
        for index, samples in audio_samples(did).items():
            self.sent[index] = self.sent.get(index, 0) + samples
        for flush in only(did, wire.Flush):
            items = tuple(wire.ItemHeard(index, samples // 2) for index, samples in self.sent.items())
            did += self.driver.record(wire.Heard(flush.number, items))
            self.sent.clear()
        return did

    def play_out(self) -> list[Did]:
        return self.answered(self.driver.record(playout(*self.sent.items(), idle=True)))


def goes_on(peer: Peer) -> None:
    """A turn and its answer, from the caller's first word to the transcripts, as if nothing had been."""
    driver = peer.driver
    did = peer.answered(driver.turn("later_item", "Go on", previous="answer"))
    driver.take()
    reply = driver.reply("later_resp", "later_answer", "four five", 500, previous="later_item")
    assert audio_samples(reply), "the agent does not speak any more"
    assert not [event for event in only(reply, dict) if event["type"] != "response.create"]
    did += peer.answered(reply) + peer.play_out() + driver.tick(3.1)
    assert texts(did)[-2:] == [("user", "Go on"), ("agent", "four five")]
    # And a saying is said.
    driver.session.command(1, "say", {"text": "Goodbye"}, driver.now)
    did = driver.take()
    for number in range(200):
        if "Goodbye" in str(only(did, dict)):
            return
        if CREATE in did:
            did = driver.reply(f"last_{number}", f"last_item_{number}", "six", 100)
        did = driver.tick(0.2)
    pytest.fail("the saying is not said")


@pytest.mark.parametrize("number", range(len(dialogue())))
def test_an_event_of_an_odd_shape_is_lost_and_the_call_is_not(number: int) -> None:
    usual = dialogue()
    for path in paths(usual[number]):
        for instead in [..., *INSTEAD]:
            driver = live()
            driver.caller(bytes(16_000))
            peer = Peer(driver)
            for position, event in enumerate(usual):
                peer.feed(changed(event, path, instead) if position == number else event)
            peer.play_out()
            driver.tick(3.1)
            driver.take()
            assert driver.session.state is State.LIVE, (usual[number]["type"], path, instead)
            goes_on(peer)


@pytest.mark.parametrize("odd", [7, ["item_0"], {}, "x" * 10_000])
@pytest.mark.parametrize("kind", ["conversation.item.added", "input_audio_buffer.committed"])
def test_a_place_that_is_none_does_not_cost_the_turn(kind: str, odd: object) -> None:
    usual = dialogue()
    peer, usually = Peer(live()), Peer(live())
    for event in usual:
        place = {"previous_item_id": odd} if event["type"] == kind else {}
        did, expected = peer.feed(copy.deepcopy(event) | place), usually.feed(event)
        assert [type(one) for one in did] == [type(one) for one in expected]
    goes_on(peer)


# Six bytes in JSON for each character.
LONG = "\x01" * 300_000


@pytest.mark.parametrize("number", range(len(dialogue())))
def test_a_text_of_any_length_fits_on_the_link(number: int) -> None:
    usual = dialogue()
    for path in paths(usual[number]):
        driver = live()
        driver.caller(bytes(16_000))
        peer = Peer(driver)
        for position, event in enumerate(usual):
            peer.feed(changed(event, path, LONG) if position == number else event)
        peer.play_out()
        driver.tick(3.1)
        # Another dispatcher is told everything again.
        driver.session.attached(wire.Open("uuid-1", 2, credit_bytes=10**6), driver.now)
        driver.take()
        assert driver.session.state is State.LIVE, (usual[number]["type"], path)
        for happened in driver.happened:
            wire.encode(wire.Event(1, happened), 0)


@pytest.mark.parametrize("field", ["id", "call_id", "name", "response_id"])
def test_a_function_call_with_an_endless_id_is_none(field: str) -> None:
    driver = live()
    item = api.function_call_item("item_f") | {"status": "completed", "arguments": "{}"}
    event = {"type": "response.output_item.done", "response_id": "resp_1", "item": item}
    driver.event(api.response_created("resp_1"))
    long = "x" * (MAX_ID_CHARS + 1)
    with pytest.raises(ValueError, match=f"{MAX_ID_CHARS} characters"):
        driver.event((event | {field: long}) if field == "response_id" else event | {"item": item | {field: long}})
    assert driver.take() == []
    assert wire.Tool("call_1") in driver.event(event)


@pytest.mark.parametrize("number", range(len(dialogue())))
def test_an_event_that_never_comes_is_not_the_end_of_the_call(number: int) -> None:
    events = dialogue()
    del events[number]
    peer = Peer(live())
    for event in events:
        peer.feed(event)
    peer.play_out()
    goes_on(peer)


@pytest.mark.parametrize("number", range(len(dialogue())))
def test_an_event_that_comes_twice_does_no_harm(number: int) -> None:
    events = dialogue()
    events.insert(number, events[number])
    peer = Peer(live())
    did = [one for event in events for one in peer.feed(event)]
    did += peer.play_out()
    assert len(texts(did)) == len(set(texts(did)))
    goes_on(peer)


@pytest.mark.parametrize("event", [{"type": "error"}, {"type": "error", "error": None}])
def test_an_error_of_an_odd_shape_is_one_too(event: dict[str, Any]) -> None:
    driver = live()
    with pytest.raises(UNREADABLE):
        driver.session.event(event, driver.now)
    assert driver.session.state is State.LIVE


@pytest.mark.parametrize("code", [17, ["a"], {"a": 1}, "with\nlines", "x" * 100, ""])
def test_labels_are_words_whatever_the_api_says(code: Any) -> None:
    driver = live()
    driver.turn("item_a")
    failure = api.transcription_failed("item_a")
    failure["error"]["code"] = code
    error = api.error("invalid_value")
    error["error"]["code"] = code
    for report in only(driver.event(failure, error), Measurement):
        assert isinstance(report.label, str)
        assert report.label.replace("_", "").isalnum()


# What is left behind


def sizes(value: Any, seen: set[int]) -> int:
    """Elements of all containers that this object holds."""
    if id(value) in seen or isinstance(value, (str, bytes)):
        return 0
    seen.add(id(value))
    children: list[Any] = []
    own = 0
    if isinstance(value, dict):
        own, children = len(value), list(value.values())
    elif isinstance(value, (list, tuple, set)) or type(value).__name__ == "deque":
        own, children = len(value), list(value)
    elif type(value).__module__.startswith("worker."):
        names = getattr(value, "__dict__", None) or dict.fromkeys(getattr(value, "__slots__", ()))
        children = [getattr(value, name) for name in names]
    return own + sum(sizes(child, seen) for child in children)


def talk(driver: Driver, turns: range) -> None:
    """Turns that end in all ways that there are, over and over."""
    previous = None
    for turn in turns:
        item, reply, response = f"item_{turn}", f"reply_{turn}", f"resp_{turn}"
        for _ in range(10):
            driver.caller(lost_samples=turn % 2)
        flushes = only(driver.turn(item, "Hi", previous=previous, end_ms=turn * 200 + 100), wire.Flush)
        did = driver.reply(response, reply, "one two", 100, previous=item, done=turn % 4 != 1)
        if turn % 4 == 2:
            driver.record(playout(*audio_samples(did).items()))
        if turn % 5 == 4:
            flushes += only(driver.event(api.speech_started("noise"), api.cancelled(response)), wire.Flush)
            driver.event(api.audio_delta(response, reply, pcm_24k(20)))
        for flush in flushes:
            driver.record(heard(flush.number, (turn - 1, 50 * (turn % 3)), (turn, 0)))
        driver.tick(3.0)
        previous = reply


def of_items(driver: Driver) -> int:
    """The conversation, and which of its items the session has been told of."""
    return sizes([driver.session.conversation, driver.session.parts.replay._sent], set())


def test_an_hour_leaves_its_conversation_behind_and_nothing_else() -> None:
    driver = live()
    talk(driver, range(100))
    after_some = sizes(driver.session, set()) - of_items(driver)
    items = len(driver.session.conversation)
    talk(driver, range(100, 400))
    assert len(driver.session.conversation) > items
    after_many = sizes(driver.session, set()) - of_items(driver)
    # The difference is what is under way at these two moments.
    assert after_many <= after_some + 10


@pytest.mark.parametrize("field", ["id", "call_id", "name", "arguments", "response_id"])
@pytest.mark.parametrize("value", [17, {"a": 1}, ["a"]])
def test_a_call_that_does_not_fit_into_a_record_does_not_run(field: str, value: object) -> None:
    driver = live()
    item = api.function_call_item("item_f") | {"status": "completed", "arguments": "{}"}
    event = {"type": "response.output_item.done", "response_id": "resp_1", "item": item}
    driver.event(api.response_created("resp_1"))
    with pytest.raises(TypeError):
        driver.event(
            (event | {field: value}) if field == "response_id" else event | {"item": item | {field: value}}
        )
    assert driver.take() == []
    assert driver.tick() == []
    # The right one is taken afterwards.
    assert wire.Tool("call_1") in driver.event(event)


# Numbers that cannot be true

NO_TIMES: list[Any] = [-1, -1e12, 1e12, 1e400, float("nan"), True, "500", [500], {"ms": 1}, 10**100]
BAD_EVENT = Measurement(Metric.UPSTREAM_ERROR, label="bad_event")


def waits(driver: Driver) -> list[float]:
    """The turn latency that was reported, of a turn that ends now and whose answer comes a second later."""
    driver.now += 1.0
    did = driver.reply("resp_t", "answer_t", "three", 500, previous="item_t")
    return [one.value for one in only(did, Measurement) if one.seen is Metric.TURN_LATENCY_SECONDS]


@pytest.mark.parametrize("ms", NO_TIMES)
def test_a_turns_end_at_an_impossible_time_is_now(ms: Any) -> None:
    driver = live()
    for _ in range(100):
        driver.caller()
    driver.event(api.speech_started("item_t"))
    did = driver.event(api.speech_stopped("item_t", 0) | {"audio_end_ms": ms})
    assert BAD_EVENT in did
    driver.event(api.committed("item_t"), api.caller_item_added("item_t"))
    assert waits(driver) == [pytest.approx(1.5)]  # with the silence of 500 ms


def test_a_turns_end_long_ago_is_not_waited_for_since_then() -> None:
    driver = live()
    driver.caller(bytes(16_000 * 600))
    driver.event(api.speech_started("item_t"), api.speech_stopped("item_t", 1000))
    driver.event(api.committed("item_t"), api.caller_item_added("item_t"))
    assert waits(driver) == [pytest.approx(1.0 + MAX_LATE_SECONDS)]


@pytest.mark.parametrize("ms", NO_TIMES)
def test_a_turns_start_at_an_impossible_time_interrupts(ms: Any) -> None:
    driver = live()
    driver.reply("resp_1", "hello", "one two", 500, done=False)
    did = driver.event(api.speech_started("item_t") | {"audio_start_ms": ms})
    assert BAD_EVENT in did
    assert only(did, wire.Flush)


@pytest.mark.parametrize("number", [-1, 1e400, float("nan"), True, "9", [9], {}, 10**100])
def test_a_rate_limit_that_cannot_be_true_is_passed_over(number: Any) -> None:
    driver = live()
    requests = {"name": "requests", "limit": 10, "remaining": 3, "reset_seconds": 0.5}
    tokens = {"name": "tokens", "limit": 10, "remaining": 0, "reset_seconds": number}
    odd = {"name": "tokens", "limit": 10, "remaining": number, "reset_seconds": 1.0}
    whole = {"name": "requests", "limit": number, "remaining": 3, "reset_seconds": 0.5}
    event = {"type": "rate_limits.updated", "event_id": "e", "rate_limits": [odd, tokens, "odd", requests, whole]}
    did = driver.event(event)
    shown = [one for one in only(did, Measurement) if one.seen is Metric.RATE_LIMIT_REMAINING]
    assert [(one.label, one.value, one.of) for one in shown] == [
        ("tokens", 0.0, 10.0),
        ("requests", 3.0, 10.0),
        ("requests", 3.0, 0.0),
    ]
    assert did.count(BAD_EVENT) == 4
    assert driver.session.parts.limits.held_until_seconds == float("-inf")


@pytest.mark.parametrize("usage", [17, "usage", {"input_token_details": {"text_tokens": -1}}])
def test_impossible_usage_does_not_hide_how_a_response_ended(usage: Any) -> None:
    driver = live()
    driver.event(api.response_created("resp_1"))
    error = {"type": "invalid_request_error", "code": "insufficient_quota", "message": "no"}
    details = {"type": "failed", "error": error}
    done = api.response_done("resp_1", "failed", status_details=details)
    done["response"]["usage"] = usage
    did = driver.event(done)
    assert Measurement(Metric.UPSTREAM_ERROR, label="bad_usage") in did
    assert not only(did, Used)
    assert driver.session.state is State.ENDED


@pytest.mark.parametrize("index", [-1, 1001, 2**63, 10**100])
def test_a_part_with_an_impossible_number_is_the_first(index: int) -> None:
    driver = live()
    driver.event(api.response_created("resp_1"), api.item_added(api.reply_item("hello")))
    did = driver.event(api.audio_delta("resp_1", "hello", pcm_24k(500)) | {"content_index": index})
    assert audio_samples(did) == {0: 4000}
    driver.event(api.speech_started("item_t"))
    (truncate,) = only(driver.record(heard(1, (0, 250))), dict)
    assert (truncate["type"], truncate["content_index"]) == ("conversation.item.truncate", 0)
