from __future__ import annotations

from pathlib import Path

from common.runtime.banner import banner
from common.settings.roles import Role
from common.settings.settings import Settings
from tests.certificates import self_signed


def _banner(host: str = "192.0.2.7", **variables: str) -> str:
    settings = Settings.parse({"OPENAI_API_KEY": "k", **variables}, Role.SERVE)
    return banner(settings, host=host, port=6030, admin_port=9090, title="the service 1.0")


def test_banner_has_addresses_to_copy_and_how_to_stop() -> None:
    lines = _banner().splitlines()
    assert "  the service 1.0 takes calls." in lines
    assert "    STS_URL  ws://192.0.2.7:6030   for AVR Core" in lines
    assert "    page     http://127.0.0.1:9090/   live calls" in lines
    assert "    stop     Ctrl-C drains for up to 8 s, twice ends now" in lines


def test_tokens_are_hinted_at_and_not_shown() -> None:
    text = _banner(STS_TOKEN="s" * 16, ADMIN_TOKEN="a" * 16)
    assert " ws://192.0.2.7:6030?token=... " in text
    assert " http://192.0.2.7:9090/ " in text  # with a token, the page is for other hosts, too
    assert "sss" not in text
    assert "aaa" not in text


def test_certificate_makes_it_wss(tmp_path: Path) -> None:
    files = self_signed(tmp_path)
    assert " wss://192.0.2.7:6030 " in _banner(TLS_CERT=str(files.cert), TLS_KEY=str(files.key))


def test_ipv6_address_stands_in_brackets() -> None:
    assert " ws://[2001:db8::7]:6030 " in _banner("2001:db8::7")
