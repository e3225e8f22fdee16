from __future__ import annotations

from common.settings.settings import Settings
from worker.tools.environment import WITHHELD, ToolEnvironment


def test_every_secret_among_the_settings_is_withheld() -> None:
    typed = {name.upper() for name, each in Settings.model_fields.items() if "Secret" in str(each.annotation)}
    named = {
        "OPENAI_API_KEY",
        "ADMIN_TOKEN",
        "SAFETY_IDENTIFIER_SECRET",
        "TLS_KEY",
        "CLUSTER_TLS_KEY",
        "REDIS_URL",
    }
    assert typed | named <= WITHHELD


def test_settings_that_hold_no_secret_are_not_withheld() -> None:
    assert not WITHHELD & {
        "OPENAI_MODEL",
        "OPENAI_BASE_URL",
        "TOOLS_DIR",
        "TLS_CERT",
        "AMI_URL",
        "OPENAI_MAX_TOKENS",
    }


def test_only_variables_that_are_set_count_as_withheld() -> None:
    environment = ToolEnvironment.of(
        {"STS_TOKEN": "x", "admin_token": "y", "STS_TOKEN_FILE": "/z", "MY_TOKEN": "w"}
    )
    assert environment.variables == {"MY_TOKEN": "w"}
    assert environment.withheld == ("STS_TOKEN", "STS_TOKEN_FILE", "admin_token")


def test_granted_variable_is_kept_in_any_case() -> None:
    environment = ToolEnvironment.of({"STS_TOKEN": "x", "admin_token": "y"}, granted=["ADMIN_TOKEN"])
    assert environment.variables == {"admin_token": "y"}
    assert environment.withheld == ("STS_TOKEN",)


def test_keys_of_collectors_are_withheld_from_tools() -> None:
    address, name = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME"
    headers = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
    environment = ToolEnvironment.of(dict.fromkeys((address, name, *headers), "x"))
    assert sorted(environment.variables) == [address, name]
    assert environment.withheld == headers
    assert ToolEnvironment.of({headers[0]: "x"}, granted=[headers[0]]).withheld == ()


def test_repr_shows_no_values() -> None:
    assert "secret" not in repr(ToolEnvironment.of({"MY_TOKEN": "secret", "STS_TOKEN": "secret"}))
