"""How the call of a tool ended: the same for the log and for metrics."""

from __future__ import annotations

from enum import StrEnum


class ToolOutcome(StrEnum):
    """How the call of a tool ended, as the log has it. Metrics keep fewer apart: `label`."""

    OK = "ok"
    ERROR = "error"
    """It raised, or its service refused."""
    LOST = "lost"
    """It was cut off, and what came of it is not known."""
    TIMEOUT = "timeout"
    INVALID_ARGUMENTS = "invalid_arguments"
    """It was not run."""
    UNKNOWN_TOOL = "unknown_tool"
    """There is no such tool."""

    @property
    def label(self) -> str:
        """Return the value of the metrics' label `outcome`."""
        match self:
            case ToolOutcome.OK:
                return "completed"
            case ToolOutcome.ERROR | ToolOutcome.LOST:
                return "failed"
            case ToolOutcome.TIMEOUT:
                return "timed_out"
            case ToolOutcome.INVALID_ARGUMENTS | ToolOutcome.UNKNOWN_TOOL:
                return "refused"
