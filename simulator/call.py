"""`call`: place one call as AVR Core does, and save the audio that its caller heard."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from common.audio.wav import WavError, write_wav
from common.observe.status_line import StatusLine
from simulator import caller_speech
from simulator.avr.call_record import (
    CallReport,
    ConnectionBack,
    ErrorMessage,
    Interruption,
    Message,
    Transcript,
    Violation,
)
from simulator.avr.core import CallError, SimulatedCall, place_call
from simulator.avr.greeting import wait_for_greeting
from simulator.avr.microphone import Microphone
from simulator.avr.playout import SAMPLES_PER_MS
from simulator.call_progress import show_call, speech_seconds
from simulator.dialogue.errors import DialogueError
from simulator.dialogue.player import DialoguePlayer, DialogueStalled
from simulator.dialogue.reader import read_dialogue
from simulator.terminal import one_line, seconds_argument, stop_on_signal, table

# Without --seconds: hang up after this time of silence on both sides ...
_SILENCE_SECONDS = 5.0
# ... and at the latest this time after the speech, if the service never stops talking.
_LONGEST_REPLY_SECONDS = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `call`."""
    parser.add_argument("url", metavar="URL", help="ws://host:port; query parameters become the call's metadata")
    caller_speech.add_arguments(parser, required=True, scripts=True)
    parser.add_argument("--out", metavar="OUT.wav", type=Path, help="file for the audio that the caller hears")
    parser.add_argument("--uuid", help="the call's uuid (default: a new one)")
    parser.add_argument("--dtmf", metavar="DIGITS", default="", help="keys to press after the speech, such as 12#")
    parser.add_argument(
        "--seconds",
        type=seconds_argument,
        help=f"length of the call (default: until {_SILENCE_SECONDS:g} s after the last word of either side)",
    )
    parser.add_argument(
        "--reconnect",
        metavar="S",
        type=seconds_argument,
        help="time in which a lost connection is retried with the same uuid (default: the call ends)",
    )


async def run(args: argparse.Namespace) -> int:
    """Place the call, then save and print the result; return 0 only for audio without a breach of the protocol."""
    try:
        dialogue = None if args.script is None else await read_dialogue(args.script)
        if dialogue is not None and args.dtmf:
            raise ValueError(f"--dtmf: put steps with `keys` into {args.script}")
        speech = await caller_speech.load(args) or b""
        if args.out is not None and not args.out.parent.is_dir():
            raise WavError(f"{args.out}: there is no folder {args.out.parent}")
        _say(Microphone(), speech, args.dtmf)  # raises before the call what would be raised within it
        call = await place_call(args.url, uuid=args.uuid, reconnect_seconds=args.reconnect)
    except (WavError, CallError, DialogueError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    to_say = f"{speech_seconds(speech):.1f} s to say" if dialogue is None else dialogue.name
    sys.stderr.write(f"call {call.uuid} is up: {to_say}, Ctrl-C hangs up\n")
    line = StatusLine()
    with stop_on_signal() as stop:
        async with call:
            tasks = [
                asyncio.create_task(
                    _converse(call, speech, args, line)
                    if dialogue is None
                    else DialoguePlayer(call, dialogue).play()
                ),
                asyncio.create_task(show_call(line, call, speech_seconds(speech))),
                asyncio.create_task(stop.wait()),
            ]
            conversation, _, stopping = tasks
            await asyncio.wait({conversation, stopping}, timeout=args.seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)  # a timeout or a close is also an end
    report = call.report()
    sys.stdout.write("".join(_transcript_lines(call.messages)) + "\n" + table(_rows(report, args.out)))
    code = _save_and_judge(call, report, args.out)
    failure = None if conversation.cancelled() else conversation.exception()
    if isinstance(failure, DialogueStalled):
        sys.stderr.write(f"{one_line(str(failure))}\n")
        return 1
    return code


async def _converse(call: SimulatedCall, speech: bytes, args: argparse.Namespace, line: StatusLine) -> None:
    """Speak when the agent has greeted, and return when it is time to hang up.

    Without a limit that is after silence, and with `--seconds` when the service closes the call.
    """
    if not args.at_once:
        why = await wait_for_greeting(call)
        if why:
            line.clear()
            sys.stderr.write(f"{why}: speaking now\n")
    _say(call.microphone, speech, args.dtmf)
    if args.seconds is None:
        longest_seconds = speech_seconds(speech) + _LONGEST_REPLY_SECONDS
        await call.wait_for(_SilentForLong(), timeout_seconds=longest_seconds)
    else:
        await call.closed.wait()


def _say(microphone: Microphone, speech: bytes, dtmf: str) -> None:
    microphone.press(dtmf, after_bytes=microphone.say(speech))


class _SilentForLong:
    """The condition that both sides have been silent long enough to hang up, or the call has ended."""

    def __init__(self) -> None:
        self._sound_at_seconds = time.monotonic()

    def __call__(self, call: SimulatedCall) -> bool:
        now_seconds = time.monotonic()
        if call.microphone.has_speech or call.microphone.has_digits or call.playout.queued_ms(now_seconds):
            self._sound_at_seconds = now_seconds
        return call.closed.is_set() or now_seconds - self._sound_at_seconds >= _SILENCE_SECONDS


def _save_and_judge(call: SimulatedCall, report: CallReport, out: Path | None) -> int:
    try:
        if out is not None:
            write_wav(out, call.heard_pcm)
    except OSError as error:
        sys.stderr.write(f"{out}: cannot be written: {error.strerror}\n")
        return 1
    if not report.frames_received:
        why = one_line(report.errors[0].message) if report.errors else f"closed with {_closing(report)}"
        sys.stderr.write(f"no audio came back: {why}\n")
        return 1
    if report.violations:
        sys.stderr.write(f"the service broke the AVR protocol: {one_line(report.violations[0].what)}\n")
        return 1
    return 0


def _transcript_lines(messages: list[Message]) -> Iterator[str]:
    for message in messages:
        match message:
            case Transcript(at_seconds, role, text):
                yield f"{at_seconds:7.2f} s  {role + ':':<12} {one_line(text)}\n"
            case Interruption(at_seconds, _, dropped_samples):
                dropped_ms = dropped_samples / SAMPLES_PER_MS
                yield f"{at_seconds:7.2f} s  interruption ({dropped_ms:.0f} ms not heard)\n"
            case ErrorMessage(at_seconds, text):
                yield f"{at_seconds:7.2f} s  {'error:':<12} {one_line(text)}\n"
            case ConnectionBack(at_seconds, after_seconds):
                yield f"{at_seconds:7.2f} s  connection back after {after_seconds:.2f} s\n"
            case Violation(at_seconds, text):
                yield f"{at_seconds:7.2f} s  {'violation:':<12} {one_line(text)}\n"
            case _:
                continue


def _rows(report: CallReport, out: Path | None) -> list[tuple[str, str]]:
    first_audio, latencies = report.first_audio_seconds, report.reply_latencies_seconds
    gaps = f"{report.gaps}, the longest {report.longest_gap_seconds * 1000:.1f} ms" if report.gaps else "none"
    return [
        ("call", report.uuid),
        ("length", f"{report.seconds:.1f} s"),
        ("closed with", _closing(report)),
        ("first audio", "none" if first_audio is None else f"after {first_audio:.2f} s"),
        ("replies after", ", ".join(f"{seconds:.2f} s" for seconds in latencies) or "none"),
        ("received", f"{report.received_seconds:.2f} s of audio"),
        ("heard", f"{report.heard_seconds:.2f} s of it"),
        ("interruptions", str(len(report.interruptions))),
        ("gaps", gaps),
        ("errors", str(len(report.errors))),
        ("outages", str(len(report.outages))),
        *(() if out is None else (("written to", str(out)),)),
    ]


def _closing(report: CallReport) -> str:
    return f"{report.close_code} {one_line(report.close_reason)}".rstrip()
