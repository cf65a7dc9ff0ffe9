"""Tuning by browser: chosen in the form, shown on the page; arms added and stopped."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.site.test_behaviours import answered, small_workers
from tests.support.rows.tuned_studies import add_tuned_study

pytestmark = pytest.mark.slow


@pytest.fixture
def tuned(site: Site) -> int:
    """A study whose rates were looked for, and whose runs have ended."""
    with site.database.transaction() as session:
        return add_tuned_study(session)


@pytest.fixture
def under_way(site: Site) -> int:
    """One whose runs are queued."""
    with site.database.transaction() as session:
        return add_tuned_study(session, finals=False)


@pytest.mark.nightly
def test_a_way_to_tune_brings_its_own_fields_and_is_counted_at_once(page: Page) -> None:
    page.goto("/studies/new")
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
def test_an_arm_names_its_own_rates_where_rates_are_tuned(page: Page) -> None:
    page.goto("/studies/new")
    expect(page.locator("#arms-0-search-learning_rate")).to_have_count(0)
    page.locator("#tuning-kind").select_option("grid")
    page.locator("#arm-0-search > summary").click()
    rates = page.locator("#arms-0-search-learning_rate")
    expect(rates).to_have_attribute("placeholder", "6e-5, 1.8e-4, 5.4e-4")
    rates.fill("1e-5, 2e-5")
    rates.press("Tab")
    expect(page.locator("#estimate")).to_contain_text(
        "tries 2 configurations, but every arm gets the same tuning budget of 3"
    )
    rates.fill("1e-5, 2e-5, 4e-5")
    rates.press("Tab")
    expect(page.get_by_role("button", name="Start 9 trials and 9 runs")).to_be_visible()


@pytest.mark.nightly
def test_the_section_leads_to_trials_and_numbers(page: Page, tuned: int) -> None:
    page.goto(f"/studies/{tuned}")
    page.locator("#to-tuning").click()
    section = page.locator("section#tuning")
    expect(section).to_be_in_viewport()
    expect(section.locator(".here-row")).to_have_count(3)
    section.locator("#show-tuning").click()
    expect(section.locator("#numbers-tuning table")).to_be_visible()
    page.get_by_role("link", name="a better value may lie beyond").click()
    expect(section).to_be_in_viewport()
    section.locator("table.tuning a").first.click()
    expect(page.locator("#trial")).to_contain_text("A trial of learning rate 3.33e-5")
    page.get_by_role("link", name="All configurations tried").click()
    expect(page.locator("section#tuning")).to_be_in_viewport()


@pytest.mark.nightly
def test_an_arm_is_added_to_a_finished_study(page: Page, tuned: int) -> None:
    page.goto(f"/studies/{tuned}")
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


@pytest.mark.nightly
def test_an_arm_that_fits_no_worker_is_queued_all_the_same_if_one_says_so(page: Page, site: Site, tuned: int) -> None:
    small_workers(site, 900)
    page.goto(f"/studies/{tuned}/arms/new?method=full")
    page.fill("#arms-0-learning_rate", "5e-5")
    page.press("#arms-0-learning_rate", "Tab")
    expect(page.locator("#estimate .waits")).to_contain_text("in progress")
    insist = answered(site, page.get_by_label("Queue it anyway"))
    page.click("#add-arm")
    expect(page.locator("#errors")).to_be_focused()
    expect(page.locator("#errors")).to_contain_text("No live worker has enough memory")
    expect(page.locator("#arms-0-learning_rate")).to_have_value("5e-5")
    page.click("#errors a")
    expect(insist).to_be_focused()
    insist.check()
    page.click("#add-arm")
    page.wait_for_url(f"**/studies/{tuned}")
    expect(page.locator("#arms")).to_contain_text("full 2")


@pytest.mark.nightly
def test_an_added_arm_takes_a_way_out_or_leads_to_another_study(page: Page, site: Site, tuned: int) -> None:
    small_workers(site, 900)
    page.goto(f"/studies/{tuned}/arms/new?method=full")
    page.fill("#arms-0-learning_rate", "5e-5")
    page.press("#arms-0-learning_rate", "Enter")  # works it out, and adds nothing
    page.wait_for_url("**/arms/new")
    way = page.locator("#fit-0-1-savings li", has_text="LoRA instead of full fine-tuning")
    answered(site, way).get_by_role("button").click()
    expect(page.locator("#plan-head")).to_be_focused()
    expect(page.locator("#arm-0-title")).to_have_text("LoRA r=16")  # the study has r = 8
    expect(answered(site, page.locator("#estimate .peak").first)).to_contain_text("MiB")
    expect(page.locator("#insist")).to_have_count(0)
    page.goto(f"/studies/{tuned}/arms/new?method=bitfit")
    page.set_viewport_size({"width": 390, "height": 800})
    page.click("#estimate-bar")
    expect(page.locator("#plan-head")).to_be_in_viewport()
    page.goto(f"/studies/{tuned}/arms/new?method=full")
    page.fill("#arms-0-learning_rate", "5e-5")
    page.press("#arms-0-learning_rate", "Tab")
    answered(site, page.locator("#fit-0-1-duplicate")).click()
    page.wait_for_url(f"**/studies/new?from_study={tuned}")


def test_rates_are_looked_for_further_out_by_one_click(page: Page, site: Site) -> None:
    with site.database.transaction() as session:
        study = add_tuned_study(session, margin_points=0.5)
    page.goto(f"/studies/{study}")
    page.get_by_role("link", name="Duplicate with rates around the best of LoRA r=8").first.click()
    expect(page.locator("#arms-1-search-learning_rate")).to_have_value("2e-3, 6e-3, 0.018")
    expect(page.locator("#arms-0-search-learning_rate")).to_have_value("")
    expect(page.get_by_role("button", name="Start 9 trials and 9 runs")).to_be_visible()
    page.goto(f"/studies/{study}")
    page.locator("#further-rates").click()
    expect(page.locator("#arms-1-search-learning_rate")).to_have_value("2e-3, 6e-3, 0.018")


def test_an_arm_is_stopped_and_the_others_go_on(page: Page, under_way: int) -> None:
    page.goto(f"/studies/{under_way}")
    page.get_by_role("button", name="Stop head only").click()
    row = page.locator("#arms tbody tr", has_text="head only")
    expect(row).to_contain_text("stopped")
    expect(page.get_by_role("button", name="Stop head only")).to_have_count(0)
    expect(page.get_by_role("button", name="Stop full")).to_be_visible()
