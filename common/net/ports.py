"""TCP ports: bound at once, or refused with one line for the operator."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import Any, Final

from common.errors import SettingsError
from common.net.redis_url import addresses

ALL_ADDRESSES: Final = "::"
"""All IPv6 and IPv4 addresses; on a host without IPv6, all IPv4 addresses.

AVR Core, probes and Prometheus connect from other hosts.
"""

_ALL_IPV4_ADDRESSES: Final = "0.0.0.0"  # noqa: S104 - see ALL_ADDRESSES
_WITHOUT_IPV6: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})

BACKLOG: Final = 1024
"""Maximum number of connections that wait to be accepted; the kernel's cap is net.core.somaxconn (Linux: 4096)."""


def listen_socket(
    host: str, port: int, *, variable: str, reuse_port: bool = False, backlog: int = BACKLOG
) -> socket.socket:
    """Return a non-blocking TCP socket that listens on `host`:`port`; port 0 is any free port.

    With `reuse_port` several processes listen on the port, and the kernel distributes connections among them.

    Raises:
        SettingsError: the port is not available; names `variable`.
    """
    listener = bound_socket(host, port, variable=variable, reuse_port=reuse_port)
    listener.listen(backlog)
    return listener


def bound_socket(host: str, port: int, *, variable: str, reuse_port: bool = False) -> socket.socket:
    """Return a non-blocking TCP socket that is bound as by `listen_socket`, and does not listen yet.

    Until the socket listens, the kernel gives its connections to the other processes on the port.

    Raises:
        SettingsError: the port is not available; names `variable`.
    """
    bound = _bound(host, port, variable, reuse_address=True, reuse_port=reuse_port)
    bound.setblocking(False)
    return bound


def reserve_port(host: str, port: int, *, variable: str) -> socket.socket:
    """Return a socket that reserves `host`:`port` for processes that listen there with `reuse_port`.

    The socket does not listen, so the kernel gives it no connections. Port 0 is any free port, which stays the
    same as long as the socket is open.

    Raises:
        SettingsError: another process has the port; names `variable`.
    """
    # SO_REUSEPORT alone would silently share the port with another service of this user.
    _bound(host, port, variable, reuse_address=True, reuse_port=False).close()
    try:
        # Without SO_REUSEADDR another reservation fails at once, not only when a process listens.
        return _bound(host, port, variable, reuse_address=False, reuse_port=True)
    except SettingsError:
        # No process has the port, so closed connections (TIME_WAIT) of another program block it.
        return _bound(host, port, variable, reuse_address=True, reuse_port=True)


def port_of(bound: socket.socket) -> int:
    """Return the number of the port that an IPv4 or IPv6 socket is bound to."""
    number: int = bound.getsockname()[1]
    return number


def host_and_port(host: str, port: int) -> str:
    """Return host and port as they stand in a URL: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_address(redis_url: str) -> str:
    """Return the address of this host on the route to Redis: processes that reach Redis also reach this address.

    Of sentinels, the first one with an address shows the route: the name of one that is down may have none.

    Raises:
        OSError: no host of `redis_url` has an address, or there is no route to it.
    """
    failed: OSError | None = None
    for host, port in addresses(redis_url):
        try:
            family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            return _address_towards(family, target)
        except OSError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return "127.0.0.1"  # unix://


def outward_address() -> str:
    """Return the address of this host on its default route: other hosts mostly reach it there.

    Without a route, return loopback's address.
    """
    # Addresses of documentation (RFC 5737, RFC 3849), which belong to nobody.
    for family, target in ((socket.AF_INET, ("192.0.2.1", 9)), (socket.AF_INET6, ("2001:db8::1", 9))):
        with contextlib.suppress(OSError):
            return _address_towards(family, target)
    return "127.0.0.1"


def _address_towards(family: int, target: Any) -> str:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(target)  # UDP: selects the route and sends nothing
        address: str = probe.getsockname()[0]
    return address


def _bound(host: str, port: int, variable: str, *, reuse_address: bool, reuse_port: bool) -> socket.socket:
    try:
        try:
            return _bound_socket(host, port, reuse_address=reuse_address, reuse_port=reuse_port)
        except OSError as error:
            if host != ALL_ADDRESSES or error.errno not in _WITHOUT_IPV6:
                raise
        return _bound_socket(_ALL_IPV4_ADDRESSES, port, reuse_address=reuse_address, reuse_port=reuse_port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = "is taken by another process: end it, or choose another port"
        elif error.errno == errno.EACCES:
            reason = "needs a privilege that this user does not have: choose a port above 1023"
        else:
            reason = f"cannot be bound on {host}: {os.strerror(error.errno or 0)}"
        raise SettingsError(f"{variable}={port} {reason}") from error


def _bound_socket(host: str, port: int, *, reuse_address: bool, reuse_port: bool) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if host == ALL_ADDRESSES:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if reuse_address:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    return bound
