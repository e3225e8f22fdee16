"""Names of recordings: `{uuid}-{start time}-{host}.wav`."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

MAX_UUID_CHARS = 128
MAX_HOST_CHARS = 63
_NAME = re.compile(
    r"(?P<uuid>[A-Za-z0-9_%-]+?)-(?P<start>\d{8}T\d{6}\.\d{6}Z)-(?P<host>[A-Za-z0-9.-]{1,63})\.wav", re.ASCII
)
_TIME = "%Y%m%dT%H%M%S.%fZ"


class Name(NamedTuple):
    """The parts of a recording's name; `uuid` is encoded, see `encoded`."""

    uuid: str
    started_at: float
    host: str


def encoded(uuid: str) -> str:
    """Return a uuid as it stands in names: all but letters, digits, `_` and `-` as `%XX`.

    The encoded uuid has no dot, so the time behind it is found without doubt. A uuid that would become too long
    for a file name is replaced by its hash.
    """
    text = quote(uuid, safe="").replace(".", "%2E").replace("~", "%7E")
    if len(text) <= MAX_UUID_CHARS:
        return text
    return f"%sha256-{hashlib.sha256(uuid.encode()).hexdigest()[:32]}"


def safe_host(host: str) -> str:
    """Return a host's name as it stands in names of files."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", host)[:MAX_HOST_CHARS] or "host"


def file_name(uuid: str, started_at: float, host: str) -> str:
    """Return the name of the recording that began at this time of the wall clock, in seconds since the epoch."""
    return f"{encoded(uuid)}-{datetime.fromtimestamp(started_at, UTC).strftime(_TIME)}-{safe_host(host)}.wav"


def parse(name: str) -> Name | None:
    """Return the parts of a recording's name; None if it is none."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        started = datetime.strptime(match["start"], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    return Name(match["uuid"], started.timestamp(), match["host"])
