"""Settings of the Realtime simulator, and directives for one session.

A session's instructions may hold lines of the form `simulator: {"voice": "tone", "echo": true}`. Each field
of `Behaviour` can be given there. It is valid for the session from that `session.update` on.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import orjson

MAX_WORDS = 1000
_DIRECTIVE = re.compile(r"^[ \t]*simulator:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


class DialectName(enum.StrEnum):
    """The Realtime API that the server speaks."""

    GA = "ga"
    """OpenAI's and Azure's API."""
    BETA = "beta"
    """OpenAI's API before GA; other services still have it."""
    XAI = "xai"
    """API of xAI's voice agents: GA with differences."""


class Voice(enum.StrEnum):
    """The sound of replies."""

    WORDS = "words"
    """Speech-like bursts, one for each word of the transcript."""
    TONE = "tone"
    """One sine without a gap for the whole reply, at -10 dBFS."""


class Transcription(enum.StrEnum):
    """The result of input transcription, if the session asks for it."""

    ANSWER = "answer"
    FAIL = "fail"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function, or of an MCP server's tool, that the model makes instead of speaking.

    Attributes:
        turn: user message of the conversation that it answers, from 1; 0 is the greeting.
        name: name of the function or tool.
        arguments: arguments as JSON text.
        server: label of the MCP server; None: a function of the client.
    """

    turn: int
    name: str
    arguments: str = "{}"
    server: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The behaviour of one session's model.

    Attributes:
        voice: sound of replies.
        tone_hz: frequency of the tone voice; with `echo`, of the greeting only.
        echo: whether the tone voice answers at the strongest frequency (300 to 3400 Hz) of the caller's turn.
        words: length of a reply, in words.
        greeting_words: length of a reply before any user message.
        word_ms: length of a word, in replies and in transcripts of the caller.
        delta_ms: audio in one delta.
        say: fixed words of each reply.
        tool_calls: function calls to make, each once.
        transcription: result of input transcription.
        transcript: fixed text of input transcription, instead of words by length.
        transcription_delay_seconds: time from the commit to the transcription.
        first_audio_seconds: time from `response.created` to the first audio. Half of it precedes the item.
        speed: factor by which a reply is sent faster than real time; `inf` sends it at once.
        mcp_tools: names of the tools that every MCP server has.
        mcp_output: output of each call of an MCP server's tool.
        mcp_fails: whether MCP servers fail to list or call tools.
        mcp_seconds: time that an MCP server takes to answer.
        notes_are_turns: whether a user's text in brackets, written by the client, counts as a user message.
    """

    voice: Voice = Voice.WORDS
    tone_hz: float = 440.0
    echo: bool = False
    words: int = 8
    greeting_words: int = 5
    word_ms: int = 400
    delta_ms: int = 100
    say: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    transcription: Transcription = Transcription.ANSWER
    transcript: str | None = None
    transcription_delay_seconds: float = 0.6
    first_audio_seconds: float = 0.3
    speed: float = 5.0
    mcp_tools: tuple[str, ...] = ("lookup",)
    mcp_output: str = "found"
    mcp_fails: bool = False
    mcp_seconds: float = 0.2
    notes_are_turns: bool = True

    def __post_init__(self) -> None:
        for name, low, high in (
            ("words", 1, MAX_WORDS),
            ("greeting_words", 1, MAX_WORDS),
            ("word_ms", 20, 10_000),
            ("delta_ms", 10, 10_000),
            ("tone_hz", 1.0, 12_000.0),
            ("transcription_delay_seconds", 0.0, 3600.0),
            ("first_audio_seconds", 0.0, 3600.0),
            ("speed", 0.01, math.inf),
            ("mcp_seconds", 0.0, 3600.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value!r}: it must be from {low} to {high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings(Behaviour):
    """Settings of the server, with the default behaviour of its sessions.

    Attributes:
        dialect: dialect of the server. Azure's older path (`/openai/realtime`) always has the beta dialect.
        api_key: the only key that is accepted; None: any key.
        bad_key_in_band: whether a bad key gets an `error` event and close code 3000 instead of HTTP 401.
            OpenAI's service was seen to do either.
        models: existing models. Empty: each name that starts with `gpt-`, in xAI's dialect with `grok-`, and each
            name of a deployment at Azure's paths.
        session_limit_seconds: maximum length of a session.
        keep_audio: whether to keep appended audio (10 minutes) for `received_audio`, and audio of items for
            `conversation.item.retrieve`. Load tests switch this off.
        listen: whether to decode appended audio. Otherwise a session speaks by itself half of the time, from its
            first `session.update` on. Benchmarks switch this off.
        history_limit: number of ended sessions kept.
    """

    dialect: DialectName = DialectName.GA
    api_key: str | None = field(default=None, repr=False)
    bad_key_in_band: bool = False
    models: tuple[str, ...] = ()
    session_limit_seconds: float = 3600.0
    keep_audio: bool = True
    listen: bool = True
    history_limit: int = 200

    def behaviour(self) -> Behaviour:
        """Return the part that a session's directives can override."""
        return Behaviour(**{each.name: getattr(self, each.name) for each in fields(Behaviour)})


def with_directives(behaviour: Behaviour, instructions: str) -> Behaviour:
    """Return `behaviour` with the directives in `instructions`.

    Raises:
        ValueError: a directive is not a JSON object, or a field does not exist or has a wrong value.
    """
    for text in _DIRECTIVE.findall(instructions):
        try:
            directive = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"a simulator directive is not JSON: {error}") from error
        if not isinstance(directive, dict):
            raise ValueError("a simulator directive must be a JSON object")
        behaviour = replace(behaviour, **{name: _converted(name, value) for name, value in directive.items()})
    return behaviour


def _converted(name: str, value: Any) -> Any:
    convert = _CONVERTERS.get(name)
    if convert is None:
        raise ValueError(f"a simulator directive has no field {name!r}; there are {', '.join(_CONVERTERS)}")
    try:
        return convert(value)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"the simulator directive {name!r} cannot be {value!r}") from error


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _optional_text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value


def _tool_calls(value: Any) -> tuple[ToolCall, ...]:
    calls = []
    for call in value:
        arguments = call.get("arguments", {})
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        calls.append(ToolCall(int(call["turn"]), str(call["name"]), text, _optional_text(call.get("server"))))
    return tuple(calls)


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise TypeError
    return tuple(value)


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "voice": Voice,
    "tone_hz": float,
    "echo": _boolean,
    "words": int,
    "greeting_words": int,
    "word_ms": int,
    "delta_ms": int,
    "say": _optional_text,
    "tool_calls": _tool_calls,
    "transcription": Transcription,
    "transcript": _optional_text,
    "transcription_delay_seconds": float,
    "first_audio_seconds": float,
    "speed": float,
    "mcp_tools": _names,
    "mcp_output": str,
    "mcp_fails": _boolean,
    "mcp_seconds": float,
    "notes_are_turns": _boolean,
}
