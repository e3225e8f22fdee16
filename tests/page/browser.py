"""A headless Chromium for one test that records a page's errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
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
    "viewport": {"width": 375, "height": 812},
    "color_scheme": "dark",
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}
# The browser connects only to the service under test, and needs neither a display nor a user.
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
class PageRecord:
    """The requests and errors of a page.

    Attributes:
        origins: the origins of all requests.
        errors: errors of the page's scripts and of its policy.
        dialogs: dialogs such as `alert`, which the page's scripts never open.
    """

    origins: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def request(self, request: Request) -> None:
        self.origins.add("/".join(request.url.split("/")[:3]))

    def page_error(self, error: Error) -> None:
        self.errors.append(str(error))

    def console(self, message: ConsoleMessage) -> None:
        # The console also reports refused requests that the page handles.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    async def dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        await dialog.dismiss()


@asynccontextmanager
async def browsing(
    chromium: str, profile: Path, screen: dict[str, Any], *flags: str
) -> AsyncIterator[tuple[Page, PageRecord]]:
    """Open a page on this kind of screen, in a browser with an empty profile and these flags."""
    async with async_playwright() as playwright:
        context = await _launch(playwright, chromium, profile, screen, flags)
        context.set_default_timeout(PATIENCE_MS)
        try:
            (page,) = context.pages
            record = PageRecord()
            page.on("request", record.request)
            page.on("pageerror", record.page_error)
            page.on("console", record.console)
            page.on("dialog", record.dialog)
            yield page, record
        finally:
            await context.close()


async def _launch(
    playwright: Playwright, chromium: str, profile: Path, options: dict[str, Any], flags: Sequence[str]
) -> BrowserContext:
    return await playwright.chromium.launch_persistent_context(
        profile,
        executable_path=chromium,
        headless=True,
        **options | {"args": [*_FLAGS, *flags, *options.get("args", ())]},
    )
