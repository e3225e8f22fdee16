"""Usage that the Realtime API reports: tokens of responses, tokens or seconds of transcriptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

MAX_TOKENS: Final = 10_000_000
"""More tokens of one kind in one event are an error of the service. A context has 128,000."""

MAX_SECONDS: Final = 86_400.0
"""More audio in one transcription is an error of the service. A session lasts an hour."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one response. Cached ones are not counted among the uncached."""

    input_text: int = 0
    input_audio: int = 0
    cached_text: int = 0
    cached_audio: int = 0
    output_text: int = 0
    output_audio: int = 0

    @classmethod
    def from_response(cls, usage: object) -> Self:
        """From `response.done`'s `usage`, where `cached_tokens` are a subset of the input's.

        Cached tokens are split by modality where the API does it (`cached_tokens_details`), and are text
        otherwise: instructions come first in what is cached.

        Raises:
            ValueError: it has another shape, or counts that cannot be true.
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
    """Usage of one transcription. The API reports tokens or seconds, by the model's kind of price.

    Attributes:
        seconds: of audio; None: the usage is in tokens.
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
            ValueError: it has another shape, or figures that cannot be true.
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
