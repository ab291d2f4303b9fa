"""Looks at the console as a person does who follows the quick start: `python look.py URL`. Prints what it shows."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from console.browser import chromium, new_context  # noqa: E402
from playwright.sync_api import expect  # noqa: E402

PATIENCE_MS = 60_000


def main(url: str) -> None:
    with chromium() as browser:
        page = new_context(browser).new_page()
        page.goto(url)
        shown = page.locator("[data-tile=lag-records] .tile-value")
        expect(shown).to_have_text("600", timeout=PATIENCE_MS)
        seconds = page.locator("[data-tile=lag-seconds] .tile-value").inner_text()
        print(json.dumps({"title": page.title(), "records": shown.inner_text(), "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1])
