"""The console over an API with made-up data: every page, its looks, its keyboard, its tables and graphs.

test_console_use.py is about reading records, refreshing and failing, test_console_live.py about a real broker.
"""

import re
import shutil
import subprocess

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from console.fake import PAGE, group_row, topic_row
from console.rig import PAGES, browser, console, fake, open_console
from console.screenshots import BEHIND, IMAGES, WELL

__all__ = ["browser", "console", "fake", "open_console"]

pytestmark = pytest.mark.highwater_only("the console is Highwater's")

DOCS = IMAGES.parent


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible_in_both_themes(open_console, theme):
    """Each page shows its data, says its title, and has no violation that axe finds, contrast included."""
    console = open_console(theme=theme)
    for name, (_, title, _) in PAGES.items():
        page = console.open_page(name)
        expect(page).to_have_title(re.compile(rf"^{re.escape(title)} · 127\.0\.0\.1:9092 · Highwater$"))
        results = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
        assert results.violations_count == 0, f"{name}: {results.generate_report()}"


@pytest.mark.parametrize("width", [400, 1600])
def test_no_page_is_wider_than_the_window(open_console, width):
    console = open_console(width=width)
    for name in PAGES:
        page = console.open_page(name)
        wide, shown = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide <= shown, f"{name} is {wide} px wide in {shown} px"
        expect(page.locator(".nav").get_by_role("link", name="Broker")).to_be_in_viewport(ratio=1)


def test_the_modules_are_what_they_should_be():
    """Each module parses, and stays a small one."""
    node = shutil.which("node")
    assert node, "node is missing"
    modules = sorted(PAGE.rglob("*.js"))
    assert len(modules) > 20
    for module in modules:
        checked = subprocess.run([node, "--check", str(module)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        assert len(module.read_text().splitlines()) < 400, module


def test_the_theme_follows_the_system_until_one_is_chosen(open_console):
    """The switch wins over the system's preference, and is remembered by the next visit before its first paint."""
    console = open_console(theme="light")
    page = console.open_page("overview")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(background)
    assert dark != light
    page.get_by_role("button", name="Use the light theme").click()
    assert page.evaluate(background) == light
    page = console.open_page("topics")
    assert page.evaluate(background) == light
    page.keyboard.press("d")
    assert page.evaluate(background) == dark


def test_the_console_is_used_by_keyboard_alone(console):
    """Skip link, navigation, shortcuts, a table walked by arrows, a row opened by Enter, and back."""
    page = console.open_page("overview")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()

    page.keyboard.press("g")
    page.keyboard.press("t")
    heading = page.get_by_role("heading", name="Topics", level=1)
    expect(heading).to_be_focused()
    expect(page.get_by_role("link", name="Topics", exact=True)).to_have_attribute("aria-current", "page")

    page.keyboard.press("/")
    filter_box = page.get_by_role("searchbox", name="Filter topics")
    expect(filter_box).to_be_focused()
    page.keyboard.type("a")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    # From the filter to the checkbox beside it, over the headers that sort, to the one row in the tab order.
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('tbody tr')"):
            break
    expect(rows.nth(0)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(rows.nth(1)).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("k")
    expect(rows.nth(0)).to_be_focused()
    name = rows.nth(0).get_by_role("link").inner_text()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)

    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_contain_text("Next page of records")
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.go_back()
    expect(heading).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_whatever_has_the_focus_shows_it(open_console, theme):
    """Once around by the Tab key: everything that takes the focus has a ring that differs from what is behind it."""
    console = open_console(theme=theme)
    ring = """() => {
        const element = document.activeElement;
        const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(element);
        const page = getComputedStyle(document.documentElement).backgroundColor;
        return { element: element.outerHTML.slice(0, 200), around: element === document.body,
                 seen: outlineStyle === "solid" && parseFloat(outlineWidth) >= 2 && outlineColor !== page };
    }"""
    for name in PAGES:
        page = console.open_page(name)
        for steps in range(400):
            page.keyboard.press("Tab")
            focus = page.evaluate(ring)
            if focus["around"]:
                break
            # Where the skip link leads is as large as the page.
            assert focus["seen"], f"{name}: {focus['element']}"
        assert steps >= 8, f"{name}: {steps} stops"


def test_classes_stand_in_the_order_of_their_importance(console):
    page = console.open_page("objectives")
    classes = page.get_by_role("grid", name="Classes of topics").locator("tbody tr")
    expect(classes).to_have_text([re.compile("^high"), re.compile("^normal"), re.compile("^low")])
    expect(page.get_by_role("row", name=re.compile("analytics"))).to_contain_text("99 % of 1 d")
    expect(page.get_by_role("row", name=re.compile("analytics"))).to_contain_text("3 min")


def test_every_page_has_its_pictures_in_the_documentation():
    """docs/console.md shows each page in both themes, and docs/images has these pictures and no others of the console."""
    text = (DOCS / "console.md").read_text()
    wanted = {f"console-{name}-{theme}.png" for name in PAGES for theme in ("light", "dark")}
    shown = re.findall(r"!\[[^]]+\]\(images/(console-[\w-]+\.png)\)", text)
    assert sorted(shown) == sorted(wanted)
    assert {path.name for path in (DOCS / "images").glob("console-*")} == wanted
    assert {name for name, _ in WELL + BEHIND} == set(PAGES), "console/screenshots.py takes them all"


def test_single_keys_can_be_switched_off(console):
    page = console.open_page("overview")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_label("Single keys act as shortcuts").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_table_sorts_and_filters(console):
    page = console.open_page("groups")
    names = page.locator("tbody th")
    expect(names).to_have_text(["analytics", "billing", "shipping", "audit"])
    page.get_by_role("button", name="Group").click()
    expect(names).to_have_text(["analytics", "audit", "billing", "shipping"])
    expect(page.get_by_role("columnheader", name="Group")).to_have_attribute("aria-sort", "ascending")
    page.get_by_role("button", name="Group").click()
    expect(names).to_have_text(["shipping", "billing", "audit", "analytics"])
    page.get_by_role("searchbox").fill("VIOLATED")
    expect(names).to_have_text(["billing"])
    expect(page.locator(".table-count")).to_have_text("1 of 4 groups")
    page.get_by_role("searchbox").fill("nobody")
    expect(page.locator("main")).to_contain_text("No group matches the filter.")


def test_graphs_have_axes_gaps_and_a_cursor_for_pointer_and_keyboard(console):
    page = console.open_page("group")
    seconds = page.get_by_role("slider", name="Lag in seconds, over time")
    records = page.get_by_role("slider", name="Lag in records, over time")
    expect(seconds.locator(".graph-grid text").first).to_have_text("0 s")
    assert seconds.locator(".graph-times text").count() >= 4
    # The fake's history has a hole, so its line has two parts.
    assert seconds.locator(".graph-line").get_attribute("d").count("M") == 2

    box = seconds.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 40)
    readout = page.locator("figure", has=seconds).locator("output")
    expect(readout).to_have_text(re.compile(r"^\d\d:\d\d:\d\d  \d+ s, [\d,]+ records$"))
    # Both graphs speak of the same time.
    expect(page.locator("figure", has=records).locator("output")).to_have_text(readout.inner_text())
    expect(records.locator(".graph-dot")).to_have_count(1)
    page.mouse.move(5, 5)
    expect(records.locator(".graph-dot")).to_have_count(0)

    seconds.focus()
    page.keyboard.press("Home")
    first = seconds.get_attribute("aria-valuetext")
    page.keyboard.press("ArrowRight")
    assert seconds.get_attribute("aria-valuetext") != first
    page.get_by_role("link", name="5 min", exact=True).click()
    expect(page).to_have_url(re.compile("seconds=300"))


def test_a_thousand_topics_and_very_long_names(open_console):
    console = open_console(width=400)
    cluster = console.fake.cluster
    cluster.topics = [topic_row(f"topic-{number}", 1, number, float(number)) for number in range(1000)]
    cluster.topics.append(topic_row("l" + "o" * 247 + "ng", 1, 1, 1.0))
    cluster.groups = [group_row("g" * 2000, 1, 1.0, 1.0, 1.0)]
    page = console.open("#/topics")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(200)
    page.get_by_role("button", name="Show 200 more of 1001").click()
    expect(rows).to_have_count(400)
    page.get_by_role("searchbox").fill("topic-99")
    expect(rows).to_have_count(11)
    for place in ("#/topics", "#/groups", f"#/topics/{cluster.topics[-1]['topic']}", f"#/groups/{'g' * 2000}"):
        page = console.open(place)
        expect(page.locator("#pulse")).to_have_text("Live")
        wide, shown = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide <= shown, place[:40]


def test_motion_stops_for_who_asks_for_less(open_console):
    page = open_console(reduced_motion="reduce").open_page("overview")
    assert page.evaluate("getComputedStyle(document.querySelector('.pulse-dot')).animationName") == "none"
