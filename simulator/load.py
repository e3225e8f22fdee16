"""`load`: place many simulated calls at once, and print a table of their results."""

from __future__ import annotations

import argparse
import asyncio
import enum
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.audio.wav import WavError, to_pcm16
from simulator import caller_speech
from simulator.avr.call_record import CallReport
from simulator.avr.core import CallError, SimulatedCall, place_call
from simulator.avr.greeting import wait_for_greeting
from simulator.avr.microphone import Microphone
from simulator.avr.playout import SAMPLE_RATE_HZ
from simulator.terminal import one_line, seconds_argument, stop_on_signal, table

MAX_CALLS = 10_000

# Length of a caller's turn (long enough to be detected), and time for an answer.
_TALK_SECONDS = 2.0
_PAUSE_SECONDS = 4.0
_SYLLABLE_HZ = 4.0
_LOWEST_TONE_HZ, _TONE_STEP_HZ, _TONES = 300.0, 40.0, 50

_PROGRESS_SECONDS = 2.0
_MESSAGE_LIMIT = 100
_MOST_MESSAGES = 10

NO_CAPACITY = 1013


class Outcome(enum.Enum):
    """The end of a call, seen from the caller."""

    ANSWERED = "answered"
    """Audio came back, and the call lasted until the caller hung up or the service closed with 1000."""
    REJECTED = "rejected"
    """No capacity: the service closed with 1013."""
    FAILED = "failed"
    """No connection, no audio, a breach of the protocol, or another close code."""
    STOPPED = "stopped before an answer"
    """Ctrl-C ended the call first."""


@dataclass(frozen=True, slots=True)
class LoadCall:
    """One finished call; `report` is None if it could not be placed, and `why` gives the reason of a failure."""

    outcome: Outcome
    report: CallReport | None = None
    why: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `load`."""
    parser.add_argument("url", metavar="URL", help="ws://host:port")
    parser.add_argument("--calls", metavar="N", type=_calls_argument, required=True, help="calls at once")
    parser.add_argument("--seconds", metavar="S", type=seconds_argument, required=True, help="length of each call")
    caller_speech.add_arguments(parser, required=False)
    parser.add_argument(
        "--ramp-seconds", type=seconds_argument, default=1.0, help="time in which the calls start (default: 1)"
    )
    parser.add_argument(
        "--reconnect",
        metavar="S",
        type=seconds_argument,
        help="time in which a lost connection is retried with the same uuid (default: the call has failed)",
    )


async def run(args: argparse.Namespace) -> int:
    """Place the calls and print the table; return 0 only if calls were answered and none failed."""
    finished: list[LoadCall] = []
    live: set[SimulatedCall] = set()
    try:
        speech = await caller_speech.load(args)
        Microphone().say(speech or b"")  # raises before the calls what would be raised within them
    except (WavError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    with stop_on_signal() as stop:
        progress = asyncio.create_task(_progress(args.calls, live, finished))
        try:
            async with asyncio.TaskGroup() as calls:
                for number in range(args.calls):
                    calls.create_task(_one_call(args, number, speech, live=live, finished=finished, stop=stop))
        finally:
            progress.cancel()
    sys.stdout.write(table(summary(finished)))
    outcomes = Counter(call.outcome for call in finished)
    return 0 if outcomes[Outcome.ANSWERED] and not outcomes[Outcome.FAILED] else 1


async def _one_call(
    args: argparse.Namespace,
    number: int,
    speech: bytes | None,
    *,
    live: set[SimulatedCall],
    finished: list[LoadCall],
    stop: asyncio.Event,
) -> None:
    if await _stopped(stop, within_seconds=args.ramp_seconds * number / args.calls):
        return
    try:
        call = await place_call(args.url, record_limit_bytes=0, reconnect_seconds=args.reconnect)
    except CallError as error:
        finished.append(LoadCall(Outcome.FAILED, why=str(error)))
        return
    live.add(call)
    async with call:
        talking = asyncio.create_task(_talk(call, number, speech, at_once=args.at_once))
        over = asyncio.create_task(call.closed.wait())
        stopping = asyncio.create_task(stop.wait())
        tasks = {talking, over, stopping}
        await asyncio.wait({over, stopping}, timeout=args.seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    live.discard(call)
    finished.append(judge(call.report(), stopped=stop.is_set()))


async def _stopped(stop: asyncio.Event, *, within_seconds: float) -> bool:
    try:
        async with asyncio.timeout(within_seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


async def _talk(call: SimulatedCall, number: int, speech: bytes | None, *, at_once: bool) -> None:
    """Speak in turns, from the end of the agent's greeting on, unless `at_once`."""
    if speech is None:
        speech = speech_like(_LOWEST_TONE_HZ + _TONE_STEP_HZ * (number % _TONES), _TALK_SECONDS)
    if not at_once:
        await wait_for_greeting(call)
    pause = bytes(round(_PAUSE_SECONDS * SAMPLE_RATE_HZ) * 2)
    while not call.closed.is_set():
        await call.say(speech + pause)


async def _progress(calls: int, live: set[SimulatedCall], finished: Sequence[LoadCall]) -> None:
    started_at_seconds = time.monotonic()
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        outcomes = Counter(call.outcome for call in finished)
        hearing = sum(1 for call in live if call.record.frames_received)
        rejected, failed = outcomes[Outcome.REJECTED], outcomes[Outcome.FAILED]
        sys.stderr.write(
            f"{time.monotonic() - started_at_seconds:5.0f} s: {len(live)} of {calls} calls up,"
            f" {hearing} with audio, {rejected} rejected, {failed} failed\n"
        )


def speech_like(tone_hz: float, seconds: float) -> bytes:
    """Return a tone that swells four times a second, as speech does: PCM16 LE, 8 kHz, mono, -10 dBFS peak."""
    times_seconds = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    syllables = 0.6 - 0.4 * np.cos(2 * np.pi * _SYLLABLE_HZ * times_seconds)
    return to_pcm16(10 ** (-10 / 20) * syllables * np.sin(2 * np.pi * tone_hz * times_seconds))


def judge(report: CallReport, *, stopped: bool = False) -> LoadCall:
    """Return the outcome of a call that has ended; `stopped` if Ctrl-C ended it."""
    if report.close_code == NO_CAPACITY:
        return LoadCall(Outcome.REJECTED, report)
    if report.close_code != 1000:
        return LoadCall(Outcome.FAILED, report, f"closed with {report.close_code} {report.close_reason}".rstrip())
    if report.violations:
        return LoadCall(Outcome.FAILED, report, f"broke the AVR protocol: {report.violations[0].what}")
    if not report.frames_received:
        return LoadCall(Outcome.STOPPED, report) if stopped else LoadCall(Outcome.FAILED, report, "no audio")
    return LoadCall(Outcome.ANSWERED, report)


def summary(calls: Sequence[LoadCall]) -> list[tuple[str, str]]:
    """Return the rows of the table: a name and a value each."""
    outcomes = Counter(call.outcome for call in calls)
    reports = [call.report for call in calls if call.report is not None]
    first_audio = [r.first_audio_seconds for r in reports if r.first_audio_seconds is not None]
    latencies = [seconds for report in reports for seconds in report.reply_latencies_seconds]
    gaps = sum(report.gaps for report in reports)
    longest_gap_ms = max((report.longest_gap_seconds for report in reports), default=0.0) * 1000
    latest_ms = max((report.latest_frame_seconds for report in reports), default=0.0) * 1000
    rows = [("calls placed", str(len(calls)))]
    rows += [(outcome.value, str(outcomes[outcome])) for outcome in Outcome]
    rows += [
        ("first audio", quantiles(first_audio)),
        ("replies after", quantiles(latencies)),
        ("audio heard", f"{sum(report.heard_seconds for report in reports):.1f} s"),
        ("underruns", f"{gaps}, the longest {longest_gap_ms:.1f} ms" if gaps else "0"),
        ("interruptions", str(sum(len(report.interruptions) for report in reports))),
        ("sending late by", f"{latest_ms:.0f} ms at most"),
    ]
    outages = [outage for report in reports for outage in report.outages]
    back = [each.back_at_seconds - each.lost_at_seconds for each in outages if each.back_at_seconds is not None]
    if outages:
        rows += [("connections lost", str(len(outages))), ("  back after", quantiles(back))]
    messages = Counter(call.why for call in calls if call.why)
    messages.update(error.message for report in reports for error in report.errors)
    rows += [("errors", str(sum(messages.values())))]
    rows += [
        (f"  {count} x", one_line(message, limit=_MESSAGE_LIMIT))
        for message, count in messages.most_common(_MOST_MESSAGES)
    ]
    codes = Counter(report.close_code for report in reports)
    rows += [("close codes", ", ".join(f"{code} x {count}" for code, count in codes.most_common()) or "none")]
    return rows


def quantiles(seconds: Sequence[float]) -> str:
    """Return p50, p95 (nearest rank) and maximum, for people."""
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    p50, p95 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.50, 0.95))
    return f"p50 {p50:.2f} s, p95 {p95:.2f} s, max {ordered[-1]:.2f} s"


def _calls_argument(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_CALLS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of calls: give one from 1 to {MAX_CALLS}")
    return int(text)
