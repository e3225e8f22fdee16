from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.audio.wav import write_wav
from simulator import load
from simulator.avr.call_record import CallRecord, CallReport, ErrorMessage, Violation
from simulator.load import LoadCall, Outcome, judge, quantiles, speech_like, summary
from tests.simulator.avr_service import Connection, avr_service, echo

_PROGRAM = """
import argparse, asyncio, sys
from simulator import load
parser = argparse.ArgumentParser()
load.add_arguments(parser)
sys.exit(asyncio.run(load.run(parser.parse_args())))
"""

_SILENT = CallRecord("a-call", 0.0).report(1.0)
_HEARD = replace(_SILENT, frames_received=50, first_audio_seconds=0.25, heard_seconds=1.5, close_code=1000)


def _arguments(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    load.add_arguments(parser)
    return parser.parse_args(["--at-once", *arguments])


def _table(printed: str) -> dict[str, str]:
    rows = (line.partition("  ") for line in printed.splitlines() if not line.startswith(" "))
    return {name: value.strip() for name, _, value in rows}


async def test_every_call_is_answered_and_talks_in_a_tone_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    async with avr_service(echo) as service:
        code = await load.run(_arguments(service.url, "--calls", "4", "--seconds", "1", "--ramp-seconds", "0.2"))
        calls = service.connections
    rows = _table(capsys.readouterr().out)
    assert code == 0
    assert rows["calls placed"] == rows["answered"] == "4"
    assert rows["rejected"] == rows["failed"] == rows["errors"] == "0"
    assert rows["first audio"].startswith("p50 0.")
    assert float(rows["audio heard"].removesuffix(" s")) > 2
    assert rows["close codes"] == "1000 x 4"
    assert len({call.inits[0]["uuid"] for call in calls}) == 4
    assert len({call.frames[5] for call in calls}) == 4


async def test_rejections_are_counted_apart_from_failures(capsys: pytest.CaptureFixture[str]) -> None:
    places = asyncio.Semaphore(2)

    async def two_at_once(connection: Connection) -> None:
        if places.locked():
            await connection.send("error", message="no capacity")
            await connection.websocket.close(code=1013)
            return
        async with places:
            await echo(connection)

    async with avr_service(two_at_once) as service:
        code = await load.run(_arguments(service.url, "--calls", "5", "--seconds", "1", "--ramp-seconds", "0.1"))
    printed = capsys.readouterr().out
    rows = _table(printed)
    assert code == 0
    assert (rows["answered"], rows["rejected"], rows["failed"]) == ("2", "3", "0")
    assert rows["close codes"] == "1013 x 3, 1000 x 2"
    assert "3 x" in printed
    assert "no capacity" in printed


async def test_a_call_that_breaks_fails_the_whole_run(capsys: pytest.CaptureFixture[str]) -> None:
    calls = 0

    async def break_the_second(connection: Connection) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            await connection.listen(2)
            await connection.websocket.close(code=1011, message=b"upstream is gone")
        await echo(connection)

    async with avr_service(break_the_second) as service:
        code = await load.run(_arguments(service.url, "--calls", "3", "--seconds", "0.5", "--ramp-seconds", "0.1"))
    printed = capsys.readouterr().out
    assert code == 1
    assert _table(printed)["failed"] == "1"
    assert "closed with 1011 upstream is gone" in printed


async def test_calls_that_come_back_are_counted_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    async def lose_the_first(connection: Connection) -> None:
        if len(service.connections) == 1:
            await connection.listen(2)
            await connection.lose()
        await echo(connection)

    arguments = ("--calls", "2", "--seconds", "1", "--ramp-seconds", "0.1", "--reconnect", "5")
    async with avr_service(lose_the_first) as service:
        code = await load.run(_arguments(service.url, *arguments))
    printed = capsys.readouterr().out
    rows = _table(printed)
    assert code == 0
    assert (rows["answered"], rows["connections lost"]) == ("2", "1")
    assert "back after" in printed


async def test_absent_service_fails_every_call(capsys: pytest.CaptureFixture[str], unused_tcp_port: int) -> None:
    url = f"ws://127.0.0.1:{unused_tcp_port}"
    assert await load.run(_arguments(url, "--calls", "3", "--seconds", "5", "--ramp-seconds", "0.1")) == 1
    printed = capsys.readouterr().out
    assert _table(printed)["failed"] == "3"
    assert f"cannot connect to {url}: Connection refused" in printed


async def test_ctrl_c_hangs_up_and_prints_the_table_so_far() -> None:
    up = asyncio.Event()

    async def echo_and_tell(connection: Connection) -> None:
        await connection.listen(1)
        await connection.send_audio(bytes(320))
        await connection.listen(10)
        up.set()
        await connection.listen()

    async with avr_service(echo_and_tell) as service:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROGRAM, service.url),
            *("--calls", "50", "--seconds", "300", "--ramp-seconds", "600"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        async with asyncio.timeout(30):
            await up.wait()
            progress = await process.stderr.readline()
            process.send_signal(signal.SIGINT)
            printed, complaints = await process.communicate()
    assert b"1 of 50 calls up, 1 with audio, 0 rejected, 0 failed" in progress
    assert process.returncode == 0, complaints
    rows = _table(printed.decode())
    assert (rows["calls placed"], rows["answered"], rows["close codes"]) == ("1", "1", "1000 x 1")


@pytest.mark.parametrize(
    ("report", "outcome", "why"),
    [
        (_HEARD, Outcome.ANSWERED, ""),
        (replace(_HEARD, close_code=1013), Outcome.REJECTED, ""),
        (replace(_HEARD, close_code=1006), Outcome.FAILED, "closed with 1006"),
        (replace(_HEARD, close_code=1008, close_reason="no"), Outcome.FAILED, "closed with 1008 no"),
        (replace(_SILENT, close_code=1000), Outcome.FAILED, "no audio"),
        (replace(_HEARD, violations=(Violation(0.5, "odd"),)), Outcome.FAILED, "broke the AVR protocol: odd"),
    ],
)
def test_outcome_of_a_call(report: CallReport, outcome: Outcome, why: str) -> None:
    assert judge(report) == LoadCall(outcome, report, why)


def test_call_ended_before_its_answer_has_not_failed() -> None:
    assert judge(replace(_SILENT, close_code=1000), stopped=True).outcome is Outcome.STOPPED


def test_the_summary_adds_up() -> None:
    calls = [
        LoadCall(
            Outcome.ANSWERED, replace(_HEARD, gaps=2, longest_gap_seconds=0.03, reply_latencies_seconds=(0.7,))
        ),
        LoadCall(Outcome.ANSWERED, replace(_HEARD, first_audio_seconds=0.75, latest_frame_seconds=0.012)),
        LoadCall(Outcome.REJECTED, replace(_SILENT, close_code=1013, errors=(ErrorMessage(0.1, "no\ncapacity"),))),
        LoadCall(Outcome.FAILED, None, "cannot connect"),
    ]
    assert summary(calls) == [
        ("calls placed", "4"),
        ("answered", "2"),
        ("rejected", "1"),
        ("failed", "1"),
        ("stopped before an answer", "0"),
        ("first audio", "p50 0.25 s, p95 0.75 s, max 0.75 s"),
        ("replies after", "p50 0.70 s, p95 0.70 s, max 0.70 s"),
        ("audio heard", "3.0 s"),
        ("underruns", "2, the longest 30.0 ms"),
        ("interruptions", "0"),
        ("sending late by", "12 ms at most"),
        ("errors", "2"),
        ("  1 x", "cannot connect"),
        ("  1 x", "no capacity"),
        ("close codes", "1000 x 2, 1013 x 1"),
    ]
    assert dict(summary([]))["close codes"] == "none"


def test_quantiles_are_of_the_nearest_rank() -> None:
    assert quantiles([float(number) for number in range(100, 0, -1)]) == "p50 50.00 s, p95 95.00 s, max 100.00 s"
    assert quantiles([]) == "none"


def test_generated_speech_swells_and_has_its_tone() -> None:
    samples = np.frombuffer(speech_like(500, 1.0), "<i2") / 32768
    assert 20 * np.log10(np.abs(samples).max()) == pytest.approx(-10, abs=0.5)
    assert np.fft.rfftfreq(8000, 1 / 8000)[np.abs(np.fft.rfft(samples)).argmax()] == 500
    loudness = np.sqrt(np.mean(samples.reshape(-1, 200) ** 2, axis=1))
    assert loudness.max() > 3 * loudness.min()


@pytest.mark.parametrize("calls", ["0", "-1", "10001", "many", "1.5"])
def test_an_impossible_number_of_calls_is_refused(calls: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _arguments("ws://x", "--calls", calls, "--seconds", "1")
    assert f"{calls!r} is not a number of calls: give one from 1 to 10000" in capsys.readouterr().err


async def test_caller_of_load_waits_for_the_greeting_and_plays_a_file(tmp_path: Path) -> None:
    wav = tmp_path / "in.wav"
    write_wav(wav, b"\x00\x20" * 4000)
    spoke_at: list[int] = []

    async def greet(connection: Connection) -> None:
        await connection.send_audio(b"\x00\x20" * 4000)
        while await connection.receive() is not None:
            if connection.frames and any(connection.frames[-1]):
                assert connection.frames[-1] == b"\x00\x20" * 160
                spoke_at.append(len(connection.frames))
                break
        await connection.listen()

    args = _arguments("ws://x", "--calls", "1", "--seconds", "4", "--wav", str(wav))
    args.at_once = False
    async with avr_service(greet) as service:
        args.url = service.url
        assert await load.run(args) == 0
    assert spoke_at[0] >= 25 + 25  # the greeting and the pause
