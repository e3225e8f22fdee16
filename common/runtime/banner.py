"""The lines that `serve` shows on a terminal once it takes calls: where, and how to stop."""

from __future__ import annotations

from common.net.ports import host_and_port
from common.settings.settings import Settings


def banner(settings: Settings, *, host: str, port: int, admin_port: int, title: str) -> str:
    """Return the lines, without secrets.

    Args:
        settings: of `serve`.
        host: this host's address, as AVR Core reaches it.
        port: of AVR Core's connections.
        admin_port: of the page.
        title: program and release.
    """
    scheme = "ws" if settings.tls is None else "wss"
    token = "" if settings.sts_token is None else "?token=..."
    # Without ADMIN_TOKEN, the page is for this host alone.
    page_host = "127.0.0.1" if settings.admin_token is None else host
    return (
        f"\n  {title} takes calls.\n\n"
        f"    STS_URL  {scheme}://{host_and_port(host, port)}{token}   for AVR Core\n"
        f"    page     http://{host_and_port(page_host, admin_port)}/   live calls\n"
        f"    stop     Ctrl-C drains for up to {settings.drain_seconds:g} s, twice ends now\n\n"
    )
