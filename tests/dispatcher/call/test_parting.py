"""How the recorded sentence is handed over."""

from __future__ import annotations

from common.link.wire import EndReason
from dispatcher.call.actions import CallEnd, Ending
from dispatcher.call.parting import LEAD_SECONDS, Parting
from tests.dispatcher.call_driver import sound


def of(seconds: float) -> tuple[Parting, bytes]:
    pcm = sound(round(seconds * 50) * 320)
    return Parting(pcm, CallEnd(Ending.FAILED, EndReason.UPSTREAM, "why"), 1011, 0.0), pcm


def test_a_short_sentence_goes_at_once() -> None:
    parting, pcm = of(1.0)
    said = [parting.is_said]
    assert parting.take(0.0) == pcm
    assert [*said, parting.is_said] == [False, True]
    assert parting.take(0.0) == b""


def test_a_long_one_keeps_to_the_lead() -> None:
    parting, pcm = of(5.0)
    taken = parting.take(0.0)
    assert len(taken) == LEAD_SECONDS * 16_000
    assert parting.take(LEAD_SECONDS) == b""
    assert len(parting.take(LEAD_SECONDS - 0.21)) == 10 * 320
    assert parting.take(-0.0) == pcm[len(taken) + 3_200 :][: len(taken)]


def test_it_waits_for_a_reply_that_lasts_longer() -> None:
    parting, _ = of(1.0)
    assert parting.take(60.0) == b""


def test_no_sentence_is_said_already() -> None:
    parting, _ = of(0.0)
    assert parting.is_said
