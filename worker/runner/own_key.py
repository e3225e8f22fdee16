"""API keys of sessions: whose they are, and what the Realtime API says of the worker's own key."""

from __future__ import annotations

from typing import Final

import structlog
from pydantic import SecretStr

from common.observe.metrics import KeyOwner, WorkerMetrics
from common.observe.upstream_codes import OPERATOR_CODES
from worker.config.profile import CallProfile

log = structlog.get_logger()

_REFUSALS: Final = frozenset(OPERATOR_CODES)


class OwnKey:
    """The worker's own API key, as the Realtime API treats it in all calls.

    Attributes:
        problem: for which of OPERATOR_CODES the API refused the last attempt; empty: it did not.
    """

    def __init__(self, metrics: WorkerMetrics) -> None:
        """Make the state of a key that was not used yet."""
        self.problem = ""
        self._key: SecretStr | None = None
        self._metrics = metrics
        metrics.upstream_refused.set(0)

    def use(self, key: SecretStr) -> None:
        """Take OPENAI_API_KEY; nothing is known of a replaced one until its first attempt."""
        if key != self._key:
            self._key, self.problem = key, ""
            self._metrics.upstream_refused.set(0)

    def refused(self, code: str) -> None:
        """Note that the API refused the key."""
        if code != self.problem:
            log.error(
                "own key refused", code=code, effect="calls without a key of their own fail, `/readyz` names it"
            )
        self.problem = code
        self._metrics.upstream_refused.set(1)

    def accepted(self) -> None:
        """Note that the model has answered with the key."""
        if self.problem:
            log.info("own key accepted again", code=self.problem)
            self.problem = ""
            self._metrics.upstream_refused.set(0)


class SessionKey:
    """The API key of one session.

    Attributes:
        owner: whose it is; the worker's own until the call's settings are known.
    """

    def __init__(self, own: OwnKey, metrics: WorkerMetrics) -> None:
        """Make the key of a session that is not prepared yet.

        Args:
            own: the worker's own key.
            metrics: of the worker.
        """
        self.owner = KeyOwner.OURS
        self._own = own
        self._metrics = metrics

    def prepare(self, profile: CallProfile) -> None:
        """Take the settings of the call."""
        self.owner = KeyOwner.CALL if profile.has_own_key else KeyOwner.OURS

    def error(self, code: str) -> None:
        """Count an error that says nothing of the key."""
        self._metrics.upstream_errors.inc(code, self.owner)

    def failed(self, code: str) -> None:
        """Count the error of an attempt, which may be a refusal of the key."""
        self.error(code)
        if self.owner is KeyOwner.OURS and code in _REFUSALS:
            self._own.refused(code)

    def answered(self) -> None:
        """Note that the model has answered."""
        if self.owner is KeyOwner.OURS:
            self._own.accepted()

    def remaining(self, limit: str, number: float, whole: float) -> None:
        """Note what is left of a rate limit; those of callers' keys are no figure of this service.

        Args:
            limit: its name.
            number: of requests or tokens that are left.
            whole: number of them in all; 0: it is not known.
        """
        if self.owner is KeyOwner.OURS and (whole or not number):
            self._metrics.rate_limit(limit, min(1.0, number / whole) if whole else 0.0)
