from __future__ import annotations

from aiohttp.http_exceptions import BadHttpMessage
from structlog.testing import capture_logs

from common.observe.line_limit import REPORT_SECONDS
from common.observe.request_faults import RequestFaults


def test_bad_requests_that_were_suppressed_are_counted() -> None:
    now = [100.0]
    faults = RequestFaults("ADMIN_PORT", lambda: now[0])
    with capture_logs() as lines:
        for _ in range(4):
            faults.exception("Error handling request from %s", "10.0.0.1", exc_info=BadHttpMessage("s3cret"))
        now[0] += REPORT_SECONDS
        faults.exception("Error handling request from %s", "10.0.0.2", exc_info=BadHttpMessage("s3cret"))
    assert [(line["times"], line["address"]) for line in lines] == [(1, "10.0.0.1"), (4, "10.0.0.2")]
    assert {line["reason"] for line in lines} == {"BadHttpMessage"}
    assert "s3cret" not in str(lines)


def test_a_fault_of_ours_is_logged_beside_bad_requests() -> None:
    faults = RequestFaults("ADMIN_PORT")
    with capture_logs() as lines:
        faults.exception("Error handling request from %s", None, exc_info=BadHttpMessage("a"))
        faults.exception("Error handling request from %s", None, exc_info=KeyError("ours"))
    assert [line["event"] for line in lines] == ["bad request", "request failed"]
