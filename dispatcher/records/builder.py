"""Makes the record of a call that has ended from what its dispatchers knew."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from common.link.wire import EndReason, Figures
from common.runtime.release import RELEASE
from dispatcher.records.call_record import CallRecord, Latency, ToolUse
from dispatcher.records.facts import CallFacts

LOST: Final = "lost"
"""The ending of a call whose dispatcher died, and whose caller did not come back."""

_HUNG_UP_BY: Final = {
    EndReason.CALLER_HUNG_UP: "caller",
    EndReason.AGENT_HUNG_UP: "agent",
    EndReason.TRANSFERRED: "agent",
    EndReason.API_HUNG_UP: "api",
    EndReason.CALLER_LOST: "unknown",
    EndReason.LOST: "unknown",
}


@dataclass(frozen=True, slots=True)
class End:
    """The end of a call.

    Attributes:
        ending: how it is counted.
        reason: why it ended.
        text: the same for people.
        started_at: begin of the call, in seconds since the epoch.
        ended_at: its end.
    """

    ending: str
    reason: EndReason
    text: str
    started_at: float
    ended_at: float


def build(uuid: str, metadata: Mapping[str, str], fields: Sequence[str], facts: CallFacts, end: End) -> CallRecord:
    """Return the record of a call.

    Args:
        uuid: of the call.
        metadata: of the call.
        fields: CALL_RECORDS_METADATA, the fields of the metadata that the record has.
        facts: what the call's dispatchers knew.
        end: of the call.
    """
    sessions = [facts.figures[number] for number in sorted(facts.figures)]
    last = sessions[-1] if sessions else Figures()
    tools = [ToolUse(tool.name, tool.seconds, tool.outcome) for each in sessions for tool in each.tools]
    return CallRecord(
        id=facts.record_id,
        uuid=uuid,
        tenant=facts.tenant or None,
        metadata={name: metadata[name] for name in fields if name in metadata},
        started_at=round(end.started_at, 3),
        ended_at=round(max(end.started_at, end.ended_at), 3),
        ending=end.ending,
        reason=end.reason.value,
        reason_text=end.text,
        hung_up_by=_HUNG_UP_BY.get(end.reason, "service"),
        turns=facts.counts.turns,
        interruptions=facts.counts.interruptions,
        keys=facts.counts.keys,
        tools=tuple(tools),
        tools_left_out=sum(each.tools_left_out for each in sessions),
        moves=facts.counts.moves,
        recoveries=facts.counts.recoveries,
        answers_retried=sum(each.answers_retried for each in sessions),
        answers_given_up=sum(each.answers_given_up for each in sessions),
        greeting_seconds=facts.greeting_seconds,
        turn_latency=_latency(sessions),
        tokens=_tokens(sessions),
        transcription_seconds=round(sum(each.transcription_seconds for each in sessions), 3),
        cost_usd=round(sum(each.cost_usd for each in sessions), 6),
        model=last.model,
        voice=last.voice,
        release=RELEASE,
        trace_id=facts.trace_id,
        recording=facts.recording,
        said=tuple(facts.said) if facts.has_text else None,
        said_left_out=facts.said_left_out,
    )


def _latency(sessions: Sequence[Figures]) -> Latency:
    """Return the latency of all turns. A session of an earlier release does not tell the parts of its turns."""
    ordered = sorted(latency for each in sessions for latency in each.latencies_ms)
    if not ordered:
        return Latency()
    parts = [
        (end_of_speech, model, max(0, whole - end_of_speech - model))
        for each in sessions
        for whole, end_of_speech, model in zip(
            each.latencies_ms, each.end_of_speech_ms, each.model_ms, strict=False
        )
    ]
    medians = [_rank(sorted(part), 0.5) for part in zip(*parts, strict=True)]
    return Latency(len(ordered), _rank(ordered, 0.5), _rank(ordered, 0.95), ordered[-1] / 1000, *medians)


def _rank(ordered_ms: Sequence[int], share: float) -> float:
    """Return the nearest rank in seconds: a value that was measured."""
    return ordered_ms[math.ceil(share * len(ordered_ms)) - 1] / 1000


def _tokens(sessions: Iterable[Figures]) -> dict[str, dict[str, int]]:
    total: dict[str, dict[str, int]] = {}
    for each in sessions:
        for model, tokens in each.tokens.items():
            if not isinstance(tokens, dict):
                continue
            of_model = total.setdefault(model, {})
            for name, count in tokens.items():
                if isinstance(count, int):
                    of_model[name] = of_model.get(name, 0) + count
    return total
