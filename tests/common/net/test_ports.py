from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from common.errors import SettingsError
from common.net.ports import (
    ALL_ADDRESSES,
    host_address,
    host_and_port,
    listen_socket,
    outward_address,
    port_of,
    reserve_port,
)

LOOPBACK = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    """Yield a port on which another process listens and would share it."""
    with listen_socket(LOOPBACK, 0, variable="PORT", reuse_port=True) as listener:
        yield port_of(listener)


def leave_closed_connections(port_holder: socket.socket) -> None:
    """Closes a connection on the server's side first, so that its port is in TIME_WAIT."""
    with socket.create_connection(port_holder.getsockname()) as client:
        accepted, _ = port_holder.accept()
        accepted.close()
        assert client.recv(1) == b""
    port_holder.close()


def test_a_listening_socket_takes_connections() -> None:
    with (
        listen_socket(LOOPBACK, 0, variable="PORT") as listener,
        socket.create_connection((LOOPBACK, port_of(listener))),
    ):
        assert not listener.getblocking()
        listener.settimeout(10)
        accepted, _ = listener.accept()
        accepted.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_all_addresses_are_those_of_both_families(address: str) -> None:
    with (
        listen_socket(ALL_ADDRESSES, 0, variable="PORT") as listener,
        socket.create_connection((address, port_of(listener))),
    ):
        listener.settimeout(10)
        accepted, _ = listener.accept()
        accepted.close()


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_host_without_ipv6_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    class Socket(socket.socket):
        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET6:
                raise OSError(code, "no IPv6 here")
            super().bind(address)

    monkeypatch.setattr(socket, "socket", Socket)
    with (
        listen_socket(ALL_ADDRESSES, 0, variable="PORT") as listener,
        socket.create_connection(("127.0.0.1", port_of(listener))),
    ):
        assert listener.family == socket.AF_INET


def test_a_port_that_ipv4_has_taken_is_not_had_by_ipv6_alone(taken: int) -> None:
    with pytest.raises(SettingsError, match=f"^PORT={taken} is taken"):
        reserve_port(ALL_ADDRESSES, taken, variable="PORT")


def test_a_taken_port_is_refused_by_the_name_of_its_variable(taken: int) -> None:
    with pytest.raises(SettingsError, match=f"^ADMIN_PORT={taken} is taken by another process: .*$"):
        listen_socket(LOOPBACK, taken, variable="ADMIN_PORT")


def test_a_port_that_another_process_shares_is_not_reserved(taken: int) -> None:
    with pytest.raises(SettingsError, match=f"^PORT={taken} is taken"):
        reserve_port(LOOPBACK, taken, variable="PORT")


def test_a_reserved_port_is_not_reserved_again() -> None:
    with (
        reserve_port(LOOPBACK, 0, variable="PORT") as reserved,
        pytest.raises(SettingsError, match="is taken"),
    ):
        reserve_port(LOOPBACK, port_of(reserved), variable="PORT")


def test_an_address_of_another_host_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^PORT=0 cannot be bound on 192\.0\.2\.1: "):
        listen_socket("192.0.2.1", 0, variable="PORT")


def test_a_reserved_port_is_shared_and_takes_no_connection() -> None:
    with reserve_port(LOOPBACK, 0, variable="PORT") as reserved:
        port = port_of(reserved)
        listeners = [listen_socket(LOOPBACK, port, variable="PORT", reuse_port=True) for _ in range(2)]
        clients = [socket.create_connection((LOOPBACK, port)) for _ in range(20)]
        accepted = []
        for listener in listeners:
            while True:
                try:
                    accepted.append(listener.accept()[0])
                except BlockingIOError:
                    break
        for each in (*listeners, *clients, *accepted):
            each.close()
        assert len(accepted) == 20

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port))


@pytest.mark.parametrize("reuse_port", [False, True])
def test_closed_connections_do_not_block_a_reservation(reuse_port: bool) -> None:
    listener = listen_socket(LOOPBACK, 0, variable="PORT", reuse_port=reuse_port)
    listener.setblocking(True)
    port = port_of(listener)
    leave_closed_connections(listener)
    with reserve_port(LOOPBACK, port, variable="PORT") as reserved:
        assert port_of(reserved) == port


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "unix:///run/redis.sock",
        "redis+sentinel://127.0.0.1:26379,192.0.2.1/calls",
        # The name of a sentinel that is down may have no address.
        "redis+sentinel://sentinel.invalid,127.0.0.1:26379/calls",
    ],
)
def test_the_address_towards_a_redis_on_this_host_is_loopback(url: str) -> None:
    assert host_address(url) == LOOPBACK


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("10.1.2.3", "10.1.2.3:7000"),
        ("worker-1", "worker-1:7000"),
        ("::1", "[::1]:7000"),
        ("fd00::7", "[fd00::7]:7000"),
    ],
)
def test_an_address_with_colons_is_put_in_brackets(host: str, written: str) -> None:
    assert host_and_port(host, 7000) == written


def test_outward_address_belongs_to_this_host() -> None:
    with listen_socket(outward_address(), 0, variable="PORT") as listener:
        assert port_of(listener)
