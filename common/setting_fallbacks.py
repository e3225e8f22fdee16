"""The rule for wrong values of settings: harmless ones are replaced, all others stop the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from common.setting_values import NotAllowed

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
"""Settings where a wrong value changes how the agent sounds or answers, and nothing else.

Such a value starts with the nearest right one and a warning; STRICT_SETTINGS refuses it. A wrong port, limit,
duration, token, key, address, destination or file stops the start: no other value can be meant.
"""


def nearest(error: Mapping[str, Any]) -> object:
    """Return the right value that is nearest to a wrong one; None: use the default.

    Args:
        error: one of `pydantic.ValidationError.errors()`.
    """
    cause = error.get("ctx", {}).get("error")
    return cause.nearest if isinstance(cause, NotAllowed) else None
