"""Puts together what a call's session needs: its tools, its profile, its memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import structlog

from common.link import wire
from common.observe.redaction import CallSecrets, secrets_in
from common.settings.function_tools import MAX_TOOLS
from worker.config import profile_loading, session_change
from worker.config.profile import CallProfile
from worker.config.session_config import SessionConfig, session_tools
from worker.runner.resources import Resources
from worker.session.memory.checkpoint import CheckpointReader
from worker.tools.tool_set import ToolSet

MAX_SHOWN_TOOLS = 10


class Preparation:
    """The preparation of one call's session.

    Attributes:
        memory: reads the call's memory, which another dispatcher or session left.
        profile: the call's settings; None: they are not known yet.
        tool_set: the call's tools; None: they are not known yet.
    """

    def __init__(self, opening: wire.Open, resources: Resources) -> None:
        self.memory = CheckpointReader()
        self.profile: CallProfile | None = None
        self.tool_set: ToolSet | None = None
        self._opening = opening
        self._resources = resources
        self._without_secrets: tuple[str, ...] = ()
        self._log = structlog.get_logger().bind(uuid=opening.uuid)
        self._secrets = CallSecrets(opening.uuid)
        self._secrets.keep(secrets_in(opening.provider_config))

    async def load(self) -> CallProfile:
        """Load the tools, and the profile that the call began with, or a new one."""
        resources = self._resources
        self.tool_set = await resources.tools.tool_set()
        self.profile, self._without_secrets = await self._load_profile()
        return self.profile

    def config(self) -> SessionConfig:
        """Derive the configuration of the session."""
        assert self.profile is not None
        assert self.tool_set is not None
        tools, left_out = session_tools(self.profile, self.tool_set)
        if left_out:
            reason = f"a session has at most {MAX_TOOLS}"
            shown = left_out[:MAX_SHOWN_TOOLS]
            self._log.warning("tools left out", reason=reason, number=len(left_out), tools=shown)
        return SessionConfig.of(
            self.profile,
            self.tool_set,
            self._resources.settings,
            tools=tools,
            without_secrets=self._without_secrets,
        )

    def record(self) -> wire.Profile:
        """Return the profile as the dispatcher is to remember it; its secrets are kept out of logs from now on."""
        assert self.profile is not None
        self._secrets.keep(secrets_in(self.profile.secrets()))
        return wire.Profile(self.profile.to_record(), self.profile.secrets(), self.profile.tenant)

    def checked(self, body: dict[str, Any]) -> dict[str, Any]:
        """Check a change of the session by the calls API.

        Raises:
            ChangeRefused: the session cannot be changed so.
        """
        assert self.profile is not None
        assert self.tool_set is not None
        self._secrets.keep(secrets_in(body))
        change, changes = session_change.checked(body, self.profile, self.tool_set.names)
        profile_loading.log_tools_changed(self._log, "the calls API", changes)
        return change

    def changed(self, session: dict[str, Any]) -> None:
        """Take a change of the session into the profile: the next session of the call has it, too."""
        assert self.profile is not None
        self.profile = self.profile.changed(session, self._resources.settings)

    def changed_session(self) -> dict[str, Any] | None:
        """Return the session object, if the calls API changed it while this session stood by."""
        changed = self._remembered_profile()
        if changed is None or changed == self.profile or self.tool_set is None:
            return None
        self.profile = changed
        tools, _ = session_tools(changed, self.tool_set)
        return SessionConfig.of(changed, self.tool_set, self._resources.settings, tools=tools).session

    def close(self) -> None:
        """Forget the call's secrets."""
        self._secrets.close()

    async def _load_profile(self) -> tuple[CallProfile, tuple[str, ...]]:
        """Return the profile of the call, and the names of tools whose secrets were lost."""
        opening, resources = self._opening, self._resources
        remembered = self._remembered_profile()
        if remembered is not None:
            return await profile_loading.restored(
                remembered,
                resources.settings,
                uuid=opening.uuid,
                metadata=opening.metadata,
                provider_config=opening.provider_config,
                http=resources.http,
            )
        loaded = await profile_loading.load(
            resources.settings,
            uuid=opening.uuid,
            metadata=opening.metadata,
            provider_config=opening.provider_config,
            http=resources.http,
            tenant=self._tenant(),
        )
        return loaded, ()

    def _tenant(self, remembered: str = "") -> str:
        """Return the tenant of the call: of its earlier sessions, of the dispatcher, or by what AVR Core sent."""
        opening, tenants = self._opening, self._resources.settings.known_tenants
        told = tenants.told(remembered) or tenants.told(opening.tenant)
        return told or tenants.of_call(opening.metadata, opening.provider_config)

    def _remembered_profile(self) -> CallProfile | None:
        """Return the profile that the call began with, if it is known."""
        remembered = self.memory.profile
        if remembered is None or not remembered.record:
            return None
        try:
            profile = CallProfile.from_record(remembered.record, remembered.secrets, self._resources.settings)
            return dataclasses.replace(profile, tenant=self._tenant(profile.tenant))
        except (TypeError, ValueError, LookupError):
            self._log.warning("settings of a call are invalid, and are loaded again")
            return None
