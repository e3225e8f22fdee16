"""Errors of the Realtime API for invalid client events, in its own words.

Messages and codes are those that OpenAI's service was seen to send, by reports in the public issues of
`openai-agents-python`, `openai-realtime-*`, LiveKit and Pipecat. Where none was found, a comment says so.
"""

from __future__ import annotations


class RequestError(Exception):
    """A client event was refused with an `error` event; the session stays open.

    Attributes:
        code: OpenAI's error code; None where OpenAI gives none.
        param: path of the invalid field, such as `session.audio.output.speed`.
        kind: the error's `type`.
    """

    def __init__(
        self, message: str, *, code: str | None, param: str | None = None, kind: str = "invalid_request_error"
    ) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        self.kind = kind


def no_such_item(verb: str, doing: str, item_id: str) -> RequestError:
    """Refuse `delete`, `retrieve` or `truncate` of an item that the conversation does not have."""
    return RequestError(
        f"Error {doing} item: the item with id '{item_id}' does not exist.",
        code=f"item_{verb}_invalid_item_id",
    )


def no_such_previous_item(item_id: str) -> RequestError:
    """Refuse to create an item after one that does not exist."""
    return RequestError(
        f"Error adding item: the previous item with id '{item_id}' does not exist.",
        code="item_create_invalid_previous_item_id",
    )


def duplicate_item(item_id: str) -> RequestError:
    """Refuse `conversation.item.create` with an id that is taken.

    OpenAI's service was seen to accept this. The simulator refuses it because no correct client does it.
    """
    return RequestError(
        f"Error adding item: the item with id '{item_id}' already exists.", code="item_create_duplicate_item_id"
    )


def no_such_call(call_id: str) -> RequestError:
    """Refuse a `function_call_output` for a call that the conversation does not have."""
    return RequestError(f"Tool call ID '{call_id}' not found in conversation.", code="invalid_tool_call_id")


def not_truncatable() -> RequestError:
    """Refuse to truncate an item that has no model audio.

    Such items are those of other roles, restored text, a reply without audio yet, or any reply at 0 ms.
    """
    return RequestError("Only model output audio messages can be truncated", code="unsupported_content_type")


def already_shorter(audio_ms: int, audio_end_ms: int) -> RequestError:
    """Refuse to truncate beyond the end of the audio."""
    return RequestError(
        f"Audio content of {audio_ms}ms is already shorter than {audio_end_ms}ms",
        code="invalid_value",
        param="audio_end_ms",
    )


def active_response(response_id: str) -> RequestError:
    """Refuse a `response.create` while a response is active."""
    return RequestError(
        f"Conversation already has an active response in progress: {response_id}. "
        "Wait until the response is finished before creating a new one.",
        code="conversation_already_has_active_response",
    )


def no_active_response() -> RequestError:
    """Refuse a `response.cancel` that comes too late, or names another response."""
    return RequestError("Cancellation failed: no active response found", code="response_cancel_not_active")


def commit_too_small(buffered_ms: float) -> RequestError:
    """Refuse a manual commit of less than 100 ms."""
    return RequestError(
        "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
        f"but buffer only has {buffered_ms:.2f}ms of audio.",
        code="input_audio_buffer_commit_empty",
    )


def invalid_audio(param: str, expected: str) -> RequestError:
    """Refuse audio that is not base64 of whole samples; OpenAI's text for G.711 is not known."""
    return RequestError(
        f"Invalid '{param}'. Expected base64-encoded audio bytes ({expected}) but got an invalid value.",
        code="invalid_value",
        param=param,
    )


def voice_locked() -> RequestError:
    """Refuse another voice after the model has spoken."""
    return RequestError(
        "Cannot update a conversation's voice if assistant audio is present.", code="cannot_update_voice"
    )
