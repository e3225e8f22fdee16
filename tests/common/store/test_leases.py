from __future__ import annotations

from common.store.leases import release_order


def test_releases_are_ordered_by_number() -> None:
    ascending = [
        "unknown",
        "0.0.1",
        "0.1.0.dev3",
        "0.1.0",
        "0.9.9",
        "v0.10.0",
        "0.10.1",
        "1.0.0rc1",
        "1.0",
        "1.0.1-beta.2",
        "1.0.1",
        "10.0.0",
        "2026.11.21",
    ]
    orders = [release_order(release) for release in ascending]
    assert orders == sorted(set(orders))
    assert release_order("1") == release_order("1.0.0") == release_order("1.0.0+build5")
    assert release_order("9999.99999.9999") < 2**53  # a Lua number holds it exactly
