"""Tuning by browser: chosen in the form, shown on the page; arms added and stopped."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.support.rows.tuned_studies import add_tuned_study

pytestmark = pytest.mark.slow


@pytest.fixture
def tuned(site: Site) -> int:
    """A study whose rates were looked for, and whose runs have ended."""
    with site.database.transaction() as session:
        return add_tuned_study(session)


@pytest.mark.nightly
def test_a_way_to_tune_brings_its_own_fields_and_is_counted_at_once(page: Page) -> None:
    page.goto("/studies/new")
    page.click("#show-more-choices")
    expect(page.locator("#tuning-rates")).to_have_count(0)
    page.locator("#tuning-kind").select_option("grid")
    expect(page.locator("#tuning-rates")).to_have_value("3")
    expect(page.get_by_role("button", name="Start 9 trials and 9 runs")).to_be_visible()
    expect(page.locator("#plan")).to_contain_text("3 rates per arm")
    page.locator("#tuning-rates").fill("5")
    page.locator("#tuning-rates").press("Tab")
    expect(page.get_by_role("button", name="Start 15 trials and 9 runs")).to_be_visible()
    page.locator("#tuning-kind").select_option("halving")
    expect(page.locator("#tuning-rates")).to_have_value("6")  # its own default, not what was typed for the grid
    expect(page.get_by_label("Reduction factor")).to_have_value("3")
    expect(page.get_by_role("button", name="Start 24 trials and 9 runs")).to_be_visible()
    page.locator("#tuning-kind").select_option("none")
    expect(page.locator("#tuning-rates")).to_have_count(0)
    expect(page.get_by_role("button", name="Start 9 runs")).to_be_visible()


@pytest.mark.nightly
def test_an_arm_is_added_to_a_finished_study(page: Page, tuned: int) -> None:
    page.goto(f"/studies/{tuned}")
    page.click("#show-study-menu")
    page.get_by_role("link", name="Add an arm").click()
    page.locator("#add-lora").click()
    rank = page.locator("#arms-0-method-r")
    expect(rank).to_have_value("16")
    rank.fill("0")
    page.click("#add-arm")
    expect(page.get_by_role("alert")).to_contain_text("Rank: Must be 1 or more")
    expect(rank).to_have_value("0")
    page.get_by_role("alert").get_by_role("link").click()
    expect(rank).to_be_focused()
    rank.fill("32")
    page.click("#add-arm")
    page.wait_for_url(f"**/studies/{tuned}")
    expect(page.locator("#arms")).to_contain_text("LoRA r=32")
    expect(page.locator("#arms")).to_contain_text("its hyperparameters are being tuned")
    expect(page.get_by_role("region", name="Progress")).to_contain_text("trial at")
    page.goto(f"/studies/{tuned}/arms/new?method=lora")
    page.get_by_role("link", name="Another method").click()
    expect(page.locator("#add-bitfit")).to_be_visible()
