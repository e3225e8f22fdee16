"""What a dispatcher does for a caller by itself: the recorded sentence, the transfer to people, the filler."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Announcements:
    """What a call may play by itself, and where it goes when it cannot go on.

    Attributes:
        sentence: PCM16 at 8 kHz, whole frames; empty: none is played.
        extension: where a call is transferred to that cannot go on; empty: such a call ends.
        context: the dialplan context of `extension`.
        filler: PCM16 at 8 kHz, at least one frame, played in a loop; empty: there is no filler.
        filler_after_seconds: how long an answer is owed in silence before the filler is played.
    """

    sentence: bytes = b""
    extension: str = ""
    context: str = ""
    filler: bytes = b""
    filler_after_seconds: float = 1.5


SILENT = Announcements()
"""Calls end at once, and nothing but replies is played."""
