from __future__ import annotations

import inspect
import re
from datetime import date
from typing import get_args

import pytest
from openai.types.realtime import AudioTranscription, RealtimeSessionCreateRequest
from openai.types.realtime.realtime_audio_config_output import Voice
from openai.types.realtime.realtime_reasoning_effort import RealtimeReasoningEffort

from common.settings import models
from common.settings.models import Service, Shutdown


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("wss://api.openai.com/v1/realtime", Service.OPENAI),
        ("https://API.OpenAI.com", Service.OPENAI),
        ("https://api.openai.com.", Service.OPENAI),
        ("https://eu.api.openai.com:443/v1", Service.OPENAI),
        ("https://me.openai.azure.com", Service.AZURE),
        ("https://me.services.ai.azure.com/openai/v1", Service.AZURE),
        ("https://me.cognitiveservices.azure.com", Service.AZURE),
        ("wss://api.x.ai/v1/realtime", Service.XAI),
        ("wss://us-east-1.api.x.ai/v1", Service.XAI),
        ("ws://127.0.0.1:8080", Service.OTHER),
        ("https://api.openai.com.example.org/v1", Service.OTHER),
        ("https://notapi.x.ai.example", Service.OTHER),
        ("https://evilapi.openai.com", Service.OTHER),
        ("https://[broken", Service.OTHER),
        ("", Service.OTHER),
    ],
)
def test_the_service_is_known_by_the_host(url: str, service: Service) -> None:
    assert models.service_of(url) is service


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://h/v1", "wss://h/v1/realtime"),
        ("http://h:8080/", "ws://h:8080/realtime"),
        ("wss://h/v1/realtime/", "wss://h/v1/realtime"),
    ],
)
def test_the_realtime_url(base: str, url: str) -> None:
    assert models.realtime_url(base) == url


def _announced(docstring: str) -> dict[str, date]:
    """Model → day of its shutdown, as a docstring of the `openai` package says it."""
    found = re.findall(r'- ((?:"[\w.-]+",?\s+)*"[\w.-]+"):\s+Announced shutdown\s+date:\s+(\S+?)\.', docstring)
    return {name: date.fromisoformat(day) for names, day in found for name in re.findall(r'"([\w.-]+)"', names)}


@pytest.mark.parametrize(
    ("model", "shutdowns"),
    [
        (RealtimeSessionCreateRequest, models.MODEL_SHUTDOWNS),
        (AudioTranscription, models.TRANSCRIPTION_SHUTDOWNS),
    ],
)
def test_every_shutdown_in_the_openai_package_is_known(
    model: type[RealtimeSessionCreateRequest | AudioTranscription], shutdowns: dict[str, Shutdown]
) -> None:
    announced = _announced(inspect.getsource(model))
    assert len(announced) >= 5
    assert {name: shutdowns[name].day for name in announced} == announced


@pytest.mark.parametrize("shutdowns", [models.MODEL_SHUTDOWNS, models.TRANSCRIPTION_SHUTDOWNS])
def test_no_replacement_is_to_be_shut_down_itself(shutdowns: dict[str, Shutdown]) -> None:
    assert not {shutdown.replacement for shutdown in shutdowns.values()} & shutdowns.keys()


def test_voices_and_efforts_are_those_of_the_openai_package() -> None:
    _, literal, _ = get_args(Voice)
    assert get_args(literal) == models.VOICES
    assert get_args(RealtimeReasoningEffort) == models.REASONING_EFFORTS


@pytest.mark.parametrize(
    ("model", "beta", "no_reasoning"),
    [
        ("gpt-4o-realtime-preview", True, True),
        ("gpt-4o-mini-realtime-preview-2024-12-17", True, True),
        ("gpt-realtime", False, True),
        ("gpt-realtime-2025-08-28", False, True),
        ("gpt-realtime-1.5", False, True),
        ("gpt-realtime-mini", False, True),
        ("gpt-realtime-2", False, False),
        ("gpt-realtime-2.1-mini", False, False),
        ("my-deployment", False, False),
    ],
)
def test_the_name_of_a_model_shows_its_features(model: str, beta: bool, no_reasoning: bool) -> None:
    assert models.speaks_beta(model) is beta
    assert models.cannot_reason(model) is no_reasoning


@pytest.mark.parametrize(
    ("model", "replacement"),
    [
        ("gpt-4o-realtime-preview", "gpt-realtime-2.1"),
        ("gpt-4o-mini-realtime-preview-2024-12-17", "gpt-realtime-2.1-mini"),
        ("gpt-3.5-turbo", "gpt-realtime-2.1"),
        ("gpt-4o-mini", "gpt-realtime-2.1-mini"),
        ("gpt-5-nano", "gpt-realtime-2.1-mini"),
        ("gemini-2.5-flash", "gpt-realtime-2.1"),
    ],
)
def test_a_model_is_replaced_by_one_of_its_size(model: str, replacement: str) -> None:
    assert models.replacement_of(model) == replacement
