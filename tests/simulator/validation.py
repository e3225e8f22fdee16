"""A check of Realtime API events against the models of the `openai` package, which know all fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import orjson
from openai.types.beta import realtime as beta
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import BaseModel


def _by_type(union: Any) -> dict[str, type[BaseModel]]:
    models = get_args(get_args(union)[0])
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in models}


CLIENT_EVENTS = _by_type(RealtimeClientEvent)
SERVER_EVENTS = _by_type(RealtimeServerEvent)

BETA_CLIENT_EVENTS = _by_type(beta.RealtimeClientEvent)
BETA_SERVER_EVENTS = _by_type(beta.RealtimeServerEvent)

# The package types `session` in server events by the fields that a client may send; the service also sends these.
_SENT_BY_THE_SERVICE = frozenset({"session.id", "session.object", "session.expires_at"})


# Fields that the beta service sent as well.
_SENT_BY_BETA = frozenset(
    {"session.object", "session.expires_at"}
    | {f"response.usage.input_token_details.{name}" for name in ("cached_tokens_details", "image_tokens")}
)


class InvalidEventError(AssertionError):
    """An event that the `openai` package does not allow."""


def validate_server_event(event: dict[str, Any]) -> BaseModel:
    """Return a client event as the model of its type.

    Raises:
        InvalidEventError: its type is unknown; a field is missing, unknown or of a wrong type.
    """
    allowed = _SENT_BY_THE_SERVICE if event.get("type") in ("session.created", "session.updated") else frozenset()
    return _validated(SERVER_EVENTS, event, allowed)


def validate_client_event(event: dict[str, Any]) -> BaseModel:
    """Return a server event as the model of its type.

    Raises:
        InvalidEventError: its type is unknown; a field is missing, unknown or of a wrong type.
    """
    return _validated(CLIENT_EVENTS, event, frozenset())


def validate_beta_server_event(event: dict[str, Any]) -> BaseModel:
    """Return a client event of the beta dialect as the model of its type.

    Raises:
        InvalidEventError: its type is unknown; a field is missing, unknown or of a wrong type.
    """
    return _validated(BETA_SERVER_EVENTS, event, _SENT_BY_BETA)


def validate_beta_client_event(event: dict[str, Any]) -> BaseModel:
    """Return a server event of the beta dialect as the model of its type.

    Raises:
        InvalidEventError: its type is unknown; a field is missing, unknown or of a wrong type.
    """
    return _validated(BETA_CLIENT_EVENTS, event, frozenset())


def _validated(models: dict[str, type[BaseModel]], event: dict[str, Any], allowed: frozenset[str]) -> BaseModel:
    kind = str(event.get("type"))
    if kind not in models:
        raise InvalidEventError(f"there is no event of type {kind}")
    try:
        model = models[kind].model_validate_json(orjson.dumps(event), strict=True)
    except ValueError as error:
        raise InvalidEventError(f"{kind}: {error}") from error
    unknown = set(_extras(model, "")) - allowed
    if unknown:
        raise InvalidEventError(f"{kind} has unknown fields: {', '.join(sorted(unknown))}")
    return model


def _extras(value: object, path: str) -> Iterator[str]:
    """Yield the paths of all fields that the models do not know."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}{name}"
        for name in type(value).model_fields:
            yield from _extras(getattr(value, name), f"{path}{name}.")
    elif isinstance(value, list):
        for element in value:
            yield from _extras(element, path)
