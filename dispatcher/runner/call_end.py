"""The end of a call, as it is counted and logged."""

from __future__ import annotations

from structlog.stdlib import BoundLogger

from common.observe.metrics import DispatcherMetrics
from dispatcher.call import actions
from dispatcher.call.call import Call
from dispatcher.runner.measurements import count_end


def note_end(
    call: Call,
    ending: actions.Ending,
    reason: str,
    *,
    metrics: DispatcherMetrics,
    log: BoundLogger,
) -> None:
    """Count and log the end of a call.

    Args:
        call: the call.
        ending: how it ended.
        reason: why, for people.
        metrics: of the process.
        log: with the call's uuid.
    """
    tenant = call.identity.tenant
    count_end(metrics, ending, call.end_reason, tenant)
    is_expected = ending in (actions.Ending.COMPLETED, actions.Ending.MOVED)
    tell = log.info if is_expected else log.warning
    tell("call ended", ending=ending.value, reason=reason, **({"tenant": tenant} if tenant else {}))
