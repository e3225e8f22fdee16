"""A headless Chromium of a test's own, that notes what a page did wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import (
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Error,
    Page,
    Playwright,
    Request,
    async_playwright,
)

PATIENCE_MS = 30_000
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "color_scheme": "dark",
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
# It says nothing to anybody but the service under test, and needs neither a display nor a user.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Seen:
    """What a page asked for and complained of.

    Attributes:
        origins: of all requests.
        errors: of its scripts and of its policy.
        dialogs: `alert` and the like, which no script of ours calls.
    """

    origins: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def request(self, request: Request) -> None:
        self.origins.add("/".join(request.url.split("/")[:3]))

    def page_error(self, error: Error) -> None:
        self.errors.append(str(error))

    def console(self, message: ConsoleMessage) -> None:
        # A refusal that the page expects and explains is an error to the console, too.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    async def dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        await dialog.dismiss()


@asynccontextmanager
async def browsing(chromium: str, profile: Path, screen: dict[str, Any]) -> AsyncIterator[tuple[Page, Seen]]:
    """A page on a screen of this kind, in a browser with an empty profile."""
    async with async_playwright() as playwright:
        context = await _launch(playwright, chromium, profile, screen)
        context.set_default_timeout(PATIENCE_MS)
        try:
            (page,) = context.pages
            seen = Seen()
            page.on("request", seen.request)
            page.on("pageerror", seen.page_error)
            page.on("console", seen.console)
            page.on("dialog", seen.dialog)
            yield page, seen
        finally:
            await context.close()


async def _launch(playwright: Playwright, chromium: str, profile: Path, options: dict[str, Any]) -> BrowserContext:
    return await playwright.chromium.launch_persistent_context(
        profile, executable_path=chromium, args=[*_FLAGS], headless=True, **options
    )
