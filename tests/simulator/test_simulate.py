from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import orjson
import pytest
from websockets.asyncio.client import connect

from simulator import simulate
from simulator.dialogue.reader import BUNDLED
from tests.helpers import send_signals


async def _start(*options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "common.runtime.cli",
        "simulate",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_simulator_prints_its_address_serves_and_stops(ending: signal.Signals) -> None:
    process = await _start("--port", "0", "--voice", "tone", "--words", "3")
    assert process.stdout is not None
    async with asyncio.timeout(20):
        line = (await process.stdout.readline()).decode()
        url = line.split()[-1]
        async with connect(
            f"{url}?model=gpt-realtime-2", additional_headers={"Authorization": "Bearer x"}
        ) as socket:
            assert orjson.loads(await socket.recv())["type"] == "session.created"
            process.send_signal(ending)
            output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (0, b"", b"")


async def test_repeated_ctrl_c_prints_no_traceback() -> None:
    process = await _start("--port", "0")
    assert process.stdout is not None
    async with asyncio.timeout(20):
        url = (await process.stdout.readline()).decode().split()[-1]
        headers = {"Authorization": "Bearer x"}
        async with connect(f"{url}?model=gpt-realtime-2", additional_headers=headers):
            send_signals(process, signal.SIGINT, 5)
            _, errors = await process.communicate()
    assert (process.returncode, errors) in {(0, b""), (130, b"interrupted\n")}


async def test_simulator_speaks_the_chosen_dialect() -> None:
    process = await _start("--port", "0", "--dialect", "xai")
    assert process.stdout is not None
    async with asyncio.timeout(20):
        url = (await process.stdout.readline()).decode().split()[-1]
        headers = {"Authorization": "Bearer x"}
        async with connect(f"{url}?model=grok-voice-latest", additional_headers=headers) as socket:
            assert orjson.loads(await socket.recv())["type"] == "conversation.created"
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


async def test_simulator_speaks_the_lines_of_a_script() -> None:
    process = await _start("--port", "0", "--script", str(BUNDLED))
    assert process.stdout is not None
    async with asyncio.timeout(20):
        url = (await process.stdout.readline()).decode().split()[-1]
        headers = {"Authorization": "Bearer x"}
        async with connect(f"{url}?model=gpt-realtime-2", additional_headers=headers) as socket:
            await socket.send('{"type": "response.create"}')
            async for message in socket:
                event = orjson.loads(message)
                if event["type"] == "response.output_audio_transcript.done":
                    break
        process.terminate()
        await process.communicate()
    assert event["transcript"] == "Good evening, Hotel Miramar, the restaurant. How can I help you?"


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--script", "none.yaml"), 2, "simulate: none.yaml: it cannot be read: No such file or directory\n"),
        (("--words", "0"), 2, "simulate: words is 0: it must be from 1 to 1000\n"),
        (("--history", "-1"), 2, "simulate: history is -1: it must be 0 or more\n"),
        (("--host", "203.0.113.1", "--port", "0"), 1, "simulate: cannot listen on 203.0.113.1:0"),
    ],
)
async def test_wrong_option_prints_one_line(options: tuple[str, ...], status: int, message: str) -> None:
    process = await _start(*options)
    async with asyncio.timeout(20):
        _, errors = await process.communicate()
    assert process.returncode == status
    assert errors.decode().startswith(message)
    assert errors.count(b"\n") == 1


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="simulate")
    simulate.add_arguments(parser)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--help"])
    assert ended.value.code == 0
    assert "--port" in capsys.readouterr().out
