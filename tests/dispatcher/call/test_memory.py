"""What a call is beyond its sockets: items in order, replies under way, bounds, and the copy for Redis."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.link import wire
from common.link.wire import ItemHeard
from dispatcher.call import memory as module
from dispatcher.call.memory import CallMemory
from worker.realtime.api_values import MAX_ID_CHARS

PROFILE = wire.Profile({"model": "m"}, {"api_key": "a secret"})


def remember(memory: CallMemory, item_id: str, after: str = "", text: str = "", **fields: object) -> None:
    size_bytes = fields.pop("size_bytes", 100)
    assert isinstance(size_bytes, int)
    record = wire.ItemUpdate(item_id, after, item={"text": text}, **fields)  # type: ignore[arg-type]  # a test's own
    memory.remember(record, size_bytes)


def spoken(memory: CallMemory) -> tuple[wire.Reply, ...]:
    records = [record for record in memory.records() if isinstance(record, wire.PendingReplies)]
    return records[0].replies if records else ()


# Items


def test_items_keep_conversation_order_in_any_arrival_order() -> None:
    memory = CallMemory()
    remember(memory, "b", "")
    remember(memory, "d", "b")
    remember(memory, "a", "")
    remember(memory, "c", "b")
    remember(memory, "z", "nobody knows")
    assert memory.order == ["a", "b", "c", "d", "z"]
    assert len(memory) == 5


def test_an_item_that_is_said_to_follow_itself_is_the_last() -> None:
    memory = CallMemory()
    remember(memory, "a")
    remember(memory, "b", "b")
    assert memory.order == ["a", "b"]


def test_an_item_that_changes_stays_where_it_is() -> None:
    memory = CallMemory()
    remember(memory, "a")
    remember(memory, "b", "a", "Hel")
    remember(memory, "c", "b")
    remember(memory, "b", "", "Hello")
    assert memory.order == ["a", "b", "c"]
    assert memory.item("b") == {"text": "Hello"}


def test_a_deleted_item_is_gone_even_if_it_was_unknown() -> None:
    memory = CallMemory()
    remember(memory, "a")
    memory.remember(wire.ItemUpdate("a", deleted=True), 10)
    memory.remember(wire.ItemUpdate("x", deleted=True), 10)
    assert (memory.order, memory.item("a")) == ([], None)
    assert memory.is_empty


def test_a_memory_with_settings_alone_is_not_empty() -> None:
    memory = CallMemory()
    empty = [memory.is_empty]
    memory.keep_profile(PROFILE)
    empty.append(memory.is_empty)
    assert empty == [True, False]


def test_a_worker_that_takes_over_is_told_all_of_it_in_order() -> None:
    memory = CallMemory()
    remember(memory, "a", "", "Hello.")
    remember(memory, "b", "a", sound="c291bmQ=")
    memory.keep_profile(PROFILE)
    memory.reply_began(0, "c")
    assert list(memory.records()) == [
        PROFILE,
        wire.ItemUpdate("a", "", item={"text": "Hello."}),
        wire.ItemUpdate("b", "a", item={"text": ""}, sound="c291bmQ="),
        wire.PendingReplies((wire.Reply(0, "c"),)),
    ]
    # As often as need be.
    assert len(list(memory.records())) == 4


# Bounds


def test_the_oldest_items_are_forgotten_first() -> None:
    memory = CallMemory(max_items=3)
    for number in range(5):
        remember(memory, f"item_{number}", f"item_{number - 1}" if number else "")
    assert memory.order == ["item_2", "item_3", "item_4"]


def test_so_they_are_where_they_are_long() -> None:
    memory = CallMemory(max_bytes=1000)
    for number in range(5):
        remember(memory, f"item_{number}", f"item_{number - 1}" if number else "", size_bytes=400)
    assert memory.order == ["item_3", "item_4"]
    # One that grows takes the place of others; the last one stays, however long.
    remember(memory, "item_4", size_bytes=5000)
    assert memory.order == ["item_4"]
    remember(memory, "item_4", size_bytes=10)
    remember(memory, "item_5", "item_4", size_bytes=900)
    assert memory.order == ["item_4", "item_5"]


def test_replies_are_bounded() -> None:
    memory = CallMemory()
    for number in range(2 * module.MAX_REPLIES):
        memory.reply_began(number, f"item_{number}")
    assert [reply.index for reply in spoken(memory)] == list(range(module.MAX_REPLIES, 2 * module.MAX_REPLIES))


def test_so_is_their_text() -> None:
    memory = CallMemory(max_reply_chars=10)
    memory.reply_began(0, "a")
    memory.reply_began(1, "b")
    memory.reply_text(0, 100, "one two")
    memory.reply_text(1, 200, "three")
    memory.reply_text(1, 300, "four")
    assert [(reply.text, reply.received_samples) for reply in spoken(memory)] == [("one two", 100), ("thr", 300)]
    # One that is settled makes room.
    remember(memory, "a", settled=True)
    memory.reply_text(1, 400, "ee four")
    memory.restore_replies((wire.Reply(2, "c", "five"),))
    assert [reply.text for reply in spoken(memory)] == ["three four", ""]


def test_all_that_may_be_kept_of_them_is_one_record() -> None:
    memory = CallMemory()
    for index in range(module.MAX_REPLIES):
        # The longest that a worker takes of its API, and the longest in JSON.
        memory.reply_began(index, "\1" * (MAX_ID_CHARS - 3) + f"{index:03d}")
        memory.reply_text(index, 0, "\1" * module.MAX_REPLY_CHARS)
    assert all(wire.encode(record, 1) for record in memory.records())


# Replies


def test_of_a_reply_it_is_known_what_came_and_what_was_heard() -> None:
    memory = CallMemory()
    memory.reply_began(0, "a")
    memory.reply_text(0, 800, "Hel")
    memory.reply_text(0, 1600, "lo")
    memory.reply_audio(0, 800)
    memory.reply_audio(0, 400)
    memory.reply_heard((ItemHeard(0, 300),))
    assert spoken(memory) == (wire.Reply(0, "a", "Hello", 1600, 1200, False, 300, False),)
    memory.reply_done(0)
    memory.reply_heard((ItemHeard(0, 700),), truncated=True)
    memory.reply_heard((ItemHeard(0, 700),))
    assert spoken(memory) == (wire.Reply(0, "a", "Hello", 1600, 1200, True, 700, True),)


def test_updates_of_an_unknown_reply_are_ignored() -> None:
    memory = CallMemory()
    memory.reply_text(7, 800, "Hel")
    memory.reply_audio(7, 800)
    memory.reply_done(7)
    memory.reply_heard((ItemHeard(7, 1),), truncated=True)
    assert list(memory.records()) == []


@pytest.mark.parametrize("fields", [{"settled": True}, {"deleted": True}])
def test_a_reply_that_is_settled_is_an_item_like_others(fields: dict[str, bool]) -> None:
    memory = CallMemory()
    memory.reply_began(0, "a")
    memory.reply_began(1, "b")
    remember(memory, "a", "")
    assert [reply.item_id for reply in spoken(memory)] == ["a", "b"]
    remember(memory, "a", "", "Hello", **fields)
    assert [reply.item_id for reply in spoken(memory)] == ["b"]


def test_numbers_go_on_behind_all_that_there_were() -> None:
    memory = CallMemory()
    assert memory.next_index == 0
    memory.reply_began(4, "a")
    memory.reply_began(2, "b")
    assert memory.next_index == 5
    remember(memory, "a", "", settled=True)
    assert memory.next_index == 5


def test_a_worker_tells_a_new_dispatcher_of_its_replies() -> None:
    memory = CallMemory()
    given = wire.Reply(3, "a", "Hello", 1600, 1200, False, 300, False)
    memory.restore_replies((given,))
    memory.reply_text(3, 2400, " you")
    memory.reply_audio(3, 100)
    (reply,) = spoken(memory)
    assert (reply.index, reply.text, reply.received_samples, reply.sent_samples) == (3, "Hello you", 2400, 1300)
    assert memory.next_index == 4


# The copy in Redis


def stored(copy: dict[str, str], changes: tuple[dict[str, str | None], bool] | None) -> dict[str, str]:
    """Redis' hash after the changes."""
    assert changes is not None
    fields, anew = changes
    after = {} if anew else dict(copy)
    for name, value in fields.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = value
    return after


def items_of(memory: CallMemory | None) -> list[tuple[str, object]]:
    assert memory is not None
    return [(item_id, memory.item(item_id)) for item_id in memory.order]


def test_the_first_copy_is_complete_and_the_next_has_the_changes() -> None:
    memory = CallMemory()
    memory.keep_profile(PROFILE)
    remember(memory, "a", "", "Hello.")
    remember(memory, "b", "a")
    assert memory.take_changes() == (
        {
            "profile": '{"model":"m"}',
            "order": '["a","b"]',
            "item:a": '{"text":"Hello."}',
            "item:b": '{"text":""}',
        },
        True,
    )
    assert memory.take_changes() is None
    remember(memory, "b", "a", "Hi.")
    assert memory.take_changes() == ({"order": '["a","b"]', "item:b": '{"text":"Hi."}'}, False)
    memory.remember(wire.ItemUpdate("a", deleted=True), 10)
    assert memory.take_changes() == ({"order": '["b"]', "item:a": None}, False)
    memory.keep_profile(wire.Profile({"model": "n"}))
    assert memory.take_changes() == ({"profile": '{"model":"n"}'}, False)


def test_what_redis_has_forgotten_is_written_anew() -> None:
    memory = CallMemory()
    remember(memory, "a", "", "Hello.")
    memory.take_changes()
    memory.copy_lost()
    assert memory.take_changes() == ({"order": '["a"]', "item:a": '{"text":"Hello."}'}, True)


def test_of_a_call_of_which_nothing_is_known_nothing_is_written() -> None:
    assert CallMemory().take_changes() is None


def test_neither_secrets_nor_sound_are_written() -> None:
    memory = CallMemory()
    memory.keep_profile(PROFILE)
    remember(memory, "a", "", "Hello.", sound="c291bmQ=")
    written = orjson.dumps(memory.take_changes()).decode()
    assert "secret" not in written
    assert "c291bmQ" not in written


def test_another_dispatcher_reads_it() -> None:
    memory = CallMemory()
    memory.keep_profile(PROFILE)
    remember(memory, "a", "", "Hello.")
    remember(memory, "b", "a", "Hi.")
    again = CallMemory.from_stored(stored({}, memory.take_changes()))
    assert again is not None
    assert again.is_recalled
    assert list(again.records()) == [
        wire.Profile({"model": "m"}),
        wire.ItemUpdate("a", "", item={"text": "Hello."}),
        wire.ItemUpdate("b", "a", item={"text": "Hi."}),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"order": "[]"},
        {"order": '["a"]'},
        {"order": "not json", "item:a": "{}"},
        {"order": '["a"]', "item:a": "[]"},
        {"order": '["a"]', "item:a": "{"},
        {"order": "7"},
        {"profile": "null"},
        {"profile": "[]"},
        {"item:a": "{}"},
    ],
)
def test_what_is_no_copy_is_none(fields: dict[str, str]) -> None:
    assert CallMemory.from_stored(fields) is None


def test_an_item_that_did_not_get_there_is_left_out() -> None:
    again = CallMemory.from_stored({"order": '["a","b"]', "item:b": '{"text":"Hi."}', "item:c": "{}"})
    assert items_of(again) == [("b", {"text": "Hi."})]


names = st.sampled_from([f"item_{number}" for number in range(8)])


@settings(max_examples=200)
@given(
    script=st.lists(
        st.one_of(
            st.tuples(st.just("remember"), names, st.one_of(st.just(""), names)),
            st.tuples(st.just("forget"), names, st.just("")),
            st.tuples(st.just("write"), st.just(""), st.just("")),
            st.tuples(st.just("redis forgets"), st.just(""), st.just("")),
        ),
        max_size=40,
    )
)
def test_the_copy_is_what_is_remembered(script: list[tuple[str, str, str]]) -> None:
    memory = CallMemory()
    copy: dict[str, str] = {}
    for number, (what, item_id, after) in enumerate(script):
        if what == "remember":
            remember(memory, item_id, after if after != item_id else "", f"text {number}")
        elif what == "forget":
            memory.remember(wire.ItemUpdate(item_id, deleted=True), 10)
        elif what == "redis forgets":
            copy = {}
            memory.copy_lost()
        elif (changes := memory.take_changes()) is not None:
            copy = stored(copy, changes)
    if (changes := memory.take_changes()) is not None:
        copy = stored(copy, changes)
    again = CallMemory.from_stored(copy)
    assert (items_of(again) if again is not None else []) == items_of(memory)
    assert set(copy) <= {"order", *(f"item:{item_id}" for item_id in memory.order)}


def test_an_item_that_is_stored_twice_is_one() -> None:
    memory = CallMemory.from_stored({"order": '["a","a","b"]', "item:a": "{}", "item:b": "{}"})
    assert memory is not None
    assert memory.order == ["a", "b"]
    memory.remember(wire.ItemUpdate("a", deleted=True), 0)
    assert memory.order == ["b"]


def test_ids_are_text_again() -> None:
    memory = CallMemory.from_stored({"order": "[1]", "item:1": "{}"})
    assert memory is not None
    (record,) = memory.records()
    wire.encode(record, 1)
    assert memory.order == ["1"]


@pytest.mark.parametrize("field", ["profile", "item:a"])
def test_what_could_not_be_sent_on_is_no_memory(field: str) -> None:
    deep = "[" * 300 + "]" * 300
    assert CallMemory.from_stored({"order": '["a"]', field: f'{{"text":{deep}}}'}) is None
    assert CallMemory.from_stored({"order": '["a"]', field: orjson.dumps({"text": [[1]]}).decode()}) is not None


@pytest.mark.parametrize("levels", [300, 1000, 2000])
def test_an_order_of_items_that_is_too_deep_is_no_memory(levels: int) -> None:
    assert CallMemory.from_stored({"order": "[" * levels + "]" * levels, "profile": "{}"}) is None
