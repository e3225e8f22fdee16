"""Variables that look like settings and are not, and meaningless lines of `.env`."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from common.settings import env_file
from common.settings.roles import Role
from common.settings.settings import Settings
from common.settings.unknown_names import MAX_NAMED
from tests.common.settings.parsing import parse


def notices(role: Role = Role.SERVE, /, **variables: str) -> tuple[str, ...]:
    return parse(role, **variables).notices


class TestNames:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("OPENAI_INSTRUCTION", "OPENAI_INSTRUCTIONS"),
            ("OPENAI_VOCE", "OPENAI_VOICE"),
            ("OPENAI_INSTRUCTIONS_FILE", "OPENAI_FILE_INSTRUCTIONS"),
            ("OPENAI_INSTRUCTIONS_URL", "OPENAI_URL_INSTRUCTIONS"),
            ("OPENAI_MAX_TOKEN", "OPENAI_MAX_TOKENS"),
            ("OPENAI_API_KEYS", "OPENAI_API_KEY"),
            ("OPENAI_APIKEY_FILE", "OPENAI_API_KEY_FILE"),
            ("TRANSFER_ALOWED", "TRANSFER_ALLOWED"),
            ("STS_TOKENS", "STS_TOKEN"),
            ("CLUSTER_TLS_CERTS", "CLUSTER_TLS_CERT"),
            ("MAX_CALL_SECOND", "MAX_CALL_SECONDS"),
            ("REDIS_URI", "REDIS_URL"),
            ("LOG_LEVELS", "LOG_LEVEL"),
        ],
    )
    def test_a_misspelt_name_is_reported_with_the_nearest(self, name: str, meant: str) -> None:
        assert notices(**{name: "x"}) == (f"{name} is not a setting and has no effect: did you mean {meant}?",)

    def test_a_name_unlike_any_setting_is_reported_alone(self) -> None:
        assert notices(OPENAI_ZZZ="x") == ("OPENAI_ZZZ is not a setting and has no effect",)

    @pytest.mark.parametrize(
        "name",
        [
            *("PROVIDER_STS_ID", "PROVIDER_STS_NAME", "AGENT_ID", "AGENT_NAME", "STS_URL", "LLM_URL", "HTTP_PORT"),
            *(
                "AMI_HOST",
                "AMI_PORT",
                "AMI_USERNAME",
                "AMI_PASSWORD",
                "ARI_URL",
                "ADMIN_USERNAME",
                "ADMIN_PASSWORD",
            ),
            *("OPENAI_LOG", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_TYPE", "OPENAI_ASSISTANT_ID"),
            *("OPENAI_API_BASE", "OPENAI_WEBHOOK_SECRET", "OPENAI_AGENTS_DISABLE_TRACING", "OPENAI_TTS_MODEL"),
            *("PATH", "HOME", "LOG_FILE", "TOOL_OF_MINE", "TOOLS_VERSION", "MAX_CALLS_PER_DAY", "SESSION_SECRET"),
            *("REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "REDIS_PORT_6379_TCP", "WORKER_PORT_7000_TCP_ADDR"),
            *("FTP_PROXY", "CALL_CENTER", "AVR_STS_INDEX", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
        ],
    )
    def test_a_name_of_another_program_is_not_reported(self, name: str) -> None:
        assert notices(**{name: "x"}) == ()

    def test_a_name_granted_to_tools_is_not_reported(self) -> None:
        assert notices(OPENAI_MY_TOOL="x", TOOLS_ENV="OPENAI_MY_TOOL") == ()

    def test_the_value_of_an_unknown_name_is_not_shown(self) -> None:
        (line,) = notices(OPENAI_API_KEYS="sk-secret-of-mine")
        assert "sk-secret" not in line

    def test_an_empty_variable_is_not_reported(self) -> None:
        assert notices(OPENAI_VOCE="") == ()

    def test_a_dispatcher_does_not_report_names_of_workers(self) -> None:
        assert notices(Role.DISPATCHER, OPENAI_VOCE="x") == ()
        assert len(notices(Role.DISPATCHER, STS_TOKENS="x")) == 1

    def test_many_names_are_bounded(self) -> None:
        lines = notices(**{f"OPENAI_ZZZ{index}": "x" for index in range(MAX_NAMED + 5)})
        assert len(lines) == MAX_NAMED + 1
        assert lines[-1] == "5 more variables are not settings and have no effect"

    def test_a_long_name_is_cut(self) -> None:
        (line,) = notices(**{"OPENAI_" + "X" * 10_000: "x"})
        assert len(line) < 200

    def test_strict_settings_do_not_refuse_names(self) -> None:
        assert len(notices(OPENAI_VOCE="x", STRICT_SETTINGS="true")) == 1


class TestToolsDir:
    def test_a_set_and_missing_folder_is_reported(self) -> None:
        assert notices(TOOLS_DIR="/nowhere/tools") == (
            "TOOLS_DIR='/nowhere/tools' is not a folder: none of your tools are loaded",
        )

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        file = tmp_path / "tool.py"
        file.write_text("")
        assert len(notices(TOOLS_DIR=str(file))) == 1

    def test_an_inaccessible_folder_is_reported(self, tmp_path: Path) -> None:
        assert len(notices(TOOLS_DIR=str(tmp_path / ("x" * 300)))) == 1

    def test_the_default_may_be_missing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        assert notices() == ()

    def test_a_dispatcher_has_no_tools(self) -> None:
        assert notices(Role.DISPATCHER, TOOLS_DIR="/nowhere/tools") == ()


class TestEnvFile:
    @pytest.fixture(autouse=True)
    def folder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        monkeypatch.chdir(tmp_path)
        for name in ("OPENAI_API_KEY", "OPENAI_VOICE", "REDIS_URL", "PORT"):
            monkeypatch.delenv(name, raising=False)
        return tmp_path

    def load(self, text: str) -> Settings:
        Path(".env").write_text(text)
        return Settings.load(Role.SERVE)

    def test_invalid_lines_are_reported_once(
        self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        caplog.set_level(logging.DEBUG)
        settings = self.load("OPENAI_API_KEY=k\nOPENAI_VOICE: s3cret\n\n# fine\nnot a s3cret line\nPORT=7001\n")
        assert (settings.port, settings.openai_voice) == (7001, "alloy")
        assert settings.notices == (".env: lines 2, 5 are not NAME=value and have no effect",)
        assert caplog.records == []
        assert capfd.readouterr() == ("", "")

    def test_an_invalid_line_is_reported_by_its_number(self) -> None:
        settings = self.load("OPENAI_API_KEY=k\nexport OPENAI_VOICE marin\n")
        assert settings.notices == (".env: line 2 is not NAME=value and has no effect",)

    def test_many_lines_are_bounded(self) -> None:
        settings = self.load("OPENAI_API_KEY=k\n" + "no line\n" * 1000)
        (line,) = settings.notices
        assert line.endswith(f" and {1000 - env_file.MAX_LINES} more are not NAME=value and have no effect")

    def test_an_unclosed_quotation_is_reported(self) -> None:
        settings = self.load("OPENAI_API_KEY=k\nOPENAI_VOICE='marin\nPORT=7001\n")
        assert settings.notices == (".env: line 2 is not NAME=value and has no effect",)
        assert settings.port == 7001

    def test_valid_lines_are_read_as_before(self) -> None:
        settings = self.load(
            "# ours\nexport OPENAI_API_KEY='k'\nopenai_voice=ash # warm\nPORT=\nHOST=h\n"
            'AMI_URL=http://${HOST}:1\nOPENAI_INSTRUCTIONS="a\\nb"\nLONELY\n'
        )
        assert (settings.openai_voice, settings.port, settings.ami_url) == ("ash", 6030, "http://h:1")
        assert settings.openai_instructions == "a\nb"
        assert settings.notices == ()

    def test_misspelt_names_in_the_env_file_are_reported(self) -> None:
        settings = self.load("OPENAI_API_KEY=k\nOPENAI_VOCE=ash\n")
        assert settings.notices == ("OPENAI_VOCE is not a setting and has no effect: did you mean OPENAI_VOICE?",)
