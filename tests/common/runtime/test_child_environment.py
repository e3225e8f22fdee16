from __future__ import annotations

import pytest

from common.runtime.child_environment import environment_of
from common.settings.roles import Role
from tests.common.secrets_of_roles import OF_DISPATCHERS, OF_WORKERS, TOKEN, WRITTEN

OF_BOTH = {"CLUSTER_TOKEN", "REDIS_URL", "REDIS_URL_PASSWORD", "REDIS_SENTINEL_PASSWORD"}


@pytest.mark.parametrize(
    ("role", "names"),
    [("dispatcher", OF_DISPATCHERS | OF_BOTH), ("worker", OF_WORKERS | OF_BOTH), ("serve", WRITTEN)],
)
def test_an_environment_has_the_secrets_of_its_role_alone(role: str, names: set[str]) -> None:
    variables = WRITTEN | {"PATH": "/bin", "OPENAI_MODEL": "gpt-realtime", "CRM_TOKEN": "of-a-tool"}
    kept = environment_of(Role(role), variables)
    assert kept == {name: variables[name] for name in {*names, "PATH", "OPENAI_MODEL", "CRM_TOKEN"}}


def test_names_in_small_letters_and_files_are_withheld_too() -> None:
    variables = {"openai_api_key": "k", "OPENAI_API_KEY_FILE": "/run/secrets/key", "Openai_Api_Key_File": "x"}
    assert environment_of(Role.DISPATCHER, variables) == {}
    assert environment_of(Role.WORKER, variables) == variables


def test_the_embedded_redis_gets_no_setting() -> None:
    variables = WRITTEN | {"PATH": "/bin", "port": "1", "ADMIN_TOKEN_FILE": "x", "AVR_STS_INDEX": "1", "TZ": "UTC"}
    assert environment_of(None, variables) == {"PATH": "/bin", "TZ": "UTC"}


def test_variables_granted_to_tools_reach_workers_alone() -> None:
    variables, granted = {"STS_TOKEN": TOKEN, "OPENAI_API_KEY": "k"}, ["STS_TOKEN", "OPENAI_API_KEY"]
    assert environment_of(Role.WORKER, variables, granted) == variables
    assert environment_of(Role.DISPATCHER, variables, granted) == {"STS_TOKEN": TOKEN}
