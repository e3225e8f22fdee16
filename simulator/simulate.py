"""`avr-sts-openai simulate`: the Realtime API simulator as a process."""

from __future__ import annotations

import argparse
import sys

from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import DialectName, SimulatorSettings, Voice
from simulator.terminal import stop_on_signal

DESCRIPTION = "Run the Realtime API simulator. GET /simulator/sessions tells what the model was told."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-command's options."""
    default = SimulatorSettings()
    add = parser.add_argument
    add("--port", type=int, default=8765, help="port to listen on; 0: any free one (default %(default)s)")
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add("--api-key", help="the only key that is accepted (default: any)")
    add(
        "--dialect",
        type=DialectName,
        choices=list(DialectName),
        default=default.dialect,
        help="whose Realtime API to speak (default %(default)s)",
    )
    add("--voice", type=Voice, choices=list(Voice), default=default.voice, help="what replies sound like")
    add("--tone-hz", type=float, default=default.tone_hz, metavar="HZ", help="of the tone (default %(default)s)")
    add("--echo", action="store_true", help="the tone answers at the frequency of what the caller said")
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
        help="until a reply begins (default %(default)s)",
    )
    add(
        "--speed",
        type=float,
        default=default.speed,
        metavar="X",
        help="how much faster than it plays a reply is sent (default %(default)s)",
    )
    add(
        "--session-limit-seconds",
        type=float,
        default=default.session_limit_seconds,
        metavar="S",
        help="how long a session may last (default %(default)s)",
    )
    add(
        "--history",
        type=int,
        default=default.history_limit,
        metavar="N",
        help="how many ended sessions are remembered (default %(default)s)",
    )
    add("--no-audio", action="store_true", help="do not keep what callers said (load tests)")
    add("--no-listen", action="store_true", help="do not listen; speak half of the time (benchmarks)")


async def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit status."""
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
    except ValueError as error:
        sys.stderr.write(f"simulate: {error}\n")
        return 2
    return await _serve(RealtimeSimulator(settings), arguments.host, arguments.port)


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
