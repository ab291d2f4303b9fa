"""A headless Chromium, and a page that remembers what went wrong in it."""

import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

# The tests run as root in containers, and nothing that a browser does on its own account belongs into them.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def chromium():
    """The system's Chromium, in a profile of its own."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "chromium is missing: tests/setup installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Watch:
    """Errors of a page: exceptions, messages of the console, violations of the policy, requests to other hosts."""

    def __init__(self, page: Page, origin: str):
        self.errors: list[str] = []
        self.foreign: list[str] = []
        host = urlsplit(origin).netloc

        def requested(request):
            parts = urlsplit(request.url)
            if parts.scheme not in ("data", "blob") and parts.netloc != host:
                self.foreign.append(request.url)

        page.on("pageerror", lambda error: self.errors.append(f"exception: {error}"))
        page.on("console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text))
        page.on("request", requested)

    def check(self, expected: str | None = None) -> None:
        """Nothing went wrong, but for messages that contain `expected`."""
        unexpected = [error for error in self.errors if expected is None or expected not in error]
        assert not self.foreign, self.foreign
        assert not unexpected, unexpected


def new_context(browser: Browser, theme="light", width=1360, height=900, **options) -> BrowserContext:
    """A context without history, storage or cache."""
    return browser.new_context(
        color_scheme=theme, viewport={"width": width, "height": height}, locale="en-GB", timezone_id="Europe/Vienna",
        **options,
    )  # fmt: skip
