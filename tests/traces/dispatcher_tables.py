"""Messages, limits, acts and records that the peers of a dispatcher's call draw from."""

from __future__ import annotations

from typing import Any, Final

GARBAGE: Final[list[Any]] = [
    "not json",
    "[1, 2]",
    {"type": "audio", "audio": "a"},
    {"type": "audio", "audio": 5},
    {"type": "audio", "audio": "AAA="},
    {"type": "dtmf_digit", "digit": "x"},
    {"type": "of.next.year"},
    {"audio": "AAAA"},
    {"type": ["audio"]},
]
BAD_INITS: Final[list[Any]] = [
    {"type": "init", "uuid": "no spaces allowed"},
    {"type": "init"},
    {"type": "init", "uuid": "call-1", "provider_config": 4},
]
GARBLED: Final = [(4, ""), (10, "00"), (12, "5b5d"), (13, "7b"), (14, "7b226e756d626572223a22227d"), (200, "00")]
WORDS: Final = ["Hello. ", "Yes, of course. ", "Äh, 今日は ", ""]
LIMITS: Final[dict[str, list[Any]]] = {
    "init_seconds": [2.0],
    "silence_seconds": [5.0],
    "stuck_seconds": [1.0],
    "placing_seconds": [0.5, 3.0],
    "placing_attempts": [1, 2],
    "recovery_seconds": [2.0],
    "unstable_seconds": [1.0],
    "reconnect_seconds": [0.0, 2.0],
    "waiting_bytes": [16_000],
    "burst_seconds": [1.0],
    "messages_per_second": [10.0],
    "order_seconds": [1.0],
    "hung_up_seconds": [0.5],
}
ACTS: Final = [
    (44, "audio"),
    (2, "much"),
    (4, "key"),
    (4, "garbage"),
    (28, "tick"),
    (7, "caller"),
    (6, "link"),
    (4, "redis"),
    (1, "flood"),
    (2, "end"),
    (60, "record"),
]
RECORDS: Final = [
    (40, "ReplyAudio"),
    (24, "Credit"),
    (16, "Flush"),
    (16, "Transcript"),
    (24, "Remember"),
    (12, "Finished"),
    (4, "Keyed"),
    (8, "Order"),
    (4, "Tool"),
    (4, "Profile"),
    (12, "Awaiting"),
    (10, "Move"),
    (6, "Released"),
    (2, "Ended"),
    (8, "Ack"),
    (4, "Hello"),
]
