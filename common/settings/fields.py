"""All settings of a process as one class, independent of their source."""

from __future__ import annotations

from typing import Final

from pydantic import SecretStr

from common.net.redis_url import passwords
from common.observe.redaction import secrets_in, secrets_in_url
from common.settings.call_fields import CallFields
from common.settings.openai_fields import OpenAiFields
from common.settings.record_fields import RecordFields
from common.settings.service_fields import PortFields, ServiceFields

SECRETS: Final = (
    *("openai_api_key", "openai_mcp_servers", "openai_session", "safety_identifier_secret"),
    *("redis_url", "redis_url_password", "redis_sentinel_password", "sts_token", "cluster_token", "admin_token"),
    *("call_records_secret", "call_records_redis_url"),
)
"""Settings that are secrets, or may hold some: NAME_FILE names a file with the value."""

# A wrong value of these settings is not shown. URLs of Redis are shown without user and password.
NEVER_SHOWN: Final = frozenset(
    {name for name in SECRETS if not name.endswith("redis_url")}
    # Names of files; but an operator may set the key itself by mistake.
    | {"tls_key", "cluster_tls_key"}
)


# pydantic puts the fields of the last base first.
class SettingFields(ServiceFields, RecordFields, CallFields, OpenAiFields, PortFields):
    """All settings of a process."""

    @property
    def secrets(self) -> frozenset[str]:
        """The texts that no log line, answer or memory may hold."""
        values = [getattr(self, name) for name in type(self).model_fields]
        found = {value.get_secret_value() for value in values if isinstance(value, SecretStr)}
        others = (self.openai_url_instructions, self.ami_url, self.openai_base_url, self.call_records_webhook)
        for url in others:
            found.update(secrets_in_url(url or ""))
        for url in (self.redis_address, self.call_records_redis_url):
            found.update(passwords(url or ""))
        found.update(secrets_in(self.openai_mcp_servers), secrets_in(self.openai_session))
        return frozenset(found - {""})
