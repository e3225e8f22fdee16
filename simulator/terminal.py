"""Helpers of the simulator's commands: arguments, tables, safe lines, and Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from common.runtime.process_exit import EXIT_BY_SIGNAL, exit_now

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

SignalHandler = Callable[[int, FrameType | None], Any] | int | None


def seconds_argument(text: str) -> float:
    """Read an argument in seconds.

    Raises:
        argparse.ArgumentTypeError: the text is not a number above 0 and up to a day.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds <= 86_400.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds: give one above 0, up to 86400")
    return seconds


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Return rows of a name and a value as aligned lines, each with a line end."""
    width = max((len(name) for name, _ in rows), default=0)
    return "".join(f"{name:<{width}}  {value}".rstrip() + "\n" for name, value in rows)


def one_line(text: str, *, limit: int = 500) -> str:
    """Return text from the network as one line without control characters, at most `limit` long."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


@contextmanager
def stop_on_signal() -> Iterator[asyncio.Event]:
    """Set the event at the first SIGINT or SIGTERM; a second one ends the process at once, with one line."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    before = {number: signal.getsignal(number) for number in _STOP_SIGNALS}

    def handle(handlers: Mapping[signal.Signals, SignalHandler]) -> None:
        for number, handler in handlers.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

    def first_signal() -> None:
        stop.set()
        handle(dict.fromkeys(_STOP_SIGNALS, _end))

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, first_signal)
    try:
        yield stop
    finally:
        if not stop.is_set():
            handle(before)


def _end(number: int, _frame: FrameType | None) -> None:
    for each in _STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.stderr.write("interrupted\n")
    exit_now(EXIT_BY_SIGNAL + number)
