"""The console over an API with made-up data: reading and following records, refreshing, failing, hostile data."""

import re
import time

import pytest
from playwright.sync_api import Page, expect

from console.fake import Cluster, group_row, topic_row
from console.rig import browser, console, fake, open_console, until

__all__ = ["browser", "console", "fake", "open_console"]

pytestmark = pytest.mark.highwater_only("the console is Highwater's")


def test_figures_change_by_themselves_and_rows_stay_under_the_pointer(console):
    """A refresh changes text in place: the row that somebody points at does not move away, nor does the page."""
    page = console.open_page("groups")
    row = page.get_by_role("row", name=re.compile("shipping"))
    row.hover()
    before = row.bounding_box()
    element = row.element_handle()
    console.fake.cluster.groups[1].update(lag_records=5_000_000, lag_seconds=9_000.0)
    expect(row).to_contain_text("5.00 M")
    expect(row).to_contain_text("2 h 30 min")
    assert row.bounding_box() == before
    assert element.evaluate("row => row.isConnected")
    page.mouse.move(5, 5)
    expect(page.locator("tbody th").first).to_have_text("shipping")


def test_every_page_refreshes_by_itself(console):
    """What the API says next is on the page without anybody's doing."""
    cluster = console.fake.cluster
    main = console.page.locator("main")

    def becomes(name: str, before: str, change, after: str) -> None:
        console.open_page(name)
        expect(main).to_contain_text(before)
        change()
        expect(main).to_contain_text(after)

    orders = cluster.topics[0]
    billing = cluster.groups[0]
    becomes("overview", "187 GiB free", lambda: cluster.disk.update(free_bytes=77 << 30), "77.0 GiB free")
    becomes("topics", "1,240 /s", lambda: orders.update(produce_records_per_second=4321), "4,321 /s")
    becomes("records", "4,321 /s", lambda: orders.update(produce_records_per_second=8765), "8,765 /s")
    becomes("partitions", "3,066,701", lambda: orders.update(records=6_000_000), "1,000,000")
    becomes("groups", "74,400", lambda: billing.update(lag_records=51_234), "51,234")
    becomes("group", "51,234", lambda: billing.update(lag_records=61_234), "61,234")
    becomes("objectives", "at risk", lambda: cluster.slos[2].update(budget_used=0.777), "78 %")
    becomes("clients", "48,211", lambda: cluster.connections[0].update(requests=59_999), "59,999")
    becomes("broker", "77.0 GiB free", lambda: cluster.disk.update(free_bytes=66 << 30), "66.0 GiB free")


def test_graphs_of_lag_go_on_by_themselves(console):
    """Both units: the line is another one, and its scale, when the lag has become another."""
    page = console.open_page("group")
    graphs = [page.get_by_role("slider", name=f"Lag in {unit}, over time") for unit in ("seconds", "records")]
    lines = [graph.locator(".graph-line") for graph in graphs]
    expect(graphs[0].locator(".graph-grid")).to_contain_text("90 s")
    expect(graphs[1].locator(".graph-grid")).to_contain_text("100 k")
    before = [line.get_attribute("d") for line in lines]
    console.fake.cluster.groups[0].update(lag_records=744_000, lag_seconds=602.0)
    expect(graphs[0].locator(".graph-grid")).to_contain_text("min")
    expect(graphs[1].locator(".graph-grid")).to_contain_text("1.00 M")
    assert all(line.get_attribute("d") != drawn for line, drawn in zip(lines, before))


def test_the_last_records_say_that_they_are_not_all(console):
    """With or without a record found, who reads the newest is told that older ones were not looked through."""
    cluster = console.fake.cluster
    cluster.incomplete = True
    page = console.open_page("records")
    expect(page.locator(".record-bar")).to_contain_text("the ones before lie too far back to be read at once")
    page.get_by_role("searchbox", name="Key").fill("nobody's")
    page.get_by_role("button", name="Read", exact=True).click()
    expect(page.locator("main")).to_contain_text("None of the newest records match")


def lag_shown(page: Page) -> float:
    """What the page says in whole seconds below two minutes."""
    return float(re.fullmatch(r"([\d.]+) s", page.locator("[data-tile=lag-seconds] .tile-value").inner_text())[1])


def test_lag_in_seconds_ticks_between_samples(console):
    """With answers held back, lag that has grown by a second a second goes on doing so, and not for ever."""
    cluster = console.fake.cluster
    cluster.stopped_at = time.time() - 40
    page = console.open_page("group")
    until(page, lambda: cluster.requests.count("groups/billing/lag") >= 4)
    held_at = time.time()
    page.route("**/groups/billing/lag", lambda route: None)
    first = lag_shown(page)
    until(page, lambda: lag_shown(page) >= first + 3)
    # Late by a tick and by however long this took to look, never early by more than half a second of rounding.
    assert lag_shown(page) <= time.time() - cluster.stopped_at + 1
    page.wait_for_timeout(8_000 - min(8_000, int(1000 * (time.time() - held_at))))
    assert lag_shown(page) <= held_at - cluster.stopped_at + 8


def offsets(page: Page) -> list[str]:
    """The places of the records shown, such as "1/20"."""
    return page.eval_on_selector_all("tr[data-place]", "rows => rows.map((row) => row.dataset.place)")


def test_records_by_offset_time_and_key(console):
    """The form asks what it says, the address is that of the question, and the pages join."""
    page = console.open_page("records")
    assert len(offsets(page)) == 50
    page.get_by_role("combobox", name="Partition").select_option("1")
    page.get_by_role("combobox", name="From").select_option("offset")
    page.get_by_label("Offset", exact=True).fill("20")
    page.get_by_role("button", name="Read", exact=True).click()
    expect(page.locator("tr[data-place='1/20']")).to_be_visible()
    assert offsets(page) == [f"1/{offset}" for offset in range(20, 70)]
    assert page.url.endswith("#/topics/orders?partition=1&offset=20")

    page.keyboard.press("n")
    expect(page.locator("tr[data-place='1/70']")).to_be_visible()
    assert offsets(page) == [f"1/{offset}" for offset in range(70, 100)]
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.keyboard.press("p")
    expect(page.locator("tr[data-place='1/20']")).to_be_visible()
    page.keyboard.press("p")
    expect(page.locator("tr[data-place='1/0']")).to_be_visible()
    page.go_back()
    expect(page.locator("tr[data-place='1/69']")).to_be_visible()

    page.get_by_role("combobox", name="Partition").select_option("")
    page.get_by_role("combobox", name="From").select_option("time")
    # 1 764 000 300 s after 1970 is this in Vienna, and the offsets 300 to 399 of the fake come from then on.
    page.get_by_label("Time (Europe/Vienna, UTC+1)").fill("2025-11-24T17:05:00")
    page.get_by_role("button", name="Read", exact=True).click()
    expect(page.locator("tr[data-place='0/75']")).to_be_visible()
    assert offsets(page)[:5] == ["0/75", "1/75", "2/75", "3/75", "0/76"]

    page.get_by_role("combobox", name="From").select_option("earliest")
    page.get_by_role("searchbox", name="Key").fill("c-3")
    page.get_by_role("button", name="Read", exact=True).click()
    expect(page.locator("tr[data-place='3/0']")).to_be_visible()
    assert set(page.locator("tr[data-place] td.key").all_inner_texts()) == {"c-3"}


def test_a_record_opens_into_all_of_it(console):
    """Headers, pretty and raw JSON, base64, and numbers that a double would change."""
    exact = '{"id":12345678901234567890,"price":1.50}'
    record = Cluster.record(0, value={"json": {"placeholder": 1}})
    console.fake.cluster.records = [record, Cluster.record(4, key=None, value={"base64": "AAECA/8="})]
    console.page.route(
        re.compile(r"/records\?"),
        lambda route: route.fulfill(body=route.fetch().text().replace('{"placeholder": 1}', exact)),
    )
    page = console.open("#/topics/orders?partition=0&offset=0")
    value = page.get_by_label("Value", exact=True)
    expect(value).to_have_text('{\n  "id": 12345678901234567890,\n  "price": 1.50\n}')
    page.get_by_role("group", name="Form of the value").get_by_role("button", name="Raw").click()
    expect(value).to_have_text(exact)
    expect(page.locator(".headers")).to_contain_text("traceparent")
    page.get_by_role("group", name="Form of the value").get_by_role("button", name="Base64").click()
    expect(value).to_have_text("eyJpZCI6MTIzNDU2Nzg5MDEyMzQ1Njc4OTAsInByaWNlIjoxLjUwfQ==")

    opener = page.get_by_role("button", name="Record at partition 0, offset 0")
    opener.focus()
    page.keyboard.press("Enter")
    expect(value).to_have_count(0)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_role("group", name="Form of the value").get_by_role("button", name="Hex").click()
    expect(value).to_have_text(re.compile(r"^000000  00 01 02 03 ff +·····$"))
    expect(page.locator(".detail")).to_contain_text("null")


def test_following_shows_what_comes_in(console):
    """New records come on top, in order, over a broken stream as well; what is kept is bounded."""
    cluster = console.fake.cluster
    page = console.open_page("records")
    page.keyboard.press("f")
    expect(page.locator(".record-bar")).to_contain_text("Following: connected")
    cluster.push(Cluster.record(4000))
    expect(page.locator("tr[data-place='0/1000']")).to_be_visible()
    for offset in range(4001, 4004):
        cluster.push(Cluster.record(offset))
    expect(page.locator(".record-bar")).to_contain_text("4 new records")
    assert offsets(page) == ["3/1000", "2/1000", "1/1000", "0/1000"]
    for offset in range(5000, 5700):
        cluster.push(Cluster.record(offset))
    expect(page.locator(".record-bar")).to_contain_text("704 new records")
    assert len(offsets(page)) == 500
    page.keyboard.press("f")
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".record-bar")).to_contain_text("50 records")


HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'`${alert(3)}&amp;\u202e"


def test_hostile_names_and_values_stay_text(console):
    """Whatever a client can name or write is shown as it is and does nothing."""
    cluster = console.fake.cluster
    evil = {"text": HOSTILE}
    cluster.records = [
        Cluster.record(0, key=evil, value=evil, headers=[{"name": HOSTILE, "value": evil}]),
        Cluster.record(4, key=evil, value={"json": {HOSTILE: [HOSTILE], "__proto__": {"constructor": 1}}}),
    ]
    cluster.groups = [group_row(HOSTILE, 5, 1.0, 0.0, 1.0, HOSTILE, state=HOSTILE, protocol=HOSTILE)]
    cluster.topics.append(topic_row(HOSTILE, 1, 5, 1.0, priority=HOSTILE))
    cluster.slos = [Cluster.slo(HOSTILE, 1.0, HOSTILE, 1.0, 0.5, 1.0)]
    cluster.connections = [Cluster.connection(HOSTILE, HOSTILE, HOSTILE, HOSTILE)]
    cluster.shedding.update(active=True, reason=HOSTILE)
    dialogs = []
    console.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for place in ("#/", "#/topics", "#/groups", "#/objectives", "#/clients"):
        page = console.open(place)
        expect(page.locator("main")).to_contain_text(HOSTILE)
    expect(page.locator("#banners")).to_contain_text(HOSTILE)
    page.keyboard.press("g")
    page.keyboard.press("g")
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    expect(page.locator("main")).to_contain_text("Lag in records")
    page.keyboard.press("g")
    page.keyboard.press("t")
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    expect(page.locator(".opener-button")).to_have_count(2)
    for opener in page.locator(".opener-button").all():
        opener.click()
    expect(page.locator(".headers").first).to_contain_text(HOSTILE)
    expect(page.get_by_label("Value", exact=True).nth(1)).to_contain_text("__proto__")
    assert page.locator("main img, main script").count() == 0
    for place in (f"#/groups/{HOSTILE}", f"#/topics/{HOSTILE}?partition={HOSTILE}", "#/%zz", "#/topics/%zz/%3Cb"):
        page.goto("about:blank")
        page.goto(f"{console.fake.url}/{place}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert dialogs == []
    # What the form refuses to take for a partition is not in its address either; the rest are answers of 404.
    console.expected = "404"


def test_a_failing_api_is_said_and_recovered_from(console):
    """What failed, why, that it is tried again; what was last known stays; all is well again by itself."""
    console.expected = "Failed to load resource"
    cluster = console.fake.cluster
    page = console.open_page("topics")
    cluster.failing_path = ("topics", 500)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Could not read the topics: the fake was told to fail.")
    expect(alert).to_contain_text(re.compile(r"Trying again (in \d+ s|now)\."))
    expect(page.locator("#pulse")).to_have_text("Retrying")
    expect(page.locator("main")).to_contain_text("page-views")
    # The third failure leaves time to press the button, which is gone when it is tried again without.
    expect(alert).to_contain_text(re.compile(r"in ([5-9]|1\d) s"))
    cluster.failing_path = None
    page.get_by_role("button", name="Try now").click()
    expect(alert).to_have_count(0)
    expect(page.locator("#pulse")).to_have_text("Live")

    cluster.failing = 0
    expect(alert).to_contain_text("The broker does not answer.")
    expect(alert).to_contain_text("the broker cannot be reached")
    cluster.failing = None
    expect(alert).to_have_count(0)

    cluster.failing_path = ("topics/orders/records", 503)
    page.get_by_role("link", name="orders").click()
    expect(page.locator("main")).to_contain_text("The records could not be read")
    cluster.failing_path = None
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("main")).to_contain_text("50 records")


def test_requests_become_rarer_while_they_fail_and_stop_while_hidden(console):
    console.expected = "Failed to load resource"
    cluster = console.fake.cluster
    page = console.open_page("clients")
    # The page's own clock is moved on, so that nothing depends on how fast this machine is.
    page = console.page
    page.clock.install()
    page.goto("about:blank")
    page.goto(f"{console.fake.url}/#/clients")
    expect(page.locator("main")).to_contain_text("shipping-1")
    cluster.failing = 500
    waits = []
    for _ in range(6):
        seen = cluster.requests.count("connections")
        waited = 0
        while cluster.requests.count("connections") == seen and waited < 40:
            page.clock.run_for(1000)
            page.wait_for_timeout(60)
            waited += 1
        waits.append(waited)
    assert waits[-1] >= 12 and waits[-1] > waits[0], waits

    cluster.failing = None
    page.clock.run_for(16_000)
    expect(page.locator("#pulse")).to_have_text("Live")
    page.evaluate(
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    expect(page.locator("#pulse")).to_have_text("Paused")
    # A request that was on its way still arrives.
    page.wait_for_timeout(500)
    seen = len(cluster.requests)
    page.clock.run_for(60_000)
    page.wait_for_timeout(300)
    assert len(cluster.requests) == seen
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#pulse")).to_have_text("Live")
    until(page, lambda: len(cluster.requests) > seen)


def test_an_empty_cluster_says_what_to_do_next(console):
    cluster = console.fake.cluster
    cluster.topics, cluster.groups, cluster.slos, cluster.connections, cluster.records = [], [], [], [], []
    for place, text in [
        ("#/", "kcat -P -b 127.0.0.1:9092 -t greetings"),
        ("#/topics", "kcat -P -b 127.0.0.1:9092 -t greetings"),
        ("#/groups", "kcat -b 127.0.0.1:9092 -G readers greetings"),
        ("#/objectives", "highwater slo set --group readers --lag 30s"),
        ("#/clients", "kcat -L -b 127.0.0.1:9092"),
    ]:
        expect(console.open(place).locator("main")).to_contain_text(text)
    console.expected = "404"
    expect(console.open("#/topics/gone").locator("main")).to_contain_text("There is no such topic")
    expect(console.open("#/groups/gone").locator("main")).to_contain_text("There is no such group")
    cluster.topics = [topic_row("new", 1, 0, 0.0)]
    page = console.open("#/topics/new")
    expect(page.locator("main")).to_contain_text("echo 'hello' | kcat -P -b 127.0.0.1:9092 -t new")
    # It comes to life without a reload.
    cluster.topics.append(topic_row("gone", 1, 7, 0.0))
    expect(console.open("#/topics/gone").locator("[data-tile=records]")).to_contain_text("7")


def test_banners_say_what_the_broker_holds_up(console):
    cluster = console.fake.cluster
    cluster.shedding.update(active=True, level=2, reason="billing is behind its objective")
    cluster.shedding["classes"][2]["action"] = "refused"
    page = console.open_page("overview")
    banners = page.locator("#banners")
    expect(banners).to_contain_text("Load is being shed, level 2.")
    expect(banners).to_contain_text("Billing is behind its objective: class low (1 topic) refused.")
    cluster.disk.update(state="full", free_bytes=3 * 2**30)
    expect(banners).to_contain_text("The disk is full.")
    cluster.health = "offline"
    expect(banners).to_contain_text("The log directory is offline.")
    cluster.shedding.update(active=False)
    cluster.disk.update(state="ok")
    cluster.health = "online"
    expect(banners).to_have_text("")
