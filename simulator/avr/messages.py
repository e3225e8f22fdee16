"""The messages that AVR Core sends."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson

# -40 dBFS: above the noise of a line, below any speech.
_SOUND_LEVEL: Final = 328


def as_json(message: Mapping[str, Any]) -> str:
    """Return a message as text."""
    return orjson.dumps(message).decode()


def audio(pcm: bytes) -> str:
    """Return the message with a frame of PCM16 at 8 kHz."""
    return f'{{"type":"audio","audio":"{base64.b64encode(pcm).decode()}"}}'


def sounds(pcm: bytes) -> bool:
    """Return whether a frame of PCM16 can be heard."""
    return bool(np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)).max() >= _SOUND_LEVEL)
