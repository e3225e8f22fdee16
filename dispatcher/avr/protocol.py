"""AVR Core's protocol: its messages parsed and checked, ours built.

See "AVR protocol" in the README. Audio is PCM16 little-endian, 8 kHz, mono, in base64.
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

SAMPLE_RATE_HZ: Final = 8000
FRAME_BYTES: Final = 320
FRAME_SAMPLES: Final = FRAME_BYTES // 2
MAX_MESSAGE_BYTES = 64 * 1024

# A caller's own text never goes into an error, so what was wrong is named by type and length alone.
_UUID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
_DIGITS = frozenset("0123456789*#ABCD")
TOKEN_PARAMETER = "token"  # noqa: S105 - its name
MAX_METADATA_ENTRIES = 32
MAX_METADATA_NAME_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512

# An audio message as AVR Core writes it, and as we do: nothing around base64.
AUDIO_HEAD = b'{"type":"audio","audio":"'
AUDIO_TAIL = b'"}'
_HEAD_BYTES = len(AUDIO_HEAD)
_TAIL_BYTES = len(AUDIO_TAIL)
INTERRUPTION = b'{"type":"interruption"}'


@dataclass(frozen=True, slots=True)
class Init:
    """The first message of a call."""

    uuid: str
    provider_config: dict[str, object] = field(default_factory=dict, repr=False)  # it may hold a key


@dataclass(frozen=True, slots=True)
class Audio:
    """Caller's audio: PCM16 at 8 kHz, any whole number of samples."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class Dtmf:
    """One key: `0` to `9`, `*`, `#`, `A` to `D`."""

    digit: str


Message = Init | Audio | Dtmf


def parse(data: BytesLike) -> Message:
    """A message of AVR Core, by whichever kind of frame it came.

    Raises:
        AvrProtocolError: it is none that the protocol knows. The error says what is wrong, never what was sent.
    """
    pcm = plain_audio(data)
    if pcm is not None:
        return Audio(pcm)
    return parse_json(data)


def plain_audio(data: BytesLike) -> bytes | None:
    """The samples of an `audio` message that has the bytes that AVR Core gives it.

    Almost all messages are such. None for any other message, be it good or broken: `parse_json` tells.
    """
    if data[:_HEAD_BYTES] != AUDIO_HEAD or data[-_TAIL_BYTES:] != AUDIO_TAIL:
        return None
    try:
        # What is base64 has no quotes and no escapes, so no JSON parser could read anything else here.
        pcm = pybase64.b64decode(data[_HEAD_BYTES:-_TAIL_BYTES], validate=True)
    except binascii.Error:
        return None
    # The last quote may be the first as well.
    return pcm if len(pcm) % 2 == 0 and len(data) >= _HEAD_BYTES + _TAIL_BYTES else None


def parse_json(data: BytesLike) -> Message:
    """`parse` for messages of any shape.

    Raises:
        AvrProtocolError: as `parse`.
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
    """An `init` with this uuid.

    Raises:
        AvrProtocolError: the uuid is none, or the configuration is no object.
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
    """PCM16 cut into frames of 320 bytes each; the last may be shorter."""
    return [pcm[offset : offset + FRAME_BYTES] for offset in range(0, len(pcm), FRAME_BYTES)]


def audio(frame: bytes | memoryview) -> bytes:
    """An `audio` message of one frame (320 bytes of PCM16)."""
    return AUDIO_HEAD + pybase64.b64encode(frame) + AUDIO_TAIL


def transcript(role: str, text: str) -> bytes:
    """A `transcript` message; `role` is `user` or `agent`."""
    return orjson.dumps({"type": "transcript", "role": role, "text": text})


def error(message: str) -> bytes:
    """An `error` message."""
    return orjson.dumps({"type": "error", "message": message})


def metadata(path: str) -> dict[str, str]:
    """The call's metadata: the query parameters of the URL that AVR Core asked for.

    Bounded: parameters beyond 32, and those with a name over 64 or a value over 512 characters, are left out. So
    is `token`, whether STS_TOKEN is set or not: a core may bring it before it is asked for it.
    """
    entries: dict[str, str] = {}
    for name, value in _parameters(path):
        if name == TOKEN_PARAMETER:
            continue
        if len(entries) == MAX_METADATA_ENTRIES and name not in entries:
            break
        if len(name) <= MAX_METADATA_NAME_CHARS and len(value) <= MAX_METADATA_VALUE_CHARS:
            entries[name] = value
    return entries


def token(path: str) -> str | None:
    """What the URL shows as STS_TOKEN; the first, if it shows several."""
    return next((value for name, value in _parameters(path) if name == TOKEN_PARAMETER), None)


def _parameters(path: str) -> list[tuple[str, str]]:
    """Return names and values of the query. A space is `%20` there; a `+` stays.

    AVR Core sends a caller's number as it has it: `?from=+39...`. HTML forms alone write a space as `+`.
    """
    # Not urlsplit, which takes `//[` for a broken host and raises.
    query = path.partition("?")[2].partition("#")[0]
    return parse_qsl(query.replace("+", "%2B"), errors="replace")
