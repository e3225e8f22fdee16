"""Speech from text by `espeak-ng`, a program of most distributions."""

from __future__ import annotations

import asyncio
import shutil
from typing import Final

from common.audio.wav import WavError, decode_wav

MAX_TEXT_CHARACTERS: Final = 2000
"""Maximum length of a text: about three minutes of speech."""

MAX_SECONDS: Final = 30.0
"""Maximum time that the program may take."""

_INSTALL: Final = (
    "needs espeak-ng: install it (apt install espeak-ng, dnf install espeak-ng, brew install espeak-ng), "
    "or record the words and give"
)


async def speak(text: str, voice: str, *, what: str = "--say", instead: str = "--wav") -> bytes:
    """Return the text as speech: PCM16 LE, 8 kHz, mono.

    Args:
        text: what to say.
        voice: name of a voice or language, such as `en` or `it`.
        what: for errors, what asks for the speech.
        instead: for errors, how to give a recording.

    Raises:
        WavError: there is no such program or voice, or the text is empty or too long.
    """
    if not text.strip() or len(text) > MAX_TEXT_CHARACTERS:
        raise WavError(f"{what}: give 1 to {MAX_TEXT_CHARACTERS} characters")
    program = shutil.which("espeak-ng")
    if program is None:
        raise WavError(f"{what} {_INSTALL} {instead}")
    process = await asyncio.create_subprocess_exec(
        *(program, "-v", voice, "--stdin", "--stdout"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(MAX_SECONDS):
            sound, complaints = await process.communicate(text.encode(errors="replace"))
    except TimeoutError:
        raise WavError(f"{what}: espeak-ng did not end within {MAX_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0 or not sound:
        words = " ".join(complaints.decode(errors="replace").split())[:200]
        raise WavError(f"{what}: espeak-ng failed: {words or f'exit code {process.returncode}'}")
    try:
        return decode_wav(sound)
    except ValueError as error:
        raise WavError(f"{what}: espeak-ng made no WAV: {error}") from None
