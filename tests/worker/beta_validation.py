"""Events of the beta dialect checked against the models of the `openai` package (`openai.types.beta.realtime`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openai.types.beta.realtime import ConversationItemCreateEvent, ResponseCreateEvent, SessionUpdateEvent
from pydantic import BaseModel

_MODELS: dict[str, type[BaseModel]] = {
    "session.update": SessionUpdateEvent,
    "response.create": ResponseCreateEvent,
    "conversation.item.create": ConversationItemCreateEvent,
}


def validate_beta_event(event: dict[str, Any]) -> None:
    """Check a client event.

    Raises:
        AssertionError: it has a field that its model does not know.
        pydantic.ValidationError: a field is missing or of a wrong type.
    """
    unknown = list(_extras(_MODELS[event["type"]].model_validate(event, strict=True)))
    assert not unknown, f"{event['type']} has unknown fields: {unknown}"


def _extras(value: object) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from value.model_extra or ()
        for name in type(value).model_fields:
            yield from _extras(getattr(value, name))
    elif isinstance(value, list):
        for element in value:
            yield from _extras(element)
