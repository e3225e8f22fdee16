"""The beta dialect: a flat session, and older names of events and contents (`openai.types.beta.realtime`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final

from simulator.realtime.dialect import Content, Dialect, Event
from simulator.realtime.errors import RequestError
from simulator.realtime.requests import (
    AUDIO_PART,
    INSTRUCTIONS,
    MAX_TOKENS,
    MAX_TOOLS,
    NOISE_REDUCTION,
    SPEED,
    TEXT,
    TEXT_PART,
    client_events,
    function_tool,
    item_shapes,
    response_input,
)
from simulator.realtime.schema import (
    anything,
    array,
    boolean,
    closed,
    invalid_value,
    mapping,
    nullable,
    number,
    one_of,
    string,
    tagged,
)

_FORMATS: Final[dict[str, Content]] = {
    "pcm16": {"type": "audio/pcm", "rate": 24000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
_FORMAT_NAMES: Final = {form["type"]: name for name, form in _FORMATS.items()}
_TOOL_CHOICES: Final = ("auto", "none", "required")


def _modalities(value: Any, path: str) -> None:
    array(one_of("audio", "text"), max_length=2)(value, path)
    if set(value) not in ({"text"}, {"audio", "text"}):
        raise RequestError(
            f"Invalid modalities: {value}. Supported combinations are: ['text'] and ['audio', 'text'].",
            code="invalid_value",
            param=path,
        )


_ITEMS = item_shapes(
    user={"input_text": TEXT_PART, "input_audio": AUDIO_PART},
    assistant={"text": TEXT_PART},
    system={"input_text": TEXT_PART},
)
_RESPONDS = {
    "instructions": INSTRUCTIONS,
    "modalities": _modalities,
    "max_response_output_tokens": MAX_TOKENS,
    "output_audio_format": one_of(*_FORMATS),
    "temperature": number(0.6, 1.2),
    "tool_choice": TEXT,
    "tools": array(tagged({"function": function_tool}), max_length=MAX_TOOLS),
    "voice": TEXT,
}
_DETECTION = {"type": anything, "create_response": boolean, "interrupt_response": boolean}
_SESSION = closed(
    {
        **_RESPONDS,
        "model": TEXT,
        "input_audio_format": one_of(*_FORMATS),
        "input_audio_noise_reduction": nullable(NOISE_REDUCTION),
        "input_audio_transcription": nullable(
            closed({"model": TEXT, "language": nullable(TEXT), "prompt": nullable(TEXT)})
        ),
        "speed": SPEED,
        "tracing": anything,
        "turn_detection": nullable(
            tagged(
                {
                    "server_vad": closed(
                        {
                            **_DETECTION,
                            "threshold": number(0, 1),
                            "prefix_padding_ms": number(0, 10_000, integer=True),
                            "silence_duration_ms": number(0, 10_000, integer=True),
                        }
                    ),
                    "semantic_vad": closed({**_DETECTION, "eagerness": one_of("low", "medium", "high", "auto")}),
                }
            )
        ),
    }
)
_RESPONSE = closed(
    {
        **{name: nullable(check) for name, check in _RESPONDS.items()},
        "conversation": nullable(one_of("auto", "none")),
        "input": response_input(_ITEMS),
        "metadata": nullable(mapping(string(512))),
    }
)

_VOICES: Final = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse")

_KINDS: Final = {"conversation.item.added": "conversation.item.created"} | {
    f"response.output_{name}.{step}": f"response.{name}.{step}"
    for name in ("audio", "audio_transcript", "text")
    for step in ("delta", "done")
}
_CONTENTS: Final = {"output_text": "text", "output_audio": "audio"}
_READ_CONTENTS: Final = {old: new for new, old in _CONTENTS.items()}


class BetaDialect(Dialect):
    """The dialect of OpenAI's API before GA."""

    defaults: ClassVar[Content] = {"temperature": 0.8, "audio": {"output": {"voice": "alloy"}}}
    _shapes = client_events(session=_SESSION, response=_RESPONSE, items=_ITEMS)

    def check(self, event: Any) -> str:
        """Check a decoded client event: see `Dialect.check`."""
        kind = super().check(event)
        if kind in ("session.update", "response.create"):
            name = kind.partition(".")[0]
            _check_voice((event.get(name) or {}).get("voice"), f"{name}.voice")
        return kind

    def read(self, event: Event) -> Event:
        """Move flat fields to their places in GA's shape."""
        match event["type"]:
            case "session.update":
                return event | {"session": _read_fields(event["session"])}
            case "response.create" if event.get("response"):
                response = _read_fields(event["response"])
                if response.get("input"):
                    response["input"] = [_read_item(item) for item in response["input"]]
                return event | {"response": response}
            case "conversation.item.create":
                return event | {"item": _read_item(event["item"])}
        return event

    def write(self, kind: str, content: Content) -> Iterable[tuple[str, Content]]:
        """Write older names, and leave out events and fields that beta does not have."""
        if kind == "conversation.item.done":
            return ()
        if kind == "response.function_call_arguments.done":
            content = _without(content, "name")
        for name, write in (("session", _write_session), ("response", _write_response), ("item", _write_item)):
            if name in content:
                content = content | {name: write(content[name])}
        return ((_KINDS.get(kind, kind), content),)


def _check_voice(voice: str | None, path: str) -> None:
    if voice is not None and voice not in _VOICES:
        raise invalid_value(path, voice, _VOICES)


def _same(value: Any) -> Any:
    return value


def _read_modalities(names: list[str]) -> list[str]:
    return ["audio"] if "audio" in names else ["text"]


def _read_choice(choice: str) -> Any:
    return choice if choice in _TOOL_CHOICES else {"type": "function", "name": choice}


# Fields with another name or place in GA, and the function that reads their value.
_PLACES: Final[dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]]] = {
    "modalities": (("output_modalities",), _read_modalities),
    "max_response_output_tokens": (("max_output_tokens",), _same),
    "tool_choice": (("tool_choice",), _read_choice),
    "voice": (("audio", "output", "voice"), _same),
    "speed": (("audio", "output", "speed"), _same),
    "output_audio_format": (("audio", "output", "format"), _FORMATS.__getitem__),
    "input_audio_format": (("audio", "input", "format"), _FORMATS.__getitem__),
    "input_audio_noise_reduction": (("audio", "input", "noise_reduction"), _same),
    "input_audio_transcription": (("audio", "input", "transcription"), _same),
    "turn_detection": (("audio", "input", "turn_detection"), _same),
}


def _read_fields(flat: Content) -> Content:
    """Return a flat session or response in GA's shape."""
    nested: Content = {}
    for name, value in flat.items():
        path, read = _PLACES.get(name, ((name,), _same))
        within = nested
        for step in path[:-1]:
            within = within.setdefault(step, {})
        within[path[-1]] = None if value is None else read(value)
    return nested


def _write_session(session: Content) -> Content:
    heard, spoken = session["audio"]["input"], session["audio"]["output"]
    choice = session["tool_choice"]
    names = ("id", "object", "model", "expires_at", "instructions", "tools", "temperature", "tracing")
    return {name: session[name] for name in names} | {
        "modalities": _write_modalities(session["output_modalities"]),
        "max_response_output_tokens": session["max_output_tokens"],
        "tool_choice": choice["name"] if isinstance(choice, dict) else choice,
        "voice": spoken["voice"],
        "speed": spoken["speed"],
        "output_audio_format": _FORMAT_NAMES[spoken["format"]["type"]],
        "input_audio_format": _FORMAT_NAMES[heard["format"]["type"]],
        "input_audio_noise_reduction": heard["noise_reduction"],
        "input_audio_transcription": heard["transcription"],
        "turn_detection": heard["turn_detection"] and _without(heard["turn_detection"], "idle_timeout_ms"),
    }


def _write_response(response: Content) -> Content:
    spoken = response["audio"]["output"]
    return _without(response, "output_modalities", "audio") | {
        "modalities": _write_modalities(response["output_modalities"]),
        "voice": spoken["voice"],
        "output_audio_format": _FORMAT_NAMES[spoken["format"]["type"]],
        "output": [_write_item(item) for item in response["output"]],
    }


def _write_modalities(names: list[str]) -> list[str]:
    # Beta has no audio without its text.
    return ["audio", "text"] if "audio" in names else ["text"]


def _read_item(item: Content) -> Content:
    return _with_contents(item, _READ_CONTENTS)


def _write_item(item: Content) -> Content:
    return _with_contents(item, _CONTENTS)


def _with_contents(item: Content, names: dict[str, str]) -> Content:
    if not item.get("content"):
        return item
    parts = [part | {"type": names.get(part["type"], part["type"])} for part in item["content"]]
    return item | {"content": parts}


def _without(content: Content, *names: str) -> Content:
    return {name: value for name, value in content.items() if name not in names}
