"""What of a tool's definition is secret, and who can name that again.

Redis has no secrets. After the loss of a call's dispatcher and worker they are restored from where they came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

from common.observe.redaction import secrets_in_url
from common.settings.session_fields import tool_key

_SECRETS: Final = frozenset({"authorization", "headers"})


class Origin(StrEnum):
    """Where the tools of a call came from."""

    SETTINGS = "settings"
    INSTRUCTIONS = "instructions"
    PROVIDER_CONFIG = "provider_config"
    CALLS_API = "calls_api"


def withheld(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a tool that are not stored: credentials, and a URL that has some in it."""
    names = _SECRETS | {name for name in ("server_url",) if any(secrets_in_url(str(tool.get(name) or "")))}
    return {name: value for name, value in tool.items() if name in names}


def public(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a tool that may be stored."""
    secret = withheld(tool)
    return {name: value for name, value in tool.items() if name not in secret}


def origins_of(tools: Iterable[Mapping[str, Any]], origin: Origin) -> dict[str, str]:
    """Return the origin of each tool that has secrets, by the tool's name."""
    return {tool_key(tool): origin.value for tool in tools if withheld(tool)}


def completed(tool: Mapping[str, Any], known: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a stored tool with its secrets; None if they are not in the tool that is known under its name.

    The secrets of one server must never be sent to another.
    """
    if known is None or not withheld(known):
        return None
    stored, now = tool.get("server_url"), public(known).get("server_url")
    return {**tool, **withheld(known)} if stored == now else None
