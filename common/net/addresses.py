"""IP addresses of peers, as a socket for both families reports them."""

from __future__ import annotations

import ipaddress
from typing import Final

SUBSCRIBER_BITS: Final = 64
"""Prefix length of one subscriber's IPv6 network (RFC 6177); one subscriber has all addresses of it."""


def plain(address: str) -> str:
    """Return an address without the IPv6 form of IPv4: `127.0.0.1` for `::ffff:127.0.0.1`."""
    if not address.startswith("::ffff:"):
        return address
    try:
        mapped = ipaddress.IPv6Address(address.partition("%")[0]).ipv4_mapped
    except ValueError:
        return address
    return address if mapped is None else str(mapped)


def subscriber(address: str) -> str:
    """Return the key under which limits count an address: the address itself, or its IPv6 /64 network."""
    if ":" not in address:
        return address
    try:
        network = ipaddress.IPv6Network((address.partition("%")[0], SUBSCRIBER_BITS), strict=False)
    except ValueError:
        return address
    return str(network)


def is_loopback(address: str | None) -> bool:
    """Return whether an address is on this host."""
    try:
        return address is not None and ipaddress.ip_address(plain(address)).is_loopback
    except ValueError:
        return False
