"""The check of avr-ami, which ends and transfers calls on Asterisk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import aiohttp
import yarl

from common.check.check import Check
from common.check.finding import Finding, State
from common.settings.settings import Settings

NAME: Final = "avr-ami"


def check(settings: Settings) -> Check:
    """Return the check. Without AMI_URL, a missing avr-ami is no failure, because calls can do without it."""
    url = yarl.URL(settings.ami_url)
    value = str(url.with_user(None).with_query(None).with_fragment(None))
    is_set = "ami_url" in settings.model_fields_set

    async def look() -> Sequence[Finding]:
        try:
            # Its commands are POST requests, so this one does nothing there.
            async with aiohttp.ClientSession() as http, http.get(url) as answer:
                status = answer.status
        except (OSError, aiohttp.ClientError) as error:
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if number else type(error).__name__
            what = f"cannot be reached ({reason}): calls cannot be transferred"
            todo = "start avr-ami, or correct AMI_URL" if is_set else "set AMI_URL if there is an avr-ami"
            return [Finding(NAME, State.FAIL if is_set else State.WARN, value, what, todo)]
        if status >= 500:
            what = f"answers HTTP {status}"
            return [Finding(NAME, State.FAIL, value, what, "look at the log of avr-ami, or correct AMI_URL")]
        return [Finding(NAME, State.OK, value, "can be reached; whether it reaches Asterisk shows with a call")]

    return Check(NAME, value, look, late="start avr-ami, or correct AMI_URL")
