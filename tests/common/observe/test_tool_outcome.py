from __future__ import annotations

from common.observe.tool_outcome import ToolOutcome


def test_each_outcome_has_the_label_that_dashboards_know() -> None:
    assert {outcome.value: outcome.label for outcome in ToolOutcome} == {
        "ok": "completed",
        "error": "failed",
        "lost": "failed",
        "timeout": "timed_out",
        "invalid_arguments": "refused",
        "unknown_tool": "refused",
    }
