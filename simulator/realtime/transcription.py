"""Input transcription: its text and events. It runs beside the model, so the session decides the time."""

from __future__ import annotations

import re
from typing import Any

from simulator.realtime.settings import Behaviour, Transcription
from simulator.realtime.usage import USER_AUDIO_MS_PER_TOKEN, text_tokens
from simulator.realtime.voice import heard_words

# The models' pages on developers.openai.com give a price for a minute of audio.
_PRICED_BY_THE_MINUTE = frozenset({"whisper-1", "gpt-transcribe", "gpt-live-transcribe", "gpt-realtime-whisper"})
_PREFIX = "conversation.item.input_audio_transcription"


def heard_text(behaviour: Behaviour, speech_ms: int, said: str | None = None) -> str | None:
    """Return the transcript of speech of this length; None: the transcription fails.

    The simulator cannot recognise speech. Unless a text is set, or a script says what the caller `said`, it
    returns one word for each started `word_ms` between the first and the last loud frame of the turn:
    `heard one two three`.
    """
    if behaviour.transcription is Transcription.FAIL:
        return None
    if behaviour.transcript is not None:
        return behaviour.transcript
    return said or heard_words(speech_ms, behaviour.word_ms)


def transcription_events(
    item_id: str, text: str | None, *, model: str, audio_ms: int
) -> list[tuple[str, dict[str, Any]]]:
    """Return types and contents of the server events, in order.

    `whisper-1` does not stream: one delta with everything. Models that OpenAI prices by the minute report seconds,
    others report tokens (the docstrings of `openai.types.realtime`'s usage types; the models' pages, 2026-11-30).
    """
    where = {"item_id": item_id, "content_index": 0}
    if text is None:
        error = {
            "type": "transcription_error",
            "code": "audio_unintelligible",
            "message": "The audio could not be transcribed.",
            "param": None,
        }
        return [(f"{_PREFIX}.failed", {**where, "error": error})]
    deltas = [text] if model == "whisper-1" else re.findall(r"\s*\S+", text)
    if model in _PRICED_BY_THE_MINUTE:
        usage: dict[str, Any] = {"type": "duration", "seconds": audio_ms / 1000}
    else:
        heard, written = -(-audio_ms // USER_AUDIO_MS_PER_TOKEN), text_tokens(text)
        usage = {
            "type": "tokens",
            "input_tokens": heard,
            "output_tokens": written,
            "total_tokens": heard + written,
            "input_token_details": {"audio_tokens": heard, "text_tokens": 0},
        }
    return [
        *((f"{_PREFIX}.delta", {**where, "delta": delta}) for delta in deltas),
        (f"{_PREFIX}.completed", {**where, "transcript": text, "usage": usage}),
    ]
