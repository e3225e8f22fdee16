"""Parse AVR Core's messages, and build the messages to AVR Core.

See docs/avr-protocol.md. Audio is PCM16 little-endian, 8 kHz, mono, in base64.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import parse_qsl

import orjson
import pybase64
from websockets.typing import BytesLike

from common.errors import AvrProtocolError
from common.net.json_depth import MAX_LEVELS, is_too_deep
from common.observe import trace_context

SAMPLE_RATE_HZ: Final = 8000
FRAME_BYTES: Final = 320
FRAME_SAMPLES: Final = FRAME_BYTES // 2
MAX_MESSAGE_BYTES = 64 * 1024

# Errors never repeat data of the peer. They name the field and the rule, or a length.
_UUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
_DIGITS = frozenset("0123456789*#ABCD")
TOKEN_PARAMETER = "token"  # noqa: S105 - its name
BAD_INIT_REASONS: Final = ("bad_uuid", "bad_config")
MAX_METADATA_ENTRIES = 32
MAX_METADATA_NAME_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512

# The bytes around the base64 text of an audio message. AVR Core and this service write them in the same way.
AUDIO_HEAD = b'{"type":"audio","audio":"'
AUDIO_TAIL = b'"}'
_HEAD_BYTES = len(AUDIO_HEAD)
_TAIL_BYTES = len(AUDIO_TAIL)
INTERRUPTION = b'{"type":"interruption"}'


@dataclass(frozen=True, slots=True)
class Init:
    """The first message of a call."""

    uuid: str
    provider_config: dict[str, object] = field(default_factory=dict, repr=False)  # may contain a key


@dataclass(frozen=True, slots=True)
class Audio:
    """The caller's audio: PCM16 at 8 kHz, any whole number of samples."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class Dtmf:
    """One key of the telephone: `0` to `9`, `*`, `#`, `A` to `D`."""

    digit: str


Message = Init | Audio | Dtmf


def parse(data: BytesLike) -> Message:
    """Parse a message of AVR Core, from a text or binary frame.

    Raises:
        AvrProtocolError: the protocol has no such message. The error never repeats the message.
    """
    pcm = plain_audio(data)
    if pcm is not None:
        return Audio(pcm)
    return parse_json(data)


def plain_audio(data: BytesLike) -> bytes | None:
    """Return the samples of an `audio` message in AVR Core's usual form, which almost all messages have.

    Return None for any other message, valid or not. `parse_json` handles these.
    """
    if data[:_HEAD_BYTES] != AUDIO_HEAD or data[-_TAIL_BYTES:] != AUDIO_TAIL:
        return None
    try:
        # Base64 has no quotes and no escapes, so a JSON parser would read the same text.
        pcm = pybase64.b64decode(data[_HEAD_BYTES:-_TAIL_BYTES], validate=True)
    except binascii.Error:
        return None
    # In a too short message, head and tail may share a quote.
    return pcm if len(pcm) % 2 == 0 and len(data) >= _HEAD_BYTES + _TAIL_BYTES else None


def parse_json(data: BytesLike) -> Message:
    """Parse a message of any form.

    Raises:
        AvrProtocolError: see `parse`.
    """
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise AvrProtocolError("not_json", "a message is not JSON") from error
    if not isinstance(message, dict):
        raise AvrProtocolError("not_json", "a message is not a JSON object")
    kind = message.get("type")
    parser = _PARSERS.get(kind) if isinstance(kind, str) else None
    if parser is None:
        raise AvrProtocolError("unknown_type", "a message's type is none of init, audio, dtmf_digit")
    return parser(message)


def checked_init(uuid: object, provider_config: object = None) -> Init:
    """Return an `init` with this uuid.

    Raises:
        AvrProtocolError: the uuid is invalid, or the configuration is not an object or too deep.
    """
    if not isinstance(uuid, str) or not _UUID.fullmatch(uuid):
        raise AvrProtocolError(
            "bad_uuid",
            "init: uuid must be 1 to 128 letters, digits or . _ : @ - and begin with a letter or digit",
            ends_call=True,
        )
    if not isinstance(provider_config or {}, dict):
        raise AvrProtocolError("bad_config", "init: provider_config must be an object", ends_call=True)
    if is_too_deep(provider_config):
        message = f"init: provider_config is nested deeper than {MAX_LEVELS} levels"
        raise AvrProtocolError("bad_config", message, ends_call=True)
    return Init(uuid, cast("dict[str, object]", provider_config or {}))


def _parse_init(message: dict[str, object]) -> Init:
    return checked_init(message.get("uuid"), message.get("provider_config"))


def _parse_audio(message: dict[str, object]) -> Audio:
    audio = message.get("audio")
    if not isinstance(audio, str):
        raise AvrProtocolError("bad_audio", "audio: the field audio must be a base64 string")
    try:
        pcm = binascii.a2b_base64(audio, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise AvrProtocolError("bad_base64", "audio: not valid base64") from error
    if len(pcm) % 2:
        raise AvrProtocolError("odd_bytes", f"audio: {len(pcm)} bytes are not whole 16-bit samples")
    return Audio(pcm)


def _parse_dtmf(message: dict[str, object]) -> Dtmf:
    digit = str(message.get("digit")).upper()
    if digit not in _DIGITS:
        raise AvrProtocolError("bad_digit", "dtmf_digit: digit must be one of 0-9 * # A-D")
    return Dtmf(digit)


_PARSERS: dict[str, Callable[[dict[str, object]], Message]] = {
    "init": _parse_init,
    "audio": _parse_audio,
    "dtmf_digit": _parse_dtmf,
}


def frames(pcm: bytes) -> list[bytes]:
    """Split PCM16 into frames of 320 bytes; the last frame may be shorter."""
    return [pcm[offset : offset + FRAME_BYTES] for offset in range(0, len(pcm), FRAME_BYTES)]


def audio(frame: bytes | memoryview) -> bytes:
    """Return an `audio` message of one frame (320 bytes of PCM16)."""
    return AUDIO_HEAD + pybase64.b64encode(frame) + AUDIO_TAIL


def transcript(role: str, text: str) -> bytes:
    """Return a `transcript` message; `role` is `user` or `agent`."""
    return orjson.dumps({"type": "transcript", "role": role, "text": text})


def error(message: str) -> bytes:
    """Return an `error` message."""
    return orjson.dumps({"type": "error", "message": message})


def metadata(path: str) -> dict[str, str]:
    """Return the call's metadata: the query parameters of the URL that AVR Core requested.

    Leave out parameters after the 32nd, and those with a name over 64 or a value over 512 characters. Leave out
    `token` even without STS_TOKEN, because a core may send a token before this service requires one. Leave out
    `traceparent`, which names a span and not the caller (`traceparent()`).
    """
    entries: dict[str, str] = {}
    for name, value in _parameters(path):
        if name in (TOKEN_PARAMETER, trace_context.PARAMETER):
            continue
        if len(entries) == MAX_METADATA_ENTRIES and name not in entries:
            break
        if len(name) <= MAX_METADATA_NAME_CHARS and len(value) <= MAX_METADATA_VALUE_CHARS:
            entries[name] = value
    return entries


def traceparent(path: str) -> str:
    """Return the first `traceparent` parameter of the URL, unchecked; "" if there is none."""
    return next((value for name, value in _parameters(path) if name == trace_context.PARAMETER), "")


def token(path: str) -> str | None:
    """Return the first `token` parameter of the URL, for the comparison with STS_TOKEN; None if there is none."""
    return next((value for name, value in _parameters(path) if name == TOKEN_PARAMETER), None)


def _parameters(path: str) -> list[tuple[str, str]]:
    """Return the names and values of the query. Only `%20` is a space; a `+` stays a `+`.

    AVR Core sends a caller's number unchanged: `?from=+39...`. Only HTML forms write a space as `+`.
    """
    # urlsplit is not used, because it raises for `//[`, which it reads as a broken host.
    query = path.partition("?")[2].partition("#")[0]
    return parse_qsl(query.replace("+", "%2B"), errors="replace")
