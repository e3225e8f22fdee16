"""Dialects of Realtime services: address, headers, and the differences of their events from the GA dialect.

The session uses only the GA dialect (`openai.types.realtime`). `to_wire` converts the events that the session
sends, and `from_wire` converts the events that the service sends.

==========  ===============================================================  ======================================
dialect     address                                                          key
==========  ===============================================================  ======================================
GA          BASE/realtime?model=MODEL                                        Authorization: Bearer KEY
beta        the same                                                         and OpenAI-Beta: realtime=v1
xAI         the same                                                         Authorization: Bearer KEY
Azure       wss://HOST/openai/v1/realtime?model=DEPLOYMENT                   api-key: KEY
Azure beta  wss://HOST/openai/realtime?api-version=...&deployment=...        api-key: KEY
==========  ===============================================================  ======================================

Sources: `openai.types.beta.realtime` for the beta dialect;
https://learn.microsoft.com/azure/foundry/openai/how-to/realtime-audio-websockets for Azure (where the beta API is
deprecated since 2026-04-30); https://docs.x.ai/developers/rest-api-reference/inference/voice for xAI.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final
from urllib.parse import urlencode, urlsplit

from common.settings.models import Service, realtime_url, service_of, speaks_beta

Event = dict[str, Any]

AZURE_BETA_API_VERSION: Final = "2025-04-01-preview"


class Dialect:
    """The GA dialect, and the base class of the others. A dialect is stateless, so one instance is enough."""

    name: ClassVar[str] = "ga"
    has_temperature: ClassVar[bool] = False
    has_metadata: ClassVar[bool] = True
    """Whether `response.create` may carry metadata that `response.created` repeats."""

    def url(self, base_url: str, model: str) -> str:
        """Return the address of the service.

        Args:
            base_url: the value of OPENAI_BASE_URL.
            model: the model; at Azure, the deployment.
        """
        return f"{realtime_url(base_url)}?{urlencode({'model': model})}"

    def headers(self, api_key: str, organization: str | None = None, project: str | None = None) -> dict[str, str]:
        """Return the headers of the handshake, including the key."""
        headers = {"Authorization": f"Bearer {api_key}"}
        if organization:
            headers["OpenAI-Organization"] = organization
        if project:
            headers["OpenAI-Project"] = project
        return headers

    def session(self, session: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a complete or partial session object of the GA dialect to this dialect."""
        return dict(session)

    def to_wire(self, event: Event) -> Event:
        """Convert an event of the GA dialect to this dialect. Does not change the given event."""
        return event

    def from_wire(self, event: Event) -> Event:
        """Convert an event of this service to the GA dialect. May change the given event.

        Raises:
            KeyError, TypeError, AttributeError: the event does not have the shape of its type.
        """
        return event

    def welcome(self, text: str, *, interruptible: bool = True) -> list[Event]:
        """Return events (for `to_wire`) that make the agent say `text` word for word.

        Args:
            text: the words to say.
            interruptible: whether the caller may interrupt the text. Only xAI has a field for this. With other
                services, the session must not send the caller's audio meanwhile.
        """
        instructions = (
            "Say exactly the following text, word for word. Say nothing before it and nothing after it, and do "
            f"not comment on it: {json.dumps(text, ensure_ascii=False)}"
        )
        return [{"type": "response.create", "response": {"instructions": instructions, "tool_choice": "none"}}]


class BetaDialect(Dialect):
    """The beta dialect: a flat session, and older names of events and contents."""

    name: ClassVar[str] = "beta"
    has_temperature: ClassVar[bool] = True

    def headers(self, api_key: str, organization: str | None = None, project: str | None = None) -> dict[str, str]:
        """Return the headers of GA, and the header that selects this dialect."""
        return super().headers(api_key, organization, project) | {"OpenAI-Beta": "realtime=v1"}

    def session(self, session: Mapping[str, Any]) -> dict[str, Any]:
        """Flatten the session. Leave out the fields that only GA has, and pass unknown fields unchanged."""
        flat = {name: value for name, value in session.items() if name not in _NOT_IN_BETA}
        flat |= _flat_response(session)
        audio = session.get("audio") or {}
        for name, (side, field, convert) in _FLAT_AUDIO.items():
            fields = audio.get(side) or {}
            if field in fields:
                flat[name] = convert(fields[field])
        if "tools" in session:
            flat["tools"] = _functions(session["tools"])
        return flat

    def to_wire(self, event: Event) -> Event:
        """Convert to the older names and places."""
        match event["type"]:
            case "session.update":
                return event | {"session": self.session(event["session"])}
            case "conversation.item.create":
                return event | {"item": _to_beta_item(event["item"])}
            case "response.create" if event.get("response"):
                return event | {"response": _to_beta_response(event["response"])}
        return event

    def from_wire(self, event: Event) -> Event:
        """Convert to the newer names."""
        kind = event["type"]
        event["type"] = _FROM_BETA.get(kind, kind)
        fix = _WITH_CONTENTS.get(kind)
        if fix is not None:
            fix(event)
        return event


class XaiDialect(Dialect):
    """xAI's dialect: GA with voice and turn detection at the top of the session, and with fixed spoken text."""

    name: ClassVar[str] = "xai"
    has_metadata: ClassVar[bool] = False

    def session(self, session: Mapping[str, Any]) -> dict[str, Any]:
        """Move voice and turn detection to the top of the session, and turn the language into a hint."""
        made = {name: value for name, value in session.items() if name != "audio"}
        audio = {side: dict(fields or {}) for side, fields in (session.get("audio") or {}).items()}
        for side, field in (("output", "voice"), ("input", "turn_detection")):
            if field in audio.get(side, {}):
                made[field] = audio[side].pop(field)
        transcription = audio.get("input", {}).get("transcription")
        if transcription and "language" in transcription:
            hint = {"language_hint": transcription["language"]}
            rest = {name: value for name, value in transcription.items() if name != "language"}
            audio["input"]["transcription"] = rest | hint
        if filled := {side: fields for side, fields in audio.items() if fields}:
            made["audio"] = filled
        return made

    def to_wire(self, event: Event) -> Event:
        """Convert the session of `session.update`, the only difference."""
        if event["type"] == "session.update":
            return event | {"session": self.session(event["session"])}
        return event

    def from_wire(self, event: Event) -> Event:
        """Convert the older names of audio events, which xAI's documents (see above) also contain."""
        kind = event["type"]
        event["type"] = _FROM_OLD.get(kind, kind)
        return event

    def welcome(self, text: str, *, interruptible: bool = True) -> list[Event]:
        """Use `force_message`, which the service speaks without the model in a response of its own."""
        content = [{"type": "output_text", "text": text}]
        item = {"type": "force_message", "role": "assistant", "interruptible": interruptible, "content": content}
        return [{"type": "conversation.item.create", "item": item}]


class AzureDialect(Dialect):
    """GA at Azure OpenAI, where the model is a deployment and the key has a separate header."""

    name: ClassVar[str] = "azure"

    def url(self, base_url: str, model: str) -> str:
        """Use only the host of the base URL, because Azure's paths are fixed."""
        return f"wss://{urlsplit(base_url).netloc}/openai/v1/realtime?{urlencode({'model': model})}"

    def headers(self, api_key: str, organization: str | None = None, project: str | None = None) -> dict[str, str]:
        """Return the header with the key; Azure has no organizations or projects."""
        return {"api-key": api_key}


class AzureBetaDialect(BetaDialect):
    """The beta dialect at Azure OpenAI."""

    name: ClassVar[str] = "azure_beta"

    def url(self, base_url: str, model: str) -> str:
        """Use only the host of the base URL, because Azure's paths are fixed."""
        query = urlencode({"api-version": AZURE_BETA_API_VERSION, "deployment": model})
        return f"wss://{urlsplit(base_url).netloc}/openai/realtime?{query}"

    def headers(self, api_key: str, organization: str | None = None, project: str | None = None) -> dict[str, str]:
        """Return the header with the key; at Azure the address selects the dialect."""
        return {"api-key": api_key}


GA: Final = Dialect()
BETA: Final = BetaDialect()
XAI: Final = XaiDialect()
AZURE: Final = AzureDialect()
AZURE_BETA: Final = AzureBetaDialect()


def choose(base_url: str, model: str) -> Dialect:
    """Return the dialect for a model at an address."""
    match service_of(base_url):
        case Service.AZURE:
            return AZURE_BETA if speaks_beta(model) else AZURE
        case Service.XAI:
            return XAI
        case _:
            return BETA if speaks_beta(model) else GA


# Beta names of events that the GA dialect renamed. `conversation.item.done` has no counterpart in the beta
# dialect.
_FROM_OLD: Final = {
    f"response.{old}.{step}": f"response.output_{old}.{step}"
    for old in ("audio", "audio_transcript", "text")
    for step in ("delta", "done")
}
_FROM_BETA: Final = _FROM_OLD | {"conversation.item.created": "conversation.item.added"}

_NOT_IN_BETA: Final = frozenset(
    {
        # fields that only GA has
        *("type", "model", "reasoning", "truncation", "prompt", "include", "parallel_tool_calls"),
        # fields with another name or place in beta
        *("output_modalities", "max_output_tokens", "audio", "tools", "tool_choice"),
    }
)
_BETA_FORMATS: Final = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}
_TO_BETA_CONTENT: Final = {"output_text": "text", "output_audio": "audio"}
_FROM_BETA_CONTENT: Final = {old: new for new, old in _TO_BETA_CONTENT.items()}


def _only(*names: str) -> Callable[[Any], Any]:
    """Return a function that keeps these fields of an object; null stays null."""

    def convert(given: Any) -> Any:
        return None if given is None else {name: given[name] for name in names if name in given}

    return convert


def _beta_voice(voice: Any) -> Any:
    return voice["id"] if isinstance(voice, dict) else voice


_FLAT_AUDIO: Final[dict[str, tuple[str, str, Callable[[Any], Any]]]] = {
    "input_audio_format": ("input", "format", lambda given: _BETA_FORMATS[given["type"]]),
    "input_audio_noise_reduction": ("input", "noise_reduction", _only("type")),
    "input_audio_transcription": ("input", "transcription", _only("model", "language", "prompt")),
    "turn_detection": (
        "input",
        "turn_detection",
        _only(
            *("type", "create_response", "interrupt_response"),
            *("threshold", "silence_duration_ms", "prefix_padding_ms", "eagerness"),
        ),
    ),
    "output_audio_format": ("output", "format", lambda given: _BETA_FORMATS[given["type"]]),
    "voice": ("output", "voice", _beta_voice),
    "speed": ("output", "speed", lambda given: given),
}


def _flat_response(given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the fields that sessions and responses have in common."""
    flat: dict[str, Any] = {}
    if "output_modalities" in given:
        # The beta dialect has no audio without text (`openai.types.beta.realtime`: `modalities`).
        flat["modalities"] = ["audio", "text"] if "audio" in given["output_modalities"] else ["text"]
    if "max_output_tokens" in given:
        flat["max_response_output_tokens"] = given["max_output_tokens"]
    choice = given.get("tool_choice")
    if isinstance(choice, str):
        flat["tool_choice"] = choice
    elif isinstance(choice, dict) and choice.get("type") == "function":
        flat["tool_choice"] = choice["name"]
    return flat


def _functions(tools: list[Event] | None) -> list[Event]:
    return [each for each in tools or () if each.get("type") == "function"]


def _to_beta_response(response: Event) -> Event:
    known = ("conversation", "instructions", "metadata")
    flat = {name: response[name] for name in known if name in response} | _flat_response(response)
    output = (response.get("audio") or {}).get("output") or {}
    if "voice" in output:
        flat["voice"] = _beta_voice(output["voice"])
    if "format" in output:
        flat["output_audio_format"] = _BETA_FORMATS[output["format"]["type"]]
    if "input" in response:
        flat["input"] = [_to_beta_item(item) for item in response["input"]]
    if "tools" in response:
        flat["tools"] = _functions(response["tools"])
    return flat


def _to_beta_item(item: Event) -> Event:
    if not item.get("content"):
        return item
    parts = [part | {"type": _TO_BETA_CONTENT.get(part["type"], part["type"])} for part in item["content"]]
    return item | {"content": parts}


def _fix_part(part: Event) -> None:
    part["type"] = _FROM_BETA_CONTENT.get(part["type"], part["type"])


def _fix_item(item: Event) -> None:
    for part in item.get("content") or ():
        _fix_part(part)


def _fix_response(response: Event) -> None:
    for item in response.get("output") or ():
        _fix_item(item)


_WITH_CONTENTS: Final[dict[str, Callable[[Event], None]]] = {
    "conversation.item.created": lambda event: _fix_item(event["item"]),
    "conversation.item.retrieved": lambda event: _fix_item(event["item"]),
    "response.output_item.added": lambda event: _fix_item(event["item"]),
    "response.output_item.done": lambda event: _fix_item(event["item"]),
    "response.content_part.added": lambda event: _fix_part(event["part"]),
    "response.content_part.done": lambda event: _fix_part(event["part"]),
    "response.created": lambda event: _fix_response(event["response"]),
    "response.done": lambda event: _fix_response(event["response"]),
}
