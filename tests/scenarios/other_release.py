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


def _preceded(send: Callable[..., None]) -> Callable[..., None]:
    """A method whose last argument is a record of a call; a record of an unknown kind goes first."""

    def sends(self: object, *arguments: Any) -> None:
        *where, record = arguments
        _, channel, _ = _HEAD.unpack_from(record)
        payload = b"\0news"
        send(self, *where, _HEAD.pack(_UNKNOWN_KIND, channel, len(payload)) + payload)
        send(self, *where, record)

    return sends


if __name__ == "__main__":
    # Before anything has read them.
    release.RELEASE = os.environ["OTHER_RELEASE"]  # type: ignore[misc]  # no other process has another one
    wire.encode = _encode
    # Where all that is counted goes through.
    outbox, call = (
        import_module("dispatcher.call.action_queue").ActionQueue,
        import_module("worker.session.session_runner").SessionRunner,
    )
    outbox.encoded = _preceded(outbox.encoded)
    call._send = _preceded(call._send)
    sys.exit(import_module("common.runtime.cli").main(sys.argv[1:]))
