"""`avr-sts-openai demo`: the main use on one machine, without a key or Redis.

The demo starts the whole service as an operator does (`serve`: embedded Redis, a dispatcher, two workers) against
the Realtime simulator. It places a call with recorded speech, and prints the result.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from common.audio.wav import read_wav, write_wav
from common.runtime.child import die_with
from common.runtime.process_exit import INTERRUPTED
from simulator.avr.call_record import Interruption, Message, Transcript
from simulator.avr.core import CallError, SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.terminal import one_line, stop_on_signal, table

SPEECH = Path(__file__).parent / "speech" / "caller.wav"
OUT = Path("demo-out") / "heard.wav"
START_SECONDS = 30.0
CALL_SECONDS = 60.0
STOP_SECONDS = 15.0
# -40 dBFS: quieter audio is not audible as a reply.
AUDIBLE_LEVEL = 328
LOG_LINES_SHOWN = 20


class DemoError(Exception):
    """A failure of the demo, in one line for people."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running `serve`."""

    url: str
    admin_url: str


def run(_: argparse.Namespace) -> int:
    """Run the demo; return 0 only if audio came back."""
    try:
        return asyncio.run(_until_ctrl_c())
    except (DemoError, CallError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


async def _until_ctrl_c() -> int:
    with stop_on_signal() as stop:
        demo, stopping = asyncio.create_task(_demo()), asyncio.create_task(stop.wait())
        await asyncio.wait({demo, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not stop.is_set():
            return demo.result()
        demo.cancel()
        await asyncio.gather(demo, return_exceptions=True)
        return INTERRUPTED


async def _demo() -> int:
    speech = read_wav(SPEECH)
    _make_folder()
    _say("1. starting the Realtime simulator, and the service: embedded Redis, a dispatcher, 2 workers")
    async with RealtimeSimulator() as simulator, _serve(simulator.url) as service:
        _say(f"   AVR Core would connect to {service.url}")
        _say("2. placing a call as AVR Core does: the agent greets, the caller asks, and interrupts the answer")
        async with await place_call(service.url, metadata={"from": "100", "to": "600"}) as call, _printed(call):
            await _wait(call, lambda c: any(t.role == "agent" for t in c.transcripts), "greeting")
            pins = await _get_json(f"{service.admin_url}/calls")
            await call.say(speech)
            turns = sum(t.role == "agent" for t in call.transcripts)
            await _wait(call, lambda c: sum(t.role == "agent" for t in c.transcripts) > turns, "answer")
            heard, report = call.heard_pcm, call.report()
        tokens = await _tokens(service.admin_url)
        workers = await _get_json(f"{service.admin_url}/workers")
    _say("3. the result")
    write_wav(OUT, heard)
    turn_seconds = report.reply_latencies_seconds
    rows = [
        (
            "greeting",
            f"{report.first_audio_seconds:.2f} s after the call began" if report.first_audio_seconds else "-",
        ),
        ("answers", ", ".join(f"{s:.2f} s" for s in turn_seconds) + " after the caller's last sound"),
        ("audio", f"{report.received_seconds:.1f} s received, {report.heard_seconds:.1f} s heard"),
        ("interruptions", str(len(report.interruptions))),
        ("tokens", ", ".join(f"{count} {name}" for name, count in tokens.items())),
        *((f"worker {w['id']}", _pinned(w["id"], pins)) for w in workers),
        ("heard audio", f"{OUT} (play it)"),
    ]
    _say("".join(f"   {line}\n" for line in table(rows).splitlines()).rstrip())
    if not _is_audible(heard):
        raise DemoError("no audio came back")
    return 0


def _make_folder() -> None:
    """Make the folder of the result before the call, because a call without a result would be in vain."""
    try:
        OUT.parent.mkdir(exist_ok=True)
        if not os.access(OUT.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise DemoError(
            f"{OUT.parent.absolute()} cannot be written ({error.strerror}): start the demo in a folder of your own"
        ) from None


def _pinned(worker_id: str, calls: list[dict[str, Any]]) -> str:
    held = [call["uuid"] for call in calls if call["worker"] == worker_id]
    return f"held call {held[0]}" if held else "held no call"


def _is_audible(pcm: bytes) -> bool:
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    loud = np.abs(samples) > AUDIBLE_LEVEL
    return bool(np.count_nonzero(loud) > 8000 / 4)


async def _wait(call: SimulatedCall, predicate: Any, what: str) -> None:
    try:
        await call.wait_for(predicate, timeout_seconds=CALL_SECONDS)
    except TimeoutError as error:
        raise DemoError(f"no {what} within {CALL_SECONDS:g} s ({error})") from None


@asynccontextmanager
async def _printed(call: SimulatedCall) -> AsyncIterator[None]:
    """Print the messages of a call as they arrive."""
    printing = asyncio.create_task(_print_messages(call))
    try:
        yield
    finally:
        printing.cancel()
        await asyncio.gather(printing, return_exceptions=True)


async def _print_messages(call: SimulatedCall) -> None:
    shown = 0
    while True:
        await call.wait_for(partial(_has_more_than, shown), timeout_seconds=CALL_SECONDS)
        for message in call.messages[shown:]:
            _print_message(message)
        shown = len(call.messages)


def _has_more_than(shown: int, call: SimulatedCall) -> bool:
    return len(call.messages) > shown


def _print_message(message: Message) -> None:
    match message:
        case Transcript(at_seconds, role, text):
            _say(f"   {at_seconds:6.2f} s  {role + ':':<7} {one_line(text)}")
        case Interruption(at_seconds, _, dropped_samples):
            _say(f"   {at_seconds:6.2f} s  the caller interrupts: {dropped_samples / 8000:.1f} s are not heard")
        case _:
            pass


@asynccontextmanager
async def _serve(realtime_url: str) -> AsyncIterator[Service]:
    """Run `avr-sts-openai serve` in its own process, on free ports."""
    ours = ("OPENAI_", "AVR_STS_", "REDIS_", "WORKER_", "DRAIN_", "STS_", "TLS_", "CLUSTER_", "ADMIN_", "LOG_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {
        "PORT": "0",
        "ADMIN_PORT": "0",
        "WORKERS": "2",
        "DISPATCHERS": "1",
        "OPENAI_API_KEY": "the-simulator-takes-any",
        "OPENAI_BASE_URL": realtime_url,
        "LOG_FORMAT": "json",
    }
    with tempfile.TemporaryDirectory(prefix="avr-sts-demo-") as directory:
        # A folder of its own, because a .env of the person at the terminal is for the real service.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "common.runtime.cli",
            "serve",
            env=environment,
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=die_with(os.getpid()),
        )
        lines: list[str] = []
        reading = None
        try:
            port, admin_port = await _serving(process, lines)
            reading = asyncio.create_task(_keep_reading(process, lines))
            yield Service(f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            if reading is None:
                reading = asyncio.create_task(_keep_reading(process, lines))
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await reading
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _serving(process: asyncio.subprocess.Process, lines: list[str]) -> tuple[int, int]:
    assert process.stderr is not None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            async for raw in process.stderr:
                lines.append(raw.decode(errors="replace").rstrip())
                with contextlib.suppress(ValueError):
                    line = json.loads(raw)
                    if line.get("event") == "serving":
                        return line["port"], line["admin_port"]
    shown = "\n".join(lines[-LOG_LINES_SHOWN:])
    raise DemoError(f"the service did not start within {START_SECONDS:g} s; its log ends with\n{shown}")


async def _keep_reading(process: asyncio.subprocess.Process, lines: list[str]) -> None:
    """Read the output of the service, because a full pipe would stop it."""
    assert process.stderr is not None
    async for raw in process.stderr:
        lines.append(raw.decode(errors="replace").rstrip())
        del lines[:-LOG_LINES_SHOWN]


async def _get_json(url: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return await response.json()


async def _tokens(admin_url: str) -> dict[str, int]:
    """Return tokens by direction, from the service's own metrics."""
    async with aiohttp.ClientSession() as http, http.get(f"{admin_url}/metrics") as response:
        text = await response.text()
    tokens = {"input": 0, "output": 0}
    for line in text.splitlines():
        if line.startswith("avr_sts_tokens_total{"):
            direction = line.split('direction="')[1].split('"')[0]
            tokens[direction] += int(float(line.rpartition(" ")[2]))
    return tokens


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
