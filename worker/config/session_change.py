"""A change of the running session by the calls API, checked before it is sent to the Realtime API.

A wrong field that the API accepts would make the call's next session fail. A body with a wrong field is therefore
refused as a whole. The answer has the fields, the types of their values, and the allowed values. It never has the
values, which may be secrets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from common.errors import PeerError
from common.settings import function_tools, models, session_fields
from common.settings.function_tools import MAX_TOOLS, Change
from common.settings.session_fields import Wrong, kind_of, tool_key
from common.settings.session_values import tool
from worker.config.profile import MAX_SHOWN, CallProfile
from worker.tools import built_in

_FIXED: Final = "may not be changed in a running call"
# Formats of other dialects, which would reach the API as they are.
_OTHER_FORMATS: Final = ("input_audio_format", "output_audio_format")


class ChangeRefused(PeerError):
    """A change cannot be made; the message names its first fields that are wrong."""

    @classmethod
    def because_of(cls, wrong: list[Wrong]) -> ChangeRefused:
        """Name the first fields, and the number of the others."""
        shown = [f"{each.path} is {each.given}: {each.allowed}" for each in wrong[:MAX_SHOWN]]
        more = [f"and {len(wrong) - MAX_SHOWN} more"] if len(wrong) > MAX_SHOWN else []
        return cls("; ".join([*shown, *more]))


def checked(
    body: Mapping[str, Any], chosen: CallProfile, own_tools: Collection[str]
) -> tuple[dict[str, Any], list[Change]]:
    """Return a change in the GA shape with its final values, and the changes of its tools.

    Args:
        body: body of `POST /calls/{uuid}/session`.
        chosen: the call's settings.
        own_tools: names of the worker's own tools.

    Raises:
        ChangeRefused: a field is wrong, or may not be changed.
    """
    wrong: list[Wrong] = []
    rest = {name: value for name, value in body.items() if name != "tools"}
    rest = _without_fixed(rest, chosen, wrong)
    given, wrong_here = session_fields.checked(rest, models.service_of(chosen.base_url), unsets=False)
    wrong += wrong_here
    if "temperature" in given and not chosen.dialect.has_temperature:
        wrong.append(Wrong("temperature", "sessions of this API have none", kind_of(given["temperature"])))
    if given.get("reasoning") is not None and models.cannot_reason(chosen.model):
        wrong.append(Wrong("reasoning", f"{chosen.model} cannot reason", kind_of(given["reasoning"])))
    changes: list[Change] = []
    if "tools" in body:
        given["tools"] = _tools(body["tools"], chosen, own_tools, wrong, changes)
    if wrong:
        raise ChangeRefused.because_of(wrong)
    return given, changes


def _without_fixed(body: dict[str, Any], chosen: CallProfile, wrong: list[Wrong]) -> dict[str, Any]:
    """Return `body` without the fields that are fixed for a call. They may be there with the value in force."""
    if "model" in body and (model := body.pop("model")) != chosen.model:
        wrong.append(Wrong("model", _FIXED, kind_of(model)))
    wrong += [Wrong(name, _FIXED, kind_of(body.pop(name))) for name in _OTHER_FORMATS if name in body]
    if not isinstance(body.get("audio"), dict):
        return body
    audio = dict(body["audio"])
    for side in ("input", "output"):
        fields = audio.get(side)
        if not isinstance(fields, dict) or "format" not in fields:
            continue
        named, in_force = fields["format"], chosen.session["audio"][side]["format"]
        if not isinstance(named, dict) or {**in_force, **named} != in_force:
            wrong.append(Wrong(f"audio.{side}.format", _FIXED, kind_of(named)))
        audio[side] = {name: value for name, value in fields.items() if name != "format"}
    return body | {"audio": audio}


def _tools(
    given: object, chosen: CallProfile, own_tools: Collection[str], wrong: list[Wrong], changes: list[Change]
) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        wrong.append(Wrong("tools", "must be a list", kind_of(given)))
        return []
    made: list[dict[str, Any]] = []
    for index, each in enumerate(given):
        try:
            made.append(_tool(each, changes))
        except ValueError as error:
            wrong.append(Wrong(f"tools[{index}]", str(error), kind_of(each)))
    known = {*built_in.BUILT_IN, *own_tools, *map(tool_key, chosen.tools)}
    new = set(map(tool_key, made)) - known
    if new and len(known) + len(new) > MAX_TOOLS:
        wrong.append(Wrong("tools", f"a session has at most {MAX_TOOLS} tools", kind_of(given)))
    return made


def _tool(given: object, changes: list[Change]) -> dict[str, Any]:
    made = tool(given)
    assert isinstance(made, dict)
    if made.get("type") != "function":
        if tool_key(made) in built_in.BUILT_IN:
            raise ValueError(f"must have another name than {tool_key(made)}, which is built in")
        return made
    mended, done = function_tools.mend(made)
    changes += done
    return mended
