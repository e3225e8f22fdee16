"""The counts of tokens and seconds: each token is counted once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import RealtimeResponseUsage
from openai.types.realtime.conversation_item_input_audio_transcription_completed_event import (
    Usage as WireTranscriptionUsage,
)
from pydantic import TypeAdapter

from worker.realtime.usage import MAX_SECONDS, MAX_TOKENS, TranscriptionUsage, Usage


def usage_of(inputs: dict[str, Any] | None, outputs: dict[str, Any] | None) -> Usage:
    """Check the usage against the API's types, and read it."""
    wire = {"input_token_details": inputs, "output_token_details": outputs}
    RealtimeResponseUsage.model_validate(wire, strict=True)
    return Usage.from_response(wire)


def test_cached_tokens_are_subtracted_from_the_input() -> None:
    usage = usage_of(
        {
            "text_tokens": 69,
            "audio_tokens": 50,
            "cached_tokens": 64,
            "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
        },
        {"text_tokens": 24, "audio_tokens": 90},
    )
    assert usage == Usage(
        input_text=9, input_audio=46, cached_text=60, cached_audio=4, output_text=24, output_audio=90
    )


def test_cached_tokens_of_no_modality_are_text() -> None:
    usage = usage_of({"text_tokens": 69, "audio_tokens": 50, "cached_tokens": 64}, None)
    assert usage == Usage(input_text=5, input_audio=50, cached_text=64)


@pytest.mark.parametrize("missing", [None, {}])
def test_missing_counts_are_zero(missing: dict[str, Any] | None) -> None:
    assert usage_of(missing, missing) == Usage()
    assert Usage.from_response({}) == Usage()


def test_null_counts_are_zero() -> None:
    usage = usage_of(
        {"text_tokens": 10, "audio_tokens": None, "cached_tokens": None, "cached_tokens_details": None},
        {"text_tokens": None, "audio_tokens": 5},
    )
    assert usage == Usage(input_text=10, output_audio=5)


counts = st.integers(0, 1000)


@given(text=counts, audio=counts, cached_text=counts, cached_audio=counts, split=st.booleans())
def test_every_input_token_is_counted_once(
    text: int, audio: int, cached_text: int, cached_audio: int, split: bool
) -> None:
    # Even of figures that contradict each other.
    details = {"text_tokens": cached_text, "audio_tokens": cached_audio} if split else None
    usage = usage_of(
        {
            "text_tokens": text,
            "audio_tokens": audio,
            "cached_tokens": cached_text + cached_audio,
            "cached_tokens_details": details,
        },
        None,
    )
    assert usage.input_text + usage.cached_text == text
    assert usage.input_audio + usage.cached_audio == audio
    assert min(usage.input_text, usage.input_audio, usage.cached_text, usage.cached_audio) >= 0


ODD_COUNTS = [-1, MAX_TOKENS + 1, 10**100, 1.5, float("nan"), float("inf"), True, "12", [1], {"a": 1}]
PLACES = [
    ("input_token_details", "text_tokens"),
    ("input_token_details", "audio_tokens"),
    ("input_token_details", "cached_tokens"),
    ("output_token_details", "text_tokens"),
    ("output_token_details", "audio_tokens"),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("count", ODD_COUNTS)
def test_implausible_count_is_refused(place: tuple[str, str], count: object) -> None:
    details, name = place
    with pytest.raises(ValueError, match="usage"):
        Usage.from_response({details: {name: count}})
    cached = {"text_tokens": 10, "audio_tokens": 10, "cached_tokens_details": {"audio_tokens": count}}
    with pytest.raises(ValueError, match="usage"):
        Usage.from_response({"input_token_details": cached})


@pytest.mark.parametrize(
    "odd",
    [
        17,
        "usage",
        ["usage"],
        {"input_token_details": [1]},
        {"output_token_details": "many"},
        {"input_token_details": {"cached_tokens_details": 1}},
    ],
)
def test_usage_of_another_shape_is_refused(odd: object) -> None:
    with pytest.raises(ValueError, match="usage"):
        Usage.from_response(odd)


def test_maximum_tokens_are_accepted() -> None:
    usage = Usage.from_response({"output_token_details": {"audio_tokens": MAX_TOKENS}})
    assert usage == Usage(output_audio=MAX_TOKENS)


# Transcriptions


def transcription_usage(wire: dict[str, Any]) -> TranscriptionUsage:
    """Check the usage of a transcription against the API's types, and read it."""
    TypeAdapter(WireTranscriptionUsage).validate_python(wire, strict=True)
    return TranscriptionUsage.from_event(wire)


def test_a_transcriptions_tokens_are_read_by_modality() -> None:
    wire = {
        "type": "tokens",
        "input_tokens": 22,
        "output_tokens": 12,
        "total_tokens": 34,
        "input_token_details": {"text_tokens": 13, "audio_tokens": 9},
    }
    assert transcription_usage(wire) == TranscriptionUsage(input_text=13, input_audio=9, output_text=12)


@pytest.mark.parametrize("details", [None, {}, {"audio_tokens": 20}])
def test_input_tokens_without_a_modality_are_audio(details: dict[str, int] | None) -> None:
    wire = {"type": "tokens", "input_tokens": 22, "output_tokens": 12, "total_tokens": 34}
    usage = transcription_usage(wire | {"input_token_details": details})
    assert usage == TranscriptionUsage(input_audio=22, output_text=12)


def test_a_transcriptions_seconds_are_read() -> None:
    assert transcription_usage({"type": "duration", "seconds": 3.5}) == TranscriptionUsage(seconds=3.5)
    assert TranscriptionUsage.from_event({"type": "duration", "seconds": 4}).seconds == 4.0


@pytest.mark.parametrize(
    "odd",
    [
        None,
        17,
        [],
        {"type": "duration"},
        {"type": "duration", "seconds": "3"},
        {"type": "duration", "seconds": True},
        {"type": "duration", "seconds": -0.5},
        {"type": "duration", "seconds": MAX_SECONDS + 1},
        {"type": "duration", "seconds": float("nan")},
        {"type": "tokens", "input_tokens": -1, "output_tokens": 1},
        {"type": "tokens", "input_tokens": 1, "output_tokens": MAX_TOKENS + 1},
        {"type": "tokens", "input_tokens": 1.5},
        {"type": "tokens", "input_tokens": True},
        {"type": "tokens", "input_tokens": "1"},
        {"type": "tokens", "input_token_details": {"audio_tokens": -4}},
    ],
)
def test_a_transcriptions_odd_usage_is_refused(odd: object) -> None:
    with pytest.raises(ValueError, match="usage"):
        TranscriptionUsage.from_event(odd)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.dictionaries(
        st.sampled_from(["type", "seconds", "input_tokens", "input_token_details"]), inner
    ),
)


@given(json_values)
def test_odd_transcription_usage_only_raises_value_error(wire: object) -> None:
    try:
        usage = TranscriptionUsage.from_event(wire)
    except ValueError:
        return
    assert min(usage.input_text, usage.input_audio, usage.output_text, usage.seconds or 0) >= 0
