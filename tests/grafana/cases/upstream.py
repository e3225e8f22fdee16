"""Cases of the alerts on the Realtime API."""

from __future__ import annotations

from typing import Final

from tests.grafana.cases.case import TEN_CALLS, AlertCase, of, slow

TENANTS_KEY: Final = {of("upstream_errors_total", code="invalid_api_key", key="call"): "0+1x60"}
CODE: Final = {"namespace": "voice", "code": "insufficient_quota"}

ALERT_CASES: Final = (
    AlertCase(
        "AvrStsUpstreamRefuses",
        {of("upstream_errors_total", code="insufficient_quota", key="ours"): "0+1x20"},
        "5m",
        labels=CODE,
    ),
    AlertCase(
        "AvrStsUpstreamRefuses",
        {of("upstream_errors_total", code="rate_limit_exceeded", key="ours"): "0+1x20"},
        "5m",
        firing=False,
    ),
    # The last attempt was hours ago: few calls come.
    AlertCase(
        "AvrStsUpstreamRefuses",
        {
            of("upstream_errors_total", code="invalid_api_key", key="ours"): "0x5 3x200",
            of("upstream_refused", pod="w0"): "0x5 1x200",
            of("upstream_refused", pod="w1"): "0x200",
        },
        "60m",
        labels={"namespace": "voice", "code": "last_attempt"},
    ),
    AlertCase("AvrStsUpstreamRefuses", {of("upstream_refused"): "1x20 0x100"}, "30m", firing=False),
    # A tenant's bad key is the tenant's fault.
    AlertCase("AvrStsUpstreamRefuses", TENANTS_KEY, "10m", firing=False),
    AlertCase("AvrStsUpstreamErrors", {**TENANTS_KEY, **TEN_CALLS}, "20m", firing=False),
    AlertCase(
        "AvrStsTenantKeyRefused", TENANTS_KEY, "10m", labels={"namespace": "voice", "code": "invalid_api_key"}
    ),
    AlertCase(
        "AvrStsTenantKeyRefused",
        {of("upstream_errors_total", code="invalid_api_key", key="ours"): "0+1x60"},
        "10m",
        firing=False,
    ),
    AlertCase(
        "AvrStsRateLimitNear",
        {
            of("upstream_rate_limit_remaining", limit="tokens", pod="w0"): "0.04x60",
            of("upstream_rate_limit_remaining", limit="tokens", pod="w1"): "0.5x60",
            **TEN_CALLS,
        },
        "10m",
        value="4%",
        labels={"namespace": "voice", "limit": "tokens"},
    ),
    # The worker has no calls, so its figure is old.
    AlertCase(
        "AvrStsRateLimitNear",
        {
            of("upstream_rate_limit_remaining", limit="tokens", pod="w0"): "0.04x60",
            of("calls_active", pod="w0"): "0x60",
        },
        "10m",
        firing=False,
    ),
    AlertCase(
        "AvrStsUpstreamErrors",
        {of("upstream_errors_total", code="server_error", key="ours"): "0+2x60", **TEN_CALLS},
        "20m",
        value="0.4",
    ),
    AlertCase(
        "AvrStsUpstreamErrors",
        {of("upstream_errors_total", code="server_error", key="ours"): "0+0.1x60", **TEN_CALLS},
        "20m",
        firing=False,
    ),
    AlertCase("AvrStsUpstreamSlow", slow("upstream_connect_seconds", "3", "5"), "25m", value="4.9s"),
    AlertCase("AvrStsUpstreamSlow", slow("upstream_connect_seconds", "0.2", "0.3"), "25m", firing=False),
    AlertCase(
        "AvrStsUpstreamDrops",
        {of("upstream_reconnects_total", reason="dropped"): "0+1x60", **TEN_CALLS},
        "20m",
        value="12.0",
    ),
    AlertCase(
        "AvrStsUpstreamDrops",
        {of("upstream_reconnects_total", reason="rollover"): "0+1x60", **TEN_CALLS},
        "20m",
        firing=False,
    ),
)
