from __future__ import annotations

import pytest

from simulator.realtime.settings import Behaviour, Transcription
from simulator.realtime.transcription import heard_text, transcription_events
from tests.simulator.validation import validate_server_event


def test_transcript_follows_length_unless_text_is_set() -> None:
    assert heard_text(Behaviour(), 900) == "heard one two three"
    assert heard_text(Behaviour(word_ms=900), 900) == "heard one"
    assert heard_text(Behaviour(transcript=""), 900) == ""
    assert heard_text(Behaviour(transcription=Transcription.FAIL), 900) is None


@pytest.mark.parametrize(
    ("text", "model", "types"),
    [
        ("a b", "whisper-1", ["delta", "completed"]),
        ("a b", "gpt-4o-mini-transcribe", ["delta", "delta", "completed"]),
        ("a b", "gpt-transcribe", ["delta", "delta", "completed"]),
        ("", "gpt-4o-mini-transcribe", ["completed"]),
        (None, "whisper-1", ["failed"]),
    ],
)
def test_events_are_those_of_the_transcription_model(text: str | None, model: str, types: list[str]) -> None:
    events = transcription_events("item_1", text, model=model, audio_ms=1500)
    assert [kind.rpartition(".")[2] for kind, _ in events] == types
    for kind, content in events:
        validate_server_event({"type": kind, "event_id": "event_1", **content})


@pytest.mark.parametrize(
    ("model", "kind"), [("gpt-transcribe", "duration"), ("whisper-1", "duration"), ("gpt-4o-transcribe", "tokens")]
)
def test_usage_has_the_unit_of_the_models_price(model: str, kind: str) -> None:
    *_, (_, completed) = transcription_events("item_1", "a b", model=model, audio_ms=1500)
    assert completed["usage"]["type"] == kind
