from __future__ import annotations

import argparse
import signal
import subprocess
import sys

import pytest

from simulator.terminal import one_line, seconds_argument, stop_on_signal, table


def test_rows_are_aligned_and_end_without_spaces() -> None:
    assert table([("a", "1"), ("longer", "2"), ("", "")]) == "a       1\nlonger  2\n\n"
    assert table([]) == ""


def test_untrusted_text_becomes_one_bounded_printable_line() -> None:
    assert one_line("Buon\u00a0giorno,\r\n\x1b[31mred\x07 \u202e") == "Buon giorno, [31mred"
    assert one_line("abcdef", limit=4) == "abc…"
    assert one_line("abcd", limit=4) == "abcd"


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "86401", "ten", ""])
def test_invalid_duration_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{text!r} is not a number of seconds"):
        seconds_argument(text)


def test_seconds_may_have_a_fraction() -> None:
    assert seconds_argument("0.25") == 0.25


_PROGRAM = """
import asyncio, threading
from simulator.terminal import stop_on_signal

async def main():
    with stop_on_signal() as stop:
        print("up", flush=True)
        await stop.wait()
        print("stopping", flush=True)
        await asyncio.to_thread(threading.Event().wait)

asyncio.run(main())
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_stops_and_the_second_ends_at_once(number: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.stdout.readline() == "stopping\n"
        for _ in range(3):
            process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "interrupted\n")


async def test_old_signal_handlers_are_restored_afterwards() -> None:
    before = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    with stop_on_signal() as stop:
        pass
    assert not stop.is_set()
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == before
