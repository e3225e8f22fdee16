"""The usage that the Realtime API reports: tokens of responses, and tokens or seconds of transcriptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

MAX_TOKENS: Final = 10_000_000
"""Maximum plausible number of tokens of one kind in one event. A context has 128,000 tokens."""

MAX_SECONDS: Final = 86_400.0
"""Maximum plausible length of audio in one transcription. A session lasts an hour."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one response. Input counts do not include cached tokens."""

    input_text: int = 0
    input_audio: int = 0
    cached_text: int = 0
    cached_audio: int = 0
    output_text: int = 0
    output_audio: int = 0

    @classmethod
    def from_response(cls, usage: object) -> Self:
        """Read the `usage` of `response.done`, where `cached_tokens` are a subset of the input tokens.

        Cached tokens are split by modality if the API does so (`cached_tokens_details`). Otherwise they count as
        text, because instructions are the first part of the cached input.

        Raises:
            ValueError: the usage has another shape, or implausible counts.
        """
        if not isinstance(usage, dict):
            raise ValueError("usage is no object")
        inputs, outputs = _details(usage, "input_token_details"), _details(usage, "output_token_details")
        text, audio = _tokens(inputs, "text_tokens"), _tokens(inputs, "audio_tokens")
        of_no_modality = {"text_tokens": _tokens(inputs, "cached_tokens")}
        cached = _details(inputs, "cached_tokens_details") or of_no_modality
        cached_text = min(_tokens(cached, "text_tokens"), text)
        cached_audio = min(_tokens(cached, "audio_tokens"), audio)
        return cls(
            input_text=text - cached_text,
            input_audio=audio - cached_audio,
            cached_text=cached_text,
            cached_audio=cached_audio,
            output_text=_tokens(outputs, "text_tokens"),
            output_audio=_tokens(outputs, "audio_tokens"),
        )


@dataclass(frozen=True, slots=True)
class TranscriptionUsage:
    """The usage of one transcription. The API reports tokens or seconds, depending on the model's price.

    Attributes:
        seconds: length of the audio; None if the usage is in tokens.
    """

    input_text: int = 0
    input_audio: int = 0
    output_text: int = 0
    seconds: float | None = None

    @classmethod
    def from_event(cls, usage: object) -> Self:
        """Read the `usage` of `conversation.item.input_audio_transcription.completed`.

        Input tokens without a modality count as audio, because audio is the input of a transcription. The shape is
        that of `openai.types.realtime.conversation_item_input_audio_transcription_completed_event.Usage`.

        Raises:
            ValueError: the usage has another shape, or implausible figures.
        """
        if not isinstance(usage, dict):
            raise ValueError("usage is no object")
        if usage.get("type") == "duration" or "seconds" in usage:
            seconds = usage.get("seconds")
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
                raise ValueError("usage has no seconds")
            if not 0 <= seconds <= MAX_SECONDS:
                raise ValueError("usage has seconds that cannot be true")
            return cls(seconds=float(seconds))
        details = usage.get("input_token_details")
        if not isinstance(details, dict):
            details = {}
        text, audio = _tokens(details, "text_tokens"), _tokens(details, "audio_tokens")
        unsorted = _tokens(usage, "input_tokens") - text - audio
        return cls(
            input_text=text, input_audio=audio + max(unsorted, 0), output_text=_tokens(usage, "output_tokens")
        )


def _details(usage: dict[str, Any], name: str) -> dict[str, Any]:
    details = usage.get(name)
    if details is None:
        return {}
    if not isinstance(details, dict):
        raise ValueError(f"usage has {name} that are no object")
    return details


def _tokens(usage: dict[str, Any], name: str) -> int:
    count = usage.get(name)
    if count is None:
        return 0
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_TOKENS:
        raise ValueError(f"usage has {name} that cannot be true")
    return count
