"""Tokens, each counted once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import RealtimeResponseUsage

from worker.usage import Usage


def usage_of(inputs: dict[str, Any] | None, outputs: dict[str, Any] | None) -> Usage:
    """Read as the API writes it."""
    wire = {"input_token_details": inputs, "output_token_details": outputs}
    RealtimeResponseUsage.model_validate(wire, strict=True)
    return Usage.from_response(wire)


def test_cached_tokens_are_a_part_of_the_input_and_counted_apart() -> None:
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
def test_what_is_missing_is_nothing(missing: dict[str, Any] | None) -> None:
    assert usage_of(missing, missing) == Usage()
    assert Usage.from_response({}) == Usage()


def test_figures_that_are_null_are_nothing() -> None:
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
