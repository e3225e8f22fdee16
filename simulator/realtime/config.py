"""The session object: its defaults, and the changes that `session.update` makes."""

from __future__ import annotations

import copy
from typing import Any

from simulator.realtime.audio import WireAudio, wire_audio
from simulator.realtime.errors import voice_locked
from simulator.realtime.schema import invalid_value

SEMANTIC_VAD_SILENCE_MS = 500

_SERVER_VAD: dict[str, Any] = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
    "idle_timeout_ms": None,
    "create_response": True,
    "interrupt_response": True,
}
_SEMANTIC_VAD: dict[str, Any] = {
    "type": "semantic_vad",
    "eagerness": "auto",
    "create_response": True,
    "interrupt_response": True,
}
_TURN_DETECTIONS = {"server_vad": _SERVER_VAD, "semantic_vad": _SEMANTIC_VAD}

# Fields that are replaced whole. Every other object is merged field by field: "only the fields that are
# present in the `session.update` are updated".
_ATOMIC = frozenset({"tools", "tool_choice", "prompt", "tracing", "truncation", "format", "voice", "include"})


class SessionConfig:
    """The configuration that a client sees in `session.created` and `session.updated`.

    Args:
        session_id: `sess_...`.
        model: the model that the URL names.
        expires_at: end of the session, in seconds of Unix time.
        defaults: fields of another dialect that replace the defaults.
    """

    def __init__(
        self, *, session_id: str, model: str, expires_at: int, defaults: dict[str, Any] | None = None
    ) -> None:
        self.session: dict[str, Any] = {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "model": model,
            "expires_at": expires_at,
            "output_modalities": ["audio"],
            "instructions": "You are a simulator of a helpful, witty, and friendly AI.",
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "tracing": None,
            "truncation": "auto",
            "prompt": None,
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "transcription": None,
                    "noise_reduction": None,
                    "turn_detection": dict(_SERVER_VAD),
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin", "speed": 1.0},
            },
            "include": None,
        }
        _merge(self.session, copy.deepcopy(defaults or {}))

    def updated(self, change: dict[str, Any], *, has_spoken: bool) -> dict[str, Any]:
        """Return the session object with `change` (already checked) applied; this object stays as it is.

        Raises:
            RequestError: the change names another model, or another voice after the model has spoken.
        """
        session = copy.deepcopy(self.session)
        model = change.get("model", session["model"])
        if model != session["model"]:
            # The API's documentation says that the model cannot be updated. The text of its error is not known.
            raise invalid_value("session.model", model, (session["model"],))
        voice = change.get("audio", {}).get("output", {}).get("voice", self.voice)
        if has_spoken and voice != self.voice:
            raise voice_locked()
        _merge(session, change)
        return session

    @property
    def instructions(self) -> str:
        """Return the instructions of the session, not of a response."""
        return str(self.session["instructions"])

    @property
    def voice(self) -> Any:
        """Return the voice: a name, or `{"id": ...}`."""
        return self.session["audio"]["output"]["voice"]

    @property
    def input_audio(self) -> WireAudio:
        """Return the format of the audio that clients append."""
        return wire_audio(self.session["audio"]["input"]["format"])

    @property
    def turn_detection(self) -> dict[str, Any] | None:
        """Return `server_vad` or `semantic_vad` settings; None if the client commits turns itself."""
        detection: dict[str, Any] | None = self.session["audio"]["input"]["turn_detection"]
        return detection

    def detection_flag(self, name: str) -> bool:
        """Return a switch of turn detection: `create_response` or `interrupt_response`."""
        return bool((self.turn_detection or {}).get(name))

    @property
    def transcription(self) -> dict[str, Any] | None:
        """Input transcription; None: off."""
        transcription: dict[str, Any] | None = self.session["audio"]["input"]["transcription"]
        return transcription


def _merge(target: dict[str, Any], change: dict[str, Any]) -> None:
    for name, value in change.items():
        old = target.get(name)
        if name == "turn_detection" and isinstance(value, dict):
            base = _TURN_DETECTIONS[value["type"]]
            if isinstance(old, dict) and old["type"] == value["type"]:
                base = old
            target[name] = {**base, **value}
        elif name not in _ATOMIC and isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value)
        else:
            target[name] = value
