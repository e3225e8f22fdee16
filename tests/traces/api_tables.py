"""Events, errors, tools and words that the API of the traces draws from."""

from __future__ import annotations

from typing import Any, Final

# Event names of the beta dialect; xAI has some of them.
OLD_NAMES: Final = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "conversation.item.added": "conversation.item.created",
}
_ACTIVE: Final = "conversation_already_has_active_response"
# Errors as (code, type, message, param).
ERRORS: Final[list[tuple[str | None, str, str, str | None]]] = [
    ("server_error", "server_error", "The server had an error.", None),
    (None, "server_error", "Sorry about that.", None),
    ("rate_limit_exceeded", "invalid_request_error", "Rate limit reached, try again in 1.5s.", None),
    ("rate_limit_exceeded", "tokens", "Please try again in 2m30s", None),
    ("context_length_exceeded", "invalid_request_error", "Too long.", None),
    (_ACTIVE, "invalid_request_error", "There is one.", None),
    ("response_cancel_not_active", "invalid_request_error", "No active response.", None),
    ("invalid_value", "invalid_request_error", "Unknown.", "response.metadata"),
    ("invalid_value", "invalid_request_error", "Unknown.", "item.content"),
    ("item_truncate_invalid_item_id", "invalid_request_error", "No such item.", "item_id"),
    ("input_audio_buffer_commit_empty", "invalid_request_error", "Empty.", None),
    ("unknown_parameter", "invalid_request_error", "sk-abcdefgh12345678 is not for that", None),
    ("content_filter", "invalid_request_error", "Refused.", None),
]
ENDS: Final[list[tuple[str | None, str, str, str | None]]] = [
    ("session_expired", "invalid_request_error", "Your session hit the maximum duration of 60 minutes.", None),
    ("invalid_api_key", "invalid_request_error", "Incorrect API key provided: sk-abc***xyz", None),
    ("insufficient_quota", "insufficient_quota", "You exceeded your current quota.", None),
]
REFUSED_FIELDS: Final = [
    "session.audio.input.noise_reduction",
    "session.input_audio_noise_reduction",
    "session.audio.output.speed",
    "session.tracing",
    "session.truncation",
    "session.audio.input.transcription",
    "session.tools[0].parameters",
    "session.tools[9]",
    "session.instructions",
    "session.audio.output.voice",
]
TOOLS: Final = [
    ("look_up", '{"what":"hours"}'),
    ("look_up", "{"),
    ("repeatable", "{}"),
    ("avr_transfer", '{"transfer_extension":"600"}'),
    ("avr_transfer", '{"transfer_extension":"0039123456789"}'),
    ("avr_transfer", '{"transfer_extension":17}'),
    ("avr_transfer", "no json"),
    ("avr_hangup", "{}"),
    ("avr_hangup", ""),
]
WORDS: Final = [
    "Hello there.",
    "Yes, of course. ",
    "We are open until nine. ",
    "Äh… 今日は。",
    " ",
    "One moment, please, ",
]
HOSTILE: Final[list[Any]] = [None, 0, -1, 1e300, "", "x" * 300, [], {}, [None], {"id": None}, True]
USAGE: Final = {
    "total_tokens": 233,
    "input_tokens": 119,
    "output_tokens": 114,
    "input_token_details": {
        "text_tokens": 69,
        "audio_tokens": 50,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
    },
    "output_token_details": {"text_tokens": 24, "audio_tokens": 90},
}
