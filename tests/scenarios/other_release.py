"""A sub-command of the service as another release would run it beside this one.

    OTHER_RELEASE=9.9.9 python -m tests.scenarios.other_release worker

It says that it is this release, and speaks as a newer one does: every JSON record on the link, what is in lists
within it, settings and items of a call's memory have a field that this release does not know, and each record of a
call is preceded by one of an unknown kind, of which both ends keep count.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import orjson

from common.link import wire
from common.runtime import release

_HEAD: Final = struct.Struct("!BII")
_UNKNOWN_KIND: Final = 63
_NEWS: Final = {"news": {"of": "another release"}}


def _encode(record: wire.Control, channel: int) -> bytes:
    fields: dict[str, Any] = orjson.loads(orjson.dumps(record)) | _NEWS
    for name, value in fields.items():
        if isinstance(value, list) and all(isinstance(each, dict) for each in value):
            fields[name] = [each | _NEWS for each in value]
        elif name in ("record", "item") and value:
            fields[name] = value | _NEWS
    payload = orjson.dumps(fields)
    return _HEAD.pack(record.kind, channel, len(payload)) + payload


def _channel_preceded(send: Callable[..., None]) -> Callable[..., None]:
    """Return `Channel.send` that sends a record of an unknown kind first."""

    def sends(self: Any, record: wire.Record) -> None:
        payload = b"\0news"
        unknown = _HEAD.pack(_UNKNOWN_KIND, self.number, len(payload)) + payload
        encode, self._encode = self._encode, lambda *_: unknown
        send(self, record)
        self._encode = encode
        send(self, record)

    return sends


if __name__ == "__main__":
    # Before anything has read them.
    release.RELEASE = os.environ["OTHER_RELEASE"]  # type: ignore[misc]  # no other process has another one
    wire.encode = _encode
    # Where all that is counted goes through.
    channel = import_module("common.link.channel").Channel
    channel.send = _channel_preceded(channel.send)
    sys.exit(import_module("common.runtime.cli").main(sys.argv[1:]))
