"""The facts of a call that all its workers are told: uuid, metadata, tenant and age."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from common.settings.tenants import NO_TENANTS, Tenants
from dispatcher.avr import protocol


@dataclass(slots=True)
class CallIdentity:
    """Facts of one call that its workers are told.

    Attributes:
        metadata: query of the URL with which AVR Core connected.
        began_seconds: time at which the call began, at this dispatcher or an earlier one.
        tenants: tenants of the deployment.
        uuid: id of the call; empty before `init`.
        provider_config: field of `init`. It may hold a key, so it is never stored or logged.
        traceparent: parent of the call's first span; empty: the call has no trace.
        tenant: tenant of the call; empty: there are no tenants.
    """

    metadata: dict[str, str]
    began_seconds: float
    tenants: Tenants = NO_TENANTS
    uuid: str = ""
    provider_config: dict[str, Any] = field(default_factory=dict, repr=False)
    traceparent: str = ""
    tenant: str = field(init=False)
    _is_tenant_told: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.tenant = self.tenants.of_call(self.metadata, self.provider_config)

    def began(self, init: protocol.Init, now_seconds: float) -> None:
        """Take the call's `init`."""
        self.uuid = init.uuid
        self.provider_config = init.provider_config
        self.began_seconds = now_seconds
        self.tenant = self.tenants.of_call(self.metadata, self.provider_config)

    def is_older(self, age_seconds: float, now_seconds: float) -> None:
        """Note that the call began before this dispatcher had it."""
        self.began_seconds = min(self.began_seconds, now_seconds - age_seconds)

    def tenant_told(self, tenant: str) -> None:
        """Take the tenant that the worker reports. A worker of an earlier release reports none."""
        told = self.tenants.told(tenant)
        if told:
            self.tenant, self._is_tenant_told = told, True

    def tenant_recalled(self, tenant: str) -> None:
        """Take the tenant that an earlier dispatcher wrote to Redis, unless a worker has reported one."""
        if not self._is_tenant_told:
            self.tenant = self.tenants.told(tenant) or self.tenant
