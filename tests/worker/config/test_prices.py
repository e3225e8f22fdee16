from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from common.errors import SettingsError
from common.settings import models
from worker.config.prices import MAX_FILE_BYTES, MAX_NAMED_MODELS, PRICES_FILE, Prices
from worker.realtime.usage import TranscriptionUsage, Usage

_MILLION = 1_000_000

_OWN: dict[str, Any] = {
    "date": "2026-01-31",
    "currency": "USD",
    "per_tokens": _MILLION,
    "models": {
        "house-voice": {
            "source": "contract of 2026",
            "checked": "2026-01-31",
            "text": {"input": 1, "cached_input": 2, "output": 4},
            "audio": {"input": 8, "cached_input": 16, "output": 32.5},
        }
    },
    "transcription": {
        "house-minutes": {"source": "contract of 2026", "checked": "2026-01-31", "minute": 0.6},
        "house-tokens": {
            "source": "contract of 2026",
            "checked": "2026-01-31",
            "tokens": {"input_text": 1, "input_audio": 2, "output_text": 4},
        },
    },
    "aliases": {"house-voice-2026": "house-voice", "house-minutes-2026": "house-minutes"},
}

Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: Any) -> Path:
        path = tmp_path / "my prices.json"
        path.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
        return path

    return write


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(input_text=_MILLION), 1),
        (Usage(cached_text=_MILLION), 2),
        (Usage(output_text=_MILLION), 4),
        (Usage(input_audio=_MILLION), 8),
        (Usage(cached_audio=_MILLION), 16),
        (Usage(output_audio=_MILLION), 32.5),
        (Usage(1, 10, 100, 1_000, 10_000, 100_000), (1 + 80 + 200 + 16_000 + 40_000 + 3_250_000) / _MILLION),
        (Usage(), 0),
    ],
)
def test_each_class_of_tokens_has_its_price(write: Write, usage: Usage, dollars: float) -> None:
    assert Prices.load(write(_OWN)).cost_usd("house-voice", usage) == pytest.approx(dollars)


def test_an_operators_file_replaces_the_services(write: Write) -> None:
    prices = Prices.load(write(_OWN))
    assert prices.cost_usd("gpt-realtime-2", Usage(input_text=1)) is None
    assert prices.date.isoformat() == "2026-01-31"


def test_a_dated_model_is_priced_as_its_model_only_by_the_file(write: Write) -> None:
    prices = Prices.load(write(_OWN))
    usage = Usage(output_audio=7)
    assert prices.cost_usd("house-voice-2026", usage) == prices.cost_usd("house-voice", usage)
    assert prices.cost_usd("house-voice-2027", usage) is None


# Transcription.


@pytest.mark.parametrize(
    ("model", "usage", "dollars"),
    [
        ("house-minutes", TranscriptionUsage(seconds=60), 0.6),
        ("house-minutes-2026", TranscriptionUsage(seconds=1.5), 0.015),
        ("house-tokens", TranscriptionUsage(input_text=_MILLION), 1),
        ("house-tokens", TranscriptionUsage(input_audio=_MILLION), 2),
        ("house-tokens", TranscriptionUsage(output_text=_MILLION), 4),
        ("house-tokens", TranscriptionUsage(), 0),
    ],
)
def test_a_transcription_costs_by_minutes_or_tokens(
    write: Write, model: str, usage: TranscriptionUsage, dollars: float
) -> None:
    assert Prices.load(write(_OWN)).transcription_cost_usd(model, usage) == pytest.approx(dollars)


@pytest.mark.parametrize(
    ("model", "usage", "unit"),
    [
        ("house-minutes", TranscriptionUsage(input_audio=5), "tokens"),
        ("house-tokens", TranscriptionUsage(seconds=5), "minute"),
        ("house-voice", TranscriptionUsage(seconds=5), "minute"),
        ("nobodys", TranscriptionUsage(input_audio=5), "tokens"),
    ],
)
def test_a_transcription_without_a_price_warns_once(
    write: Write, model: str, usage: TranscriptionUsage, unit: str
) -> None:
    prices = Prices.load(write(_OWN))
    with capture_logs() as lines:
        for _ in range(3):
            assert prices.transcription_cost_usd(model, usage) is None
    assert [(line["log_level"], line["model"], line["priced_by"]) for line in lines] == [("warning", model, unit)]


def test_a_price_file_may_have_no_transcription(write: Write) -> None:
    prices = Prices.load(write(_without("transcription") | {"aliases": {}}))
    assert prices.cost_usd("house-voice", Usage(input_text=_MILLION)) == 1


@pytest.mark.parametrize("model", sorted({*models.TRANSCRIPTION_SHUTDOWNS, models.DEFAULT_TRANSCRIPTION_MODEL}))
def test_current_transcription_models_have_a_price(model: str) -> None:
    prices = Prices.load()
    usages = (TranscriptionUsage(seconds=60), TranscriptionUsage(input_audio=600, output_text=200))
    with capture_logs():
        costs = [prices.transcription_cost_usd(model, each) for each in usages]
    assert any(cost is not None and 0 < cost < 0.02 for cost in costs)


# The service's own file.


@pytest.mark.parametrize(
    "model",
    [
        models.DEFAULT_MODEL,
        "gpt-realtime-2",
        "gpt-realtime-2.1",
        "gpt-realtime-2.1-mini",
        "gpt-realtime-1.5",
        "gpt-realtime",
        "gpt-realtime-2025-08-28",
        "gpt-realtime-mini",
        "gpt-realtime-mini-2025-12-15",
        "gpt-4o-realtime-preview-2025-06-03",
    ],
)
def test_current_models_have_a_price(model: str) -> None:
    cost = Prices.load().cost_usd(model, Usage(1, 1, 1, 1, 1, 1))
    assert cost is not None
    assert cost > 0


def test_a_minute_of_a_call_costs_what_openais_page_says() -> None:
    """gpt-realtime-2: 30 s of the caller are 300 tokens at $32, 30 s of the model 600 at $64."""
    usage = Usage(input_audio=300, output_audio=600)
    assert Prices.load().cost_usd("gpt-realtime-2", usage) == pytest.approx(0.0096 + 0.0384)


def test_each_price_has_a_source_no_newer_than_the_file() -> None:
    file = orjson.loads(PRICES_FILE.read_bytes())
    for model in file["models"].values():
        assert model["source"].startswith("https://")
        assert model["checked"] <= file["date"]
        for kind in ("text", "audio"):
            assert 0 < model[kind]["cached_input"] < model[kind]["input"] < model[kind]["output"]
    for model in file["transcription"].values():
        assert model["source"].startswith("https://")
        assert model["checked"] <= file["date"]


# A model without a price.


def test_a_model_without_a_price_is_named_once() -> None:
    prices = Prices.load()
    with capture_logs() as lines:
        for _ in range(3):
            assert prices.cost_usd("gpt-realtime-9", Usage(input_text=5)) is None
        prices.cost_usd("gpt-realtime-2", Usage(input_text=5))
    assert [(line["log_level"], line["model"]) for line in lines] == [("warning", "gpt-realtime-9")]


def test_the_log_does_not_name_without_end_what_calls_bring() -> None:
    prices = Prices.load()
    with capture_logs() as lines:
        for number in range(MAX_NAMED_MODELS + 50):
            prices.cost_usd(f"model-{number}", Usage())
    assert len(lines) == MAX_NAMED_MODELS


# Wrong files.


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in _OWN.items() if key != name}


def _with_price(value: object) -> dict[str, Any]:
    model = _OWN["models"]["house-voice"] | {"text": {"input": value, "cached_input": 1, "output": 1}}
    return _OWN | {"models": {"house-voice": model}}


def _with_transcription(prices: dict[str, Any]) -> dict[str, Any]:
    entry = {"source": "contract of 2026", "checked": "2026-01-31", **prices}
    return _OWN | {"transcription": {"t": entry}, "aliases": {}}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "is not JSON"),
        ([], "dictionary"),
        (_without("models"), "models: Field required"),
        (_OWN | {"currency": "EUR"}, "currency: Input should be 'USD'"),
        (_OWN | {"per_tokens": 1000}, "per_tokens: Input should be 1000000"),
        (_OWN | {"discount": 1}, "discount: Extra inputs are not permitted"),
        (_OWN | {"date": "last week"}, "date: Input should be a valid date"),
        (_with_price(-1), "models.house-voice.text.input: Input should be greater than or equal to 0"),
        (_with_price("cheap"), "models.house-voice.text.input: Input should be a valid number"),
        (_with_price("1.5"), "models.house-voice.text.input: Input should be a valid number"),
        (_with_price(True), "models.house-voice.text.input: Input should be a valid number"),
        (_with_price(None), "models.house-voice.text.input: Input should be a valid number"),
        (_OWN | {"aliases": {"a": "b"}}, "aliases.a is 'b', which is none of the models"),
        (_OWN | {"aliases": {"house-voice": "house-voice"}}, "has prices of its own"),
        (_OWN | {"aliases": {"house-minutes": "house-minutes"}}, "has prices of its own"),
        (_with_transcription({}), "transcription.t: minute or tokens is needed"),
        (
            _with_transcription({"minute": -1}),
            "transcription.t.minute: Input should be greater than or equal to 0",
        ),
        (_with_transcription({"tokens": {"input_text": 1}}), "transcription.t.tokens.input_audio: Field required"),
        (b" " * (MAX_FILE_BYTES + 1), "more than"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(write: Write, content: Any, problem: str) -> None:
    path = write(content)
    with pytest.raises(SettingsError) as refused:
        Prices.load(path)
    assert str(refused.value).startswith(f"PRICES_FILE={str(path)!r} ")
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"PRICES_FILE='.*none.json' cannot be read: No such file"):
        Prices.load(tmp_path / "none.json")


def test_prices_that_are_too_deep_are_refused_in_one_line(tmp_path: Path) -> None:
    for levels in (91, 2000):
        path = tmp_path / "prices.json"
        path.write_text('{"models":' + "[" * levels + "]" * levels + "}")
        with pytest.raises(SettingsError, match="nested deeper than 90 levels"):
            Prices.load(path)
