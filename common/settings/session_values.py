"""Parsers of the values that a Realtime session has: voices, models, languages, tools and more."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Final

from common.net import json_depth
from common.settings.address_values import http_url
from common.settings.models import (
    LANGUAGES,
    VOICES,
    XAI_VOICES,
    Service,
    reasoning_efforts,
    replacement_of,
    speaks_beta,
)
from common.settings.nearest import nearest_number, nearest_word
from common.settings.values import NotAllowed, Parser, number, parse_json, word

_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_FUNCTION_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_XAI_CUSTOM_VOICE: Final = re.compile(r"[a-z0-9]{8}")
_ANY_VOICE: Final = re.compile(r"[\w.:/@-]{1,128}")


class AudioFormat(StrEnum):
    """The audio on the connection to the Realtime API (`OPENAI_AUDIO_FORMAT`)."""

    PCM = "pcm"
    PCMU = "pcmu"
    PCMA = "pcma"


def voice_of(service: Service) -> Parser:
    """Takes a voice of the service: its name, or the id of a custom one."""

    def parse(value: object) -> object:
        name = str(value)
        voices: tuple[str, ...] = VOICES
        match service:
            case Service.XAI:
                voices = XAI_VOICES
                if name.lower() in XAI_VOICES or _XAI_CUSTOM_VOICE.fullmatch(name):
                    return name.lower()
                allowed = f"{', '.join(XAI_VOICES)}, or the id of a custom voice"
            case Service.OTHER:
                if name.lower() in VOICES:
                    return name.lower()
                if _ANY_VOICE.fullmatch(name):
                    return name
                allowed = "the voices of this service: a name without space"
            case _:
                if name.lower() in VOICES:
                    return name.lower()
                if re.fullmatch(r"voice_[\w-]+", name):
                    return name
                allowed = f"{', '.join(VOICES)}, or the id of a custom voice (voice_...)"
        raise NotAllowed(f"must be one of {allowed}", nearest_word(name, voices))

    return parse


def effort_of(service: Service) -> Parser:
    """Takes an effort that models of the service know."""
    efforts = reasoning_efforts(service)

    def parse(value: object) -> object:
        effort = str(value).lower()
        if effort not in efforts:
            # Other services call the highest effort max.
            near = efforts[-1] if effort.startswith("max") else nearest_word(effort, efforts)
            raise NotAllowed(f"must be one of {', '.join(efforts)}", near)
        return effort

    return parse


def max_tokens(value: object) -> object:
    """Takes 1 to 4096, or `inf`."""
    if str(value).lower() == "inf":
        return "inf"
    if isinstance(value, bool) or not str(value).isdecimal() or not 1 <= int(str(value)) <= 4096:
        near = nearest_number(value, 0, 4096)
        # A response of one token is silent, and 0 or -1 stand for no limit elsewhere.
        raise NotAllowed(
            "must be a whole number from 1 to 4096, or inf", None if near is None or near < 1 else round(near)
        )
    return int(str(value))


def language(value: object) -> object:
    """Takes a language code, and leaves its region out; `auto` is None.

    The API takes ISO-639-1 (`openai.types.realtime.AudioTranscription.language`) and refuses the whole session for
    `pt-BR`. Codes that are not in ISO-639-1 pass, because the API may learn them.
    """
    if value is None or str(value).lower() in {"", "auto"}:
        return None
    if not _LANGUAGE.fullmatch(str(value)):
        near = nearest_word(value, LANGUAGES)
        raise NotAllowed("must be a language code such as en or it, or auto", near and LANGUAGES[near])
    return without_region(str(value))


def without_region(code: str) -> str:
    """Return the language of a code with a region or script: `pt` for `pt-BR`. Other text stays as it is."""
    return re.split("[-_]", code)[0].lower() if _LANGUAGE.fullmatch(code) else code


def tool_choice(value: object) -> object:
    """Takes `auto`, `none`, `required`, the name of a function, or the API's object."""
    if isinstance(value, str) and value.lower() in {"auto", "none", "required"}:
        return value.lower()
    if isinstance(value, str) and _FUNCTION_NAME.fullmatch(value):
        return {"type": "function", "name": value}
    choice = _json_object_or_none(value)
    if choice is not None and choice.get("type") == "function" and _is_function_name(choice.get("name")):
        return choice
    if choice is not None and choice.get("type") == "mcp" and choice.get("server_label"):
        return choice
    raise ValueError(
        'must be auto, none, required, the name of a function, or JSON such as {"type": "function", ...}'
    )


def tracing(value: object) -> object:
    """Takes `auto`, or an object with workflow_name, group_id and metadata."""
    if isinstance(value, str) and value.lower() == "auto":
        return "auto"
    chosen = _json_object_or_none(value)
    names = ("workflow_name", "group_id")
    if chosen is None or not all(isinstance(chosen.get(name, ""), str) for name in names):
        raise ValueError("must be auto, or a JSON object with workflow_name, group_id and metadata")
    return chosen


def truncation(value: object) -> object:
    """Takes `auto`, `disabled`, or an object of type retention_ratio."""
    if isinstance(value, str) and value.lower() in {"auto", "disabled"}:
        return value.lower()
    chosen = _json_object_or_none(value)
    if chosen is not None and chosen.get("type") == "retention_ratio":
        ratio = number(0, 1)(chosen.get("retention_ratio"))
        return chosen | {"retention_ratio": ratio}
    raise ValueError('must be auto, disabled, or JSON such as {"type": "retention_ratio", "retention_ratio": 0.8}')


def prompt_variables(value: object) -> object:
    """Takes an object of texts, or of the API's input objects."""
    variables = _json_object_or_none(value)
    if variables is None or not all(isinstance(each, (str, dict)) for each in variables.values()):
        raise ValueError('must be a JSON object of texts, such as {"city": "Rome"}')
    return variables


def model_of(service: Service) -> Parser:
    """Takes the name of a model that the service may have."""

    def parse(value: object) -> object:
        name = str(word(value))
        if service is Service.OPENAI and speaks_beta(name):
            replacement = replacement_of(name)
            raise NotAllowed(f"was removed by OpenAI, with the beta dialect: use {replacement}", replacement)
        return name

    return parse


def mcp_server(value: object) -> object:
    """Takes a remote MCP server as the API has it.

    The type can be left out. So can `require_approval`, which is then `never`: on a telephone nobody is asked.
    """
    if not isinstance(value, dict) or not _is_function_name(value.get("server_label")):
        raise ValueError("must be an object with a server_label of letters, digits, _ and -")
    if value.get("type", "mcp") != "mcp":
        raise ValueError("must have the type mcp")
    if not any(value.get(name) for name in ("server_url", "connector_id", "tunnel_id")):
        raise ValueError("must have a server_url, a connector_id or a tunnel_id")
    if value.get("server_url") is not None:
        http_url(value["server_url"])
    return {"require_approval": "never"} | value | {"type": "mcp"}


def tool(value: object) -> object:
    """Takes the definition of a tool: a function's, an MCP server's, or one of a type that the service knows.

    `input_schema`, as AVR's tools call it, is `parameters`.
    """
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    if value.get("type") == "mcp" or "server_label" in value:
        return mcp_server(value)
    if value.get("type", "function") != "function":
        word(value["type"])
        return value
    if not _is_function_name(value.get("name")):
        raise ValueError("must have a name of letters, digits, _ and -")
    parameters = value.get("parameters", value.get("input_schema"))
    if not isinstance(parameters, (dict, type(None))):
        raise ValueError("must have an object as its parameters")
    made = {"type": "function"} | {name: given for name, given in value.items() if name != "input_schema"}
    return made if parameters is None else made | {"parameters": parameters}


def _json_object_or_none(value: object) -> dict[str, Any] | None:
    try:
        parsed = parse_json(value)
    except json_depth.TooDeep:
        raise
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _is_function_name(value: object) -> bool:
    return isinstance(value, str) and _FUNCTION_NAME.fullmatch(value) is not None
