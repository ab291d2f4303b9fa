"""Takes the pictures in docs/images/ of the console over a broker under load: tests/console/screenshots.

Every figure in them is one that the broker gave at that moment.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.broker import REPOSITORY, Highwater

from .browser import Watch, chromium, new_context
from .load import Shop

IMAGES = REPOSITORY / "docs" / "images"

# Name and address of the pages while all goes well, and of those once billing has stood still.
WELL = [
    ("topics", "#/topics"),
    ("records", "#/topics/orders?partition=2&offset=100&limit=25"),
    ("partitions", "#/topics/orders?tab=partitions"),
    ("configuration", "#/topics/orders?tab=configuration"),
    ("clients", "#/clients"),
    ("broker", "#/broker"),
]
BEHIND = [
    ("group", "#/groups/billing?seconds=300"),
    ("groups", "#/groups"),
    ("objectives", "#/objectives"),
    ("overview", "#/"),
]

WIDTH, HEIGHT = 1200, 820


@dataclass
class Times:
    """How long what is seen in the pictures takes, in seconds."""

    consuming: float = 150
    """How long billing consumes before it stops."""
    stopped: float = 60
    """How long it has stood still then."""
    settling: float = 4
    """How long a page is looked at before its picture is taken."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory, chromium() as browser:
        broker = Highwater(Path(directory) / "broker", {"log.retention.ms": 604_800_000}).start()
        try:
            take_all(browser, broker, IMAGES, Times())
        finally:
            broker.discard()


def take_all(browser, broker: Highwater, images: Path, times: Times) -> None:
    """Takes all pictures into a directory."""
    with Shop(broker) as shop:
        take_under_load(browser, broker, shop, images, times)


def take_under_load(browser, broker: Highwater, shop: Shop, images: Path, times: Times) -> None:
    """Lets the load run, with pages open that gather what the broker keeps no history of; then takes the pictures."""
    contexts = {theme: new_context(browser, theme, WIDTH, HEIGHT) for theme in ("light", "dark")}
    pages = {theme: context.new_page() for theme, context in contexts.items()}
    watches = [Watch(page, broker.http) for page in pages.values()]

    def go(place: str, seconds: float) -> None:
        for page in pages.values():
            # Within the page, which keeps what it has gathered.
            page.evaluate("place => { location.hash = place; }", place)
        pages["light"].wait_for_timeout(seconds * 1000)

    def take(name: str, place: str) -> None:
        go(place, times.settling)
        for theme, page in pages.items():
            if name == "group":
                box = page.get_by_role("slider").first.bounding_box()
                page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 60)
                page.wait_for_timeout(200)
            path = images / f"console-{name}-{theme}.png"
            page.screenshot(path=path, full_page=name in ("group", "records"))
            page.mouse.move(2, 2)
            print(f"{path.name}: {path.stat().st_size // 1024} KiB")

    for page in pages.values():
        page.goto(f"{broker.http}/")
    for place in ("#/groups", "#/topics"):
        go(place, times.consuming / 2)
    for name, place in WELL:
        take(name, place)
    go("#/groups", times.settling)
    shop.billing.clear()
    go("#/", times.stopped)
    for name, place in BEHIND:
        take(name, place)
    for watch in watches:
        watch.check()
    for context in contexts.values():
        context.close()


if __name__ == "__main__":
    main()
