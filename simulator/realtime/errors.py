"""What the Realtime API answers to a bad client event, in its own words.

Messages and codes are those that OpenAI's service has been seen to send (reports in the public issues of
`openai-agents-python`, `openai-realtime-*`, LiveKit, Pipecat); where none was found, a comment says so.
"""

from __future__ import annotations


class RequestError(Exception):
    """A client event is refused with an `error` event; the session stays open.

    Attributes:
        code: OpenAI's error code, or None where it gives none.
        param: the path of the field that is wrong, such as `session.audio.output.speed`.
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
    """`delete`, `retrieve` or `truncate` names an item that the conversation does not have."""
    return RequestError(
        f"Error {doing} item: the item with id '{item_id}' does not exist.",
        code=f"item_{verb}_invalid_item_id",
    )


def no_such_previous_item(item_id: str) -> RequestError:
    """`conversation.item.create` wants to follow an item that is not there."""
    return RequestError(
        f"Error adding item: the previous item with id '{item_id}' does not exist.",
        code="item_create_invalid_previous_item_id",
    )


def duplicate_item(item_id: str) -> RequestError:
    """`conversation.item.create` uses an id a second time.

    OpenAI's service has been seen to let this pass. It is refused here because no correct client does it.
    """
    return RequestError(
        f"Error adding item: the item with id '{item_id}' already exists.", code="item_create_duplicate_item_id"
    )


def no_such_call(call_id: str) -> RequestError:
    """A `function_call_output` answers a call that the conversation does not have."""
    return RequestError(f"Tool call ID '{call_id}' not found in conversation.", code="invalid_tool_call_id")


def not_truncatable() -> RequestError:
    """Truncating what is not model audio: other roles, restored text, a reply without audio yet, or at 0 ms."""
    return RequestError("Only model output audio messages can be truncated", code="unsupported_content_type")


def already_shorter(audio_ms: int, audio_end_ms: int) -> RequestError:
    """Truncating behind the end of the audio."""
    return RequestError(
        f"Audio content of {audio_ms}ms is already shorter than {audio_end_ms}ms",
        code="invalid_value",
        param="audio_end_ms",
    )


def active_response(response_id: str) -> RequestError:
    """A `response.create` too many."""
    return RequestError(
        f"Conversation already has an active response in progress: {response_id}. "
        "Wait until the response is finished before creating a new one.",
        code="conversation_already_has_active_response",
    )


def no_active_response() -> RequestError:
    """A `response.cancel` that comes too late, or names another response."""
    return RequestError("Cancellation failed: no active response found", code="response_cancel_not_active")


def commit_too_small(buffered_ms: float) -> RequestError:
    """A manual commit of less than 100 ms."""
    return RequestError(
        "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
        f"but buffer only has {buffered_ms:.2f}ms of audio.",
        code="input_audio_buffer_commit_empty",
    )


def invalid_audio(param: str, expected: str) -> RequestError:
    """Audio that is not base64 of whole samples; of G.711 OpenAI's words are not known."""
    return RequestError(
        f"Invalid '{param}'. Expected base64-encoded audio bytes ({expected}) but got an invalid value.",
        code="invalid_value",
        param=param,
    )


def voice_locked() -> RequestError:
    """Another voice after the model has spoken."""
    return RequestError(
        "Cannot update a conversation's voice if assistant audio is present.", code="cannot_update_voice"
    )
