"""The check of the instructions."""

from __future__ import annotations

import pytest

from common.check.finding import State
from common.settings.roles import Role
from common.settings.settings import Settings
from tests.worker.config.web_service import Answer, json, text, web_service
from worker.check import prompt


@pytest.mark.parametrize(
    ("answer", "state", "told"),
    [
        (json({"system": "Be kind to 0123.", "voice": "marin"}), State.OK, "system, voice"),
        (json({"voice": "marin"}), State.WARN, "voice"),
        (text("no", status=503), State.FAIL, "HTTP 503"),
    ],
)
async def test_answer_of_the_service_decides(answer: Answer, state: State, told: str) -> None:
    async with web_service(answer) as service:
        variables = {"OPENAI_API_KEY": "k", "REDIS_URL": "redis://h"}
        url = f"{service.url}/prompt?token=t0p-s3cret"
        settings = Settings.parse(variables | {"OPENAI_URL_INSTRUCTIONS": url}, Role.WORKER)
        (check,) = prompt.checks(settings)
        (found,) = await check.run(10)
    assert found.state is state
    assert told in found.what
    assert "0123" not in found.what
    assert "s3cret" not in repr(found)
