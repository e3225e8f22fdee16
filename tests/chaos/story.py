"""A call's facts in order of time, for the analysis of a breach."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tests.chaos.facts import CallFacts, Item, Session


def story(call: CallFacts, *, zero_seconds: float) -> list[str]:
    """Return lines about the events of a call; times count from `zero_seconds`."""
    events = sorted(_events(call), key=lambda event: event[0])
    lines = [f"{at_seconds - zero_seconds:7.2f} s  {what}" for at_seconds, what in events if at_seconds < math.inf]
    for session in call.sessions:
        lines.append(f"session {session.number} knew in the end:")
        lines += [f"    {_shown(item)}" for item in session.items]
    lines.append("the caller heard:")
    lines.append("    " + " ".join(_heard(call)))
    return lines


def _events(call: CallFacts) -> Iterator[tuple[float, str]]:
    yield call.started_seconds, f"the call began ({call.part.value})"
    yield call.ended_seconds, f"the call ended; {call.hung_up or 'nobody'} hung up"
    for fault in (*call.faults, *call.beside):
        yield fault.at_seconds, f"FAULT: {fault.kind.value} {fault.detail}".rstrip()
        if fault.until_seconds is not None:
            yield fault.until_seconds, f"over: {fault.kind.value}"
    for utterance in call.utterances:
        words = " + ".join(str(count) for count in utterance.words)
        damaged = " into a lost connection" if utterance.damaged else ""
        yield utterance.from_seconds, f"the caller says {words} words{damaged}"
        yield utterance.until_seconds, "the caller has said it"
    for at_seconds in call.unanswered:
        yield at_seconds, "the caller waits in vain for an answer"
    for close in call.closes:
        yield close.at_seconds, f"the caller's connection closed with {close.code} by {close.by.value}"
    for gap in call.gaps:
        if gap.back_seconds is not None:
            yield gap.back_seconds, "the caller's connection is back"
    for at_seconds, message in call.messages:
        yield at_seconds, f"AVR Core is told: {message}"
    for run in call.tool_runs:
        yield run.at_seconds, f"tool run for {run.ask} by {run.pid}"
    if call.promised is not None:
        yield call.promised, "avr-ami is asked to hang up"
    for session in call.sessions:
        yield from _session_events(session)


def _session_events(session: Session) -> Iterator[tuple[float, str]]:
    name = f"session {session.number} ({session.peer})"
    yield session.opened_seconds, f"{name} opened"
    yield session.closed_seconds, f"{name} closed"
    for begin, end in session.answering:
        yield begin, f"{name} may answer"
        if end < session.closed_seconds:
            yield end, f"{name} may not answer any more"
    for begin, end in session.hearing:
        yield begin, f"{name} hears the caller"
        yield end, f"{name} hears nothing any more"
    for reply in session.responses:
        yield reply.started_seconds, f"{name} answers ({reply.status}): {reply.text}"
    for struck in session.struck:
        yield struck.until_seconds, f"{name} has suffered: {struck.name}"


def _shown(item: Item) -> str:
    if item.type == "function_call":
        return f"{item.name}({item.arguments})"
    if item.type == "function_call_output":
        return f"output: {item.output}"
    text = item.text if item.said in ("", item.text) else f"{item.text} [of: {item.said}]"
    return f"{item.role}: {text} ({item.audio_ms} ms, by {item.origin})"


def _heard(call: CallFacts) -> Iterator[str]:
    for word in call.heard:
        share = "" if word.fully_heard else f"~{word.share:.1f}"
        yield f"{word.word}{share}@{word.at_seconds:.1f}"
