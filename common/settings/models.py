"""Facts about the services with a Realtime API, their models and their voices.

Sources: the docstrings of `openai.types.realtime` (`RealtimeSessionCreateRequest.model`,
`AudioTranscription.model`), https://developers.openai.com/api/docs/deprecations (read in November 2026) and
https://docs.x.ai/developers/model-capabilities/audio (voices, efforts).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

DEFAULT_MODEL: Final = "gpt-realtime-2.1"
DEFAULT_SMALL_MODEL: Final = "gpt-realtime-2.1-mini"
DEFAULT_TRANSCRIPTION_MODEL: Final = "gpt-transcribe"
DEFAULT_VOICE: Final = "alloy"
VOICES: Final = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")

XAI_DEFAULT_MODEL: Final = "grok-voice-latest"
XAI_DEFAULT_VOICE: Final = "eve"
# xAI documents `grok-transcribe`, which repeats its text while it receives audio. Other names give one transcript.
XAI_DEFAULT_TRANSCRIPTION_MODEL: Final = "whisper-1"
XAI_VOICES: Final = (
    *("eve", "ara", "rex", "sal", "leo", "carina", "zagan", "helix", "orion", "luna", "iris", "altair", "zenith"),
    *("perseus", "helios", "lux", "kepler", "rigel", "cosmo", "celeste", "ursa", "sirius", "lumen", "castor"),
    *("naksh", "atlas"),
)

REASONING_EFFORTS: Final = ("minimal", "low", "medium", "high", "xhigh")
XAI_REASONING_EFFORTS: Final = ("none", "high")

_MARKS_OF_SPEECH: Final = ("realtime", "audio", "voice", "live", "omni", "speech")
_TEXT_MODEL: Final = re.compile(
    r"(gpt-[345]|gpt-oss|chatgpt|o[134]($|-)|claude|gemini|gemma|grok|llama|mistral|deepseek|text-|whisper|tts-)"
)

STORED_PROMPTS_END: Final = date(2026, 11, 30)


class Service(Enum):
    """A service at an address."""

    OPENAI = "OpenAI"
    AZURE = "Azure OpenAI"
    XAI = "xAI"
    OTHER = "another service"


_HOSTS: Final = {
    "api.openai.com": Service.OPENAI,
    "openai.azure.com": Service.AZURE,
    "services.ai.azure.com": Service.AZURE,
    "cognitiveservices.azure.com": Service.AZURE,
    "openai.azure.us": Service.AZURE,
    "api.x.ai": Service.XAI,
}


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The day on which OpenAI removes a model, and the replacement."""

    day: date
    replacement: str


_JANUARY: Final = date(2027, 1, 20)
_FEBRUARY: Final = date(2027, 2, 26)

MODEL_SHUTDOWNS: Final = {
    "gpt-realtime": Shutdown(_JANUARY, "gpt-realtime-2.1"),
    "gpt-realtime-2025-08-28": Shutdown(_JANUARY, "gpt-realtime-2.1"),
    "gpt-realtime-mini": Shutdown(_JANUARY, "gpt-realtime-2.1-mini"),
    "gpt-realtime-mini-2025-12-15": Shutdown(_JANUARY, "gpt-realtime-2.1-mini"),
    "gpt-realtime-mini-2025-10-06": Shutdown(date(2026, 7, 23), "gpt-realtime-2.1-mini"),
    "gpt-audio-mini": Shutdown(_JANUARY, "gpt-realtime-2.1-mini"),
    "gpt-audio-mini-2025-12-15": Shutdown(_JANUARY, "gpt-realtime-2.1-mini"),
}

TRANSCRIPTION_SHUTDOWNS: Final = {
    model: Shutdown(_FEBRUARY, "gpt-transcribe")
    for model in (
        "whisper-1",
        "gpt-4o-transcribe",
        "gpt-4o-transcribe-diarize",
        "gpt-4o-mini-transcribe",
        "gpt-4o-mini-transcribe-2025-12-15",
    )
}

LANGUAGES: Final = {
    "arabic": "ar",
    "catalan": "ca",
    "chinese": "zh",
    "croatian": "hr",
    "czech": "cs",
    "danish": "da",
    "deutsch": "de",
    "dutch": "nl",
    "english": "en",
    "español": "es",
    "finnish": "fi",
    "français": "fr",
    "french": "fr",
    "german": "de",
    "greek": "el",
    "hebrew": "he",
    "hindi": "hi",
    "hungarian": "hu",
    "italian": "it",
    "italiano": "it",
    "japanese": "ja",
    "korean": "ko",
    "norwegian": "no",
    "polish": "pl",
    "portuguese": "pt",
    "português": "pt",
    "romanian": "ro",
    "russian": "ru",
    "spanish": "es",
    "swedish": "sv",
    "turkish": "tr",
    "ukrainian": "uk",
}
"""Names of languages, which people write instead of the code (ISO 639-1)."""


def service_of(base_url: str) -> Service:
    """Return the service at `base_url`, by its host or the domain of the host."""
    try:
        host = (urlsplit(base_url).hostname or "").rstrip(".")
    except ValueError:
        return Service.OTHER
    for domain, service in _HOSTS.items():
        if host == domain or host.endswith(f".{domain}"):
            return service
    return Service.OTHER


def realtime_url(base_url: str) -> str:
    """Return `base_url` as ws(s)://.../realtime, without query and trailing slash."""
    url = urlsplit(base_url)
    scheme = {"http": "ws", "https": "wss"}.get(url.scheme, url.scheme)
    path = url.path.rstrip("/").removesuffix("/realtime")
    return f"{scheme}://{url.netloc}{path}/realtime"


def default_model(service: Service) -> str:
    """Return the model of calls without a set model. At Azure it names a deployment, whose name may differ."""
    return XAI_DEFAULT_MODEL if service is Service.XAI else DEFAULT_MODEL


def default_transcription_model(service: Service) -> str:
    """Return the model that transcribes the caller where none is set."""
    return XAI_DEFAULT_TRANSCRIPTION_MODEL if service is Service.XAI else DEFAULT_TRANSCRIPTION_MODEL


def default_voice(service: Service) -> str:
    """Return the voice of calls without a set voice."""
    return XAI_DEFAULT_VOICE if service is Service.XAI else DEFAULT_VOICE


def speaks_beta(model: str) -> bool:
    """Return whether a model of this name needs the beta dialect."""
    return "-realtime-preview" in model.lower()


def replacement_of(model: str) -> str:
    """Return OpenAI's voice model of the same size as a model that was removed, or that has no voice."""
    is_small = re.search(r"(?:^|[^a-z])(?:mini|nano)(?:[^a-z]|$)", model.lower())
    return DEFAULT_SMALL_MODEL if is_small else DEFAULT_MODEL


def may_speak(model: str, service: Service) -> bool:
    """Return whether a service may have a voice model of this name.

    OpenAI's voice models are known by their names. Other services choose names freely, so only known text models
    are excluded.
    """
    name = model.lower()
    if any(mark in name for mark in _MARKS_OF_SPEECH):
        return True
    return service is not Service.OPENAI and _TEXT_MODEL.match(name) is None


def cannot_reason(model: str) -> bool:
    """Return whether the model is one of OpenAI's that refuse `reasoning`; False for unknown models."""
    name = model.lower()
    if speaks_beta(name) or name.startswith("gpt-audio"):
        return True
    return name == "gpt-realtime" or name.startswith(("gpt-realtime-1", "gpt-realtime-mini", "gpt-realtime-2025"))


def reasoning_efforts(service: Service) -> tuple[str, ...]:
    """Return the efforts that a service accepts."""
    match service:
        case Service.XAI:
            return XAI_REASONING_EFFORTS
        case Service.OTHER:
            return ("none", *REASONING_EFFORTS)
        case _:
            return REASONING_EFFORTS
