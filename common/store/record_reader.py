"""Reading records of workers and calls, whichever program wrote them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import structlog

from common.store.leases import CallRecord, TableChanges, TableVersion, WorkerState, WorkerStatus

# State of a call from its pin until its dispatcher publishes another state.
CONNECTING = "connecting"

CALL_FIELDS: Final = ("worker", "dispatcher", "epoch", "state", "started_at_ms", "pins", "metadata", "tenant")

# Exceptions of reading a record that another program wrote.
_NO_RECORD = (ValueError, TypeError, RecursionError)
# Maximum number of unreadable records that are logged.
_MAX_SKIPPED = 100

log = structlog.get_logger()


class RecordReader:
    """Reader of one Redis' records; an unreadable record costs itself alone."""

    def __init__(self) -> None:
        self._skipped: set[tuple[str, str]] = set()

    def changes(self, records: Sequence[Any], loads: Sequence[Any]) -> TableChanges:
        """Return the changes of the worker table: two replies of `rows_since` in the scripts."""
        version, rows, more_records = records
        loads_version, load_rows, more_loads = loads
        workers: list[WorkerStatus] = []
        gone: list[str] = []
        for worker_id, calls, flat in rows:
            if not flat:
                gone.append(worker_id)
                continue
            try:
                workers.append(_worker_status(worker_id, calls, flat))
            except _NO_RECORD as error:
                gone.append(worker_id)
                self._skip("worker", worker_id, error)
        return TableChanges(
            TableVersion(version, loads_version),
            tuple(workers),
            tuple(gone),
            dict(load_rows),
            has_more=bool(more_records or more_loads),
        )

    def call(self, uuid: str, values: Sequence[str | None] | None) -> CallRecord | None:
        """Return the record of a call with these values of `CALL_FIELDS`; None: there is none."""
        try:
            return None if values is None else _call_record(uuid, values)
        except _NO_RECORD as error:
            self._skip("call", uuid, error)
            return None

    def _skip(self, kind: str, key: str, error: Exception) -> None:
        """Skip an unreadable record, and log it once, up to a bound of such lines."""
        if (kind, key) not in self._skipped and len(self._skipped) < _MAX_SKIPPED:
            self._skipped.add((kind, key))
            log.error("unreadable redis record skipped", kind=kind, id=key, reason=type(error).__name__)


def _worker_status(worker_id: str, calls: int, flat: list[str]) -> WorkerStatus:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return WorkerStatus(
        id=worker_id,
        address=fields.get("address", ""),
        host=fields.get("host", ""),
        pid=int(fields.get("pid", 0)),
        release=fields.get("release", ""),
        capacity=int(fields.get("capacity", 0)),
        state=WorkerState(fields.get("state", "draining")),
        boot_id=fields.get("boot_id", ""),
        problem=fields.get("problem", ""),
        calls=calls,
    )


def _call_record(uuid: str, values: Sequence[str | None]) -> CallRecord | None:
    fields = {name: value for name, value in zip(CALL_FIELDS, values, strict=True) if value is not None}
    if not fields:
        return None
    metadata = json.loads(fields.get("metadata", "{}"))
    if not isinstance(metadata, dict):
        raise TypeError("metadata must be a JSON object")
    return CallRecord(
        uuid=uuid,
        worker=fields.get("worker", ""),
        dispatcher=fields.get("dispatcher", ""),
        epoch=int(fields.get("epoch", 0)),
        state=fields.get("state", CONNECTING),
        started_at_ms=int(fields.get("started_at_ms", 0)),
        pins=int(fields.get("pins", 1)),
        metadata=metadata,
        tenant=fields.get("tenant", ""),
    )
