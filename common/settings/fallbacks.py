"""The rule for wrong values of settings: harmless ones are replaced, all others stop the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from common.settings.values import NotAllowed

HARMLESS: Final = frozenset(
    {
        "openai_model",
        "openai_voice",
        "openai_temperature",
        "openai_max_tokens",
        "openai_reasoning_effort",
        "openai_language",
        "openai_turn_detection",
        "openai_turn_detection_eagerness",
        "openai_turn_detection_threshold",
        "openai_turn_detection_silence_ms",
        "openai_turn_detection_prefix_padding_ms",
        "openai_turn_detection_idle_timeout_ms",
        "openai_noise_reduction",
        "openai_speed",
    }
)
"""Settings where a wrong value changes only how the agent sounds or answers.

Such a value is replaced by the nearest right one, with a warning; STRICT_SETTINGS refuses it. A wrong port, limit,
duration, token, key, address, destination or file stops the start: no other value can be meant.
"""

ALWAYS_STOP: Final = frozenset(
    {
        *("port", "admin_port", "worker_port", "openai_api_key", "safety_identifier_secret"),
        *("redis_url", "redis_url_password", "redis_sentinel_password"),
        *("sts_token", "cluster_token", "admin_token", "allowed_origins", "tls_cert", "tls_key"),
        *("cluster_tls_cert", "cluster_tls_key", "cluster_tls_ca"),
        *("transfer_context", "transfer_allowed", "fallback_extension"),
        *("silence_hangup_seconds", "max_call_seconds", "tool_timeout_seconds", "dtmf_timeout_ms"),
        *("filler_after_ms", "upstream_retry_seconds", "call_reconnect_seconds", "session_rollover_seconds"),
        *("grouping_ms", "drain_seconds", "workers", "dispatchers", "worker_max_calls", "sessions_per_second"),
    }
)
"""Settings where even a word for "no value" (`undefined`) stops the start.

Their defaults may open a port that was to be closed, or set no limit.
"""

FREE_TEXT: Final = frozenset({"openai_instructions", "openai_welcome_message", "answer_failed_text"})
"""Settings with text for people and models, where ` # ` begins no comment."""

_NONE: Final = frozenset({"none"})
_OFF: Final = frozenset({"none", "null"})

MEANT_WORDS: Final = {
    "openai_turn_detection": _NONE,
    # Some services accept `none`. For OpenAI it is a wrong value like others.
    "openai_reasoning_effort": _NONE,
    "openai_tool_choice": _NONE,
    "transfer_allowed": _NONE,
    "openai_noise_reduction": _OFF,
    "openai_tracing": _OFF,
    "fallback_wav": _OFF,
    "filler_wav": _OFF,
    "fallback_extension": _OFF,
    "silence_hangup_seconds": _OFF,
    "max_call_seconds": _OFF,
}
"""Words for "no value" that are values of a setting, in lower case."""


def nearest(error: Mapping[str, Any]) -> object:
    """Return the right value that is nearest to a wrong one; None: use the default.

    Args:
        error: one of `pydantic.ValidationError.errors()`.
    """
    cause = error.get("ctx", {}).get("error")
    return cause.nearest if isinstance(cause, NotAllowed) else None
