"""Bounds of one call, and the reasons for which input is refused."""

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
        silence_seconds: a caller's connection without one audio message for so long is dead, whatever TCP says.
        stuck_seconds: a core that reads none of its messages for so long is disconnected.
        placing_seconds: from `init` to a worker that has taken the call.
        unknown_seconds: maximum wait of a call while Redis is away and no worker is known.
        placing_attempts: refusals that end a call; refusals of full or draining workers do not count.
        recovery_seconds: from the loss of a session to a worker that has taken the call over.
        place_again_seconds: when no worker has room for a call that lost its session, it is asked again so soon.
        unstable_seconds: a session that is lost sooner than this did not last: the next one waits a little.
        reconnect_seconds: how long a call is kept whose caller's connection broke.
        waiting_bytes: caller's audio that waits for a worker (30 s); above it the oldest is dropped.
        burst_seconds: audio that may come faster than real time at once, after a stall of the network.
        flood_ratio: maximum lasting rate of audio, as a multiple of real time.
        messages_per_second: of any kind, with a burst of ten seconds' worth.
        order_seconds: a command to hang up or transfer waits so long for the last words to be heard.
        hung_up_seconds: a core that keeps its connection so long after avr-ami has hung up is closed.
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
