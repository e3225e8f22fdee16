from __future__ import annotations

from simulator.realtime.conversation import Item, Origin, Part
from simulator.realtime.usage import Tokens, Usage, context_of, input_usage, item_tokens
from simulator.realtime.word_times import WordTimes


def _said(item_id: str, words: int) -> Item:
    item = Item(
        item_id,
        "message",
        Origin.MODEL,
        role="assistant",
        parts=[Part("output_audio", "")],
        times=WordTimes.even(100, 400),
    )
    item.speak(["abcd"] * words, words * 400)
    return item


def _heard(item_id: str, audio_ms: int) -> Item:
    part = Part("input_audio", "the transcript costs nothing")
    return Item(item_id, "message", Origin.CALLER, role="user", parts=[part], audio_ms=audio_ms)


def test_audio_costs_by_its_length_and_text_by_its_characters() -> None:
    assert item_tokens(_heard("a", 2550)) == Tokens(text=0, audio=26)
    assert item_tokens(_said("b", 4)) == Tokens(text=5, audio=32)
    typed = Item("c", "message", Origin.CLIENT, role="user", parts=[Part("input_text", "12345678")])
    assert item_tokens(typed) == Tokens(text=2)
    output = Item("d", "function_call_output", Origin.CLIENT, output="1234")
    assert item_tokens(output) == Tokens(text=1)


def test_truncated_reply_costs_only_its_rest() -> None:
    item = _said("a", 4)
    item.truncate(0, 800)
    assert item_tokens(item) == Tokens(text=3, audio=16)


def test_cached_tokens_are_whole_blocks_of_the_common_start() -> None:
    items = [_heard("a", 20_000), _said("b", 10)]
    first = context_of("x" * 800, items)
    assert input_usage(first, ()) == (Tokens(text=213, audio=280), Tokens())
    second = context_of("x" * 800, [*items, _heard("c", 1000)])
    total, cached = input_usage(second, first)
    assert total == Tokens(text=213, audio=290)
    assert cached == Tokens(text=192, audio=256)


def test_a_change_in_the_middle_ends_the_cached_part() -> None:
    items = [_heard("a", 20_000), _said("b", 40), _heard("c", 9000)]
    before = context_of("x" * 800, items)
    items[1].truncate(0, 400)
    _, cached = input_usage(context_of("x" * 800, items), before)
    assert cached == Tokens(text=192, audio=192)
    _, cached = input_usage(context_of("y" * 800, items), before)
    assert cached == Tokens()


def test_the_wire_form_adds_up() -> None:
    usage = Usage(Tokens(100, 200), Tokens(64, 128), Tokens(5, 40)) + Usage(Tokens(1, 2), Tokens(), Tokens(3, 4))
    wire = usage.wire()
    assert wire["input_tokens"] == 303
    assert wire["output_tokens"] == 52
    assert wire["total_tokens"] == 355
    assert wire["input_token_details"]["cached_tokens"] == 192
    assert wire["input_token_details"]["cached_tokens_details"] == {
        "text_tokens": 64,
        "audio_tokens": 128,
        "image_tokens": 0,
    }
    assert wire["output_token_details"] == {"text_tokens": 8, "audio_tokens": 44}
