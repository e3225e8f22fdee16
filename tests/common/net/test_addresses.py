from __future__ import annotations

import pytest

from common.net.addresses import is_loopback, plain, subscriber


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:nonsense", "::ffff:nonsense"),
        ("", ""),
    ],
)
def test_ipv4_in_ipv6_is_ipv4(address: str, expected: str) -> None:
    assert plain(address) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (":nonsense", ":nonsense"),
    ],
)
def test_a_subscriber_has_a_network_of_ipv6(address: str, expected: str) -> None:
    assert subscriber(address) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.7", False),
        ("::ffff:192.0.2.7", False),
        ("/run/socket", False),
        (None, False),
    ],
)
def test_loopback_is_known_in_every_form(address: str | None, expected: bool) -> None:
    assert is_loopback(address) is expected
