"""Items in conversation order; transcripts in that order, once each, with the heard part alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.link import wire
from worker.session.memory.conversation import TRANSCRIPT_WAIT_SECONDS, Conversation, Item, Role, heard_part


def ids(conversation: Conversation) -> list[str]:
    return [item.item_id for item in conversation]


def caller(conversation: Conversation, item_id: str, previous: str | None = None, *, at: float = 0.0) -> Item:
    item = conversation.insert(item_id, Role.USER, previous)
    item.waits_until_seconds = at + TRANSCRIPT_WAIT_SECONDS
    return item


def agent(conversation: Conversation, item_id: str, previous: str | None = None) -> Item:
    return conversation.insert(item_id, Role.AGENT, previous)


def said(item: Item, text: str, heard_share: float | None = None) -> None:
    item.text, item.text_done, item.heard_share = text, True, heard_share


def due(conversation: Conversation, now: float = 0.0) -> list[str]:
    return [item.item_id for item in conversation.due_transcripts(now)]


# Order


def test_an_item_follows_its_previous_item_id() -> None:
    conversation = Conversation()
    for item_id, previous in (("a", None), ("c", "a"), ("b", "a"), ("d", "c")):
        caller(conversation, item_id, previous)
    assert ids(conversation) == ["a", "b", "c", "d"]


def test_an_item_behind_an_unknown_one_goes_to_the_end() -> None:
    conversation = Conversation()
    caller(conversation, "a")
    caller(conversation, "b", "never seen")
    caller(conversation, "c", None)
    assert ids(conversation) == ["a", "b", "c"]


def test_a_known_item_stays_where_and_what_it_is() -> None:
    conversation = Conversation()
    first = caller(conversation, "a")
    caller(conversation, "b", "a")
    assert conversation.insert("a", Role.AGENT, "b") is first
    assert ids(conversation) == ["a", "b"]
    assert first.role is Role.USER


def test_a_removed_item_is_gone_and_the_rest_keeps_its_order() -> None:
    conversation = Conversation()
    for item_id, previous in (("a", None), ("b", "a"), ("c", "b")):
        said(caller(conversation, item_id, previous), item_id)
    conversation.remove("b")
    assert conversation.get("b") is None
    assert ids(conversation) == ["a", "c"]
    assert len(conversation) == 2
    conversation.remove("b")
    assert due(conversation) == ["a", "c"]


def test_removing_what_had_its_say_leaves_what_has_not() -> None:
    conversation = Conversation()
    said(caller(conversation, "a"), "one")
    said(caller(conversation, "b", "a"), "two")
    assert due(conversation) == ["a", "b"]
    waiting = caller(conversation, "c", "b")
    conversation.remove("a")
    said(waiting, "three")
    assert due(conversation) == ["c"]


def test_replies_are_open_until_their_text_is_done() -> None:
    conversation = Conversation()
    caller(conversation, "caller")
    agent(conversation, "first", "caller")
    conversation.insert("tool", None, "first")
    agent(conversation, "second", "tool")
    assert [item.item_id for item in conversation.open_replies()] == ["first", "second"]
    said(conversation.open_replies()[0], "done", 1.0)
    assert [item.item_id for item in conversation.open_replies()] == ["second"]


# Transcripts


def test_a_transcript_is_due_once() -> None:
    conversation = Conversation()
    said(caller(conversation, "a"), "hello")
    assert due(conversation) == ["a"]
    assert due(conversation) == []


def test_an_empty_transcript_is_never_due_and_holds_nothing_up() -> None:
    conversation = Conversation()
    said(caller(conversation, "a"), "")
    said(agent(conversation, "b", "a"), "unheard", 0.0)
    said(caller(conversation, "c", "b"), "hello")
    assert due(conversation) == ["c"]


def test_what_nobody_spoke_is_passed_over() -> None:
    conversation = Conversation()
    conversation.insert("call", None, None)
    conversation.insert("output", None, "call")
    said(agent(conversation, "a", "output"), "hello", 1.0)
    assert due(conversation) == ["a"]


def test_transcripts_are_sent_in_conversation_order() -> None:
    conversation = Conversation()
    first, second = caller(conversation, "a"), caller(conversation, "b", "a")
    said(second, "two")
    assert due(conversation) == []
    said(first, "one")
    assert due(conversation) == ["a", "b"]


def test_a_reply_waits_at_most_3_s_for_the_turns_transcript() -> None:
    conversation = Conversation()
    caller(conversation, "question", at=10.0)
    said(agent(conversation, "answer", "question"), "yes", 1.0)
    assert due(conversation, 12.999) == []
    assert due(conversation, 13.0) == ["answer"]


def test_a_transcript_that_was_overtaken_is_too_late() -> None:
    conversation = Conversation()
    question = caller(conversation, "question")
    said(agent(conversation, "answer", "question"), "yes", 1.0)
    assert due(conversation, 3.0) == ["answer"]
    said(question, "really?")
    assert due(conversation, 3.1) == []


def test_a_late_transcript_that_nothing_overtook_still_goes_out() -> None:
    conversation = Conversation()
    question = caller(conversation, "question")
    agent(conversation, "answer", "question")
    assert due(conversation, 60.0) == []
    said(question, "really?")
    assert due(conversation, 61.0) == ["question"]


def test_a_missing_transcript_does_not_shorten_the_next_wait() -> None:
    conversation = Conversation()
    caller(conversation, "a", at=0.0)
    caller(conversation, "b", "a", at=2.0)
    said(agent(conversation, "c", "b"), "yes", 1.0)
    assert due(conversation, 4.9) == []
    assert due(conversation, 5.0) == ["c"]


def test_a_playing_reply_delays_later_transcripts() -> None:
    conversation = Conversation()
    reply = agent(conversation, "reply")
    reply.text, reply.text_done = "one two", True
    said(caller(conversation, "caller", "reply"), "stop")
    assert due(conversation, 100.0) == []
    reply.heard_share = 0.5
    assert due(conversation, 100.0) == ["reply", "caller"]


def test_a_failed_transcription_lets_the_rest_pass_at_once() -> None:
    conversation = Conversation()
    caller(conversation, "question").text_done = True
    said(agent(conversation, "answer", "question"), "yes", 1.0)
    assert due(conversation, 0.0) == ["answer"]


def test_an_item_put_in_front_of_what_was_said_is_too_late() -> None:
    conversation = Conversation()
    said(caller(conversation, "a"), "one")
    said(caller(conversation, "c", "a"), "three")
    assert due(conversation) == ["a", "c"]
    said(caller(conversation, "b", "a"), "two")
    assert ids(conversation) == ["a", "b", "c"]
    assert due(conversation) == []
    said(caller(conversation, "d", "c"), "four")
    assert due(conversation) == ["d"]


def test_an_item_put_in_front_of_a_function_call_is_not_too_late() -> None:
    conversation = Conversation()
    said(caller(conversation, "a"), "one")
    conversation.insert("call", None, "a")
    assert due(conversation) == ["a"]
    said(caller(conversation, "b", "a"), "two")
    assert due(conversation) == ["b"]


def test_only_what_was_heard_of_a_reply_is_its_text() -> None:
    conversation = Conversation()
    reply = agent(conversation, "reply")
    said(reply, "one two three four", 0.5)
    assert reply.heard_text == "one two"
    reply.heard_share = 1.0
    assert reply.heard_text == "one two three four"
    question = caller(conversation, "question", "reply")
    said(question, "and five?")
    assert question.heard_text == "and five?"


@given(
    roles=st.lists(st.sampled_from([Role.USER, Role.AGENT]), min_size=1, max_size=8),
    data=st.data(),
)
def test_transcripts_keep_the_order_whenever_they_come(roles: list[Role], data: st.DataObject) -> None:
    # Items are added one second after the other; the text of each comes some time later, in any order.
    delays = data.draw(st.lists(st.floats(0.0, 20.0), min_size=len(roles), max_size=len(roles)))
    conversation = Conversation()
    items: list[Item] = []
    order: list[str] = []
    pending: dict[int, float] = {}
    for step in range(400):
        now = step / 10
        if step % 10 == 0 and len(items) < len(roles):
            number = len(items)
            add = caller if roles[number] is Role.USER else agent
            items.append(add(conversation, str(number), str(number - 1)))
            items[number].waits_until_seconds = now + TRANSCRIPT_WAIT_SECONDS
            pending[number] = now + delays[number]
        for number in [number for number, at in pending.items() if at <= now]:
            said(items[number], f"text {number}", 1.0)
            del pending[number]
        order += due(conversation, now)
    assert order == sorted(set(order), key=int)
    in_time = {str(number) for number, role in enumerate(roles) if role is Role.AGENT or delays[number] < 2.9}
    assert in_time <= set(order)


# What of a text was heard


@pytest.mark.parametrize(
    ("share", "heard"),
    [
        (0.0, ""),
        (0.2, ""),
        (0.25, ""),
        (0.28, "one"),
        (0.5, "one"),
        (0.64, "one two"),
        (0.99, "one two"),
        (1.0, "one two six"),
    ],
)
def test_heard_text_is_cut_back_to_a_word(share: float, heard: str) -> None:
    assert heard_part("one two six", share) == heard


def test_a_line_break_ends_a_word_as_a_space_does() -> None:
    assert heard_part("one\ntwo\nthree", 0.6) == "one\ntwo"


def test_in_scripts_without_spaces_a_word_is_a_character() -> None:
    assert heard_part("お電話ありがとうございます", 0.5) == "お電話ありが"
    assert heard_part("您好 world 再见", 0.8) == "您好 world"


words = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=8)
spaces = st.text(st.sampled_from(" \n\t"), min_size=1, max_size=2)
texts = st.lists(st.tuples(words, spaces), max_size=8).map(lambda pairs: "".join(w + s for w, s in pairs).strip())


@given(text=texts, share=st.floats(0.0, 1.0))
def test_heard_text_is_as_many_whole_words_as_fit(text: str, share: float) -> None:
    heard = heard_part(text, share)
    assert text.startswith(heard)
    assert heard == heard.rstrip()
    assert len(heard) <= len(text) * share
    if share == 1.0:
        assert heard == text
    rest = text[len(heard) :]
    ideographs = any("\u2e80" <= char <= "\u9fff" or "\uf900" <= char <= "\ufaff" for char in text)
    if not ideographs and rest:
        assert not heard or rest[0].isspace()
        assert len(heard + rest) - len(rest.lstrip()) + len(rest.split()[0]) > len(text) * share


@given(text=texts, shares=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)))
def test_who_heard_more_heard_all_of_the_less(text: str, shares: tuple[float, float]) -> None:
    less, more = sorted(shares)
    assert heard_part(text, more).startswith(heard_part(text, less))


def test_an_item_that_is_remembered_twice_is_one() -> None:
    conversation = Conversation()
    conversation.load([wire.ItemUpdate("a", item={"text": "x"}), wire.ItemUpdate("a", item={"text": "y"})])
    assert [item.text for item in conversation] == ["y"]
    conversation.remove("a")
    assert len(conversation) == 0


@pytest.mark.parametrize("span", [[0, 1e308], [-1, 0], [0], ["a", "b"], 7])
def test_an_item_of_which_nobody_could_tell_is_left_out(span: object) -> None:
    conversation = Conversation()
    conversation.load([wire.ItemUpdate("a", item={"role": "user", "span": span}), wire.ItemUpdate("b")])
    assert [item.item_id for item in conversation] == ["b"]


@pytest.mark.parametrize("runs", [-1, 1.5, "2", None, 2**70, [1]])
def test_a_function_call_that_ran_no_number_of_times_is_left_out(runs: object) -> None:
    conversation = Conversation()
    conversation.load([wire.ItemUpdate("a", item={"kind": "function_call", "runs": runs}), wire.ItemUpdate("b")])
    assert [item.item_id for item in conversation] == ["b"]


@pytest.mark.parametrize(("item", "runs"), [({}, 0), ({"started": True}, 1), ({"started": True, "runs": 2}, 2)])
def test_the_runs_of_a_function_call_are_remembered(item: dict[str, object], runs: int) -> None:
    """A release that does not count them says that it has started, and no more."""
    conversation = Conversation()
    conversation.load([wire.ItemUpdate("a", item={"kind": "function_call", **item})])
    found = conversation.get("a")
    assert found is not None
    assert found.runs == runs
    assert found.to_record().get("runs", 0) == runs
