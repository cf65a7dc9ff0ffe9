"""What a run's page offers: to stop it or begin it again, its files, its spec in three ways, its numbers, its log."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from app.store.runs import events
from app.store.runs import queries as runs
from tests.browser.conftest import Site

pytestmark = pytest.mark.slow

RUNNING, FAILED = 16, 25
AT_END = """() => { const log = document.getElementById("live-log");
    return log.scrollTop > 0 && log.scrollHeight - log.scrollTop - log.clientHeight < 24; }"""


@pytest.fixture
def copying(site: Site, chromium: Browser) -> Iterator[Page]:
    """A window that may use the clipboard."""
    context = chromium.new_context(base_url=site.url, permissions=["clipboard-read", "clipboard-write"])
    yield context.new_page()
    context.close()


@pytest.mark.nightly
def test_the_spec_is_shown_in_three_ways_and_copied(copying: Page) -> None:
    copying.goto("/runs/2")
    copying.click("#spec-head")
    ways = copying.get_by_role("list", name="Spec")
    expect(copying.locator("#spec")).to_contain_text("base_model: all-MiniLM-L6-v2")
    ways.get_by_role("link", name="curl").click()
    expect(copying.locator("#spec")).to_contain_text("curl -X POST")
    ways.get_by_role("link", name="JSON").click()
    expect(ways.locator("[aria-current]")).to_have_text("JSON")
    expect(copying.locator("#spec-head")).to_be_in_viewport()
    button = copying.locator("[data-copy='#spec']")
    button.click()
    expect(button).to_have_text("Copied")
    assert json.loads(copying.evaluate("navigator.clipboard.readText()"))["method"]["kind"] == "lora"
    expect(button).to_have_text("Copy")
    ways.get_by_role("link", name="YAML").click()
    copying.click("#spec-head")
    expect(copying.locator("#spec")).to_contain_text("base_model: all-MiniLM-L6-v2")


@pytest.mark.nightly
def test_numbers_that_were_unfolded_stay_so_while_a_run_goes_on(page: Page, site: Site) -> None:
    page.clock.install()
    page.goto(f"/runs/{RUNNING}")
    page.evaluate("htmx.config.defaultSettleDelay = 1000")  # so that both parts of the page are under way at once
    page.click("#show-loss")
    page.clock.fast_forward(6000)  # curves are drawn anew every five seconds at most
    with page.expect_response(f"**/runs/{RUNNING}/figures"), site.database.transaction() as session:
        runs.get(session, RUNNING).step = 200
    expect(page.locator("#progress")).to_contain_text("step 200 of 246")
    expect(page.locator(".htmx-settling")).to_have_count(0)
    expect(page.locator("#numbers-loss table")).to_be_visible()


def test_a_log_follows_its_end_until_one_reads_further_up(page: Page, site: Site) -> None:
    def say(words: str, step: int) -> None:
        with site.database.transaction() as session:
            for line in range(40):
                events.add(session, RUNNING, "log", f"{words} {line}")
            runs.get(session, RUNNING).step = step
        expect(page.locator("#live-log")).to_contain_text(f"{words} 39")

    page.goto(f"/runs/{RUNNING}")
    say("first", 160)
    page.wait_for_function(AT_END)
    page.locator("#live-log").evaluate("log => { log.scrollTop = 100 }")
    say("second", 170)
    page.wait_for_function("document.getElementById('live-log').scrollTop === 100")
