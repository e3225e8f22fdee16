from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from common.audio.wav import read_wav, to_pcm16, write_wav
from simulator import call
from tests.helpers import needed_program
from tests.simulator.avr_service import Connection, avr_service, echo
from tests.simulator.dialogue.files import write_dialogue
from tests.terminal import CTRL_C, Terminal

_PROGRAM = """
import argparse, asyncio, sys
from simulator import call
parser = argparse.ArgumentParser()
call.add_arguments(parser)
sys.exit(asyncio.run(call.run(parser.parse_args())))
"""


def _arguments(*arguments: str | Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    call.add_arguments(parser)
    return parser.parse_args(["--at-once", *(str(argument) for argument in arguments)])


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Write 0.4 s of 1 kHz, and return the file."""
    path = tmp_path / "in.wav"
    write_wav(path, to_pcm16(0.5 * np.sin(2 * np.pi * 1000 * np.arange(3200) / 8000)))
    return path


async def _talkative(connection: Connection) -> None:
    await connection.listen(2)
    await connection.send_audio(bytes(range(160)) * 20)
    await connection.send("transcript", role="agent", text="Hello,\nwho is there?")
    await connection.listen(20)
    await connection.send("interruption")
    await connection.send_audio(b"\x10\x20" * 800)
    await connection.listen()


async def test_heard_audio_is_saved_and_the_exit_code_is_zero(
    tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.wav"
    async with avr_service(echo) as service:
        code = await call.run(
            _arguments(
                service.url + "?from=1",
                "--wav",
                speech,
                "--out",
                out,
                "--uuid",
                "u7",
                "--dtmf",
                "4#",
                "--seconds",
                "1",
            )
        )
        (connection,) = service.connections
    heard = np.frombuffer(read_wav(out), "<i2").astype(np.float64)
    assert code == 0
    assert 0.9 < len(heard) / 8000 < 5
    spectrum = np.abs(np.fft.rfft(heard))
    assert abs(np.fft.rfftfreq(len(heard), 1 / 8000)[spectrum.argmax()] - 1000) < 5
    assert connection.inits == [{"type": "init", "uuid": "u7"}]
    assert connection.query == {"from": "1"}
    assert [digit for _, digit in connection.digits] == ["4", "#"]
    printed = capsys.readouterr()
    assert "u7" in printed.out
    assert "closed with    1000" in printed.out
    assert str(out) in printed.out


async def test_transcript_is_printed_with_times_and_interruptions(
    tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with avr_service(_talkative) as service:
        await call.run(_arguments(service.url, "--wav", speech, "--out", tmp_path / "out.wav", "--seconds", "0.8"))
    transcript, _, figures = capsys.readouterr().out.partition("\n\n")
    agent, interruption = transcript.splitlines()
    assert agent.endswith("s  agent:       Hello, who is there?")
    assert "s  interruption (" in interruption
    assert "interruptions  1" in figures


async def test_lost_connection_is_retried_if_asked_for(
    tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def lose_the_first(connection: Connection) -> None:
        if len(service.connections) == 1:
            await connection.listen(5)
            await connection.lose()
        await _talkative(connection)

    arguments = ("--wav", speech, "--out", tmp_path / "out.wav", "--seconds", "1", "--reconnect", "5")
    async with avr_service(lose_the_first) as service:
        assert await call.run(_arguments(service.url, *arguments)) == 0
    printed = capsys.readouterr().out
    assert "s  connection back after 0." in printed
    assert "outages        1\n" in printed
    assert "closed with    1000" in printed


async def test_call_without_seconds_ends_when_both_sides_are_silent(
    tmp_path: Path, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "_SILENCE_SECONDS", 0.3)
    out = tmp_path / "out.wav"

    async def answer_late(connection: Connection) -> None:
        await connection.listen(30)  # 200 ms after the speech
        await connection.send_audio(b"\x00\x20" * 8000)
        await connection.listen()

    async with avr_service(answer_late) as service:
        assert await call.run(_arguments(service.url, "--wav", speech, "--out", out)) == 0
    _, sound, silence = read_wav(out).partition(b"\x00\x20" * 8000)
    assert sound  # all of it
    assert not any(silence)  # and once
    # Silence is checked at each frame. On a stalled machine, the end of the sound is seen later by the stall.
    assert len(silence) / 16000 > 0.1


async def test_call_to_an_endless_talker_is_hung_up(
    tmp_path: Path, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "_LONGEST_REPLY_SECONDS", 0.2)

    async def talk_on(connection: Connection) -> None:
        await connection.listen(1)
        await connection.send_audio(bytes(16000 * 60))
        await connection.listen()

    async with avr_service(talk_on) as service:
        assert await call.run(_arguments(service.url, "--wav", speech, "--out", tmp_path / "out.wav")) == 0


async def test_a_call_that_brought_no_audio_fails_and_says_why(
    tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refuse(connection: Connection) -> None:
        await connection.listen(1)
        await connection.send("error", message="no capacity,\ntry later")
        await connection.websocket.close(code=1013)

    async def close(connection: Connection) -> None:
        await connection.listen(1)
        await connection.websocket.close(code=1011, message=b"our fault")

    for behaviour, why in ((refuse, "no capacity, try later"), (close, "closed with 1011 our fault")):
        async with avr_service(behaviour) as service:
            assert await call.run(_arguments(service.url, "--wav", speech, "--out", tmp_path / "out.wav")) == 1
        assert f"no audio came back: {why}\n" in capsys.readouterr().err


async def test_audio_that_breaks_the_protocol_is_saved_and_reported(
    tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def misbehave(connection: Connection) -> None:
        await connection.listen(1)
        await connection.send_audio(b"\x01\x02" * 50)
        await connection.websocket.close()

    out = tmp_path / "out.wav"
    async with avr_service(misbehave) as service:
        assert await call.run(_arguments(service.url, "--wav", speech, "--out", out)) == 1
    assert out.exists()
    assert "broke the AVR protocol: an audio message of 100 bytes, not 320\n" in capsys.readouterr().err


async def test_failure_before_the_call_prints_one_line(
    tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str], unused_tcp_port: int
) -> None:
    url = f"ws://127.0.0.1:{unused_tcp_port}"
    no_wav = tmp_path / "no.wav"
    no_wav.write_bytes(b"hello")
    out = tmp_path / "out.wav"
    attempts = [
        (_arguments(url, "--wav", speech, "--out", out), f"cannot connect to {url}: Connection refused"),
        (_arguments(url, "--wav", tmp_path / "x.wav", "--out", out), f"{tmp_path / 'x.wav'}: file not found"),
        (_arguments(url, "--wav", no_wav, "--out", out), f"{no_wav}: not a WAV file"),
        (
            _arguments(url, "--wav", speech, "--out", tmp_path / "a" / "b.wav"),
            f"there is no folder {tmp_path / 'a'}",
        ),
        (_arguments(url, "--wav", speech, "--out", out, "--dtmf", "1x"), "'x' is not a DTMF digit"),
    ]
    for arguments, complaint in attempts:
        assert await call.run(arguments) == 1
        printed = capsys.readouterr()
        assert complaint in printed.err
        assert printed.err.count("\n") == 1
        assert printed.out == ""
    assert not out.exists()


async def test_an_output_that_cannot_be_written_is_one_line(
    tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with avr_service(echo) as service:
        assert await call.run(_arguments(service.url, "--wav", speech, "--out", tmp_path, "--seconds", "0.1")) == 1
    assert f"{tmp_path}: cannot be written: Is a directory\n" in capsys.readouterr().err


async def test_ctrl_c_hangs_up_and_saves_heard_audio(tmp_path: Path, speech: Path) -> None:
    out = tmp_path / "out.wav"
    echoed = asyncio.Event()

    async def echo_and_tell(connection: Connection) -> None:
        await connection.listen(1)
        await connection.send_audio(bytes(3200))
        await connection.listen(5)
        echoed.set()
        await connection.listen()

    async with avr_service(echo_and_tell) as service:
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-c",
                _PROGRAM,
                service.url,
                "--at-once",
                "--wav",
                speech,
                "--out",
                out,
                "--seconds",
                "60",
            ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            await echoed.wait()
            process.send_signal(signal.SIGINT)
            printed, complaints = await process.communicate()
        (connection,) = service.connections
    assert process.returncode == 0, complaints
    assert b"closed with    1000" in printed
    assert connection.websocket.close_code == 1000
    assert len(read_wav(out)) > 0


def _polite(*arguments: str | Path) -> argparse.Namespace:
    args = _arguments(*arguments)
    args.at_once = False
    return args


async def test_caller_speaks_when_the_greeting_has_ended(speech: Path) -> None:
    spoke_at: list[int] = []

    async def greet(connection: Connection) -> None:
        await connection.listen(5)
        await connection.send_audio(b"\x00\x20" * 8000)  # a second
        while not any(connection.frames[-1]):
            if await connection.receive() is None:
                return
        spoke_at.append(len(connection.frames))
        await connection.listen()

    async with avr_service(greet) as service:
        assert await call.run(_polite(service.url, "--wav", speech, "--seconds", "4")) == 0
    # 5 frames before the greeting, 50 of it, and 25 of the pause. A late machine sends frames late, not fewer.
    assert spoke_at[0] >= 5 + 50 + 25


async def test_call_needs_no_output_file(speech: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async with avr_service(echo) as service:
        assert await call.run(_arguments(service.url, "--wav", speech, "--seconds", "0.5")) == 0
    assert "written to" not in capsys.readouterr().out
    assert os.listdir(tmp_path) == [speech.name]  # noqa: PTH208 - one look at a local folder


async def test_text_is_spoken_by_espeak(capsys: pytest.CaptureFixture[str]) -> None:
    needed_program("espeak-ng")
    async with avr_service(echo) as service:
        assert await call.run(_arguments(service.url, "--say", "Good morning", "--seconds", "1")) == 0
        (connection,) = service.connections
    assert any(any(frame) for frame in connection.frames)
    assert "s to say" in capsys.readouterr().err


async def test_long_speech_shows_its_progress_on_a_terminal(tmp_path: Path) -> None:
    wav = tmp_path / "long.wav"
    write_wav(wav, b"\x00\x20" * 8000 * 6)
    async with avr_service(echo) as service:
        program: list[str | Path] = [sys.executable, "-c", _PROGRAM, service.url, "--at-once"]
        program += ["--wav", wav, "--seconds", "60"]
        with Terminal(program, os.environ, tmp_path) as terminal:
            await asyncio.to_thread(terminal.read_until, "\r\x1b[Ksaid 0 of 6 s, 0 replies so far\r")
            await asyncio.to_thread(terminal.read_until, "\r\x1b[Ksaid 1 of 6 s")
            terminal.press(CTRL_C)
            assert await asyncio.to_thread(terminal.end) == 0


def test_words_or_a_file_are_required(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("ws://x",), ("ws://x", "--wav", "a.wav", "--say", "hello")):
        with pytest.raises(SystemExit):
            _arguments(*arguments)
    assert "--say" in capsys.readouterr().err


SCRIPT = """
steps:
  - agent: Hello.
    wav: caller.wav
  - caller: Good day.
    wav: caller.wav
  - agent: Goodbye.
    wav: caller.wav
"""


async def test_caller_of_a_dialogue_speaks_when_its_turn_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = write_dialogue(tmp_path, SCRIPT)
    line = read_wav(tmp_path / "caller.wav")

    async def answer(connection: Connection) -> None:
        for text in ("Hello.", "Goodbye."):
            await connection.send_audio(line)
            await connection.send("transcript", role="agent", text=text)
            while await connection.receive() and not any(connection.frames[-1:] and connection.frames[-1]):
                pass
        await connection.listen()

    async with avr_service(answer) as service:
        code = await call.run(_arguments(service.url, "--script", script))
        (connection,) = service.connections
    shown = capsys.readouterr()
    assert (code, shown.err.count("dialogue, Ctrl-C hangs up")) == (0, 1)
    assert sum(any(frame) for frame in connection.frames) == pytest.approx(50, abs=2)
    assert "Goodbye." in shown.out


async def test_dialogue_that_stalls_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def close(connection: Connection) -> None:
        await connection.listen(2)
        await connection.send_audio(bytes(range(160)) * 20)
        await connection.websocket.close()

    async with avr_service(close) as service:
        code = await call.run(_arguments(service.url, "--script", write_dialogue(tmp_path, SCRIPT)))
    assert code == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("the call ended early: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--script", "none.yaml"), "none.yaml: it cannot be read: No such file or directory\n"),
        (("--script", "dialogue.yaml", "--dtmf", "1"), "--dtmf: put steps with `keys` into dialogue.yaml\n"),
    ],
)
async def test_wrong_dialogue_is_told_before_the_call(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    write_dialogue(tmp_path, SCRIPT)
    monkeypatch.chdir(tmp_path)
    assert await call.run(_arguments("ws://127.0.0.1:1", *options)) == 1
    assert capsys.readouterr().err == message
