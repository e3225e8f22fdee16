"""Write `docs/settings.md` and the README's short list from the code: `python -m scripts.settings_table`."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from common.settings.fallbacks import HARMLESS
from common.settings.fields import SettingFields
from common.settings.role_secrets import READERS
from common.settings.settings import Settings
from scripts import written_part

BEGIN = "<!-- settings: written by python -m scripts.settings_table -->"
END = "<!-- end of settings -->"
ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "settings.md"
README = ROOT / "README.md"

FIRST_HOUR: Final = (
    *("openai_api_key", "openai_model", "openai_voice", "openai_instructions", "openai_language"),
    *("openai_welcome_message", "tools_dir", "ami_url", "transfer_allowed", "port", "admin_port"),
    *("redis_url", "sts_token", "admin_token"),
)
"""The settings of the README's short list."""

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "Ports": ("port", "admin_port", "worker_port", "worker_address"),
    "The Realtime API": (
        *("openai_api_key", "openai_model", "openai_base_url", "openai_organization", "openai_project"),
        *("openai_audio_format", "https_proxy", "http_proxy", "no_proxy", "upstream_retry_seconds"),
        *("session_rollover_seconds", "sessions_per_second", "safety_identifier_secret", "prices_file"),
    ),
    "What the agent says": (
        *("openai_instructions", "openai_url_instructions", "openai_file_instructions", "openai_voice"),
        *("openai_speed", "openai_welcome_message", "openai_welcome_interruptible", "openai_max_tokens"),
        *("openai_reasoning_effort", "openai_temperature", "openai_prompt_id", "openai_prompt_version"),
        *("openai_prompt_variables", "answer_failed_text"),
    ),
    "How the caller is heard": (
        *("openai_turn_detection", "openai_turn_detection_eagerness", "openai_turn_detection_threshold"),
        *("openai_turn_detection_silence_ms", "openai_turn_detection_prefix_padding_ms"),
        *("openai_turn_detection_idle_timeout_ms", "openai_noise_reduction", "openai_transcription_model"),
        *("openai_language", "dtmf_timeout_ms"),
    ),
    "Tools and transfers": (
        *("tools_dir", "avr_tools_dir", "tool_timeout_seconds", "tools_env", "openai_tool_choice"),
        *("openai_mcp_servers", "ami_url", "transfer_context", "transfer_allowed"),
    ),
    "Other fields of the session": ("openai_truncation", "openai_tracing", "openai_session"),
    "Limits of a call, and its way out": (
        *("silence_hangup_seconds", "max_call_seconds", "call_reconnect_seconds", "fallback_wav"),
        *("fallback_extension", "filler_wav", "filler_after_ms"),
    ),
    "Tenants": ("tenant_key", "tenants"),
    "Records and recordings": (
        *("call_records_metadata", "call_records_text", "call_records_dir", "call_records_webhook"),
        *("call_records_secret", "call_records_keep_seconds", "call_records_max_bytes"),
        *("call_records_redis_url", "call_records_redact", "recordings_dir", "recordings_keep_seconds"),
        "recordings_max_bytes",
    ),
    "Redis": ("redis_url", "redis_url_password", "redis_sentinel_password"),
    "Access and encryption": (
        *("sts_token", "allowed_origins", "tls_cert", "tls_key", "admin_token", "page_calls", "cluster_token"),
        *("cluster_tls_cert", "cluster_tls_key", "cluster_tls_ca"),
    ),
    "Processes and logs": (
        *("workers", "dispatchers", "worker_max_calls", "drain_seconds", "grouping_ms"),
        *("log_level", "log_format", "strict_settings"),
    ),
}
"""The headings of the page, with all settings."""

READ_BY_ALL: Final = "all"
_READ_ELSEWHERE: Final = {
    **dict.fromkeys(("workers", "dispatchers"), "serve"),
    **dict.fromkeys(("drain_seconds", "log_level", "log_format", "strict_settings"), READ_BY_ALL),
    "grouping_ms": READ_BY_ALL,
}
"""Readers of settings that only `common/` reads."""

_WARNS: Final = ("tools_dir", "avr_tools_dir")
"""Folders that may be missing: see `common.settings.notices`."""

_NAMED: Final = dict.fromkeys(("fallback_wav", "filler_wav"), "path, builtin or none")
"""Values of settings that are checked with the files that they name."""

_WRONG: Final = ("x" * 65, "\x01 wrong", "wrong", "x://wrong")
"""Texts that hardly any setting allows: the refusals name what is allowed."""


def page_part() -> str:
    """Return all settings as Markdown: a heading and a table for each group."""
    parts = []
    for title, names in GROUPS.items():
        rows = [
            f"| `{name.upper()}` | {_values(name)} | {_default(field)} | {reader(name)} | {_effect(name)} | "
            f"{_meaning(field)} |"
            for name in names
            for field in [Settings.model_fields[name]]
        ]
        head = ["| variable | values | default | read by | wrong value | meaning |", "|" + " --- |" * 6]
        parts.append("\n".join([f"## {title}", "", *head, *rows]))
    return "\n\n".join(parts)


def short_list() -> str:
    """Return the settings of the first hour as Markdown."""
    fields = ((name, Settings.model_fields[name]) for name in FIRST_HOUR)
    rows = [f"| `{name.upper()}` | {_default(field)} | {_meaning(field)} |" for name, field in fields]
    return "\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *rows])


def updated(text: str, part: str) -> str:
    """Return a document with a current part.

    Raises:
        ValueError: the document has no place for the part.
    """
    return written_part.replaced(text, BEGIN, END, part)


def reader(name: str) -> str:
    """Return the role that reads a setting: `dispatcher`, `worker`, `serve` or `all`."""
    found = READERS.get(name) or {role for role in ("dispatcher", "worker") if _is_read(name, role)}
    if len(found) > 1:
        return READ_BY_ALL
    return next(iter(found), "") or _READ_ELSEWHERE[name]


def _is_read(name: str, role: str) -> bool:
    names = "|".join((name, *(prop for prop, read in _properties().items() if name in read)))
    return re.search(rf"(?:settings|secrets|own)\.(?:{names})\b", _source(role)) is not None


@functools.cache
def _properties() -> dict[str, frozenset[str]]:
    """Return the properties of the settings, with the fields that each of them reads."""
    return {
        name: frozenset(re.findall(r"self\.(\w+)", inspect.getsource(member.fget)))
        for name, member in inspect.getmembers(SettingFields, lambda member: isinstance(member, property))
        if name != "secrets" and member.fget is not None and name not in SettingFields.model_fields
        if not name.startswith(("model_", "_"))
    }


@functools.cache
def _source(role: str) -> str:
    """Return the text of a role's modules; `check` and `chat` are other programs."""
    room = ROOT / role
    files = (
        path for path in sorted(room.rglob("*.py")) if path.relative_to(room).parts[0] not in ("check", "chat")
    )
    return "\n".join(path.read_text("utf-8") for path in files)


def _values(name: str) -> str:
    """Return the allowed values, as a refused value names them."""
    kinds = str(Settings.model_fields[name].annotation)
    if "SecretStr" in kinds:
        return "secret"
    if "Path" in kinds:
        return "path"
    refusals = list(_refusals(name))
    if any(refusal.startswith("is not JSON") for refusal in refusals):
        return "JSON list" if "list[" in kinds else "JSON object"
    named = [refusal for refusal in refusals if refusal.startswith("must be ")]
    if not named:
        return _NAMED.get(name, "text")
    allowed = named[-1].removeprefix("must be ").partition(": set ")[0].partition(": let ")[0]
    number = re.fullmatch(r"a (whole )?number from (\S+) to (\S+?)(, or inf)?", allowed)
    if number is not None:
        least, most = (
            f"{float(each):,g}" if float(each) < 1e5 else f"{float(each):,.0f}" for each in number.group(2, 3)
        )
        allowed = f"{least} to {most}{', whole' if number[1] else ''}{number[4] or ''}"
    allowed = "one word" if allowed == "one word of plain characters" else allowed
    return _escaped(allowed + (", or off" if _can_be_off(name) and "none" not in allowed else ""))


def _refusals(name: str) -> Iterator[str]:
    for wrong in _WRONG:
        try:
            Settings.model_validate({name: wrong})
        except ValidationError as error:
            yield str(error.errors()[0]["msg"]).removeprefix("Value error, ")


def _can_be_off(name: str) -> bool:
    try:
        return getattr(Settings.model_validate({name: "off"}), name) is None
    except ValidationError:
        return False


def _effect(name: str) -> str:
    if name in HARMLESS:
        return "replaced"
    if name in _WARNS:
        return "warning"
    return "" if _values(name) == "text" else "stops the start"


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*")


def _meaning(field: FieldInfo) -> str:
    return _escaped(field.description or "")


def _default(field: FieldInfo) -> str:
    default: Any = field.default
    if isinstance(default, SecretStr):
        return "required"
    told_by_its_meaning = "unset:" in (field.description or "")
    if field.default_factory is not None or default is None or told_by_its_meaning:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, list):
        return f"`{','.join(default)}`"
    return f"`{default.value if isinstance(default, Enum) else default}`"


if __name__ == "__main__":
    stale = []
    for file, part in ((PAGE, page_part()), (README, short_list())):
        text = file.read_text("utf-8")
        if updated(text, part) != text:
            stale.append(file.name)
            if "--check" not in sys.argv:
                file.write_text(updated(text, part), "utf-8")
    if "--check" in sys.argv and stale:
        sys.exit(f"{', '.join(stale)}: the settings are out of date")
