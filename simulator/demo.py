"""`avr-sts-openai demo`: the main use on one machine, without a key or Redis.

The demo starts the whole service as an operator does (`serve`: embedded Redis, a dispatcher, two workers) against
the Realtime simulator. It plays a dialogue in a call, and writes the call's sound and timeline.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import itertools
import os
import sys
from pathlib import Path
from typing import Any, Final

import aiohttp
import numpy as np
import orjson

from common.runtime.process_exit import INTERRUPTED
from simulator.avr.ami import AmiDouble
from simulator.avr.core import CallError
from simulator.demo_call import HeldCall, hold_call
from simulator.demo_service import DemoError, Service, serve
from simulator.dialogue.dialogue import Dialogue
from simulator.dialogue.errors import DialogueError
from simulator.dialogue.reader import BUNDLED, read_dialogue
from simulator.dialogue.stereo_file import write_stereo
from simulator.dialogue.timeline import Timeline, told_seconds
from simulator.dialogue.timeline_picture import draw
from simulator.realtime.server import RealtimeSimulator
from simulator.terminal import stop_on_signal, table

FOLDER: Final = Path("demo-out")

WAITS_SECONDS: Final = 1.5
"""About the silence around an act of the caller: its own wait, and the wait for the answer."""

AUDIBLE_LEVEL: Final = 328
"""-40 dBFS: quieter audio is not audible as a reply."""

STAY_INTERVAL_SECONDS: Final = 15.0
"""With --stay: time between the begins of two calls."""
STAY_CALLS: Final = 200
"""With --stay: number of calls after which no more begin. The page stays."""
STAY_CALLS_AT_ONCE: Final = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-command's options."""
    parser.add_argument(
        "--script",
        metavar="FILE.yaml",
        type=Path,
        default=BUNDLED,
        help="a dialogue of your own (docs/simulator.md; default: a table in a hotel)",
    )
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=FOLDER, help="folder (default: %(default)s)")
    parser.add_argument(
        "--stay", action="store_true", help="keep everything up, with a new call every so often, until Ctrl-C"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; return 0 only if audio came back."""
    try:
        return asyncio.run(_until_ctrl_c(args))
    except (DemoError, DialogueError, CallError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


async def _until_ctrl_c(args: argparse.Namespace) -> int:
    with stop_on_signal() as stop:
        held = asyncio.Event()
        demo, stopping = asyncio.create_task(_demo(args, held)), asyncio.create_task(stop.wait())
        await asyncio.wait({demo, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not stop.is_set():
            return demo.result()
        demo.cancel()
        await asyncio.gather(demo, return_exceptions=True)
        return 0 if args.stay and held.is_set() else INTERRUPTED


async def _demo(args: argparse.Namespace, held: asyncio.Event) -> int:
    dialogue = await read_dialogue(args.script)
    _make_folder(args.out)
    _say("1. starting the Realtime simulator, and the service: embedded Redis, a dispatcher, 2 workers")
    async with (
        RealtimeSimulator(script=dialogue.script) as simulator,
        AmiDouble() as ami,
        serve(simulator.url, ami_url=ami.url, tools_dir=dialogue.tools_dir) as service,
    ):
        _say(f"   AVR Core would connect to {service.url}")
        _say(f"   the page is {service.admin_url}/")
        _say(f"2. placing a call as AVR Core does, of about {_about_seconds(dialogue)} s: {dialogue.name}")
        worker = asyncio.create_task(_worker_of_call(service))
        try:
            call = await hold_call(service.url, dialogue, ami, show=_say, caller="100")
        finally:
            worker.cancel()
            (found,) = await asyncio.gather(worker, return_exceptions=True)
        record = await service.record_of(call.report.uuid)
        timeline = call.timeline(dialogue, [*simulator.history, *simulator.sessions], record)
        files = _write(args.out, call, timeline, record)
        _say("3. the result")
        held_by = found if isinstance(found, str) else "unknown"
        _say(_indented(table(_rows(timeline, call, record, held_by) + files)))
        if not _is_audible(call.agent_pcm):
            raise DemoError("no audio came back")
        held.set()
        if args.stay:
            await _stay(service, dialogue, ami)
    return 0


async def _stay(service: Service, dialogue: Dialogue, ami: AmiDouble) -> None:
    """Hold further calls until cancelled."""
    _say(
        f"4. staying: {service.admin_url}/ shows the calls. A new one begins every {STAY_INTERVAL_SECONDS:g} s "
        f"({STAY_CALLS} in all). Ctrl-C stops."
    )
    calls: set[asyncio.Task[None]] = set()
    try:
        for number in range(STAY_CALLS):
            if len(calls) < STAY_CALLS_AT_ONCE:
                calls.add(asyncio.create_task(_further_call(service, dialogue, ami, f"{101 + number}")))
            await asyncio.sleep(STAY_INTERVAL_SECONDS)
            calls = {call for call in calls if not call.done()}
        await asyncio.Event().wait()
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        _say("stopping")


async def _further_call(service: Service, dialogue: Dialogue, ami: AmiDouble, caller: str) -> None:
    try:
        await hold_call(service.url, dialogue, ami, show=None, caller=caller)
    except (CallError, DemoError) as error:
        _say(f"   the call of {caller} failed: {error}")


def _make_folder(folder: Path) -> None:
    """Make the folder of the result before the call, because a call without a result would be in vain."""
    try:
        folder.mkdir(exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise DemoError(
            f"{folder.absolute()} cannot be written ({error.strerror}): start the demo in a folder of your own"
        ) from None


def _write(folder: Path, call: HeldCall, timeline: Timeline, record: dict[str, Any]) -> list[tuple[str, str]]:
    """Write the files, and return their rows of the table."""
    sound, picture, written = folder / "call.wav", folder / "timeline.svg", folder / "record.json"
    try:
        write_stereo(sound, call.caller_pcm, call.agent_pcm)
        picture.write_text(draw(timeline, caller_pcm=call.caller_pcm, agent_pcm=call.agent_pcm), "utf-8")
        written.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise DemoError(f"{error.filename} cannot be written: {error.strerror}") from None
    return [
        ("listen", f"{sound} (left: caller, right: agent, as the caller heard it)"),
        ("look", f"{picture} (open it in a browser)"),
        ("read", f"{written} (the service's record of the call)"),
    ]


def _rows(timeline: Timeline, call: HeldCall, record: dict[str, Any], worker: str) -> list[tuple[str, str]]:
    greeting, answers = timeline.waits[:1], timeline.waits[1:]
    rows = [("greeting", f"{wait.end_seconds:.2f} s after the call began") for wait in greeting]
    if answers:
        shown = ", ".join(f"{wait.seconds:.2f} s" for wait in answers)
        rows.append(("answers", f"{shown} after the caller's last sound"))
    rows += [
        ("interruption", f"{heard:.1f} of {heard + each.cut_seconds:.1f} s were heard, and the model is told so")
        for each in timeline.spoken
        for heard in [each.end_seconds - each.start_seconds]
        if each.cut_seconds
    ]
    rows += [
        ("tool", f"{tool.name} {tool.outcome}, {told_seconds(tool.end_seconds - tool.start_seconds)}")
        for tool in timeline.tools
    ]
    counts = [count for each in record["tokens"].values() for count in each.items()]
    tokens = {side: sum(count for name, count in counts if side in name) for side in ("input", "output")}
    return [
        *rows,
        ("tokens", ", ".join(f"{count} {side}" for side, count in tokens.items())),
        ("held by", f"worker {worker}, for {call.report.seconds:.1f} s"),
    ]


def _about_seconds(dialogue: Dialogue) -> int:
    """Return about how long the call takes: each side waits for the other."""
    pauses = sum(WAITS_SECONDS + exchange.pause_seconds for exchange in dialogue.exchanges)
    return round(dialogue.seconds + pauses)


def _indented(text: str) -> str:
    return "".join(f"   {line}\n" for line in text.splitlines()).rstrip()


def _is_audible(pcm: bytes) -> bool:
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    loud = np.abs(samples) > AUDIBLE_LEVEL
    return bool(np.count_nonzero(loud) > 8000 / 4)


async def _worker_of_call(service: Service) -> str:
    """Return the worker of the only call, as the calls API tells it."""
    async with aiohttp.ClientSession() as http:
        for _ in itertools.count():
            async with http.get(f"{service.admin_url}/calls") as response:
                held = [str(call["worker"]) for call in await response.json() if call["worker"]]
            if held:
                return held[0]
            await asyncio.sleep(0.1)
    raise AssertionError("counting has no end")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
