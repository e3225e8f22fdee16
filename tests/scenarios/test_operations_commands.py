"""The commands of "Look at a call" in docs/operations.md, typed into a shell beside the real processes."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

from simulator.avr.core import place_call
from simulator.realtime.server import RealtimeSimulator
from tests.docs.blocks import blocks, document
from tests.helpers import eventually, needed_program
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster
from tests.scenarios.test_recovery import converse_from_the_greeting

TOKEN = "token-of-the-operator"
UUID = "1f0c6f8e-2f5b-4ab4-9f0e-000000000001"


def _lines() -> list[str]:
    """Return the command lines of the section, in its order."""
    begin = document("operations.md").partition("\n### Look at a call\n")[0].count("\n")
    section = [
        each
        for each in blocks("operations.md")
        if each.language == "sh" and int(each.place.rpartition(":")[2]) > begin
    ]
    return [line for block in section for line in block.text.splitlines()]


class Shell:
    """A shell with the variables and the function that the runbook's first block sets."""

    def __init__(self, admin: str, log: Path, folder: Path) -> None:
        self._folder = folder
        self._before = "\n".join(
            (
                "set -o pipefail",
                f"ADMIN={shlex.quote(admin)}",
                f"AUTH={shlex.quote(f'Authorization: Bearer {TOKEN}')}",
                f"logs() {{ cat {shlex.quote(str(log))}; }}",
                f"UUID={UUID}",
            )
        )

    async def start(self, line: str) -> asyncio.subprocess.Process:
        """Start a command line."""
        return await asyncio.create_subprocess_exec(
            needed_program("bash"),
            "-c",
            f"{self._before}\n{line}",
            cwd=self._folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def answer(self, line: str) -> str:
        """Run a command line to its end, and return what it printed."""
        process = await self.start(line)
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        assert process.returncode == 0, (line, output)
        assert b'"error"' not in output, (line, output)
        return output.decode()


async def test_each_command_answers_about_the_call(
    real_redis_url: str, simulator: RealtimeSimulator, tmp_path: Path
) -> None:
    needed_program("curl")
    recordings, log = tmp_path / "recordings", tmp_path / "log"
    settings = {"ADMIN_TOKEN": TOKEN, "CALL_RECORDS_KEEP_SECONDS": 600, "RECORDINGS_DIR": recordings}
    setting, *lines = _lines()
    assert setting == f"UUID={UUID}"
    ended = [line for line in lines if "ended" in line or line.endswith(('/record"', '/recording"'))]
    live = [line for line in lines if line not in ended]
    async with Cluster(real_redis_url, simulator.url, **settings) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url(), uuid=UUID)
        await converse_from_the_greeting(call)
        log.write_text(cluster.logs, "utf-8")
        shell = Shell(await cluster.admin_url(), log, tmp_path)

        (events,) = [line for line in live if line.endswith('/events"')]
        watching = await shell.start(events)
        live.remove(events)
        answers = {line: await shell.answer(line) for line in live}
        await asyncio.wait_for(call.closed.wait(), PATIENCE_SECONDS)
        seen, _ = await asyncio.wait_for(watching.communicate(), PATIENCE_SECONDS)
        assert b"event: " in seen

        async def is_kept() -> bool:
            return UUID in await shell.answer(ended[0])

        await eventually(is_kept, PATIENCE_SECONDS)
        answers |= {line: await shell.answer(line) for line in ended}
    for line, answer in answers.items():
        assert UUID in answer or "-X" in line or "--output" in line, (line, answer)
    assert (tmp_path / "call.wav").read_bytes().startswith(b"RIFF")
    assert len(answers) == len(lines) - 1
