"""Recordings that a dispatcher plays by itself, and the transfer of calls on their way out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Announcements:
    """Recordings of one call, and the destination of its way out.

    Attributes:
        sentence: PCM16 at 8 kHz, whole frames; empty: none is played.
        extension: destination of the way out; empty: such a call ends.
        context: dialplan context of `extension`.
        filler: PCM16 at 8 kHz, at least one frame, played in a loop; empty: no filler.
        filler_after_seconds: time of silence, while an answer is owed, before the filler is played.
    """

    sentence: bytes = b""
    extension: str = ""
    context: str = ""
    filler: bytes = b""
    filler_after_seconds: float = 1.5


SILENT = Announcements()
"""Calls end at once, and nothing but replies is played."""
