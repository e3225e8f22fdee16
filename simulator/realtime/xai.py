"""xAI's dialect: GA with differences.

Voice and turn detection stand at the top of the session, fixed text can be spoken (`force_message`), and its
events lack some of GA's fields. Sources: https://docs.x.ai/developers/model-capabilities/audio/voice-agent, and
workarounds of clients (`litellm/llms/xai/realtime`, Pipecat's `services/xai/realtime`). The service may ignore a
field in the wrong place; the simulator refuses it, so that the mistake is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from simulator.realtime.dialect import Content, Dialect, Event, without
from simulator.realtime.requests import (
    AUDIO_PART,
    FORMAT,
    INSTRUCTIONS,
    MAX_TOKENS,
    MAX_TOOLS,
    TEXT,
    TEXT_PART,
    client_events,
    function_tool,
    item_shapes,
    mcp_tool,
    response_input,
)
from simulator.realtime.schema import (
    Check,
    anything,
    array,
    boolean,
    closed,
    mapping,
    nullable,
    number,
    one_of,
    string,
    tagged,
)

# Input transcription by this model repeats its text so far; other models send the final text alone.
STREAMING_TRANSCRIBER: Final = "grok-transcribe"

_TRANSCRIPTION_DELTA: Final = "conversation.item.input_audio_transcription.delta"
_TRANSCRIPTION_UPDATED: Final = "conversation.item.input_audio_transcription.updated"
_TRANSCRIPTION_COMPLETED: Final = "conversation.item.input_audio_transcription.completed"

_TOOLS = array(
    tagged(
        {
            "function": function_tool,
            "mcp": mcp_tool,
            "web_search": mapping(anything),
            "x_search": mapping(anything),
            "file_search": mapping(anything),
        }
    ),
    max_length=MAX_TOOLS,
)
_DETECTION = {
    "threshold": number(0.1, 0.9),
    "prefix_padding_ms": number(0, 10_000, integer=True),
    "silence_duration_ms": number(0, 10_000, integer=True),
    "idle_timeout_ms": nullable(number(0, 60_000, integer=True)),
    "create_response": boolean,
    "interrupt_response": boolean,
}
_SESSION = closed(
    {
        "type": one_of("realtime"),
        "model": TEXT,
        "instructions": INSTRUCTIONS,
        "voice": TEXT,
        "turn_detection": nullable(closed({**_DETECTION, "type": nullable(one_of("server_vad"))})),
        "output_modalities": anything,
        "modalities": anything,
        "tools": _TOOLS,
        "tool_choice": anything,
        "parallel_tool_calls": nullable(boolean),
        "max_output_tokens": MAX_TOKENS,
        "temperature": number(0, 2),
        "reasoning": nullable(closed({"effort": one_of("none", "high")})),
        "tracing": anything,
        "truncation": anything,
        "audio": closed(
            {
                "input": closed(
                    {
                        "format": FORMAT,
                        "noise_reduction": anything,
                        "transcription": nullable(
                            closed(
                                {
                                    "model": TEXT,
                                    "language": nullable(TEXT),
                                    "language_hint": nullable(TEXT),
                                    "keyterms": nullable(array(string(50), max_length=100)),
                                    "prompt": nullable(TEXT),
                                }
                            )
                        ),
                    }
                ),
                "output": closed({"format": FORMAT, "speed": number(0.7, 1.5)}),
            }
        ),
    }
)
_ITEMS: dict[str, Check] = {
    **item_shapes(
        user={"input_text": TEXT_PART, "input_audio": AUDIO_PART},
        assistant={"output_text": TEXT_PART},
        system={"input_text": TEXT_PART},
    ),
    "force_message": closed(
        {
            "id": nullable(TEXT),
            "type": anything,
            "role": one_of("assistant"),
            "interruptible": nullable(boolean),
            "voice": nullable(TEXT),
            "content": array(tagged({"output_text": TEXT_PART}), max_length=1),
        },
        required=("content",),
    ),
}
_RESPONSE = closed(
    {
        "instructions": nullable(INSTRUCTIONS),
        "modalities": anything,
        "output_modalities": anything,
        "conversation": nullable(one_of("auto", "none")),
        "input": response_input(_ITEMS),
        "max_output_tokens": nullable(MAX_TOKENS),
        "metadata": nullable(mapping(string(512))),
        "tool_choice": anything,
        "tools": nullable(_TOOLS),
    }
)

_NOT_SENT: Final = frozenset({"conversation.item.done", "rate_limits.updated"})


class XaiDialect(Dialect):
    """The dialect of xAI's voice agents."""

    opening: ClassVar[tuple[str, ...]] = ("conversation.created", "session.created")
    # Transcription cannot be turned off.
    defaults: ClassVar[Content] = {"audio": {"input": {"transcription": {}}, "output": {"voice": "eve"}}}
    _shapes = client_events(session=_SESSION, response=_RESPONSE, items=_ITEMS)

    def __init__(self) -> None:
        self._transcripts: dict[str, str] = {}
        self._streams_transcripts = False

    def read(self, event: Event) -> Event:
        """Move voice and turn detection to their places in GA's shape."""
        if event["type"] == "session.update":
            session = _read_session(event["session"])
            transcription = session.get("audio", {}).get("input", {}).get("transcription")
            if transcription is not None:
                self._streams_transcripts = transcription.get("model") == STREAMING_TRANSCRIBER
            return event | {"session": session}
        if event["type"] == "response.create" and event.get("response"):
            return event | {"response": without(event["response"], "modalities", "output_modalities")}
        return event

    def write(self, kind: str, content: Content) -> Iterable[tuple[str, Content]]:
        """Write voice and turn detection at the top, and leave out fields that xAI does not send."""
        if kind in _NOT_SENT:
            return ()
        if kind in (_TRANSCRIPTION_DELTA, _TRANSCRIPTION_COMPLETED):
            return self._transcription(kind, content)
        if kind == "conversation.item.added" and content["item"]["type"] == "function_call":
            content = content | {"item": content["item"] | {"role": "tool"}}
        if kind.startswith("response.") and kind not in ("response.created", "response.done"):
            content = without(content, "output_index", "content_index")
        if kind == "response.content_part.done":
            content = without(content, "part")
        if "response" in content:
            content = content | {"response": content["response"] | {"usage": {}}}
        if "session" in content:
            content = content | {"session": _write_session(content["session"])}
        if kind == "session.updated":
            return ((kind, content), ("ping", {}))
        return ((kind, content),)

    def _transcription(self, kind: str, content: Content) -> Iterable[tuple[str, Content]]:
        item_id = content["item_id"]
        if kind == _TRANSCRIPTION_COMPLETED:
            self._transcripts.pop(item_id, None)
            return ((kind, content),)
        if not self._streams_transcripts:
            return ()
        text = self._transcripts[item_id] = self._transcripts.get(item_id, "") + content["delta"]
        return ((_TRANSCRIPTION_UPDATED, without(content, "delta") | {"transcript": text}),)


def _read_session(given: Content) -> Content:
    session = without(given, "voice", "turn_detection", "modalities", "output_modalities")
    audio: dict[str, Any] = {side: dict(fields) for side, fields in given.get("audio", {}).items()}
    if "voice" in given:
        audio.setdefault("output", {})["voice"] = given["voice"].lower()
    if "turn_detection" in given:
        detection = given["turn_detection"]
        # Manual turn-taking is null, or of the type null.
        by_hand = detection is None or detection.get("type", "") is None
        audio.setdefault("input", {})["turn_detection"] = None if by_hand else {"type": "server_vad"} | detection
    if audio:
        session["audio"] = audio
    return session


def _write_session(session: Content) -> Content:
    heard, spoken = session["audio"]["input"], session["audio"]["output"]
    audio = {"input": without(heard, "turn_detection"), "output": without(spoken, "voice")}
    return session | {"audio": audio, "voice": spoken["voice"], "turn_detection": heard["turn_detection"]}
