"""The console as the broker serves it, over records, groups and clients that are real."""

import gzip
import json
import re
import threading
import time

import pytest
import requests
from confluent_kafka import Consumer, Producer
from playwright.sync_api import expect

from console.browser import Watch, chromium, new_context
from console.fake import CONTENT_TYPES, PAGE, POLICY
from console.rig import PAGES, PATIENCE_MS, until
from console.screenshots import Times, take_all
from harness.admin import TIMEOUT_S, create_topic
from harness.clients import new_group

pytestmark = pytest.mark.highwater_only("the console is Highwater's")

# How long the consumer stands still, and how far from that the console may be.
STOPPED_S = 60
TOLERANCE_S = 1.0


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_live(browser):
    """Opens a place of a broker's console; at the end nothing may have gone wrong in it."""
    opened = []

    def open_one(broker, place: str, **options):
        context = new_context(browser, **options)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        opened.append((Watch(page, broker.http), context))
        page.goto(f"{broker.http}/{place}")
        return page

    yield open_one
    for watch, context in opened:
        watch.check()
        context.close()


def test_the_binary_serves_the_page_with_its_headers(broker):
    """Each file as it is on disk, plain and compressed, once to who keeps it; and nothing else beneath /console/."""
    for file in sorted(path for path in PAGE.rglob("*") if path.is_file()):
        path = file.relative_to(PAGE).as_posix()
        url = f"{broker.http}/" if path == "index.html" else f"{broker.http}/console/{path}"
        plain = requests.get(url, headers={"Accept-Encoding": "identity"}, timeout=TIMEOUT_S)
        assert (plain.status_code, plain.content) == (200, file.read_bytes()), path
        assert plain.headers["Content-Type"] == CONTENT_TYPES[file.suffix]
        assert plain.headers["Content-Security-Policy"] == POLICY
        assert plain.headers["X-Content-Type-Options"] == "nosniff"
        packed = requests.get(url, headers={"Accept-Encoding": "gzip"}, stream=True, timeout=TIMEOUT_S)
        assert gzip.decompress(packed.raw.read(decode_content=False)) == file.read_bytes()
        head = requests.head(url, headers={"Accept-Encoding": "identity"}, timeout=TIMEOUT_S)
        assert (head.status_code, head.content) == (200, b"")
        again = requests.get(url, headers={"If-None-Match": plain.headers["ETag"]}, timeout=TIMEOUT_S)
        assert (again.status_code, again.content) == (304, b"")
    for path in ("console/", "console/nothing.js", "console/%2e%2e/Cargo.toml", "console/index.html"):
        assert requests.get(f"{broker.http}/{path}", timeout=TIMEOUT_S).status_code == 404, path


def order(number: int) -> str:
    """A record's value."""
    return json.dumps({"order": number, "items": ["book"]})


@pytest.fixture
def orders(broker, topic):
    """A topic of two partitions with a hundred records each, one a second from a fixed time on."""
    create_topic(broker.bootstrap, topic, 2)
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for number in range(200):
        producer.produce(
            topic, order(number), key=f"c-{number % 7}", partition=number % 2,
            timestamp=1_764_000_000_000 + number * 1000, headers=[("trace", f"t-{number}".encode())],
        )  # fmt: skip
    assert producer.flush(TIMEOUT_S) == 0
    return topic


def places(page) -> list[str]:
    """The places of the records shown, such as "1/20"."""
    return page.eval_on_selector_all("tr[data-place]", "rows => rows.map((row) => row.dataset.place)")


def test_records_of_a_real_topic(broker, orders, open_live):
    """By offset, by time, by key, page by page through both partitions, opened, and followed."""
    page = open_live(broker, f"#/topics/{orders}?partition=1&offset=40&limit=25")
    expect(page.locator("tr[data-place='1/40']")).to_be_visible()
    assert places(page) == [f"1/{offset}" for offset in range(40, 65)]
    # A place that is linked to is open already.
    expect(page.get_by_label("Value", exact=True)).to_have_text('{\n  "order": 81,\n  "items": [\n    "book"\n  ]\n}')
    expect(page.locator(".headers")).to_contain_text("t-81")
    page.get_by_role("button", name="Previous").click()
    expect(page.locator("tr[data-place='1/15']")).to_be_visible()

    page.get_by_role("combobox", name="Partition").select_option("")
    page.get_by_role("combobox", name="From").select_option("earliest")
    page.get_by_role("button", name="Read", exact=True).click()
    expect(page.locator("tr[data-place='0/0']")).to_be_visible()
    seen = places(page)
    for _ in range(7):
        first = places(page)[0]
        page.get_by_role("button", name="Next").click()
        until(page, lambda: (places(page) or [first])[0] != first)
        seen += places(page)
    assert seen == [f"{number % 2}/{number // 2}" for number in range(200)]
    expect(page.get_by_role("button", name="Next")).to_be_disabled()

    page.get_by_role("combobox", name="From").select_option("time")
    page.get_by_label("Time (Europe/Vienna, UTC+1)").fill("2025-11-24T17:02:30")
    page.get_by_role("button", name="Read", exact=True).click()
    expect(page.locator("tr[data-place='0/75']")).to_be_visible()
    assert places(page)[:3] == ["0/75", "1/75", "0/76"]

    page.get_by_role("combobox", name="From").select_option("earliest")
    page.get_by_role("searchbox", name="Key").fill("c-5")
    page.get_by_role("button", name="Read", exact=True).click()
    expect(page.locator("tr[data-place='1/2']")).to_be_visible()
    assert places(page)[:3] == ["1/2", "0/6", "1/9"]

    page.get_by_role("searchbox", name="Key").fill("")
    page.get_by_role("button", name="Read", exact=True).click()
    page.get_by_role("button", name="Follow").click()
    expect(page.locator(".record-bar")).to_contain_text("Following: connected")
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for number in range(200, 210):
        producer.produce(orders, order(number), partition=number % 2)
        assert producer.flush(TIMEOUT_S) == 0
    expect(page.locator(".record-bar")).to_contain_text("10 new records")
    assert sorted(places(page)) == sorted(f"{number % 2}/{number // 2}" for number in range(200, 210))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_of_a_real_broker(broker, orders, open_live, theme):
    """All pages over what the API really answers: no error, nothing missing, the broker's own figures."""
    group = new_group()
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group, "client.id": "console-test",
                         "auto.offset.reset": "earliest"})  # fmt: skip
    consumer.subscribe([orders])
    assert len(consumer.consume(50, TIMEOUT_S)) > 0
    consumer.commit(asynchronous=False)
    requests.put(f"{broker.http}/api/v1/slos/{group}", json={"lag_seconds_objective": 5}, timeout=30).raise_for_status()
    try:
        for place, text in [
            ("#/", orders),
            ("#/topics", orders),
            (f"#/topics/{orders}", "50 records"),
            (f"#/topics/{orders}?tab=partitions", "High watermark"),
            (f"#/topics/{orders}?tab=configuration", "cleanup.policy"),
            ("#/groups", group),
            (f"#/groups/{group}", "console-test"),
            ("#/objectives", group),
            ("#/clients", "console-test"),
            ("#/broker", str(broker.data_dir)),
        ]:
            page = open_live(broker, place, theme=theme)
            expect(page.locator("main")).to_contain_text(text)
            expect(page.locator("#pulse")).to_have_text("Live")
            expect(page.get_by_role("alert")).to_have_count(0)
    finally:
        consumer.close()
        requests.delete(f"{broker.http}/api/v1/slos/{group}", timeout=30)


def test_the_pictures_of_the_documentation_can_be_taken(start_broker, browser, tmp_path):
    """console/screenshots.py over a broker of this build, in a hurry: every page in both themes, without an error."""
    take_all(browser, start_broker(), tmp_path, Times(consuming=4, stopped=2, settling=1))
    taken = {path.name for path in tmp_path.glob("*.png") if path.read_bytes().startswith(b"\x89PNG")}
    assert taken == {f"console-{name}-{theme}.png" for name in PAGES for theme in ("light", "dark")}


def shown_s(page) -> float | None:
    """Lag in seconds as the page says it, below two minutes."""
    match = re.fullmatch(r"([\d.]+) s", page.locator("[data-tile=lag-seconds] .tile-value").inner_text())
    return float(match[1]) if match else None


def changed_s(page, since: float) -> tuple[float, float, float]:
    """Lag as the page says it when it has just changed that, between the seconds from `since` before and after.

    It rounds to a second and repaints twice a second: only then is what it says less than a second off.
    """
    shown = before = said = None

    def changes() -> bool:
        nonlocal shown, before, said
        shown, before, said = said, time.time() - since, shown_s(page)
        return None not in (shown, said) and said != shown

    until(page, changes)
    return before, said, time.time() - since


def test_a_consumer_that_stands_still_for_a_minute_is_a_minute_behind(broker, topic, open_live):
    """Steady load, and a consumer that is stopped: the console says how long ago, to the second, and 0 afterwards."""
    create_topic(broker.bootstrap, topic, 1)
    stop, group = threading.Event(), new_group()

    def load():
        producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0})
        while not stop.wait(0.02):
            producer.produce(topic, b"x" * 100)
            producer.poll(0)
        producer.flush(TIMEOUT_S)

    thread = threading.Thread(target=load)
    thread.start()
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False})  # fmt: skip
    try:
        consumer.subscribe([topic])
        assert len(consumer.consume(100, TIMEOUT_S)) == 100
        consumer.commit(asynchronous=False)
        page = open_live(broker, f"#/groups/{group}?seconds=300")
        stopped_at = 0.0
        for _ in range(10):
            messages = consumer.consume(1000, 0.2)
            if messages:
                consumer.commit(asynchronous=False)
                # The record behind the last one that was consumed came at most 20 ms after it.
                stopped_at = messages[-1].timestamp()[1] / 1000
        page.wait_for_timeout(1000 * (stopped_at + STOPPED_S - time.time()))
        before, said, after = changed_s(page, stopped_at)
        assert before - TOLERANCE_S <= said <= after + TOLERANCE_S, (before, said, after)
        expect(page.locator("[data-tile=lag-records]")).to_contain_text(re.compile(r"[\d,]{5} *in 1 partition"))
        readout = page.locator("figure", has=page.get_by_role("slider", name="Lag in seconds")).locator("output")
        expect(readout).to_have_text(re.compile(r"\d\d:\d\d:\d\d  \d+ s, [\d,]+ records"))
        stop.set()
        until(page, lambda: not consumer.consume(1000, 1.0))
        consumer.commit(asynchronous=False)
        until(page, lambda: shown_s(page) == 0)
        expect(page.locator("[data-tile=catch-up]")).to_contain_text("caught up")
    finally:
        stop.set()
        thread.join()
        consumer.close()
