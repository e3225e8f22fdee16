"""Inputs of a call that come before there is a session."""

from __future__ import annotations

from collections.abc import Callable

from common.link import wire
from worker.session.session import Session

# Records that come before there is a session, besides the memory and the audio that the credit bounds.
MAX_EARLY_RECORDS = 4096


class EarlyInputs:
    """The inputs of one call that wait for its session. No credit is given until then, which bounds the audio.

    Attributes:
        position_samples: of the caller's audio that comes next.
    """

    def __init__(self, position_samples: int) -> None:
        self.position_samples = position_samples
        self._records: list[Callable[[Session, float], None]] = []
        self._outputs: dict[str, tuple[str, bool]] = {}

    def __len__(self) -> int:
        return len(self._records)

    def caller_audio(self, position_samples: int, pcm: bytes) -> None:
        """Keep audio of the caller's, up to a bound."""
        if len(self._records) < MAX_EARLY_RECORDS:
            self._records.append(lambda session, now: session.caller_audio(position_samples, pcm, now))
            self.position_samples = position_samples + len(pcm) // wire.SAMPLE_BYTES

    def record(self, kind: int, payload: memoryview) -> None:
        """Keep another record, up to the same bound."""
        if len(self._records) < MAX_EARLY_RECORDS:
            kept = memoryview(bytes(payload))
            self._records.append(lambda session, now: session.record(kind, kept, now))

    def tool_done(self, call_id: str, output: str, lost: bool) -> None:
        """Keep the result of a tool that an earlier session began."""
        self._outputs[call_id] = (output, lost)

    def replay(self, session: Session, now: Callable[[], float]) -> None:
        """Give everything to the session that is there now."""
        records, self._records = self._records, []
        for call_id, (output, lost) in self._outputs.items():
            session.tool_done(call_id, output, now(), lost=lost)
        for tell in records:
            tell(session, now())
