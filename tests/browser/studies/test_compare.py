"""Comparing any runs and bringing results in, in a browser: every control, and what is in the address after it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site
from tests.support.rows.imported_results import HERE, result

pytestmark = pytest.mark.slow


@pytest.fixture
def copying(site: Site, chromium: Browser) -> Iterator[Page]:
    """A window that may use the clipboard."""
    context = chromium.new_context(base_url=site.url, permissions=["clipboard-read", "clipboard-write"])
    yield context.new_page()
    context.close()


@pytest.mark.nightly
def test_a_run_is_compared_with_others_that_are_added(page: Page) -> None:
    page.goto("/runs/1")
    page.click("#compare-with")
    expect(page.locator("h1")).to_have_text("full alone: nothing to compare it with")
    page.fill("#add", "2, 3")
    page.click("#add-runs")
    expect(page.locator("#arms tbody tr")).to_have_count(3)
    page.click("#refer-2")
    expect(page).to_have_url(re.compile(r"reference=2#arms$"))
    expect(page.locator("tr.reference")).to_contain_text("LoRA r=8")
    expect(page.locator("#refer-2")).to_have_count(0)


def test_arms_are_chosen_and_the_others_left_out(page: Page) -> None:
    page.goto("/compare?study=1&x=time&reference=2")
    page.check("#arms tbody tr:nth-child(1) input")
    page.check("#arms tbody tr:nth-child(2) input")
    page.click("#choose")
    expect(page.locator("#arms tbody tr")).to_have_count(2)
    expect(page.locator("#axis-x")).to_have_value("time")
    expect(page.locator("tr.reference")).to_contain_text("LoRA r=8")


def test_the_settings_of_an_arm_are_copied(copying: Page) -> None:
    copying.goto("/compare?runs=1,2")
    copying.click("#copy-2")
    expect(copying.locator("#copy-2")).to_have_text("Copied")
    copied = json.loads(copying.evaluate("navigator.clipboard.readText()"))
    assert (copied["method.kind"], copied["method.r"]) == ("lora", "8")


def test_without_a_script_everything_but_copying_works(site: Site, chromium: Browser) -> None:
    context = chromium.new_context(base_url=site.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/compare?study=1")
    expect(page.locator("#copy-1")).to_be_hidden()
    page.select_option("#axis-x", "time")
    page.click("#trade-off noscript button, #trade-off form button")
    expect(page).to_have_url(re.compile(r"x=time"))
    context.close()


def test_files_are_brought_in_and_their_results_compared(page: Page, tmp_path: Path) -> None:
    broken, own = tmp_path / "broken.json", tmp_path / "own.json"
    broken.write_text('{"score": NaN}')
    own.write_text(json.dumps(result(label="mine")))
    page.goto("/imports")
    page.click("#import")
    expect(page.locator("#errors")).to_contain_text("No file was sent")
    page.set_input_files("#files", [*sorted(HERE.glob("*.json")), broken, own])
    page.fill("#collection", "Others")
    page.click("#import")
    expect(page.locator("#report")).to_contain_text("6 results were imported into Others")
    expect(page.locator("#report")).to_contain_text("broken.json")
    expect(page.locator("#report")).to_contain_text("NaN is not a number in JSON")
    page.click("#look")
    expect(page.locator("h1")).to_contain_text("5 arms compared with full")
