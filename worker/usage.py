"""Tokens that a response has used, in the six classes that are paid for differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self


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
    def from_response(cls, usage: dict[str, Any]) -> Self:
        """From `response.done`'s `usage`, where `cached_tokens` are a subset of the input's.

        Cached tokens are split by modality where the API does it (`cached_tokens_details`), and are text
        otherwise: instructions come first in what is cached.
        """
        inputs = usage.get("input_token_details") or {}
        outputs = usage.get("output_token_details") or {}
        text, audio = inputs.get("text_tokens") or 0, inputs.get("audio_tokens") or 0
        cached = inputs.get("cached_tokens_details") or {"text_tokens": inputs.get("cached_tokens") or 0}
        cached_text = min(cached.get("text_tokens") or 0, text)
        cached_audio = min(cached.get("audio_tokens") or 0, audio)
        return cls(
            input_text=text - cached_text,
            input_audio=audio - cached_audio,
            cached_text=cached_text,
            cached_audio=cached_audio,
            output_text=outputs.get("text_tokens") or 0,
            output_audio=outputs.get("audio_tokens") or 0,
        )
