"""The page in a headless Chromium over an API with made-up data, as fixtures: `console` and `open_console`."""

import re
import time

import pytest
from playwright.sync_api import Page, expect

from .browser import Watch, chromium, new_context
from .fake import Fake

# Long enough for a loaded machine; nothing waits for it when all is well.
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)

# Every page: its address, its title, and text that it has once its data are there.
PAGES = {
    "overview": ("#/", "Overview", "page-views"),
    "topics": ("#/topics", "Topics", "page-views"),
    "records": ("#/topics/orders", "orders", "50 records"),
    "partitions": ("#/topics/orders?tab=partitions", "orders", "High watermark"),
    "configuration": ("#/topics/orders?tab=configuration", "orders", "cleanup.policy"),
    "groups": ("#/groups", "Groups", "analytics"),
    "group": ("#/groups/billing", "billing", "Lag in records"),
    "objectives": ("#/objectives", "Objectives", "at risk"),
    "clients": ("#/clients", "Clients", "shipping-1"),
    "broker": ("#/broker", "Broker", "/var/lib/highwater"),
}


def until(page: Page, condition) -> None:
    """Waits for what cannot be waited for in the page: its policy lets no text become a function."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not condition():
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def fake():
    with Fake() as fake:
        yield fake


class Console:
    """The page, and what went wrong in it."""

    def __init__(self, browser, fake: Fake, **options):
        self.context = new_context(browser, **options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.watch = Watch(self.page, fake.url)
        self.fake = fake
        # What the browser itself reports of failed requests, in tests that make them fail.
        self.expected: str | None = None

    def open(self, place: str = "#/") -> Page:
        """Opens a place of the console as from a link elsewhere."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.fake.url}/{place}")
        return self.page

    def open_page(self, name: str) -> Page:
        """Opens one of `PAGES` and waits for its data."""
        place, title, text = PAGES[name]
        page = self.open(place)
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
        expect(page.locator("main")).to_contain_text(text)
        expect(page.locator("#pulse")).to_have_text("Live")
        return page


@pytest.fixture
def open_console(browser, fake):
    """Opens consoles that have to end without an error."""
    opened = []

    def open_one(**options) -> Console:
        console = Console(browser, fake, **options)
        opened.append(console)
        return console

    yield open_one
    for console in opened:
        console.watch.check(console.expected)
        console.context.close()


@pytest.fixture
def console(open_console) -> Console:
    return open_console()
