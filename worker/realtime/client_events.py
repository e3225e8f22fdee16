"""Encodes the events for the Realtime API, which the API's reference calls client events."""

from __future__ import annotations

from typing import Any

import orjson

from worker.realtime.dialect import Dialect

_APPEND_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_TAIL = b'"}'


def encode(event: dict[str, Any], dialect: Dialect) -> bytes:
    """Encode an event of the GA dialect for a service.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it has not the shape of its type, or is no JSON.
    """
    return orjson.dumps(dialect.to_wire(event))


def encode_append(audio: bytes) -> bytes:
    """Encode `input_audio_buffer.append`, which every dialect has alike; base64 needs no escapes in JSON."""
    return _APPEND_HEAD + audio + _APPEND_TAIL
