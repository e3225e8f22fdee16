from __future__ import annotations

import pytest

from common.observe.call_outcome import OUTCOMES, EndReason, end_reason


def test_every_reason_has_an_outcome() -> None:
    assert OUTCOMES.keys() == set(EndReason)
    assert all(OUTCOMES.values())


@pytest.mark.parametrize(
    ("written", "otherwise", "reason"),
    [
        ("too_long", EndReason.AGENT_HUNG_UP, EndReason.TOO_LONG),
        ("no_capacity", EndReason.INTERNAL, EndReason.NO_CAPACITY),
        ("a reason of a later release", EndReason.INTERNAL, EndReason.INTERNAL),
        ("", EndReason.AGENT_HUNG_UP, EndReason.AGENT_HUNG_UP),
        ("upstream", EndReason.AGENT_HUNG_UP, EndReason.AGENT_HUNG_UP),
        ("caller_hung_up", EndReason.INTERNAL, EndReason.INTERNAL),
    ],
)
def test_a_written_reason_fits_the_outcome(written: str, otherwise: EndReason, reason: EndReason) -> None:
    assert end_reason(written, otherwise) is reason
