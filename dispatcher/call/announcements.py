"""Recordings that a dispatcher plays by itself, and where it transfers calls that cannot go on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Announcements:
    """Recordings of one call, and where it is transferred to when it cannot go on.

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
