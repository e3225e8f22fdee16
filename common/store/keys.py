"""Prefixes of keys in Redis.

Releases that do not understand each other's keys have different prefixes, so that they can share one Redis while
an operator switches from one to the other (docs/releases.md).
"""

from __future__ import annotations

from typing import Final

KEY_PREFIX: Final = "avr-sts:2:"
"""Of this release. It changes together with the oldest link protocol that a peer may have."""

PREVIOUS_KEY_PREFIX: Final = "avr-sts:"
"""Of release 0.1. Its second part is a word such as `workers`, so no key can belong to both."""
