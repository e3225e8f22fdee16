"""How people write the values of settings, and what is made of them.

Each parser takes what stands in the environment (or the value itself, given as an argument or in JSON), returns
the value as it is used, and raises ValueError with what is allowed. From the environment the values come without
the space and quotes around them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

import orjson
from pydantic import BeforeValidator, SecretStr

from common.errors import LocalError
from common.net import json_depth
from common.settings import extensions
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
from common.settings.recordings import BUILTIN, NONE

Parser = Callable[[object], object]

MIN_TOKEN_CHARACTERS: Final = 16

_OFF: Final = frozenset({"", "off", "none", "null", "false"})
_ON: Final = frozenset({"true", "1", "yes", "on"})
_NOT: Final = frozenset({"false", "0", "no", "off"})
_PORT_OF: Final = {"http": 80, "https": 443}
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_FUNCTION_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_XAI_CUSTOM_VOICE: Final = re.compile(r"[a-z0-9]{8}")
_ANY_VOICE: Final = re.compile(r"[\w.:/@-]{1,128}")


class NotAllowed(LocalError, ValueError):
    """A wrong value, with the right value that is nearest to it; None: no value is near."""

    def __init__(self, allowed: str, nearest: object = None) -> None:
        super().__init__(allowed)
        self.nearest = nearest


class AudioFormat(StrEnum):
    """The audio on the connection to the Realtime API (`OPENAI_AUDIO_FORMAT`)."""

    PCM = "pcm"
    PCMU = "pcmu"
    PCMA = "pcma"


def whole_number(low: int, high: int) -> Parser:
    """Takes `low` to `high`, both included."""

    def parse(value: object) -> object:
        try:
            parsed = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
        except ValueError:
            parsed = None
        if parsed is None or not low <= parsed <= high:
            near = nearest_number(value, low, high)
            raise NotAllowed(f"must be a whole number from {low} to {high}", None if near is None else round(near))
        return parsed

    return parse


def number(low: float, high: float) -> Parser:
    """Takes `low` to `high`, both included, with or without decimals; never NaN."""

    def parse(value: object) -> object:
        try:
            accepted = isinstance(value, (int, float, str)) and not isinstance(value, bool)
            parsed = float(value) if accepted else math.nan  # type: ignore[arg-type]  # narrowed by `accepted`
        except (ValueError, OverflowError):
            parsed = math.nan
        if not low <= parsed <= high:
            raise NotAllowed(f"must be a number from {low:g} to {high:g}", nearest_number(value, low, high))
        return parsed

    return parse


def one_of(choices: Iterable[str]) -> Parser:
    """Takes one of `choices`, which are in lower case, in any case."""
    allowed = tuple(choices)

    def parse(value: object) -> object:
        if str(value).lower() not in allowed:
            raise NotAllowed(f"must be one of {', '.join(allowed)}", nearest_word(value, allowed))
        return str(value).lower()

    return parse


def unless_off(parser: Parser, *also: str) -> Parser:
    """Takes what `parser` takes, and `off`, `none`, `null`, `false` or one of `also` for not set."""
    off = _OFF | set(also)

    def parse(value: object) -> object:
        return None if value is None or str(value).lower() in off else parser(value)

    return parse


def boolean(value: object) -> object:
    """Takes true or false, in the ways that people write them."""
    if str(value).lower() not in _ON | _NOT:
        raise ValueError("must be true or false")
    return str(value).lower() in _ON


def text(value: object) -> object:
    """Takes text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text, and not empty")
    return value


def word(value: object) -> object:
    """Takes one word of plain characters."""
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value):
        raise ValueError("must be one word of plain characters")
    return value


def json_object(value: object) -> object:
    """Takes a JSON object."""
    parsed = _parse_json(value)
    if not isinstance(parsed, dict):
        raise ValueError("must be a JSON object")
    return parsed


def json_list(element: Parser) -> Parser:
    """Takes a JSON list of what `element` takes."""

    def parse(value: object) -> object:
        parsed = _parse_json(value)
        if not isinstance(parsed, list):
            raise ValueError("must be a JSON list")
        try:
            return [element(each) for each in parsed]
        except ValueError as error:
            raise ValueError(f"has an element that is wrong: it {error}") from None

    return parse


def variable_names(value: object) -> object:
    """Takes names of environment variables, with commas or spaces between them, or as a JSON list."""
    names = value
    if isinstance(value, str):
        names = _parse_json(value) if value.startswith("[") else re.split(r"[\s,]+", value.strip(", "))
    if not isinstance(names, list) or not all(
        isinstance(each, str) and _VARIABLE.fullmatch(each) for each in names
    ):
        raise ValueError("must be names of variables, with commas between them")
    return names


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


def api_key(value: object) -> object:
    """Takes a key; as an argument also one that is hidden already."""
    key = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(key, str) or not re.fullmatch(r"[!-~]*", key):
        raise ValueError("has spaces, line breaks or characters that no key has")
    return value


def token(value: object) -> object:
    """Takes a token that cannot be guessed; as an argument also one that is hidden already."""
    if value is None:
        return None
    written = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(written, str) or not re.fullmatch(r"[!-~]*", written):
        raise ValueError("has spaces, line breaks or characters beyond ASCII: let `openssl rand -hex 32` make one")
    if len(written) < MIN_TOKEN_CHARACTERS:
        raise ValueError(
            f"is shorter than {MIN_TOKEN_CHARACTERS} characters, and may be guessed: "
            "let `openssl rand -hex 32` make one"
        )
    return value


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


def recording(value: object) -> object:
    """Takes `none`, `builtin`, or the path of a file, which is read later."""
    chosen = str(text(value))
    if chosen.lower() in _OFF:
        return NONE
    return BUILTIN if chosen.lower() == BUILTIN else chosen


def origins(value: object) -> object:
    """Takes origins of web pages: a JSON list, or text with commas or space between them.

    Browsers write an origin in lower case and without the scheme's own port (RFC 6454, section 6.2).
    """
    listed = _parse_json(value) if str(value).startswith("[") else str(value).replace(",", " ").split()
    return [_origin(each) for each in listed] if isinstance(listed, list) else [_origin(listed)]


def _origin(value: object) -> str:
    try:
        url = _split_url(value)
        text = f"{url.scheme}://{url.netloc}"
        if url.scheme not in _PORT_OF or not url.hostname or url.username is not None:
            raise ValueError
        if str(value).lower().removesuffix("/") != text.lower():
            raise ValueError
    except ValueError:
        raise ValueError("must be origins of web pages, such as https://phone.example:8443") from None
    return text.lower().removesuffix(f":{_PORT_OF[url.scheme]}")


def extension(value: object) -> object:
    """Takes `exten` or `exten@context`."""
    extensions.split(str(value))
    return value


def dialplan_context(value: object) -> object:
    """Takes the name of a dialplan context."""
    if not extensions.CONTEXT.fullmatch(str(value)):
        raise ValueError("must be the name of a dialplan context: letters, digits, _ and -")
    return value


def transfer_allowed(value: object) -> object:
    """Takes entries such as `internal`, `600@sales` or `_00X.@out`, separated by commas or as a JSON list.

    `none` is no entry: nothing is allowed.
    """
    if value is None:
        return None
    if str(value).lower() == NONE:
        return []
    given = value
    if isinstance(value, str):
        given = _parse_json(value) if value.startswith("[") else value.split(",")
    written = [str(each).strip() for each in given] if isinstance(given, list) else [str(given)]
    entries = [each for each in written if each]
    if not 1 <= len(entries) <= extensions.MAX_ALLOWED:
        raise ValueError(f"must be none, or 1 to {extensions.MAX_ALLOWED} entries separated by commas")
    return [extensions.allowed_entry(each) for each in entries]


def http_url(value: object) -> object:
    """Takes the address of an HTTP service."""
    url = _split_url(value)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("must be a URL with http or https")
    return value


def _parse_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json_depth.read(value)
    except orjson.JSONDecodeError:
        pass
    try:
        # In Compose's list form people escape the quotes, as a shell would need it.
        return json_depth.read(value.replace('\\"', '"'))
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos + 1}") from None


def _json_object_or_none(value: object) -> dict[str, Any] | None:
    try:
        parsed = _parse_json(value)
    except json_depth.TooDeep:
        raise
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _is_function_name(value: object) -> bool:
    return isinstance(value, str) and _FUNCTION_NAME.fullmatch(value) is not None


def _parse_prose(value: object) -> object:
    # Compose files and docker's --env-file cannot hold a line break: people write the two characters.
    return None if value is None else str(value).replace("\\n", "\n")


def _split_url(value: object) -> SplitResult:
    word(value)
    try:
        url = urlsplit(str(value))
        _ = url.port  # parsed only now, and may raise
    except ValueError:
        raise ValueError("must be a URL") from None
    return url


def _parse_base_url(value: object) -> object:
    url = _split_url(value)
    if url.scheme not in {"ws", "wss", "http", "https"} or not url.hostname:
        raise ValueError("must be a URL with ws, wss, http or https, such as wss://api.openai.com/v1/realtime")
    if url.query or url.fragment or url.username is not None:
        raise ValueError("must be a URL without query, fragment and user: the model is OPENAI_MODEL's")
    return value


def _parse_ami_url(value: object) -> object:
    return str(http_url(value)).rstrip("/")


def _parse_proxy_url(value: object) -> object:
    if value is None:
        return None
    # curl takes a name with a port, too.
    text = str(value) if "://" in str(value) else f"http://{value}"
    url = _split_url(text)
    if url.scheme != "http" or not url.hostname or url.path not in {"", "/"} or url.query:
        raise ValueError("must be http://host:port or http://user:password@host:port")
    return text.rstrip("/")


def _parse_redis_url(value: object) -> object:
    if value is None:
        return None
    url = _split_url(value)
    if not (url.scheme in {"redis", "rediss"} and url.hostname) and not (url.scheme == "unix" and url.path):
        raise ValueError("must be redis://host:port/db, rediss://host:port/db or unix:///path")
    return value


def _parse_address(value: object) -> object:
    if value is None:
        return None
    if str(value).count(":") == 1 or not re.fullmatch(r"[\w.:-]+", str(value)):
        raise ValueError("must be a host name or an address without a port: that is WORKER_PORT's")
    return value


def _optional(parser: Parser) -> BeforeValidator:
    return BeforeValidator(lambda value: None if value is None else parser(value))


def _optional_url(value: object) -> object:
    return None if value is None else http_url(value)


Port = Annotated[int, BeforeValidator(whole_number(0, 65_535))]
Milliseconds = Annotated[int, BeforeValidator(whole_number(0, 60_000))]
VadMilliseconds = Annotated[int, BeforeValidator(whole_number(0, 10_000))]
IdleMilliseconds = Annotated[int, BeforeValidator(whole_number(5_000, 30_000))]
LimitSeconds = Annotated[float | None, BeforeValidator(unless_off(number(1, 86_400), "0"))]
MaxTokens = Annotated[int | Literal["inf"], BeforeValidator(max_tokens)]
Language = Annotated[str | None, BeforeValidator(language)]
Voice = Annotated[str, BeforeValidator(voice_of(Service.OTHER))]
Word = Annotated[str, BeforeValidator(word)]
OptionalWord = Annotated[str | None, _optional(word)]
Token = Annotated[SecretStr | None, BeforeValidator(token)]
ApiKey = Annotated[SecretStr, BeforeValidator(api_key)]
Prose = Annotated[str | None, BeforeValidator(_parse_prose)]
Sentence = Annotated[str, BeforeValidator(_parse_prose)]
BaseUrl = Annotated[str, BeforeValidator(_parse_base_url)]
HttpUrl = Annotated[str | None, BeforeValidator(_optional_url)]
AmiUrl = Annotated[str, BeforeValidator(_parse_ami_url)]
ProxyUrl = Annotated[str | None, BeforeValidator(_parse_proxy_url)]
RedisUrl = Annotated[str | None, BeforeValidator(_parse_redis_url)]
Address = Annotated[str | None, BeforeValidator(_parse_address)]
Recording = Annotated[str, BeforeValidator(recording)]
Origins = Annotated[list[str] | None, _optional(origins)]
Extension = Annotated[str | None, BeforeValidator(unless_off(extension))]
DialplanContext = Annotated[str, BeforeValidator(dialplan_context)]
TransferAllowed = Annotated[list[str] | None, BeforeValidator(transfer_allowed)]
Boolean = Annotated[bool, BeforeValidator(boolean)]
ReasoningEffort = Annotated[str | None, _optional(effort_of(Service.OTHER))]
NoiseReduction = Annotated[str | None, BeforeValidator(unless_off(one_of(("near_field", "far_field"))))]
ToolChoice = Annotated[str | dict[str, Any] | None, _optional(tool_choice)]
Tracing = Annotated[str | dict[str, Any] | None, BeforeValidator(unless_off(tracing))]
Truncation = Annotated[str | dict[str, Any] | None, _optional(truncation)]
PromptVariables = Annotated[dict[str, Any] | None, _optional(prompt_variables)]
McpServers = Annotated[list[dict[str, Any]] | None, _optional(json_list(mcp_server))]
VariableNames = Annotated[list[str], BeforeValidator(variable_names)]
JsonObject = Annotated[dict[str, Any] | None, _optional(json_object)]
