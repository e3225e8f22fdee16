from __future__ import annotations

import base64

import pytest

from simulator.realtime.conversation import Conversation, Item, Origin, Part
from simulator.realtime.errors import RequestError
from simulator.realtime.word_times import WordTimes


def _message(item_id: str, role: str = "user", text: str = "hello") -> Item:
    kind = "output_text" if role == "assistant" else "input_text"
    return Item(item_id, "message", Origin.CLIENT, role=role, parts=[Part(kind, text)])


def _spoken(words: int, *, audio_ms: int | None = None) -> Item:
    item = Item(
        "item_s",
        "message",
        Origin.MODEL,
        role="assistant",
        parts=[Part("output_audio", "")],
        times=WordTimes.even(100, 400),
    )
    item.speak([f"word{each}" for each in range(1, words + 1)], words * 400 if audio_ms is None else audio_ms)
    return item


def _ids(conversation: Conversation) -> list[str]:
    return [item.id for item in conversation.items]


def test_items_are_added_in_place_after_their_predecessor() -> None:
    conversation = Conversation("conv_1")
    assert conversation.add(_message("a")) is None
    assert conversation.add(_message("b")) == "a"
    assert conversation.add(_message("c"), after="a") == "a"
    assert conversation.add(_message("d"), after="root") is None
    assert _ids(conversation) == ["d", "a", "c", "b"]
    conversation.remove("a")
    assert _ids(conversation) == ["d", "c", "b"]
    assert conversation.last_id() == "b"


@pytest.mark.parametrize(
    ("item", "after", "code"),
    [
        (_message("b"), "zzz", "item_create_invalid_previous_item_id"),
        (_message("a"), None, "item_create_duplicate_item_id"),
        (Item("b", "function_call_output", Origin.CLIENT, call_id="call_9"), None, "invalid_tool_call_id"),
    ],
)
def test_an_item_that_does_not_fit_is_refused(item: Item, after: str | None, code: str) -> None:
    conversation = Conversation("conv_1")
    conversation.add(_message("a"))
    with pytest.raises(RequestError) as refused:
        conversation.add(item, after=after)
    assert refused.value.code == code
    assert _ids(conversation) == ["a"]


def test_deleting_an_unknown_item_is_refused() -> None:
    with pytest.raises(RequestError, match=r"^Error deleting item: the item with id 'x' does not exist\.$"):
        Conversation("conv_1").remove("x")


@pytest.mark.parametrize(
    ("audio_end_ms", "kept"),
    [(1600, 4), (1599, 3), (1200, 3), (400, 1), (399, 0), (1, 0)],
)
def test_after_a_truncation_only_whole_words_are_remembered(audio_end_ms: int, kept: int) -> None:
    item = _spoken(4)
    item.truncate(0, audio_end_ms)
    assert item.text == " ".join(f"word{each}" for each in range(1, kept + 1))
    assert item.audio_ms == item.truncated_ms == audio_end_ms
    assert item.said == ["word1", "word2", "word3", "word4"]
    assert item.wire()["content"][0]["transcript"] == item.text


def test_words_spoken_after_a_truncation_are_not_kept() -> None:
    item = _spoken(2)
    item.truncate(0, 600)
    item.speak(["word3"], 1200)
    assert item.text == "word1"
    assert item.said == ["word1", "word2", "word3"]


def test_truncating_behind_the_end_is_refused_in_openais_words() -> None:
    with pytest.raises(RequestError, match=r"^Audio content of 800ms is already shorter than 801ms$") as refused:
        _spoken(2).truncate(0, 801)
    assert refused.value.code == "invalid_value"
    assert refused.value.param == "audio_end_ms"


def test_a_second_truncation_can_only_shorten() -> None:
    item = _spoken(3)
    item.truncate(0, 900)
    with pytest.raises(RequestError, match="Audio content of 900ms is already shorter than 1000ms"):
        item.truncate(0, 1000)
    item.truncate(0, 500)
    assert item.text == "word1"


@pytest.mark.parametrize(
    ("item", "content_index", "audio_end_ms"),
    [
        (_message("a", "user"), 0, 100),
        (_message("a", "assistant"), 0, 100),
        (_spoken(0, audio_ms=0), 0, 100),
        (_spoken(2), 0, 0),
        (_spoken(2), 1, 100),
        (Item("a", "function_call", Origin.MODEL), 0, 100),
    ],
    ids=["user", "restored text", "no audio yet", "at 0 ms", "no such part", "function call"],
)
def test_only_audio_of_the_model_can_be_truncated(item: Item, content_index: int, audio_end_ms: int) -> None:
    with pytest.raises(RequestError, match=r"^Only model output audio messages can be truncated$") as refused:
        item.truncate(content_index, audio_end_ms)
    assert refused.value.code == "unsupported_content_type"


def test_audio_is_shown_on_request_alone() -> None:
    item = Item("a", "message", Origin.CALLER, role="user", parts=[Part("input_audio", None, b"\x01\x02")])
    assert item.wire()["content"] == [{"type": "input_audio", "transcript": None}]
    assert base64.b64decode(item.wire(bytes)["content"][0]["audio"]) == b"\x01\x02"


def test_calls_after_the_users_last_message_are_noticed() -> None:
    conversation = Conversation("conv_1")
    conversation.add(Item("f", "function_call", Origin.CLIENT, call_id="call_1"))
    assert conversation.calls_after_user()
    conversation.add(_message("a"))
    assert not conversation.calls_after_user()
    assert conversation.user_turns() == 1
