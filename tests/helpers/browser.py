"""A real browser over a page on disk: what a user sees, and what the page complains of."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

NAMES = ("/usr/bin/chromium", "chromium", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@dataclass(frozen=True)
class Visit:
    """A page, and all that went wrong on it so far: errors, and requests to a network."""

    page: Page
    complaints: list[str]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start headless Chromium: the system's, or Playwright's own where there is none.

    One at a time: Playwright's event loop runs meanwhile.
    """
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(
    browser: Browser, path: Path, *, dark: bool = False, width: int = 1440
) -> Iterator[Visit]:
    """Open a file in a page of its own."""
    page = browser.new_page(
        viewport={"width": width, "height": 1000}, color_scheme="dark" if dark else "light"
    )
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def on_request(request: Request) -> None:
        if not request.url.startswith(("file:", "data:")):
            complaints.append(f"request of {request.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", on_request)
    page.goto(path.as_uri())
    try:
        yield Visit(page, complaints)
    finally:
        page.close()
