"""Prices of tokens and of transcribed minutes, from a dated file.

The file is `prices.json` beside this module, or an operator's own (PRICES_FILE). Prices are in US dollars for a
million tokens, as OpenAI publishes them. Some transcription models are priced by the minute of audio instead. A
model has a price if the file has its name, or has it as an alias (a dated snapshot) of another model. Similar
names do not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal

import orjson
import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from common.errors import SettingsError
from common.net import json_depth
from worker.realtime.usage import TranscriptionUsage, Usage

PRICES_FILE: Final = Path(__file__).with_name("prices.json")

MAX_FILE_BYTES: Final = 1 << 20
MAX_NAMED_MODELS: Final = 100
"""Models without a price that the log names; a call may bring any name."""

TOKENS_PER_PRICE: Final = 1_000_000
SECONDS_PER_PRICE: Final = 60

Price = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModalityPrices(_Strict):
    """US dollars for a million tokens of one modality."""

    input: Price
    cached_input: Price
    output: Price


class ModelPrices(_Strict):
    """Prices of a model, where they come from, and when that was looked at."""

    source: str = Field(min_length=1)
    checked: date
    text: ModalityPrices
    audio: ModalityPrices


class TranscriptionTokenPrices(_Strict):
    """US dollars for a million tokens of a transcription."""

    input_text: Price
    input_audio: Price
    output_text: Price


class TranscriptionPrices(_Strict):
    """Prices of a model that transcribes: by the minute of audio, by tokens, or both."""

    source: str = Field(min_length=1)
    checked: date
    minute: Price | None = None
    tokens: TranscriptionTokenPrices | None = None

    @model_validator(mode="after")
    def _has_a_price(self) -> TranscriptionPrices:
        if self.minute is None and self.tokens is None:
            raise ValueError("minute or tokens is needed")
        return self


class PriceFile(_Strict):
    """The file: prices by the model's name, and other names of these models."""

    date: date
    currency: Literal["USD"]
    per_tokens: Literal[1_000_000]
    models: dict[str, ModelPrices]
    transcription: dict[str, TranscriptionPrices] = {}
    aliases: dict[str, str] = {}

    @model_validator(mode="after")
    def _aliases_lead_to_prices(self) -> PriceFile:
        for alias, model in self.aliases.items():
            if model not in self.models and model not in self.transcription:
                raise ValueError(f"aliases.{alias} is {model!r}, which is none of the models")
            if alias in self.models or alias in self.transcription:
                raise ValueError(f"aliases.{alias} has prices of its own among the models")
        return self


class Prices:
    """Prices of models."""

    def __init__(self, file: PriceFile) -> None:
        self.date = file.date
        self._models: Mapping[str, ModelPrices] = file.models | {
            alias: file.models[model] for alias, model in file.aliases.items() if model in file.models
        }
        self._transcription: Mapping[str, TranscriptionPrices] = file.transcription | {
            alias: file.transcription[model]
            for alias, model in file.aliases.items()
            if model in file.transcription
        }
        self._named: set[str] = set()
        self._log = structlog.get_logger()

    @classmethod
    def load(cls, path: Path | None = None) -> Prices:
        """Read an operator's file, or the one of this service.

        Raises:
            SettingsError: the file cannot be read, or is invalid; in one line.
        """
        file = path or PRICES_FILE
        try:
            with file.open("rb") as stream:
                text = stream.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise SettingsError(f"PRICES_FILE={str(file)!r} cannot be read: {error.strerror}") from None
        if len(text) > MAX_FILE_BYTES:
            raise SettingsError(f"PRICES_FILE={str(file)!r} has more than {MAX_FILE_BYTES} bytes")
        try:
            return cls(PriceFile.model_validate(json_depth.read(text)))
        except json_depth.TooDeep as error:
            raise SettingsError(f"PRICES_FILE={str(file)!r} {error}") from None
        except orjson.JSONDecodeError as error:
            raise SettingsError(f"PRICES_FILE={str(file)!r} is not JSON: {error}") from None
        except ValidationError as error:
            problems = "; ".join(_problem(each["loc"], each["msg"]) for each in error.errors()[:3])
            raise SettingsError(f"PRICES_FILE={str(file)!r} is wrong: {problems}") from None

    def cost_usd(self, model: str, usage: Usage) -> float | None:
        """Return the cost of `usage`; None: the model has no price, which is logged once."""
        prices = self._models.get(model)
        if prices is None:
            self._name(model)
            return None
        text, audio = prices.text, prices.audio
        return (
            usage.input_text * text.input
            + usage.cached_text * text.cached_input
            + usage.output_text * text.output
            + usage.input_audio * audio.input
            + usage.cached_audio * audio.cached_input
            + usage.output_audio * audio.output
        ) / TOKENS_PER_PRICE

    def transcription_cost_usd(self, model: str, usage: TranscriptionUsage) -> float | None:
        """Return what a transcription costs; None: the model has no price for it, which the log says once.

        Tokens of a model that is priced by the minute have no price: nothing documents their length.
        """
        prices = self._transcription.get(model)
        if prices is not None and usage.seconds is not None and prices.minute is not None:
            return usage.seconds * prices.minute / SECONDS_PER_PRICE
        if prices is not None and usage.seconds is None and prices.tokens is not None:
            tokens = prices.tokens
            return (
                usage.input_text * tokens.input_text
                + usage.input_audio * tokens.input_audio
                + usage.output_text * tokens.output_text
            ) / TOKENS_PER_PRICE
        self._name(model, by="tokens" if usage.seconds is None else "minute")
        return None

    def _name(self, model: str, by: str = "tokens") -> None:
        if model in self._named or len(self._named) >= MAX_NAMED_MODELS:
            return
        self._named.add(model)
        self._log.warning(
            "model has no price: its use is counted, its cost is not",
            model=model,
            priced_by=by,
            prices_of=self.date.isoformat(),
            remedy="give it one in a file of your own, PRICES_FILE",
        )


def _problem(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"{'.'.join(map(str, location))}: {message}" if location else message
