"""The speech of a simulated caller: a WAV file, or text for a synthesizer. The arguments of `call` and `load`."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.audio.wav import read_wav
from simulator.espeak import speak


def add_arguments(parser: argparse.ArgumentParser, *, required: bool, scripts: bool = False) -> None:
    """Add the arguments that say what the caller says, and when.

    Args:
        parser: gets the arguments.
        required: whether the caller must say something.
        scripts: whether the caller may play a dialogue.
    """
    speech = parser.add_mutually_exclusive_group(required=required)
    speech.add_argument(
        "--wav",
        metavar="IN.wav",
        type=Path,
        help="speech of the caller: PCM, float, A-law, mu-law or GSM (with the extra [gsm]), of any rate",
    )
    speech.add_argument("--say", metavar="TEXT", help="speech of the caller as text, which espeak-ng speaks")
    if scripts:
        speech.add_argument(
            "--script",
            metavar="FILE.yaml",
            type=Path,
            help="the caller's side of a dialogue (docs/simulator.md)",
        )
    parser.add_argument(
        "--voice", default="en", help="voice or language of --say, such as it (default: %(default)s)"
    )
    parser.add_argument(
        "--at-once", action="store_true", help="speak at once (default: when the agent's greeting has ended)"
    )


async def load(args: argparse.Namespace) -> bytes | None:
    """Return the speech as PCM16 LE, 8 kHz, mono; None if the arguments name none.

    Raises:
        WavError: the file or the text cannot be used.
    """
    if args.say is not None:
        return await speak(args.say, args.voice)
    return None if args.wav is None else read_wav(args.wav)
