"""One response at a time: when `response.create` may be sent."""

from __future__ import annotations

from enum import Enum


class GateState(Enum):
    """What the session is doing, as far as responses go."""

    IDLE = "idle"
    ASKED = "asked"  # response.create is under way
    ACTIVE = "active"  # a response is under way; its id may not be known yet


class ResponseGate:
    """Decides when a wanted response is asked for. Of several wanted ones, one is asked for: it sees all.

    Attributes:
        unwanted: the one that was asked for is to be cancelled when it comes.
    """

    def __init__(self) -> None:
        self.state = GateState.IDLE
        self.active_id: str | None = None
        self.unwanted = False
        self._wanted = False

    def want(self) -> bool:
        """A response is wanted; True if it is to be asked for now, otherwise it waits."""
        if self.state is GateState.IDLE:
            self.state = GateState.ASKED
            return True
        self._wanted = True
        return False

    def created(self, response_id: str) -> bool:
        """`response.created`: ours, or one that the server began by itself; True if it is no more wanted."""
        self.state = GateState.ACTIVE
        self.active_id = response_id
        unwanted, self.unwanted = self.unwanted, False
        return unwanted

    def is_active(self, response_id: str | None) -> bool:
        """Whether this may be the response under way."""
        return self.state is not GateState.IDLE and self.active_id in (None, response_id)

    def done(self, *, caller_speaks: bool) -> bool:
        """`response.done` of the one under way; True if the one that waits is to be asked for now.

        While the caller speaks nothing is asked for: what the server answers after the speech sees it all.
        """
        if caller_speaks:
            self._wanted = False
        return self._free()

    def lost(self, *, caller_speaks: bool) -> bool:
        """Nothing is heard of what is under way; True if one is to be asked for now, again or at last."""
        self._wanted = self._wanted or self.state is GateState.ASKED
        return self.done(caller_speaks=caller_speaks)

    def refused_active(self) -> None:
        """Ours was refused because another one is active: it waits for that one's end."""
        self.state = GateState.ACTIVE
        self._wanted = True

    def refused(self) -> bool:
        """Ours was refused for another reason; True if another is to be asked for now."""
        return self._free() if self.state is GateState.ASKED else False

    def _free(self) -> bool:
        self.state = GateState.IDLE
        self.active_id = None
        # The one that was asked for is over, or never comes: the next one is another.
        self.unwanted = False
        if self._wanted:
            self._wanted = False
            self.state = GateState.ASKED
            return True
        return False
