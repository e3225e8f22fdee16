"""The outcomes of a tool call, for the log and for metrics."""

from __future__ import annotations

from enum import StrEnum


class ToolOutcome(StrEnum):
    """The outcome of a tool call, as the log names it. Metrics distinguish fewer outcomes: see `label`."""

    OK = "ok"
    ERROR = "error"
    """The tool raised, or its service refused."""
    LOST = "lost"
    """The call was interrupted, and its effect is unknown."""
    TIMEOUT = "timeout"
    INVALID_ARGUMENTS = "invalid_arguments"
    """The tool was not run."""
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
