"""What people, Compose files and avr-app write in place of a value."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from common.errors import SettingsError
from common.settings import fallbacks
from common.settings.roles import Role
from common.settings.settings import Settings
from tests.common.settings.parsing import NEEDED, parse, refusal

UNSET_WORDS = ("undefined", "NULL", "null", "None", '"undefined"')


ALWAYS_STOP = (
    *("port", "admin_port", "worker_port", "openai_api_key", "safety_identifier_secret"),
    *("redis_url", "redis_url_password", "redis_sentinel_password"),
    *("transfer_context", "transfer_allowed", "fallback_extension", "allowed_origins"),
    *("sts_token", "cluster_token", "admin_token", "tls_cert", "tls_key"),
    *("cluster_tls_cert", "cluster_tls_key", "cluster_tls_ca", "silence_hangup_seconds", "max_call_seconds"),
    *("tool_timeout_seconds", "dtmf_timeout_ms", "filler_after_ms", "upstream_retry_seconds"),
    *("call_reconnect_seconds", "session_rollover_seconds", "grouping_ms", "drain_seconds"),
    *("workers", "dispatchers", "worker_max_calls", "sessions_per_second"),
)
MEANT_WORDS: Final[dict[tuple[str, str], object]] = {
    ("openai_turn_detection", "none"): "none",
    ("openai_noise_reduction", "None"): None,
    ("openai_noise_reduction", "null"): None,
    ("openai_tracing", "none"): None,
    ("openai_tracing", "NULL"): None,
    ("openai_tool_choice", "None"): "none",
    ("fallback_wav", "none"): "none",
    ("fallback_wav", "NULL"): "none",
    ("filler_wav", "None"): "none",
    ("fallback_extension", "none"): None,
    ("transfer_allowed", "None"): [],
    ("max_call_seconds", "none"): None,
    ("silence_hangup_seconds", "null"): None,
}


class TestUnset:
    @pytest.mark.parametrize("word", UNSET_WORDS)
    def test_avr_apps_ami_url_counts_as_unset(self, word: str) -> None:
        settings = parse(AMI_URL=word)
        assert settings.ami_url == "http://127.0.0.1:6006"
        assert settings.notices == (f"AMI_URL={word.strip(chr(34))!r} counts as unset",)

    @pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - set(ALWAYS_STOP)))
    def test_undefined_counts_as_unset(self, name: str) -> None:
        settings = parse(**{name.upper(): "undefined"})
        assert getattr(settings, name) == getattr(parse(), name)
        assert settings.notices == (f"{name.upper()}='undefined' counts as unset",)

    @pytest.mark.parametrize("name", ALWAYS_STOP)
    @pytest.mark.parametrize("word", ["undefined", "'undefined'", "UNDEFINED"])
    def test_settings_that_always_stop_the_start_do(self, name: str, word: str) -> None:
        line = refusal(**{name.upper(): word})
        assert (
            line == f"{name.upper()}={word.strip(chr(39))!r} is not a value: set a value, or remove the variable"
        )

    @pytest.mark.parametrize("name", sorted(set(ALWAYS_STOP) - {name for name, _ in MEANT_WORDS}))
    @pytest.mark.parametrize("word", ["NULL", "None"])
    def test_other_words_for_no_value_stop_the_start(self, name: str, word: str) -> None:
        assert refusal(**{name.upper(): word}).startswith(f"{name.upper()}={word!r} is not a value")

    def test_the_tests_and_the_code_list_the_same(self) -> None:
        assert set(ALWAYS_STOP) == fallbacks.ALWAYS_STOP
        assert not fallbacks.ALWAYS_STOP & fallbacks.HARMLESS

    @pytest.mark.parametrize("name", ["OPENAI_API_KEY_FILE", "STS_TOKEN_FILE", "OPENAI_SESSION_FILE"])
    def test_the_file_of_a_secret_cannot_be_undefined(self, name: str) -> None:
        variables = {each: value for each, value in NEEDED.items() if f"{each}_FILE" != name}
        with pytest.raises(SettingsError) as caught:
            Settings.parse(variables | {name: "undefined"}, Role.SERVE)
        assert f"{name}='undefined' is not a value: set a value, or remove the variable" in str(caught.value)

    @pytest.mark.parametrize(("name", "word"), MEANT_WORDS)
    def test_a_word_that_is_a_value_is_taken(self, name: str, word: str) -> None:
        settings = parse(**{name.upper(): word})
        assert getattr(settings, name) == MEANT_WORDS[name, word]
        assert settings.notices == ()

    def test_none_is_an_effort_where_the_service_has_it(self) -> None:
        other = parse(OPENAI_REASONING_EFFORT="none", OPENAI_BASE_URL="ws://127.0.0.1:9000")
        assert (other.openai_reasoning_effort, other.notices) == ("none", ())
        at_openai = parse(OPENAI_REASONING_EFFORT="None")
        assert at_openai.openai_reasoning_effort is None
        assert len(at_openai.notices) == 1

    def test_strict_settings_refuse_the_words(self) -> None:
        line = refusal(AMI_URL="undefined", STRICT_SETTINGS="true")
        assert line == "AMI_URL='undefined' is not a value: set a value, or remove the variable"

    def test_a_variable_of_another_role_is_not_named(self) -> None:
        assert parse(Role.DISPATCHER, OPENAI_API_KEY="undefined", OPENAI_VOICE="null").notices == ()
        assert parse(Role.DISPATCHER, AMI_URL="undefined").notices == ("AMI_URL='undefined' counts as unset",)
        assert "OPENAI_API_KEY='undefined'" in refusal(Role.WORKER, OPENAI_API_KEY="undefined")


class TestComments:
    @pytest.mark.parametrize(
        ("name", "written", "value"),
        [
            ("openai_voice", "marin  # warm and clear", "marin"),
            ("openai_voice", '"marin"  # "warm"', "marin"),
            ("openai_voice", "marin\t#", "marin"),
            ("openai_language", "it # Italian", "it"),
            ("openai_max_tokens", "100   # 1 to 4096", 100),
            ("port", "6031 # not 6030", 6031),
            ("max_call_seconds", "3600  # an hour", 3600),
            ("ami_url", "http://avr-ami:6006  # beside us", "http://avr-ami:6006"),
            ("openai_url_instructions", "http://h/x#y  # of the tenant", "http://h/x#y"),
            ("transfer_allowed", "internal,600  # the desk", ["internal", "600"]),
            ("openai_turn_detection", "none  # ours", "none"),
        ],
    )
    def test_a_comment_is_removed_with_a_notice(self, name: str, written: str, value: object) -> None:
        settings = parse(**{name.upper(): written})
        assert getattr(settings, name) == value
        assert settings.notices == (f"{name.upper()}: the comment after the value is not part of it",)

    def test_only_a_comment_is_unset(self) -> None:
        settings = parse(OPENAI_VOICE="  # alloy by default")
        assert settings.openai_voice == "alloy"
        assert settings.notices == ("OPENAI_VOICE: the comment after the value is not part of it",)

    @pytest.mark.parametrize(
        ("name", "written"),
        [
            ("openai_instructions", "You sell ties.  # Be brief"),
            ("openai_instructions", "# Role"),
            ("openai_welcome_message", "Dial  # to go on"),
            ("answer_failed_text", "Say it again, or press  # now"),
        ],
    )
    def test_free_text_keeps_its_hashes(self, name: str, written: str) -> None:
        settings = parse(**{name.upper(): written})
        assert (getattr(settings, name), settings.notices) == (written, ())

    def test_secrets_and_json_keep_their_hashes(self) -> None:
        assert refusal(STS_TOKEN="0123456789abcdef  # ours").startswith("STS_TOKEN has spaces")
        session = '{"instructions": "Press  # now"}'
        assert parse(OPENAI_SESSION=session).openai_session == {"instructions": "Press  # now"}
        variables = '{"key": "press  # now"}'
        settings = parse(OPENAI_PROMPT_VARIABLES=variables, OPENAI_PROMPT_ID="p", OPENAI_BASE_URL="ws://h")
        assert settings.openai_prompt_variables == {"key": "press  # now"}

    def test_a_quoted_value_keeps_its_hashes(self) -> None:
        assert str(parse(TOOLS_DIR='"/srv/tools # 2"').tools_dir) == "/srv/tools # 2"

    def test_the_env_file_has_its_own_comments(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("TOOLS_DIR", "OPENAI_VOICE"):
            monkeypatch.delenv(name, raising=False)
        Path(".env").write_text('OPENAI_API_KEY=k\nTOOLS_DIR="/srv/tools # 2"\nOPENAI_VOICE=marin  # warm\n')
        settings = Settings.load(Role.SERVE)
        assert (str(settings.tools_dir), settings.openai_voice) == ("/srv/tools # 2", "marin")
        assert not [line for line in settings.notices if "comment" in line]

    def test_a_hash_without_a_space_belongs_to_the_value(self) -> None:
        assert parse(FALLBACK_EXTENSION="*98#").fallback_extension == "*98#"

    def test_strict_settings_refuse_a_comment(self) -> None:
        line = refusal(OPENAI_VOICE="marin  # warm", STRICT_SETTINGS="true # please")
        assert line.splitlines() == [
            "OPENAI_VOICE: the comment after the value is not part of it",
            "STRICT_SETTINGS: the comment after the value is not part of it",
        ]


class TestQuotes:
    @pytest.mark.parametrize(
        "written",
        [
            '"Hello" she said, "bye"',
            '"Hello", "bye"',
            "'Yes' or 'no'",
            '"Hello"\\nThen say "bye"',
            '"a""b"',
        ],
    )
    def test_quoted_words_at_both_ends_keep_their_quotes(self, written: str) -> None:
        assert parse(OPENAI_INSTRUCTIONS=written).openai_instructions == written.replace("\\n", "\n")

    @pytest.mark.parametrize(
        "inside",
        [
            "You are a helpful assistant.",
            'Say "hello" to the caller.',
            'Say "hello"',
            '"Hello" is all you say',
            '"Hello" and "bye" are all you say',
            "Don't say 'no'.",
            "It's 5 o'clock",
            '{"a": "b"}',
            '{\\"a\\": \\"b\\"}',
            "a",
        ],
    )
    @pytest.mark.parametrize("quote", ['"', "'"])
    def test_a_pair_around_the_whole_is_stripped(self, quote: str, inside: str) -> None:
        written = f"{quote}{inside}{quote}"
        assert parse(OPENAI_INSTRUCTIONS=written).openai_instructions == inside

    @pytest.mark.parametrize("written", ["'the callers' names'", "'the callers' and agents' names'"])
    def test_a_plural_is_no_end_of_a_quotation(self, written: str) -> None:
        assert parse(OPENAI_INSTRUCTIONS=written).openai_instructions == written[1:-1]


class TestPromptInPlaceOfItsUrl:
    PROMPT = r"Role: You are the desk of a hotel.\n# Style\nBe brief"

    def test_text_in_the_url_is_the_prompt_with_a_warning(self) -> None:
        settings = parse(OPENAI_URL_INSTRUCTIONS=self.PROMPT)
        assert settings.openai_url_instructions is None
        assert settings.openai_instructions == "Role: You are the desk of a hotel.\n# Style\nBe brief"
        assert settings.notices == (
            "OPENAI_URL_INSTRUCTIONS holds text, not a URL: the text is used as OPENAI_INSTRUCTIONS",
        )

    @pytest.mark.parametrize("role", [Role.SERVE, Role.WORKER])
    def test_strict_settings_refuse_a_prompt_without_showing_it(self, role: Role) -> None:
        line = refusal(role, OPENAI_URL_INSTRUCTIONS=self.PROMPT, STRICT_SETTINGS="true")
        assert line == "OPENAI_URL_INSTRUCTIONS holds text, not a URL: set OPENAI_INSTRUCTIONS instead"

    def test_a_prompt_beside_instructions_stops_the_start(self) -> None:
        line = refusal(OPENAI_URL_INSTRUCTIONS=self.PROMPT, OPENAI_INSTRUCTIONS="Be kind.")
        assert line.startswith("OPENAI_URL_INSTRUCTIONS=")

    def test_a_single_word_is_no_prompt(self) -> None:
        assert refusal(OPENAI_URL_INSTRUCTIONS="role:agent").startswith("OPENAI_URL_INSTRUCTIONS=")

    def test_a_dispatcher_ignores_the_prompt(self) -> None:
        settings = parse(Role.DISPATCHER, OPENAI_URL_INSTRUCTIONS=self.PROMPT)
        assert (settings.openai_instructions, settings.notices) == (None, ())

    def test_the_prompt_may_stand_in_the_env_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        Path(".env").write_text(f"OPENAI_API_KEY=k\nOPENAI_URL_INSTRUCTIONS='{self.PROMPT}'\n")
        monkeypatch.setenv("OPENAI_INSTRUCTIONS", "Be kind.")
        with pytest.raises(SettingsError, match="OPENAI_URL_INSTRUCTIONS="):
            Settings.load(Role.SERVE)
        monkeypatch.delenv("OPENAI_INSTRUCTIONS")
        assert str(Settings.load(Role.SERVE).openai_instructions).startswith("Role: You are")
