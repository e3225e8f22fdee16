"""Settings that are right each for itself, and wrong together or for what lies on the disk."""

from __future__ import annotations

from common.net.tls import problems_of_link, problems_of_port
from common.settings import problems as setting_problems
from common.settings.fields import SettingFields
from common.settings.recordings import problem_of
from common.settings.roles import Role


def conflicts(settings: SettingFields, role: Role) -> list[str]:
    """Return a line for each conflict between settings, and for each file that cannot be used."""
    problems = problems_of_link(settings.cluster_tls_cert, settings.cluster_tls_key, settings.cluster_tls_ca)
    if role is not Role.WORKER:
        problems = problems_of_port(settings.tls_cert, settings.tls_key) + problems
        for name in ("fallback_wav", "filler_wav"):
            if problem := problem_of(name.upper(), getattr(settings, name)):
                problems.append(problem)
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
