"""The session that the settings ask for, in the shape of the GA dialect's `session.update`."""

from __future__ import annotations

from typing import Any, Final

from common.settings.models import Service, service_of
from common.settings.openai_fields import TurnDetection
from common.settings.session_values import AudioFormat
from common.settings.settings import Settings

REALTIME_RATE_HZ: Final = 24_000
DEFAULT_INSTRUCTIONS: Final = "You are a helpful assistant."

FORMATS: Final[dict[AudioFormat, dict[str, Any]]] = {
    AudioFormat.PCM: {"type": "audio/pcm", "rate": REALTIME_RATE_HZ},
    AudioFormat.PCMU: {"type": "audio/pcmu"},
    AudioFormat.PCMA: {"type": "audio/pcma"},
}


def session_object(settings: Settings) -> dict[str, Any]:
    """Return the `session` object for these settings; see `openai.types.realtime.RealtimeSessionCreateRequest`.

    It has no tools and no unset fields. `worker.config.profile` adds `OPENAI_SESSION`, and instructions that are
    loaded per call.
    """
    session = {
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": settings.openai_instructions or DEFAULT_INSTRUCTIONS,
        "max_output_tokens": settings.openai_max_tokens,
        "reasoning": _reasoning(settings),
        "tool_choice": settings.openai_tool_choice,
        "tracing": settings.openai_tracing,
        "truncation": settings.openai_truncation,
        "prompt": _prompt(settings),
    }
    audio_input = {
        "format": dict(FORMATS[settings.openai_audio_format]),
        "transcription": _given(
            {"model": settings.openai_transcription_model, "language": settings.openai_language}
        ),
        "noise_reduction": settings.openai_noise_reduction and {"type": settings.openai_noise_reduction},
    }
    audio_output = {
        "format": dict(FORMATS[settings.openai_audio_format]),
        "voice": _voice(settings),
        "speed": settings.openai_speed,
    }
    # Null turns the server's turn detection off; left out it would be on.
    turn_detection = {"turn_detection": _turn_detection(settings)}
    return _given(session) | {
        "audio": {"input": _given(audio_input) | turn_detection, "output": _given(audio_output)}
    }


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _voice(settings: Settings) -> str | dict[str, str]:
    custom = settings.openai_voice.startswith("voice_") and service_of(settings.openai_base_url) is not Service.XAI
    return {"id": settings.openai_voice} if custom else settings.openai_voice


def _reasoning(settings: Settings) -> dict[str, str] | None:
    if settings.openai_reasoning_effort is None:
        return None
    return {"effort": settings.openai_reasoning_effort}


def _prompt(settings: Settings) -> dict[str, Any] | None:
    if settings.openai_prompt_id is None:
        return None
    return _given(
        {
            "id": settings.openai_prompt_id,
            "version": settings.openai_prompt_version,
            "variables": settings.openai_prompt_variables,
        }
    )


def _turn_detection(settings: Settings) -> dict[str, Any] | None:
    if settings.openai_turn_detection is TurnDetection.NONE:
        return None
    chosen: dict[str, Any] = {
        "type": settings.openai_turn_detection.value,
        "create_response": True,
        "interrupt_response": True,
    }
    if settings.openai_turn_detection is TurnDetection.SEMANTIC_VAD:
        return chosen | _given({"eagerness": settings.openai_turn_detection_eagerness})
    return chosen | _given(
        {
            "threshold": settings.openai_turn_detection_threshold,
            "silence_duration_ms": settings.openai_turn_detection_silence_ms,
            "prefix_padding_ms": settings.openai_turn_detection_prefix_padding_ms,
            "idle_timeout_ms": settings.openai_turn_detection_idle_timeout_ms,
        }
    )
