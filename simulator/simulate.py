"""`avr-sts-openai simulate`: the Realtime API simulator as a process."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from simulator.dialogue.errors import DialogueError
from simulator.dialogue.reader import read_dialogue
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import DialectName, SimulatorSettings, Voice
from simulator.terminal import stop_on_signal

DESCRIPTION = "Run the Realtime API simulator. GET /simulator/sessions lists all that the model was told."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-command's options."""
    default = SimulatorSettings()
    add = parser.add_argument
    add("--port", type=int, default=8765, help="port to listen on; 0: any free port (default %(default)s)")
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add("--api-key", help="the only key that is accepted (default: any key)")
    add(
        "--dialect",
        type=DialectName,
        choices=list(DialectName),
        default=default.dialect,
        help="Realtime API to imitate (default %(default)s)",
    )
    add("--voice", type=Voice, choices=list(Voice), default=default.voice, help="sound of replies")
    add(
        "--script",
        metavar="FILE.yaml",
        type=Path,
        help="the agent's side of a dialogue, with true transcripts of the caller (docs/simulator.md)",
    )
    add("--tone-hz", type=float, default=default.tone_hz, metavar="HZ", help="tone in hertz (default %(default)s)")
    add("--echo", action="store_true", help="answer in the tone of the caller's speech")
    add("--words", type=int, default=default.words, metavar="N", help="words of a reply (default %(default)s)")
    add(
        "--greeting-words",
        type=int,
        default=default.greeting_words,
        metavar="N",
        help="words of the greeting (default %(default)s)",
    )
    add(
        "--first-audio-seconds",
        type=float,
        default=default.first_audio_seconds,
        metavar="S",
        help="time until a reply begins (default %(default)s)",
    )
    add(
        "--speed",
        type=float,
        default=default.speed,
        metavar="X",
        help="factor by which a reply is sent faster than real time (default %(default)s)",
    )
    add(
        "--session-limit-seconds",
        type=float,
        default=default.session_limit_seconds,
        metavar="S",
        help="maximum length of a session (default %(default)s)",
    )
    add(
        "--history",
        type=int,
        default=default.history_limit,
        metavar="N",
        help="number of ended sessions kept (default %(default)s)",
    )
    add("--no-audio", action="store_true", help="do not keep the callers' audio (for load tests)")
    add("--no-listen", action="store_true", help="do not listen; speak half of the time (for benchmarks)")


async def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit status."""
    try:
        if arguments.history < 0:
            raise ValueError(f"history is {arguments.history}: it must be 0 or more")
        settings = SimulatorSettings(
            api_key=arguments.api_key,
            dialect=arguments.dialect,
            voice=arguments.voice,
            tone_hz=arguments.tone_hz,
            echo=arguments.echo,
            words=arguments.words,
            greeting_words=arguments.greeting_words,
            first_audio_seconds=arguments.first_audio_seconds,
            speed=arguments.speed,
            session_limit_seconds=arguments.session_limit_seconds,
            history_limit=arguments.history,
            keep_audio=not arguments.no_audio,
            listen=not arguments.no_listen,
        )
        script = None if arguments.script is None else (await read_dialogue(arguments.script)).script
    except (ValueError, DialogueError) as error:
        sys.stderr.write(f"simulate: {error}\n")
        return 2
    return await _serve(RealtimeSimulator(settings, script=script), arguments.host, arguments.port)


async def _serve(simulator: RealtimeSimulator, host: str, port: int) -> int:
    with stop_on_signal() as stopped:
        try:
            await simulator.start(host, port)
        except OSError as error:
            sys.stderr.write(f"simulate: cannot listen on {host}:{port}: {error.strerror}\n")
            return 1
        sys.stdout.write(f"Realtime API simulator on {simulator.url}\n")
        sys.stdout.flush()
        await stopped.wait()
        await simulator.stop()
    return 0
