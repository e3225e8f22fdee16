"""Conflicts between settings that are valid one by one, and files that cannot be used."""

from __future__ import annotations

import os
from collections.abc import Iterator

from common.net import redis_url
from common.net.tls import problems_of_link, problems_of_port
from common.settings import problems as setting_problems
from common.settings.fields import SettingFields
from common.settings.record_values import HOW_TO_MAKE_A_SECRET
from common.settings.recordings import problem_of
from common.settings.roles import Role


def conflicts(settings: SettingFields, role: Role) -> list[str]:
    """Return a line for each conflict between settings, and for each file that cannot be used."""
    problems = problems_of_link(settings.cluster_tls_cert, settings.cluster_tls_key, settings.cluster_tls_ca)
    problems += _of_redis(settings)
    if role is not Role.WORKER:
        problems = problems_of_port(settings.tls_cert, settings.tls_key) + problems
        for name in ("fallback_wav", "filler_wav"):
            if problem := problem_of(name.upper(), getattr(settings, name)):
                problems.append(problem)
        problems += _of_call_records(settings)
    if role is not Role.DISPATCHER:
        problems += [
            problem
            for name in ("openai_file_instructions", "prices_file")
            if (problem := setting_problems.of_file(name, getattr(settings, name)))
        ]
    other = "worker_port" if role is Role.WORKER else "port"
    taken = getattr(settings, other)
    if taken and taken == settings.admin_port:
        problems.append(f"ADMIN_PORT={taken} is {other.upper()} too: give each its own")
    return problems


def _of_redis(settings: SettingFields) -> Iterator[str]:
    url = settings.redis_url
    if settings.redis_url_password is not None:
        if url is None:
            yield "REDIS_URL_PASSWORD is set without REDIS_URL: set REDIS_URL too, or unset the password"
        elif redis_url.has_password(url):
            yield "REDIS_URL_PASSWORD is set, and REDIS_URL has a password: set one of them"
    if settings.redis_sentinel_password is not None:
        if url is None or not redis_url.is_of_sentinels(url):
            yield (
                "REDIS_SENTINEL_PASSWORD is set, and REDIS_URL names no sentinels: write them as "
                "redis+sentinel://host:port,host:port/service, or unset the password"
            )
        elif redis_url.has_sentinel_password(url):
            yield "REDIS_SENTINEL_PASSWORD is set, and REDIS_URL has a sentinel_password: set one of them"


def _of_call_records(settings: SettingFields) -> Iterator[str]:
    if settings.call_records_webhook is not None and settings.call_records_secret is None:
        yield (
            "CALL_RECORDS_WEBHOOK is set without CALL_RECORDS_SECRET, so its receiver could not trust it: "
            f"make a secret with {HOW_TO_MAKE_A_SECRET}, and give it to both"
        )
    folder = settings.call_records_dir
    if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        name = setting_problems.shown(folder)
        yield f"CALL_RECORDS_DIR={name!r} is no folder that this user may write to: make it, or change its owner"
