"""The records of a dispatcher, as its settings say."""

# ruff: noqa: PLC0415 - imports inside a function, for the reason there

from __future__ import annotations

import socket

from common.observe.metrics import DispatcherMetrics
from common.settings.secret_store import Secrets
from common.store.bounded_redis import BoundedRedis
from dispatcher.records.record_taker import NO_RECORDS, RecordTaker
from dispatcher.records.sink import Sink

REDIS_SECONDS = 2.0
"""Maximum time of a command. No call waits for it."""


def configured(
    secrets: Secrets, connection: BoundedRedis | None, *, name: str, dispatcher_id: str, metrics: DispatcherMetrics
) -> RecordTaker:
    """Return the records of this process; `NO_RECORDS` if no setting asks for them.

    Args:
        secrets: settings of the process, with the current secrets.
        connection: to the Redis of records; None: there are none.
        name: of the process on this host, for the name of its file.
        dispatcher_id: unique, for its claims.
        metrics: what is measured.

    Raises:
        SettingsError: CALL_RECORDS_REDACT cannot be loaded.
    """
    if connection is None:
        return NO_RECORDS
    # Only a process with records loads these modules, and the tables of telephone numbers.
    from dispatcher.records.directory_sink import DirectorySink
    from dispatcher.records.outbox import Outbox
    from dispatcher.records.record_file import RecordFile
    from dispatcher.records.records import Records
    from dispatcher.records.redaction import Redactor
    from dispatcher.records.redaction_hook import RedactionThread, load_hook
    from dispatcher.records.webhook_sink import WebhookSink

    settings = secrets.settings
    hook = None if settings.call_records_redact is None else load_hook(settings.call_records_redact)
    sinks: list[Sink] = []
    if settings.call_records_dir is not None:
        sinks.append(DirectorySink(RecordFile(settings.call_records_dir, f"{socket.gethostname()}-{name}")))
    if settings.call_records_webhook is not None:
        sinks.append(WebhookSink(settings.call_records_webhook, lambda: _secret(secrets)))
    outbox = Outbox(
        connection,
        dispatcher_id,
        max_bytes=settings.call_records_max_bytes,
        keep_seconds=settings.call_records_keep_seconds,
    )
    redaction = RedactionThread(Redactor(hook))
    return Records(outbox, sinks, redaction, metrics, max_bytes=settings.call_records_max_bytes)


def connection(secrets: Secrets) -> BoundedRedis | None:
    """Return a client of the Redis of records; None if no setting asks for records."""
    settings = secrets.settings
    asked = (settings.call_records_dir, settings.call_records_webhook, settings.call_records_keep_seconds or None)
    url = _redis_url(secrets)
    if url is None or not any(each is not None for each in asked):
        return None
    return BoundedRedis.from_url(url, timeout_seconds=REDIS_SECONDS)


def reload(secrets: Secrets, client: BoundedRedis | None) -> None:
    """Use a replaced password of Redis."""
    if client is not None:
        client.use_account(_redis_url(secrets))


def _redis_url(secrets: Secrets) -> str | None:
    return secrets.settings.call_records_redis_url or secrets.settings.redis_address


def _secret(secrets: Secrets) -> str:
    secret = secrets.settings.call_records_secret
    return "" if secret is None else secret.get_secret_value()
