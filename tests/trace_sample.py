"""Place the call of `docs/trace.svg`, and write its spans: `python -m tests.trace_sample`."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from scripts import trace_picture
from tests.conftest import start_real_redis
from tests.scenarios.traced_call import place_traced_call
from tests.trace_collector import Exported, TraceCollector


def sample(spans: list[Exported]) -> list[dict[str, Any]]:
    """Return what the picture needs of the spans, in the order of time, from 0 s on."""
    zero = min(span.began_seconds for span in spans)
    return [
        {
            "name": span.name,
            "role": span.resource["avr.role"],
            "instance": span.resource["service.instance.id"].rpartition("-")[2],
            "trace_id": span.trace_id,
            "span_id": span.span_id,
            "parent_id": span.parent_id,
            "began_seconds": round(span.began_seconds - zero, 4),
            "ended_seconds": round(span.ended_seconds - zero, 4),
            "attributes": span.attributes,
            "events": list(span.events),
            "is_error": span.is_error,
        }
        for span in sorted(spans, key=lambda each: each.began_seconds)
    ]


def main() -> int:
    """Place the call, and write spans and picture."""
    redis = start_real_redis()
    try:
        with tempfile.TemporaryDirectory() as folder, TraceCollector() as collector:
            asyncio.run(place_traced_call(redis.url, Path(folder), collector))
            spans = sample(collector.spans)
    finally:
        redis.close()
    lines = ",\n".join(json.dumps(span) for span in spans)
    trace_picture.SPANS.write_text(f"[\n{lines}\n]\n", "utf-8")
    return trace_picture.main()


if __name__ == "__main__":
    sys.exit(main())
