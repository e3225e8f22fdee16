"""Records that are too long for a message of the link are truncated."""

from __future__ import annotations

from typing import Any

import pytest

from common.link import wire
from tests.worker.link_records import decoded_all
from worker.session.truncation import MARK, MAX_RECORD_BYTES, MAX_SOUND_CHARS, MAX_TEXT_CHARS, encoded, truncate

LONG = 3 * 1024 * 1024


def shortened(record: wire.Control) -> Any:
    """Return the truncated form of a record."""
    sent, reason = encoded(record, 7)
    assert len(sent) <= MAX_RECORD_BYTES
    assert type(record).__name__ in reason
    assert "bytes" in reason
    assert "secret" not in reason
    (found,) = decoded_all([sent], 7)
    return found


def test_what_fits_is_as_it_was() -> None:
    record = wire.Transcript("item", "user", "Hello")
    assert encoded(record, 7) == (wire.encode(record, 7), "")


# Of characters that JSON escapes, and of those that are long in UTF-8, more than bytes are counted.
@pytest.mark.parametrize("words", ["secret ", "a\1\2", "a\U0001f600"], ids=["plain", "control", "wide"])
def test_a_text_is_cut_with_a_mark(words: str) -> None:
    text = words * (LONG // len(words))
    expected = text[: MAX_TEXT_CHARS - len(MARK)] + MARK
    assert shortened(wire.Transcript("item", "user", text)) == wire.Transcript("item", "user", expected)
    found = shortened(wire.ItemUpdate("item", "before", settled=True, item={"role": "user", "text": text}))
    assert found == wire.ItemUpdate("item", "before", settled=True, item={"role": "user", "text": expected})
    assert truncate(expected) == expected


def test_sound_is_cut_to_whole_groups() -> None:
    found = shortened(wire.ItemUpdate("item", item={"role": "user"}, sound="c291bmQh" * (LONG // 8)))
    assert found.sound == ("c291bmQh" * (LONG // 8))[:MAX_SOUND_CHARS]
    assert len(found.sound) % 4 == 0


def test_an_item_that_is_too_long_for_other_reasons_is_left_out() -> None:
    found = shortened(wire.ItemUpdate("item", "before", item={"name": "secret" * (LONG // 6)}))
    assert found == wire.ItemUpdate("item", deleted=True)


def test_what_would_leave_no_room_for_another_id_is_cut_too() -> None:
    record = wire.ItemUpdate("item", item={"text": "x" * (MAX_RECORD_BYTES - 50)})
    assert len(wire.encode(record, 7)) > MAX_RECORD_BYTES
    assert shortened(record).item["text"].endswith(MARK)


def test_of_a_conversation_the_newest_part_is_told() -> None:
    entries = [{"role": "user", "text": f"{number} secret" + "x\1" * 2000} for number in range(500)]
    found = shortened(wire.Result(7, 200, {"conversation": entries}))
    kept = len(found.body["conversation"])
    assert 50 < kept < 500
    assert found == wire.Result(7, 200, {"conversation": entries[-kept:], "omitted": 500 - kept})
    # The rest of the answer stays, and so do notes on entries.
    noted = [each | {"waited": {"seconds": 0.5}, "heard_share": 0.4} for each in entries]
    found = shortened(wire.Result(7, 200, {"conversation": noted, "session": {"voice": "marin"}}))
    assert found.body["session"] == {"voice": "marin"}
    assert found.body["conversation"][-1] == noted[-1]
    # However long the last one is.
    found = shortened(wire.Result(7, 200, {"conversation": [*entries, {"role": "agent", "text": "x" * LONG}]}))
    assert found.body["conversation"][-1]["text"].endswith(MARK)


def test_replies_share_the_room() -> None:
    replies = tuple(wire.Reply(number, f"item_{number}", "secret " * (LONG // 7)) for number in range(8))
    found = shortened(wire.PendingReplies(replies))
    assert [reply.index for reply in found.replies] == list(range(8))
    assert {len(reply.text) for reply in found.replies} == {MAX_TEXT_CHARS // 8}


def test_where_there_is_nothing_to_cut_it_is_said() -> None:
    with pytest.raises(ValueError, match="Released record of"):
        encoded(wire.Released("dropped", "x" * LONG), 7)
