"""The fields of a Realtime session that operators may set: how they are checked, and how they go over others.

The shape is that of the GA dialect, `openai.types.realtime.RealtimeSessionCreateRequest`. Fields that are not
known here pass as they are: a service may know them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from common.settings import function_tools
from common.settings.function_tools import Change
from common.settings.models import Service, reasoning_efforts
from common.settings.session_values import (
    language,
    max_tokens,
    model_of,
    prompt_variables,
    tool,
    tool_choice,
    tracing,
    truncation,
    voice_of,
    without_region,
)
from common.settings.values import Parser, boolean, number, one_of, text, whole_number, word


@dataclass(frozen=True, slots=True)
class Nullable:
    """A field that the API takes null for, which turns it off; null for any other field unsets it."""

    inner: Shape


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list; an element that is wrong is left out alone."""

    element: Parser


Shape = Parser | Nullable | ListOf | dict[str, "Shape"]


@dataclass(frozen=True, slots=True)
class Wrong:
    """A field that is wrong, by its path (`audio.output.voice`), and what is allowed. Never the value.

    Attributes:
        path: of the field.
        allowed: for people.
        given: the type of the value, as in "is a list".
    """

    path: str
    allowed: str
    given: str = field(default="", compare=False)


# Fields of the beta dialect and of xAI's, and short names, with their place.
_PLACES: Final[dict[str, tuple[str, ...]]] = {
    "system": ("instructions",),
    "modalities": ("output_modalities",),
    "max_response_output_tokens": ("max_output_tokens",),
    "voice": ("audio", "output", "voice"),
    "speed": ("audio", "output", "speed"),
    "turn_detection": ("audio", "input", "turn_detection"),
    "input_audio_transcription": ("audio", "input", "transcription"),
    "input_audio_noise_reduction": ("audio", "input", "noise_reduction"),
}

_FORMAT: Final[dict[str, Shape]] = {
    "type": one_of(("audio/pcm", "audio/pcmu", "audio/pcma")),
    "rate": whole_number(24_000, 24_000),
}
_OF_SERVER_VAD: Final[dict[str, Shape]] = {
    "threshold": number(0, 1),
    "silence_duration_ms": whole_number(0, 10_000),
    "prefix_padding_ms": whole_number(0, 10_000),
    "idle_timeout_ms": Nullable(whole_number(5_000, 30_000)),
}
_OF_SEMANTIC_VAD: Final[dict[str, Shape]] = {"eagerness": one_of(("low", "medium", "high", "auto"))}
_TURN_DETECTION: Final[dict[str, Shape]] = {
    "create_response": boolean,
    "interrupt_response": boolean,
    **_OF_SERVER_VAD,
    **_OF_SEMANTIC_VAD,
}
_ONLY_OF: Final = {"server_vad": _OF_SERVER_VAD.keys(), "semantic_vad": _OF_SEMANTIC_VAD.keys()}


def _spoken(value: object) -> object:
    if value not in (["audio"], ["audio", "text"], ["text", "audio"]):
        raise ValueError('must be ["audio"]: a telephone call is spoken')
    return ["audio"]


def _version(value: object) -> object:
    return text(str(value) if isinstance(value, int) else value)


@functools.cache
def session_shape(service: Service) -> dict[str, Shape]:
    """The fields of a session with a service."""
    kinds = ("server_vad",) if service is Service.XAI else ("server_vad", "semantic_vad")
    return {
        "type": one_of(("realtime",)),
        "model": model_of(service),
        "instructions": text,
        "output_modalities": _spoken,
        "max_output_tokens": max_tokens,
        "temperature": number(0, 2),
        "parallel_tool_calls": boolean,
        "reasoning": Nullable({"effort": one_of(reasoning_efforts(service))}),
        "tool_choice": tool_choice,
        "tools": ListOf(tool),
        "tracing": Nullable(tracing),
        "truncation": truncation,
        "prompt": Nullable({"id": word, "version": _version, "variables": Nullable(prompt_variables)}),
        "audio": {
            "input": {
                "format": _FORMAT,
                "noise_reduction": Nullable({"type": one_of(("near_field", "far_field"))}),
                "transcription": Nullable({"model": word, "language": language, "prompt": text}),
                "turn_detection": Nullable({"type": one_of(kinds), **_TURN_DETECTION}),
            },
            "output": {"format": _FORMAT, "voice": _voice(service), "speed": number(0.25, 1.5)},
        },
    }


def is_session_field(name: str) -> bool:
    """Whether this is the name of a field that stands at the top of a session, in whatever dialect."""
    return name in _PLACES or name in session_shape(Service.OTHER)


def checked(
    given: Mapping[str, Any], service: Service, *, unsets: bool = True
) -> tuple[dict[str, Any], list[Wrong]]:
    """`given` in the GA shape, with values as they are sent, without the fields that are wrong; and those.

    Args:
        given: fields of a session.
        service: that is to have them.
        unsets: null unsets a field that cannot be turned off. Otherwise null is wrong there.
    """
    wrong: list[Wrong] = []
    session = _object(_placed(given), session_shape(service), "", wrong, unsets)
    return session, wrong


def without_nulls(given: Mapping[str, Any], service: Service) -> dict[str, Any]:
    """`given` without the fields that are null, as services write fields that they do not set.

    Null stays where the API takes it, and turns a field off (`Nullable`).
    """
    shape = session_shape(service)
    return {
        name: _present(value, _shape_at(shape, _PLACES.get(name, (name,))))
        for name, value in given.items()
        if value is not None or isinstance(_shape_at(shape, _PLACES.get(name, (name,))), Nullable)
    }


def _present(value: Any, shape: Shape | None) -> Any:
    inner = shape.inner if isinstance(shape, Nullable) else shape
    if not isinstance(value, dict) or not isinstance(inner, dict):
        return value
    return {
        name: _present(each, inner.get(name))
        for name, each in value.items()
        if each is not None or name not in inner or isinstance(inner[name], Nullable)
    }


def _shape_at(shape: Shape | None, path: tuple[str, ...]) -> Shape | None:
    for name in path:
        shape = shape.get(name) if isinstance(shape, dict) else None
    return shape


def kind_of(value: object) -> str:
    """Name the JSON type of a value, as in "is a list"."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
    return "an object"


def tool_key(tool: Mapping[str, Any]) -> str:
    """Return the name under which a session has a tool: a function's, or an MCP server's label."""
    return str(tool.get("name") or tool.get("server_label") or tool.get("type"))


def accepted(session: Mapping[str, Any]) -> tuple[dict[str, Any], list[Change]]:
    """Return fields of a session in a form that the API accepts, and what was changed.

    The API refuses a session as a whole for one wrong tool, or for a transcription language with a region. The
    fields may be unchecked: fields of another shape pass as they are.
    """
    changes: list[Change] = []
    made = dict(session)
    if isinstance(made.get("tools"), list):
        made["tools"], changes = function_tools.mend_all(made["tools"])
    made = _with(made, ("audio", "input", "transcription"), _without_regions, changes)
    return _with(made, ("input_audio_transcription",), _without_regions, changes), changes


def _with(
    session: dict[str, Any],
    path: tuple[str, ...],
    change: Callable[[dict[str, Any], list[Change]], dict[str, Any]],
    changes: list[Change],
) -> dict[str, Any]:
    """Return `session` with the object at `path` changed, where there is one."""
    if not path:
        return change(session, changes)
    first, *rest = path
    inner = session.get(first)
    if not isinstance(inner, dict):
        return session
    return session | {first: _with(inner, tuple(rest), change, changes)}


def _without_regions(transcription: dict[str, Any], changes: list[Change]) -> dict[str, Any]:
    made = dict(transcription)
    given = made.get("language")
    if isinstance(given, str):
        made["language"] = without_region(given)
    several = made.get("languages")
    if isinstance(several, list):
        codes = [without_region(each) if isinstance(each, str) else each for each in several]
        made["languages"] = [each for index, each in enumerate(codes) if each not in codes[:index]]
    changes += [
        Change("", f"transcription.{name}", "region left out")
        for name in ("language", "languages")
        if made.get(name) != transcription.get(name)
    ]
    return made


def merged(base: Mapping[str, Any], over: Mapping[str, Any], service: Service) -> dict[str, Any]:
    """`base` with the fields of `over`, which `checked` returned.

    Objects of one type are merged, lists are replaced. Null turns a field off where the API takes it, and
    otherwise unsets it.
    """
    session = _merged(base, over, session_shape(service))
    turn_detection = session.get("audio", {}).get("input", {}).get("turn_detection")
    if turn_detection is not None:
        kind = turn_detection.setdefault("type", "server_vad")
        for other, names in _ONLY_OF.items():
            for name in names if other != kind else ():
                turn_detection.pop(name, None)
    return session


def changed(session: Mapping[str, Any], change: Mapping[str, Any], service: Service) -> dict[str, Any]:
    """`session` with a change that was `checked`: as `merged`, but tools are merged by name (`with_tools`)."""
    made = merged(session, {name: value for name, value in change.items() if name != "tools"}, service)
    if "tools" in change:
        made["tools"] = with_tools(session.get("tools") or (), change["tools"])
    return made


def with_tools(tools: Iterable[dict[str, Any]], change: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return `tools` with those of a change, by name.

    The fields of a function are merged: its description may change alone. An MCP server is replaced, because the
    credentials of one server must not be sent to another.
    """
    made = {tool_key(tool): tool for tool in tools}
    for given in change:
        name = tool_key(given)
        known = made.get(name, {})
        both = known.get("type") == given.get("type") == "function"
        made[name] = {**known, **given} if both else given
    return list(made.values())


def touched(session: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `session` that a change touches, each as a whole.

    The API replaces an object such as `turn_detection`, and would otherwise lose what the change does not name.
    """
    made: dict[str, Any] = {name: session.get(name) for name in change if name != "audio"}
    if isinstance(change.get("audio"), dict):
        audio = session.get("audio") or {}
        made["audio"] = {
            side: {name: (audio.get(side) or {}).get(name) for name in fields}
            for side, fields in change["audio"].items()
            if isinstance(fields, dict)
        }
    return made


def _placed(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with short names and other dialects' in their places; what is in its place wins over them."""
    session: dict[str, Any] = {}
    for name, value in given.items():
        if name in _PLACES:
            *parents, last = _PLACES[name]
            functools.reduce(lambda within, parent: within.setdefault(parent, {}), parents, session)[last] = value
    return _over(session, {name: value for name, value in given.items() if name not in _PLACES})


def _over(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    made = dict(under)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(made.get(name), dict)
        made[name] = _over(made[name], value) if both else value
    return made


def _object(
    given: Mapping[str, Any], shape: Mapping[str, Shape], path: str, wrong: list[Wrong], unsets: bool
) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in given.items():
        if name not in shape:
            made[name] = value
            continue
        before = len(wrong)
        result = _value(value, shape[name], f"{path}{name}", wrong, unsets)
        if len(wrong) == before or isinstance(result, (dict, list)):
            made[name] = result
    return made


def _value(value: object, shape: Shape, path: str, wrong: list[Wrong], unsets: bool) -> object:
    match shape:
        case Nullable(inner):
            # `false` is how some libraries turn turn detection off.
            return None if value is None or value is False else _value(value, inner, path, wrong, unsets)
        case dict():
            if isinstance(value, dict):
                return _object(value, shape, f"{path}.", wrong, unsets)
            wrong.append(Wrong(path, "must be an object", kind_of(value)))
        case ListOf(element):
            if value is None and unsets:
                return []
            if isinstance(value, list):
                return _list(value, element, path, wrong)
            wrong.append(Wrong(path, "must be a list", kind_of(value)))
        case _:
            try:
                made = None if value is None and unsets else shape(value)
            except ValueError as error:
                wrong.append(Wrong(path, str(error), kind_of(value)))
            else:
                if value is not None or unsets:
                    return made
                wrong.append(Wrong(path, "may not be null", kind_of(value)))
    return None


def _list(given: list[Any], element: Parser, path: str, wrong: list[Wrong]) -> list[Any]:
    made = []
    for index, each in enumerate(given):
        try:
            made.append(element(each))
        except ValueError as error:
            wrong.append(Wrong(f"{path}[{index}]", str(error), kind_of(each)))
    return made


def _merged(base: Mapping[str, Any], over: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    made = dict(base)
    for name, value in over.items():
        field = shape.get(name) if isinstance(shape, dict) else None
        if value is None and field is not None and not isinstance(field, Nullable):
            made.pop(name, None)
        elif isinstance(value, dict):
            inner = field.inner if isinstance(field, Nullable) else field
            under = made.get(name)
            if not isinstance(under, dict) or value.get("type", under.get("type")) != under.get("type"):
                # What is of another type takes its place.
                under = {}
            made[name] = _merged(under, value, inner or {})
        else:
            made[name] = value
    return made


def _voice(service: Service) -> Parser:
    by_name = voice_of(service)

    def parse(value: object) -> object:
        if isinstance(value, dict) and isinstance(value.get("id"), str):
            value = value["id"]
        name = str(by_name(value))
        return {"id": name} if service is not Service.XAI and name.startswith("voice_") else name

    return parse
