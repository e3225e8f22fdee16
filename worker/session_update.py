"""The session that a call asks for, in the shape of the GA dialect's `session.update`."""

from __future__ import annotations

from typing import Any

from common.settings import Settings, TurnDetection

REALTIME_RATE_HZ = 24_000
_PCM = {"type": "audio/pcm", "rate": REALTIME_RATE_HZ}


def session_object(settings: Settings) -> dict[str, Any]:
    """The `session` object for these settings; see `openai.types.realtime.RealtimeSessionCreateRequest`."""
    transcription: dict[str, Any] = {"model": settings.openai_transcription_model}
    if settings.openai_language:
        transcription["language"] = settings.openai_language
    return {
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": settings.openai_instructions,
        "max_output_tokens": settings.openai_max_tokens,
        "audio": {
            "input": {
                "format": _PCM,
                "transcription": transcription,
                "turn_detection": _turn_detection(settings),
            },
            "output": {"format": _PCM, "voice": _voice(settings.openai_voice)},
        },
    }


def _voice(voice: str) -> str | dict[str, str]:
    return {"id": voice} if voice.startswith("voice_") else voice


def _turn_detection(settings: Settings) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "type": settings.openai_turn_detection.value,
        "create_response": True,
        "interrupt_response": True,
    }
    details: dict[str, Any]
    if settings.openai_turn_detection is TurnDetection.SEMANTIC_VAD:
        details = {"eagerness": settings.openai_turn_detection_eagerness}
    else:
        details = {
            "threshold": settings.openai_turn_detection_threshold,
            "silence_duration_ms": settings.openai_turn_detection_silence_ms,
            "prefix_padding_ms": settings.openai_turn_detection_prefix_padding_ms,
            "idle_timeout_ms": settings.openai_turn_detection_idle_timeout_ms,
        }
    return chosen | {name: value for name, value in details.items() if value is not None}
