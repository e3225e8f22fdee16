"""Metrics with the label `tenant`: their series by tenant, and the counter of costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from common.observe.label_values import OTHER, PAGE
from common.observe.metrics.bounded import Bounded
from common.observe.metrics.series import counter

LABEL: Final = "tenant"

T = TypeVar("T")


class TenantSeries(Bounded[T]):
    """The objects for tenants: for at most MAX_LABEL_VALUES tenants, those of TENANTS included, and `other`.

    Without tenants the value of the label is empty, which Prometheus takes for an absent label.
    """

    def __init__(self, metric: str, make: Callable[[str], T]) -> None:
        super().__init__(metric, LABEL, make)

    def of(self, value: str) -> T:
        """Return the object of a tenant, or of `other`; "" where there are no tenants.

        PAGE always has its own object, so that calls from the live page never count as `other`.
        """
        if not value or value == PAGE:
            self.expect(value)
        return super().of(value)


class CostCounter:
    """The counter of costs by model and tenant; a bounded number of both has series."""

    def __init__(self) -> None:
        self._costs = counter("cost_usd", "Cost of the tokens used, in US dollars", "model", LABEL)
        # The values of the two labels, each of which may become `other`.
        self._models: Bounded[str] = Bounded("cost_usd", "model", str)
        self._models.expect(OTHER)
        self._tenants: TenantSeries[str] = TenantSeries("cost_usd", str)
        self._known_models = [OTHER]
        self._known_tenants: list[str] = []

    def expect_model(self, model: str) -> None:
        """Create the series of a model that is known in advance, for all known tenants."""
        self._models.expect(model)
        self._known_models.append(model)
        self._create()

    def expect_tenants(self, *tenants: str) -> None:
        """Create the series of tenants that are known in advance, for all known models."""
        self._tenants.expect(*tenants, counted=True)
        self._known_tenants += tenants
        self._create()

    def inc(self, model: str, tenant: str, cost_usd: float) -> None:
        """Add a cost of a tenant; "" where there are no tenants."""
        self._costs.labels(self._models.of(model), self._tenants.of(tenant)).inc(cost_usd)

    def _create(self) -> None:
        for tenant in self._known_tenants:
            for model in self._known_models:
                self._costs.labels(model, tenant)
