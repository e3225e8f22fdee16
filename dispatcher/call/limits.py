"""Bounds of one call, and the reasons for which its input is bad."""

from __future__ import annotations

from dataclasses import dataclass

# Reasons for which a message of AVR Core is ignored, or ends its call: values of a metric's label.
BAD_INPUT_REASONS = (
    "bad_audio",
    "bad_base64",
    "bad_config",
    "bad_digit",
    "bad_http",
    "bad_uuid",
    "bad_websocket",
    "before_init",
    "flood",
    "message_too_big",
    "no_audio",
    "no_init",
    "not_json",
    "not_reading",
    "odd_bytes",
    "second_init",
    "unknown_type",
)


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds of one call.

    Attributes:
        init_seconds: maximum time from the connection to `init`.
        silence_seconds: maximum time without an audio message, after which the connection counts as dead.
        stuck_seconds: maximum time in which AVR Core reads nothing, after which it is disconnected.
        placing_seconds: maximum time from `init` until a worker has taken the call.
        unknown_seconds: maximum wait of a call while Redis is unavailable and no worker is known.
        placing_attempts: refusals that end a call; refusals of full or draining workers do not count.
        recovery_seconds: maximum time from the loss of a session until another worker has taken the call.
        place_again_seconds: delay between two searches for a worker.
        unstable_seconds: age up to which the loss of a session delays the next session.
        reconnect_seconds: maximum wait for a caller whose connection broke.
        waiting_bytes: maximum audio that waits for a worker (30 s); the oldest audio beyond is dropped.
        burst_seconds: maximum audio that may come at once, after a stall of the network.
        flood_ratio: maximum lasting rate of audio, as a multiple of real time.
        messages_per_second: maximum rate of messages, with a burst of ten seconds.
        order_seconds: maximum time that a telephony command waits for the end of the last words.
        hung_up_seconds: maximum time that AVR Core may keep its connection after a hang-up by avr-ami.
    """

    init_seconds: float = 10.0
    silence_seconds: float = 60.0
    stuck_seconds: float = 30.0
    placing_seconds: float = 10.0
    unknown_seconds: float = 5.0
    placing_attempts: int = 4
    recovery_seconds: float = 30.0
    place_again_seconds: float = 0.2
    unstable_seconds: float = 10.0
    reconnect_seconds: float = 10.0
    waiting_bytes: int = 30 * 16_000
    burst_seconds: float = 10.0
    flood_ratio: float = 1.25
    messages_per_second: float = 200.0
    order_seconds: float = 120.0
    hung_up_seconds: float = 3.0


DEFAULT_LIMITS = CallLimits()
