"""TCP connections of other processes: their owners, and a way to cut one while both ends live.

A process may take a copy of a socket of its child (pidfd_getfd(2), Linux 5.6) and shut the connection down. Its
peers see the end, although neither of them closed it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from typing import Any

import psutil

from common.net.addresses import plain

# The same number on every architecture.
_PIDFD_GETFD = 438


class CannotCutError(Exception):
    """A machine that does not allow cuts: a container without ptrace, or another kernel."""


def peers_of(pid: int, port: int) -> frozenset[str]:
    """Return the process's own ends, `address:port`, of its connections to a port."""
    return frozenset(
        f"{plain(each.laddr.ip)}:{each.laddr.port}" for each in _established(pid) if each.raddr.port == port
    )


def cut(pid: int, port: int, peer_pid: int) -> int:
    """Cut the connections that a process has accepted on a port from another, and return their number.

    Raises:
        CannotCutError: this machine does not allow cuts.
    """
    # A socket for both families has IPv4 peers in the form of IPv6.
    theirs = {(plain(each.laddr.ip), each.laddr.port) for each in _established(peer_pid)}
    count = 0
    for each in _established(pid):
        if each.laddr.port == port and (plain(each.raddr.ip), each.raddr.port) in theirs:
            count += _shut_down(pid, each.fd)
    return count


def _established(pid: int) -> list[Any]:
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.NoSuchProcess:
        return []
    return [each for each in connections if each.status == psutil.CONN_ESTABLISHED]


def copy_of(pid: int, number: int) -> int | None:
    """Return a copy of an open file of another process; None if the process or the file no longer exists.

    Raises:
        CannotCutError: this machine does not allow cuts.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        copy: int = libc.syscall(_PIDFD_GETFD, process, number, 0)
    finally:
        os.close(process)
    if copy < 0:
        reason = ctypes.get_errno()
        if reason in (errno.EBADF, errno.ESRCH):
            return None  # the file was closed meanwhile
        raise CannotCutError(f"pidfd_getfd: {os.strerror(reason)}")
    return copy


def _shut_down(pid: int, number: int) -> bool:
    copy = copy_of(pid, number)
    if copy is None:
        return False
    with socket.socket(fileno=copy) as connection:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False  # the connection has ended by itself
    return True
