"""The checks of a dispatcher."""

from __future__ import annotations

from common.check.check import Check
from common.settings.settings import Settings
from dispatcher.check import avr_ami


def checks(settings: Settings, _seconds: float) -> list[Check]:
    """Return the checks of a dispatcher with these settings."""
    return [avr_ami.check(settings)]
