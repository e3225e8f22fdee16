"""`docs/openapi.yaml` agrees with the routes, and with the answers of a running service."""

from __future__ import annotations

from typing import Any, Final

import aiohttp
import pytest
import yaml
from jsonschema import Draft202012Validator

from common.runtime.release import RELEASE
from simulator.realtime.server import RealtimeSimulator
from tests.docs.blocks import REPOSITORY, document
from tests.docs.names import routes
from tests.helpers import eventually
from tests.scenarios.conversations import BRIEF, converse, place
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster

API: Final[dict[str, Any]] = yaml.safe_load((REPOSITORY / "docs/openapi.yaml").read_text("utf-8"))
METHODS: Final = {"get", "post", "delete"}


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Return all operations by method and path."""
    return {
        (method.upper(), path): operation
        for path, item in API["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def schema_of(method: str, path: str) -> dict[str, Any]:
    """Return the schema of an operation's answer; its references lead to the same file."""
    schema: dict[str, Any] = operations()[method, path]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    return schema | {"components": API["components"]}


def test_it_has_every_request_and_no_other() -> None:
    assert operations().keys() == routes()
    assert API["info"]["version"] == RELEASE


def test_it_selects_by_what_the_code_reads() -> None:
    named = {each["name"] for each in operations()["GET", "/calls"]["parameters"]}
    sources = "".join(file.read_text("utf-8") for file in (REPOSITORY / "dispatcher/api").glob("*.py"))
    assert {name for name in named if f'"{name}"' not in sources} == set()


def test_schemas_are_schemas() -> None:
    for name, schema in API["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object", name


@pytest.mark.parametrize("operation", operations(), ids=" ".join)
def test_page_has_an_example_of_each_request(operation: tuple[str, str]) -> None:
    method, path = operation
    if path in ("/", "/livez", "/readyz", "/metrics"):
        return
    asked = path.replace("{uuid}", "$UUID")
    lines = [
        line
        for line in document("api.md").splitlines()
        if f'"$ADMIN{asked}"' in line or f'"$ADMIN{asked}?' in line
    ]
    used = {line.partition("-X ")[2].partition(" ")[0] or "GET" for line in lines}
    assert method in used


async def test_answers_of_a_service_fit(real_redis_url: str) -> None:
    async with (
        RealtimeSimulator(BRIEF) as simulator,
        Cluster(real_redis_url, simulator.url, CALL_RECORDS_KEEP_SECONDS=600) as cluster,
        aiohttp.ClientSession() as http,
    ):
        await cluster.start(workers=1)
        call = await place(cluster)
        await converse(call)
        admin_url = await cluster.admin_url()

        async def answer(path: str, shown: str = "", method: str = "GET", status: int = 200) -> Any:
            async with http.request(method, admin_url + path.replace("{uuid}", call.uuid) + shown) as response:
                assert response.status == status
                return await response.json()

        for path in ("/page-call", "/service", "/workers", "/calls", "/calls/{uuid}"):
            found = await answer(path)
            assert found
            Draft202012Validator(schema_of("GET", path)).validate(found)
        missing = await answer("/calls/nobody", status=404)
        error = API["components"]["responses"]["Error"]["content"]["application/json"]["schema"]
        Draft202012Validator(error).validate(missing)
        await answer("/calls/{uuid}", method="DELETE")

        async def is_recorded() -> bool:
            return bool(await answer("/calls", "?ended"))

        await eventually(is_recorded, PATIENCE_SECONDS)
        Draft202012Validator(schema_of("GET", "/calls")).validate(await answer("/calls", "?ended"))
        Draft202012Validator(schema_of("GET", "/calls/{uuid}/record")).validate(
            await answer("/calls/{uuid}/record")
        )
