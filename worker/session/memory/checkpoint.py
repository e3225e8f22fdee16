"""The memory of a call, which the dispatcher gives to the session that continues the call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from common.audio import g711
from common.link import wire
from common.link.wire import Kind
from worker.session.hang_up import HangUp


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The complete memory of a call.

    Attributes:
        reason: why another session is needed, a `link.Reason`.
        standby: the session must stand by; the memory is sent again when it takes the call.
        items: items of the conversation, in order.
        replies: replies that the caller may still be hearing.
        audio: the caller's unfinished audio: (position, PCM16 at 8 kHz).
        known_commands: ids of telephony commands that the dispatcher knows.
        digits: keys that are not part of the conversation yet.
        speaking: the caller was speaking.
        running: ids of function calls whose tools this process still runs.
        recalled: the memory comes from Redis, which has no replies.
        first_index: first index of the session's reply items.
        hang_up: what an earlier session on this worker requested; None: no hang-up.
        words_lost: the caller was speaking, and both the text and a part of the audio are missing.
    """

    reason: str = ""
    standby: bool = False
    items: list[wire.ItemUpdate] = field(default_factory=list)
    replies: tuple[wire.Reply, ...] = ()
    audio: list[tuple[int, bytes]] = field(default_factory=list)
    known_commands: frozenset[str] = frozenset()
    digits: str = ""
    speaking: bool = False
    running: frozenset[str] = frozenset()
    recalled: bool = False
    first_index: int = 0
    hang_up: HangUp | None = None
    words_lost: bool = False


class CheckpointReader:
    """Reader of a memory's records, up to RESUME.

    Attributes:
        profile: the call's settings; None before PROFILE.
    """

    def __init__(self) -> None:
        self.profile: wire.Profile | None = None
        self._items: list[wire.ItemUpdate] = []
        self._replies: tuple[wire.Reply, ...] = ()
        self._audio: list[tuple[int, bytes]] = []

    def record(self, kind: int, payload: memoryview) -> wire.Resume | None:
        """Read one record; return RESUME, which ends the memory. Ignore records of other kinds.

        Raises:
            LinkProtocolError: the record is malformed.
        """
        match kind:
            case Kind.PROFILE:
                self.profile = wire.decode_control(wire.Profile, payload)
            case Kind.ITEM_UPDATE:
                self._items.append(wire.decode_control(wire.ItemUpdate, payload))
            case Kind.PENDING_REPLIES:
                self._replies = wire.decode_control(wire.PendingReplies, payload).replies
            case Kind.KEPT_AUDIO:
                position, codes = wire.decode_kept_audio(payload)
                self._audio.append((position, g711.decode_ulaw(bytes(codes))))
            case Kind.RESUME:
                return wire.decode_control(wire.Resume, payload)
        return None

    def take(self, resume: wire.Resume, running: frozenset[str], hang_up: HangUp | None = None) -> Checkpoint:
        """Return the memory that has been read, and begin the next one."""
        fields: dict[str, Any] = {
            "items": self._items,
            "replies": self._replies,
            "audio": self._audio,
        }
        self._items, self._replies, self._audio = [], (), []
        return Checkpoint(
            reason=resume.reason,
            standby=resume.standby,
            known_commands=frozenset(resume.known_commands),
            digits=resume.digits,
            speaking=resume.speaking,
            running=running,
            recalled=resume.recalled,
            first_index=resume.first_index,
            hang_up=hang_up,
            words_lost=resume.words_lost,
            **fields,
        )
