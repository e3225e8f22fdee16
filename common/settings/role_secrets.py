"""The roles that read each secret. A process ignores all other secrets, wherever they are set."""

from __future__ import annotations

from typing import Final

from common.settings.renamed import current_name

_DISPATCHER = frozenset({"dispatcher"})
_WORKER = frozenset({"worker"})

READERS: Final = {
    "openai_api_key": _WORKER,
    "openai_mcp_servers": _WORKER,
    "openai_session": _WORKER,
    "openai_url_instructions": _WORKER,
    "https_proxy": _WORKER,
    "http_proxy": _WORKER,
    "safety_identifier_secret": _WORKER,
    "sts_token": _DISPATCHER,
    "tls_key": _DISPATCHER,
    "admin_token": _DISPATCHER,
    "call_records_webhook": _DISPATCHER,
    "call_records_secret": _DISPATCHER,
    "call_records_redis_url": _DISPATCHER,
    "cluster_token": _DISPATCHER | _WORKER,
    "cluster_tls_key": _DISPATCHER | _WORKER,
    "redis_url": _DISPATCHER | _WORKER,
    "redis_url_password": _DISPATCHER | _WORKER,
    "redis_sentinel_password": _DISPATCHER | _WORKER,
}
"""The roles that read a setting, for each setting that is or may hold a secret, or names its file."""


def is_withheld(name: str, role: str) -> bool:
    """Return whether a process of this role does not read the setting `name`, or `NAME_FILE`, in any case.

    `serve` reads all settings, because it checks those of its children.
    """
    readers = READERS.get(_setting(name))
    return readers is not None and role != "serve" and role not in readers


def may_hold_secret(name: str) -> bool:
    """Return whether the variable `name`, in any case, is a setting that may hold a secret, or names its file."""
    return _setting(name) in READERS


def _setting(name: str) -> str:
    return current_name(name).removesuffix("_file")
