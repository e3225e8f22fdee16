"""The check of the certificates."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import trustme

from common.check import certificates
from common.check.finding import State
from common.settings.roles import Role
from common.settings.settings import Settings


@pytest.mark.parametrize(("days", "state"), [(90, State.OK), (3, State.WARN), (-1, State.FAIL)])
async def test_days_of_a_certificate_decide(tmp_path: Path, days: int, state: State) -> None:
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days, hours=1)
    leaf = trustme.CA().issue_cert("127.0.0.1", not_after=end)
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "a.crt"))
    leaf.private_key_pem.write_to_path(str(tmp_path / "a.key"))
    files = {"TLS_CERT": str(tmp_path / "a.crt"), "TLS_KEY": str(tmp_path / "a.key")}
    (check,) = certificates.checks(Settings.parse({"REDIS_URL": "redis://h", **files}, Role.DISPATCHER))
    (found,) = await check.run(10)
    assert found.state is state, found
